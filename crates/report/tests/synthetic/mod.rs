//! An invented study for looking at the page and for its tests: losses from a formula, noise from a hash. Nothing here
//! was measured, and nothing of it is in the product.

use isoflop_base::{BlockLoss, CurveRow, Measured, ModelShape, Point, PointKind, Status};
use isoflop_laws::{LawDocument, Options, Table, Target};
use isoflop_report::{
    Completion, Corpus, Fact, ForecastRow, LearningRate, LedgerRow, Preset, ReportInput, RunRow, Totals,
};

const SHAPES: [&str; 7] =
    ["L2-d24-h2", "L2-d32-h2", "L2-d48-h3", "L3-d64-h4", "L4-d80-h5", "L4-d112-h7", "L5-d160-h10"];
const RATIOS: [f64; 7] = [2.33, 2.00, 1.67, 1.44, 1.33, 1.24, 1.16];
const TOKENS: [u64; 3] = [3_000_000, 6_000_000, 12_000_000];

/// A number in −1..1 from a counter.
fn hash(counter: u64) -> f64 {
    let mut x = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn law(n: f64, d: f64) -> f64 {
    0.24 + 4.05 / n.powf(0.094) + 130.0 / d.powf(0.44)
}

fn point(index: usize, tokens: u64, seed: u64) -> Point {
    let shape: ModelShape = SHAPES[index].parse().unwrap();
    let n = shape.params() as f64;
    let noise = 1.0 + 0.0034 * hash(index as u64 * 97 + tokens + seed * 7919);
    let mean = law(n, tokens as f64) * noise;
    let blocks: Vec<BlockLoss> = (0..28)
        .map(|b| {
            let offset = 0.12 * hash(b + 5) + 0.006 * hash(b * 31 + index as u64 + tokens);
            BlockLoss { block: b as u32, sum: (mean + offset) * 32_000.0, tokens: 32_000 }
        })
        .collect();
    let (loss, loss_se) = isoflop_laws::clustered_mean(&blocks).unwrap();
    let flops = 6.0 * n * tokens as f64 * RATIOS[index];
    let seconds = flops / 38e9;
    Point {
        run: format!("sample-{shape}-s{seed}"),
        kind: if tokens == TOKENS[2] { PointKind::Final } else { PointKind::Branch },
        shape: Some(shape),
        params: shape.params(),
        params_total: shape.params_total(256, 256),
        tokens,
        flops,
        flops_6nd: 6.0 * n * tokens as f64,
        loss,
        loss_se,
        bits_per_byte: Some(loss / std::f64::consts::LN_2),
        epochs: tokens as f64 / 14e6,
        unique_tokens: tokens,
        steps: tokens / 2048,
        batch_tokens: 2048,
        lr: 1e-2 * (32.0 / shape.d_model as f64).sqrt(),
        schedule: "wsd".into(),
        init: "scaled".into(),
        context: Some(256),
        vocab: Some(256),
        seed,
        precision: "f32".into(),
        kernels: "portable".into(),
        seconds: Measured::measured(seconds),
        tokens_per_s: Measured::measured(tokens as f64 / seconds),
        energy_j: Measured::missing("no power meter on this machine"),
        peak_share: Measured::measured(0.55),
        sources: Vec::new(),
        held_out: Vec::new(),
        arm: Default::default(),
        blocks,
    }
}

fn curve(index: usize) -> Vec<CurveRow> {
    let shape: ModelShape = SHAPES[index].parse().unwrap();
    let n = shape.params() as f64;
    let mut rows = Vec::new();
    let mut segment = |name: &str, from: u64, to: u64, decay_from: u64| {
        let stride = 16;
        for step in (from / 2048..=to / 2048).filter(|s| s % stride == 0 || *s == to / 2048) {
            let tokens = step.max(1) * 2048;
            let d = tokens as f64;
            let share =
                if tokens > decay_from { (d - decay_from as f64) / (to - decay_from) as f64 } else { 0.0 };
            let warm = 3.6 / (1.0 + d / 45_000.0);
            let above = 0.085 * (1.0 - share.powf(0.7));
            let val = law(n, d.max(2e5)) + warm + above;
            rows.push(CurveRow {
                run: format!("sample-{shape}-s1"),
                segment: name.to_owned(),
                step,
                tokens,
                flops: 6.0 * n * d * RATIOS[index],
                train_loss: val + 0.04 * hash(step * 13 + index as u64),
                val_loss: (step % (stride * 4) == 0 || step == to / 2048)
                    .then_some(val + 0.003 * hash(step + 3)),
                lr: 1e-2 * (1.0 - share),
                grad_norm: 0.5,
                decayed: tokens > decay_from,
                tokens_per_s: Some(1e5),
                noise: None,
                data_wait: None,
                skipped: None,
            });
        }
    };
    segment("trunk", 0, 12_000_000, 9_600_000);
    segment("3000000", 2_400_000, 3_000_000, 2_400_000);
    segment("6000000", 4_800_000, 6_000_000, 4_800_000);
    rows
}

fn completion(index: usize) -> Completion {
    let text = [
        "se the the sore ande ther an he hather, ofe the sond the wathe and thes ane s the he t",
        "ther, and the sall of the mand the was hit and ther the wore, and he sone of the sead",
        "he was not the sand of the marriage of his hand, and the stand and the court of <the> house",
        "of the street and the stranger was still the same time, and the old man was so much as to say “no” & go",
        "with a smile upon his face, and then he said, “I should think it was a good deal of the matter.”",
        "who had been waiting in the passage, and he looked at her with an expression of great surprise.",
        "before the fire in the little parlour, and she had begun to think that he would never come back to the \
         house again. “You are late,” she said, without turning her head.",
    ][index];
    Completion {
        shape: SHAPES[index].parse().unwrap(),
        prompt: "It was late in the evening when ".into(),
        text: text.into(),
    }
}

/// The laws of the points, and the paired differences.
fn fitted(points: &[Point]) -> LawDocument {
    let table = Table::from_points(points.iter().map(|p| (p, &isoflop_base::Status::Done)));
    let mut laws =
        isoflop_laws::fit(&table, &Options { bootstrap: 10, ..Options::default() }).unwrap_or_default();
    laws.paired = isoflop_laws::paired_differences(&table, &|row| {
        points.get(row.line - 1).map(|p| p.blocks.as_slice())
    });
    laws
}

fn forecasts(points: &[Point]) -> Vec<ForecastRow> {
    let small: Vec<Point> = points.iter().filter(|p| p.params < 500_000).cloned().collect();
    let targets: Vec<&Point> =
        points.iter().filter(|p| p.params > 500_000 && p.tokens == TOKENS[2]).collect();
    let asked: Vec<Target> =
        targets.iter().map(|p| Target { n: p.params as f64, d: p.tokens as f64 }).collect();
    let made = isoflop_laws::forecast(
        &Table::from_points(small.iter().map(|p| (p, &isoflop_base::Status::Done))),
        &asked,
        &Options { bootstrap: 10, ..Options::default() },
    )
    .unwrap_or_default();
    made.into_iter()
        .zip(targets)
        .map(|(mut forecast, p)| {
            forecast.outcome = Some(isoflop_laws::outcome(&forecast, p.loss));
            ForecastRow {
                name: p.shape.unwrap().to_string(),
                made_from: "the five smaller sizes".into(),
                made_at: Some("before either was trained".into()),
                forecast,
                outcome_se: Some(0.004),
            }
        })
        .collect()
}

/// The whole invented study.
pub(crate) fn input() -> ReportInput {
    let mut points: Vec<Point> = (0..7).flat_map(|i| TOKENS.map(|tokens| point(i, tokens, 1))).collect();
    points.extend(TOKENS.map(|tokens| point(1, tokens, 2)));
    let mut runs: Vec<RunRow> =
        (0..7).map(|i| run(SHAPES[i], 1, Status::Done)).chain([run(SHAPES[1], 2, Status::Done)]).collect();
    runs.push(run(SHAPES[3], 9, Status::Diverged { step: 412, segment: "trunk".into() }));
    ReportInput {
        title: "an invented study".into(),
        made_by: "isoflop 0.1.0".into(),
        date: Some("21 November 2026".into()),
        preset: Some(Preset {
            name: "standard".into(),
            why: "the largest that fits 10 minutes at the 38 GFLOP/s timed before the start".into(),
        }),
        corpus: Some(Corpus {
            name: "the built-in literature corpus".into(),
            tokenizer: "bytes".into(),
            vocab: 256,
            train_tokens: 14_000_000,
            val_tokens: 900_000,
            eval_tokens: Some(896_000),
            credit: Some("public-domain books".into()),
            sha256: Some("ab".repeat(32)),
        }),
        machine: vec![
            Fact { name: "processor".into(), value: Measured::measured("an invented CPU, 2 cores".into()) },
            Fact { name: "memory".into(), value: Measured::measured("8 GiB".into()) },
            Fact { name: "kernels".into(), value: Measured::measured("portable, f32".into()) },
            Fact { name: "power".into(), value: Measured::missing("no power meter on this machine") },
        ],
        study: serde_json::json!({"resolutions": [
            {"key": "train.lr", "value": "1e-2·√(32/d)", "reason": "the rule of the built-in series", "machine": false}
        ]}),
        study_toml: "name = \"sample\"\nkind = \"scaling\"\n\n[series]\ntokens = \"12M\"\nbranches = [\"3M\", \"6M\"]\n".into(),
        runs,
        curves: (0..7).flat_map(curve).collect(),
        laws: Some(fitted(&points)),
        forecasts: forecasts(&points),
        seed_variance: None,
        completions: (0..7).map(completion).collect(),
        claims: Vec::new(),
        learning_rate: Some(LearningRate {
            rule: "1e-2·√(32/d)".into(),
            why: "Swept ×{½, 1, 2} at three sizes; each optimum lies inside the sweep.".into(),
        }),
        ledger: (0..7)
            .map(|i| {
                let shape: ModelShape = SHAPES[i].parse().unwrap();
                let six_n = 6.0 * shape.params() as f64;
                LedgerRow { shape, exact_per_token: six_n * RATIOS[i], six_n, vocab_context: Some((256, 256)) }
            })
            .collect(),
        totals: Totals {
            flops: Measured::measured(points.iter().map(|p| p.flops).sum()),
            seconds: Measured::measured(342.0),
            energy_j: Measured::estimated(342.0 * 35.0, "35 W of processor load, from its rating"),
            peak_memory_bytes: Measured::measured(312 << 20),
        },
        points,
        notes: vec!["Every figure on this page is invented; it exists to show how a page looks.".into()],
        ..ReportInput::default()
    }
}

fn run(shape: &str, seed: u64, status: Status) -> RunRow {
    RunRow {
        run: format!("sample-{shape}-s{seed}"),
        model: shape.to_owned(),
        params: shape.parse::<ModelShape>().unwrap().params(),
        seed,
        status,
        seconds: Measured::measured(40.0),
        tokens_per_s: Measured::measured(1.2e5),
        flops_per_s: Measured::measured(38e9),
    }
}
