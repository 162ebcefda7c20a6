//! Paired differences as a forest plot: a point with both its intervals, and the line of no difference.

use super::FewShotInput;
use super::input::DifferenceRow;
use super::methods::Methods;
use super::words::{fitted, plus_minus, shots, signed};
use crate::page::{self, Figures};
use crate::plot::{Panel, Width};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};

/// A difference this many times further out than the next is drawn as an arrow at the edge, lest it flatten the rest.
const FAR: f64 = 6.0;
/// Points within which nothing counts as far.
const NEAR_POINTS: f64 = 5.0;

/// One figure for each method that others are compared with.
pub(super) fn section(figures: &mut Figures, input: &FewShotInput, methods: &Methods<'_>) -> String {
    let mut body = String::new();
    let references = methods.names().filter(|name| input.differences.iter().any(|d| d.against == *name));
    for against in references {
        let mut rows: Vec<&DifferenceRow> = input
            .differences
            .iter()
            .filter(|d| d.against == against && d.difference.mean.is_finite())
            .collect();
        rows.sort_by_key(|d| (d.shots, methods.place(&d.method)));
        let limit = limit(&rows);
        let far = if rows.iter().any(|d| reach(d) > limit) {
            " An arrow: further out than the axis; its figure stands at the right."
        } else {
            ""
        };
        body += &figures.both(
            |id, width| draw(id, &rows, against, limit, methods, width),
            &format!("Accuracy minus that of {against}, on identical episodes."),
            &format!(
                "Thick: interval of 95 % over episodes; thin with ends: over seeds. At the right the difference \
                 with the \
                 wider of both, in points. What lies clear of the line differs from {against}.{far}"
            ),
        );
    }
    if body.is_empty() {
        return body;
    }
    let lead = "<p>Each method answers the same queries of the same episodes, and the difference is taken \
        episode by episode: \
                what makes an episode easy or hard falls out of it.</p>\n";
    page::section("differences", "Differences on identical episodes", &format!("{lead}{body}"))
}

/// How far from no difference a row's wider interval reaches, in points.
fn reach(row: &DifferenceRow) -> f64 {
    let half = row.difference.wider();
    100.0 * (row.difference.mean.abs() + if half.is_finite() { half } else { 0.0 })
}

/// The largest reach that the axis still holds, in points.
fn limit(rows: &[&DifferenceRow]) -> f64 {
    let mut all: Vec<f64> = rows.iter().map(|row| reach(row)).filter(|r| r.is_finite()).collect();
    all.sort_by(f64::total_cmp);
    let jump = all.windows(2).position(|w| w[1] > FAR * w[0] && w[1] > NEAR_POINTS);
    jump.map(|at| all[at]).or(all.last().copied()).unwrap_or(1.0)
}

/// Where the rows and their headings stand.
struct Layout {
    step: f64,
    heading: f64,
    left: f64,
    right: f64,
    top: f64,
}

impl Layout {
    fn new(width: Width) -> Self {
        Self {
            step: width.pick(31.0, 46.0),
            heading: width.pick(30.0, 26.0),
            left: width.pick(176.0, 14.0),
            right: width.px() - width.pick(148.0, 14.0),
            top: 14.0,
        }
    }
}

fn draw(
    id: &str,
    rows: &[&DifferenceRow],
    against: &str,
    limit: f64,
    methods: &Methods<'_>,
    width: Width,
) -> Option<String> {
    let held = rows.iter().filter(|row| reach(row) <= limit);
    let ends = held.flat_map(|row| {
        let (mean, half) = (100.0 * row.difference.mean, 100.0 * row.difference.wider());
        [mean - half, mean, mean + half]
    });
    // Room for the arrows on the side that needs them.
    let far =
        rows.iter().filter(|row| reach(row) > limit).map(|row| 0.6 * limit * row.difference.mean.signum());
    let x = Axis::over(ends.chain(far).chain([0.0]), Spread::Linear, Style::Plain, 0.07)?;
    let layout = Layout::new(width);
    let mut groups: Vec<usize> = rows.iter().map(|row| row.shots).collect();
    groups.dedup();
    let bottom = layout.top + groups.len() as f64 * layout.heading + rows.len() as f64 * layout.step + 4.0;
    let y = Axis::over([0.0, 1.0], Spread::Linear, Style::Plain, 0.0)?;
    let panel = Panel::new(x, y, layout.left, layout.right, layout.top, bottom);
    let words: Vec<String> = rows.iter().map(|row| said(row)).collect();
    let title = format!("Differences in accuracy to {against}");
    let mut svg = Svg::new(id, width.px(), bottom + 46.0, &title, &words.join(" "));
    frame(&mut svg, &panel, width, against);
    let (mut at, mut shown) = (layout.top, None);
    for row in rows {
        if shown != Some(row.shots) {
            shown = Some(row.shots);
            svg.text(
                "sublabel",
                Anchor::Start,
                width.pick(4.0, layout.left),
                at + layout.heading - 9.0,
                &shots(row.shots),
            );
            at += layout.heading;
        }
        let key = methods.class(&row.method);
        svg.group_of(&format!("series {key}"), &key, "");
        draw_row(&mut svg, &panel, row, at, reach(row) > limit, methods, width);
        svg.end();
        at += layout.step;
    }
    Some(svg.finish())
}

fn frame(svg: &mut Svg, panel: &Panel, width: Width, against: &str) {
    svg.group("axis");
    for tick in panel.x.ticks(width.pick(7, 4)) {
        let Some(px) = panel.x.at(tick.value) else { continue };
        svg.line(if tick.label.is_some() { "grid" } else { "minor" }, px, panel.top, px, panel.bottom);
        if let Some(label) = tick.label {
            svg.text("tick", Anchor::Middle, px, panel.bottom + 16.0, &label);
        }
    }
    svg.line("base", panel.left, panel.bottom, panel.right, panel.bottom);
    svg.end();
    if let Some(zero) = panel.x.at(0.0) {
        svg.line("zero", zero, panel.top, zero, panel.bottom);
    }
    let what = format!("points of accuracy against {}", fitted(against, 150.0));
    svg.text("what", Anchor::End, panel.right, panel.bottom + 34.0, &what);
}

fn said(row: &DifferenceRow) -> String {
    let d = &row.difference;
    let seeds = d.seeds_half.map(|half| format!(",{} over seeds", plus_minus(half, 2))).unwrap_or_default();
    format!(
        "{} against {}, {}: {} points,{} over episodes{seeds}.",
        row.method,
        row.against,
        shots(row.shots),
        signed(d.mean, 2),
        plus_minus(d.half, 2)
    )
}

/// One row in the space from `top` on.
fn draw_row(
    svg: &mut Svg,
    panel: &Panel,
    row: &DifferenceRow,
    top: f64,
    far: bool,
    methods: &Methods<'_>,
    width: Width,
) {
    let d = &row.difference;
    let y = top + width.pick(15.0, 32.0);
    let words = width.pick(y + 4.5, top + 16.0);
    let (name, figure) = (fitted(&row.method, width.pick(160.0, 200.0)), signed(d.mean, 2));
    svg.text("label", Anchor::Start, width.pick(18.0, panel.left), words, &name);
    let at = width.pick(panel.right + 14.0, panel.right);
    let anchor = width.pick(Anchor::Start, Anchor::End);
    svg.text("label strong", anchor, at, words, &format!("{figure}{}", plus_minus(d.wider(), 2)));
    if far {
        let sign = d.mean.signum();
        let edge = if sign < 0.0 { panel.left } else { panel.right };
        svg.line("whisker", edge, y, edge - 26.0 * sign, y);
        svg.path(
            "whisker arrow",
            [(edge - 7.0 * sign, y - 5.0), (edge, y), (edge - 7.0 * sign, y + 5.0)].map(Some),
        );
        return;
    }
    let end = |value: f64| panel.x.clamped(100.0 * value);
    if let Some((a, b)) = end(d.mean - d.half).zip(end(d.mean + d.half)) {
        svg.rect("interval", a, y - 6.0, b - a, 12.0);
    }
    if let Some((a, b)) = d.seeds_half.and_then(|half| end(d.mean - half).zip(end(d.mean + half))) {
        svg.line("whisker", a, y, b, y);
        for x in [a, b] {
            svg.line("whisker", x, y - 4.5, x, y + 4.5);
        }
    }
    if let Some(x) = end(d.mean) {
        methods.mark(svg, &row.method, x, y, 5.0, &said(row));
    }
}
