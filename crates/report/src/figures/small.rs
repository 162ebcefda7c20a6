//! The small figures: the exponent by tokens, the ledger's ratio, and residuals of a joint fit.

use crate::data::{Data, fits};
use crate::input::LedgerRow;
use crate::numbers;
use crate::plot::{Panel, Width, spread_labels};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};
use isoflop_laws::{FitRecord, LawDocument};

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 300.0;

/// α of L(N) at each D, with intervals, and the exponents of the literature for comparison.
pub(crate) fn alpha_by_tokens(
    id: &str,
    data: &Data,
    laws: Option<&LawDocument>,
    references: &[(&str, f64)],
) -> Option<String> {
    // Tokens, exponent, its interval.
    type Row = (f64, f64, Option<(f64, f64)>);
    let mut rows: Vec<Row> = fits(laws, "l_n", "pure")
        .filter_map(|f| {
            let d = ["tokens", "d"].iter().find_map(|k| f.condition.get(*k)).copied()?;
            let alpha = f.params.get("alpha")?;
            alpha.value.is_finite().then_some((d, alpha.value, alpha.lo.zip(alpha.hi)))
        })
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    if rows.len() < 2 || rows.len() > 12 {
        return None;
    }
    let x = Axis::over(rows.iter().map(|r| r.0), Spread::Log, Style::Count, 0.3)?;
    let values = rows.iter().flat_map(|r| [Some(r.1), r.2.map(|e| e.0), r.2.map(|e| e.1)]).flatten();
    let y = Axis::over(values.chain(references.iter().map(|r| r.1)), Spread::Linear, Style::Plain, 0.14)?;
    let panel = Panel::new(x, y, 52.0, WIDTH - 84.0, 34.0, HEIGHT - 46.0);
    let description = rows
        .iter()
        .map(|r| format!("At D = {}: {}.", numbers::count(r.0), numbers::fixed(r.1, 4)))
        .collect::<Vec<_>>()
        .join(" ");
    let mut svg = Svg::new(id, WIDTH, HEIGHT, "Exponent α of L(N) at each token count", &description);
    panel.frame(&mut svg, 4, 5, true);
    panel.titles(&mut svg, "training tokens D", "exponent α of L(N)");
    let wanted: Vec<f64> = references.iter().filter_map(|r| panel.y.at(r.1)).collect();
    let placed = spread_labels(&wanted, 28.0, panel.top + 6.0, panel.bottom - 12.0);
    for ((name, value), y) in references.iter().zip(placed) {
        let Some(line_y) = panel.y.at(*value) else { continue };
        svg.line("reference", panel.left, line_y, panel.right, line_y);
        svg.text("sublabel", Anchor::Start, panel.right + 6.0, y + 1.0, name);
        svg.text("sublabel", Anchor::Start, panel.right + 6.0, y + 14.0, &value.to_string());
    }
    svg.path("thread", rows.iter().map(|r| panel.at(r.0, r.1)));
    for (i, (d, alpha, ends)) in rows.iter().enumerate() {
        let Some((px, py)) = panel.at(*d, *alpha) else { continue };
        svg.group(&format!("series {}", data.token_class(Some(*d))));
        if let Some((a, b)) = ends.and_then(|(lo, hi)| panel.y.clamped(lo).zip(panel.y.clamped(hi))) {
            svg.line("bar", px, a, px, b);
        }
        svg.mark(
            i,
            "dot",
            px,
            py,
            5.0,
            &format!("D = {}: α = {}", numbers::count(*d), numbers::fixed(*alpha, 4)),
        );
        if rows.len() <= 5 {
            svg.text("label", Anchor::Start, px + 9.0, py + 4.0, &numbers::fixed(*alpha, 3));
        }
        svg.end();
    }
    Some(svg.finish())
}

/// Exact training FLOPs over 6ND by size.
pub(crate) fn ledger_ratio(id: &str, data: &Data, ledger: &[LedgerRow]) -> Option<String> {
    let mut rows: Vec<(f64, f64)> = ledger
        .iter()
        .map(|r| (r.shape.params() as f64, r.exact_per_token / r.six_n))
        .filter(|r| r.1.is_finite() && r.1 > 0.0)
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    if rows.is_empty() {
        return None;
    }
    let x = Axis::over(rows.iter().map(|r| r.0), Spread::Log, Style::Count, 0.12)?;
    let y = Axis::over(rows.iter().map(|r| r.1).chain([1.0]), Spread::Linear, Style::Plain, 0.12)?;
    let panel = Panel::new(x, y, 52.0, WIDTH - 10.0, 34.0, HEIGHT - 46.0);
    let description = rows
        .iter()
        .map(|r| format!("{}: {}.", numbers::count(r.0), numbers::fixed(r.1, 2)))
        .collect::<Vec<_>>()
        .join(" ");
    let mut svg = Svg::new(id, WIDTH, HEIGHT, "Exact training FLOPs over 6ND by model size", &description);
    panel.frame(&mut svg, 3, 5, true);
    panel.titles(&mut svg, "parameters N", "exact FLOPs / 6ND");
    if let Some(one) = panel.y.at(1.0) {
        svg.line("reference", panel.left, one, panel.right, one);
        svg.text("sublabel", Anchor::Start, panel.left + 4.0, one - 5.0, "C = 6ND");
    }
    svg.path("thread", rows.iter().map(|r| panel.at(r.0, r.1)));
    for (n, ratio) in &rows {
        let Some((px, py)) = panel.at(*n, *ratio) else { continue };
        let class = data.size_class(Some(*n));
        svg.group_of(&format!("series {class}"), &class, "");
        svg.mark(
            0,
            "dot",
            px,
            py,
            5.0,
            &format!("N = {}: {}", numbers::count(*n), numbers::fixed(*ratio, 3)),
        );
        if rows.len() <= 9 {
            svg.text("label", Anchor::Middle, px + 4.0, py - 10.0, &numbers::fixed(*ratio, 2));
        }
        svg.end();
    }
    Some(svg.finish())
}

/// ln observed − ln fitted of a joint fit against the fitted loss.
pub(crate) fn residuals(id: &str, data: &Data, fit: &FitRecord, width: Width) -> Option<String> {
    let rows: Vec<_> = fit
        .residuals
        .iter()
        .filter(|r| r.residual.is_finite() && r.predicted.is_finite() && r.predicted > 0.0)
        .collect();
    let reach = rows.iter().map(|r| r.residual.abs()).fold(0.011, f64::max);
    let x = Axis::over(rows.iter().map(|r| r.predicted), Spread::Log, Style::Plain, 0.05)?;
    let y = Axis::over([-reach, reach], Spread::Linear, Style::Percent, 0.06)?;
    let height = width.pick(280.0, 260.0);
    let panel = Panel::new(x, y, 58.0, width.px() - 12.0, 34.0, height - 46.0);
    let mut svg = Svg::new(
        id,
        width.px(),
        height,
        "Residuals of the joint fit",
        "Difference between observed and fitted log loss of every row against the fitted loss.",
    );
    if let (Some(a), Some(b)) = (panel.y.at(0.01), panel.y.at(-0.01)) {
        svg.rect("tolerance", panel.left, a, panel.right - panel.left, b - a);
    }
    panel.frame(&mut svg, width.pick(7, 4), 5, true);
    if let Some(zero) = panel.y.at(0.0) {
        svg.line("zero", panel.left, zero, panel.right, zero);
    }
    panel.titles(&mut svg, "fitted loss", "ln observed − ln fitted (shaded: ±1 %)");
    for r in rows {
        let Some((px, py)) = panel.at(r.predicted, r.residual) else { continue };
        let class = data.size_class(r.n);
        svg.group_of(&format!("series {class}"), &class, "");
        svg.mark(0, "dot", px, py, 3.4, &format!("{} {}", r.run, numbers::signed_percent(r.residual, 2)));
        svg.end();
    }
    Some(svg.finish())
}
