//! The GPT-2 of a run: its configuration, its cost per token, its engine and that engine's memory. The one place where
//! an engine is made.

use crate::error::UserError;
use crate::hf_config;
use crate::machine::{Hardware, processor};
use anyhow::Context as _;
use isoflop_base::ModelShape;
use isoflop_base::study::{GptSpec, MachineSpec, RunSpec, TrainSpec};
use isoflop_base::tensor::WeightsOnly;
use isoflop_kernels::KernelSet;
use isoflop_nn::ledger::{Convention, training_flops_per_token};
use isoflop_nn::{
    AdamWConfig, Cpu, Device, Engine as _, EngineOptions, GptConfig, LanguageModel, MemoryPlan,
};
use isoflop_store::Checkpoint;

/// Exact training FLOPs per token of a shape.
pub fn flops_per_token(shape: ModelShape, vocab: usize, context: usize) -> f64 {
    training_flops_per_token(&GptConfig::new(shape, vocab, context), Convention::Exact)
}

/// The model a specification describes.
pub fn config(gpt: &GptSpec) -> GptConfig {
    GptConfig { init: gpt.init, ..GptConfig::new(gpt.shape, gpt.vocab, gpt.context) }
}

/// Exact training FLOPs per token of a run's model.
pub fn run_flops_per_token(run: &RunSpec) -> f64 {
    training_flops_per_token(&config(run.gpt()), Convention::Exact)
}

/// The device that trains a run.
///
/// # Errors
/// A [`UserError`]: a kernel set this processor does not have, cards that are not here.
pub fn device(run: &RunSpec, machine: &MachineSpec) -> Result<Hardware, UserError> {
    if Hardware::is_cards(&machine.device) {
        return Hardware::cards(&machine.device);
    }
    let kernels = KernelSet::by_name(&run.train.kernels).map_err(UserError::from_error)?;
    Ok(Hardware::Cpu(Cpu { kernels, threads: machine.threads }))
}

/// How a run's engine runs.
pub fn options(run: &RunSpec) -> EngineOptions {
    train_options(&run.train)
}

/// How an engine under a recipe runs.
pub fn train_options(t: &TrainSpec) -> EngineOptions {
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

/// An engine with fresh weights.
///
/// # Errors
/// Kernels that cannot run here, threads that cannot be started.
pub fn engine(run: &RunSpec, machine: &MachineSpec) -> anyhow::Result<impl LanguageModel + use<>> {
    device(run, machine)?
        .make(&config(run.gpt()), &options(run), run.seed)
        .with_context(|| format!("making the engine for {}", run.model.name()))
}

/// Bytes that engine will allocate, by group, counted before it does.
///
/// # Errors
/// A [`UserError`]: sizes beyond any machine, kernels that cannot run here.
pub fn memory_plan(run: &RunSpec, machine: &MachineSpec) -> Result<MemoryPlan, UserError> {
    plan_of(&device(run, machine)?, &config(run.gpt()), &options(run))
}

/// Bytes of a checkpoint's tensors: weights in f32, and moments as the optimiser keeps them.
pub fn checkpoint_bytes(run: &RunSpec) -> u64 {
    isoflop_nn::gpt::checkpoint_bytes(&config(run.gpt()), run.train.optimizer)
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
            "{shape} with vocabulary {vocab} and {} sequences of {context} tokens needs about {least:.0e} \
             bytes of memory",
            options.micro_batch
        ))
        .hint("choose a smaller model, vocabulary, context or micro-batch"));
    }
    Ok(device.plan(config, options))
}

/// An engine holding a checkpoint's weights, for evaluation and sampling.
///
/// # Errors
/// A checkpoint of a model that is not built here, or that cannot be read.
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
