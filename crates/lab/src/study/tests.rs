//! Resolving: what each way of saying a series becomes.

use super::raw::RawStudy;
use super::resolve::{Machine, resolve};
use isoflop_base::ScheduleKind;
use isoflop_base::study::Study;
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
    Corpus { train: tokens(100_000), val: tokens(10_000), info }
}

/// A study of two sizes (768 and 3072 parameters), 64 tokens a step, with these lines under [series] and [train].
fn resolved(series: &str, train: &str) -> Result<Study, String> {
    let text = format!(
        "name = \"t\"\n[series]\nmodels = [\"L1-d16-h1\", \"L1-d8-h1\"]\n{series}\n[train]\ncontext = 16\nbatch_tokens = 64\n{train}"
    );
    let machine = Machine { kernels: "naive".to_owned(), threads: 2, bf16: false };
    RawStudy::parse("t.toml", &text, &[])
        .and_then(|raw| resolve(&raw, &corpus(), &machine, |shape, _, _| 6.0 * shape.params() as f64))
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
    // 768 and 3072 parameters: 4,608 and 18,432 FLOPs per token.
    check(
        "flops = [2.94912e8, 5.89824e8]",
        "",
        &[("t-L1-d8-h1-s1", &[1000, 2000]), ("t-L1-d16-h1-s1", &[250, 500])],
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
    assert_eq!(resolved("tokens = 64000", "").unwrap().train.schedule, ScheduleKind::Wsd);
}

#[test]
fn extra_seeds_follow_their_size() {
    let study = resolved("tokens = 64000\nextra_seeds = { \"L1-d8-h1\" = [2, 3] }", "").unwrap();
    let found: Vec<(&str, bool)> = study.runs.iter().map(|r| (r.id.as_str(), r.extra_seed)).collect();
    assert_eq!(
        found,
        [
            ("t-L1-d8-h1-s1", false),
            ("t-L1-d8-h1-s2", true),
            ("t-L1-d8-h1-s3", true),
            ("t-L1-d16-h1-s1", false)
        ]
    );
}

#[test]
fn rates_follow_the_rule_a_factor_of_it_or_the_file() {
    let lr = |train: &str| resolved("tokens = 64000", train).unwrap().runs[0].lr;
    let rule = super::recipe::auto_lr("L1-d8-h1".parse().unwrap());
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
    // What the machine alone decides is no part of what a run is.
    let document = study.run_document(&study.runs[0]).to_string();
    assert!(document.contains("train.lr") && !document.contains("threads"), "{document}");
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
