//! The choices a recipe offers, each with the one word by which study files, tables and command lines know it.

use serde::{Deserialize, Serialize};

/// A choice among a few values, each known by a word.
pub trait Word: Copy + Send + Sync + 'static {
    /// Every value's word.
    const WORDS: &'static [&'static str];

    /// The value of a word.
    fn from_word(word: &str) -> Option<Self>;
}

/// An enum each of whose values has a word, for people and for serde.
macro_rules! choice {
    ($(#[$doc:meta])* $type:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $type { $($(#[$value_doc])* #[serde(rename = $word)] $value),+ }

        impl $type {
            /// Every value's word.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word a study file and a table use.
            pub fn word(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }

            /// The value of a word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$value),)+ _ => None }
            }
        }

        impl Word for $type {
            const WORDS: &'static [&'static str] = Self::WORDS;

            fn from_word(word: &str) -> Option<Self> {
                Self::from_word(word)
            }
        }
    };
}
pub(crate) use choice;

choice! {
    /// Type of the operands of products.
    Precision {
        /// Single precision throughout.
        F32 = "f32",
        /// bf16 operands, f32 everywhere else.
        Bf16 = "bf16",
        /// fp16 operands, f32 everywhere else, the loss scaled so that its gradients fit; graphics cards only.
        Fp16 = "fp16",
    }
}

choice! {
    /// Which optimiser.
    Optimizer {
        /// AdamW with moments in f32.
        AdamW = "adamw",
        /// AdamW with block-wise 8-bit moments (Dettmers et al. 2021, arXiv 2110.02861).
        AdamW8bit = "adamw8bit",
    }
}

choice! {
    /// How weights start.
    Init {
        /// Standard deviation 0.02·√(768/d): what 0.02 is at GPT-2's width, at every width; residual projections
        /// divide it by √(2L).
        Scaled = "scaled",
        /// GPT-2's 0.02 whatever the width.
        Gpt2 = "gpt2",
    }
}

choice! {
    /// The shape of a learning-rate schedule after its warm-up.
    ScheduleKind {
        /// Half a cosine from the peak to a share of it (Loshchilov & Hutter 2017, arXiv 1608.03983).
        Cosine = "cosine",
        /// Warm-up, stable, decay: constant, then linear to zero, so that several points come from one trunk
        /// (Hägele et al. 2024, arXiv 2405.18392).
        Wsd = "wsd",
        /// Constant.
        Constant = "constant",
    }
}

choice! {
    /// What the backward pass computes again instead of storing it.
    Recompute {
        /// Only what is cheap: norms and activation functions.
        None = "none",
        /// Everything inside a block, from its input.
        Block = "block",
    }
}

choice! {
    /// What a few-shot head makes of the class means.
    HeadKind {
        /// Nothing: prototypical networks (Snell et al. 2017, arXiv 1703.05175).
        Proto = "proto",
        /// The class-dependency module to the letter.
        Ccd = "ccd",
        /// The same, added to the class means.
        CcdResidual = "ccd-residual",
        /// Eight heads and an output map.
        CcdMha = "ccd-mha",
        /// Residual, output map, dropout, layer norm (FEAT, Ye et al. 2020, arXiv 1812.03664).
        Feat = "feat",
    }
}

impl HeadKind {
    /// All heads.
    pub const ALL: [Self; 5] = [Self::Proto, Self::Ccd, Self::CcdResidual, Self::CcdMha, Self::Feat];
}

choice! {
    /// A few-shot backbone.
    Backbone {
        /// Four convolutions (Vinyals et al. 2016).
        Conv4 = "conv4",
        /// Four residual blocks of three convolutions (Lee et al. 2019).
        ResNet12 = "resnet12",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Word + PartialEq + std::fmt::Debug + Serialize + for<'a> Deserialize<'a>>(
        word: fn(T) -> &'static str,
    ) {
        for &written in T::WORDS {
            let value = T::from_word(written).unwrap();
            assert_eq!(word(value), written);
            assert_eq!(serde_json::to_value(value).unwrap(), written);
            assert_eq!(serde_json::from_value::<T>(written.into()).unwrap(), value);
        }
        assert!(T::from_word("fp8").is_none());
    }

    #[test]
    fn words_go_both_ways_and_are_what_serde_writes() {
        check(Precision::word);
        check(Optimizer::word);
        check(Init::word);
        check(ScheduleKind::word);
        check(Recompute::word);
        check(HeadKind::word);
        check(Backbone::word);
        check(crate::study::StudyKind::word);
        check(crate::JunkKind::word);
    }
}
