//! Prototypes before and after they saw each other.

use super::FewShotInput;
use super::headline::NEARLY_ONE;
use super::input::{GeometryRow, MethodRow};
use super::methods::Methods;
use super::words::{and, fitted, shots};
use crate::html::escape;
use crate::numbers::fixed;
use crate::page::{self, Figures};
use crate::plot::{Panel, Width};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};

/// Below this entropy over ln N attention looks at little more than one class.
const ONE_SIDED: f64 = 0.3;

/// The figure with what collapse means.
pub(super) fn section(figures: &mut Figures, input: &FewShotInput, methods: &Methods<'_>) -> String {
    let mut rows: Vec<(&MethodRow, GeometryRow)> =
        input.rows.iter().filter_map(|row| Some((row, row.geometry?))).collect();
    rows.retain(|(_, g)| g.cosine_before.is_finite() && g.cosine_after.is_finite());
    rows.sort_by_key(|(row, _)| (row.shots, methods.place(&row.method)));
    if rows.is_empty() {
        return String::new();
    }
    let figure = figures.both(
        |id, width| draw(id, &rows, methods, width),
        "Mean cosine between prototypes, before and after attention.",
        "Small open ring: class means; mark: what queries are measured against. At the right the entropy of the \
         attention \
         over ln N: 1 looks at all classes alike, 0 at one.",
    );
    let collapse = "Collapse means that the prototypes become one vector: at a mean cosine of 1 every class is \
        equally far from \
                    a query and only chance is left. Even attention does it, since every prototype is then the \
                    mean of all, and so \
                    does attention in which all classes look at the same one.";
    let body = format!("<p>{}</p>\n<p>{}</p>\n{figure}", escape(collapse), escape(&found(&rows)));
    page::section("geometry", "What attention does to the prototypes", &body)
}

/// Which methods came near collapse.
fn found(rows: &[(&MethodRow, GeometryRow)]) -> String {
    let near: Vec<String> = rows
        .iter()
        .filter(|(_, g)| g.cosine_after >= NEARLY_ONE && g.cosine_after > g.cosine_before)
        .map(|(row, g)| {
            let how = match g.entropy {
                Some(e) if e < ONE_SIDED => ", its attention on hardly more than one class",
                Some(e) if e > 1.0 - 0.5 * ONE_SIDED => ", its attention nearly even",
                _ => "",
            };
            format!("{} at {} ({}{how})", row.method, shots(row.shots), fixed(g.cosine_after, 3))
        })
        .collect();
    if near.is_empty() {
        "None of the trained heads ends near it.".to_owned()
    } else {
        format!("Near it after training: {}.", and(&near))
    }
}

fn draw(id: &str, rows: &[(&MethodRow, GeometryRow)], methods: &Methods<'_>, width: Width) -> Option<String> {
    let values = rows.iter().flat_map(|(_, g)| [g.cosine_before, g.cosine_after]).chain([0.0, 1.0]);
    let x = Axis::over(values, Spread::Linear, Style::Plain, 0.03)?;
    let (step, heading, top) = (width.pick(29.0, 44.0), width.pick(28.0, 26.0), 14.0);
    let (left, right) = (width.pick(176.0, 14.0), width.px() - width.pick(178.0, 14.0));
    let mut groups: Vec<usize> = rows.iter().map(|(row, _)| row.shots).collect();
    groups.dedup();
    let bottom = top + heading * groups.len() as f64 + step * rows.len() as f64 + 4.0;
    let y = Axis::over([0.0, 1.0], Spread::Linear, Style::Plain, 0.0)?;
    let panel = Panel::new(x, y, left, right, top, bottom);
    let words: Vec<String> = rows.iter().map(|(row, g)| said(row, g)).collect();
    let title = "Mean cosine between prototypes before and after attention";
    let mut svg = Svg::new(id, width.px(), bottom + 46.0, title, &words.join(" "));
    svg.group("axis");
    for tick in panel.x.ticks(width.pick(6, 4)) {
        let Some(px) = panel.x.at(tick.value) else { continue };
        svg.line(if tick.label.is_some() { "grid" } else { "minor" }, px, top, px, bottom);
        if let Some(label) = tick.label {
            svg.text("tick", Anchor::Middle, px, bottom + 16.0, &label);
        }
    }
    svg.line("base", left, bottom, right, bottom);
    svg.end();
    if let Some(one) = panel.x.at(1.0) {
        svg.line("reference", one, top, one, bottom);
    }
    svg.text("what", Anchor::End, right, bottom + 34.0, "mean cosine; 1 is collapse");
    if width == Width::Wide && rows.iter().any(|(_, g)| g.entropy.is_some()) {
        svg.text("what", Anchor::Start, right + 18.0, bottom + 34.0, "attention entropy / ln N");
    }
    let (mut at, mut shown) = (top, None);
    for (row, g) in rows {
        if shown != Some(row.shots) {
            shown = Some(row.shots);
            svg.text("sublabel", Anchor::Start, width.pick(4.0, left), at + heading - 9.0, &shots(row.shots));
            at += heading;
        }
        let key = methods.class(&row.method);
        svg.group_of(&format!("series {key}"), &key, "");
        draw_row(&mut svg, &panel, (row, g), at, methods, width);
        svg.end();
        at += step;
    }
    Some(svg.finish())
}

fn said(row: &MethodRow, g: &GeometryRow) -> String {
    let entropy = g.entropy.map(|e| format!(", attention entropy {}", fixed(e, 3))).unwrap_or_default();
    format!(
        "{}, {}: mean cosine {} before, {} after{entropy}.",
        row.method,
        shots(row.shots),
        fixed(g.cosine_before, 3),
        fixed(g.cosine_after, 3)
    )
}

fn draw_row(
    svg: &mut Svg,
    panel: &Panel,
    (row, g): (&MethodRow, &GeometryRow),
    top: f64,
    methods: &Methods<'_>,
    width: Width,
) {
    let y = top + width.pick(14.0, 31.0);
    let words = width.pick(y + 4.5, top + 16.0);
    svg.text(
        "label",
        Anchor::Start,
        width.pick(18.0, panel.left),
        words,
        &fitted(&row.method, width.pick(160.0, 200.0)),
    );
    if let Some((a, b)) = panel.x.at(g.cosine_before).zip(panel.x.at(g.cosine_after)) {
        svg.line("leader", a, y, b, y);
        svg.mark(0, "dot hollow before", a, y, 3.4, "");
        methods.mark(svg, &row.method, b, y, 5.0, &said(row, g));
    }
    let Some(entropy) = g.entropy.filter(|e| e.is_finite()) else { return };
    if width == Width::Wide {
        let (from, length) = (panel.right + 18.0, 96.0);
        svg.rect("track", from, y - 4.0, length, 8.0);
        svg.rect("entropy", from, y - 4.0, length * entropy.clamp(0.0, 1.0), 8.0);
        svg.text("tick", Anchor::Start, from + length + 10.0, words, &fixed(entropy, 2));
    } else {
        svg.text("tick", Anchor::End, panel.right, words, &format!("entropy {}", fixed(entropy, 2)));
    }
}
