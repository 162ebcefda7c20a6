//! Logits, loss, every gradient tensor and ten AdamW steps against PyTorch in float64, as the processor's engine is.

use crate::Emulated;
use crate::golden::{ALL, GPT2, Golden, LR, Start, distance, is_key_bias};
use isoflop_cuda::CudaGpt;
use isoflop_nn::{Device, Engine, EngineOptions, LanguageModel, Precision};

fn engine(emulated: &Emulated, golden: &Golden, precision: Precision) -> CudaGpt {
    let options = EngineOptions { micro_batch: golden.batch, precision, ..EngineOptions::default() };
    let mut engine = emulated.cards(1).make(&golden.config, &options, 1).unwrap();
    engine.load(&mut Start(golden)).unwrap();
    engine
}

fn wide(values: &[f32]) -> impl Iterator<Item = f64> + '_ {
    values.iter().map(|&x| f64::from(x))
}

#[test]
fn a_card_in_f32_is_pytorch_within_rounding() {
    let Some(emulated) = Emulated::with(1) else { return };
    for case in ALL {
        let golden = Golden::read(case);
        let mut model = engine(&emulated, &golden, Precision::F32);
        let batch = golden.tokens(0);
        let (v, t) = (golden.config.vocab, golden.config.context);
        for s in 0..golden.batch {
            let logits = model.next_token_logits(batch.inputs(s)).unwrap();
            let last = (s * t + t - 1) * v;
            let d = distance(wide(&logits), &golden.get("logits")[last..last + v]);
            assert!(d < 2e-6, "{case}: logits {d:e}");
        }
        for step in 0..10 {
            model.accumulate(&golden.tokens(step), 1.0).unwrap();
            if step == 0 {
                let gradients = model.gradients_of(0).unwrap();
                for tensor in &model.layout().tensors {
                    let found = wide(&gradients[tensor.range()]);
                    let d = distance(found, golden.get(&format!("grads.{}", tensor.name)));
                    assert!(d < 3e-6, "{case}: gradient of {}: {d:e}", tensor.name);
                }
            }
            let update = model.update(LR as f32).unwrap();
            let (loss, exact) = (update.loss, golden.get("losses")[step]);
            // PyTorch's own float32 strays by 8e-7 here.
            assert!((loss - exact).abs() < 4e-6, "{case}: loss of step {step} {loss} {exact}");
            let exact = golden.get("grad_norms")[step];
            assert!((update.grad_norm / exact - 1.0).abs() < 1e-5, "{case}: norm of step {step}");
        }
        let weights = model.weights_of(0).unwrap();
        for tensor in &model.layout().tensors {
            let exact = golden.get(&format!("final.{}", tensor.name));
            for (i, (&w, e)) in weights[tensor.range()].iter().zip(exact).enumerate() {
                let key = is_key_bias(&tensor.name, i, golden.config.shape.d_model);
                // The yardstick is how far PyTorch's own float32 strays from its float64.
                let tolerance = if key { 10.0 * LR } else { 4.0 * golden.pytorch_f32_final };
                let found = f64::from(w);
                assert!((found - e).abs() < tolerance, "{case}: {} [{i}] {found} {e}", tensor.name);
            }
        }
    }
    emulated.check();
}

#[test]
fn a_card_in_bf16_and_fp16_is_pytorch_within_the_numerics_contract() {
    let Some(emulated) = Emulated::with(1) else { return };
    for (case, precision) in GPT2.into_iter().flat_map(|c| [(c, Precision::Bf16), (c, Precision::Fp16)]) {
        let golden = Golden::read(case);
        let mut model = engine(&emulated, &golden, precision);
        model.accumulate(&golden.tokens(0), 1.0).unwrap();
        let (c, scale) = (golden.config.shape.d_model, model.loss_scale().unwrap_or(1.0));
        let gradients = model.gradients_of(0).unwrap();
        for tensor in &model.layout().tensors {
            let exact = golden.get(&format!("grads.{}", tensor.name));
            // The key biases have no true gradient: what is found there is rounding.
            let judged: Vec<usize> = (0..tensor.len).filter(|&i| !is_key_bias(&tensor.name, i, c)).collect();
            let found: Vec<f64> =
                judged.iter().map(|&i| f64::from(gradients[tensor.offset + i] / scale)).collect();
            let exact: Vec<f64> = judged.iter().map(|&i| exact[i]).collect();
            let d = distance(found.iter().copied(), &exact);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let cosine = dot(&found, &exact) / (dot(&found, &found) * dot(&exact, &exact)).sqrt();
            assert!(d < 2e-2 && cosine > 0.999, "{case} {precision:?}: {}: {d:e}, {cosine}", tensor.name);
            // It is not f32 in disguise.
            assert!(d > 1e-5 || tensor.len < 100, "{case} {precision:?}: {}: {d:e}", tensor.name);
        }
        let (loss, exact) = (model.update(LR as f32).unwrap().loss, golden.get("losses")[0]);
        assert!((loss - exact).abs() < 5e-3, "{case} {precision:?}: loss {loss} {exact}");
    }
    emulated.check();
}
