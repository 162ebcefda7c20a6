//! Logits, loss, every gradient tensor and ten AdamW steps against PyTorch in float64.
//!
//! The goldens are made by `fixtures/make_gpt2.py`; `fixtures/README.md` beside them says what they hold.

use isoflop_nn::layout::Layout;
use isoflop_nn::reference::Reference;
use isoflop_nn::{
    Activation, AdamWConfig, Cpu, CpuGpt, Device, Engine, EngineOptions, GptConfig, Init, KernelSet,
    LanguageModel, Precision, TokenBatch, Variant,
};
use std::collections::HashMap;

const GPT2: [&str; 3] = ["gpt2_l2_d16_h2", "gpt2_l3_d24_h3", "gpt2_l1_d48_h3"];
/// GPT-2 itself, and what checkpoints of other trainers make of it.
const ALL: [&str; 5] = [GPT2[0], GPT2[1], GPT2[2], "variant_gelu_narrow", "variant_relu_wide"];
const LR: f64 = 3e-3;

struct Golden {
    config: GptConfig,
    batch: usize,
    /// How far PyTorch's float32 strays from these figures in the worst final weight, key biases apart.
    pytorch_f32_final: f64,
    tensors: HashMap<String, Vec<f64>>,
}

impl Golden {
    fn read(case: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
        let text = std::fs::read_to_string(format!("{folder}{case}.json")).unwrap();
        let meta: serde_json::Value = serde_json::from_str(&text).unwrap();
        let number = |key: &str| meta["case"][key].as_u64().unwrap() as usize;
        let shape = format!("L{}-d{}-h{}", number("layers"), number("width"), number("heads"));
        let config = GptConfig {
            shape: shape.parse().unwrap(),
            vocab: number("vocab"),
            context: number("context"),
            init: Init::Gpt2,
            variant: variant(&meta["case"]["variant"]),
        };
        let bytes = std::fs::read(format!("{folder}{case}.safetensors")).unwrap();
        let pytorch_f32_final = meta["pytorch_f32"]["worst_final_difference"].as_f64().unwrap();
        Self { config, batch: number("batch"), pytorch_f32_final, tensors: parse(&bytes) }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.tensors[name]
    }

    fn start(&self) -> Vec<f64> {
        let layout = Layout::new(&self.config);
        let mut weights = vec![0.0; layout.len];
        for tensor in &layout.tensors {
            weights[tensor.range()].copy_from_slice(self.get(&format!("weights.{}", tensor.name)));
        }
        weights
    }

    fn tokens(&self, step: usize) -> TokenBatch {
        let n = self.batch * (self.config.context + 1);
        let tokens = self.get("tokens")[step * n..(step + 1) * n].iter().map(|&t| t as u32).collect();
        TokenBatch::new(tokens, self.batch, self.config.context)
    }
}

/// In what a case differs from GPT-2.
fn variant(says: &serde_json::Value) -> Variant {
    let plain = Variant::default();
    Variant {
        activation: match says["activation"].as_str() {
            Some("gelu") => Activation::Gelu,
            Some("relu") => Activation::Relu,
            _ => plain.activation,
        },
        inner: says["inner"].as_u64().map(|inner| inner as usize),
        norm_epsilon: says["norm_epsilon"].as_f64().unwrap_or(plain.norm_epsilon),
        scaled_scores: says["scaled_scores"].as_bool().unwrap_or(plain.scaled_scores),
        scores_by_layer: says["scores_by_layer"].as_bool().unwrap_or(plain.scores_by_layer),
        tied: says["tied"].as_bool().unwrap_or(plain.tied),
    }
}

/// All tensors of a safetensors file, widened to f64.
fn parse(bytes: &[u8]) -> HashMap<String, Vec<f64>> {
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let data = &bytes[8 + header_len..];
    let mut tensors = HashMap::new();
    for (name, entry) in header.as_object().unwrap() {
        if name == "__metadata__" {
            continue;
        }
        let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
        let data = &data[at(0)..at(1)];
        let four = |f: fn([u8; 4]) -> f64| data.chunks_exact(4).map(|b| f(b.try_into().unwrap())).collect();
        let values: Vec<f64> = match entry["dtype"].as_str().unwrap() {
            "F32" => four(|b| f64::from(f32::from_le_bytes(b))),
            "I32" => four(|b| f64::from(i32::from_le_bytes(b))),
            "F64" => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            other => panic!("{name} is {other}"),
        };
        tensors.insert(name.clone(), values);
    }
    tensors
}

/// Relative L2 distance.
fn distance(found: impl IntoIterator<Item = f64>, exact: &[f64]) -> f64 {
    let (mut error, mut size) = (0.0, 0.0);
    for (f, e) in found.into_iter().zip(exact) {
        error += (f - e).powi(2);
        size += e * e;
    }
    (error / size.max(1e-24)).sqrt()
}

/// Whether a tensor's element has a true gradient of zero: the key third of the joint bias.
fn is_key_bias(name: &str, index: usize, width: usize) -> bool {
    name.ends_with("c_attn.bias") && (width..2 * width).contains(&index)
}

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

/// Hands a golden's first weights to an engine.
struct Start<'a>(&'a Golden);

impl isoflop_base::TensorSource for Start<'_> {
    fn has(&self, group: isoflop_base::tensor::TensorGroup, _: &str) -> bool {
        group == isoflop_base::tensor::TensorGroup::Model
    }
    fn read_f32(
        &mut self,
        _: isoflop_base::tensor::TensorGroup,
        name: &str,
        _: &[usize],
        out: &mut [f32],
    ) -> Result<(), isoflop_base::TensorError> {
        for (out, w) in out.iter_mut().zip(self.0.get(&format!("weights.{name}"))) {
            *out = *w as f32;
        }
        Ok(())
    }
    fn read_u8(
        &mut self,
        _: isoflop_base::tensor::TensorGroup,
        name: &str,
        _: &[usize],
        _: &mut [u8],
    ) -> Result<(), isoflop_base::TensorError> {
        Err(isoflop_base::TensorError::Missing(name.to_owned()))
    }
    fn counter(&self, _: &str) -> Option<u64> {
        None
    }
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
