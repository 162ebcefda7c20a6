//! Whether a learning rate, and the sizes of what flows through a model, carry over from one width to another.
//!
//! The coordinate check of Yang et al. 2022 (arXiv 2203.03466), in seconds on a processor: models of the same depth and
//! several widths are trained for a moment at several rates. If what each part gives to the residual stream keeps its
//! size as the width grows, and the best rate follows the rule, a rate tuned at a small width may be used at a large
//! one. What is seen is the beginning of training: long runs may differ.

use crate::error::UserError;
use crate::machine::processor;
use crate::stop::Stop;
use crate::study::recipe::{LR_HIGHEST, auto_lr};
use isoflop_base::ModelShape;
use isoflop_data::{Corpus, Sampler};
use isoflop_laws::arms::{Estimate, bottom, slope};
use isoflop_nn::reference::Reference;
use isoflop_nn::{Cpu, CpuGpt, Device, Engine as _, EngineOptions, GptConfig, Init, SingleDevice};
use serde::Serialize;

/// Head width of the models.
const HEAD: usize = 16;
const CONTEXT: usize = 256;
/// Sequences of a step.
const BATCH: usize = 8;
/// Sequences the loss is measured on.
const SCORED: u64 = 64;
/// Positions whose activations are measured, in plain loops.
const LOOKED_AT: usize = 64;
/// Rates tried, as powers of two beside [`LR_HIGHEST`].
const RATES: std::ops::RangeInclusive<i32> = -5..=2;
const LEVEL: f64 = 0.95;
/// A size that grows or shrinks by less than this power of the width is taken to stay.
const STAYS: f64 = 0.2;

/// What to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Widths, multiples of 16, at least two.
    pub widths: Vec<usize>,
    /// Blocks of every model.
    pub layers: usize,
    /// Steps of each training.
    pub steps: usize,
    /// Initialisation.
    pub init: Init,
    /// Seed of weights and data.
    pub seed: u64,
}

/// One width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Width {
    /// Width of the residual stream.
    pub width: usize,
    /// Held-out loss after the steps at each rate, nats per token; a rate that diverged is left out.
    pub losses: Vec<(f64, f64)>,
    /// The rate at the bottom of a parabola through the lowest ones, if it lies inside of what was tried.
    pub best: Option<f64>,
    /// Root mean square of each part's output at the start and after the steps at the rule's rate.
    pub scales: Vec<Scale>,
}

/// How large a part's output is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scale {
    /// `embedding`, `attention 1`, `mlp 1`, …, `logits`.
    pub part: String,
    /// Before training.
    pub before: f64,
    /// After.
    pub after: f64,
}

/// How something goes with the width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trend {
    /// What.
    pub of: String,
    /// Its exponent of the width.
    pub exponent: f64,
    /// Ends of the exponent's interval at 95 %, with three widths or more.
    pub ends: Option<(f64, f64)>,
    /// In words.
    pub words: String,
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Widths {
    /// By width.
    pub widths: Vec<Width>,
    /// How each part's size after training goes with the width.
    pub scales: Vec<Trend>,
    /// How the best rate goes with the width; `None` if fewer than two widths have one inside of what was tried.
    pub rate: Option<Trend>,
    /// Whether a rate transfers, in a sentence or two.
    pub verdict: String,
    /// Tokens of each training.
    pub tokens: u64,
}

/// Trains and looks. `watch` hears of each training before it begins: how many are done, of how many, which.
///
/// # Errors
/// Widths that are no models, a corpus that is too short, or a stop.
pub fn check(
    asked: &Asked,
    corpus: &Corpus,
    stop: &Stop,
    watch: &mut dyn FnMut(usize, usize, &str),
) -> anyhow::Result<Widths> {
    let cpu = processor()?;
    let mut widths = Vec::new();
    let (of, mut done) = (asked.widths.len() * RATES.count(), 0);
    for &width in &asked.widths {
        let shape: ModelShape =
            format!("L{}-d{width}-h{}", asked.layers, width / HEAD).parse().map_err(UserError::from_error)?;
        let config = GptConfig { init: asked.init, ..GptConfig::new(shape, corpus.info.vocab, CONTEXT) };
        let (mut losses, mut scales) = (Vec::new(), Vec::new());
        for power in RATES {
            let rate = LR_HIGHEST * 2f64.powi(power);
            watch(done, of, &format!("{shape} at {rate:.2e}"));
            let tried = train(asked, &cpu, &config, corpus, rate, stop)?;
            losses.extend(tried.loss.map(|loss| (rate, loss)));
            // The power of two next to the rule's rate, so that no further training is needed.
            if power == rule_power(shape) {
                scales = tried.scales;
            }
            done += 1;
        }
        let (x, y): (Vec<f64>, Vec<f64>) = losses.iter().map(|(rate, loss)| (rate.ln(), *loss)).unzip();
        let best = bottom(&x, &y, LEVEL).filter(|b| b.interior).map(|b| b.x.exp());
        widths.push(Width { width, losses, best, scales });
    }
    let scales = trends(&widths);
    let rate = rate_trend(&widths);
    let verdict = verdict(rate.as_ref(), &scales);
    let tokens = (asked.steps * BATCH * CONTEXT) as u64;
    Ok(Widths { widths, scales, rate, verdict, tokens })
}

/// The rule's rate as a power of two of [`LR_HIGHEST`].
fn rule_power(shape: ModelShape) -> i32 {
    ((auto_lr(shape) / LR_HIGHEST).log2().round() as i32).clamp(*RATES.start(), *RATES.end())
}

struct Tried {
    /// `None` if it diverged.
    loss: Option<f64>,
    scales: Vec<Scale>,
}

/// One training: a tenth of the steps warm-up, then down to zero.
fn train(
    asked: &Asked,
    cpu: &Cpu,
    config: &GptConfig,
    corpus: &Corpus,
    rate: f64,
    stop: &Stop,
) -> anyhow::Result<Tried> {
    let options = EngineOptions { micro_batch: BATCH, ..EngineOptions::default() };
    let mut engine: CpuGpt = cpu.make(config, &options, asked.seed)?;
    let sampler = Sampler::new(corpus.train.len(), CONTEXT, asked.seed).map_err(UserError::from_error)?;
    let held_out = Sampler::new(corpus.val.len(), CONTEXT, 0).map_err(UserError::from_error)?;
    let looked_at = held_out.batch(&*corpus.val, 0, 1).map_err(UserError::from_error)?;
    let looked_at = &looked_at.inputs(0)[..LOOKED_AT];
    let before = sizes(config, &engine, looked_at);
    let warm_up = (asked.steps / 10).max(1);
    for step in 0..asked.steps {
        stop.check()?;
        let share = if step < warm_up {
            (step + 1) as f64 / warm_up as f64
        } else {
            (asked.steps - step) as f64 / (asked.steps - warm_up) as f64
        };
        let batch =
            sampler.batch(&*corpus.train, (step * BATCH) as u64, BATCH).map_err(UserError::from_error)?;
        engine.accumulate(&batch, 1.0)?;
        engine.reduce(&mut SingleDevice)?;
        if engine.update((rate * share) as f32).is_err() {
            return Ok(Tried { loss: None, scales: Vec::new() });
        }
    }
    let (mut sum, mut tokens) = (0.0, 0);
    for first in (0..SCORED).step_by(BATCH) {
        let batch = held_out.batch(&*corpus.val, first, BATCH).map_err(UserError::from_error)?;
        engine.evaluate(&batch, &mut |sequence| {
            (sum, tokens) = (sum + sequence.sum, tokens + sequence.tokens)
        })?;
    }
    let after = sizes(config, &engine, looked_at);
    let scales = before
        .into_iter()
        .zip(after)
        .map(|((part, before), (_, after))| Scale { part, before, after })
        .collect();
    Ok(Tried { loss: Some(sum / tokens as f64).filter(|loss| loss.is_finite()), scales })
}

fn sizes(config: &GptConfig, engine: &CpuGpt, tokens: &[u32]) -> Vec<(String, f64)> {
    Reference::new(config, engine.weights().1.to_vec()).sizes(tokens)
}

fn trends(widths: &[Width]) -> Vec<Trend> {
    let Some(first) = widths.first() else { return Vec::new() };
    let of = |part: &str, width: &Width| width.scales.iter().find(|s| s.part == part).map(|s| s.after);
    first
        .scales
        .iter()
        .filter_map(|scale| {
            let points: Vec<(f64, f64)> = widths
                .iter()
                .filter_map(|w| Some(((w.width as f64).ln(), of(&scale.part, w).filter(|v| *v > 0.0)?.ln())))
                .collect();
            let estimate = exponent(&points)?;
            let words = match estimate.value {
                e if e.abs() <= STAYS => "keeps its size",
                e if e > 0.0 => "grows with the width",
                _ => "shrinks with the width",
            };
            Some(trend(scale.part.clone(), estimate, words.to_owned()))
        })
        .collect()
}

fn rate_trend(widths: &[Width]) -> Option<Trend> {
    let points: Vec<(f64, f64)> =
        widths.iter().filter_map(|w| Some(((w.width as f64).ln(), w.best?.ln()))).collect();
    let estimate = exponent(&points)?;
    let words = format!("the best rate goes as width to the {:.2}", estimate.value);
    Some(trend("best rate".to_owned(), estimate, words))
}

/// The slope of logarithms, of two points at least.
fn exponent(points: &[(f64, f64)]) -> Option<Estimate> {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    if let [(x0, y0), (x1, y1)] = points {
        return Some(Estimate { value: (y1 - y0) / (x1 - x0), ends: None, units: 2 });
    }
    slope(&x, &y, LEVEL)
}

fn trend(of: String, estimate: Estimate, words: String) -> Trend {
    Trend { of, exponent: estimate.value, ends: estimate.ends, words }
}

fn verdict(rate: Option<&Trend>, scales: &[Trend]) -> String {
    let moving: Vec<&str> =
        scales.iter().filter(|s| s.exponent.abs() > STAYS).map(|s| s.of.as_str()).collect();
    let sizes = match moving.as_slice() {
        [] => "What each part adds keeps its size with the width.".to_owned(),
        parts => format!("With the width change: {}.", parts.join(", ")),
    };
    let rates = match rate {
        None => "The best rate lies at the end of what was tried, or moves beyond it: no word on transfer."
            .to_owned(),
        Some(trend) => {
            let holds = |value: f64| trend.ends.is_some_and(|(lo, hi)| lo <= value && value <= hi);
            let judged = match (holds(0.0), holds(-1.0)) {
                (true, true) => "too uncertain to tell one rate for all from the rule 0.32/d",
                (true, false) => "one rate may be used for all of them; the rule 0.32/d lowers it too fast",
                (false, true) => "the rule 0.32/d carries over, one rate for all does not",
                (false, false) if trend.ends.is_some() => {
                    "neither one rate for all nor the rule 0.32/d carries over"
                }
                _ => "two widths give no interval: try three or more",
            };
            format!("{}: {judged}.", capital(&trend.words))
        }
    };
    format!("{rates} {sizes}")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(width: usize, best: Option<f64>, after: f64) -> Width {
        let scales = vec![Scale { part: "mlp 1".to_owned(), before: 1.0, after }];
        Width { width, losses: Vec::new(), best, scales }
    }

    #[test]
    fn what_transfers_is_told_from_what_does_not() {
        let of = |power: f64, size: f64| -> Vec<Width> {
            // A wobble, so that there is an interval.
            [(32, 1.01), (64, 0.98), (128, 1.02), (256, 0.99)]
                .map(|(w, wobble)| {
                    let x = w as f64 / 32.0;
                    width(w, Some(1e-2 * x.powf(power) * wobble), x.powf(size) * wobble)
                })
                .to_vec()
        };
        let said = |widths: &[Width]| verdict(rate_trend(widths).as_ref(), &trends(widths));
        let rule = said(&of(-1.0, 0.0));
        assert!(rule.contains("the rule 0.32/d carries over") && rule.contains("keeps its size"), "{rule}");
        let one = said(&of(0.0, 0.5));
        assert!(one.contains("one rate may be used") && one.contains("change: mlp 1"), "{one}");
        assert!(said(&of(-0.5, 0.0)).contains("neither"));
        let outside = [width(32, None, 1.0), width(64, Some(1e-2), 1.0)];
        assert!(said(&outside).contains("no word on transfer"));
        assert!(
            said(&[width(32, Some(1e-2), 1.0), width(64, Some(5e-3), 1.0)])
                .contains("two widths give no interval")
        );
    }

    #[test]
    fn a_short_check_of_small_models_has_every_figure() {
        let asked = Asked { widths: vec![16, 32], layers: 1, steps: 3, init: Init::Scaled, seed: 1 };
        let corpus = isoflop_data::builtin().unwrap();
        let mut heard = 0;
        let found = check(&asked, &corpus, &Stop::default(), &mut |_, of, _| heard = of).unwrap();
        assert_eq!((heard, found.widths.len(), found.tokens), (16, 2, 3 * 8 * 256));
        for width in &found.widths {
            assert_eq!(width.losses.len(), 8, "{width:?}");
            let parts: Vec<&str> = width.scales.iter().map(|s| s.part.as_str()).collect();
            assert_eq!(parts, ["embedding", "attention 1", "mlp 1", "logits"]);
            assert!(width.scales.iter().all(|s| s.before > 0.0 && s.after.is_finite()), "{width:?}");
        }
        assert_eq!(found.scales.len(), 4);
    }
}
