//! What the store promises, from outside: crash consistency, damage found, one writer, exact round trips.

mod checkpoints;
mod listing;
mod runs;

use isoflop_base::{
    BlockLoss, CurveRow, Measured, Point, PointKind, TensorSink,
    tensor::{Dtype, TensorGroup, TensorSpec},
};
use isoflop_store::{Checkpoint, Run, RunView, Store};
use serde_json::{Value, json};
use std::path::Path;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("runs")).unwrap();
    (dir, store)
}

fn spec() -> Value {
    json!({"model": "L2-d32-h2", "seed": 1, "train": {"lr": 0.001, "steps": 100}})
}

fn row(step: u64) -> CurveRow {
    CurveRow {
        run: "a".into(),
        segment: "trunk".into(),
        step,
        tokens: step * 2048,
        flops: step as f64 * 1e9 / 3.0,
        train_loss: 5.0 / (step as f64 + 1.0),
        val_loss: step.is_multiple_of(2).then_some(0.1 + 0.2),
        lr: 1e-3 / 7.0,
        grad_norm: 0.7,
        decayed: false,
        tokens_per_s: Some(1e5 / 3.0),
        noise: None,
        data_wait: None,
        skipped: None,
    }
}

fn point(run: &str, tokens: u64, loss: f64) -> Point {
    Point {
        run: run.into(),
        kind: PointKind::Final,
        shape: "L2-d32-h2".parse().ok(),
        params: 24_576,
        params_total: 50_000,
        tokens,
        flops: 1e12 / 3.0,
        flops_6nd: 1e12,
        loss,
        loss_se: Some(0.01),
        bits_per_byte: None,
        epochs: 0.1,
        unique_tokens: tokens,
        steps: 100,
        batch_tokens: 2048,
        lr: 1e-3,
        schedule: "wsd".into(),
        init: "scaled".into(),
        context: Some(256),
        vocab: Some(256),
        seed: 1,
        precision: "f32".into(),
        kernels: "portable".into(),
        seconds: Measured::measured(1.5),
        tokens_per_s: Measured::estimated(1e5, "mean of the run"),
        energy_j: Measured::missing("no meter"),
        peak_share: Measured::missing("no peak"),
        sources: Vec::new(),
        held_out: Vec::new(),
        arm: Default::default(),
        blocks: vec![BlockLoss { block: 3, sum: 0.1 + 0.2, tokens: 7 }],
    }
}

/// The position of a checkpoint: what a caller that can go on from any reads from it.
fn position(_: &RunView, checkpoint: &Checkpoint) -> Result<u64, String> {
    Ok(checkpoint.position())
}

fn tensor(name: &str, group: TensorGroup, dtype: Dtype, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.into(), group, dtype, shape: shape.to_vec() }
}

fn specs() -> Vec<TensorSpec> {
    vec![
        tensor("transformer.wte.weight", TensorGroup::Model, Dtype::F32, &[5, 3]),
        tensor("transformer.ln_f.bias", TensorGroup::Model, Dtype::F32, &[3]),
        tensor("exp_avg.transformer.wte.weight", TensorGroup::Optimizer, Dtype::F32, &[5, 3]),
        tensor("exp_avg_sq.q", TensorGroup::Optimizer, Dtype::U8, &[7]),
    ]
}

/// Floats whose bits depend on everything, subnormals and a signed zero among them.
fn floats(salt: u32, n: usize) -> Vec<f32> {
    (0..n as u32)
        .map(|i| match i {
            0 => -0.0,
            1 => f32::from_bits(salt + 1),
            _ => f32::from_bits((salt + i).wrapping_mul(2_654_435_761) & 0x7f7f_ffff),
        })
        .collect()
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn config() -> Value {
    json!({"model_type": "gpt2", "n_layer": 1, "n_embd": 3})
}

/// Writes a checkpoint whose tensors depend on `position`.
fn save(run: &mut Run, label: &str, position: u64, pinned: bool) {
    save_state(run, label, position, pinned, &json!({"segment": "trunk", "step": position}));
}

/// The same with a state of the caller's.
fn save_state(run: &mut Run, label: &str, position: u64, pinned: bool, state: &Value) {
    let mut writer = run.begin_checkpoint(label, position).unwrap();
    if pinned {
        writer.pin();
    }
    writer.begin(&specs()).unwrap();
    let salt = position as u32;
    let wte = le_bytes(&floats(salt, 15));
    writer.write("transformer.wte.weight", &wte[..20]).unwrap();
    writer.write("transformer.wte.weight", &wte[20..]).unwrap();
    writer.write("transformer.ln_f.bias", &le_bytes(&floats(salt + 1, 3))).unwrap();
    writer.write("exp_avg.transformer.wte.weight", &le_bytes(&floats(salt + 2, 15))).unwrap();
    writer.write("exp_avg_sq.q", &[1, 2, 3, 4, 5, 6, salt as u8]).unwrap();
    writer.counter("step", position).unwrap();
    writer.finish(state, &config()).unwrap();
}

fn flip_byte(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}
