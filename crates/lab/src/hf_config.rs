//! `config.json` as Hugging Face's GPT-2 has it: what ours says, and what we understand of another's.

use crate::error::UserError;
use isoflop_base::ModelShape;
use isoflop_base::tensor::{TensorGroup, TensorSource as _};
use isoflop_nn::{Activation, GptConfig, Init, Variant};
use isoflop_store::Checkpoint;
use serde_json::{Value, json};

/// The `config.json` with which `transformers.GPT2LMHeadModel` builds this model.
pub fn config_json(config: &GptConfig) -> Value {
    // GPT-2's own end-of-text token; a vocabulary that does not have it names none.
    let end_of_text = (config.vocab == 50_257).then_some(50_256);
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_layer": config.shape.n_layer,
        "n_embd": config.shape.d_model,
        "n_head": config.shape.n_head,
        "n_positions": config.context,
        "n_ctx": config.context,
        "n_inner": config.variant.inner,
        "vocab_size": config.vocab,
        "activation_function": activation_name(config.variant.activation),
        "layer_norm_epsilon": config.variant.norm_epsilon,
        "initializer_range": config.initializer_range(),
        "tie_word_embeddings": config.variant.tied,
        "scale_attn_weights": config.variant.scaled_scores,
        "scale_attn_by_inverse_layer_idx": config.variant.scores_by_layer,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": "float32",
    })
}

/// Activation functions by the names `transformers` has for them, of which several are one function.
const ACTIVATIONS: [(&str, Activation); 7] = [
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("relu", Activation::Relu),
];

/// The name written for an activation function.
fn activation_name(activation: Activation) -> &'static str {
    let named = ACTIVATIONS.iter().find(|(_, known)| *known == activation);
    named.map_or("gelu_new", |(name, _)| name)
}

/// A `config.json` with its place, for errors.
struct Config<'a> {
    keys: &'a Value,
    place: String,
}

impl Config<'_> {
    fn wrong(&self, what: impl std::fmt::Display) -> UserError {
        UserError::new(format!("{}: {what}", self.place)).hint(
            "GPT-2 as `transformers` defines it can be read: pre-norm, learned positions, biases, GELU or ReLU",
        )
    }

    /// A key that is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn size(&self, key: &str) -> Result<usize, UserError> {
        match self.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()) {
            Some(n) if n > 0 => Ok(n),
            _ => Err(self.wrong(format!("`{key}` is missing or no positive number"))),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, UserError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(self.wrong(format!("`{key}` is {other}, neither true nor false"))),
        }
    }

    fn activation(&self) -> Result<Activation, UserError> {
        let Some(value) = self.get("activation_function") else { return Ok(Activation::GeluTanh) };
        let known = ACTIVATIONS.iter().find(|(name, _)| value.as_str() == Some(name));
        known.map(|(_, activation)| *activation).ok_or_else(|| {
            let names: Vec<&str> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
            self.wrong(format!("`activation_function` is {value}, not one of {}", names.join(", ")))
        })
    }

    fn norm_epsilon(&self) -> Result<f64, UserError> {
        let default = Variant::default().norm_epsilon;
        match self.get("layer_norm_epsilon").map(Value::as_f64) {
            None => Ok(default),
            Some(Some(epsilon)) if epsilon > 0.0 && epsilon.is_finite() => Ok(epsilon),
            Some(_) => Err(self.wrong("`layer_norm_epsilon` is no positive number")),
        }
    }
}

/// The model a checkpoint's `config.json` and tensors describe, if it is one that is built here.
pub fn from_checkpoint(checkpoint: &mut Checkpoint) -> Result<GptConfig, UserError> {
    let keys = checkpoint.config().clone();
    let config = Config { keys: &keys, place: checkpoint.dir().join("config.json").display().to_string() };
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("absent");
    if model_type != "gpt2" {
        return Err(config.wrong(format!("`model_type` is {model_type}, not gpt2")));
    }
    if config.flag("add_cross_attention", false)? {
        return Err(config.wrong("`add_cross_attention` is true, which is not computed here"));
    }
    let shape = ModelShape {
        n_layer: config.size("n_layer")?,
        d_model: config.size("n_embd")?,
        n_head: config.size("n_head")?,
    };
    if !shape.d_model.is_multiple_of(shape.n_head) {
        return Err(config.wrong(format!("{} heads do not divide width {}", shape.n_head, shape.d_model)));
    }
    let (vocab, context) = (config.size("vocab_size")?, config.size("n_positions")?);
    let inner = config.get("n_inner").map(|_| config.size("n_inner")).transpose()?;
    let variant = Variant {
        activation: config.activation()?,
        inner: inner.filter(|inner| *inner != 4 * shape.d_model),
        norm_epsilon: config.norm_epsilon()?,
        scaled_scores: config.flag("scale_attn_weights", true)?,
        scores_by_layer: config.flag("scale_attn_by_inverse_layer_idx", false)?,
        tied: tied(checkpoint, &config, [vocab, shape.d_model])?,
    };
    let range = config.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02);
    let init = if range == 0.02 { Init::Gpt2 } else { Init::Scaled };
    Ok(GptConfig { shape, vocab, context, init, variant })
}

/// Whether the head `[V,C]` is the embedding: where the file has a head of its own, only if it is equal, whatever the
/// configuration says (`transformers` 5 computes so and warns; 4 overwrites the head it was given without a word).
fn tied(checkpoint: &mut Checkpoint, config: &Config<'_>, shape: [usize; 2]) -> Result<bool, UserError> {
    let (head, embedding) = (isoflop_nn::layout::HEAD, isoflop_nn::layout::EMBEDDING);
    let says_tied = config.flag("tie_word_embeddings", true)?;
    if !checkpoint.has(TensorGroup::Model, head) {
        return match says_tied {
            true => Ok(true),
            false => Err(config.wrong(format!("`tie_word_embeddings` is false, but there is no `{head}`"))),
        };
    }
    let mut read = |name: &str| {
        let mut values = vec![0.0; shape[0] * shape[1]];
        checkpoint.read_f32(TensorGroup::Model, name, &shape, &mut values).map_err(UserError::from_error)?;
        Ok::<_, UserError>(values)
    };
    Ok(read(head)? == read(embedding)?)
}

/// Whether a run can start from a checkpoint: the shape it asks for, and a plain GPT-2.
pub fn check_matches(checkpoint: &mut Checkpoint, wanted: &GptConfig) -> Result<(), UserError> {
    let found = from_checkpoint(checkpoint)?;
    let place = checkpoint.dir().display().to_string();
    let describe = |c: &GptConfig| format!("{}, vocabulary {}, context {}", c.shape, c.vocab, c.context);
    if (found.shape, found.vocab, found.context) != (wanted.shape, wanted.vocab, wanted.context) {
        return Err(UserError::new(format!(
            "train.init_from: {place} holds {}; the study asks for {}",
            describe(&found),
            describe(wanted)
        ))
        .hint("give the study that shape, context and vocabulary, or another checkpoint"));
    }
    if found.variant != wanted.variant {
        let different = differences(&found.variant, &wanted.variant).join(", ");
        return Err(UserError::new(format!("train.init_from: {place} is no plain GPT-2: {different}")).hint(
            "`isoflop eval` scores it; a study trains GPT-2 with its own activation, norm, scores and \
                   tied head",
        ));
    }
    Ok(())
}

/// The keys by which a model differs from another, as `config.json` has them.
fn differences(found: &Variant, wanted: &Variant) -> Vec<String> {
    let mut keys = Vec::new();
    let mut note = |differs: bool, text: String| {
        if differs {
            keys.push(text);
        }
    };
    let activation = activation_name(found.activation);
    note(found.activation != wanted.activation, format!("`activation_function` is {activation}"));
    let inner = found.inner.map_or("4·n_embd".to_owned(), |inner| inner.to_string());
    note(found.inner != wanted.inner, format!("`n_inner` is {inner}"));
    note(
        found.norm_epsilon != wanted.norm_epsilon,
        format!("`layer_norm_epsilon` is {}", found.norm_epsilon),
    );
    note(
        found.scaled_scores != wanted.scaled_scores,
        format!("`scale_attn_weights` is {}", found.scaled_scores),
    );
    let by_layer = found.scores_by_layer;
    note(by_layer != wanted.scores_by_layer, format!("`scale_attn_by_inverse_layer_idx` is {by_layer}"));
    note(found.tied != wanted.tied, "its head is not its embedding".to_owned());
    keys
}
