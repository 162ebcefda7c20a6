//! Forecasts and what came of them: interval bars, the point forecast, the measured loss, hit or miss.

use crate::input::ForecastRow;
use crate::numbers;
use crate::plot::{Panel, Width};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};

/// The figure, or `None` without forecasts.
pub(crate) fn forecasts(id: &str, rows: &[ForecastRow], loss_unit: &str, width: Width) -> Option<String> {
    let rows: Vec<&ForecastRow> = rows.iter().filter(|r| r.forecast.loss.is_finite()).take(24).collect();
    let values = rows.iter().flat_map(|r| {
        let f = &r.forecast;
        let spread = 1.96 * r.outcome_se.unwrap_or(0.0);
        let observed = f.outcome.as_ref().map(|o| o.observed);
        [Some(f.loss), f.lo, f.hi, observed.map(|o| o - spread), observed.map(|o| o + spread)]
    });
    let x = Axis::over(values.flatten(), Spread::Linear, Style::Plain, 0.12)?;
    let step = width.pick(58.0, 74.0);
    let (left, right) = (width.pick(170.0, 12.0), width.px() - width.pick(120.0, 12.0));
    let (top, bottom) = (22.0, 30.0 + step * rows.len() as f64);
    let y = Axis::over([0.0, rows.len() as f64], Spread::Linear, Style::Plain, 0.0)?;
    let panel = Panel::new(x, y, left, right, top, bottom);
    let mut svg = Svg::new(
        id,
        width.px(),
        bottom + 46.0,
        "Forecasts and their outcomes",
        &rows.iter().map(|r| words(r)).collect::<Vec<_>>().join(" "),
    );
    svg.group("axis");
    for tick in panel.x.ticks(width.pick(7, 4)) {
        let Some(px) = panel.x.at(tick.value) else { continue };
        svg.line(if tick.label.is_some() { "grid" } else { "minor" }, px, top, px, bottom);
        if let Some(label) = tick.label {
            svg.text("tick", Anchor::Middle, px, bottom + 16.0, &label);
        }
    }
    svg.line("base", left, bottom, right, bottom);
    svg.end();
    svg.text("what", Anchor::End, right, bottom + 34.0, &format!("validation loss, {loss_unit}"));
    for (i, row) in rows.iter().enumerate() {
        draw_row(&mut svg, &panel, row, top + step * (i as f64 + width.pick(0.55, 0.72)), width);
    }
    Some(svg.finish())
}

fn words(row: &ForecastRow) -> String {
    let f = &row.forecast;
    let interval = numbers::interval(f.lo.unwrap_or(f64::NEG_INFINITY), f.hi.unwrap_or(f64::INFINITY), 4);
    let outcome = match &f.outcome {
        Some(o) => {
            format!("measured {}, a {}", numbers::fixed(o.observed, 4), if o.hit { "hit" } else { "miss" })
        }
        None => "not yet measured".to_owned(),
    };
    format!("{}: forecast {} ({interval}), {outcome}.", row.label(), numbers::fixed(f.loss, 4))
}

fn draw_row(svg: &mut Svg, panel: &Panel, row: &ForecastRow, y: f64, width: Width) {
    let f = &row.forecast;
    let about = [("N", f.n), ("D", f.d)]
        .iter()
        .filter_map(|(k, v)| v.map(|v| format!("{k} = {}", numbers::count(v))))
        .collect::<Vec<_>>()
        .join(", ");
    let verdict = f.outcome.as_ref().map(|o| if o.hit { "hit" } else { "miss" });
    svg.group(&format!("series {}", verdict.unwrap_or("open")));
    if width == Width::Wide {
        svg.text("label strong", Anchor::Start, 4.0, y - 2.0, &row.short_name());
        svg.text("sublabel", Anchor::Start, 4.0, y + 14.0, &about);
    } else {
        svg.text("label strong", Anchor::Start, 12.0, y - 30.0, &row.short_name());
        svg.text("sublabel", Anchor::Start, 12.0, y - 15.0, &about);
    }
    let lo = f.lo.and_then(|v| panel.x.clamped(v)).unwrap_or(panel.left);
    let hi = f.hi.and_then(|v| panel.x.clamped(v)).unwrap_or(panel.right);
    svg.rect("interval", lo, y - 7.0, (hi - lo).max(1.0), 14.0);
    if let Some(x) = panel.x.at(f.loss) {
        svg.line("centre", x, y - 7.0, x, y + 7.0);
    }
    if let Some(o) = &f.outcome {
        let spread = 1.96 * row.outcome_se.unwrap_or(0.0);
        if let (Some(a), Some(b)) =
            (panel.x.clamped(o.observed - spread), panel.x.clamped(o.observed + spread))
        {
            svg.line("whisker", a, y, b, y);
        }
        if let Some(x) = panel.x.at(o.observed) {
            svg.mark(0, "dot", x, y, 5.4, &words(row));
        }
    }
    let verdict = match &f.outcome {
        Some(o) => {
            let error = numbers::signed_percent(o.relative_error, 2);
            (if o.hit { "✓ hit" } else { "✗ miss" }, format!("{error} off"))
        }
        None => ("not yet run", String::new()),
    };
    let x = width.pick(panel.right + 14.0, panel.right);
    let anchor = width.pick(Anchor::Start, Anchor::End);
    svg.text("label strong verdict", anchor, x, y + width.pick(-2.0, -30.0), verdict.0);
    svg.text("sublabel", anchor, x, y + width.pick(14.0, -15.0), &verdict.1);
    svg.end();
}
