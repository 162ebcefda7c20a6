//! A picture that a kind of study described as data: series of points with intervals, and fitted lines, over two axes.

use crate::numbers;
use crate::palette::{self, Ground};
use crate::plot::{Panel, Width, text_width};
use crate::scale::{Axis, Spread, Style};
use crate::section::{Chart, ChartAxis, ChartSeries};
use crate::svg::{Anchor, Svg};

/// The figure, or `None` when no point and no line can be drawn.
pub(crate) fn chart(id: &str, chart: &Chart, width: Width) -> Option<String> {
    let points = || chart.series.iter().flat_map(|s| &s.points);
    let lines = || chart.series.iter().flat_map(|s| &s.line);
    let x = axis(&chart.x, points().map(|p| p.x).chain(lines().map(|p| p.0)))?;
    // An open or very wide interval must not squeeze what was measured: a bar may leave the panel by a decade at most.
    let bars = || points().flat_map(|p| p.interval).flat_map(|(lo, hi)| [lo, hi]);
    let values = points().map(|p| p.y).chain(lines().map(|p| p.1));
    let (lo, hi) = values.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let fits = |v: &f64| !chart.y.log || (lo / 10.0 <= *v && *v <= hi * 10.0);
    let y = axis(&chart.y, values.chain(bars().filter(fits)))?;
    let key_rows = chart.series.iter().filter(|s| !s.name.is_empty()).count() as f64;
    let top = 36.0 + width.pick(0.0, 18.0 * key_rows);
    let height = width.pick(430.0, 340.0) + width.pick(0.0, 18.0 * key_rows);
    let panel = Panel::new(x, y, 58.0, width.px() - 16.0, top, height - 46.0);
    let mut svg = Svg::new(id, width.px(), height, &chart.title, &chart.caption);
    panel.frame(&mut svg, width.pick(6, 4), 6, true);
    panel.titles(&mut svg, &chart.x.label, &chart.y.label);
    for (i, series) in chart.series.iter().enumerate() {
        // The ids of a page's figures differ, so do the classes that hold their colours.
        let class = format!("{id}s{i}");
        let colour = |ground| palette::size(i, chart.series.len(), ground);
        svg.raw(&format!(
            "<style>.{class}{{--c:{}}}@media(prefers-color-scheme:dark){{.{class}{{--c:{}}}}}</style>",
            colour(Ground::Light),
            colour(Ground::Dark)
        ));
        svg.group_of(&format!("series {class}"), &class, &series.name);
        draw(&mut svg, &panel, chart, series, i, chart.series.len());
        svg.end();
    }
    key(&mut svg, &panel, chart, id, width);
    Some(svg.finish())
}

fn axis(axis: &ChartAxis, values: impl Iterator<Item = f64>) -> Option<Axis> {
    let values: Vec<f64> = values.collect();
    let (spread, pad) = if axis.log { (Spread::Log, 0.05) } else { (Spread::Linear, 0.06) };
    let largest = values.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let style = match axis.log {
        true if largest >= 1e9 => Style::Power,
        true if largest >= 1e3 => Style::Count,
        _ => Style::Plain,
    };
    Axis::over(values, spread, style, pad)
}

fn draw(svg: &mut Svg, panel: &Panel, chart: &Chart, series: &ChartSeries, index: usize, count: usize) {
    svg.path("curve decayed", series.line.iter().map(|(x, y)| panel.inside(*x, *y)));
    for point in &series.points {
        let Some((mut px, py)) = panel.inside(point.x, point.y) else { continue };
        // Series share their x: side by side their bars can be told apart.
        px += 7.0 * (index as f64 - 0.5 * (count as f64 - 1.0));
        let mut tip = format!(
            "{}: {} = {}, {} = {}",
            series.name,
            chart.x.label,
            shown(point.x),
            chart.y.label,
            shown(point.y)
        );
        if let Some((lo, hi)) = point.interval {
            tip += &format!(" ({} to {})", shown(lo), shown(hi));
            if let Some((a, b)) = panel.y.clamped(lo).zip(panel.y.clamped(hi)) {
                svg.line("whisker", px, a, px, b);
                for (end, value) in [(a, lo), (b, hi)] {
                    // An end beyond the panel has no cap.
                    if panel.y.holds(value) {
                        svg.line("whisker", px - 3.0, end, px + 3.0, end);
                    }
                }
            }
        }
        svg.mark(index, "dot", px, py, 4.6, &tip);
    }
}

fn shown(value: f64) -> String {
    if (1e3..1e9).contains(&value.abs()) { numbers::count(value) } else { numbers::significant(value, 3) }
}

/// The corner of a panel where a box of this size covers least of what is drawn: its left edge and its top. The upper
/// left one where it makes no difference.
fn emptiest(panel: &Panel, chart: &Chart, box_width: f64, box_height: f64) -> (f64, f64) {
    const STEPS: usize = 12;
    let marks = chart.series.iter().flat_map(|s| &s.points).map(|p| (p.x, p.y));
    let between = |pair: &[(f64, f64)]| {
        let [a, b] = [panel.inside(pair[0].0, pair[0].1), panel.inside(pair[1].0, pair[1].1)];
        let step = move |i: usize| {
            let (a, b, share) = (a?, b?, i as f64 / STEPS as f64);
            Some((a.0 + share * (b.0 - a.0), a.1 + share * (b.1 - a.1)))
        };
        (0..=STEPS).filter_map(step).collect::<Vec<_>>()
    };
    let drawn: Vec<(f64, f64)> = marks
        .filter_map(|(x, y)| panel.inside(x, y))
        .chain(chart.series.iter().flat_map(|s| s.line.windows(2)).flat_map(between))
        .collect();
    let covered = |(left, top): &(f64, f64)| {
        let inside = |(x, y): &&(f64, f64)| {
            (*left - 6.0..left + box_width + 6.0).contains(x)
                && (*top - 6.0..top + box_height + 6.0).contains(y)
        };
        drawn.iter().filter(inside).count()
    };
    let (left, right) = (panel.left + 6.0, panel.right - box_width - 3.0);
    let (top, bottom) = (panel.top + 3.0, panel.bottom - box_height - 3.0);
    let corners = [(left, top), (right, top), (left, bottom), (right, bottom)];
    corners.into_iter().min_by_key(covered).expect("four corners")
}

/// Names of the series with their marks: over the panel where it is narrow, in its emptiest corner where it is wide.
fn key(svg: &mut Svg, panel: &Panel, chart: &Chart, id: &str, width: Width) {
    let named = || chart.series.iter().enumerate().filter(|s| !s.1.name.is_empty());
    let longest = named().map(|s| text_width(&s.1.name)).fold(0.0, f64::max);
    let (box_width, box_height) = (1.15 * longest + 30.0, 18.0 * named().count() as f64 + 4.0);
    let corner = emptiest(panel, chart, box_width, box_height);
    let (left, first) = (width.pick(corner.0 + 4.0, 8.0), width.pick(corner.1 + 13.0, 14.0));
    svg.group("series key");
    if width == Width::Wide {
        svg.rect("plate", corner.0, corner.1, box_width, box_height);
    }
    svg.end();
    for (row, (i, series)) in named().enumerate() {
        let y = first + 18.0 * row as f64;
        svg.group_of(&format!("series {id}s{i}"), &format!("{id}s{i}"), "");
        match series.points.is_empty() {
            true => svg.path("curve decayed", [0.0, 11.0].map(|x| Some((left + x, y - 4.0)))),
            false => svg.mark(i, "dot", left + 5.0, y - 4.0, 4.2, ""),
        }
        svg.text("label", Anchor::Start, left + 16.0, y, &series.name);
        svg.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::ChartPoint;

    fn example(log: bool) -> Chart {
        let axis = |label: &str| ChartAxis { label: label.to_owned(), log };
        let point = |x: f64, y: f64| ChartPoint { x, y, interval: Some((0.8 * y, 1.3 * y)) };
        let series = ChartSeries {
            name: "by <hand>".to_owned(),
            points: vec![point(1e11, 3e3), point(1e12, 2e4), point(f64::NAN, 1.0)],
            line: vec![(1e11, 3e3), (1e12, 2e4)],
        };
        Chart { title: "t".to_owned(), x: axis("C"), y: axis("N"), series: vec![series], ..Chart::default() }
    }

    #[test]
    fn points_lines_and_intervals_are_drawn_on_both_kinds_of_axes() {
        for (log, width) in [(true, Width::Wide), (true, Width::Narrow), (false, Width::Wide)] {
            let svg = chart("f1w", &example(log), width).unwrap();
            // Two points and one in the key; a bar with two caps each; one line.
            assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
            assert_eq!(svg.matches("class=\"whisker\"").count(), 6, "{svg}");
            assert_eq!(svg.matches("class=\"curve decayed\"").count(), 1, "{svg}");
            assert!(
                svg.contains("by &lt;hand&gt;: C = 10¹¹, N = 3\u{202f}k (2.4\u{202f}k to 3.9\u{202f}k)"),
                "{svg}"
            );
            assert!(!svg.contains("NaN"), "{svg}");
        }
        assert!(chart("f1w", &Chart::default(), Width::Wide).is_none());
    }

    #[test]
    fn nothing_is_drawn_across_a_gap_also_by_way_of_json() {
        let line = vec![(1.0, 1.0), (2.0, 2.0), (2.0, f64::NAN), (3.0, 9.0), (4.0, 8.0)];
        let series = ChartSeries { line, ..ChartSeries::default() };
        let drawn = Chart { title: "t".to_owned(), series: vec![series], ..Chart::default() };
        let svg = chart("f1w", &drawn, Width::Wide).unwrap();
        let path = svg.split("class=\"curve decayed\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 2), "{path}");
        let read: Chart = serde_json::from_str(&serde_json::to_string(&drawn).unwrap()).unwrap();
        assert_eq!(chart("f1w", &read, Width::Wide).unwrap(), svg);
    }
}
