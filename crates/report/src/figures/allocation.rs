//! Where compute is best spent: isoFLOP valleys, and contours of L(N, D) with the efficient frontier.

use crate::data::{Data, Obs, law_at, same};
use crate::numbers;
use crate::plot::{Panel, Width, spread_labels};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};
use isoflop_laws::{FitRecord, LawDocument};

/// One budget: its points by rising N and, with four or more, the parabola of loss in ln N through them.
struct Valley<'a> {
    c: f64,
    obs: Vec<&'a Obs>,
    parabola: Option<[f64; 3]>,
}

fn find_valleys(data: &Data) -> Vec<Valley<'_>> {
    data.budgets
        .iter()
        .filter_map(|c| {
            let mut obs: Vec<&Obs> =
                data.obs.iter().filter(|o| o.n.is_some() && o.c.is_some_and(|v| same(v, *c))).collect();
            obs.sort_by(|a, b| a.n.unwrap_or(0.0).total_cmp(&b.n.unwrap_or(0.0)));
            let mut sizes: Vec<f64> = obs.iter().filter_map(|o| o.n).collect();
            sizes.dedup_by(|b, a| same(*a, *b));
            if sizes.len() < 3 {
                return None;
            }
            let xy: Vec<(f64, f64)> = obs.iter().filter_map(|o| Some((o.n?.ln(), o.loss))).collect();
            Some(Valley { c: *c, parabola: (sizes.len() > 3).then(|| parabola(&xy)).flatten(), obs })
        })
        .collect()
}

/// Least squares of `a + b·u + c·u²` with u = x − mean x, given as (a, b, c) of the uncentred polynomial's value at
/// u; `None` unless it opens upwards.
fn parabola(xy: &[(f64, f64)]) -> Option<[f64; 3]> {
    let mean = xy.iter().map(|p| p.0).sum::<f64>() / xy.len() as f64;
    let mut m = [[0.0f64; 4]; 3];
    for (x, y) in xy {
        let u = x - mean;
        let powers = [1.0, u, u * u];
        for i in 0..3 {
            for j in 0..3 {
                m[i][j] += powers[i] * powers[j];
            }
            m[i][3] += powers[i] * y;
        }
    }
    for i in 0..3 {
        let pivot = (i..3).max_by(|a, b| m[*a][i].abs().total_cmp(&m[*b][i].abs()))?;
        m.swap(i, pivot);
        if m[i][i].abs() < 1e-12 {
            return None;
        }
        for k in 0..3 {
            if k != i {
                let factor = m[k][i] / m[i][i];
                for j in i..4 {
                    m[k][j] -= factor * m[i][j];
                }
            }
        }
    }
    let [a, b, c] = [m[0][3] / m[0][0], m[1][3] / m[1][1], m[2][3] / m[2][2]];
    let shifted = [a - b * mean + c * mean * mean, b - 2.0 * c * mean, c];
    (c > 0.0 && shifted.iter().all(|v| v.is_finite())).then_some(shifted)
}

/// Loss against N at each budget, or `None` unless two budgets were tried with three sizes each.
pub(crate) fn valleys(id: &str, data: &Data, width: Width) -> Option<String> {
    let valleys = find_valleys(data);
    let covered: usize = valleys.iter().map(|v| v.obs.len()).sum();
    // Budgets that a few rows share by chance are no isoFLOP design.
    if valleys.len() < 2 || valleys.len() > 16 || 2 * covered < data.obs.len() {
        return None;
    }
    let obs = || valleys.iter().flat_map(|v| &v.obs);
    let x = Axis::over(obs().filter_map(|o| o.n), Spread::Log, Style::Count, 0.04)?;
    let y = Axis::over(obs().map(|o| o.loss), Spread::Log, Style::Plain, 0.06)?;
    let height = width.pick(430.0, 360.0);
    let panel = Panel::new(x, y, 52.0, width.px() - width.pick(96.0, 76.0), 34.0, height - 46.0);
    let mut svg = Svg::new(
        id,
        width.px(),
        height,
        "IsoFLOP valleys",
        "Loss against model size at each compute budget; a parabola through each, and its lowest point.",
    );
    panel.frame(&mut svg, width.pick(6, 3), 7, true);
    panel.titles(&mut svg, "parameters N", &format!("loss, {}", data.loss_unit));
    svg.text("what", Anchor::Start, panel.right + 8.0, panel.top - 12.0, "C, FLOP");
    let mut bottoms = Vec::new();
    let wanted: Vec<f64> =
        valleys.iter().map(|v| v.obs.last().and_then(|o| panel.y.at(o.loss)).unwrap_or(panel.top)).collect();
    let placed = spread_labels(&wanted, 16.0, panel.top + 4.0, panel.bottom - 4.0);
    for (i, (v, y)) in valleys.iter().zip(placed).enumerate() {
        let class = format!("v{i}");
        svg.raw(&format!(
            "<style>.{class}{{--c:{}}}@media(prefers-color-scheme:dark){{.{class}{{--c:{}}}}}</style>",
            crate::palette::tokens(i, valleys.len(), crate::palette::Ground::Light),
            crate::palette::tokens(i, valleys.len(), crate::palette::Ground::Dark),
        ));
        svg.group_of(&format!("series {class}"), &class, "");
        if let (Some([a, b, c]), Some(first), Some(last)) = (v.parabola, v.obs.first(), v.obs.last()) {
            let (lo, hi) = (first.n.unwrap_or(1.0) * 0.9, last.n.unwrap_or(1.0) * 1.1);
            let line = panel.x.samples(90).into_iter().filter(|n| *n >= lo && *n <= hi);
            svg.path("curve decayed", line.map(|n| panel.inside(n, a + b * n.ln() + c * n.ln() * n.ln())));
            let lowest = (-b / (2.0 * c)).exp();
            if lowest >= lo && lowest <= hi {
                bottoms.push(panel.inside(lowest, a - b * b / (4.0 * c)));
            }
        }
        for o in &v.obs {
            if let Some((px, py)) = o.n.and_then(|n| panel.at(n, o.loss)) {
                svg.mark(0, "dot", px, py, 3.8, &data.tip(o));
            }
        }
        svg.text("label", Anchor::Start, panel.right + 8.0, y + 4.0, &numbers::scientific(v.c));
        svg.end();
    }
    svg.group("series law");
    svg.path("fit", bottoms.iter().copied());
    for (x, y) in bottoms.iter().flatten() {
        svg.mark(3, "dot", *x, *y, 4.6, "lowest point of the parabola");
    }
    svg.end();
    Some(svg.finish())
}

/// Fits of L(N, D) that can be evaluated anywhere, best known first.
pub(crate) fn joint_fit(laws: Option<&LawDocument>) -> Option<&FitRecord> {
    ["l_nd_chinchilla", "l_nd_kaplan", "l_nd_power"]
        .iter()
        .find_map(|form| laws?.fits.iter().find(|f| f.form == *form))
        .or_else(|| laws?.fits.iter().find(|f| f.form.starts_with("l_nd")))
}

/// Contours of the fitted L(N, D), the points, lines of equal compute and the efficient frontier.
pub(crate) fn contours(id: &str, data: &Data, laws: Option<&LawDocument>, width: Width) -> Option<String> {
    let fit = joint_fit(laws)?;
    let x = Axis::over(data.obs.iter().filter_map(|o| o.n), Spread::Log, Style::Count, 0.10)?;
    let y = Axis::over(data.obs.iter().filter_map(|o| o.d), Spread::Log, Style::Count, 0.16)?;
    let height = width.pick(430.0, 360.0);
    let panel = Panel::new(x, y, 58.0, width.px() - width.pick(56.0, 40.0), 58.0, height - 46.0);
    let (ns, ds) = (panel.x.samples(61), panel.y.samples(49));
    let grid: Vec<Vec<Option<f64>>> = ds
        .iter()
        .map(|d| ns.iter().map(|n| law_at(fit, Some(*n), Some(*d), Some(6.0 * n * d)).map(|v| v.0)).collect())
        .collect();
    let values = || grid.iter().flatten().flatten().copied();
    let (lo, hi) = values().fold((f64::INFINITY, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
    if lo >= hi {
        return None;
    }
    let levels = Axis::over([lo, hi], Spread::Log, Style::Plain, 0.0)?;
    let levels: Vec<(f64, String)> = levels
        .ticks(9)
        .into_iter()
        .filter_map(|t| Some((t.value, t.label?)))
        .filter(|l| l.0 > lo && l.0 < hi)
        .collect();
    let mut svg = Svg::new(
        id,
        width.px(),
        height,
        "Contours of the fitted L(N, D)",
        "Lines of equal fitted loss over parameters and tokens, the points that were measured, and the efficient \
         frontier: the size that a budget of 6ND is best spent on.",
    );
    panel.frame(&mut svg, width.pick(6, 3), 6, true);
    panel.titles(&mut svg, "parameters N", "");
    svg.text("what", Anchor::Start, panel.left - 44.0, panel.top - 26.0, "training tokens D");
    level_lines(&mut svg, &panel, &grid, &levels, width.px());
    efficient_frontier(&mut svg, &panel, fit);
    for o in &data.obs {
        let Some((px, py)) = o.n.zip(o.d).and_then(|(n, d)| panel.at(n, d)) else { continue };
        let class = data.size_class(o.n);
        svg.group_of(&format!("series {class}"), &class, "");
        svg.mark(0, "dot", px, py, 3.8, &data.tip(o));
        svg.end();
    }
    Some(svg.finish())
}

/// The lines of equal loss, each named where it leaves the panel at the top, else at the right.
fn level_lines(svg: &mut Svg, panel: &Panel, grid: &Grid, levels: &[(f64, String)], right_edge: f64) {
    svg.group("contours");
    let (mut ends, mut tops) = (Vec::<(f64, String)>::new(), Vec::<(f64, String)>::new());
    for (level, label) in levels {
        let segments = march(grid, *level);
        let to_px = |(i, j): (f64, f64)| -> Option<(f64, f64)> {
            let (w, h) = ((grid[0].len() - 1) as f64, (grid.len() - 1) as f64);
            Some((
                panel.left + i / w * (panel.right - panel.left),
                panel.bottom - j / h * (panel.bottom - panel.top),
            ))
        };
        svg.path("contour", segments.iter().flat_map(|(a, b)| [to_px(*a), to_px(*b), None]));
        for place in segments.iter().flat_map(|(a, b)| [to_px(*a), to_px(*b)]).flatten() {
            if place.1 - panel.top < 0.5 {
                tops.push((place.0, label.clone()));
            } else if panel.right - place.0 < 0.5 {
                ends.push((place.1, label.clone()));
            }
        }
    }
    svg.end();
    ends.retain(|e| tops.iter().all(|t| t.1 != e.1));
    tops.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free_from = 0.0;
    for (x, label) in &tops {
        if *x >= free_from && x + 14.0 < panel.right {
            svg.text("sublabel", Anchor::Middle, *x, panel.top - 7.0, label);
            free_from = x + 34.0;
        }
    }
    let wanted: Vec<f64> = ends.iter().map(|e| e.0).collect();
    for ((_, label), y) in ends.iter().zip(spread_labels(&wanted, 15.0, panel.top + 10.0, panel.bottom)) {
        svg.text("sublabel", Anchor::Start, panel.right + 6.0, y + 4.0, label);
    }
    svg.text("what", Anchor::End, right_edge - 2.0, panel.top - 26.0, "at the edge: fitted loss");
}

/// For each budget 6ND that crosses the panel, the N of lowest fitted loss, if that lies inside it.
fn efficient_frontier(svg: &mut Svg, panel: &Panel, fit: &FitRecord) {
    let budget = |n: f64, d: f64| (6.0 * n * d).ln();
    let (from, to) = (budget(panel.x.lo, panel.y.lo), budget(panel.x.hi, panel.y.hi));
    let mut line: Vec<Option<(f64, f64)>> = Vec::new();
    for i in 0..=60 {
        let c = (from + (to - from) * f64::from(i) / 60.0).exp();
        let loss =
            |ln_n: f64| law_at(fit, Some(ln_n.exp()), Some(c / 6.0 / ln_n.exp()), Some(c)).map(|v| v.0);
        // The part of the budget's line N·D = C/6 that crosses the panel.
        let lo = panel.x.lo.max(c / 6.0 / panel.y.hi).ln();
        let hi = panel.x.hi.min(c / 6.0 / panel.y.lo).ln();
        let lowest = lowest(lo, hi, &loss);
        // At an end of what was tried the optimum lies beyond it, unknown.
        let interior = lowest.filter(|x| x - lo > 0.01 * (hi - lo) && hi - x > 0.01 * (hi - lo));
        line.push(interior.and_then(|x| panel.at(x.exp(), c / 6.0 / x.exp())));
    }
    let drawn: Vec<(f64, f64)> = line.iter().flatten().copied().collect();
    if drawn.len() < 3 {
        return;
    }
    svg.group("series law");
    svg.path("fit", line);
    if let Some((px, py)) = drawn.last() {
        let anchor = if *px > (panel.left + panel.right) / 2.0 { Anchor::End } else { Anchor::Start };
        let shift = if anchor == Anchor::End { -16.0 } else { 16.0 };
        svg.text(
            "label halo",
            anchor,
            px + shift,
            (py + 4.0).clamp(panel.top + 12.0, panel.bottom - 6.0),
            "efficient frontier",
        );
    }
    svg.end();
}

/// Where a function with one valley is lowest between `lo` and `hi`, by thirds.
fn lowest(mut lo: f64, mut hi: f64, value: &dyn Fn(f64) -> Option<f64>) -> Option<f64> {
    if lo.is_nan() || hi.is_nan() || lo >= hi {
        return None;
    }
    for _ in 0..48 {
        let (a, b) = (lo + (hi - lo) / 3.0, hi - (hi - lo) / 3.0);
        if value(a)? < value(b)? { hi = b } else { lo = a }
    }
    Some((lo + hi) / 2.0)
}

type GridPoint = (f64, f64);
type Grid = [Vec<Option<f64>>];

/// Marching squares: the pieces of the line where the grid passes `level`, in grid units.
fn march(grid: &Grid, level: f64) -> Vec<(GridPoint, GridPoint)> {
    let mut out = Vec::new();
    for j in 0..grid.len().saturating_sub(1) {
        for i in 0..grid[j].len().saturating_sub(1) {
            let corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)];
            let values: Option<Vec<f64>> = corners.iter().map(|(a, b)| grid[*b][*a]).collect();
            let Some(values) = values else { continue };
            let mut cuts = Vec::new();
            for k in 0..4 {
                let (a, b) = (values[k] - level, values[(k + 1) % 4] - level);
                if (a < 0.0) != (b < 0.0) {
                    let t = a / (a - b);
                    let (p, q) = (corners[k], corners[(k + 1) % 4]);
                    let mix = |u: usize, v: usize| u as f64 + t * (v as f64 - u as f64);
                    cuts.push((mix(p.0, q.0), mix(p.1, q.1)));
                }
            }
            for pair in cuts.chunks_exact(2) {
                out.push((pair[0], pair[1]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_is_found_again() {
        let xy: Vec<(f64, f64)> =
            (0..6).map(|i| (10.0 + f64::from(i), 2.0 + 0.1 * (f64::from(i) - 2.5).powi(2))).collect();
        let [_, b, c] = parabola(&xy).unwrap();
        assert!((c - 0.1).abs() < 1e-9 && (-b / (2.0 * c) - 12.5).abs() < 1e-6);
        assert!(parabola(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]).is_none());
    }

    #[test]
    fn a_level_line_lies_on_the_level() {
        let grid: Vec<Vec<Option<f64>>> =
            (0..5).map(|j| (0..5).map(|i| Some(f64::from(i + j))).collect()).collect();
        for (a, b) in march(&grid, 3.5) {
            assert!((a.0 + a.1 - 3.5).abs() < 1e-9 && (b.0 + b.1 - 3.5).abs() < 1e-9);
        }
    }
}
