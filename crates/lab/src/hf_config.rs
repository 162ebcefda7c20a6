//! `config.json` as Hugging Face's GPT-2 has it: what ours says, and what we understand of another's.

use crate::error::UserError;
use isoflop_base::ModelShape;
use isoflop_nn::{GptConfig, Init};
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
        "n_inner": null,
        "vocab_size": config.vocab,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "initializer_range": config.initializer_range(),
        "tie_word_embeddings": true,
        "scale_attn_weights": true,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": "float32",
    })
}

/// The model a checkpoint's `config.json` describes, if it is one that is built here.
pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<GptConfig, UserError> {
    let config = checkpoint.config();
    let place = checkpoint.dir().join("config.json");
    let wrong = |what: String| {
        UserError::new(format!("{}: {what}", place.display()))
            .hint("only GPT-2 as `transformers` defines it can be read: pre-norm, learned positions, GELU (tanh), tied head")
    };
    let size = |key: &str| match config.get(key).and_then(Value::as_u64) {
        Some(n) if n > 0 => Ok(n as usize),
        _ => Err(wrong(format!("`{key}` is missing or no positive number"))),
    };
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("absent");
    if model_type != "gpt2" {
        return Err(wrong(format!("`model_type` is {model_type}, not gpt2")));
    }
    // What transformers takes when the key is absent, and the only value that is computed here.
    let fixed: [(&str, Value, &[Value]); 6] = [
        ("activation_function", json!("gelu_new"), &[json!("gelu_new"), json!("gelu_pytorch_tanh")]),
        ("layer_norm_epsilon", json!(1e-5), &[json!(1e-5)]),
        ("tie_word_embeddings", json!(true), &[json!(true)]),
        ("scale_attn_weights", json!(true), &[json!(true)]),
        ("scale_attn_by_inverse_layer_idx", json!(false), &[json!(false)]),
        ("add_cross_attention", json!(false), &[json!(false)]),
    ];
    for (key, default, known) in fixed {
        let value = config.get(key).filter(|v| !v.is_null()).unwrap_or(&default);
        if !known.contains(value) {
            return Err(wrong(format!("`{key}` is {value}, only {} is computed here", known[0])));
        }
    }
    let (n_layer, d_model, n_head) = (size("n_layer")?, size("n_embd")?, size("n_head")?);
    if d_model % n_head != 0 {
        return Err(wrong(format!("{n_head} heads do not divide width {d_model}")));
    }
    if let Some(inner) = config.get("n_inner").and_then(Value::as_u64).filter(|n| *n != 4 * d_model as u64) {
        return Err(wrong(format!("`n_inner` is {inner}, only 4·n_embd is computed here")));
    }
    let range = config.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02);
    let init = if range == 0.02 { Init::Gpt2 } else { Init::Scaled };
    let shape = ModelShape { n_layer, d_model, n_head };
    Ok(GptConfig { shape, vocab: size("vocab_size")?, context: size("n_positions")?, init })
}

/// Whether a checkpoint has the shape a run asks for.
pub fn check_matches(checkpoint: &Checkpoint, wanted: &GptConfig) -> Result<(), UserError> {
    let found = from_checkpoint(checkpoint)?;
    let describe = |c: &GptConfig| format!("{}, vocabulary {}, context {}", c.shape, c.vocab, c.context);
    if (found.shape, found.vocab, found.context) == (wanted.shape, wanted.vocab, wanted.context) {
        return Ok(());
    }
    Err(UserError::new(format!(
        "train.init_from: {} holds {}; the study asks for {}",
        checkpoint.dir().display(),
        describe(&found),
        describe(wanted)
    ))
    .hint("give the study that shape, context and vocabulary, or another checkpoint"))
}
