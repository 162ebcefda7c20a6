//! What a proposed study may consist of: the sizes to choose from, the corpus, the recipe, as the user's own study has
//! them or by default.

use super::DesignArgs;
use crate::cli::Context;
use isoflop_base::ModelShape;
use isoflop_base::ScheduleKind;
use isoflop_lab::UserError;
use isoflop_lab::open::{self, Opened};
use isoflop_lab::study::raw::RawStudy;
use isoflop_lab::study::vocabulary::KEYS;
use isoflop_nn::GptConfig;
use isoflop_nn::ledger::{Convention, training_flops_per_token};

/// Two decayed side branches of a fifth each cost about this much more than the trunk.
const BRANCH_COST: f64 = 1.15;
/// Fewest optimiser steps of a run that is worth proposing.
const FEWEST_STEPS: f64 = 200.0;
/// Fewest sizes of a ladder.
const FEWEST_SIZES: usize = 3;

/// What the runs of a design share.
pub(super) struct Setting {
    /// Sizes to choose from, smallest first.
    pub(super) shapes: Vec<ModelShape>,
    /// The user chose them: every choice among them is tried, not ladders alone.
    own: bool,
    vocab: usize,
    context: usize,
    batch_tokens: f64,
    /// One pass over the corpus.
    pub(super) most_tokens: f64,
    /// Decayed side branches finish points on the way.
    branches: bool,
    /// The study it was taken from.
    raw: Option<RawStudy>,
}

impl Setting {
    /// From `--study` and `--sizes`, else the built-in corpus and series.
    pub(super) fn of(args: &DesignArgs, ctx: &Context) -> anyhow::Result<Self> {
        let mut setting = match &args.study {
            Some(path) => {
                let Opened { raw, study, .. } = open::open(path, &ctx.sets)?;
                let models = study.one_of_each_model();
                let first = models.first().expect("a study has a run");
                Self {
                    vocab: first.gpt().vocab,
                    context: first.gpt().context,
                    batch_tokens: first.train.batch_tokens as f64,
                    most_tokens: first.data.train_tokens as f64,
                    branches: first.train.schedule == ScheduleKind::Wsd,
                    shapes: models.iter().map(|run| run.gpt().shape).collect(),
                    own: true,
                    raw: Some(raw),
                }
            }
            None => Self {
                shapes: series(),
                own: false,
                vocab: 256,
                context: 256,
                batch_tokens: 2048.0,
                most_tokens: 12e6,
                branches: true,
                raw: None,
            },
        };
        if !args.sizes.is_empty() {
            setting.shapes = args
                .sizes
                .iter()
                .map(|text| text.trim().parse().map_err(|e| UserError::from_error(format!("--sizes: {e}"))))
                .collect::<Result<_, _>>()?;
            setting.own = true;
        }
        setting.shapes.sort_by_key(ModelShape::params);
        setting.shapes.dedup();
        if setting.shapes.len() < FEWEST_SIZES {
            let count = setting.shapes.len();
            return Err(UserError::new(format!("{count} sizes tell nothing of how loss depends on size"))
                .hint("give at least three, e.g. --sizes L2-d32-h2,L3-d64-h4,L4-d112-h7")
                .into());
        }
        Ok(setting)
    }

    /// Exact training FLOPs per token.
    pub(super) fn flops_per_token(&self, shape: ModelShape) -> f64 {
        let config = GptConfig::new(shape, self.vocab, self.context);
        training_flops_per_token(&config, Convention::Exact)
    }

    fn overhead(&self) -> f64 {
        if self.branches { BRANCH_COST } else { 1.0 }
    }

    /// What a ladder costs when each size reads `tokens`, `per_token` being the price of one token of a size.
    pub(super) fn cost(
        &self,
        ladder: &[ModelShape],
        tokens: f64,
        per_token: &dyn Fn(ModelShape) -> f64,
    ) -> f64 {
        ladder.iter().map(|s| per_token(*s)).sum::<f64>() * self.overhead() * tokens
    }

    /// Ladders with the tokens a budget then allows: of the built-in series every stretch of at least four (all or
    /// every second size), of up to eight own sizes every choice of at least three.
    pub(super) fn candidates(
        &self,
        budget: f64,
        per_token: &dyn Fn(ModelShape) -> f64,
    ) -> Vec<(Vec<ModelShape>, f64)> {
        let all = &self.shapes;
        let mut ladders: Vec<Vec<ModelShape>> = Vec::new();
        if self.own && all.len() <= 8 {
            for set in 1u32..1 << all.len() {
                ladders.push((0..all.len()).filter(|i| set >> i & 1 == 1).map(|i| all[i]).collect());
            }
        } else {
            for (step, first) in [1, 2].into_iter().flat_map(|s| (0..all.len()).map(move |f| (s, f))) {
                for last in first..all.len() {
                    ladders.push(all[first..=last].iter().step_by(step).copied().collect());
                }
            }
        }
        let fewest = if self.own { FEWEST_SIZES } else { FEWEST_SIZES + 1 };
        ladders.retain(|ladder| ladder.len() >= fewest);
        ladders
            .into_iter()
            .map(|ladder| {
                let tokens = (budget / self.cost(&ladder, 1.0, per_token)).min(self.most_tokens);
                // Quarters and halves of it are whole numbers of steps, too.
                let unit = 4.0 * self.batch_tokens;
                (ladder, (tokens / unit).floor() * unit)
            })
            .filter(|(_, tokens)| *tokens >= FEWEST_STEPS * self.batch_tokens)
            .collect()
    }

    /// Token counts of the finished points on the way to `tokens`.
    pub(super) fn branches(&self, tokens: f64) -> Vec<f64> {
        if self.branches { vec![tokens / 4.0, tokens / 2.0] } else { Vec::new() }
    }

    /// The study with these sizes and tokens: everything else as in the user's own, or the defaults.
    pub(super) fn study_file(
        &self,
        models: &[String],
        tokens: u64,
        branches: &[u64],
    ) -> anyhow::Result<String> {
        let mut table = toml::Table::new();
        let mut put = |key: &str, value: toml::Value| {
            let (mut within, mut rest) = (&mut table, key);
            while let Some((section, name)) = rest.split_once('.') {
                let entry = within.entry(section).or_insert_with(|| toml::Table::new().into());
                within = entry.as_table_mut().expect("a section holds keys");
                rest = name;
            }
            within.insert(rest.to_owned(), value);
        };
        put("name", "designed".into());
        put("kind", "scaling".into());
        if self.raw.is_none() {
            put("data.corpus", "builtin".into());
        }
        let text = |n: &u64| toml::Value::from(n.to_string());
        put("series.models", models.to_vec().into());
        put("series.tokens", text(&tokens));
        if !branches.is_empty() {
            put("series.branches", branches.iter().map(text).collect::<Vec<_>>().into());
        }
        match &self.raw {
            None => {
                put("series.seeds", vec![1i64].into());
                put("train.context", (self.context as i64).into());
                put("train.schedule", "wsd".into());
            }
            Some(raw) => {
                let kept = |key: &str| {
                    key.starts_with("data.") || key.starts_with("train.") || key == "series.seeds"
                };
                let of_source = |name: &String| {
                    let keys = KEYS.iter().filter(|k| k.contains(".*."));
                    keys.map(|k| k.replace('*', name)).collect::<Vec<_>>()
                };
                let keys = KEYS.iter().map(|k| (*k).to_owned()).chain(raw.mix.iter().flat_map(of_source));
                for key in keys.filter(|k| kept(k)) {
                    if let Some(entry) = raw.entries.get(&key) {
                        put(&key, entry.value.clone());
                    }
                }
            }
        }
        Ok(toml::to_string(&table)?)
    }
}

/// Shapes a ladder is built from, about √2 apart in width.
fn series() -> Vec<ModelShape> {
    [
        (2, 24),
        (2, 32),
        (2, 48),
        (3, 64),
        (4, 80),
        (4, 112),
        (5, 160),
        (6, 224),
        (8, 320),
        (10, 448),
        (12, 640),
        (12, 768),
    ]
    .into_iter()
    .map(|(n_layer, d_model)| ModelShape { n_layer, d_model, n_head: (d_model / 16).max(2) })
    .collect()
}
