//! From a resolved study to engines, and from engines to finished runs: the one place where an engine is made.

use crate::error::{Stopped, UserError};
use crate::hf_config;
use crate::record::{Event, Recorder, RunRecorder};
use crate::stop::Stop;
use crate::study::resolve::Machine;
use crate::train::job::Job;
use crate::train::train_loop::{Outcome, train};
use anyhow::Context as _;
use isoflop_base::study::{RunSpec, Study};
use isoflop_base::tensor::WeightsOnly;
use isoflop_base::{ModelShape, Status};
use isoflop_data::Corpus;
use isoflop_kernels::KernelSet;
use isoflop_nn::ledger::{Convention, training_flops_per_token};
use isoflop_nn::{
    AdamWConfig, Cpu, Device, Engine as _, EngineOptions, GptConfig, Init, LanguageModel, MemoryPlan,
    Precision,
};
use isoflop_store::{Checkpoint, Store, StoreError};

/// Names the kernel set to use instead of the fastest one the machine has.
const KERNELS_VARIABLE: &str = "ISOFLOP_KERNELS";

/// The kernel set of this process: the one `ISOFLOP_KERNELS` names, else the fastest.
pub fn kernel_set() -> Result<KernelSet, UserError> {
    match std::env::var(KERNELS_VARIABLE) {
        Ok(name) if !name.is_empty() => KernelSet::by_name(&name).map_err(UserError::from_error),
        _ => Ok(KernelSet::detect()),
    }
}

/// The processor with every core this process may use.
pub fn processor() -> Result<Cpu, UserError> {
    let usable = isoflop_meter::System::real().cpu().usable.value().copied();
    Ok(Cpu { kernels: kernel_set()?, threads: usable.unwrap_or(1).max(1) })
}

/// What this machine offers a study.
pub fn machine() -> Result<Machine, UserError> {
    let cpu = processor()?;
    let facts = cpu.facts();
    Ok(Machine {
        kernels: facts.kernels.to_owned(),
        threads: cpu.threads,
        bf16: facts.precisions.contains(&Precision::Bf16),
    })
}

/// The device that trains a study's models.
pub fn device(study: &Study) -> anyhow::Result<Cpu> {
    let kernels = KernelSet::by_name(&study.train.kernels).map_err(UserError::from_error)?;
    Ok(Cpu { kernels, threads: study.train.threads })
}

/// Exact training FLOPs per token of a shape.
pub fn flops_per_token(shape: ModelShape, vocab: usize, context: usize) -> f64 {
    let config = GptConfig { shape, vocab, context, init: Init::Scaled };
    training_flops_per_token(&config, Convention::Exact)
}

/// The model of a shape in a study.
pub fn model_config(study: &Study, shape: ModelShape) -> GptConfig {
    GptConfig { shape, vocab: study.data.vocab, context: study.train.context, init: study.train.init }
}

/// How the study's engines run.
pub fn options(study: &Study) -> EngineOptions {
    let t = &study.train;
    EngineOptions {
        precision: t.precision,
        micro_batch: t.micro_batch,
        recompute: t.recompute,
        optimizer: t.optimizer,
        adamw: AdamWConfig {
            beta1: t.beta1,
            beta2: t.beta2,
            eps: t.eps,
            weight_decay: t.weight_decay,
            clip: t.clip,
        },
    }
}

/// An engine with fresh weights for a model of the study.
pub fn engine(study: &Study, shape: ModelShape, seed: u64) -> anyhow::Result<impl LanguageModel + use<>> {
    device(study)?
        .make(&model_config(study, shape), &options(study), seed)
        .with_context(|| format!("making the engine for {shape}"))
}

/// Bytes that engine will allocate, by group, counted before it does.
pub fn memory_plan(study: &Study, shape: ModelShape) -> anyhow::Result<MemoryPlan> {
    Ok(plan_of(&device(study)?, &model_config(study, shape), &options(study))?)
}

/// No machine has as many bytes; a thousand times less than where the exact count would overflow.
const NO_MACHINE_HAS: f64 = 1e15;

/// The memory plan of an engine, unless its sizes are beyond any machine.
pub fn plan_of(
    device: &impl Device<GptConfig>,
    config: &GptConfig,
    options: &EngineOptions,
) -> Result<MemoryPlan, UserError> {
    let GptConfig { shape, vocab, context, .. } = *config;
    let (l, d, v) = (shape.n_layer as f64, shape.d_model as f64, vocab as f64);
    let tokens = options.micro_batch as f64 * context as f64;
    let least = 16.0 * (12.0 * l * d * d + (v + context as f64) * d) + 4.0 * tokens * (l * d + v);
    if least > NO_MACHINE_HAS {
        return Err(UserError::new(format!(
            "{shape} with vocabulary {vocab} and {} sequences of {context} tokens needs about {least:.0e} bytes of memory",
            options.micro_batch
        ))
        .hint("choose a smaller model, vocabulary, context or micro-batch"));
    }
    Ok(device.plan(config, options))
}

/// All of them together.
pub fn planned_bytes(study: &Study, shape: ModelShape) -> anyhow::Result<u64> {
    Ok(memory_plan(study, shape)?.total())
}

/// An engine holding a checkpoint's weights, for evaluation and sampling.
pub fn engine_of(
    checkpoint: &mut Checkpoint,
    sequences: usize,
) -> anyhow::Result<(impl LanguageModel + use<>, GptConfig)> {
    let config = hf_config::from_checkpoint(checkpoint)?;
    let options = EngineOptions { micro_batch: sequences, ..EngineOptions::default() };
    let mut engine = processor()?.make(&config, &options, 0)?;
    let place = checkpoint.dir().display().to_string();
    engine.load(&mut WeightsOnly(checkpoint)).with_context(|| format!("loading {place}"))?;
    Ok((engine, config))
}

/// Trains a run in the store to its end, from wherever it stands. A run that is finished is left alone.
pub fn execute(
    store: &Store,
    study: &Study,
    spec: &RunSpec,
    corpus: &Corpus,
    stop: &Stop,
    world: &mut dyn Recorder,
) -> anyhow::Result<Outcome> {
    stop.check()?;
    let mut run = store.create_or_open_run(&spec.id, &study.run_document(spec)).map_err(|e| match e {
        StoreError::SpecMismatch { .. } => anyhow::Error::from(UserError::from_error(e)),
        e => e.into(),
    })?;
    match run.status()? {
        Status::Done => {
            world.record(&Event::RunLeft(&spec.id))?;
            return Ok(Outcome::Done);
        }
        Status::Diverged { .. } => {
            world.note(&format!("{}: diverged before; left as it is", spec.id))?;
            world.record(&Event::RunLeft(&spec.id))?;
            return Ok(Outcome::Diverged);
        }
        Status::Running | Status::Failed { .. } => run.set_status(Status::Running)?,
    }
    let flops = flops_per_token(spec.shape, study.data.vocab, study.train.context);
    let job = Job::new(study, spec, model_config(study, spec.shape), flops, corpus, stop)?;
    let mut engine = engine(study, spec.shape, spec.seed)?;
    let trained = train(&job, &mut engine, &mut RunRecorder { run: &mut run, world });
    if let Err(error) = &trained
        && !error.is::<Stopped>()
    {
        // The error itself is what the user must see; a store that cannot even note it changes nothing about that.
        let _ = run.set_status(Status::Failed { reason: format!("{error:#}") });
    }
    world.record(&Event::RunEnds)?;
    trained.with_context(|| format!("training {}", spec.id))
}
