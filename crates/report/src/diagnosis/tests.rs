//! A sound study, of which no rule has anything to say, and studies that differ from it in exactly one fault.

use super::*;
use crate::input::RunRow;
use isoflop_base::{BlockLoss, CurveRow, Measured, NoisePairs, PointKind, SourceLoss, SourceSeen};
use isoflop_laws::{FitRecord, LawDocument, PairedDifference, ParamEstimate, Straightness};

const SHAPES: [&str; 5] = ["L2-d24-h2", "L2-d32-h2", "L2-d48-h3", "L3-d64-h4", "L4-d80-h5"];
const TOKENS: [u64; 2] = [1_000_000_000, 2_000_000_000];
/// Rows of a trunk.
const ROWS: u64 = 400;

/// A number in −1..1 from a counter.
fn hash(counter: u64) -> f64 {
    let x = (counter + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((x ^ (x >> 32)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn law(n: u64, d: f64) -> f64 {
    4.0 / (n as f64).powf(0.08) + 400.0 / d.powf(0.5)
}

fn point(index: usize, tokens: u64, times: f64) -> Point {
    let shape: isoflop_base::ModelShape = SHAPES[index].parse().unwrap();
    let loss = law(shape.params(), tokens as f64) + 0.02 * times.ln().powi(2);
    let blocks = (0..40).map(|b| BlockLoss {
        block: b,
        sum: 1e4 * loss * (1.0 + 0.1 * hash(u64::from(b))),
        tokens: 10_000,
    });
    Point {
        run: if times == 1.0 { format!("{shape}-s1") } else { format!("{shape}-lr{times}-s1") },
        kind: PointKind::Final,
        shape: Some(shape),
        params: shape.params(),
        params_total: shape.params_total(256, 256),
        tokens,
        flops: 1e12,
        flops_6nd: 1e12,
        loss,
        loss_se: Some(0.004),
        bits_per_byte: None,
        epochs: 0.5,
        unique_tokens: tokens,
        steps: tokens / 2048,
        batch_tokens: 2048,
        lr: 1e-2 * times,
        schedule: "wsd".to_owned(),
        init: "scaled".to_owned(),
        context: Some(256),
        vocab: Some(256),
        seed: 1,
        precision: "f32".to_owned(),
        kernels: "portable".to_owned(),
        seconds: Measured::measured(60.0),
        tokens_per_s: Measured::measured(1e6),
        energy_j: Measured::missing("no meter"),
        sources: Vec::new(),
        held_out: Vec::new(),
        arm: Default::default(),
        peak_share: Measured::measured(0.55),
        blocks: blocks.collect(),
    }
}

/// A trunk to 80 % of the last D, and a decayed branch to each D.
fn curve(index: usize) -> Vec<CurveRow> {
    let p = point(index, TOKENS[1], 1.0);
    let row = |segment: &str, tokens: u64, i: u64| {
        let val = law(p.params, tokens as f64) + 2.0 / (1.0 + tokens as f64 / 1e7) + 0.05;
        CurveRow {
            run: p.run.clone(),
            segment: segment.to_owned(),
            step: tokens / 2048,
            tokens,
            flops: 1e12,
            train_loss: val * (1.0 + 0.02 * hash(i + 1000 * index as u64)),
            val_loss: (i.is_multiple_of(20)).then_some(val),
            lr: 1e-2,
            grad_norm: 1.0,
            decayed: segment != "trunk",
            tokens_per_s: None,
            data_wait: Some(0.001),
            skipped: None,
            noise: Some(pairs(20_000.0)),
        }
    };
    let end = TOKENS[1] / 5 * 4;
    let mut rows: Vec<CurveRow> = (1..=ROWS).map(|i| row("trunk", end * i / ROWS, i)).collect();
    for tokens in TOKENS {
        rows.extend((1..=20).map(|i| row(&tokens.to_string(), tokens / 5 * 4 + tokens / 5 * i / 20, i)));
    }
    rows
}

/// Norms of batches of 256 and 2,048 tokens at a noise scale.
fn pairs(scale: f64) -> NoisePairs {
    let sq = |tokens: f64| 1.0 + scale / tokens;
    NoisePairs { pairs: 8, small_tokens: 256, small_sq: sq(256.0), big_tokens: 2048, big_sq: sq(2048.0) }
}

fn run(name: &str, status: Status) -> RunRow {
    RunRow {
        run: name.to_owned(),
        model: String::new(),
        params: 1,
        seed: 1,
        status,
        seconds: Measured::measured(1.0),
        tokens_per_s: Measured::measured(1.0),
        flops_per_s: Measured::measured(1.0),
    }
}

/// Five sizes at two D and a sweep of one of them, each as it should be.
fn sound() -> ReportInput {
    let mut points: Vec<Point> = (0..5).flat_map(|i| TOKENS.map(|d| point(i, d, 1.0))).collect();
    points.extend([0.5, 2.0].map(|times| point(1, TOKENS[1], times)));
    let mut runs: Vec<RunRow> = points.iter().map(|p| run(&p.run, Status::Done)).collect();
    runs.dedup_by(|a, b| a.run == b.run);
    ReportInput { points, runs, curves: (0..5).flat_map(curve).collect(), ..ReportInput::default() }
}

/// The study with one thing changed has one diagnosis, of this fault, whose words hold all these.
fn check(fault: Fault, found: bool, words: &[&str], change: impl Fn(&mut ReportInput)) {
    let mut input = sound();
    change(&mut input);
    let all = diagnose(&input);
    let [one] = all.as_slice() else { panic!("{fault:?} alone was expected: {all:#?}") };
    assert_eq!((one.fault, one.found), (fault, found), "{one:#?}");
    for part in words {
        assert!(one.evidence.contains(part), "`{part}` is not in: {}", one.evidence);
    }
    assert!(!one.what_to_do.is_empty());
}

fn of_size(input: &mut ReportInput, index: usize) -> impl Iterator<Item = &mut Point> {
    let shape = SHAPES[index].parse().ok();
    input.points.iter_mut().filter(move |p| p.shape == shape)
}

fn trunk_of(input: &mut ReportInput, index: usize) -> impl Iterator<Item = &mut CurveRow> {
    let run = format!("{}-s1", SHAPES[index]);
    input.curves.iter_mut().filter(move |r| r.run == run && r.segment == "trunk")
}

#[test]
fn a_sound_study_has_no_fault_and_an_empty_one_no_diagnosis() {
    assert_eq!(diagnose(&sound()), []);
    assert_eq!(diagnose(&ReportInput::default()), []);
    assert!(!is_bent(&sound()));
}

#[test]
fn a_diverged_or_spiking_run_is_unstable() {
    check(Fault::Unstable, true, &["L3-d64-h4-s9 diverged at step 412 of trunk"], |i| {
        let status = Status::Diverged { step: 412, segment: "trunk".to_owned() };
        i.runs.push(run("L3-d64-h4-s9", status));
    });
    check(Fault::Unstable, true, &["L3-d64-h4-s1 jumps to 1.6 times"], |i| {
        trunk_of(i, 3).skip(200).take(3).for_each(|r| r.train_loss *= 1.6);
    });
    // One odd batch is no instability, nor are a few per cent.
    let mut noisy = sound();
    trunk_of(&mut noisy, 2).skip(200).take(1).for_each(|r| r.train_loss *= 1.6);
    trunk_of(&mut noisy, 3).step_by(7).for_each(|r| r.train_loss *= 1.1);
    assert_eq!(diagnose(&noisy), []);
}

#[test]
fn a_plateau_is_seen_whether_it_was_left_or_not() {
    check(
        Fault::Plateau,
        true,
        &["1 of 7 runs stays flat and falls late", "L2-d24-h2-s1 near 3.10", "% lower after"],
        |i| {
            trunk_of(i, 0).take(160).for_each(|r| {
                r.train_loss = 3.1 + 0.02 * hash(r.step);
                r.val_loss = r.val_loss.map(|_| 3.1);
            });
        },
    );
    check(Fault::Plateau, true, &["L2-d48-h3 at 2\u{202f}B tokens ends flat at 3.10"], |i| {
        of_size(i, 2).for_each(|p| p.loss = 3.1);
        trunk_of(i, 2).for_each(|r| {
            r.train_loss = 3.1 + 0.02 * hash(r.step);
            r.val_loss = r.val_loss.map(|_| 3.1);
        });
    });
}

#[test]
fn a_size_that_ends_above_a_smaller_one_is_out_of_line() {
    check(Fault::OutOfLine, true, &["2 of 8", "L2-d48-h3", "above L2-d32-h2"], |i| {
        of_size(i, 2).for_each(|p| p.loss *= 1.11);
    });
}

#[test]
fn the_rate_is_judged_by_its_sweep_and_unknown_without_one() {
    check(
        Fault::LearningRate,
        true,
        &["the best of 3 rates of L2-d32-h2 is the highest tried, 0.020"],
        |i| {
            of_size(i, 1).filter(|p| p.lr > 0.015).for_each(|p| p.loss -= 0.05);
        },
    );
    check(Fault::LearningRate, true, &["L2-d32-h2 was trained at 0.080", "times above the bottom"], |i| {
        // Three seeds at the rule's rate, beside a sweep that has its bottom elsewhere.
        for seed in 1..=3 {
            let mut p = point(1, TOKENS[1], 8.0);
            (p.run, p.seed) = ("L2-d32-h2-rule".to_owned(), seed);
            i.points.push(p);
        }
        i.runs.push(run("L2-d32-h2-rule", Status::Done));
    });
    check(Fault::LearningRate, false, &["cannot tell"], |i| i.points.retain(|p| p.lr == 1e-2));
}

#[test]
fn rates_of_a_studys_arms_are_its_sweep() {
    let mut arms = sound();
    let (own, swept) = std::mem::take(&mut arms.points).into_iter().partition(|p| p.lr == 1e-2);
    (arms.points, arms.swept) = (own, swept);
    assert_eq!(diagnose(&arms), []);
    let mut steep = arms.clone();
    steep.swept.iter_mut().filter(|p| p.lr > 0.015).for_each(|p| p.loss -= 0.05);
    let found = diagnose(&steep);
    assert!(found.iter().any(|d| d.fault == Fault::LearningRate && d.evidence.contains("the highest tried")));
    // Those of another batch say nothing of the series' rate.
    arms.swept.iter_mut().for_each(|p| p.batch_tokens *= 2);
    assert!(diagnose(&arms).iter().any(|d| d.fault == Fault::LearningRate && !d.found));
}

#[test]
fn what_was_not_trained_to_its_end_is_not_converged() {
    check(Fault::NotConverged, true, &["2 of 12 points were measured before the rate had decayed"], |i| {
        let run = format!("{}-s1", SHAPES[4]);
        i.curves.iter_mut().filter(|r| r.run == run).for_each(|r| r.decayed = false);
    });
    check(Fault::NotConverged, true, &["gains more from tokens", "its last two points"], |i| {
        i.points.iter_mut().filter(|p| p.tokens == TOKENS[0]).for_each(|p| p.loss *= 1.15);
    });
    // With one D a size only its curve can tell: falling by 10 % within its last tenth.
    check(Fault::NotConverged, true, &["the training loss falls", "last tenth of its trunk"], |i| {
        i.points.retain(|p| p.tokens == TOKENS[1]);
        let end = (TOKENS[1] / 5 * 4) as f64;
        trunk_of(i, 4).for_each(|r| {
            r.train_loss *= (r.tokens as f64 / end).max(0.9).powf(-1.0);
            r.val_loss = None;
        });
    });
}

#[test]
fn data_read_too_often_are_repeated() {
    check(Fault::Repeated, true, &["12 of 12 points", "20.0 passes"], |i| {
        for p in &mut i.points {
            p.unique_tokens = p.tokens / 20;
            p.epochs = 20.0;
        }
    });
    // Two passes are no fault by themselves, memorising is.
    let twice = |i: &mut ReportInput| {
        for p in &mut i.points {
            p.unique_tokens = p.tokens / 2;
            p.epochs = 2.0;
        }
    };
    let mut mild = sound();
    twice(&mut mild);
    assert_eq!(diagnose(&mild), []);
    check(
        Fault::Repeated,
        true,
        &["the gap between training and held-out loss grows", "L4-d80-h5-s1"],
        |i| {
            twice(i);
            let memorised = |row: usize| 1.0 - 0.08 * row as f64 / ROWS as f64;
            trunk_of(i, 4).enumerate().for_each(|(row, r)| r.train_loss *= memorised(row));
        },
    );
}

#[test]
fn sizes_with_too_few_tokens_are_named() {
    check(
        Fault::TooFewTokens,
        true,
        &["5 of 5 sizes", "L4-d80-h5 at 2\u{202f}M tokens", "6.5 tokens a parameter"],
        |i| {
            for p in &mut i.points {
                p.tokens /= 1000;
                p.unique_tokens /= 1000;
            }
            for r in &mut i.curves {
                r.tokens /= 1000;
            }
        },
    );
}

#[test]
fn a_batch_is_judged_by_the_noise_scale_and_unknown_without_it() {
    check(
        Fault::Batch,
        true,
        &["5 of 5 runs lie above it", "4.1 times it", "about 5.1 times the tokens"],
        |i| {
            i.curves.iter_mut().for_each(|r| r.noise = Some(pairs(500.0)));
        },
    );
    check(Fault::Batch, true, &["5 of 5 runs lie far below it", "costs time, not loss"], |i| {
        i.curves.iter_mut().for_each(|r| r.noise = Some(pairs(1e6)));
    });
    check(Fault::Batch, false, &["was not measured"], |i| i.curves.iter_mut().for_each(|r| r.noise = None));
}

#[test]
fn junk_is_known_from_the_mix_or_suspected_from_losses() {
    let seen =
        |name: &str, tokens| SourceSeen { name: name.to_owned(), tokens, unique_tokens: tokens, epochs: 0.0 };
    check(Fault::Junk, true, &["30 % of what", "is junk by the study's own mix"], |i| {
        i.study = serde_json::json!({"runs": [{"data": {"mix": {"sources": [
            {"name": "books", "origin": {"from": "tokens"}},
            {"name": "noise", "origin": {"from": "junk", "kind": "base64"}},
        ]}}}]});
        i.points.iter_mut().for_each(|p| p.sources = vec![seen("books", 700), seen("noise", 300)]);
    });
    check(Fault::Junk, true, &["ends 3", "above its held-out loss"], |i| {
        i.curves.iter_mut().for_each(|r| r.train_loss *= 1.3);
    });
    check(Fault::Junk, true, &["blocks of L4-d80-h5", "are of two kinds: 30", "and 10"], |i| {
        of_size(i, 4).for_each(|p| p.blocks.iter_mut().take(10).for_each(|b| b.sum *= 2.0));
    });
}

/// The sound study reading books, forum and letters alike, with a held-out loss of each; `forum` as a share of the
/// books' loss at each size.
fn of_three_sources(input: &mut ReportInput, forum: impl Fn(f64) -> f64) {
    let names = ["books", "forum", "letters"];
    let runs: Vec<serde_json::Value> = input
        .runs
        .iter()
        .map(|r| {
            let sources = names.map(|name| serde_json::json!({"name": name, "origin": {"from": "tokens"}}));
            serde_json::json!({"id": r.run, "data": {"mix": {"sources": sources, "held_out": [0, 1, 2]}}})
        })
        .collect();
    input.study = serde_json::json!({ "runs": runs });
    for p in &mut input.points {
        let seen = |name: &str| SourceSeen {
            name: name.to_owned(),
            tokens: p.tokens / 3,
            unique_tokens: p.tokens / 3,
            epochs: 0.1,
        };
        p.sources = names.map(seen).into();
        let other =
            |name: &str, loss| SourceLoss { name: name.to_owned(), loss, loss_se: None, tokens: 10_000 };
        p.held_out = vec![other("forum", forum(p.loss)), other("letters", 1.3 * p.loss)];
    }
}

#[test]
fn a_source_that_larger_models_learn_nothing_more_of_is_suspected() {
    check(
        Fault::Junk,
        true,
        &["the held-out loss of `forum` hardly falls", "(as N^0.000, where others fall as N^−0.080)"],
        |i| {
            of_three_sources(i, |books| 4.0 + 0.01 * books);
        },
    );
    // Harder text that falls half as fast is text.
    let mut sound = sound();
    of_three_sources(&mut sound, |books| 3.0 * books.sqrt());
    assert_eq!(diagnose(&sound), []);
    // One that was scored and not read says nothing of what was read.
    of_three_sources(&mut sound, |_| 4.0);
    sound.points.iter_mut().for_each(|p| p.sources[1].tokens = 0);
    assert_eq!(diagnose(&sound), []);
    // Two sizes are no line.
    of_three_sources(&mut sound, |_| 4.0);
    sound.points.retain(|p| p.params <= SHAPES[1].parse::<isoflop_base::ModelShape>().unwrap().params());
    assert!(diagnose(&sound).iter().all(|d| d.fault != Fault::Junk));
}

#[test]
fn one_of_one_is_said_in_words() {
    assert_eq!(those(1, 1, RUNS, ["lies", "lie"]), "the only run lies");
    assert_eq!(those(1, 3, RUNS, ["lies", "lie"]), "1 of 3 runs lies");
    assert_eq!(those(2, 3, RUNS, ["lies", "lie"]), "2 of 3 runs lie");
}

#[test]
fn steps_that_wait_for_data_are_input_bound() {
    check(Fault::InputBound, true, &["1 of 5 runs", "L2-d24-h2-s1, 20 %", "not against N"], |i| {
        trunk_of(i, 0).for_each(|r| r.data_wait = Some(0.22));
    });
}

#[test]
fn losses_that_held_out_text_cannot_tell_apart_are_said_to_be_so() {
    check(Fault::HeldOut, true, &["8 of 8 pairs of neighbouring sizes lie within", "± 0."], |i| {
        i.points.iter_mut().for_each(|p| p.loss_se = Some(0.3));
    });
    check(
        Fault::HeldOut,
        true,
        &["1 of 2", "paired", "a and b at 2\u{202f}B tokens: 0.0040 ± 0.0050"],
        |i| {
            let pair = |large: &str, difference| PairedDifference {
                small: "a".to_owned(),
                large: large.to_owned(),
                tokens: 2e9,
                difference,
                se: Some(0.005),
                ..PairedDifference::default()
            };
            i.laws = Some(LawDocument {
                paired: vec![pair("b", 0.004), pair("c", 0.1)],
                ..LawDocument::default()
            });
        },
    );
}

#[test]
fn the_page_says_why_the_line_bends_or_that_nothing_was_found() {
    let page = |i: &ReportInput| crate::render(i);
    let text = page(&sound());
    assert!(text.contains("What could bend this line: nothing found"), "a sound study");
    let bend = ParamEstimate { value: 0.02, lo: Some(0.01), hi: Some(0.03), ..ParamEstimate::default() };
    let straight = Straightness {
        r2: Some(0.99),
        worst_deviation: 0.02,
        curvature: Some(bend),
        ..Straightness::default()
    };
    let fit = FitRecord {
        form: "l_n".to_owned(),
        variant: "pure".to_owned(),
        straight: Some(straight),
        rows_used: 5,
        ..FitRecord::default()
    };
    let laws = LawDocument { fits: vec![fit], ..LawDocument::default() };
    let mut bent = ReportInput { laws: Some(laws), ..sound() };
    assert!(is_bent(&bent) && page(&bent).contains("the bend may be the law's own"));
    of_size(&mut bent, 2).for_each(|p| p.loss *= 1.11);
    let text = page(&bent);
    assert!(text.contains("Why the line is not straight") && text.contains("A size out of line"));
    assert!(text.find("id=\"why\"") > text.find("id=\"size\""), "right after the line");
    let unswept =
        ReportInput { points: sound().points.into_iter().filter(|p| p.lr == 1e-2).collect(), ..sound() };
    assert!(page(&unswept).contains("Cannot tell of the learning rate"));
}
