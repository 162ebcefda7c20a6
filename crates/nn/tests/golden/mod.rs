//! What PyTorch in float64 computed: weights, tokens, logits, losses, gradients, ten steps. Made by
//! `fixtures/make_gpt2.py`; `fixtures/README.md` says what each holds.

mod tensors;

use isoflop_nn::layout::Layout;
use isoflop_nn::{Activation, GptConfig, Init, TokenBatch, Variant};
use std::collections::HashMap;

pub(crate) const GPT2: [&str; 3] = ["gpt2_l2_d16_h2", "gpt2_l3_d24_h3", "gpt2_l1_d48_h3"];
/// GPT-2 itself, and what checkpoints of other trainers make of it.
pub(crate) const ALL: [&str; 5] = [GPT2[0], GPT2[1], GPT2[2], "variant_gelu_narrow", "variant_relu_wide"];
pub(crate) const LR: f64 = 3e-3;

pub(crate) struct Golden {
    pub(crate) config: GptConfig,
    pub(crate) batch: usize,
    /// How far PyTorch's float32 strays from these figures in the worst final weight, key biases apart.
    pub(crate) pytorch_f32_final: f64,
    tensors: HashMap<String, Vec<f64>>,
}

impl Golden {
    pub(crate) fn read(case: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../nn/tests/fixtures/");
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
        Self { config, batch: number("batch"), pytorch_f32_final, tensors: tensors::parse(&bytes) }
    }

    pub(crate) fn get(&self, name: &str) -> &[f64] {
        &self.tensors[name]
    }

    #[allow(dead_code, reason = "the tests of one engine ask for it, those of another do not")]
    pub(crate) fn start(&self) -> Vec<f64> {
        let layout = Layout::new(&self.config);
        let mut weights = vec![0.0; layout.len];
        for tensor in &layout.tensors {
            weights[tensor.range()].copy_from_slice(self.get(&format!("weights.{}", tensor.name)));
        }
        weights
    }

    pub(crate) fn tokens(&self, step: usize) -> TokenBatch {
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

/// Relative L2 distance.
pub(crate) fn distance(found: impl IntoIterator<Item = f64>, exact: &[f64]) -> f64 {
    let (mut error, mut size) = (0.0, 0.0);
    for (f, e) in found.into_iter().zip(exact) {
        error += (f - e).powi(2);
        size += e * e;
    }
    (error / size.max(1e-24)).sqrt()
}

/// Whether a tensor's element has a true gradient of zero: the key third of the joint bias.
pub(crate) fn is_key_bias(name: &str, index: usize, width: usize) -> bool {
    name.ends_with("c_attn.bias") && (width..2 * width).contains(&index)
}

/// Hands a golden's first weights to an engine.
pub(crate) struct Start<'a>(pub(crate) &'a Golden);

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
