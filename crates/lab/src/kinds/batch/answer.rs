//! What the page of a study of batches begins with: the batch to use here, the critical one, what others waste.

use super::{Cost, Target};
use crate::kinds::Found;
use crate::kinds::words::count;
use isoflop_base::units::si;

/// Of each size the lowest loss that was aimed at.
fn hardest(targets: &[Target]) -> Vec<&Target> {
    let mut sizes: Vec<f64> = targets.iter().map(|t| t.params).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let lowest = |n: &f64| {
        let of_size = targets.iter().filter(|t| t.params == *n);
        of_size.min_by(|a, b| a.loss.total_cmp(&b.loss)).expect("one of it")
    };
    sizes.iter().map(lowest).collect()
}

/// The batch that reaches a loss soonest, where runs were timed.
fn soonest(target: &Target) -> Option<(&Cost, f64)> {
    let timed = target.costs.iter().filter_map(|c| Some((c, c.seconds()?)));
    timed.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// `512`, or `512 to 2.05 k`.
fn range(values: impl Iterator<Item = f64>) -> Option<String> {
    let (lo, hi) = values.fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)));
    (lo <= hi).then(|| if lo < hi { format!("{} to {}", si(lo), si(hi)) } else { si(lo) })
}

/// The batch to use and the critical one, in one sentence.
pub(super) fn title(targets: &[Target]) -> String {
    let quick = range(hardest(targets).into_iter().filter_map(|t| Some(soonest(t)?.0.batch)));
    let fitted = || targets.iter().filter_map(|t| Some(t.fit.as_ref()?.critical));
    let bounded = range(fitted().filter(|c| c.ends.is_some()).map(|c| c.value));
    let critical = bounded.or_else(|| range(fitted().map(|c| c.value)));
    match (quick, critical) {
        (Some(quick), Some(critical)) => {
            format!("Train with {quick} tokens a step on this machine; the critical batch is {critical}")
        }
        (None, Some(critical)) => format!("The critical batch is {critical} tokens"),
        (Some(quick), None) => format!("Train with {quick} tokens a step on this machine"),
        (None, None) => "Which batch to train with cannot be said of these rates".to_owned(),
    }
}

/// The batch to use, and what others waste.
pub(super) fn answer(found: &Found<'_>, targets: &[Target]) -> String {
    let one = |target: &&Target| {
        let fewest = target.fewest();
        let by_tokens =
            target.costs.iter().min_by(|a, b| a.tokens.total_cmp(&b.tokens)).expect("three of them");
        let timed = target.costs.iter().filter_map(|c| Some((c, c.seconds()?)));
        let slowest = timed.max_by(|a, b| a.1.total_cmp(&b.1));
        let words = match soonest(target).zip(slowest) {
            Some(((cost, seconds), slow)) => {
                format!(
                    "use {} tokens a step here: {:.0} s to reach {:.3}, with {:.1} times the fewest tokens; a batch of {} \
                     takes {:.1} times as long",
                    si(cost.batch),
                    seconds,
                    target.loss,
                    cost.tokens / fewest,
                    si(slow.0.batch),
                    slow.1 / seconds
                )
            }
            None => format!("no run was timed; fewest tokens to reach {:.3}", target.loss),
        };
        let largest = target.costs.last().expect("three of them");
        format!(
            "N = {}: {words}. The fewest tokens, {}, are needed with {} a step; {} a step needs {:.1} times as many",
            si(target.params),
            si(fewest),
            si(by_tokens.batch),
            si(largest.batch),
            largest.tokens / fewest
        )
    };
    format!(
        "{}. ({}; speeds are those of the fastest run of each batch.)",
        hardest(targets).iter().map(one).collect::<Vec<_>>().join(". "),
        count(found.seeds(), "seed")
    )
}
