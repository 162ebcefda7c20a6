//! What each way of saying a study becomes.

use crate::open::resolve;
use crate::study::raw::RawStudy;
use crate::study::recipe;
use crate::study::resolve::Machine;
use isoflop_base::ScheduleKind;
use isoflop_base::study::{Role, Study};
use isoflop_base::{RunDocument, RunIdentity};
use isoflop_data::{ByteTokens, Corpus, CorpusInfo, TokenizerKind};

/// 100,000 training tokens, 10,000 held out.
fn corpus() -> Corpus {
    let tokens = |n: usize| Box::new(ByteTokens::new("t", vec![b'a'; n]));
    let info = CorpusInfo {
        name: "t".to_owned(),
        vocab: 256,
        train_tokens: 100_000,
        val_tokens: 10_000,
        tokenizer: TokenizerKind::Bytes,
        bytes_per_token: Some(1.0),
        sha256: "0".to_owned(),
        sha256_covers: "text".to_owned(),
        block_tokens: 1000,
    };
    Corpus { train: tokens(100_000), val: tokens(10_000), info, sources: Vec::new(), tokenizer_json: None }
}

/// A study of two sizes (768 and 3072 parameters), 64 tokens a step, with these lines under [series] and [train].
fn resolved(series: &str, train: &str) -> Result<Study, String> {
    let text = format!(
        "name = \"t\"\n[series]\nmodels = [\"L1-d16-h1\", \"L1-d8-h1\"]\n{series}\n[train]\ncontext = \
         16\nbatch_tokens = 64\n{train}"
    );
    let machine = Machine { kernels: "naive".to_owned(), threads: 2, bf16: false, bf16_loses: None };
    RawStudy::parse("t.toml", &text, &[])
        .and_then(|raw| resolve(&raw, &corpus(), &machine))
        .map_err(|e| e.to_string())
}

/// Run ids and their ends in steps.
fn check(series: &str, train: &str, expected: &[(&str, &[u64])]) {
    let study = resolved(series, train).unwrap();
    let found: Vec<(&str, &[u64])> = study.runs.iter().map(|r| (r.id.as_str(), r.ends.as_slice())).collect();
    assert_eq!(found, expected, "{series} {train}");
}

#[test]
fn lengths_are_whole_steps_rounded_down_smaller_models_first() {
    check("tokens = \"64k\"", "", &[("t-L1-d8-h1-s1", &[1000]), ("t-L1-d16-h1-s1", &[1000])]);
    check("tokens = 64063", "", &[("t-L1-d8-h1-s1", &[1000]), ("t-L1-d16-h1-s1", &[1000])]);
    check("epochs = 2", "", &[("t-L1-d8-h1-s1", &[3125]), ("t-L1-d16-h1-s1", &[3125])]);
    check("tokens_per_param = 20", "", &[("t-L1-d8-h1-s1", &[240]), ("t-L1-d16-h1-s1", &[960])]);
    check(
        "tokens = \"64k\"\nbranches = [\"16k\", \"32k\"]",
        "",
        &[("t-L1-d8-h1-s1", &[250, 500, 1000]), ("t-L1-d16-h1-s1", &[250, 500, 1000])],
    );
}

#[test]
fn a_budget_in_flops_is_a_length_per_model() {
    let per_token = |shape: &str| crate::gpt::flops_per_token(shape.parse().unwrap(), 256, 16);
    let small = per_token("L1-d8-h1");
    let large_steps = |budget: f64| (budget / per_token("L1-d16-h1") / 64.0).floor() as u64;
    let budgets = [64_000.5 * small, 128_000.5 * small];
    check(
        &format!("flops = [{}, {}]", budgets[0], budgets[1]),
        "",
        &[
            ("t-L1-d8-h1-s1", &[1000, 2000]),
            ("t-L1-d16-h1-s1", &[large_steps(budgets[0]), large_steps(budgets[1])]),
        ],
    );
}

#[test]
fn only_wsd_shares_a_trunk_between_lengths() {
    check(
        "tokens = [32000, 64000]",
        "schedule = \"cosine\"",
        &[
            ("t-L1-d8-h1-s1-D32000", &[500]),
            ("t-L1-d8-h1-s1-D64000", &[1000]),
            ("t-L1-d16-h1-s1-D32000", &[500]),
            ("t-L1-d16-h1-s1-D64000", &[1000]),
        ],
    );
    assert_eq!(resolved("tokens = 64000", "").unwrap().runs[0].train.schedule, ScheduleKind::Wsd);
}

#[test]
fn extra_seeds_follow_their_size() {
    let study = resolved("tokens = 64000\nextra_seeds = { \"L1-d8-h1\" = [2, 3] }", "").unwrap();
    let found: Vec<(&str, Role)> = study.runs.iter().map(|r| (r.id.as_str(), r.role)).collect();
    assert_eq!(
        found,
        [
            ("t-L1-d8-h1-s1", Role::Series),
            ("t-L1-d8-h1-s2", Role::SeedSpread),
            ("t-L1-d8-h1-s3", Role::SeedSpread),
            ("t-L1-d16-h1-s1", Role::Series)
        ]
    );
}

#[test]
fn rates_follow_the_rule_a_factor_of_it_or_the_file() {
    let lr = |train: &str| resolved("tokens = 64000", train).unwrap().runs[0].train.lr;
    let rule = recipe::auto_lr("L1-d8-h1".parse().unwrap());
    assert_eq!(lr(""), rule);
    assert_eq!(lr("lr = \"auto\""), rule);
    assert_eq!(lr("lr = \"auto*0.5\""), 0.5 * rule);
    assert_eq!(lr("lr = 3e-3"), 3e-3);
    for wrong in ["lr = \"auto*x\"", "lr = \"auto0\"", "lr = -1", "lr = \"fast\""] {
        assert!(resolved("tokens = 64000", wrong).unwrap_err().contains("`train.lr`"), "{wrong}");
    }
}

#[test]
fn what_was_decided_is_written_down_with_its_reason() {
    let study = resolved("epochs = 2", "").unwrap();
    let keys: Vec<&str> = study.resolutions.iter().map(|r| r.key.as_str()).collect();
    for key in ["train.lr", "train.precision", "train.threads", "train.micro_batch", "series.epochs"] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    // What the machine alone decides is no part of what a run is, nor is why something was chosen.
    let document = serde_json::to_string(&RunDocument::new("t", &study.runs[0])).unwrap();
    assert!(document.contains("train.lr") && !document.contains("threads"), "{document}");
    assert!(study.resolutions.iter().all(|r| !document.contains(&r.reason)), "{document}");
}

#[test]
fn a_factor_of_the_rule_is_in_its_words() {
    let study = resolved("tokens = 64000", "lr = \"auto*0.5\"").unwrap();
    let chosen = study.resolutions.iter().find(|r| r.key == "train.lr").unwrap();
    assert_eq!(chosen.value, format!("0.5·{}", recipe::LR_RULE));
}

#[test]
fn what_is_added_to_a_study_leaves_its_runs_what_they_were() {
    let identities = |series: &str, train: &str| {
        let study = resolved(series, train).unwrap();
        study.runs.iter().map(|r| (r.id.clone(), RunIdentity::of(r))).collect::<Vec<_>>()
    };
    let before = identities("tokens = \"64k\"", "");
    for (series, what) in [
        ("tokens = \"64k\"\nseeds = [1, 2]", "a seed"),
        ("tokens = \"64k\"\nextra_seeds = { \"L1-d8-h1\" = [2] }", "an extra seed"),
        ("tokens = \"64k\"\nbranches = [\"16k\"]", "a shorter point"),
        ("tokens = \"640k\"\nbranches = [\"64k\"]", "a longer point, with its text repeated"),
    ] {
        let after = identities(series, "");
        for (id, identity) in &before {
            let found = &after.iter().find(|(other, _)| other == id).unwrap().1;
            assert_eq!(identity.differences(found), [], "{what}");
        }
    }
    let other = identities("tokens = \"64k\"", "beta1 = 0.8");
    let found = before[0].1.differences(&other[0].1);
    assert_eq!(
        (found[0].key.as_str(), found[0].stored.as_str(), found[0].asked.as_str()),
        ("train.beta1", "0.9", "0.8")
    );
}

#[test]
fn a_budget_is_a_point_of_every_model_that_suits_it() {
    let three = "kind = \"isoflop\"";
    let study = |series: &str| {
        let text = format!(
            "name = \"t\"\n{three}\n[series]\nmodels = [\"L1-d16-h1\", \"L1-d8-h1\", \
             \"L1-d24-h1\"]\n{series}\n[train]\ncontext = 16\nbatch_tokens = 64"
        );
        let machine = Machine { kernels: "naive".to_owned(), threads: 2, bf16: false, bf16_loses: None };
        RawStudy::parse("t.toml", &text, &[])
            .and_then(|raw| resolve(&raw, &corpus(), &machine))
            .map_err(|e| e.to_string())
    };
    let found = study("flops = [\"1e9\", \"3e9\"]").unwrap();
    assert_eq!(found.runs.len(), 3);
    for run in &found.runs {
        let flops: Vec<f64> =
            run.tokens().map(|tokens| tokens as f64 * crate::gpt::run_flops_per_token(run)).collect();
        // Rounded down to whole steps.
        assert!(flops[0] <= 1e9 && flops[0] > 0.98e9 && flops[1] <= 3e9 && flops[1] > 2.97e9, "{flops:?}");
    }
    let refused = |series: &str, words: &str| {
        let error = study(series).unwrap_err();
        assert!(error.contains(words) && error.contains("hint:"), "{series}: {error}");
    };
    refused("flops = [\"1e9\"]\ntokens_per_param = [1000, 2000]", "a valley needs 3");
    refused("tokens = 64000", "needs budgets");
    refused("flops = [\"1e9\"]\ntokens = 64000", "follow from its budgets");
    refused("flops = [\"1e9\"]\ntokens_per_param = 20", "two numbers");
}

#[test]
fn the_largest_sizes_are_a_stage_of_their_own_that_is_forecast() {
    let text = "name = \"t\"\n[series]\nmodels = [\"L1-d8-h1\", \"L1-d16-h1\", \"L1-d24-h1\", \"L1-d32-h1\", \"L1-d40-h1\"]\n\
                tokens = 64000\nseeds = [1, 2]\n[train]\ncontext = 16\nbatch_tokens = 64";
    let machine = Machine { kernels: "naive".to_owned(), threads: 2, bf16: false, bf16_loses: None };
    let study = resolve(&RawStudy::parse("t.toml", text, &[]).unwrap(), &corpus(), &machine).unwrap();
    let stages = super::of(study.kind).stages(&study);
    assert_eq!(stages[0].runs, [0, 1, 2, 3, 4, 5]);
    assert_eq!(stages[0].then, super::Then::Forecast(vec![6, 7, 8, 9]));
    assert_eq!(stages[1].runs, [6, 7, 8, 9]);
}

#[test]
fn claims_take_their_value_from_their_words_or_from_a_key() {
    let claim = |text: &str| resolved("tokens = 64000", &format!("[claims]\n{text}"));
    let study = claim("\"alpha = 0.076\" = { law = \"l_n\", param = \"alpha\", within = 0.02 }").unwrap();
    assert_eq!(study.claims[0].value, 0.076);
    let study =
        claim("\"steep\" = { law = \"l_n\", param = \"alpha\", value = 1, within = 0, needs = [\"bpe\"] }")
            .unwrap();
    assert_eq!((study.claims[0].value, study.claims[0].needs.as_slice()), (1.0, &["bpe".to_owned()][..]));
    for wrong in [
        "\"steep\" = { law = \"l_n\", param = \"alpha\", within = 0 }",
        "\"a = 1\" = { law = \"l_n\", within = 0 }",
        "\"a = 1\" = { law = \"l_n\", param = 3, within = 0 }",
        "\"a = 1\" = { law = \"l_n\", param = \"a\", within = 0, needs = \"bpe\" }",
    ] {
        assert!(claim(wrong).unwrap_err().contains("claim"), "{wrong}");
    }
}

#[test]
fn a_slow_second_moment_in_8_bits_is_warned_of() {
    let warned = |train: &str| {
        let study = resolved("epochs = 2", train).unwrap();
        study.resolutions.iter().any(|r| r.key == "train.beta2" && r.reason.contains("warning: 8-bit"))
    };
    assert!(warned("optimizer = \"adamw8bit\"\nbeta2 = 0.999"));
    assert!(!warned("optimizer = \"adamw8bit\"\nbeta2 = 0.95"));
    assert!(!warned("optimizer = \"adamw8bit\""));
    assert!(!warned("optimizer = \"adamw\"\nbeta2 = 0.999"));
}
