//! How sure an allocation is.

use crate::Table;
use crate::document::{Allocation, LineSpread};
use crate::numeric::quantile::t_quantile;
use crate::table::same_level;

/// Sizes that must be left to be left out in turn: below, a single one decides.
const LEAST_SIZES: usize = 5;
/// Sizes are left out one by one up to here; more are left out in so many groups (every k-th size together), which
/// estimates the same variance with as many degrees of freedom as anybody needs.
const GROUPS: usize = 60;

/// Intervals by the jackknife over sizes: every size is left out in turn, with all its budgets and seeds, since points
/// of one size share their run. Student's t with one degree of freedom less than there are sizes, or groups of them. A
/// size without which the approach finds nothing leaves no interval.
pub fn leaving_out_sizes(
    table: &Table,
    mut whole: Allocation,
    find: impl Fn(&Table) -> Option<Allocation>,
    level: f64,
) -> Allocation {
    let mut sizes: Vec<f64> = table.rows.iter().filter_map(|r| r.n).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup_by(|b, a| same_level(*a, *b));
    if sizes.len() < LEAST_SIZES {
        whole.interval_method = format!("no interval: fewer than {LEAST_SIZES} sizes");
        return whole;
    }
    let groups = sizes.len().min(GROUPS);
    let group = |n: f64| {
        // The nearest size: rows of one size may differ by rounding.
        let above = sizes.partition_point(|s| *s < n).min(sizes.len() - 1);
        let near = |k: usize| (sizes[k] - n).abs();
        let index = if above > 0 && near(above - 1) < near(above) { above - 1 } else { above };
        index % groups
    };
    let of: Vec<Option<usize>> = table.rows.iter().map(|r| r.n.map(group)).collect();
    let mut without = table.clone();
    let mut found = Vec::with_capacity(groups);
    for left_out in 0..groups {
        let kept = table.rows.iter().zip(&of).filter(|(_, g)| g.is_some_and(|g| g != left_out));
        without.rows = kept.map(|(row, _)| row.clone()).collect();
        match find(&without) {
            Some(allocation) => found.push(allocation),
            None => {
                let some = if groups < sizes.len() { " and those that go with it" } else { "" };
                whole.interval_method =
                    format!("no interval: nothing is found without N = {}{some}", sizes[left_out]);
                return whole;
            }
        }
    }
    let quantile = t_quantile(0.5 + 0.5 * level, groups as f64 - 1.0);
    let spread_n = jackknife(&found, quantile, |a| (a.ln_coefficient, a.a.value));
    let se = libm::sqrt(spread_n.exponent);
    whole.a.se = Some(se);
    whole.a.lo = Some(whole.a.value - quantile * se);
    whole.a.hi = Some(whole.a.value + quantile * se);
    whole.spread_d = Some(jackknife(&found, quantile, |a| (a.ln_coefficient_d, a.b)));
    whole.spread_n = Some(spread_n);
    let grouped = if groups < sizes.len() { format!(" in {groups} groups") } else { String::new() };
    whole.interval_method = format!(
        "jackknife over {} sizes{grouped} with Student's t, since budgets share the runs of a size",
        sizes.len()
    );
    whole
}

fn jackknife(found: &[Allocation], quantile: f64, line: impl Fn(&Allocation) -> (f64, f64)) -> LineSpread {
    let count = found.len() as f64;
    let lines: Vec<(f64, f64)> = found.iter().map(line).collect();
    let mean = |pick: fn(&(f64, f64)) -> f64| lines.iter().map(pick).sum::<f64>() / count;
    let (g, a) = (mean(|l| l.0), mean(|l| l.1));
    let sum = |term: &dyn Fn(f64, f64) -> f64| {
        (count - 1.0) / count * lines.iter().map(|l| term(l.0 - g, l.1 - a)).sum::<f64>()
    };
    LineSpread {
        coefficient: sum(&|g, _| g * g),
        both: sum(&|g, a| g * a),
        exponent: sum(&|_, a| a * a),
        quantile,
    }
}

impl LineSpread {
    /// Interval around `value`, the line at `c` FLOPs.
    pub fn around(&self, value: f64, c: f64) -> (f64, f64) {
        let ln_c = libm::log(c);
        let variance = self.coefficient + 2.0 * self.both * ln_c + self.exponent * ln_c * ln_c;
        let factor = libm::exp(self.quantile * libm::sqrt(variance.max(0.0)));
        (value / factor, value * factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::allocate;
    use crate::{LawDocument, Options, Row};

    /// Budgets of runs under L = 1 + A/N^0.4 + B/D^0.4, the best N being C^0.5 up to a factor; `noise` of each size.
    fn table(sizes: i32, noise: f64) -> Table {
        let mut rows = Vec::new();
        for k in 0..sizes {
            let n = 1e4 * libm::exp(0.5 * f64::from(k));
            let luck = 1.0 + noise * libm::sin(f64::from(7 * k));
            for c in [6e12, 2.4e13, 9.6e13] {
                let d = c / 6.0 / n;
                let loss = luck * (1.0 + 400.0 / libm::pow(n, 0.4) * 0.1 + 400.0 / libm::pow(d, 0.4));
                rows.push(Row { run: format!("n{k}"), ..Row::of(rows.len() + 1, n, d, loss) });
            }
        }
        Table { rows, ..Table::default() }
    }

    fn parabola(sizes: i32, noise: f64) -> Allocation {
        let all = allocate(&table(sizes, noise), &LawDocument::default(), &Options::default());
        all.into_iter().find(|a| a.approach == "parabola").unwrap()
    }

    #[test]
    fn an_interval_holds_the_truth_and_grows_with_the_noise() {
        let widths = [0.0, 0.02].map(|noise| {
            let found = parabola(9, noise);
            let (lo, hi) = (found.a.lo.unwrap(), found.a.hi.unwrap());
            assert!(lo <= 0.5 + 0.03 && hi >= 0.5 - 0.03, "{noise}: {lo} to {hi}");
            hi - lo
        });
        assert!(widths[1] > 2.0 * widths[0], "{widths:?}");
        let found = parabola(9, 0.002);
        let ((near_lo, near_hi), (far_lo, far_hi)) =
            (found.n_interval(2.4e13).unwrap(), found.n_interval(1e15).unwrap());
        assert!(far_hi / far_lo > near_hi / near_lo, "an interval grows away from the budgets");
    }

    #[test]
    fn many_sizes_are_left_out_in_groups_with_as_wide_an_interval() {
        // The same range and noise in four times the sizes halves the error; sixty groups of three see it so.
        let width = |sizes: i32| {
            let mut rows = Vec::new();
            for k in 0..sizes {
                let n = 1e4 * libm::exp(6.0 * f64::from(k) / f64::from(sizes));
                let luck = 1.0 + 0.01 * (crate::numeric::random::Random::new(7, k as u64).uniform() - 0.5);
                for c in [6e12, 2.4e13, 9.6e13] {
                    let d = c / 6.0 / n;
                    let loss = luck * (1.0 + 40.0 / libm::pow(n, 0.4) + 400.0 / libm::pow(d, 0.4));
                    rows.push(Row { run: format!("n{k}"), ..Row::of(rows.len() + 1, n, d, loss) });
                }
            }
            let table = Table { rows, ..Table::default() };
            let all = allocate(&table, &LawDocument::default(), &Options::default());
            let found = all.into_iter().find(|a| a.approach == "parabola").unwrap();
            assert_eq!(found.interval_method.contains("groups"), sizes > 60, "{}", found.interval_method);
            found.a.hi.unwrap() - found.a.lo.unwrap()
        };
        let (few, many) = (width(45), width(180));
        assert!((0.3..0.8).contains(&(many / few)), "{few} {many}");
    }

    #[test]
    fn few_sizes_give_no_interval_and_say_so() {
        let mut few = table(9, 0.0);
        few.rows.retain(|r| r.n.is_some_and(|n| (4e4..2e5).contains(&n)));
        let all = allocate(&few, &LawDocument::default(), &Options::default());
        for found in all.iter().filter(|a| a.approach != "envelope") {
            assert!(found.a.lo.is_none() && found.spread_n.is_none(), "{found:?}");
            assert!(found.interval_method.starts_with("no interval"), "{found:?}");
        }
        assert!(!all.is_empty());
    }
}
