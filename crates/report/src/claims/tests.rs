use super::*;
use isoflop_laws::ParamEstimate;
use isoflop_laws::document::{Outcome, Params};

fn pair(difference: f64, se: Option<f64>) -> PairedDifference {
    PairedDifference {
        small_n: 1e4,
        large_n: 2e4,
        tokens: 3e6,
        difference,
        se,
        blocks: 20,
        ..Default::default()
    }
}

#[test]
fn loss_falls_only_when_every_pair_says_so() {
    use Ruling::*;
    for (pairs, seed_sd, ruling) in [
        (vec![], None, CannotTell),
        (vec![pair(0.1, Some(0.01))], None, Reproduced),
        (vec![pair(0.1, Some(0.01)), pair(0.01, Some(0.01))], None, CannotTell),
        (vec![pair(0.1, Some(0.01)), pair(-0.1, Some(0.01))], None, NotReproduced),
        (vec![pair(0.1, None)], None, CannotTell),
        (vec![pair(0.1, Some(0.01))], Some(0.05), CannotTell),
        (
            vec![PairedDifference { small_seeds: 9, large_seeds: 9, ..pair(0.1, Some(0.01)) }],
            Some(0.05),
            Reproduced,
        ),
        (vec![pair(f64::NAN, Some(0.01))], None, CannotTell),
    ] {
        let verdict = falls_with_size(&pairs, seed_sd.map(|sd| SeedSd { sd, dof: 6 }));
        assert_eq!(verdict.ruling, ruling, "{pairs:?} {seed_sd:?}: {}", verdict.why);
    }
}

fn bend(r2: f64, worst: f64, curvature: Option<(f64, f64)>) -> Straightness {
    Straightness {
        r2: Some(r2),
        worst_deviation: worst,
        curvature: curvature.map(|(lo, hi)| ParamEstimate {
            lo: Some(lo),
            hi: Some(hi),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn a_line_is_straight_when_all_three_tests_pass_and_what_fails_is_named() {
    use Ruling::*;
    for (s, points, ruling, word) in [
        (bend(0.999, 0.005, Some((-0.01, 0.01))), 7, Reproduced, "all pass"),
        (bend(0.97, 0.005, Some((-0.01, 0.01))), 7, NotReproduced, "R²"),
        (bend(0.98, 0.0099, Some((-0.01, 0.0))), 7, Reproduced, "all pass"),
        (bend(0.999, 0.01, Some((-0.01, 0.01))), 7, NotReproduced, "worst deviation"),
        (bend(0.999, 0.005, Some((0.001, 0.01))), 7, NotReproduced, "flattens"),
        (bend(0.999, 0.005, Some((-0.02, -0.01))), 7, NotReproduced, "steepens"),
        (bend(0.999, 0.005, None), 7, CannotTell, "curvature"),
        (bend(f64::NAN, 0.005, Some((-0.01, 0.01))), 7, CannotTell, "R²"),
        (bend(0.999, 0.005, Some((-0.01, 0.01))), 3, CannotTell, "too few"),
    ] {
        let verdict = straight_line(&s, Some("D = 3 M"), points);
        assert_eq!(verdict.ruling, ruling, "{}", verdict.why);
        assert!(verdict.why.contains(word), "{} should name {word}", verdict.why);
    }
}

fn alpha_fit(tokens: f64, value: f64, lo: f64, hi: f64) -> FitRecord {
    let alpha = ParamEstimate { value, lo: Some(lo), hi: Some(hi), ..Default::default() };
    FitRecord {
        form: "l_n".into(),
        variant: "pure".into(),
        condition: [("tokens".to_owned(), tokens)].into(),
        params: Params(vec![("alpha".into(), alpha)]),
        ..Default::default()
    }
}

fn claim(needs: &[&str]) -> ClaimSpec {
    ClaimSpec {
        text: "alpha_N = 0.076".into(),
        law: "l_n".into(),
        param: "alpha".into(),
        value: 0.076,
        within: 0.02,
        source: None,
        needs: needs.iter().map(|s| (*s).to_owned()).collect(),
    }
}

#[test]
fn a_parameter_is_judged_by_its_whole_interval_at_the_most_tokens() {
    use Ruling::*;
    let facts = Facts::default();
    for (fits, ruling) in [
        (vec![], CannotTell),
        (vec![alpha_fit(3e6, 0.07, 0.06, 0.08)], Reproduced),
        (vec![alpha_fit(3e6, 0.07, 0.05, 0.09)], CannotTell),
        (vec![alpha_fit(3e6, 0.2, 0.19, 0.21)], NotReproduced),
        (vec![alpha_fit(3e6, 0.2, f64::NAN, 0.21)], CannotTell),
        (vec![alpha_fit(12e6, 0.2, 0.19, 0.21), alpha_fit(3e6, 0.07, 0.06, 0.08)], NotReproduced),
    ] {
        let laws = LawDocument { fits, ..Default::default() };
        let verdict = parameter(&claim(&[]), &laws, &facts);
        assert_eq!(verdict.ruling, ruling, "{}", verdict.why);
    }
}

#[test]
fn what_cannot_be_told_says_what_would_tell() {
    let few = falls_with_size(&[pair(0.03, Some(0.002))], Some(SeedSd { sd: 0.02, dof: 12 }));
    // t of 12 degrees is 2.18: 2·0.02² / ((0.03/2.18)² − 0.002²) = 4.3, so five.
    assert!(few.why.contains("5 seeds of each of the two sizes would tell"), "{}", few.why);
    let hopeless = falls_with_size(&[pair(0.003, Some(0.002))], Some(SeedSd { sd: 0.02, dof: 12 }));
    assert!(hopeless.why.contains("below what seeds can tell"), "{}", hopeless.why);
    // 0.07 with ±0.02 in a range that ends at 0.096 and 0.056: the half width must come down to 0.014.
    let facts = Facts { runs: Some(10.0), seconds: Some(600.0), ..Default::default() };
    let laws = LawDocument { fits: vec![alpha_fit(3e6, 0.07, 0.05, 0.09)], ..Default::default() };
    let verdict = parameter(&claim(&[]), &laws, &facts);
    assert!(verdict.why.contains("about 11 more runs like these 10"), "{}", verdict.why);
}

#[test]
fn a_claim_of_endless_data_is_asked_of_the_joint_law_beside_the_naive_slope() {
    let estimate = |value: f64| ParamEstimate {
        value,
        lo: Some(value - 0.005),
        hi: Some(value + 0.005),
        ..Default::default()
    };
    let joint = FitRecord {
        form: "l_nd_kaplan".into(),
        params: Params(vec![("alpha_N".into(), estimate(0.078)), ("alpha_D".into(), estimate(0.3))]),
        ..Default::default()
    };
    let laws = LawDocument { fits: vec![alpha_fit(12e6, 0.05, 0.045, 0.055), joint], ..Default::default() };
    let asked = ClaimSpec { law: "l_nd_kaplan".into(), param: "alpha_N".into(), ..claim(&[]) };
    let verdict = parameter(&asked, &laws, &Facts::default());
    assert_eq!(verdict.ruling, Ruling::Reproduced, "{verdict:?}");
    assert!(
        verdict.measured.contains("D endless: ") && verdict.measured.contains("naive, the slope"),
        "{verdict:?}"
    );
    let naive = parameter(&claim(&[]), &laws, &Facts::default());
    assert_eq!(naive.ruling, Ruling::NotReproduced, "{naive:?}");
}

#[test]
fn the_first_unmet_need_is_named() {
    let laws = LawDocument { fits: vec![alpha_fit(3e6, 0.076, 0.07, 0.08)], ..Default::default() };
    let bytes = Facts {
        tokenizer: Some("bytes".into()),
        smallest_n: Some(13_824.0),
        last_doubling: Some(0.04),
        ..Default::default()
    };
    let large = Facts {
        tokenizer: Some("gpt2-bpe".into()),
        smallest_n: Some(2e6),
        last_doubling: Some(0.001),
        ..Default::default()
    };
    let all = ["converged", "bpe", "n >= 1e6"];
    for (needs, facts, word) in [
        (&all[..], &bytes, Some("`converged`")),
        (&all[1..], &bytes, Some("`bpe`")),
        (&all[2..], &bytes, Some("`n >= 1e6`")),
        (&all[..], &large, None),
        (&["phase of the moon"][..], &large, Some("`phase of the moon`")),
        (&["n >= many"][..], &large, Some("`n >= many`")),
        (&["epochs <= 1"][..], &large, Some("`epochs <= 1`")),
        (&["d/n >= 20"][..], &Facts { fewest_tokens_per_param: Some(25.0), ..Default::default() }, None),
    ] {
        let verdict = parameter(&claim(needs), &laws, facts);
        match word {
            Some(word) => {
                assert_eq!(verdict.ruling, Ruling::CannotTell);
                assert!(verdict.why.contains(word), "{} should name {word}", verdict.why);
                assert!(verdict.measured.contains("0.0760"), "the measured value is shown all the same");
            }
            None => assert_eq!(verdict.ruling, Ruling::Reproduced, "{}", verdict.why),
        }
    }
}

#[test]
fn six_nd_holds_within_ten_percent() {
    let row = |ratio: f64| LedgerRow {
        shape: "L2-d32-h2".parse().unwrap(),
        exact_per_token: ratio * 6.0 * 24_576.0,
        six_n: 6.0 * 24_576.0,
        vocab_context: None,
    };
    assert_eq!(six_nd(&[]).ruling, Ruling::CannotTell);
    assert_eq!(six_nd(&[row(1.05), row(0.95)]).ruling, Ruling::Reproduced);
    let verdict = six_nd(&[row(1.05), row(2.0)]);
    assert_eq!(verdict.ruling, Ruling::NotReproduced);
    assert!(verdict.measured.contains("2.00") && verdict.why.contains("+100"));
    assert_eq!(six_nd(&[row(f64::NAN)]).ruling, Ruling::CannotTell);
}

#[test]
fn forecasts_are_judged_by_their_outcomes() {
    let row = |hit: Option<bool>, lo: Option<f64>| ForecastRow {
        name: "L5".into(),
        made_from: String::new(),
        made_at: None,
        forecast: isoflop_laws::Forecast {
            loss: 1.4,
            lo,
            hi: Some(1.5),
            outcome: hit.map(|hit| Outcome { observed: 1.4, hit, ..Default::default() }),
            ..Default::default()
        },
        outcome_se: None,
    };
    for (rows, ruling) in [
        (vec![row(Some(true), Some(1.3)), row(Some(true), Some(1.3))], Ruling::Reproduced),
        (vec![row(Some(true), Some(1.3)), row(Some(false), Some(1.3))], Ruling::NotReproduced),
        (vec![row(Some(true), Some(1.3)), row(None, Some(1.3))], Ruling::CannotTell),
        (vec![row(Some(true), None)], Ruling::CannotTell),
    ] {
        assert_eq!(forecasts_hit(&rows).ruling, ruling);
    }
}

#[test]
fn published_exponents_are_those_of_the_law_they_are_asked_of() {
    let standing = standing_claims(&[]);
    let value = |law: &str, param: &str| {
        standing
            .iter()
            .find(|c| c.law == law && c.param == param && c.value != 0.07)
            .map(|c| (c.value, c.text.as_str()))
    };
    // Table 2 of the paper has L(N, D); 0.095 is L(D)'s, 0.050 that of C_min.
    assert_eq!(value("l_nd_kaplan", "alpha_N"), Some((0.076, "α of L(N) with endless data is 0.076")));
    assert_eq!(value("l_nd_kaplan", "alpha_D"), Some((0.103, "α of L(D) with an endless model is 0.103")));
    assert_eq!(value("l_c", "alpha"), Some((0.057, "α of L(C) on the frontier at one batch is 0.057")));
}

#[test]
fn a_claim_the_study_states_itself_is_not_judged_twice() {
    let input = ReportInput { claims: vec![claim(&["bpe"])], ..Default::default() };
    let verdicts = judge(&input);
    assert_eq!(verdicts.iter().filter(|v| v.claim.contains("0.076")).count(), 1);
    assert!(verdicts.iter().any(|v| v.claim.contains("0.07") && !v.claim.contains("0.076")));
}
