//! What a proposed study may consist of: the sizes to choose from, the corpus, the recipe, as the user's own study has
//! them or by default.

use super::DesignArgs;
use super::plans::{FEWEST_SIZES, Plan};
use crate::cli::Context;
use isoflop_base::ModelShape;
use isoflop_base::ScheduleKind;
use isoflop_base::study::Study;
use isoflop_base::units::parse_count;
use isoflop_lab::UserError;
use isoflop_lab::open::{self, Opened};
use isoflop_lab::study::raw::RawStudy;
use isoflop_lab::study::vocabulary::KEYS;
use isoflop_nn::GptConfig;
use isoflop_nn::ledger::{Convention, training_flops_per_token};

/// What the runs of a design share.
pub(super) struct Setting {
    /// Sizes to choose from, smallest first.
    pub(super) shapes: Vec<ModelShape>,
    /// The user chose them: every choice among them is tried, not ladders alone.
    pub(super) own: bool,
    vocab: usize,
    context: usize,
    /// Tokens of an optimiser step.
    pub(super) batch_tokens: f64,
    /// One pass over the corpus.
    pub(super) most_tokens: f64,
    /// No point below.
    pub(super) least_tokens: f64,
    /// Fewest sizes.
    pub(super) least_sizes: usize,
    /// Decayed side branches finish points on the way.
    pub(super) branches: bool,
    /// Share of a point's tokens over which the rate falls.
    pub(super) decay: f64,
    /// The seed that each size has.
    seed: u64,
    /// The study it was taken from.
    raw: Option<RawStudy>,
    /// That study as it stands, if all its runs have the same points.
    pub(super) as_it_stands: Option<Plan>,
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
                    least_tokens: 0.0,
                    least_sizes: FEWEST_SIZES,
                    branches: first.train.schedule == ScheduleKind::Wsd,
                    decay: first.train.decay,
                    seed: study.runs.iter().map(|run| run.seed).min().unwrap_or(1),
                    shapes: models.iter().map(|run| run.gpt().shape).collect(),
                    own: true,
                    as_it_stands: as_it_stands(&study),
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
                least_tokens: 0.0,
                least_sizes: FEWEST_SIZES,
                branches: true,
                decay: DECAY,
                seed: 1,
                raw: None,
                as_it_stands: None,
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
        if let Some(text) = &args.least_tokens {
            setting.least_tokens =
                parse_count(text).map_err(|e| UserError::from_error(format!("--least-tokens: {e}")))?;
        }
        setting.least_sizes = args.least_sizes.unwrap_or(FEWEST_SIZES + usize::from(!setting.own));
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

    /// A plan as a study: everything else as in the user's own, or the defaults.
    pub(super) fn study_file(&self, plan: &Plan) -> anyhow::Result<String> {
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
        let text = |tokens: &f64| toml::Value::from((*tokens as u64).to_string());
        let models: Vec<String> = plan.ladder.iter().map(ToString::to_string).collect();
        put("series.models", models.clone().into());
        put("series.tokens", text(&plan.tokens));
        if !plan.branches.is_empty() {
            put("series.branches", plan.branches.iter().map(text).collect::<Vec<_>>().into());
        }
        let first = self.seed as i64;
        put("series.seeds", vec![first].into());
        let mut extra = toml::Table::new();
        for (model, seeds) in models.iter().zip(&plan.seeds).filter(|(_, seeds)| **seeds > 1) {
            let others: Vec<i64> = (first + 1..first + *seeds as i64).collect();
            extra.insert(model.clone(), others.into());
        }
        if !extra.is_empty() {
            put("series.extra_seeds", extra.into());
        }
        match &self.raw {
            None => {
                put("train.decay", DECAY.into());
                put("train.beta2", 0.99.into());
                put("train.context", (self.context as i64).into());
                put("train.schedule", "wsd".into());
            }
            Some(raw) => {
                let kept = |key: &str| key.starts_with("data.") || key.starts_with("train.");
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

/// Share of a point's tokens that decays in the built-in recipe.
const DECAY: f64 = 0.5;

/// A study whose runs all have the same points, as a plan.
fn as_it_stands(study: &Study) -> Option<Plan> {
    let ends: Vec<f64> = study.runs.first()?.tokens().map(|d| d as f64).collect();
    let (tokens, branches) = ends.split_last()?;
    if study.runs.iter().any(|run| !run.tokens().map(|d| d as f64).eq(ends.iter().copied())) {
        return None;
    }
    let mut ladder: Vec<ModelShape> = study.one_of_each_model().iter().map(|run| run.gpt().shape).collect();
    ladder.sort_by_key(ModelShape::params);
    let count = |shape: &ModelShape| study.runs.iter().filter(|run| run.gpt().shape == *shape).count();
    Some(Plan {
        seeds: ladder.iter().map(count).collect(),
        ladder,
        tokens: *tokens,
        branches: branches.to_vec(),
    })
}

/// Shapes a ladder is built from, about √2 apart in width.
fn series() -> Vec<ModelShape> {
    [
        (1, 24),
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
