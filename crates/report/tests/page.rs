//! The page as a whole: well-formed, the same every time, escaped, and free of numbers that are none.

mod synthetic;
mod whole;

use isoflop_base::Measured;
use isoflop_laws::{LawDocument, Options, ReadOptions, read_table};
use isoflop_report::{ReportInput, ascii, law_svg, render, render_table_report};
use proptest::prelude::*;
use whole::check;

#[test]
fn a_page_is_whole_and_says_what_it_should() {
    let input = study();
    let html = render(&input);
    check(&html);
    for text in [
        "Loss falls as <i>N</i><sup>−0.0",
        "Figure 1.",
        "isoflop 0.1.0",
        "not reproduced",
        "cannot tell",
        "reproduced",
        "diverged at step 412 of trunk",
        "enters no fit",
        "missing: no power meter",
        "estimated: 35 W of processor load",
        "hit",
        "It was late in the evening when ",
        "&lt;the&gt;",
        "chinchilla",
        "Exact training FLOPs over 6ND",
        "branches = [&quot;3M&quot;, &quot;6M&quot;]",
    ] {
        assert!(html.contains(text), "the page lacks: {text}");
    }
    for text in ["http-equiv", "src=", "@import", "url(", "<link"] {
        assert!(!html.contains(text), "the page must not fetch anything: {text}");
    }
    assert!(html.matches("<svg").count() >= 14, "every figure is there, the large ones in two widths");
    assert!(html.len() < 1_500_000, "{} bytes", html.len());
}

#[test]
fn the_same_input_draws_the_same_bytes_also_by_way_of_json() {
    let input = study();
    let html = render(&input);
    assert!(html == render(&study()));
    let again = ReportInput::from_json(&input.to_json().unwrap()).unwrap();
    assert!(again == input);
    assert!(html == render(&again));
}

#[test]
fn a_stored_input_of_another_version_is_refused_with_a_hint() {
    let error = ReportInput::from_json("{\"schema\":\"isoflop.report/999\"}").unwrap_err().to_string();
    assert!(error.contains("isoflop.report/999") && error.contains("hint:"), "{error}");
    assert!(ReportInput::from_json("no json").unwrap_err().to_string().contains("hint:"));
}

#[test]
fn the_drawing_that_stands_alone_is_whole() {
    let svg = law_svg(&study()).unwrap();
    check(&svg);
    assert!(svg.starts_with("<svg xmlns") && svg.contains("prefers-color-scheme:dark"));
}

#[test]
fn whatever_is_missing_the_page_stands() {
    let whole = study();
    let strip: [fn(&mut ReportInput); 9] = [
        |i| *i = ReportInput::default(),
        |i| i.laws = None,
        |i| i.laws = Some(LawDocument::default()),
        |i| i.points.truncate(1),
        |i| i.points.retain(|p| p.params == 24_576),
        |i| i.curves.clear(),
        |i| i.runs.clear(),
        |i| {
            i.points.iter_mut().for_each(|p| p.loss = 1.5);
            i.forecasts.iter_mut().for_each(|f| f.forecast.outcome = None);
        },
        |i| {
            i.points.clear();
            i.totals.seconds = Measured::missing("<b>not</b> timed");
        },
    ];
    for change in strip {
        let mut input = whole.clone();
        change(&mut input);
        check(&render(&input));
        if let Some(plot) = ascii::law_plot(&input, true) {
            assert!(!ascii::loglog(&plot, 80, 24).contains("NaN"));
        }
    }
}

#[test]
fn text_from_outside_cannot_become_markup() {
    const EVIL: &str = "</script><img src=x onerror=alert(1)>\"'&\u{0}";
    let mut input = study();
    input.title = EVIL.into();
    input.made_by = EVIL.into();
    input.study_toml = EVIL.into();
    input.notes = vec![EVIL.into()];
    input.completions.iter_mut().for_each(|c| {
        c.text = EVIL.into();
        c.prompt = EVIL.into();
    });
    input.points.iter_mut().for_each(|p| p.run = format!("{EVIL}{}", p.run));
    input.forecasts.iter_mut().for_each(|f| f.name = EVIL.into());
    input.machine[0].name = EVIL.into();
    input.machine[0].value = Measured::estimated(EVIL.into(), EVIL);
    if let Some(corpus) = &mut input.corpus {
        corpus.name = EVIL.into();
    }
    if let Some(laws) = &mut input.laws {
        laws.notes = vec![EVIL.into()];
        laws.fits[0].formula = EVIL.into();
        laws.fits[0].form = EVIL.into();
    }
    let html = render(&input);
    check(&html);
    assert!(!html.contains("<img"));
    assert_eq!(html.matches("</script>").count(), 1);
}

#[test]
fn a_table_from_anywhere_gets_its_page() {
    let mut csv = String::from("N,D,loss\n");
    for c in [1e18f64, 3e18, 1e19] {
        for n in [2e7f64, 5e7, 1e8, 2e8, 5e8] {
            let d = c / 6.0 / n;
            csv.push_str(&format!("{n},{d},{}\n", 1.7 + 400.0 / n.powf(0.34) + 410.0 / d.powf(0.28)));
        }
    }
    csv.push_str("oops,1,2\n");
    let table = read_table(csv.as_bytes(), &ReadOptions::default()).unwrap();
    let laws = isoflop_laws::fit(&table, &Options { bootstrap: 0, ..Options::default() }).unwrap();
    let html = render_table_report("runs <of> others.csv", "isoflop 0.1.0", &table, &laws);
    check(&html);
    for text in [
        "IsoFLOP valleys",
        "Contours of the fitted",
        "What the joint fit leaves over",
        "runs &lt;of&gt; others.csv",
    ] {
        assert!(html.contains(text), "the page lacks: {text}");
    }
    assert!(html == render_table_report("runs <of> others.csv", "isoflop 0.1.0", &table, &laws));
}

fn hostile() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(0.0),
        Just(-1.0),
        Just(1e-308),
        Just(1e308),
        Just(1.5),
        any::<f64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16, failure_persistence: None, max_shrink_iters: 50, ..ProptestConfig::default()
    })]
    #[test]
    fn hostile_numbers_never_show(values in prop::collection::vec(hostile(), 40), seed in 0usize..1000) {
        let mut input = small_input();
        let mut next = values.iter().cycle().skip(seed % 40).copied();
        let mut draw = || next.next().unwrap_or(1.0);
        for p in &mut input.points {
            (p.loss, p.flops, p.lr) = (draw(), draw(), draw());
            p.loss_se = Some(draw());
            p.seconds = Measured::measured(draw());
            p.tokens_per_s = Measured::estimated(draw(), "guess");
        }
        for c in &mut input.curves {
            (c.train_loss, c.flops) = (draw(), draw());
            c.val_loss = Some(draw());
        }
        for f in &mut input.forecasts {
            (f.forecast.loss, f.forecast.lo, f.forecast.hi) = (draw(), Some(draw()), Some(draw()));
            f.outcome_se = Some(draw());
            if let Some(o) = &mut f.forecast.outcome {
                (o.observed, o.relative_error) = (draw(), draw());
            }
        }
        for l in &mut input.ledger {
            (l.exact_per_token, l.six_n) = (draw(), draw());
        }
        input.totals.flops = Measured::measured(draw());
        input.totals.seconds = Measured::measured(draw());
        input.totals.energy_j = Measured::measured(draw());
        if let Some(laws) = &mut input.laws {
            for fit in &mut laws.fits {
                fit.r2_loglog = Some(draw());
                for (_, p) in &mut fit.params.0 {
                    (p.value, p.lo, p.hi) = (draw(), Some(draw()), Some(draw()));
                }
                fit.state.theta.iter_mut().for_each(|t| *t = draw());
                if let Some(s) = &mut fit.straight {
                    (s.r2, s.worst_deviation) = (Some(draw()), draw());
                }
            }
            for pair in &mut laws.paired {
                (pair.difference, pair.se) = (draw(), Some(draw()));
            }
        }
        check(&render(&input));
        if let Some(plot) = ascii::law_plot(&input, false) {
            let text = ascii::loglog(&plot, 80, 24);
            prop_assert!(text.is_ascii() && !text.contains("NaN"));
        }
    }
}

/// The invented study, made once: fitting it takes most of the time.
fn study() -> ReportInput {
    static INPUT: std::sync::OnceLock<ReportInput> = std::sync::OnceLock::new();
    INPUT.get_or_init(synthetic::input).clone()
}

/// The same with fewer curve rows.
fn small_input() -> ReportInput {
    let mut input = study();
    input.curves = input.curves.into_iter().step_by(9).collect();
    input
}
