//! The loop driven by a small engine: interrupted anywhere it comes to the same end, branches do not touch the trunk,
//! divergence and damage are dealt with.

use super::program::Program;
use super::program::tests::small_run;
use super::train_loop::{Job, Outcome, train};
use crate::error::Stopped;
use crate::instruments::Meters;
use crate::record::{Event, Recorder, RunRecorder, Silent};
use crate::stop::{Stop, StopReason};
use crate::task::language::LanguageTask;
use isoflop_base::mix::{MixSpec, Origin, Passages, SourceSpec, StageSpec, StageStart};
use isoflop_base::study::{BranchBatch, RunSpec};
use isoflop_base::tensor::{Dtype, TensorGroup, TensorSink, TensorSource, TensorSpec};
use isoflop_base::{CurveRow, Measured, Point, Status};
use isoflop_base::{JunkKind, RunDocument};
use isoflop_data::{ByteTokens, Corpus, CorpusInfo, CorpusSource, TokenizerKind};
use isoflop_nn::engine::StepSums;
use isoflop_nn::{
    Engine, EngineError, Group, MemoryPlan, Outcome as Moved, SequenceLoss, TokenBatch, Update,
};
use isoflop_store::{Run, RunView, Store};
use std::path::Path;
use std::sync::Arc;

/// The text is ASCII.
const V: usize = 128;
const WEIGHT: &str = "bigram.weight";
const MOMENT: &str = "exp_avg.bigram.weight";

/// Logits of the next byte given this one, trained by SGD with momentum: a model with a state worth losing.
struct Bigram {
    weight: Vec<f32>,
    moment: Vec<f32>,
    grad: Vec<f32>,
    steps: u64,
    calls: u64,
    sums: StepSums,
    /// Raises a signal at this call of `accumulate` or `evaluate`.
    signal_at: Option<(u64, Stop)>,
    /// Returns a loss that is no number at this step.
    diverge_at: Option<u64>,
    /// Loses a device in the `update` of this step, which then has not been made.
    lose_at: Option<u64>,
    /// Makes nothing of every so manieth `update`.
    skip_every: Option<u64>,
}

impl Bigram {
    fn new() -> Self {
        let zeros = || vec![0.0f32; V * V];
        Self {
            weight: zeros(),
            moment: zeros(),
            grad: zeros(),
            steps: 0,
            calls: 0,
            sums: StepSums::default(),
            signal_at: None,
            diverge_at: None,
            lose_at: None,
            skip_every: None,
        }
    }

    fn call(&mut self) {
        self.calls += 1;
        if let Some((at, stop)) = &self.signal_at
            && *at == self.calls
        {
            stop.ask(StopReason::Signal(15));
        }
    }

    fn squares(&self) -> f64 {
        f64::from(self.grad.iter().map(|g| g * g).sum::<f32>())
    }

    /// Probabilities after `input` and the loss of `target`.
    fn forward(&self, input: u32, target: u32) -> (Vec<f32>, f64) {
        let row = &self.weight[input as usize * V..][..V];
        let exps: Vec<f32> = row.iter().map(|w| w.exp()).collect();
        let sum: f32 = exps.iter().sum();
        let p: Vec<f32> = exps.iter().map(|e| e / sum).collect();
        let loss = -f64::from(p[target as usize].ln());
        (p, loss)
    }
}

impl Engine for Bigram {
    type Batch = TokenBatch;

    fn accumulate(&mut self, batch: &TokenBatch, scale: f32) -> Result<(), EngineError> {
        self.call();
        if self.diverge_at == Some(self.steps) {
            self.sums.loss = f64::NAN;
        }
        let (mut sum, mut tokens) = (0.0, 0);
        for i in 0..batch.sequences() {
            for (&input, &target) in batch.inputs(i).iter().zip(batch.targets(i)) {
                let (mut p, loss) = self.forward(input, target);
                p[target as usize] -= 1.0;
                for (g, p) in self.grad[input as usize * V..][..V].iter_mut().zip(p) {
                    *g += scale * p;
                }
                sum += loss;
                tokens += 1;
            }
        }
        if scale < 1.0 && self.sums.tokens == 0 {
            self.sums.small_squared = Some(self.squares() / f64::from(scale).powi(2));
            self.sums.small_tokens = tokens;
        }
        self.sums.loss += sum;
        self.sums.tokens += tokens;
        Ok(())
    }

    fn reduce(&mut self, _group: &mut dyn Group) -> Result<(), EngineError> {
        Ok(())
    }

    fn update(&mut self, lr: f32) -> Result<Update, EngineError> {
        let squares = self.squares();
        let sums = std::mem::take(&mut self.sums);
        let loss = sums.mean_loss()?;
        if self.lose_at == Some(self.steps) {
            return Err(EngineError::Lost("card 1 is gone".to_owned()));
        }
        if self.skip_every.is_some_and(|every| self.calls.is_multiple_of(every)) {
            self.grad.fill(0.0);
            let (grad_norm, outcome) = (f64::INFINITY, Moved::Skipped { scale: 0.5 });
            return Ok(Update { loss, tokens: sums.tokens, grad_norm, noise: None, outcome });
        }
        for i in 0..V * V {
            self.moment[i] = 0.9 * self.moment[i] + self.grad[i];
            self.weight[i] -= lr * self.moment[i];
            self.grad[i] = 0.0;
        }
        self.steps += 1;
        let noise = sums.noise(squares);
        Ok(Update { loss, tokens: sums.tokens, grad_norm: squares.sqrt(), noise, outcome: Moved::Applied })
    }

    fn evaluate(
        &mut self,
        batch: &TokenBatch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), EngineError> {
        self.call();
        for index in 0..batch.sequences() {
            let pairs = batch.inputs(index).iter().zip(batch.targets(index));
            let sum = pairs.map(|(i, t)| self.forward(*i, *t).1).sum();
            each(SequenceLoss { index, sum, tokens: batch.inputs(index).len() as u64 });
        }
        Ok(())
    }

    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError> {
        let spec = |name: &str, group| TensorSpec {
            name: name.to_owned(),
            group,
            dtype: Dtype::F32,
            shape: vec![V, V],
        };
        sink.begin(&[spec(WEIGHT, TensorGroup::Model), spec(MOMENT, TensorGroup::Optimizer)])?;
        for (name, values) in [(WEIGHT, &self.weight), (MOMENT, &self.moment)] {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            sink.write(name, &bytes)?;
        }
        sink.counter("step", self.steps)?;
        Ok(())
    }

    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        source.read_f32(TensorGroup::Model, WEIGHT, &[V, V], &mut self.weight)?;
        source.read_f32(TensorGroup::Optimizer, MOMENT, &[V, V], &mut self.moment)?;
        self.steps = source.counter("step").unwrap_or(0);
        self.grad.fill(0.0);
        Ok(())
    }

    fn memory(&self) -> MemoryPlan {
        MemoryPlan::default()
    }
}

fn corpus() -> Corpus {
    let text =
        |n: usize, k: usize| (0..n).map(|i| b"abcdefgh "[(i * i / 7 + k * i) % 9]).collect::<Vec<u8>>();
    let (train, val) = (text(3000, 3), text(300, 5));
    let info = CorpusInfo {
        name: "t".to_owned(),
        vocab: V,
        train_tokens: train.len() as u64,
        val_tokens: val.len() as u64,
        tokenizer: TokenizerKind::Bytes,
        bytes_per_token: Some(1.0),
        sha256: "0".to_owned(),
        sha256_covers: "text".to_owned(),
        block_tokens: 64,
    };
    let boxed = |name: &str, bytes| Box::new(ByteTokens::new(name, bytes));
    Corpus { train: boxed("t", train), val: boxed("v", val), info, sources: Vec::new(), tokenizer_json: None }
}

/// A run and how often it is saved.
#[derive(Clone)]
struct Trial {
    spec: RunSpec,
    checkpoint_every_s: f64,
}

fn trial(spec: RunSpec) -> Trial {
    Trial { spec, checkpoint_every_s: 0.0 }
}

fn open(dir: &Path, trial: &Trial) -> Run {
    Store::open(dir).unwrap().open_run(&RunDocument::new("t", &trial.spec)).unwrap()
}

/// What the run is trained on.
fn corpus_of(spec: &RunSpec) -> Corpus {
    if spec.data.mix.is_none() {
        return corpus();
    }
    let sources = ["a", "b"].map(|name| CorpusSource::new(name, corpus()));
    isoflop_data::corpus::of_several(sources.into(), 0).unwrap()
}

fn go(run: &mut Run, trial: &Trial, engine: &mut Bigram, stop: &Stop) -> anyhow::Result<Outcome> {
    go_before(run, trial, engine, stop, &mut Silent)
}

fn go_before(
    run: &mut Run,
    trial: &Trial,
    engine: &mut Bigram,
    stop: &Stop,
    world: &mut dyn Recorder,
) -> anyhow::Result<Outcome> {
    let spec = &trial.spec;
    let program = Program::new(spec);
    let checkpoint_every_s = trial.checkpoint_every_s;
    let job = Job { spec, program, checkpoint_every_s, stop, meters: Meters::default() };
    let mut task = LanguageTask::new(spec, &Arc::new(corpus_of(spec)))?;
    train(&job, &mut task, engine, &mut RunRecorder { run, world })
}

/// Everything that must not depend on interruptions: no seconds, no speeds.
fn essence(view: &RunView) -> Essence {
    let unmeasured = || Measured::missing("");
    let mut points = view.points().unwrap();
    for p in &mut points {
        (p.seconds, p.tokens_per_s, p.energy_j) = (unmeasured(), unmeasured(), unmeasured());
    }
    let mut curves = view.curves().unwrap();
    for row in &mut curves {
        (row.tokens_per_s, row.data_wait) = (None, None);
    }
    let last = points.last().map(|p| format!("point-{}", p.tokens)).unwrap_or_default();
    let weights = std::fs::read(view.dir().join("checkpoints").join(last).join("model.safetensors")).unwrap();
    (points, curves, weights)
}

/// What [`essence`] returns.
type Essence = (Vec<Point>, Vec<CurveRow>, Vec<u8>);

/// A run of two branches and an end, trained without interruption.
fn whole(dir: &Path) -> (Trial, Essence, u64) {
    whole_of(dir, small_run(&[15, 30, 60]))
}

fn whole_of(dir: &Path, spec: RunSpec) -> (Trial, Essence, u64) {
    let mut trial = trial(spec);
    trial.checkpoint_every_s = 1e9;
    let mut run = open(dir, &trial);
    let mut engine = Bigram::new();
    assert_eq!(go(&mut run, &trial, &mut engine, &Stop::never()).unwrap(), Outcome::Done);
    assert_eq!(run.status().unwrap(), Status::Done);
    let essence = essence(&run);
    (trial, essence, engine.calls)
}

#[test]
fn interrupted_anywhere_it_comes_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let (trial, expected, calls) = whole(&dir.path().join("whole"));
    assert!(expected.0[2].loss < expected.0[0].loss, "it learns");
    interrupt_everywhere(dir.path(), &trial, &expected, calls);
}

#[test]
fn a_run_of_several_sources_interrupted_anywhere_comes_to_the_same_end_exact_to_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = small_run(&[15, 30, 60]);
    spec.data.mix = Some(mix());
    let (trial, expected, calls) = whole_of(&dir.path().join("whole"), spec);
    interrupt_everywhere(dir.path(), &trial, &expected, calls);
    // Weights 2:1:1 for 20 steps, then 0:1:3; whole rows of a batch and context each.
    let (batch, context) = (trial.spec.train.batch_tokens, trial.spec.gpt().context as u64);
    for (point, steps) in expected.0.iter().zip([15, 30, 60]) {
        let (first, then) = (steps.min(20) * batch, (steps.max(20) - 20) * batch);
        let due = [first / 2, first / 4 + then / 4, first / 4 + 3 * then / 4];
        assert_eq!(point.sources.iter().map(|s| s.tokens).sum::<u64>(), point.tokens);
        for (seen, due) in point.sources.iter().zip(due) {
            assert!(seen.tokens.abs_diff(due) < context, "{seen:?}, due {due}");
        }
        assert_eq!(point.unique_tokens, point.sources.iter().map(|s| s.unique_tokens).sum::<u64>());
        assert_eq!(point.epochs, point.sources[0].epochs, "of the source that is scored");
        let other = &point.held_out[..];
        assert!(other.len() == 1 && other[0].name == "b" && other[0].loss == point.loss, "the same text");
    }
}

/// Two texts and junk that is one of them again and again; the weights change at step 20.
fn mix() -> MixSpec {
    let source = |name: &str, origin| SourceSpec {
        name: name.to_owned(),
        origin,
        tag: Vec::new(),
        unique_tokens: None,
    };
    let text = || Origin::Tokens { fingerprint: "0".to_owned(), train_tokens: 3000, val_tokens: 300 };
    let passages = Some(Passages { tokens: 50, copies: None, count: 2 });
    let junk = Origin::Junk { kind: JunkKind::Repeated, of: Some(1), seed: 0, passages };
    let stage = |from_step, weights: [u64; 3]| StageSpec {
        from: StageStart::Steps(from_step),
        from_step,
        weights: weights.to_vec(),
    };
    MixSpec {
        sources: vec![source("a", text()), source("b", text()), source("again", junk)],
        stages: vec![stage(0, [2, 1, 1]), stage(20, [0, 1, 3])],
        held_out: vec![0, 1],
    }
}

/// Interrupts the run of a trial in many places, twice each, and compares what comes of it.
fn interrupt_everywhere(dir: &Path, trial: &Trial, expected: &Essence, calls: u64) {
    assert_eq!(expected.0.len(), 3);
    for at in (1..calls).step_by(13) {
        let root = dir.join(format!("at-{at}"));
        let mut run = open(&root, trial);
        // Interrupted a first time, then again a little later, then left to finish.
        for more in [at, 11] {
            let stop = Stop::never();
            let mut engine = Bigram { signal_at: Some((more, stop.clone())), ..Bigram::new() };
            match go(&mut run, trial, &mut engine, &stop) {
                Err(e) => {
                    assert_eq!(e.downcast_ref::<Stopped>(), Some(&Stopped(StopReason::Signal(15))), "{e:#}")
                }
                Ok(outcome) => assert_eq!(outcome, Outcome::Done),
            }
            drop(run);
            run = open(&root, trial);
            if run.status().unwrap() == Status::Done {
                break;
            }
        }
        if run.status().unwrap() != Status::Done {
            go(&mut run, trial, &mut Bigram::new(), &Stop::never()).unwrap();
        }
        assert!(essence(&run) == *expected, "interrupted at call {at}");
    }
}

#[test]
fn noise_pairs_between_two_rows_survive_an_interruption_and_a_return_to_the_fork() {
    let dir = tempfile::tempdir().unwrap();
    // 600 steps have a row every third: pairs wait for it.
    let mut trial = trial(small_run(&[151, 600]));
    trial.checkpoint_every_s = 1e9;
    let mut run = open(&dir.path().join("whole"), &trial);
    let mut engine = Bigram::new();
    go(&mut run, &trial, &mut engine, &Stop::never()).unwrap();
    let (expected, calls) = (essence(&run), engine.calls);
    let pairs: Vec<u64> = expected.1.iter().filter_map(|row| row.noise.map(|n| n.pairs)).collect();
    assert!(pairs.iter().filter(|&&n| n == 3).count() > 150, "{pairs:?}");
    assert!(expected.1.iter().flat_map(|row| row.noise).all(|n| n.small_tokens == 8 && n.big_tokens == 16));
    // The path to the last point: the trunk and its own decay.
    let rows = expected.1.iter().filter(|row| ["trunk", "9600"].contains(&row.segment.as_str()));
    assert_eq!(rows.flat_map(|row| row.noise).map(|n| n.pairs).sum::<u64>(), 600, "one a step, none lost");
    for at in (calls / 7..calls).step_by(calls as usize / 3) {
        let root = dir.path().join(format!("at-{at}"));
        let mut run = open(&root, &trial);
        let stop = Stop::never();
        let mut engine = Bigram { signal_at: Some((at, stop.clone())), ..Bigram::new() };
        go(&mut run, &trial, &mut engine, &stop).unwrap_err();
        go(&mut run, &trial, &mut Bigram::new(), &Stop::never()).unwrap();
        assert!(essence(&run) == expected, "interrupted at call {at}");
    }
}

#[test]
fn branches_leave_the_trunk_as_if_they_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let (_, (points, _, weights), _) = whole(&dir.path().join("with"));
    let alone = trial(small_run(&[60]));
    let mut run = open(&dir.path().join("without"), &alone);
    go(&mut run, &alone, &mut Bigram::new(), &Stop::never()).unwrap();
    let (points_alone, _, weights_alone) = essence(&run);
    assert_eq!(points.last().unwrap().blocks, points_alone[0].blocks);
    assert_eq!(weights, weights_alone);
}

#[test]
fn branches_with_a_larger_batch_leave_the_same_trunk_bit_for_bit_wherever_they_are_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, expected, _) = whole(&dir.path().join("plain"));
    let mut spec = small_run(&[15, 30, 60]);
    // Branches of 3, 6 and 12 batches: of one step, of two, of three.
    spec.train.branch = Some(BranchBatch { batches: 4, rate: 2.0 });
    let (trial, found, calls) = whole_of(&dir.path().join("larger"), spec);
    let trunk = |e: &Essence| e.1.iter().filter(|row| row.segment == "trunk").cloned().collect::<Vec<_>>();
    assert_eq!(trunk(&found), trunk(&expected));
    let fork = |name: &str, trial: &Trial| {
        let run = open(&dir.path().join(name), trial);
        std::fs::read(run.dir().join("checkpoints/fork-960/model.safetensors")).unwrap()
    };
    assert_eq!(fork("larger", &trial), fork("plain", &plain));
    for (point, plain) in found.0.iter().zip(&expected.0) {
        assert_eq!((point.tokens, point.steps, point.flops), (plain.tokens, plain.steps, plain.flops));
        assert_ne!(point.loss, plain.loss);
    }
    let decayed =
        |e: &Essence| e.1.iter().filter(|row| row.segment == "960").map(|row| row.step).collect::<Vec<_>>();
    assert_eq!(decayed(&found), [52, 56, 60]);
    interrupt_everywhere(dir.path(), &trial, &found, calls);
}

#[test]
fn a_finished_run_goes_on_to_a_longer_point_and_has_the_same_points_as_if_all_had_been_asked_for_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut long = trial(small_run(&[15, 30, 60]));
    let short = trial(small_run(&[15, 30]));
    // The trunk's warm-up is that of the run's beginning.
    long.spec.train.warmup_steps = short.spec.train.warmup_steps;
    let mut run = open(&dir.path().join("at-once"), &long);
    go(&mut run, &long, &mut Bigram::new(), &Stop::never()).unwrap();
    let (at_once, _, weights) = essence(&run);
    let mut run = open(&dir.path().join("extended"), &short);
    let mut engine = Bigram::new();
    go(&mut run, &short, &mut engine, &Stop::never()).unwrap();
    let calls_short = engine.calls;
    drop(run);
    let mut run = open(&dir.path().join("extended"), &long);
    let mut engine = Bigram::new();
    go(&mut run, &long, &mut engine, &Stop::never()).unwrap();
    let (extended, _, extended_weights) = essence(&run);
    assert_eq!(extended_weights, weights);
    for (a, b) in extended.iter().zip(&at_once) {
        assert_eq!((a.steps, a.loss, &a.blocks), (b.steps, b.loss, &b.blocks));
    }
    assert_eq!(extended.len(), 3);
    assert!(engine.calls < calls_short + 2 * (60 - 24) + 60, "only the rest was trained: {}", engine.calls);
}

#[test]
fn a_point_between_finished_ones_is_trained_from_the_start_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (few, more) = (trial(small_run(&[15, 60])), trial(small_run(&[15, 30, 60])));
    let mut run = open(dir.path(), &few);
    go(&mut run, &few, &mut Bigram::new(), &Stop::never()).unwrap();
    let (before, ..) = essence(&run);
    drop(run);
    let mut run = open(dir.path(), &more);
    go(&mut run, &more, &mut Bigram::new(), &Stop::never()).unwrap();
    let (after, ..) = essence(&run);
    assert_eq!(after.len(), 3);
    assert_eq!((before[0].loss, before[1].loss), (after[0].loss, after[2].loss));
}

#[test]
fn a_limit_is_recorded_as_the_runs_status_and_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let trial = trial(small_run(&[15, 60]));
    let mut run = open(dir.path(), &trial);
    let stop = Stop::never();
    stop.ask(StopReason::Limit("3 kWh of 3 kWh".to_owned()));
    let error = go(&mut run, &trial, &mut Bigram::new(), &stop).unwrap_err();
    assert!(error.is::<Stopped>(), "{error:#}");
    let Status::Stopped { reason } = run.status().unwrap() else { panic!("{:?}", run.status()) };
    assert!(reason.contains("3 kWh of 3 kWh"), "{reason}");
    assert_eq!(go(&mut run, &trial, &mut Bigram::new(), &Stop::never()).unwrap(), Outcome::Done);
    assert_eq!(run.status().unwrap(), Status::Done);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_finished() {
    let dir = tempfile::tempdir().unwrap();
    let trial = trial(small_run(&[15, 60]));
    let mut run = open(dir.path(), &trial);
    let mut engine = Bigram { diverge_at: Some(40), ..Bigram::new() };
    assert_eq!(go(&mut run, &trial, &mut engine, &Stop::never()).unwrap(), Outcome::Diverged);
    assert_eq!(run.status().unwrap(), Status::Diverged { step: 40, segment: "trunk".to_owned() });
    assert_eq!(run.points().unwrap().len(), 1);
    assert!(run.curves().unwrap().iter().all(|row| row.train_loss.is_finite()));
}

/// The notes a run was given.
#[derive(Default)]
struct Notes(Vec<String>);

impl Recorder for Notes {
    fn record(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        if let Event::Note(words) = event {
            self.0.push((*words).to_owned());
        }
        Ok(())
    }
}

#[test]
fn a_lost_device_saves_what_is_left_and_the_same_command_comes_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let (mut trial, expected, _) = whole(&dir.path().join("whole"));
    // No checkpoint between the last fork and the loss: what is gone on from is what was saved then.
    trial.checkpoint_every_s = 1e9;
    let mut run = open(&dir.path().join("lost"), &trial);
    let mut notes = Notes::default();
    let mut engine = Bigram { lose_at: Some(20), ..Bigram::new() };
    let error = go_before(&mut run, &trial, &mut engine, &Stop::never(), &mut notes).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EngineError::Lost(_))), "{error:#}");
    assert!(notes.0.iter().any(|words| words.contains("saved at step 20")), "{:?}", notes.0);
    let mut engine = Bigram::new();
    go(&mut run, &trial, &mut engine, &Stop::never()).unwrap();
    assert!(essence(&run) == expected);
}

#[test]
fn skipped_steps_are_told_counted_and_consume_their_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = small_run(&[60]);
    spec.train.precision = isoflop_base::Precision::Fp16;
    let trial = trial(spec);
    let mut run = open(dir.path(), &trial);
    let mut notes = Notes::default();
    let mut engine = Bigram { skip_every: Some(7), ..Bigram::new() };
    let outcome = go_before(&mut run, &trial, &mut engine, &Stop::never(), &mut notes).unwrap();
    assert_eq!(outcome, Outcome::Done);
    let told = notes.0.iter().filter(|words| words.contains("was skipped") && words.contains("0.5")).count();
    assert!(told > 3, "{:?}", notes.0);
    let label = &run.checkpoints().unwrap().complete[0].label;
    let state = run.open_checkpoint(label).unwrap().state().clone();
    assert_eq!(state["skipped"].as_u64(), Some(told as u64));
    assert_eq!(engine.steps, 60 - told as u64, "the optimiser's step counts those that were made");
    let rows = run.curves().unwrap();
    assert!(rows.iter().all(|row| row.grad_norm.is_finite()));
    assert_eq!(rows.last().unwrap().skipped, Some(told as u64), "rows count them");
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (trial, expected, calls) = whole(&dir.path().join("whole"));
    let root = dir.path().join("damaged");
    let mut run = open(&root, &trial);
    let stop = Stop::never();
    let mut engine = Bigram { signal_at: Some((calls / 2, stop.clone())), ..Bigram::new() };
    go(&mut run, &trial, &mut engine, &stop).unwrap_err();
    let newest = run.checkpoints().unwrap().complete[0].clone();
    let file = newest.dir.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    go(&mut run, &trial, &mut Bigram::new(), &Stop::never()).unwrap();
    assert!(essence(&run) == expected);
}
