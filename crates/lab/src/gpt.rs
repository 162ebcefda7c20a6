//! The GPT-2 of a run: its configuration, its cost per token, its engine and that engine's memory. The one place where
//! an engine is made.

use crate::error::UserError;
use crate::hf_config;
use crate::machine::{kernel_set, machine};
use anyhow::Context as _;
use isoflop_base::ModelShape;
use isoflop_base::study::{GptSpec, MachineSpec, RunSpec};
use isoflop_kernels::KernelSet;
use isoflop_nn::ledger::{Convention, training_flops_per_token};
use isoflop_nn::{
    AdamWConfig, CpuGpt, Engine as _, EngineOptions, GptConfig, Init, MemoryPlan, Optimizer, Precision,
    Recompute,
};
use isoflop_store::Checkpoint;

/// Exact training FLOPs per token of a shape.
pub fn flops_per_token(shape: ModelShape, vocab: usize, context: usize) -> f64 {
    training_flops_per_token(&GptConfig { shape, vocab, context, init: Init::Scaled }, Convention::Exact)
}

/// The model a specification describes.
pub fn config(gpt: &GptSpec) -> GptConfig {
    GptConfig { shape: gpt.shape, vocab: gpt.vocab, context: gpt.context, init: gpt.init }
}

/// Exact training FLOPs per token of a run's model.
pub fn run_flops_per_token(run: &RunSpec) -> f64 {
    training_flops_per_token(&config(run.gpt()), Convention::Exact)
}

fn adamw(run: &RunSpec) -> AdamWConfig {
    let t = &run.train;
    AdamWConfig { beta1: t.beta1, beta2: t.beta2, eps: t.eps, weight_decay: t.weight_decay, clip: t.clip }
}

/// How a run's engine runs.
///
/// # Errors
/// A [`UserError`]: a kernel set this processor does not have.
pub fn options(run: &RunSpec, machine: &MachineSpec) -> Result<EngineOptions, UserError> {
    let t = &run.train;
    Ok(EngineOptions {
        precision: t.precision,
        kernels: KernelSet::by_name(&t.kernels).map_err(UserError::from_error)?,
        threads: machine.threads,
        micro_batch: t.micro_batch,
        seed: run.seed,
        recompute: t.recompute,
        optimizer: t.optimizer,
    })
}

/// An engine with fresh weights.
///
/// # Errors
/// Kernels that cannot run here, threads that cannot be started.
pub fn engine(run: &RunSpec, machine: &MachineSpec) -> anyhow::Result<CpuGpt> {
    CpuGpt::new(&config(run.gpt()), &adamw(run), &options(run, machine)?)
        .with_context(|| format!("making the engine for {}", run.model.name()))
}

/// Bytes that engine will allocate, by group, counted before it does.
///
/// # Errors
/// A [`UserError`]: sizes beyond any machine, kernels that cannot run here.
pub fn memory_plan(run: &RunSpec, machine: &MachineSpec) -> Result<MemoryPlan, UserError> {
    plan_of(&config(run.gpt()), &options(run, machine)?)
}

/// Bytes of a checkpoint's tensors: weights in f32, and moments as the optimiser keeps them.
pub fn checkpoint_bytes(run: &RunSpec) -> u64 {
    let params = run.model.params_total();
    match run.train.optimizer {
        Optimizer::AdamW => 12 * params,
        // A byte a moment, and a scale per block of 256.
        Optimizer::AdamW8bit => 4 * params + 2 * params + 8 * params.div_ceil(256),
    }
}

/// No machine has as many bytes; a thousand times less than where the exact count would overflow.
const NO_MACHINE_HAS: f64 = 1e15;

/// The memory plan of an engine, unless its sizes are beyond any machine.
pub fn plan_of(config: &GptConfig, options: &EngineOptions) -> Result<MemoryPlan, UserError> {
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
    Ok(CpuGpt::plan(config, options))
}

/// An engine holding a checkpoint's weights, for evaluation and sampling.
pub fn engine_of(checkpoint: &mut Checkpoint, sequences: usize) -> anyhow::Result<(CpuGpt, GptConfig)> {
    let config = hf_config::from_checkpoint(checkpoint)?;
    let options = EngineOptions {
        precision: Precision::F32,
        kernels: kernel_set()?,
        threads: machine()?.threads,
        micro_batch: sequences,
        seed: 0,
        recompute: Recompute::None,
        // Moments are not needed here, but are read with the rest.
        optimizer: CpuGpt::saved_optimizer(&config, checkpoint).unwrap_or(Optimizer::AdamW),
    };
    let adamw = AdamWConfig { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.0, clip: 1.0 };
    let mut engine = CpuGpt::new(&config, &adamw, &options)?;
    engine.load(checkpoint).with_context(|| format!("loading {}", checkpoint.dir().display()))?;
    Ok((engine, config))
}
