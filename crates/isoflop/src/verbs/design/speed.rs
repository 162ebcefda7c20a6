//! How fast a size trains: as told, or as the runs of the store were measured.

use super::DesignArgs;
use crate::cli::Context;
use isoflop_base::units::{duration, parse_count, parse_seconds, si};
use isoflop_lab::UserError;
use isoflop_store::Store;

/// What may be spent.
pub(super) enum Budget {
    /// FLOPs.
    Flops(f64),
    /// Seconds at a speed.
    Seconds(f64, Speed),
}

/// FLOP/s by size.
pub(super) struct Speed {
    /// (N, FLOP/s), ascending in N; a single one holds for all sizes.
    measured: Vec<(f64, f64)>,
    /// Where it comes from, in words.
    pub(super) words: String,
}

impl Speed {
    /// FLOP/s at a size: between measured sizes by their logarithms, beyond them the nearest.
    pub(super) fn at(&self, params: f64) -> f64 {
        let after = self.measured.iter().position(|(n, _)| *n >= params).unwrap_or(self.measured.len());
        match (after.checked_sub(1).map(|i| self.measured[i]), self.measured.get(after)) {
            (Some((n0, s0)), Some((n1, s1))) => {
                let share = libm::log(params / n0) / libm::log(n1 / n0);
                s0 * libm::pow(s1 / s0, share)
            }
            (Some((_, s)), None) | (None, Some(&(_, s))) => s,
            (None, None) => f64::NAN,
        }
    }

    /// From the finished runs of the store.
    fn of_store(ctx: &Context) -> Option<Self> {
        let store = Store::open_existing(&ctx.store).ok()?;
        let mut found: Vec<(f64, f64)> = Vec::new();
        for id in store.run_ids().ok()? {
            let Ok(points) = store.read_run(&id).and_then(|run| run.points()) else { continue };
            let Some(last) = points.iter().max_by_key(|p| p.tokens) else { continue };
            let speed = last.tokens_per_s.value().map(|t| t * last.flops / last.tokens as f64);
            let speed = speed.filter(|s| s.is_finite() && *s > 0.0);
            found.extend(speed.map(|s| (last.params as f64, s)));
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        // Of several runs of a size the slower half is as likely as the faster: their middle.
        let measured: Vec<(f64, f64)> =
            found.chunk_by(|a, b| a.0 == b.0).map(|runs| runs[(runs.len() - 1) / 2]).collect();
        let (first, last) = (measured.first()?, measured.last()?);
        let words = format!(
            "measured in {} runs of {}: {} FLOP/s at N = {} to {} FLOP/s at N = {}",
            found.len(),
            ctx.store.display(),
            si(first.1),
            si(first.0),
            si(last.1),
            si(last.0)
        );
        Some(Self { measured, words })
    }
}

/// `--budget`, with the speed that a time needs.
pub(super) fn budget(args: &DesignArgs, ctx: &Context) -> anyhow::Result<Budget> {
    let text = args.budget.trim();
    let positive = |value: f64| {
        let none = || UserError::new("the budget is zero").hint("write 2h or 1e15");
        if value > 0.0 { Ok(value) } else { Err(anyhow::Error::from(none())) }
    };
    if !text.ends_with(['s', 'm', 'h', 'd']) {
        return Ok(Budget::Flops(positive(parse_count(text).map_err(UserError::from_error)?)?));
    }
    let seconds = positive(parse_seconds(text).map_err(UserError::from_error)?)?;
    let speed = match &args.flop_per_s {
        Some(given) => {
            let value = positive(
                parse_count(given).map_err(|e| UserError::from_error(format!("--flop-per-s: {e}")))?,
            )?;
            Speed { measured: vec![(1.0, value)], words: format!("{} FLOP/s as given", si(value)) }
        }
        None => Speed::of_store(ctx).ok_or_else(|| {
            UserError::new(format!(
                "a budget of {} needs a speed, and no run in {} was measured",
                duration(seconds),
                ctx.store.display()
            ))
            .hint(
                "give --flop-per-s 50e9 (see `isoflop bench`), --store DIR with finished runs, or the \
                       budget in FLOPs",
            )
        })?,
    };
    Ok(Budget::Seconds(seconds, speed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_measured_sizes_the_speed_lies_between() {
        let speed = Speed { measured: vec![(1e4, 1e10), (1e6, 1e12)], words: String::new() };
        assert!((speed.at(1e5) / 1e11 - 1.0).abs() < 1e-12);
        assert_eq!((speed.at(1.0), speed.at(1e4), speed.at(1e9)), (1e10, 1e10, 1e12));
    }
}
