//! How far runs differ that differ in nothing but their seed.

use crate::Table;
use crate::document::SeedSpread;
use crate::table::same_level;
use std::collections::BTreeMap;

/// Rows that share N, D and every setting the table knows, and differ in seed or run.
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Group {
    lines: Vec<usize>,
    /// The runs whose rows these are: groups of the same runs at other D see the same luck again.
    runs: Vec<String>,
    sum_of_squares: f64,
    mean_loss: f64,
}

impl Repeats {
    /// The repeated (N, D) of a table.
    pub fn of(table: &Table) -> Self {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (i, row) in table.rows.iter().enumerate().filter(|(_, row)| row.seed.is_some()) {
            let same = |j: usize| {
                let other = &table.rows[j];
                let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
                    (Some(x), Some(y)) => same_level(x, y),
                    _ => false,
                };
                close(row.n, other.n)
                    && close(row.d, other.d)
                    && ["lr", "batch", "junk", "unique_tokens"]
                        .iter()
                        .all(|k| row.extra.get(*k) == other.extra.get(*k))
                    && row.labels == other.labels
            };
            match groups.iter().position(|g| same(g[0])) {
                Some(k) => groups[k].push(i),
                None => groups.push(vec![i]),
            }
        }
        let summed = groups.into_iter().filter_map(|members| {
            let distinct =
                members.iter().map(|i| table.rows[*i].seed).collect::<std::collections::BTreeSet<_>>();
            if distinct.len() < 2 {
                return None;
            }
            let logs: Vec<f64> = members.iter().map(|i| libm::log(table.rows[*i].loss)).collect();
            let mean = logs.iter().sum::<f64>() / logs.len() as f64;
            Some(Group {
                lines: members.iter().map(|i| table.rows[*i].line).collect(),
                runs: runs_of(table, &members),
                sum_of_squares: logs.iter().map(|x| (x - mean) * (x - mean)).sum(),
                mean_loss: libm::exp(mean),
            })
        });
        Self { groups: summed.collect() }
    }

    /// Pooled spread, if anything was repeated.
    pub fn spread(&self) -> Option<SeedSpread> {
        let (ss, dof) = self.outside(&[]);
        if dof == 0 {
            return None;
        }
        let sigma_ln = libm::sqrt(ss / dof as f64);
        let mean_loss = self.groups.iter().map(|g| g.mean_loss).sum::<f64>() / self.groups.len() as f64;
        Some(SeedSpread { sigma_ln, sigma_loss: sigma_ln * mean_loss, dof, groups: self.groups.len() })
    }

    /// Sum of squares and degrees of freedom of the groups that are not part of `lines`: what seeds tell beyond those
    /// rows, whose own scatter already is in their residuals. Groups of the same runs count once, by their mean.
    pub fn outside(&self, lines: &[usize]) -> (f64, usize) {
        let mut by_runs: BTreeMap<&[String], (f64, usize, usize)> = BTreeMap::new();
        let mut total = (0.0, 0);
        for group in self.groups.iter().filter(|g| !g.lines.iter().any(|l| lines.contains(l))) {
            let dof = group.lines.len() - 1;
            if group.runs.is_empty() {
                total = (total.0 + group.sum_of_squares, total.1 + dof);
                continue;
            }
            let entry = by_runs.entry(&group.runs).or_default();
            *entry = (entry.0 + group.sum_of_squares, entry.1 + 1, dof);
        }
        for (sum, count, dof) in by_runs.into_values() {
            total = (total.0 + sum / count as f64, total.1 + dof);
        }
        total
    }
}

/// The runs of these rows, sorted; none if one of them has no name.
fn runs_of(table: &Table, rows: &[usize]) -> Vec<String> {
    let mut runs: Vec<String> = rows.iter().map(|i| table.rows[*i].unit().to_owned()).collect();
    runs.sort_unstable();
    if runs.iter().any(String::is_empty) { Vec::new() } else { runs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Row;

    #[test]
    fn only_rows_that_differ_in_seed_alone_are_repeats() {
        let mut table = Table::default();
        for (line, (n, seed, loss)) in
            [(1e5, 1, 2.0), (1e5, 2, 2.02), (1e5, 3, 1.98), (2e5, 1, 1.9)].into_iter().enumerate()
        {
            table.rows.push(Row { seed: Some(seed), ..Row::of(line + 1, n, 1e7, loss) });
        }
        let repeats = Repeats::of(&table);
        let spread = repeats.spread().unwrap();
        assert_eq!((spread.dof, spread.groups), (2, 1));
        assert!((spread.sigma_ln - 0.01).abs() < 1e-4);
        assert_eq!(repeats.outside(&[2]), (0.0, 0));
    }

    #[test]
    fn the_same_runs_seen_at_many_places_tell_of_their_luck_once() {
        let mut table = Table::default();
        for k in 0..10 {
            for (seed, loss) in [(1u64, 2.0), (2, 2.02), (3, 1.98)] {
                let d = 1e7 * 2f64.powi(k);
                let row = Row::of(table.rows.len() + 1, 1e5, d, loss);
                table.rows.push(Row { seed: Some(seed), run: format!("s{seed}"), ..row });
            }
        }
        let spread = Repeats::of(&table).spread().unwrap();
        assert_eq!((spread.dof, spread.groups), (2, 10));
        assert!((spread.sigma_ln - 0.01).abs() < 1e-4);
    }
}
