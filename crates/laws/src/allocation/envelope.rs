//! Approach 1: which run is lowest at each compute, over whole training curves or over the finished points of runs that
//! have several?

use crate::Table;
use crate::document::{Allocation, Optimum};

/// Rows from which on a run is a training curve; with fewer, at least two, they are its finished points.
const CURVE: usize = 6;
/// Places on the compute axis.
const PLACES: usize = 200;

/// Two numbers of a run (see where it is filled), and its points: (ln C, ln loss).
type Curve = (f64, f64, Vec<(f64, f64)>);

/// The envelope of the curves: each place's lowest run, if at least three runs are lowest somewhere. The first tenth of
/// every training curve is left out, and places where the lowest run is the smallest or largest of all tell only a
/// bound and are left out as well.
pub fn allocation(table: &Table) -> Option<Allocation> {
    // N, FLOPs per token, and (ln C, ln L) of each run.
    let mut curves: Vec<Curve> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for row in table.rows.iter().filter(|r| !r.run.is_empty()) {
        let (Some(c), Some(n), Some(d)) = (row.c, row.n, row.d) else { continue };
        let index = names.iter().position(|k| *k == row.run).unwrap_or_else(|| {
            names.push(&row.run);
            curves.push((n, c / d, Vec::new()));
            names.len() - 1
        });
        curves[index].2.push((libm::log(c), libm::log(row.loss)));
    }
    curves.retain_mut(|(_, _, points)| {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup_by(|b, a| a.0 == b.0);
        let last = points.last().map_or(0.0, |p| p.0);
        points.retain(|p| p.1.is_finite());
        if points.len() >= CURVE {
            // The first tenth of the run's compute is left out.
            points.retain(|p| p.0 >= last - std::f64::consts::LN_10);
        }
        points.len() >= 2
    });
    if curves.len() < 3 {
        return None;
    }
    let low = curves.iter().map(|c| c.2[0].0).fold(f64::INFINITY, f64::min);
    let high = curves.iter().map(|c| c.2[c.2.len() - 1].0).fold(f64::NEG_INFINITY, f64::max);
    let smallest = curves.iter().map(|c| c.0).fold(f64::INFINITY, f64::min);
    let largest = curves.iter().map(|c| c.0).fold(0.0, f64::max);
    let mut optima: Vec<Optimum> = Vec::new();
    for i in 0..PLACES {
        let x = low + (high - low) * i as f64 / (PLACES - 1) as f64;
        let best = curves
            .iter()
            .filter_map(|(n, per_token, points)| Some((*n, between(points, x)?, *per_token)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((n, ln_loss, per_token)) = best.filter(|b| b.0 > smallest && b.0 < largest) else {
            continue;
        };
        let c = libm::exp(x);
        optima.push(Optimum {
            c,
            n,
            d: c / per_token,
            loss: Some(libm::exp(ln_loss)),
            interior: true,
            rows: 1,
        });
    }
    let mut sizes: Vec<f64> = optima.iter().map(|o| o.n).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    if sizes.len() < 2 {
        return None;
    }
    let mut out = super::line("envelope", optima)?;
    out.notes.push(format!(
        "{} sizes are lowest somewhere, neighbouring places share their runs; rows before the end of a schedule \
         are no finished points",
        sizes.len()
    ));
    Some(out)
}

/// Linear interpolation inside a curve.
fn between(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.iter().position(|p| p.0 >= x)?;
    if after == 0 {
        return (points[0].0 == x).then_some(points[0].1);
    }
    let (a, b) = (points[after - 1], points[after]);
    Some(a.1 + (x - a.0) / (b.0 - a.0) * (b.1 - a.1))
}
