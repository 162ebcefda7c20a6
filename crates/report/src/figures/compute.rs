//! Loss against training compute: every run's curve faint, the finished points, their frontier, and L(C) fitted to it.

use super::curves::{self, Curve};
use crate::data::{Data, Obs, fits, law_at};
use crate::input::ReportInput;
use crate::numbers;
use crate::plot::{Panel, Width, text_width};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};
use isoflop_laws::LawDocument;

/// Finished points that no other point beats with less or equal compute, by rising compute.
pub(crate) fn frontier(data: &Data) -> Vec<&Obs> {
    let mut all: Vec<&Obs> = data.obs.iter().filter(|o| o.c.is_some()).collect();
    all.sort_by(|a, b| {
        a.c.unwrap_or(0.0)
            .total_cmp(&b.c.unwrap_or(0.0))
            .then(a.loss.total_cmp(&b.loss))
            .then_with(|| a.run.cmp(&b.run))
    });
    let mut best = f64::INFINITY;
    all.retain(|o| {
        let better = o.loss < best;
        best = best.min(o.loss);
        better
    });
    all
}

/// The figure, or `None` without points that know their compute.
pub(crate) fn compute(
    id: &str,
    data: &Data,
    input: Option<&ReportInput>,
    laws: Option<&LawDocument>,
    width: Width,
) -> Option<String> {
    let curves = input.map(curves::curves).unwrap_or_default();
    let front = frontier(data);
    let lowest_c = data.obs.iter().filter_map(|o| o.c).fold(f64::INFINITY, f64::min);
    // A decade before the first finished point is enough of the fall from ln V.
    let from = lowest_c / 8.0;
    let worst = data.obs.iter().filter(|o| o.c.is_some()).map(|o| o.loss).fold(0.0, f64::max);
    let shown: Vec<_> = curves
        .iter()
        .flat_map(|c| &c.places)
        .filter(|p| p.flops >= from && p.loss <= worst * 1.16)
        .map(|p| (p.flops, p.loss))
        .collect();
    let points = || data.obs.iter().filter_map(|o| Some((o.c?, o.loss)));
    let x = Axis::over(points().chain(shown.iter().copied()).map(|p| p.0), Spread::Log, Style::Power, 0.03)?;
    let y = Axis::over(points().chain(shown.iter().copied()).map(|p| p.1), Spread::Log, Style::Plain, 0.05)?;
    let (left, top, height) = (52.0, 34.0, width.pick(450.0, 370.0));
    let panel = Panel::new(x, y, left, width.px() - width.pick(62.0, 46.0), top, height - 46.0);
    let mut svg = Svg::new(
        id,
        width.px(),
        height,
        "Loss against training compute",
        "Every finished point against its training FLOPs, with the training curves behind them. The dark line is \
         the frontier: the lowest finished loss for each amount of compute.",
    );
    panel.frame(&mut svg, width.pick(6, 4), 7, true);
    panel.titles(&mut svg, "training compute C, FLOP", &format!("validation loss, {}", data.loss_unit));
    faint_curves(&mut svg, &panel, data, &curves);
    svg.path("frontier", front.iter().map(|o| o.c.and_then(|c| panel.at(c, o.loss))));
    fitted(&mut svg, &panel, laws, &front, width);
    for o in &data.obs {
        let Some((px, py)) = o.c.and_then(|c| panel.at(c, o.loss)) else { continue };
        let class = data.size_class(o.n);
        svg.group_of(&format!("series {class}"), &class, "");
        let mark = if data.is_grid() { data.token_index(o.d) } else { 0 };
        svg.mark(mark, "dot", px, py, if data.obs.len() > 60 { 3.2 } else { 4.4 }, &data.tip(o));
        svg.end();
    }
    size_labels(&mut svg, &panel, data);
    if data.is_grid() {
        mark_key(&mut svg, &panel, data);
    }
    Some(svg.finish())
}

fn faint_curves(svg: &mut Svg, panel: &Panel, data: &Data, curves: &[Curve]) {
    for curve in curves {
        let class = data.size_class(curve.n);
        svg.group_of(&format!("series faint {class}"), &class, &curve.run);
        curves::draw(svg, panel, curve, |p| p.flops);
        svg.end();
    }
}

fn fitted(svg: &mut Svg, panel: &Panel, laws: Option<&LawDocument>, front: &[&Obs], width: Width) {
    let Some(fit) = fits(laws, "l_c", "pure").next() else { return };
    let Some((lo, hi)) = front.first().and_then(|o| o.c).zip(front.last().and_then(|o| o.c)) else { return };
    let samples: Vec<f64> =
        panel.x.samples(60).into_iter().filter(|c| *c >= lo * 0.5 && *c <= hi * 2.0).collect();
    let (mut lower, mut upper, mut line) = (Vec::new(), Vec::new(), Vec::new());
    for c in samples.iter().copied() {
        let Some((value, band)) = law_at(fit, None, None, Some(c)) else { continue };
        line.push(panel.inside(c, value));
        if let (Some((a, b)), Some(px)) = (band, panel.x.at(c))
            && let (Some(a), Some(b)) = (panel.y.clamped(a), panel.y.clamped(b))
        {
            lower.push((px, a));
            upper.push((px, b));
        }
    }
    svg.group("series law");
    svg.band("band", &lower, &upper);
    svg.path("fit", line);
    if let Some(bent) = fits(laws, "l_c", "irreducible").next() {
        let at = |c: f64| panel.inside(c, law_at(bent, None, None, Some(c))?.0);
        svg.path("fit bent", samples.iter().map(|c| at(*c)));
    }
    let exponent = ["alpha", "alpha_c"].iter().find_map(|n| fit.params.get(n));
    if let Some(p) = exponent {
        let (x, y) = (panel.right - 6.0, panel.top + width.pick(22.0, 20.0));
        svg.text_power("label", Anchor::End, x, y, "frontier: L ∝ C", &numbers::fixed(-p.value, 3));
    }
    svg.end();
}

/// N beside the last point of each size.
fn size_labels(svg: &mut Svg, panel: &Panel, data: &Data) {
    if data.sizes.len() > 12 {
        return;
    }
    let mut taken: Vec<(f64, f64, f64)> = Vec::new();
    for n in &data.sizes {
        let own = data.obs.iter().filter(|o| o.n.is_some_and(|m| crate::data::same(m, *n)) && o.c.is_some());
        let Some(last) = own.max_by(|a, b| a.c.unwrap_or(0.0).total_cmp(&b.c.unwrap_or(0.0))) else {
            continue;
        };
        let Some((px, py)) = last.c.and_then(|c| panel.at(c, last.loss)) else { continue };
        let text = numbers::count(*n);
        let width = 1.15 * text_width(&text);
        // To the upper right if that is free, else elsewhere around the mark.
        let free = |(x, y): &(f64, f64)| {
            *y < panel.bottom - 2.0
                && taken.iter().all(|t| x + width < t.0 || *x > t.0 + t.2 || (y - t.1).abs() > 14.0)
        };
        let places =
            [(8.0, -5.0), (-width / 2.0, -11.0), (8.0, 14.0), (-width - 6.0, 15.0), (-width / 2.0, -26.0)];
        let Some((x, y)) = places.iter().map(|(dx, dy)| (px + dx, py + dy)).find(free) else { continue };
        taken.push((x, y, width));
        let class = data.size_class(Some(*n));
        svg.group_of(&format!("series {class}"), &class, "");
        svg.text("label halo", Anchor::Start, x, y, &text);
        svg.end();
    }
}

/// Which mark stands for which token count, in the empty lower left corner.
fn mark_key(svg: &mut Svg, panel: &Panel, data: &Data) {
    svg.group("series key");
    let texts: Vec<String> = data.tokens.iter().map(|d| format!("D = {}", numbers::count(*d))).collect();
    let height = 18.0 * texts.len() as f64;
    let width = texts.iter().map(|t| text_width(t)).fold(0.0, f64::max) + 26.0;
    svg.rect("plate", panel.left + 4.0, panel.bottom - height - 8.0, width, height + 4.0);
    for (i, text) in texts.iter().enumerate() {
        let y = panel.bottom - height + 18.0 * i as f64 + 6.0;
        svg.mark(i, "dot", panel.left + 14.0, y - 4.0, 4.0, "");
        svg.text("label", Anchor::Start, panel.left + 24.0, y, text);
    }
    svg.end();
}
