//! Training curves in Braille dots, two by four to a cell; the newest runs, each with its mark at its end.

use super::{Look, Paint, strip_study};
use crate::run::Run;
use isoflop_base::units::si;

/// Columns left of the axis.
const GUTTER: usize = 8;
/// Curves drawn at once.
const MOST_CURVES: usize = 12;

/// The mark of the run at this place of the list.
pub(super) fn mark(index: usize, look: Look) -> char {
    let marks: &[char] = if look.unicode {
        &['●', '■', '▲', '◆', '○', '□', '△', '◇', '★', '▼', '☆', '▽']
    } else {
        &['o', 'x', '#', '*', '@', '%', '+', '=', '$', '&', 'v', '^']
    };
    marks.get(index).copied().unwrap_or(' ')
}

/// The first runs' training loss against tokens.
pub(super) fn curves(runs: &[&Run], rows: usize, look: Look) -> Vec<String> {
    let columns = look.width - GUTTER - 1;
    let rows = rows.saturating_sub(2).max(3);
    let pick: Vec<(usize, &Run)> = match look.chosen {
        Some(chosen) => runs.iter().copied().enumerate().skip(chosen.min(runs.len() - 1)).take(1).collect(),
        None => runs.iter().copied().enumerate().take(MOST_CURVES).collect(),
    };
    let lines: Vec<(usize, Vec<(f64, f64)>)> = pick
        .iter()
        .flat_map(|(index, run)| {
            let batch = run.facts.as_ref().map_or(1.0, |facts| facts.spec.train.batch_tokens as f64);
            run.segments.iter().map(move |segment| {
                let dots = segment.lines[0].thinned(4 * look.width);
                let joined = dots.iter().map(|d| (d.x * batch, f64::from(d.y)));
                (*index, joined.filter(|(x, y)| *x > 0.0 && *y > 0.0).collect())
            })
        })
        .collect();
    let all = || lines.iter().flat_map(|(_, line)| line.iter().copied());
    let range = |of: fn((f64, f64)) -> f64| {
        all().map(of).fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)))
    };
    let ((x_lo, x_hi), (y_lo, y_hi)) = (range(|p| p.0), range(|p| p.1));
    if !(x_lo < x_hi && y_lo < y_hi) {
        return vec![look.paint(Paint::Faint, "no curve yet")];
    }
    let scale = |v: f64, lo: f64, hi: f64| {
        if look.log { (v / lo).ln() / (hi / lo).ln() } else { (v - lo) / (hi - lo) }
    };
    let (wide, high) = (if look.unicode { 2 } else { 1 }, if look.unicode { 4 } else { 1 });
    let mut canvas = Canvas::new(columns, rows, look.unicode);
    for (index, line) in &lines {
        let place = |(x, y): (f64, f64)| {
            let px = scale(x, x_lo, x_hi) * (columns * wide - 1) as f64;
            let py = (1.0 - scale(y, y_lo, y_hi)) * (rows * high - 1) as f64;
            (px.round() as usize, py.round() as usize)
        };
        for pair in line.windows(2) {
            canvas.line(place(pair[0]), place(pair[1]));
        }
        if let Some(end) = line.last() {
            let (px, py) = place(*end);
            canvas.marks.push((px / wide, py / high, mark(*index, look)));
        }
    }
    let value = |row: usize| {
        let share = 1.0 - row as f64 / (rows - 1) as f64;
        if look.log { y_lo * ((y_hi / y_lo).ln() * share).exp() } else { y_lo + (y_hi - y_lo) * share }
    };
    let every = (rows / 4).max(2);
    let (side, corner, flat) = if look.unicode { ('│', '└', '─') } else { ('|', '+', '-') };
    let mut out = Vec::with_capacity(rows + 2);
    for (row, body) in canvas.rows().into_iter().enumerate() {
        let label =
            if row % every == 0 || row == rows - 1 { format!("{:.3}", value(row)) } else { String::new() };
        out.push(format!("{label:>GUTTER$}{side}{}", body.trim_end()));
    }
    out.push(format!("{:>GUTTER$}{corner}{}", "", flat.to_string().repeat(columns)));
    let scale_word = if look.log { "log" } else { "linear" };
    let chosen = look.chosen.and_then(|c| runs.get(c)).map(|run| format!(" of {}", strip_study(run)));
    let middle = format!("training loss{}, {scale_word}, against tokens", chosen.unwrap_or_default());
    let (left, right) = (si(x_lo).replace('\u{202f}', " "), si(x_hi).replace('\u{202f}', " "));
    let room = columns.saturating_sub(left.len() + right.len() + 2);
    let middle = look.cut(&middle, room);
    out.push(look.paint(Paint::Faint, &format!("{:>GUTTER$} {left} {middle:^room$} {right}", "")));
    out
}

/// Cells with dots in them.
struct Canvas {
    columns: usize,
    dots: Vec<u8>,
    marks: Vec<(usize, usize, char)>,
    braille: bool,
}

impl Canvas {
    fn new(columns: usize, rows: usize, braille: bool) -> Self {
        Self { columns, dots: vec![0; columns * rows], marks: Vec::new(), braille }
    }

    fn dot(&mut self, x: usize, y: usize) {
        let (cell, bit) = if self.braille {
            let bit = match (x % 2, y % 4) {
                (0, 3) => 0x40,
                (_, 3) => 0x80,
                (0, row) => 1 << row,
                (_, row) => 8 << row,
            };
            (y / 4 * self.columns + x / 2, bit)
        } else {
            (y * self.columns + x, 1)
        };
        if let Some(dots) = self.dots.get_mut(cell) {
            *dots |= bit;
        }
    }

    /// Every dot between two, ends included.
    fn line(&mut self, (x0, y0): (usize, usize), (x1, y1): (usize, usize)) {
        let steps = x0.abs_diff(x1).max(y0.abs_diff(y1)).max(1);
        for i in 0..=steps {
            let share = i as f64 / steps as f64;
            let at = |a: usize, b: usize| (a as f64 + (b as f64 - a as f64) * share).round() as usize;
            self.dot(at(x0, x1), at(y0, y1));
        }
    }

    fn rows(&self) -> Vec<String> {
        let mut rows: Vec<Vec<char>> = self
            .dots
            .chunks(self.columns)
            .map(|row| {
                row.iter()
                    .map(|dots| match (*dots, self.braille) {
                        (0, _) => ' ',
                        (dots, true) => char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' '),
                        (_, false) => '.',
                    })
                    .collect()
            })
            .collect();
        for (column, row, mark) in &self.marks {
            if let Some(cell) = rows.get_mut(*row).and_then(|cells| cells.get_mut(*column)) {
                *cell = *mark;
            }
        }
        rows.into_iter().map(|row| row.into_iter().collect()).collect()
    }
}
