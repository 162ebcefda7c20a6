//! Names of tensors as training programs save them, taken out of what they wrapped the model in.

use crate::safetensors::TensorFile;
use std::collections::BTreeMap;

/// Attributes that a wrapper adds wherever it stands: `DistributedDataParallel`, `torch.compile`, FSDP, DeepSpeed,
/// checkpointing of activations.
const ANYWHERE: [&str; 5] =
    ["module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"];
/// Attributes under which a program keeps the whole model: GPT-2's own `transformer` (the Hub's files leave it out),
/// Lightning's `model`, PEFT's `base_model`.
const IN_FRONT: [&str; 5] = ["transformer", "model", "base_model", "gpt2", "state_dict"];

/// A name without wrappers: `_orig_mod.module.transformer.h.0.ln_1.weight` is `h.0.ln_1.weight`.
pub(super) fn bare(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !ANYWHERE.contains(part)).collect();
    let front = parts.iter().take_while(|part| IN_FRONT.contains(part)).count();
    parts[front..].join(".")
}

/// Bare names of the tensors of a model's files, with the file and the name each has there.
#[derive(Debug)]
pub(super) struct Bare(BTreeMap<String, (usize, String)>);

impl Bare {
    /// # Errors
    /// Two tensors that differ in their wrappers only.
    pub(super) fn of(files: &[TensorFile]) -> Result<Self, String> {
        let mut all: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for name in file.tensors.keys() {
                let bare = bare(name);
                if let Some((_, other)) = all.get(&bare) {
                    return Err(format!(
                        "`{name}` and `{other}` are both `{bare}`: it holds the model twice"
                    ));
                }
                all.insert(bare, (index, name.clone()));
            }
        }
        Ok(Self(all))
    }

    /// The file that has a tensor, and its name there.
    pub(super) fn find(&self, name: &str) -> Option<(usize, &str)> {
        self.0.get(&bare(name)).map(|(index, stored)| (*index, stored.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_wrappers_are_taken_off() {
        for name in [
            "h.0.ln_1.weight",
            "transformer.h.0.ln_1.weight",
            "module.transformer.h.0.ln_1.weight",
            "_orig_mod.transformer.h.0.ln_1.weight",
            "module._orig_mod.transformer.h.0.ln_1.weight",
            "model.transformer.h.0.ln_1.weight",
            "base_model.model.transformer.h.0.ln_1.weight",
            "_forward_module.model._orig_mod.h.0.ln_1.weight",
            "transformer.h.0._checkpoint_wrapped_module.ln_1.weight",
            "_fsdp_wrapped_module.transformer.h.0._fsdp_wrapped_module.ln_1.weight",
        ] {
            assert_eq!(bare(name), "h.0.ln_1.weight", "{name}");
        }
        assert_eq!(bare("module.lm_head.weight"), "lm_head.weight");
        assert_eq!(bare("ema.transformer.wte.weight"), "ema.transformer.wte.weight");
    }

    proptest! {
        #[test]
        fn wrapping_changes_no_name(
            front in proptest::collection::vec(proptest::sample::select(ANYWHERE.to_vec()), 0..4),
            model in proptest::option::of(proptest::sample::select(IN_FRONT.to_vec())),
            name in "(wte|wpe|ln_f|lm_head|h\\.[0-9]{1,2}\\.(attn\\.c_attn|mlp\\.c_fc))\\.(weight|bias)",
        ) {
            let wrapped = front.iter().copied().chain(model).chain([name.as_str()]).collect::<Vec<_>>().join(".");
            prop_assert_eq!(bare(&wrapped), name);
        }

        #[test]
        fn no_name_makes_it_panic(name in "[a-z_.é]{0,40}") {
            let _ = bare(&name);
        }
    }
}
