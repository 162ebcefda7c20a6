//! Training curves: loss against tokens, the trunk at constant rate and each decayed branch leaving it.

use crate::data::Data;
use crate::input::ReportInput;
use crate::numbers;
use crate::plot::{Panel, Width, spread_labels};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};
use std::collections::BTreeMap;

/// Points a drawn curve keeps at most; more cannot be seen.
const KEPT_POINTS: usize = 110;

/// One place on a curve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) tokens: f64,
    pub(crate) flops: f64,
    pub(crate) loss: f64,
    pub(crate) decayed: bool,
}

/// One segment of a run: its trunk, or a branch.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) run: String,
    pub(crate) segment: String,
    pub(crate) n: Option<f64>,
    pub(crate) places: Vec<Place>,
    /// Whether the losses are training losses, averaged over neighbouring steps, for want of validation losses.
    pub(crate) from_training: bool,
}

/// The segments of every run in the order of N, run and segment, thinned evenly in ln tokens.
pub(crate) fn curves(input: &ReportInput) -> Vec<Curve> {
    let mut sizes: BTreeMap<&str, f64> = BTreeMap::new();
    for row in &input.runs {
        sizes.insert(&row.run, row.params as f64);
    }
    for point in &input.points {
        sizes.insert(&point.run, point.params as f64);
    }
    let mut rows: BTreeMap<(&str, &str), Vec<&isoflop_base::CurveRow>> = BTreeMap::new();
    for row in &input.curves {
        rows.entry((&row.run, &row.segment)).or_default().push(row);
    }
    let mut out: Vec<Curve> = rows
        .into_iter()
        .map(|((run, segment), rows)| {
            let of = |loss: fn(&isoflop_base::CurveRow) -> Option<f64>| -> Vec<Place> {
                rows.iter()
                    .filter_map(|r| {
                        let loss = loss(r).filter(|l| l.is_finite() && *l > 0.0)?;
                        (r.tokens > 0).then_some(Place {
                            tokens: r.tokens as f64,
                            flops: r.flops,
                            loss,
                            decayed: r.decayed,
                        })
                    })
                    .collect()
            };
            let validation = of(|r| r.val_loss);
            let from_training = validation.len() < 2;
            let places = if from_training { of(|r| Some(r.train_loss)) } else { validation };
            Curve {
                run: run.to_owned(),
                segment: segment.to_owned(),
                n: sizes.get(run).copied(),
                places: thin(places),
                from_training,
            }
        })
        .filter(|c| c.places.len() >= 2)
        .collect();
    join_branches(&mut out);
    out.sort_by(|a, b| {
        a.n.unwrap_or(0.0)
            .total_cmp(&b.n.unwrap_or(0.0))
            .then_with(|| (&a.run, &a.segment).cmp(&(&b.run, &b.segment)))
    });
    out
}

/// Means over bins that are even in ln tokens.
fn thin(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_by(|a, b| a.tokens.total_cmp(&b.tokens));
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return places };
    if places.len() <= KEPT_POINTS || last.tokens <= first.tokens {
        return places;
    }
    let (from, span) = (first.tokens.ln(), (last.tokens / first.tokens).ln());
    let bin = |p: &Place| ((p.tokens.ln() - from) / span * KEPT_POINTS as f64) as usize;
    let mut out: Vec<Place> = Vec::new();
    let mut start = 0;
    while start < places.len() {
        let here = bin(&places[start]);
        let end = start + places[start..].iter().take_while(|p| bin(p) == here).count();
        let (members, n) = (&places[start..end], (end - start) as f64);
        let mean = |value: fn(&Place) -> f64| members.iter().map(value).sum::<f64>() / n;
        out.push(Place {
            tokens: mean(|p| p.tokens),
            flops: mean(|p| p.flops),
            loss: mean(|p| p.loss),
            decayed: places[end - 1].decayed,
        });
        start = end;
    }
    out
}

/// Gives each branch the trunk's last place before it, so that it is seen to leave the trunk.
fn join_branches(curves: &mut [Curve]) {
    let trunks: BTreeMap<String, Vec<Place>> =
        curves.iter().filter(|c| c.segment == "trunk").map(|c| (c.run.clone(), c.places.clone())).collect();
    for curve in curves.iter_mut().filter(|c| c.segment != "trunk") {
        let Some(first) = curve.places.first().copied() else { continue };
        let before = trunks.get(&curve.run).and_then(|t| t.iter().rev().find(|p| p.tokens < first.tokens));
        if let Some(place) = before {
            curve.places.insert(0, Place { decayed: true, ..*place });
        }
    }
}

/// A stretch of a curve before or after the rate began to fall.
pub(crate) fn draw(svg: &mut Svg, panel: &Panel, curve: &Curve, x: fn(&Place) -> f64) {
    let at = |p: &Place| panel.inside(x(p), p.loss);
    let split = curve.places.iter().position(|p| p.decayed).unwrap_or(curve.places.len());
    svg.path("curve", curve.places[..split].iter().map(at));
    if split < curve.places.len() {
        svg.path("curve decayed", curve.places[split.saturating_sub(1)..].iter().map(at));
    }
}

/// The figure, or `None` without curves.
pub(crate) fn training_curves(id: &str, input: &ReportInput, data: &Data, width: Width) -> Option<String> {
    let curves = curves(input);
    let places = || curves.iter().flat_map(|c| &c.places);
    let first = places().map(|p| p.tokens).fold(f64::INFINITY, f64::min);
    let last = places().map(|p| p.tokens).fold(0.0, f64::max);
    // The first steps fall from ln V; below 2 % of the run nothing of the end could be told apart.
    let from = first.max(last * 0.02);
    let x = Axis::over(places().map(|p| p.tokens).filter(|t| *t >= from), Spread::Log, Style::Count, 0.02)?;
    let shown = places().filter(|p| p.tokens >= from).map(|p| p.loss);
    let points = data.obs.iter().map(|o| o.loss);
    let y = Axis::over(shown.chain(points), Spread::Log, Style::Plain, 0.04)?;
    let (left, top, height) = (52.0, 34.0, width.pick(430.0, 360.0));
    let panel = Panel::new(x, y, left, width.px() - width.pick(96.0, 62.0), top, height - 46.0);
    let mut svg = Svg::new(
        id,
        width.px(),
        height,
        "Training curves",
        "Loss against training tokens for every run. Thin lines: learning rate still constant; thick lines: \
         learning rate decaying to zero; marks: finished points.",
    );
    panel.frame(&mut svg, width.pick(6, 3), 7, true);
    let what = if curves.iter().all(|c| c.from_training) { "training loss" } else { "validation loss" };
    panel.titles(&mut svg, "training tokens", &format!("{what}, {}", data.loss_unit));
    for curve in &curves {
        svg.group_of(&format!("series {}", data.size_class(curve.n)), &data.size_class(curve.n), &curve.run);
        draw(&mut svg, &panel, curve, |p| p.tokens);
        svg.end();
    }
    for o in &data.obs {
        let Some((px, py)) = o.d.and_then(|d| panel.inside(d, o.loss)) else { continue };
        let class = data.size_class(o.n);
        svg.group_of(&format!("series {class}"), &class, "");
        svg.mark(0, "dot", px, py, 3.6, &data.tip(o));
        svg.end();
    }
    label_sizes(&mut svg, &panel, data, &curves);
    Some(svg.finish())
}

/// N of each size at the right edge, where its longest curve ends.
fn label_sizes(svg: &mut Svg, panel: &Panel, data: &Data, curves: &[Curve]) {
    let ends: Vec<(f64, f64)> = data
        .sizes
        .iter()
        .filter_map(|n| {
            let own = curves.iter().filter(|c| c.n.is_some_and(|m| crate::data::same(m, *n)));
            let last = own.filter_map(|c| c.places.last()).max_by(|a, b| a.tokens.total_cmp(&b.tokens))?;
            Some((*n, panel.y.clamped(last.loss)?))
        })
        .collect();
    if ends.len() > 16 {
        return;
    }
    let wanted: Vec<f64> = ends.iter().map(|e| e.1).collect();
    for ((n, wanted), y) in ends.iter().zip(spread_labels(&wanted, 16.0, panel.top + 4.0, panel.bottom - 4.0))
    {
        let class = data.size_class(Some(*n));
        svg.group_of(&format!("series {class}"), &class, "");
        svg.line("leader", panel.right + 1.0, *wanted, panel.right + 9.0, y);
        svg.text("label", Anchor::Start, panel.right + 12.0, y + 4.0, &numbers::count(*n));
        svg.end();
    }
}
