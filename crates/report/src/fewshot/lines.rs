//! Points with intervals, joined or along a fitted line, by method, in one panel for each number of shots.

use super::methods::Methods;
use super::words::{fitted, shots};
use crate::plot::{Panel, Width, text_width};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};

/// A measured point.
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Half its interval; none is drawn where it is no number.
    pub(super) half: f64,
    /// What hovering says.
    pub(super) tip: String,
}

/// One method in one panel.
pub(super) struct Series<'a> {
    pub(super) method: &'a str,
    pub(super) points: Vec<Point>,
    /// Corners of a fitted line; without one the points are joined.
    pub(super) line: Vec<(f64, f64)>,
    /// A word on the line, for the lower left corner, which falling lines leave free.
    pub(super) note: String,
}

/// All methods at one number of shots; 0 stands for no such number.
pub(super) struct Facet<'a> {
    pub(super) shots: usize,
    pub(super) series: Vec<Series<'a>>,
}

/// What the axes show.
pub(super) struct Axes {
    pub(super) x_title: String,
    pub(super) y_title: String,
    pub(super) x_log: bool,
    pub(super) y_log: bool,
}

const KEY_STEP: f64 = 20.0;

/// The figure, or `None` when nothing can be drawn. All panels share their axes.
pub(super) fn draw(
    id: &str,
    title: &str,
    facets: &[Facet<'_>],
    axes: &Axes,
    methods: &Methods<'_>,
    width: Width,
) -> Option<String> {
    let (x, y) = (x_axis(facets, axes)?, y_axis(facets, axes)?);
    let names: Vec<&str> = methods
        .names()
        .filter(|name| facets.iter().flat_map(|f| &f.series).any(|s| s.method == *name))
        .collect();
    let places = key_places(&names, width);
    let key = places.last().map_or(0.0, |p| p.1) + KEY_STEP;
    let columns = width.pick(facets.len().clamp(1, 2), 1);
    let (inner, gap) = (width.pick(if columns == 1 { 340.0 } else { 280.0 }, 240.0), 84.0);
    let rows = facets.len().div_ceil(columns);
    let height = key + rows as f64 * (inner + gap);
    let description: Vec<String> = facets
        .iter()
        .flat_map(|f| &f.series)
        .flat_map(|s| &s.points)
        .map(|p| format!("{}.", p.tip))
        .collect();
    let mut svg = Svg::new(id, width.px(), height, title, &description.join(" "));
    draw_key(&mut svg, &names, &places, methods);
    for (i, facet) in facets.iter().enumerate() {
        let (column, row) = (i % columns, i / columns);
        let share = width.px() / columns as f64;
        let left = column as f64 * share + width.pick(50.0, 50.0);
        let right = (column + 1) as f64 * share - width.pick(14.0, 12.0);
        let top = key + row as f64 * (inner + gap) + 36.0;
        let panel = Panel::new(x.clone(), y.clone(), left, right, top, top + inner);
        panel.frame(&mut svg, if columns == 2 { 4 } else { width.pick(7, 4) }, 6, true);
        panel.titles(&mut svg, &axes.x_title, &axes.y_title);
        if facet.shots > 0 {
            svg.text("label strong", Anchor::End, right, top - 12.0, &shots(facet.shots));
        }
        for series in &facet.series {
            draw_series(&mut svg, &panel, series, methods);
        }
        draw_notes(&mut svg, &panel, &facet.series, methods);
    }
    Some(svg.finish())
}

fn x_axis(facets: &[Facet<'_>], axes: &Axes) -> Option<Axis> {
    let series = || facets.iter().flat_map(|f| &f.series);
    let values: Vec<f64> = series().flat_map(|s| s.points.iter().map(|p| p.x)).collect();
    let largest = values.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let style = if largest >= 1e4 { Style::Count } else { Style::Plain };
    Axis::over(values, if axes.x_log { Spread::Log } else { Spread::Linear }, style, 0.06)
}

fn y_axis(facets: &[Facet<'_>], axes: &Axes) -> Option<Axis> {
    let series = || facets.iter().flat_map(|f| &f.series);
    let values = series().flat_map(|s| s.points.iter().map(|p| p.y).chain(s.line.iter().map(|l| l.1)));
    let (lo, hi) = values.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    // An interval must not squeeze what was measured: on a log axis it may leave the panel by a factor of three.
    let fits = |v: &f64| !axes.y_log || (lo / 3.0 <= *v && *v <= hi * 3.0);
    let bars = series().flat_map(|s| &s.points).flat_map(|p| [p.y - p.half, p.y + p.half]).filter(fits);
    let spread = if axes.y_log { Spread::Log } else { Spread::Linear };
    Axis::over(values.chain(bars), spread, Style::Plain, 0.05)
}

/// Where the names of the key stand: left to right, then on the next line.
fn key_places(names: &[&str], width: Width) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (8.0, 14.0);
    let mut places = Vec::new();
    for name in names {
        let needed = 1.15 * text_width(&fitted(name, 220.0)) + 40.0;
        if x + needed > width.px() && x > 8.0 {
            (x, y) = (8.0, y + KEY_STEP);
        }
        places.push((x, y));
        x += needed;
    }
    places
}

fn draw_key(svg: &mut Svg, names: &[&str], places: &[(f64, f64)], methods: &Methods<'_>) {
    for (name, (x, y)) in names.iter().zip(places) {
        let class = methods.class(name);
        svg.group_of(&format!("series {class}"), &class, "");
        methods.mark(svg, name, x + 5.0, y - 4.0, 4.4, "");
        svg.text("label", Anchor::Start, x + 16.0, *y, &fitted(name, 220.0));
        svg.end();
    }
}

fn draw_series(svg: &mut Svg, panel: &Panel, series: &Series<'_>, methods: &Methods<'_>) {
    let class = methods.class(series.method);
    svg.group_of(&format!("series {class}"), &class, "");
    if series.line.is_empty() {
        svg.path("join", series.points.iter().map(|p| panel.inside(p.x, p.y)));
    } else {
        svg.path("fit", series.line.iter().map(|(x, y)| panel.inside(*x, *y)));
    }
    for point in &series.points {
        let Some((px, py)) = panel.inside(point.x, point.y) else { continue };
        if point.half.is_finite() && point.half > 0.0 {
            let ends = [point.y - point.half, point.y + point.half];
            if let (Some(a), Some(b)) = (panel.y.clamped(ends[0]), panel.y.clamped(ends[1])) {
                svg.line("whisker", px, a, px, b);
                for (value, end) in ends.into_iter().zip([a, b]) {
                    // An end beyond the panel has no cap.
                    if panel.y.holds(value) {
                        svg.line("whisker", px - 3.0, end, px + 3.0, end);
                    }
                }
            }
        }
        methods.mark(svg, series.method, px, py, 4.4, &point.tip);
    }
    svg.end();
}

fn draw_notes(svg: &mut Svg, panel: &Panel, series: &[Series<'_>], methods: &Methods<'_>) {
    let noted: Vec<&Series<'_>> = series.iter().filter(|s| !s.note.is_empty()).collect();
    for (i, series) in noted.iter().enumerate() {
        let class = methods.class(series.method);
        let y = panel.bottom - 10.0 - 17.0 * (noted.len() - 1 - i) as f64;
        svg.group_of(&format!("series {class}"), &class, "");
        methods.mark(svg, series.method, panel.left + 13.0, y - 4.0, 3.8, "");
        svg.text("label halo", Anchor::Start, panel.left + 23.0, y, &series.note);
        svg.end();
    }
}
