//! What a study file may say.

/// What the files of a family of studies may say.
#[derive(Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Every key, as `section.key`.
    pub keys: &'static [&'static str],
    /// Every section.
    pub sections: &'static [&'static str],
    /// A file that shows how each key is written.
    pub example: &'static str,
}

/// Of studies of language models.
pub static LANGUAGE: Vocabulary = Vocabulary { keys: KEYS, sections: SECTIONS, example: "studies/demo.toml" };

/// Every key a study may have, as `section.key` (`*` = any name the user chooses).
pub const KEYS: &[&str] = &joined::<{ OWN.len() + INSTRUMENTS.len() }>(OWN, INSTRUMENTS);

/// Keys of `[limits]`, `[alarms]` and `[meter]`, which studies of every family have.
pub const INSTRUMENTS: &[&str] = &[
    "limits.max_temp_c",
    "limits.max_power_w",
    "limits.max_energy_kwh",
    "limits.max_hours",
    "limits.max_cost",
    "alarms.command",
    "alarms.webhook",
    "alarms.stop",
    "alarms.off",
    "meter.sample",
    "meter.tdp_w",
    "meter.idle_w",
    "meter.carbon_g_per_kwh",
    "meter.cost_per_kwh",
    "meter.currency",
];

/// A family's own keys, and those it shares.
///
/// # Panics
/// When compiled, if N is not the sum of the two lengths.
pub const fn joined<const N: usize>(own: &[&'static str], shared: &[&'static str]) -> [&'static str; N] {
    assert!(N == own.len() + shared.len());
    let (mut all, mut i) = ([""; N], 0);
    while i < N {
        all[i] = if i < own.len() { own[i] } else { shared[i - own.len()] };
        i += 1;
    }
    all
}

const OWN: &[&str] = &[
    "name",
    "kind",
    "data.corpus",
    "data.train",
    "data.val",
    "data.text",
    "data.prepared",
    "data.dtype",
    "data.vocab",
    "data.bytes_per_token",
    "data.documents",
    "data.end_of_text",
    "data.held_out",
    "data.stages",
    "data.mix.*.corpus",
    "data.mix.*.train",
    "data.mix.*.val",
    "data.mix.*.text",
    "data.mix.*.prepared",
    "data.mix.*.weight",
    "data.mix.*.tag",
    "data.mix.*.unique_tokens",
    "data.mix.*.junk",
    "data.mix.*.of",
    "data.mix.*.seed",
    "data.mix.*.copies",
    "data.mix.*.passages",
    "data.mix.*.passage_tokens",
    "arms.junk",
    "arms.shares",
    "arms.tagged",
    "arms.tagged_shares",
    "arms.tag",
    "arms.unique",
    "arms.weight_decay",
    "arms.copies",
    "arms.copies_share",
    "arms.passage_tokens",
    "arms.mixes",
    "arms.held_out",
    "arms.batches",
    "arms.rates",
    "arms.rate_exponent",
    "arms.branch_batches",
    "arms.branch_rate_exponent",
    "arms.init",
    "series.models",
    "series.tokens",
    "series.epochs",
    "series.tokens_per_param",
    "series.flops",
    "series.branches",
    "series.seeds",
    "series.extra_seeds",
    "train.context",
    "train.batch_tokens",
    "train.micro_batch",
    "train.precision",
    "train.optimizer",
    "train.lr",
    "train.init",
    "train.init_from",
    "train.schedule",
    "train.decay",
    "train.warmup",
    "train.min_lr",
    "train.beta1",
    "train.beta2",
    "train.eps",
    "train.weight_decay",
    "train.clip",
    "train.recompute",
    "train.threads",
    "train.device",
    "train.eval_every",
    "train.eval_tokens",
    "train.curve_tokens",
    "train.checkpoint_every",
];

const SECTIONS: &[&str] = &["data", "arms", "series", "train", "limits", "alarms", "meter", "claims"];
pub(super) const CLAIM_KEYS: &[&str] = &["law", "param", "value", "within", "source", "needs"];
