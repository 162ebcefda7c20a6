//! The seam of a family, proved with one that has no tokens: a linear softmax classifier on made-up clusters is
//! trained, interrupted, gone on with, fitted and reported by the very code that trains language models.

use isoflop_base::study::{DataSpec, ModelSpec, Role, RunSpec, TrainSpec, Warmup};
use isoflop_base::tensor::{Dtype, TensorGroup, TensorSink, TensorSource, TensorSpec};
use isoflop_base::{
    BlockLoss, Measured, Optimizer, Point, Precision, Recompute, RunDocument, ScheduleKind, Status,
};
use isoflop_lab::instruments::Meters;
use isoflop_lab::record::{RunRecorder, Silent};
use isoflop_lab::task::ahead::Ahead;
use isoflop_lab::task::{CheckpointTexts, Score, Scoring, Seen, Task};
use isoflop_lab::train::program::Program;
use isoflop_lab::train::train_loop::{Job, Outcome, train};
use isoflop_lab::{Stop, StopReason, Stopped, collect};
use isoflop_nn::engine::StepSums;
use isoflop_nn::{Engine, EngineError, Group, MemoryPlan, Outcome as Moved, SequenceLoss, Update};
use isoflop_report::{ReportInput, RunRow};
use isoflop_store::{Run, Store};
use std::ops::Range;
use std::path::Path;

/// Classes.
const K: usize = 4;
/// Samples of the held-out set.
const HELD_OUT: u64 = 256;
/// Samples of a clustering block.
const BLOCK: u64 = 32;

/// Samples `x[B, F]` with their classes `y[B]`.
#[derive(Clone, Default)]
struct Samples {
    x: Vec<f32>,
    y: Vec<usize>,
}

/// A number in [−1, 1) that is a function of its index alone.
fn noise(index: u64) -> f32 {
    let z = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Samples `first..first + count` of a stream: class i mod K, its mean at the class's own corner, noise around it.
fn samples(features: usize, first: u64, count: u64, into: &mut Samples) {
    into.x.clear();
    into.y.clear();
    for i in first..first + count {
        let class = (i % K as u64) as usize;
        into.y.push(class);
        into.x.extend((0..features as u64).map(|f| {
            let corner = noise(1_000_003 * class as u64 + f);
            corner + 1.5 * noise(i.wrapping_mul(64).wrapping_add(f + 7))
        }));
    }
}

/// Logits `x[F]·w[F, K]`, trained by gradient descent with momentum.
struct Softmax {
    features: usize,
    weight: Vec<f32>,
    moment: Vec<f32>,
    grad: Vec<f32>,
    sums: StepSums,
    steps: u64,
}

impl Softmax {
    fn new(features: usize) -> Self {
        let zeros = || vec![0.0f32; features * K];
        Self {
            features,
            weight: zeros(),
            moment: zeros(),
            grad: zeros(),
            sums: StepSums::default(),
            steps: 0,
        }
    }

    /// Probabilities and loss of one sample.
    fn forward(&self, x: &[f32], class: usize) -> ([f32; K], f64) {
        let mut p = [0.0f32; K];
        for (f, x) in x.iter().enumerate() {
            for (k, p) in p.iter_mut().enumerate() {
                *p += x * self.weight[f * K + k];
            }
        }
        let most = p.iter().copied().fold(f32::MIN, f32::max);
        p.iter_mut().for_each(|p| *p = (*p - most).exp());
        let sum: f32 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= sum);
        (p, -f64::from(p[class].ln()))
    }
}

impl Engine for Softmax {
    type Batch = Samples;

    fn accumulate(&mut self, batch: &Samples, scale: f32) -> Result<(), EngineError> {
        for (x, &class) in batch.x.chunks(self.features).zip(&batch.y) {
            let (mut p, loss) = self.forward(x, class);
            p[class] -= 1.0;
            for (f, x) in x.iter().enumerate() {
                for (k, p) in p.iter().enumerate() {
                    self.grad[f * K + k] += scale / batch.y.len() as f32 * x * p;
                }
            }
            self.sums.loss += loss;
            self.sums.tokens += 1;
        }
        Ok(())
    }

    fn reduce(&mut self, group: &mut dyn Group) -> Result<(), EngineError> {
        self.sums.join(isoflop_nn::engine::Buffer::Host(&mut self.grad), group)
    }

    fn update(&mut self, lr: f32) -> Result<Update, EngineError> {
        let sums = std::mem::take(&mut self.sums);
        let loss = sums.mean_loss()?;
        let squares: f64 = self.grad.iter().map(|g| f64::from(g * g)).sum();
        for i in 0..self.weight.len() {
            self.moment[i] = 0.9 * self.moment[i] + self.grad[i];
            self.weight[i] -= lr * self.moment[i];
            self.grad[i] = 0.0;
        }
        self.steps += 1;
        Ok(Update {
            loss,
            tokens: sums.tokens,
            grad_norm: squares.sqrt(),
            noise: None,
            outcome: Moved::Applied,
        })
    }

    fn evaluate(&mut self, batch: &Samples, each: &mut dyn FnMut(SequenceLoss)) -> Result<(), EngineError> {
        for (index, (x, &class)) in batch.x.chunks(self.features).zip(&batch.y).enumerate() {
            each(SequenceLoss { index, sum: self.forward(x, class).1, tokens: 1 });
        }
        Ok(())
    }

    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError> {
        let spec = |name: &str, group| TensorSpec {
            name: name.to_owned(),
            group,
            dtype: Dtype::F32,
            shape: vec![self.features, K],
        };
        sink.begin(&[spec("w", TensorGroup::Model), spec("m", TensorGroup::Optimizer)])?;
        for (name, values) in [("w", &self.weight), ("m", &self.moment)] {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            sink.write(name, &bytes)?;
        }
        sink.counter("step", self.steps)?;
        Ok(())
    }

    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        let shape = [self.features, K];
        source.read_f32(TensorGroup::Model, "w", &shape, &mut self.weight)?;
        source.read_f32(TensorGroup::Optimizer, "m", &shape, &mut self.moment)?;
        self.steps = source.counter("step").unwrap_or(0);
        self.grad.fill(0.0);
        Ok(())
    }

    fn memory(&self) -> MemoryPlan {
        MemoryPlan { groups: vec![("all", 12 * self.weight.len() as u64)] }
    }
}

/// Classification of the made-up samples.
struct Classes {
    spec: RunSpec,
    features: usize,
    batches: Ahead<Samples>,
    /// Asks for a stop when this step's batch is asked for.
    stop_at: Option<(u64, Stop)>,
}

impl Classes {
    fn new(spec: &RunSpec, features: usize) -> Self {
        let (batch, micro, seed) = (spec.train.batch_tokens, spec.train.micro_batch as u64, spec.seed);
        let batches = Ahead::new(move |batches: Range<u64>, buffer: &mut Vec<Samples>| {
            buffer.resize((batch / micro) as usize, Samples::default());
            for (i, part) in buffer.iter_mut().enumerate() {
                samples(features, (seed << 32) + batches.start * batch + i as u64 * micro, micro, part);
            }
            Ok(())
        })
        .unwrap();
        Self { spec: spec.clone(), features, batches, stop_at: None }
    }
}

impl Task for Classes {
    type Engine = Softmax;

    fn micro_batches(&mut self, batches: Range<u64>) -> anyhow::Result<&[Samples]> {
        if let Some((at, stop)) = &self.stop_at
            && *at == batches.start
        {
            stop.ask(StopReason::Signal(15));
        }
        self.batches.get(batches)
    }

    fn waited_s(&self) -> f64 {
        self.batches.waited_s()
    }

    fn score(&mut self, engine: &mut Softmax, which: Scoring, stop: &Stop) -> anyhow::Result<Score> {
        stop.check()?;
        let count = if which == Scoring::Point { HELD_OUT } else { HELD_OUT / 4 };
        let mut held_out = Samples::default();
        samples(self.features, 1 << 60, count, &mut held_out);
        let mut blocks: Vec<BlockLoss> = Vec::new();
        engine.evaluate(&held_out, &mut |sample| {
            let block = (sample.index as u64 / BLOCK) as u32;
            match blocks.last_mut() {
                Some(last) if last.block == block => {
                    last.sum += sample.sum;
                    last.tokens += 1;
                }
                _ => blocks.push(BlockLoss { block, sum: sample.sum, tokens: 1 }),
            }
        })?;
        let (loss, se) = isoflop_laws::clustered_mean(&blocks)?;
        Ok(Score { loss, se, samples: count, blocks })
    }

    fn seen(&self, steps: u64) -> Seen {
        let samples = self.spec.tokens_at(steps);
        let flops = (6 * self.features * K) as f64 * samples as f64;
        Seen { samples, flops, epochs: 0.0, unique: samples }
    }

    fn texts(&self) -> CheckpointTexts {
        CheckpointTexts {
            config: serde_json::json!({ "family": "softmax", "features": self.features, "classes": K }),
            others: Vec::new(),
        }
    }

    fn begin(&self, _engine: &mut Softmax) -> anyhow::Result<()> {
        Ok(())
    }
}

fn spec(features: usize) -> RunSpec {
    RunSpec {
        id: format!("classes-F{features}-s1"),
        seed: 1,
        arm: Default::default(),
        role: Role::Series,
        model: ModelSpec::Other { name: format!("softmax-{features}x{K}"), params: (features * K) as u64 },
        data: DataSpec {
            corpus: "clusters".to_owned(),
            train: None,
            val: None,
            train_tokens: 1 << 32,
            val_tokens: HELD_OUT,
            bytes_per_token: None,
            fingerprint: "made up".to_owned(),
            mix: None,
            end_of_text: None,
        },
        train: TrainSpec {
            lr: 0.05,
            batch_tokens: 16,
            branch: None,
            micro_batch: 8,
            precision: Precision::F32,
            optimizer: Optimizer::AdamW,
            schedule: ScheduleKind::Wsd,
            decay: 0.2,
            warmup: Warmup::Share(0.05),
            warmup_steps: 10,
            min_lr: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            recompute: Recompute::None,
            eval_every: 0.25,
            eval_tokens: HELD_OUT,
            curve_tokens: HELD_OUT / 4,
            init_from: None,
            kernels: "none".to_owned(),
        },
        ends: vec![50, 200],
    }
}

fn open(root: &Path, spec: &RunSpec) -> Run {
    Store::open(root).unwrap().open_run(&RunDocument::new("classes", spec)).unwrap()
}

/// Trains a run in its store from wherever it stands, stopped before `stop_at`.
fn go(root: &Path, features: usize, stop_at: Option<u64>) -> anyhow::Result<Outcome> {
    let (spec, stop) = (spec(features), Stop::never());
    let mut run = open(root, &spec);
    let mut task = Classes::new(&spec, features);
    task.stop_at = stop_at.map(|at| (at, stop.clone()));
    let (program, meters) = (Program::new(&spec), Meters::default());
    let job = Job { spec: &spec, program, checkpoint_every_s: 1e9, stop: &stop, meters };
    let mut recorder = RunRecorder { run: &mut run, world: &mut Silent };
    train(&job, &mut task, &mut Softmax::new(features), &mut recorder)
}

/// A run's points without what was measured on the way.
fn points(root: &Path, features: usize) -> Vec<Point> {
    let view = Store::open_existing(root).unwrap().read_run(&spec(features).id).unwrap();
    let mut points = view.points().unwrap();
    for p in &mut points {
        (p.seconds, p.tokens_per_s, p.energy_j) =
            (Measured::missing(""), Measured::missing(""), Measured::missing(""));
    }
    points
}

#[test]
fn a_family_without_tokens_is_trained_interrupted_and_comes_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    assert_eq!(go(&whole, 12, None).unwrap(), Outcome::Done);
    for at in [7, 45, 120, 199] {
        assert!(go(&cut, 12, Some(at)).unwrap_err().is::<Stopped>(), "stopped at {at}");
    }
    assert_eq!(go(&cut, 12, None).unwrap(), Outcome::Done);
    let expected = points(&whole, 12);
    assert_eq!(expected, points(&cut, 12));
    assert_eq!(expected.len(), 2);
    assert!(expected[1].loss < expected[0].loss && expected[0].loss < (K as f64).ln(), "{expected:?}");
    assert_eq!((expected[1].tokens, expected[1].params, expected[1].shape), (3200, 48, None));
}

#[test]
fn its_series_is_fitted_and_reported_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [4, 8, 16, 32, 64];
    for features in sizes {
        go(dir.path(), features, None).unwrap();
    }
    let collected = Store::open_existing(dir.path()).unwrap().collect().unwrap();
    assert!(collected.runs.iter().all(|run| run.status == Status::Done));
    let csv = String::from_utf8(isoflop_store::csv(&collected.points_frame())).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * sizes.len());
    let (laws, why) = collect::laws(&collected, &isoflop_laws::Options::default());
    assert!(why.is_none(), "{why:?}");
    assert!(laws.fits.iter().any(|fit| fit.form == "l_n"), "a law of loss against size");
    let rows = collected.runs.iter().map(|run| {
        let spec = RunDocument::read(run.spec()).unwrap().run;
        RunRow {
            run: run.id().to_owned(),
            model: spec.model.name(),
            params: spec.model.params(),
            seed: spec.seed,
            status: run.status.clone(),
            seconds: Measured::missing("not asked"),
            tokens_per_s: Measured::missing("not asked"),
            flops_per_s: Measured::missing("not asked"),
        }
    });
    let page = isoflop_report::render(&ReportInput {
        title: "classes".to_owned(),
        runs: rows.collect(),
        points: collected.points().map(|(point, _)| point.clone()).collect(),
        curves: collected.curves().unwrap(),
        laws: Some(laws),
        ..ReportInput::default()
    });
    assert!(
        page.contains("classes-F64-s1") && page.contains("<svg"),
        "the page shows its runs and a picture"
    );
}
