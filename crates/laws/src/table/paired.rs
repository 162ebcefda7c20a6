//! Mean validation losses and differences between them, with standard errors clustered by held-out block.
//!
//! Tokens of one block are not independent, and all models are scored on the same blocks: so the block is the unit,
//! and a difference is taken block by block before its spread is.

use crate::document::PairedDifference;
use crate::{LawError, Row, Table};
use isoflop_base::BlockLoss;
use std::collections::BTreeMap;

/// Mean loss per token and its standard error: (mean, se). The mean is the ratio Σ sum / Σ tokens, its error the
/// linearised one of a ratio with blocks as clusters, `sqrt(k/(k−1) · Σ (s_b − m·t_b)²) / T`. One block has no error.
///
/// # Errors
/// No block, or none with tokens.
pub fn clustered_mean(blocks: &[BlockLoss]) -> Result<(f64, Option<f64>), LawError> {
    let merged = merge(blocks);
    let sums: Vec<(f64, f64)> = merged.values().map(|&(s, t)| (s, t as f64)).collect();
    ratio(&sums)
}

/// Mean difference of loss per token `a − b` over the blocks both were scored on: (mean, se, blocks).
///
/// # Errors
/// No common block.
pub fn paired_difference(a: &[BlockLoss], b: &[BlockLoss]) -> Result<(f64, Option<f64>, usize), LawError> {
    let (left, right) = (merge(a), merge(b));
    let common: Vec<(f64, f64)> = left
        .iter()
        .filter_map(|(block, &(s, t))| {
            let &(s2, t2) = right.get(block)?;
            (t == t2).then_some((s - s2, t as f64))
        })
        .collect();
    let (mean, se) = ratio(&common)?;
    Ok((mean, se, common.len()))
}

/// The mean over seeds of what each block lost, where all of them were scored on it.
fn mean_over_seeds(seeds: &[&[BlockLoss]]) -> Vec<BlockLoss> {
    let merged: Vec<BTreeMap<u32, (f64, u64)>> = seeds.iter().map(|blocks| merge(blocks)).collect();
    let Some((first, others)) = merged.split_first() else { return Vec::new() };
    let count = merged.len() as f64;
    let shared = first.iter().filter_map(|(block, &(sum, tokens))| {
        let of = |other: &BTreeMap<u32, (f64, u64)>| other.get(block).filter(|o| o.1 == tokens).map(|o| o.0);
        let all = others.iter().map(of).sum::<Option<f64>>()? + sum;
        Some(BlockLoss { block: *block, sum: all / count, tokens })
    });
    shared.collect()
}

/// Paired differences between neighbouring sizes at each D, in the order of D and N. `blocks(row)` gives the blocks
/// of a row; several seeds of a size count by their mean, block by block.
pub fn paired_differences<'a>(
    table: &Table,
    blocks: &dyn Fn(&Row) -> Option<&'a [BlockLoss]>,
) -> Vec<PairedDifference> {
    let mut out = Vec::new();
    for d in table.levels("d") {
        let at_d = table.filtered(|r| r.d.is_some_and(|x| crate::table::same_level(x, d)));
        let mut rows: Vec<&Row> = at_d.rows.iter().filter(|r| r.n.is_some()).collect();
        rows.sort_by(|x, y| x.n.unwrap_or(0.0).total_cmp(&y.n.unwrap_or(0.0)));
        let sizes: Vec<(&Row, Vec<&[BlockLoss]>)> = rows
            .chunk_by(|x, y| x.n == y.n)
            .map(|seeds| (seeds[0], seeds.iter().filter_map(|row| blocks(row)).collect()))
            .collect();
        for pair in sizes.windows(2) {
            let [(small, small_seeds), (large, large_seeds)] = pair else { continue };
            let (left, right) = (mean_over_seeds(small_seeds), mean_over_seeds(large_seeds));
            let Ok((difference, se, count)) = paired_difference(&left, &right) else { continue };
            out.push(PairedDifference {
                small: small.run.clone(),
                large: large.run.clone(),
                small_n: small.n.unwrap_or(0.0),
                large_n: large.n.unwrap_or(0.0),
                tokens: d,
                small_seeds: small_seeds.len(),
                large_seeds: large_seeds.len(),
                difference,
                se,
                blocks: count,
                falls: se.is_some_and(|s| difference > 1.96 * s),
            });
        }
    }
    out
}

fn merge(blocks: &[BlockLoss]) -> BTreeMap<u32, (f64, u64)> {
    let mut out: BTreeMap<u32, (f64, u64)> = BTreeMap::new();
    for b in blocks.iter().filter(|b| b.tokens > 0 && b.sum.is_finite()) {
        let entry = out.entry(b.block).or_default();
        entry.0 += b.sum;
        entry.1 += b.tokens;
    }
    out
}

fn ratio(clusters: &[(f64, f64)]) -> Result<(f64, Option<f64>), LawError> {
    let total: f64 = clusters.iter().map(|c| c.1).sum();
    if clusters.is_empty() || total <= 0.0 {
        return Err(LawError::NoCommonBlocks);
    }
    let mean = clusters.iter().map(|c| c.0).sum::<f64>() / total;
    let k = clusters.len() as f64;
    let spread: f64 = clusters.iter().map(|&(s, t)| (s - mean * t) * (s - mean * t)).sum();
    let se = (clusters.len() > 1).then(|| libm::sqrt(k / (k - 1.0) * spread) / total);
    Ok((mean, se))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(losses: &[f64]) -> Vec<BlockLoss> {
        losses
            .iter()
            .enumerate()
            .map(|(i, l)| BlockLoss { block: i as u32, sum: l * 100.0, tokens: 100 })
            .collect()
    }

    #[test]
    fn equal_blocks_give_the_textbook_standard_error() {
        let (mean, se) = clustered_mean(&blocks(&[1.0, 2.0, 3.0])).unwrap();
        assert!((mean - 2.0).abs() < 1e-12);
        assert!((se.unwrap() - 1.0 / 3f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn pairing_removes_what_the_blocks_share() {
        let a = blocks(&[3.0, 1.0, 5.0, 2.0]);
        let b = blocks(&[2.9, 0.9, 4.9, 1.9]);
        let (mean, se, count) = paired_difference(&a, &b).unwrap();
        assert!((mean - 0.1).abs() < 1e-12 && se.unwrap() < 1e-12 && count == 4);
        let (_, alone) = clustered_mean(&a).unwrap();
        assert!(alone.unwrap() > 0.5);
    }

    #[test]
    fn seeds_of_a_size_count_by_their_mean() {
        let losses = [blocks(&[3.0, 1.0]), blocks(&[2.8, 1.2]), blocks(&[2.5, 0.5])];
        let mut table = Table::default();
        for (n, seed, at) in [(1e4, 1, 0), (1e4, 2, 1), (2e4, 1, 2)] {
            let row = Row::of(table.rows.len() + 1, n, 1e6, 2.0);
            table.rows.push(Row { seed: Some(seed), run: at.to_string(), ..row });
        }
        let of = |row: &Row| Some(losses[row.run.parse::<usize>().unwrap()].as_slice());
        let [pair] = paired_differences(&table, &of).try_into().expect("one pair of sizes");
        assert_eq!((pair.small_seeds, pair.large_seeds, pair.blocks), (2, 1, 2));
        // (2.9 + 1.1)/2 − (2.5 + 0.5)/2
        assert!((pair.difference - 0.5).abs() < 1e-12, "{pair:?}");
    }

    #[test]
    fn no_common_block_is_an_error() {
        let a = [BlockLoss { block: 1, sum: 1.0, tokens: 1 }];
        let b = [BlockLoss { block: 2, sum: 1.0, tokens: 1 }];
        assert_eq!(paired_difference(&a, &b), Err(LawError::NoCommonBlocks));
        assert_eq!(clustered_mean(&[]), Err(LawError::NoCommonBlocks));
    }
}
