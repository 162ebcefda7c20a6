//! The page's section about a study of several texts: what was read of each, how much of it was new, and whether
//! training waited for it.

use isoflop_base::mix::{MixSpec, Origin, SourceSpec};
use isoflop_base::study::Study;
use isoflop_base::units::{percent, si};
use isoflop_base::{CurveRow, Point};
use isoflop_report::{Grid, Section};
use serde::Serialize;

/// How much of the steps' time went by waiting for batches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DataWait {
    /// Mean share over the intervals between rows of the curve.
    pub mean: f64,
    /// The largest share.
    pub worst: f64,
}

impl DataWait {
    /// Of training curves; none where no row has it.
    pub fn of(rows: &[CurveRow]) -> Option<Self> {
        let shares: Vec<f64> = rows.iter().filter_map(|row| row.data_wait).collect();
        let worst = shares.iter().copied().reduce(f64::max)?;
        Some(Self { mean: shares.iter().sum::<f64>() / shares.len() as f64, worst })
    }
}

/// The section; nothing for a study of one text, or before a point is finished.
pub(crate) fn section(study: &Study, points: &[Point], curves: &[CurveRow]) -> Option<Section> {
    let mix = study.runs.first()?.data.mix.as_ref()?;
    let longest =
        points.iter().filter(|point| !point.sources.is_empty()).max_by_key(|p| (p.tokens, p.params))?;
    let mut paragraphs = vec![format!(
        "Every row of {} tokens is of one source. After every row each source has had its share of the rows to within \
         one, and of its own rows those it would have alone. A token is distinct the first time it is read; passes are \
         over what the source has, or over as much of it as the study reads.",
        longest.context.unwrap_or(0),
    )];
    if let Some(wait) = DataWait::of(curves) {
        paragraphs.push(format!(
            "Steps waited {} of their time for rows, {} in the worst interval between two rows of the curve.",
            percent(wait.mean),
            percent(wait.worst)
        ));
    }
    let mut tables = vec![read(mix, longest)];
    tables.extend(held_out(mix, points));
    Some(Section {
        id: "sources".to_owned(),
        title: "What was read of each source".to_owned(),
        paragraphs,
        tables,
        ..Section::default()
    })
}

fn read(mix: &MixSpec, longest: &Point) -> Grid {
    let columns = ["source", "what it is", "weight", "tokens read", "share", "distinct", "passes"];
    let row = |(index, source): (usize, &SourceSpec)| {
        let seen = longest.sources.iter().find(|seen| seen.name == source.name);
        let weights = mix.stages.iter().map(|stage| {
            let sum: u64 = stage.weights.iter().sum();
            percent(stage.weights[index] as f64 / sum as f64)
        });
        let weights = weights.collect::<Vec<_>>().join(" → ");
        let of = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        vec![
            source.name.clone(),
            what(mix, source),
            weights,
            of(seen.map(|seen| si(seen.tokens as f64))),
            of(seen.map(|seen| percent(seen.tokens as f64 / longest.tokens as f64))),
            of(seen.map(|seen| si(seen.unique_tokens as f64))),
            of(seen.filter(|seen| seen.epochs > 0.0).map(|seen| format!("{:.3}", seen.epochs))),
        ]
    };
    Grid {
        caption: format!("The sources of {} after {} tokens", longest.run, si(longest.tokens as f64)),
        columns: columns.map(str::to_owned).to_vec(),
        rows: mix.sources.iter().enumerate().map(row).collect(),
    }
}

fn what(mix: &MixSpec, source: &SourceSpec) -> String {
    match &source.origin {
        Origin::Tokens { train_tokens, .. } => match source.unique_tokens {
            Some(unique) => format!("text, {} of {} tokens", si(unique as f64), si(*train_tokens as f64)),
            None => format!("text, {} tokens", si(*train_tokens as f64)),
        },
        Origin::Junk { kind, of: Some(of), .. } => format!("{} of {}", kind.word(), mix.sources[*of].name),
        Origin::Junk { kind, .. } => kind.word().to_owned(),
    }
}

/// Losses of further held-out texts beside the one that points are about.
fn held_out(mix: &MixSpec, points: &[Point]) -> Option<Grid> {
    let scored: Vec<&Point> = points.iter().filter(|point| !point.held_out.is_empty()).collect();
    let first = scored.first()?;
    let of_points = format!("{} (the study's loss)", mix.sources[mix.held_out[0]].name);
    let others = first.held_out.iter().map(|other| other.name.clone());
    let columns = ["run".to_owned(), "tokens".to_owned(), of_points].into_iter().chain(others).collect();
    let loss = |loss: f64, se: Option<f64>| match se {
        Some(se) => format!("{loss:.3} ± {:.3}", 1.96 * se),
        None => format!("{loss:.3}"),
    };
    let row = |point: &&Point| {
        let others = point.held_out.iter().map(|other| loss(other.loss, other.loss_se));
        [point.run.clone(), si(point.tokens as f64), loss(point.loss, point.loss_se)]
            .into_iter()
            .chain(others)
            .collect()
    };
    Some(Grid {
        caption: "Held-out loss by source, nats per token, ± 1.96 standard errors".to_owned(),
        columns,
        rows: scored.iter().map(row).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_the_mean_and_the_worst_of_what_was_measured() {
        let row = |data_wait: Option<f64>| -> CurveRow {
            let row = serde_json::json!({
                "run": "r", "segment": "trunk", "step": 1, "tokens": 1, "flops": 1.0, "train_loss": 1.0,
                "val_loss": null, "lr": 0.1, "grad_norm": 1.0, "decayed": false, "tokens_per_s": null,
                "data_wait": data_wait,
            });
            serde_json::from_value(row).unwrap()
        };
        assert_eq!(DataWait::of(&[row(None)]), None);
        let wait = DataWait::of(&[row(Some(0.1)), row(None), row(Some(0.3))]).unwrap();
        assert!((wait.mean - 0.2).abs() < 1e-12 && wait.worst == 0.3);
    }
}
