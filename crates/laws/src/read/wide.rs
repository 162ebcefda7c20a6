//! A chart exported from Weights & Biases: one column a run (`small - val/loss`, with `…__MIN` and `…__MAX` beside
//! it) over one column of steps. It becomes one row a run and step.

use super::cells::Number;
use super::columns::names_a_loss;
use super::marks::Decimal;
use super::{Cell, Raw};

/// What a chart became.
pub(super) struct Long {
    pub(super) header: Vec<String>,
    pub(super) raws: Vec<Raw>,
    pub(super) note: String,
}

/// A column `run - metric`.
struct Curve<'a> {
    index: usize,
    run: &'a str,
    metric: &'a str,
}

/// The rows of a chart; `None` for any other table.
pub(super) fn unfolded(header: &[String], raws: &[Raw]) -> Option<Long> {
    let split =
        |h: &str| h.rsplit_once(" - ").is_some_and(|(run, metric)| !run.is_empty() && !metric.is_empty());
    if header.iter().any(|h| !split(h) && names_a_loss(h)) {
        return None;
    }
    let curves: Vec<Curve<'_>> = header
        .iter()
        .enumerate()
        .filter(|(_, h)| !h.ends_with("__MIN") && !h.ends_with("__MAX"))
        .filter_map(|(index, h)| {
            let (run, metric) = h.rsplit_once(" - ")?;
            Some(Curve { index, run: run.trim(), metric: metric.trim() })
        })
        .filter(|c| !c.run.is_empty() && !c.metric.is_empty())
        .collect();
    if !curves.iter().any(|c| names_a_loss(c.metric)) {
        return None;
    }
    let shared: Vec<usize> = (0..header.len()).filter(|i| !split(&header[*i])).collect();
    let (mut runs, mut metrics) = (Vec::new(), Vec::new());
    for curve in &curves {
        if !runs.contains(&curve.run) {
            runs.push(curve.run);
        }
        if !metrics.contains(&curve.metric) {
            metrics.push(curve.metric);
        }
    }
    let sizes: Option<Vec<Number>> = runs.iter().map(|run| size_in(run)).collect();
    let has_size = header.iter().any(|h| super::columns::canonical_name(h) == "n");
    let sizes = sizes.filter(|_| !has_size);
    let mut long: Vec<String> = shared.iter().map(|i| header[*i].clone()).collect();
    long.push("run".to_owned());
    long.extend(metrics.iter().map(|m| (*m).to_owned()));
    if sizes.is_some() {
        long.push("n".to_owned());
    }
    let mut out = Vec::new();
    // Run by run, so that a curve stays together.
    for (which, run) in runs.iter().enumerate() {
        let own: Vec<Option<usize>> = metrics
            .iter()
            .map(|m| curves.iter().find(|c| c.run == *run && c.metric == *m).map(|c| c.index))
            .collect();
        for raw in raws {
            if raw.cells.len() != header.len() {
                // Listed once, as in any table.
                if which == 0 {
                    let why = format!("{} cells where the header has {}", raw.cells.len(), header.len());
                    out.push(Raw { line: raw.line, cells: vec![Cell::Broken(why)] });
                }
                continue;
            }
            let values: Vec<Cell> =
                own.iter().map(|i| i.map_or(Cell::Empty, |i| raw.cells[i].clone())).collect();
            // Another run's step.
            if values.iter().all(|c| *c == Cell::Empty) {
                continue;
            }
            let mut cells: Vec<Cell> = shared.iter().map(|i| raw.cells[*i].clone()).collect();
            cells.push(Cell::Text((*run).to_owned()));
            cells.extend(values);
            cells.extend(sizes.as_ref().map(|s| Cell::Number(s[which].value)));
            out.push(Raw { line: raw.line, cells });
        }
    }
    let from_names = if sizes.is_some() { "; N was read from the runs' names" } else { "" };
    let note = format!(
        "a chart of {} runs, one column each, was read as rows of run and step{from_names}",
        runs.len()
    );
    Some(Long { header: long, raws: out, note })
}

/// The size in a run's name, `gpt2-124M`: the one word in it that is a count with a multiple.
fn size_in(run: &str) -> Option<Number> {
    let mut sizes = run.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).filter_map(|word| {
        let multiple = word.ends_with(['k', 'K', 'm', 'M', 'b', 'B']);
        super::cells::parse(word, Decimal::Point).filter(|n| multiple && n.scaled && n.value > 0.0)
    });
    sizes.next().filter(|_| sizes.next().is_none())
}
