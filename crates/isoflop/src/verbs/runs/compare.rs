//! `isoflop runs compare`: what differs between runs, and by how much their losses do.
//!
//! Runs evaluated on the same held-out blocks are compared in pairs: most of a block's loss is how hard its text is,
//! which cancels in the difference, so the paired error is much smaller than either run's own.

use super::{
    Answer,
    table::{self, Table},
};
use isoflop_base::{BlockLoss, Point, units};
use isoflop_store::{RunView, Store, differences};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _};

pub(super) fn compare(store: &Store, ids: &[String]) -> anyhow::Result<Answer> {
    let runs: Vec<RunView> = ids.iter().map(|id| store.read_run(id)).collect::<Result<_, _>>()?;
    let points: Vec<Vec<Point>> = runs.iter().map(RunView::points).collect::<Result<_, _>>()?;
    let keys = differing_keys(&runs);
    let losses = losses(&runs, &points);

    let mut text = String::new();
    if keys.is_empty() {
        text.push_str("the specifications are the same\n");
    } else {
        let mut columns = vec![("key", false)];
        columns.extend(ids.iter().map(|id| (id.as_str(), false)));
        let mut table = Table::new(&columns);
        for (key, values) in &keys {
            table.row([vec![key.clone()], values.clone()].concat());
        }
        let _ = write!(text, "{table}");
    }
    let mut table = Table::new(&[
        ("D tokens", true),
        ("run", false),
        ("loss nats/token", true),
        ("minus the first, paired", true),
        ("blocks", true),
    ]);
    for row in &losses {
        table.row(vec![
            units::si(row.tokens as f64),
            row.run.clone(),
            table::loss(row.loss, row.se),
            match &row.paired {
                Ok(Some(p)) => {
                    format!("{:+.4}{}", p.mean, p.se.map_or(String::new(), |se| format!(" ± {se:.4}")))
                }
                Ok(None) => "–".to_owned(),
                Err(why) => (*why).to_owned(),
            },
            table::or_dash(
                row.paired.as_ref().ok().and_then(|p| p.as_ref().map(|p| p.num_blocks.to_string())),
            ),
        ]);
    }
    match losses.is_empty() {
        true => text.push_str("\nthe first run has no finished points\n"),
        false => {
            let _ = write!(text, "\n{table}");
        }
    }
    let keys: Vec<Value> = keys.iter().map(|(k, v)| json!({ "key": k, "values": v })).collect();
    let losses: Vec<Value> = losses.iter().map(LossRow::to_json).collect();
    Ok(Answer { json: json!({ "runs": ids, "differing": keys, "losses": losses }), text, notes: Vec::new() })
}

/// Keys at which any run differs from the first, with every run's value as JSON.
fn differing_keys(runs: &[RunView]) -> Vec<(String, Vec<String>)> {
    let first = runs[0].spec();
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        for d in differences(first, run.spec()) {
            let row = rows.entry(d.key).or_insert_with(|| vec![d.left; runs.len()]);
            row[index] = d.right;
        }
    }
    rows.into_iter().collect()
}

/// One run's loss at one D, and its paired difference from the first run's.
struct LossRow {
    tokens: u64,
    run: String,
    loss: f64,
    se: Option<f64>,
    /// `Ok(None)` for the first run itself; why not, if there is nothing to pair.
    paired: Result<Option<Paired>, &'static str>,
}

impl LossRow {
    fn to_json(&self) -> Value {
        let mut value =
            json!({ "tokens": self.tokens, "run": self.run, "loss": self.loss, "loss_se": self.se });
        match &self.paired {
            Ok(None) => {}
            Ok(Some(p)) => {
                value["paired"] = json!({ "difference": p.mean, "se": p.se, "blocks": p.num_blocks });
            }
            Err(why) => value["paired"] = json!({ "missing": why }),
        }
        value
    }
}

/// Every D the first run finished, with every run that finished it too.
fn losses(runs: &[RunView], points: &[Vec<Point>]) -> Vec<LossRow> {
    let mut rows = Vec::new();
    for reference in &points[0] {
        for (index, run) in runs.iter().enumerate() {
            let Some(point) = points[index].iter().find(|p| p.tokens == reference.tokens) else { continue };
            let paired =
                if index == 0 { Ok(None) } else { paired(&reference.blocks, &point.blocks).map(Some) };
            rows.push(LossRow {
                tokens: point.tokens,
                run: run.id().to_owned(),
                loss: point.loss,
                se: point.loss_se,
                paired,
            });
        }
    }
    rows
}

/// A difference of mean losses over the same tokens, nats per token.
#[derive(Debug, PartialEq)]
struct Paired {
    mean: f64,
    /// Clustered by block; `None` with fewer than two blocks.
    se: Option<f64>,
    num_blocks: usize,
}

/// `b − a`, paired by block. With block differences d and tokens n, the mean is Σd/Σn and its variance that of a
/// ratio, G/(G−1)·Σ(d − mean·n)²/(Σn)² over G blocks (Cochran, *Sampling Techniques*, §6.3).
fn paired(a: &[BlockLoss], b: &[BlockLoss]) -> Result<Paired, &'static str> {
    if a.is_empty() || b.is_empty() {
        return Err("no losses by block");
    }
    let blocks: BTreeMap<u32, &BlockLoss> = a.iter().map(|x| (x.block, x)).collect();
    let mut pairs = Vec::with_capacity(b.len());
    for y in b {
        match blocks.get(&y.block) {
            Some(x) if x.tokens == y.tokens => pairs.push((y.sum - x.sum, y.tokens as f64)),
            _ => return Err("other held-out tokens"),
        }
    }
    if pairs.len() != a.len() {
        return Err("other held-out tokens");
    }
    let tokens: f64 = pairs.iter().map(|(_, n)| n).sum();
    let mean = pairs.iter().map(|(d, _)| d).sum::<f64>() / tokens;
    let groups = pairs.len() as f64;
    let squares: f64 = pairs.iter().map(|(d, n)| (d - mean * n).powi(2)).sum();
    let se = (pairs.len() > 1).then(|| (groups / (groups - 1.0) * squares).sqrt() / tokens);
    Ok(Paired { mean, se, num_blocks: pairs.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(sums: &[f64]) -> Vec<BlockLoss> {
        sums.iter().enumerate().map(|(i, &sum)| BlockLoss { block: i as u32, sum, tokens: 10 }).collect()
    }

    #[test]
    fn a_paired_difference_of_equal_blocks_is_the_mean_and_its_textbook_error() {
        let found = paired(&blocks(&[30.0, 50.0, 10.0]), &blocks(&[31.0, 52.0, 13.0])).unwrap();
        // Per-token differences 0.1, 0.2, 0.3: mean 0.2, standard deviation 0.1, error 0.1/√3.
        assert!((found.mean - 0.2).abs() < 1e-12);
        assert!((found.se.unwrap() - 0.1 / 3f64.sqrt()).abs() < 1e-12);
        assert_eq!(found.num_blocks, 3);
    }

    #[test]
    fn other_tokens_are_not_paired() {
        assert!(paired(&blocks(&[1.0, 2.0]), &blocks(&[1.0])).is_err());
        assert!(paired(&[], &blocks(&[1.0])).is_err());
        assert_eq!(paired(&blocks(&[1.0]), &blocks(&[2.0])).unwrap().se, None);
        let mut other = blocks(&[1.0, 2.0]);
        other[1].tokens = 11;
        assert!(paired(&blocks(&[1.0, 2.0]), &other).is_err());
    }
}
