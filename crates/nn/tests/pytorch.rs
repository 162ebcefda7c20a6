//! Logits, loss, every gradient tensor and ten AdamW steps against PyTorch in float64.
//!
//! The goldens are made by `fixtures/make_gpt2.py`; `fixtures/README.md` beside them says what they hold.

mod golden;

use golden::{ALL, GPT2, Golden, LR, Start, distance, is_key_bias};
use isoflop_nn::reference::Reference;
use isoflop_nn::{
    AdamWConfig, Cpu, CpuGpt, Device, Engine, EngineOptions, KernelSet, LanguageModel, Precision,
};

#[test]
fn the_reference_in_f64_is_pytorch_in_float64() {
    for case in ALL {
        let golden = Golden::read(case);
        let mut model = Reference::new(&golden.config, golden.start());
        let batch = golden.tokens(0);
        let logits = (0..golden.batch).flat_map(|s| model.logits(batch.inputs(s)));
        assert!(distance(logits, golden.get("logits")) < 1e-12, "{case}: logits");
        for step in 0..10 {
            let loss = model.loss_and_gradient(&golden.tokens(step));
            assert!((loss - golden.get("losses")[step]).abs() < 1e-10, "{case}: loss of step {step}");
            if step == 0 {
                for tensor in &model.layout().tensors {
                    let found = model.gradients[tensor.range()].iter().copied();
                    let d = distance(found, golden.get(&format!("grads.{}", tensor.name)));
                    assert!(d < 1e-10, "{case}: gradient of {}: {d:e}", tensor.name);
                }
            }
            let norm = model.update(&AdamWConfig::default(), LR);
            assert!((norm - golden.get("grad_norms")[step]).abs() < 1e-9, "{case}: norm of step {step}");
        }
        for tensor in &model.layout().tensors {
            let exact = golden.get(&format!("final.{}", tensor.name));
            for (i, (w, e)) in model.weights[tensor.range()].iter().zip(exact).enumerate() {
                let tolerance =
                    if is_key_bias(&tensor.name, i, golden.config.shape.d_model) { 10.0 * LR } else { 2e-7 };
                assert!((w - e).abs() < tolerance * (1.0 + e.abs()), "{case}: {} [{i}] {w} {e}", tensor.name);
            }
        }
    }
}

fn engine(golden: &Golden, set: KernelSet, threads: usize, precision: Precision) -> CpuGpt {
    let micro_batch = golden.batch;
    let options = EngineOptions { micro_batch, precision, ..EngineOptions::default() };
    let mut engine = Cpu { kernels: set, threads }.make(&golden.config, &options, 1).unwrap();
    engine.load(&mut Start(golden)).unwrap();
    engine
}

#[test]
fn the_engine_in_f32_is_pytorch_within_rounding() {
    for case in ALL {
        let golden = Golden::read(case);
        for set in KernelSet::runnable() {
            let mut model = engine(&golden, set, 2, Precision::F32);
            let batch = golden.tokens(0);
            let (v, t) = (golden.config.vocab, golden.config.context);
            for s in 0..golden.batch {
                let logits = model.next_token_logits(batch.inputs(s)).unwrap();
                let last = (s * t + t - 1) * v;
                let d = distance(logits.iter().map(|&x| f64::from(x)), &golden.get("logits")[last..last + v]);
                assert!(d < 2e-6, "{case} {set:?}: logits {d:e}");
            }
            for step in 0..10 {
                model.accumulate(&golden.tokens(step), 1.0).unwrap();
                if step == 0 {
                    for tensor in &model.weights().0.tensors {
                        let found = model.gradients()[tensor.range()].iter().map(|&x| f64::from(x));
                        let d = distance(found, golden.get(&format!("grads.{}", tensor.name)));
                        assert!(d < 3e-6, "{case} {set:?}: gradient of {}: {d:e}", tensor.name);
                    }
                }
                let update = model.update(LR as f32).unwrap();
                let (loss, exact) = (update.loss, golden.get("losses")[step]);
                // PyTorch's own float32 strays by 8e-7 here.
                assert!((loss - exact).abs() < 4e-6, "{case} {set:?}: loss of step {step} {loss} {exact}");
                let exact = golden.get("grad_norms")[step];
                assert!((update.grad_norm / exact - 1.0).abs() < 1e-5, "{case} {set:?}: norm of step {step}");
            }
            let (layout, weights) = model.weights();
            for tensor in &layout.tensors {
                let exact = golden.get(&format!("final.{}", tensor.name));
                for (i, (&w, e)) in weights[tensor.range()].iter().zip(exact).enumerate() {
                    let key = is_key_bias(&tensor.name, i, golden.config.shape.d_model);
                    // AdamW divides by the gradient's own size, so where that is near zero rounding shows. The
                    // yardstick is how far PyTorch's own float32 strays from its float64.
                    let tolerance = if key { 10.0 * LR } else { 4.0 * golden.pytorch_f32_final };
                    let found = f64::from(w);
                    assert!(
                        (found - e).abs() < tolerance,
                        "{case} {set:?}: {} [{i}] {found} {e}",
                        tensor.name
                    );
                }
            }
        }
    }
}

/// Operands of products rounded to 8 bits of mantissa, everything else in f32: each gradient within 2 % of PyTorch's
/// float64, and in its direction.
#[test]
fn the_engine_in_bf16_is_pytorch_within_the_numerics_contract() {
    for case in GPT2 {
        let golden = Golden::read(case);
        for set in KernelSet::runnable() {
            let mut model = engine(&golden, set, 2, Precision::Bf16);
            model.accumulate(&golden.tokens(0), 1.0).unwrap();
            let c = golden.config.shape.d_model;
            for tensor in &model.weights().0.tensors {
                let exact = golden.get(&format!("grads.{}", tensor.name));
                // The key biases have no true gradient: what is found there is rounding.
                let judged = |i: &usize| !is_key_bias(&tensor.name, *i, c);
                let found = &model.gradients()[tensor.range()];
                let found: Vec<f64> = (0..found.len()).filter(judged).map(|i| f64::from(found[i])).collect();
                let exact: Vec<f64> = (0..exact.len()).filter(judged).map(|i| exact[i]).collect();
                let d = distance(found.iter().copied(), &exact);
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let cosine = dot(&found, &exact) / (dot(&found, &found) * dot(&exact, &exact)).sqrt();
                assert!(
                    d < 2e-2 && cosine > 0.999,
                    "{case} {set:?}: {}: {d:e}, cosine {cosine}",
                    tensor.name
                );
                // It is not f32 in disguise.
                assert!(d > 1e-5 || tensor.len < 100, "{case} {set:?}: {}: {d:e}", tensor.name);
            }
            let (loss, exact) = (model.update(LR as f32).unwrap().loss, golden.get("losses")[0]);
            assert!((loss - exact).abs() < 5e-3, "{case} {set:?}: loss {loss} {exact}");
        }
    }
}

#[test]
fn evaluation_gives_the_loss_of_training() {
    let golden = Golden::read(GPT2[1]);
    for set in KernelSet::runnable() {
        let mut model = engine(&golden, set, 1, Precision::F32);
        let batch = golden.tokens(0);
        let (mut sum, mut tokens) = (0.0, 0);
        model
            .evaluate(&batch, &mut |loss| {
                sum += loss.sum;
                tokens += loss.tokens;
            })
            .unwrap();
        assert!((sum / tokens as f64 - golden.get("losses")[0]).abs() < 4e-6);
        assert!(model.gradients().iter().all(|&g| g == 0.0), "evaluation leaves gradients alone");
    }
}
