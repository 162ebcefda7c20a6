//! Tests of the identity.

use super::*;
use crate::JunkKind;
use crate::mix::{MixSpec, Origin, Passages, SourceSpec, StageSpec, StageStart};
use crate::study::{DataSpec, GptSpec, Role, TrainSpec};
use crate::{Optimizer, Precision, Recompute};

fn run() -> RunSpec {
    RunSpec {
        id: "s-L2-d32-h2-s1".to_owned(),
        seed: 1,
        arm: BTreeMap::new(),
        role: Role::Series,
        model: ModelSpec::Gpt2(GptSpec {
            shape: "L2-d32-h2".parse().unwrap(),
            vocab: 256,
            context: 64,
            init: Init::Scaled,
        }),
        data: DataSpec {
            corpus: "a.bin".to_owned(),
            train: Some("a/train.bin".into()),
            val: Some("a/val.bin".into()),
            train_tokens: 1000,
            val_tokens: 100,
            bytes_per_token: Some(4.5),
            fingerprint: "f00d".to_owned(),
            mix: None,
            end_of_text: None,
        },
        train: TrainSpec {
            lr: 1e-2,
            batch_tokens: 2048,
            branch: None,
            micro_batch: 8,
            precision: Precision::F32,
            optimizer: Optimizer::AdamW,
            schedule: ScheduleKind::Wsd,
            decay: 0.2,
            warmup: Warmup::Share(0.05),
            warmup_steps: 30,
            min_lr: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            clip: 1.0,
            recompute: Recompute::None,
            eval_every: 0.05,
            eval_tokens: 1000,
            curve_tokens: 100,
            init_from: Some(InitFrom { path: "ckpt".into(), fingerprint: "beef".to_owned() }),
            kernels: "avx2".to_owned(),
        },
        ends: vec![100, 600],
    }
}

/// Keys at which the run changed by `change` differs from the unchanged one.
fn differing(change: impl Fn(&mut RunSpec)) -> Vec<(String, String, String)> {
    let mut other = run();
    change(&mut other);
    let found = RunIdentity::of(&run()).differences(&RunIdentity::of(&other));
    found.into_iter().map(|d| (d.key, d.stored, d.asked)).collect()
}

#[test]
fn what_changes_no_bit_makes_no_run_unequal() {
    type Change = fn(&mut RunSpec);
    let harmless: [(&str, Change); 7] = [
        ("a name", |r| r.id = "other".to_owned()),
        ("a role", |r| r.role = Role::SeedSpread),
        ("an arm", |r| drop(r.arm.insert("budget".to_owned(), "1e13".to_owned()))),
        ("moved token files", |r| {
            (r.data.train, r.data.val) = (Some("b/t.bin".into()), Some("b/v.bin".into()))
        }),
        ("a renamed corpus", |r| r.data.corpus = "b".to_owned()),
        ("a moved checkpoint", |r| r.train.init_from.as_mut().unwrap().path = "elsewhere".into()),
        ("further points, before and after", |r| r.ends = vec![50, 100, 600, 1200]),
    ];
    for (what, change) in harmless {
        assert_eq!(differing(change), [], "{what}");
    }
}

#[test]
fn what_changes_bits_is_named_with_both_values() {
    let check = |change: fn(&mut RunSpec), key: &str, stored: &str, asked: &str| {
        assert_eq!(differing(change), [(key.to_owned(), stored.to_owned(), asked.to_owned())]);
    };
    check(|r| r.seed = 2, "seed", "1", "2");
    check(|r| r.train.lr = 2e-2, "train.lr", "0.01", "0.02");
    check(|r| r.train.beta2 = 0.99, "train.beta2", "0.95", "0.99");
    check(|r| r.train.warmup = Warmup::Share(0.1), "train.warmup", r#"{"share":0.05}"#, r#"{"share":0.1}"#);
    check(|r| r.train.kernels = "naive".to_owned(), "train.kernels", "\"avx2\"", "\"naive\"");
    check(|r| r.data.fingerprint = "cafe".to_owned(), "data.fingerprint", "\"f00d\"", "\"cafe\"");
    check(|r| r.train.init_from = None, "train.init_from", "\"beef\"", "null");
    check(
        |r| r.train.init_from.as_mut().unwrap().fingerprint = "0000".to_owned(),
        "train.init_from",
        "\"beef\"",
        "\"0000\"",
    );
    let cosine = differing(|r| r.train.schedule = ScheduleKind::Cosine);
    assert!(cosine.iter().any(|(key, ..)| key == "train.total_steps"), "{cosine:?}");
}

fn mix() -> MixSpec {
    let text = |name: &str, hash: &str| SourceSpec {
        name: name.to_owned(),
        origin: Origin::Tokens { fingerprint: hash.to_owned(), train_tokens: 1000, val_tokens: 100 },
        tag: Vec::new(),
        unique_tokens: None,
    };
    let passages = Some(Passages { tokens: 64, copies: None, count: 5 });
    let junk = Origin::Junk { kind: JunkKind::Repeated, of: Some(0), seed: 0, passages };
    MixSpec {
        sources: vec![
            text("a", "f00d"),
            text("b", "beef"),
            SourceSpec { name: "junk".to_owned(), origin: junk, ..text("", "") },
        ],
        stages: vec![StageSpec { from: StageStart::Share(0.0), from_step: 0, weights: vec![1, 1, 2] }],
        held_out: vec![0],
    }
}

#[test]
fn a_mix_is_its_texts_junk_weights_and_what_is_scored_and_no_name() {
    let of = |mix: &MixSpec| {
        let mut run = run();
        run.data.mix = Some(mix.clone());
        RunIdentity::of(&run)
    };
    let check = |change: fn(&mut MixSpec), key: Option<&str>| {
        let mut other = mix();
        change(&mut other);
        let found = of(&mix()).differences(&of(&other));
        let found: Vec<&str> = found.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(found, key.into_iter().collect::<Vec<_>>());
    };
    fn junk(mix: &mut MixSpec) -> (&mut JunkKind, &mut Option<usize>, &mut u64, &mut Passages) {
        match &mut mix.sources[2].origin {
            Origin::Junk { kind, of, seed, passages: Some(passages) } => (kind, of, seed, passages),
            other => panic!("{other:?}"),
        }
    }
    check(|m| m.sources[1].name = "renamed".to_owned(), None);
    check(|m| m.stages[0].from = StageStart::Steps(0), None);
    check(|m| junk(m).3.copies = Some(8.0), None);
    let sources = Some("data.mix.sources");
    check(|m| m.sources.swap(0, 1), sources);
    check(|m| m.sources[1].tag = vec![7], sources);
    check(|m| m.sources[1].unique_tokens = Some(64), sources);
    check(|m| *junk(m).0 = JunkKind::Base64, sources);
    check(|m| *junk(m).1 = Some(1), sources);
    check(|m| *junk(m).2 = 1, sources);
    check(|m| junk(m).3.count = 6, sources);
    check(|m| junk(m).3.tokens = 65, sources);
    check(|m| m.stages[0].weights = vec![1, 1, 3], Some("data.mix.stages"));
    let later = StageSpec { from: StageStart::Share(0.5), from_step: 50, weights: vec![1, 0, 0] };
    let mut staged = mix();
    staged.stages.push(later);
    assert_eq!(of(&mix()).differences(&of(&staged))[0].key, "data.mix.stages");
    check(|m| m.held_out = vec![1], Some("data.held_out"));
    check(|m| m.held_out = vec![0, 1], Some("data.held_out"));
    assert!(
        !of(&mix()).values.contains_key("data.held_out"),
        "the first text that can be scored is the default"
    );
    // A run without a mix has nothing of one, and is what it was before there were any.
    assert!(RunIdentity::of(&run()).values.keys().all(|key| !key.contains("mix")));
    let stored = serde_json::to_value(run().data).unwrap();
    assert!(stored.get("mix").is_none());
}

#[test]
fn every_field_of_a_recipe_is_in_the_identity_or_named_here() {
    // A field added to the recipe must be put into the identity, or here with the reason why it changes no bit.
    let no_bit = ["warmup_steps"]; // follows from `warmup` and from when the run began
    let all = serde_json::to_value(run().train).unwrap();
    let mut cosine = run();
    (cosine.train.schedule, cosine.train.decay, cosine.train.min_lr) = (ScheduleKind::Cosine, 0.3, 0.2);
    (cosine.train.beta1, cosine.train.beta2, cosine.train.eps) = (0.8, 0.9, 1e-7);
    (cosine.train.weight_decay, cosine.train.clip) = (0.2, 2.0);
    (cosine.train.recompute, cosine.train.optimizer) = (Recompute::Block, Optimizer::AdamW8bit);
    let identity = RunIdentity::of(&cosine);
    for key in all.as_object().unwrap().keys().filter(|key| !no_bit.contains(&key.as_str())) {
        assert!(identity.values.contains_key(&format!("train.{key}")), "train.{key}");
    }
}

#[test]
fn a_key_added_to_the_format_with_a_default_leaves_older_runs_equal() {
    let now = RunIdentity::of(&run());
    // As a store written before `train.clip` and `model.init` were keys would have it: they are absent either way.
    assert!(!now.values.contains_key("train.clip") && !now.values.contains_key("model.init"));
    let mut explicit = now.clone();
    explicit.values.insert("train.clip".to_owned(), json!(1));
    assert_eq!(now.differences(&explicit), []);
}

#[test]
fn documents_are_read_back_and_others_refused_with_what_to_do() {
    let document = RunDocument::new("s", &run());
    let stored = serde_json::to_value(&document).unwrap();
    assert_eq!(RunDocument::read(&stored).unwrap(), document);
    let mut newer = stored.clone();
    newer["identity"]["version"] = json!(3);
    let refused = RunDocument::read(&newer).unwrap_err().to_string();
    assert!(refused.contains("identity 3") && refused.contains("hint:"), "{refused}");
    let refused = RunDocument::read(&json!({"schema": "isoflop.run/9"})).unwrap_err().to_string();
    assert!(refused.contains("isoflop.run/9") && refused.contains("hint:"), "{refused}");
}

#[test]
fn the_format_before_is_read() {
    let old = json!({
        "schema": "isoflop.run/1", "study": "old", "kind": "scaling",
        "data": {"corpus": "builtin", "train": null, "val": null, "vocab": 256, "train_tokens": 14651258,
            "val_tokens": 983040, "bytes_per_token": 1.0, "fingerprint": "bad2"},
        "run": {"id": "old-L1-d8-h1-s1", "shape": "L1-d8-h1", "seed": 1, "lr": 0.01, "ends": [781, 3125],
            "extra_seed": false},
        "train": {"context": 16, "batch_tokens": 256, "micro_batch": 16, "precision": "f32", "optimizer": "adamw",
            "init": "scaled", "schedule": "wsd", "decay": 0.2, "warmup": 0.05, "min_lr": 0.1, "beta1": 0.9,
            "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "clip": 1.0, "recompute": "none", "eval_every": 0.25,
            "eval_tokens": 8000, "curve_tokens": 1000, "init_from": null, "kernels": "portable"},
        "resolutions": [{"key": "train.micro_batch", "value": "16", "reason": "prose", "machine": false}],
    });
    let document = RunDocument::read(&old).unwrap();
    let run = &document.run;
    assert_eq!((run.train.warmup_steps, run.train.lr, run.end()), (156, 0.01, 3125));
    assert_eq!(run.gpt().shape.to_string(), "L1-d8-h1");
    assert_eq!(document.identity, RunIdentity::of(run));
}

#[test]
fn a_run_gone_on_with_keeps_its_warm_up_and_gains_points() {
    let stored = RunDocument::new("s", &run());
    let mut longer = run();
    (longer.ends, longer.train.warmup_steps) = (vec![600, 1200], 60);
    let document = stored.gone_on_with(&RunDocument::new("s", &longer)).unwrap();
    assert_eq!((document.run.train.warmup_steps, &document.run.ends[..]), (30, &[100, 600, 1200][..]));
    longer.train.lr = 1.0;
    let refused = stored.gone_on_with(&RunDocument::new("s", &longer)).unwrap_err();
    assert_eq!(refused[0].key, "train.lr");
}
