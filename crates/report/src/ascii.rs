//! A log-log plot for the terminal: marks for the points, fine dots for the fitted lines, ticks where one expects
//! them. Unicode (Braille dots for the lines) or pure ASCII.

use crate::data::{Data, fits, law_at, same};
use crate::input::ReportInput;
use crate::numbers;
use crate::scale::{Axis, Spread, Style};

/// One series of the plot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Its name, shown beside its mark.
    pub name: String,
    /// Points (x, y); those that are not positive and finite are left out.
    pub points: Vec<(f64, f64)>,
    /// A fitted line through them, as points; may be empty.
    pub line: Vec<(f64, f64)>,
}

/// What to plot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plot {
    /// Above the plot.
    pub title: String,
    /// Under the x axis.
    pub x_label: String,
    /// Over the y axis.
    pub y_label: String,
    /// The series.
    pub series: Vec<Series>,
    /// Only ASCII characters when false.
    pub unicode: bool,
}

const GUTTER: usize = 8;
/// More series have no marks of their own.
const MAX_SERIES: usize = 6;

/// The plot of loss against size at each token count that several sizes share, with the fitted lines; `None` without
/// such.
pub fn law_plot(input: &ReportInput, unicode: bool) -> Option<Plot> {
    let data = Data::of(&input.table());
    let xs: Vec<f64> = data.obs.iter().filter_map(|o| o.n).collect();
    let axis = Axis::over(xs, Spread::Log, Style::Count, 0.03)?;
    let series: Vec<Series> = data
        .tokens
        .iter()
        .map(|d| {
            let fit = fits(input.laws.as_ref(), "l_n", "pure")
                .find(|f| f.condition.get("tokens").is_some_and(|t| same(*t, *d)));
            let alpha = fit
                .and_then(|f| f.params.get("alpha"))
                .map(|p| format!(", alpha {}", numbers::fixed(p.value, 3)))
                .unwrap_or_default();
            Series {
                name: format!("D = {}{alpha}", numbers::count(*d)),
                points: data
                    .obs
                    .iter()
                    .filter(|o| o.d.is_some_and(|v| same(v, *d)))
                    .filter_map(|o| Some((o.n?, o.loss)))
                    .collect(),
                line: fit
                    .map(|f| {
                        let at = |n: &f64| Some((*n, law_at(f, Some(*n), Some(*d), None)?.0));
                        axis.samples(240).iter().filter_map(at).collect()
                    })
                    .unwrap_or_default(),
            }
        })
        .filter(|series: &Series| series.points.len() > 1)
        .take(MAX_SERIES)
        .collect();
    (!series.is_empty()).then(|| Plot {
        title: "validation loss against parameters, log-log".to_owned(),
        x_label: "parameters N".to_owned(),
        y_label: data.loss_unit.clone(),
        series,
        unicode,
    })
}

/// Draws `plot` on about `width` × `height` characters, axes and labels included; each line ends with a newline.
/// Without a point to show it says so.
pub fn loglog(plot: &Plot, width: usize, height: usize) -> String {
    let (width, height) = (width.clamp(40, 400), height.clamp(12, 200));
    let all = || plot.series.iter().flat_map(|s| &s.points);
    let (columns, rows) = (width - GUTTER - 2, height - 6);
    let x = Axis::over(all().map(|p| p.0), Spread::Log, Style::Count, 0.03);
    let y = Axis::over(all().map(|p| p.1), Spread::Log, Style::Plain, 0.05);
    let (Some(x), Some(y)) = (x, y) else {
        return finish(plot, format!("{}\n(no points to plot)\n", plot.title));
    };
    let x = x.between(0.0, columns as f64 - 1.0);
    let y = y.between(rows as f64 - 1.0, 0.0);
    let cells = draw(plot, &x, &y, columns, rows);

    let mut labels = vec![String::new(); rows];
    for tick in y.ticks((rows / 3).clamp(3, 8)) {
        if let (Some(at), Some(label)) = (y.at(tick.value), tick.label) {
            let row = at.round().clamp(0.0, rows as f64 - 1.0) as usize;
            labels[row] = label;
        }
    }
    let (bar, tee, corner, flat, down) =
        if plot.unicode { ('│', '┤', '└', '─', '┬') } else { ('|', '+', '+', '-', '+') };
    let mut out = format!("{}\n{:>GUTTER$}\n", plot.title, plot.y_label);
    for (row, label) in labels.iter().enumerate() {
        let edge = if label.is_empty() { bar } else { tee };
        let body: String = cells[row * columns..(row + 1) * columns].iter().collect();
        out.push_str(format!("{label:>GUTTER$} {edge}{body}").trim_end());
        out.push('\n');
    }
    let (axis, ticks) = x_axis(&x, columns, flat, down);
    out.push_str(&format!("{:>GUTTER$} {corner}{axis}\n", ""));
    out.push_str(format!("{:>GUTTER$}  {ticks}", "").trim_end());
    out.push('\n');
    let pad = (GUTTER + 2 + columns).saturating_sub(plot.x_label.chars().count());
    out.push_str(&format!("{:pad$}{}\n", "", plot.x_label));
    let key: Vec<String> =
        plot.series.iter().enumerate().map(|(i, s)| format!("{} {}", mark(plot, i), s.name)).collect();
    for pair in key.chunks(3) {
        out.push_str(format!("{:>GUTTER$}  {}", "", pair.join("   ")).trim_end());
        out.push('\n');
    }
    finish(plot, out)
}

fn mark(plot: &Plot, series: usize) -> char {
    let marks = if plot.unicode {
        ['●', '■', '▲', '◆', '○', '□']
    } else {
        ['o', 'x', '#', '*', '@', '%']
    };
    marks[series % marks.len()]
}

/// The inside of the plot, row by row.
fn draw(plot: &Plot, x: &Axis, y: &Axis, columns: usize, rows: usize) -> Vec<char> {
    let mut cells = vec![' '; columns * rows];
    let cell = |a: f64, b: f64| -> Option<usize> {
        let (i, j) = (a.round(), b.round());
        (i >= 0.0 && j >= 0.0 && i < columns as f64 && j < rows as f64)
            .then(|| j as usize * columns + i as usize)
    };
    for series in &plot.series {
        for (px, py) in &series.line {
            let (Some(a), Some(b)) = (x.at(*px), y.at(*py)) else { continue };
            let Some(index) = cell(a, b) else { continue };
            if !plot.unicode {
                cells[index] = '.';
                continue;
            }
            // A Braille cell is two dots wide and four high.
            let (dx, dy) = (((a + 0.5).fract() * 2.0) as u32, ((b + 0.5).fract() * 4.0) as u32);
            let bit = match (dx, dy) {
                (0, 3) => 0x40,
                (_, 3) => 0x80,
                (0, r) => 1 << r,
                (_, r) => 8 << r,
            };
            let old = cells[index] as u32;
            let old = if (0x2800..0x2900).contains(&old) { old } else { 0x2800 };
            cells[index] = char::from_u32(old | bit).unwrap_or('·');
        }
    }
    for (i, series) in plot.series.iter().enumerate() {
        for (px, py) in &series.points {
            let place = x.at(*px).zip(y.at(*py)).and_then(|(a, b)| cell(a, b));
            if let Some(index) = place {
                cells[index] = mark(plot, i);
            }
        }
    }
    cells
}

/// The axis line with its ticks, and the labels under it, none touching another.
fn x_axis(x: &Axis, columns: usize, flat: char, down: char) -> (String, String) {
    let mut axis = vec![flat; columns];
    let mut labels = vec![' '; columns];
    let mut free_from = 0usize;
    for tick in x.ticks((columns / 14).clamp(2, 8)) {
        let (Some(at), Some(label)) = (x.at(tick.value), tick.label) else { continue };
        let column = at.round();
        if column < 0.0 || column >= columns as f64 {
            continue;
        }
        let column = column as usize;
        axis[column] = down;
        let length = label.chars().count();
        let start = column.saturating_sub(length / 2).min(columns.saturating_sub(length));
        if start < free_from || start + length > columns {
            continue;
        }
        for (i, c) in label.chars().enumerate() {
            labels[start + i] = c;
        }
        free_from = start + length + 1;
    }
    (axis.into_iter().collect(), labels.into_iter().collect())
}

/// Narrow spaces are plain ones on a terminal; without Unicode every other sign has an ASCII stand-in.
fn finish(plot: &Plot, text: String) -> String {
    let text = text.replace('\u{202f}', " ");
    if plot.unicode {
        return text;
    }
    text.chars()
        .map(|c| match c {
            '−' | '–' | '⁻' => '-',
            'α' => 'a',
            '×' => 'x',
            c if c.is_ascii() => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(unicode: bool) -> Plot {
        let line: Vec<(f64, f64)> =
            (0..100).map(|i| 1e4 * 1.06f64.powi(i)).map(|n| (n, 4.0 * n.powf(-0.07))).collect();
        let points = [14e3, 1e5, 1.5e6].map(|n: f64| (n, 4.0 * n.powf(-0.07))).to_vec();
        Plot {
            title: "law".into(),
            x_label: "N".into(),
            y_label: "loss".into(),
            series: vec![Series { name: "D = 3\u{202f}M".into(), points, line }],
            unicode,
        }
    }

    #[test]
    fn marks_lines_and_ticks_are_there_and_the_width_is_kept() {
        for unicode in [true, false] {
            let text = loglog(&plot(unicode), 80, 24);
            assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
            assert!(text.contains("100 k") && text.contains("D = 3 M"), "{text}");
            let points =
                text.lines().take(20).flat_map(str::chars).filter(|c| *c == mark(&plot(unicode), 0)).count();
            assert!(points >= 3, "{text}");
            assert!(unicode || text.is_ascii(), "{text}");
        }
    }

    #[test]
    fn hostile_input_is_survived() {
        for points in
            [vec![], vec![(f64::NAN, 1.0)], vec![(0.0, -1.0)], vec![(1e300, 1e300)], vec![(5.0, 5.0)]]
        {
            let plot = Plot { series: vec![Series { points, ..Series::default() }], ..Plot::default() };
            for (w, h) in [(0, 0), (80, 24), (10_000, 10_000)] {
                let text = loglog(&plot, w, h);
                assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            }
        }
    }
}
