//! A panel: two axes, a quiet grid, titles where the eye looks for them, labels that do not collide.

use crate::scale::Axis;
use crate::svg::{Anchor, Svg};

/// The width a figure is drawn for. The page holds both drawings and shows the one that fits the screen, since text
/// scaled down with its drawing could not be read on a telephone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Wide,
    Narrow,
}

impl Width {
    /// Pixels of the whole drawing.
    pub(crate) fn px(self) -> f64 {
        match self {
            Self::Wide => 780.0,
            Self::Narrow => 380.0,
        }
    }

    /// One of two values.
    pub(crate) fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }

    /// Part of an element's id.
    pub(crate) fn word(self) -> &'static str {
        self.pick("w", "n")
    }
}

/// Width of a text in the figures' small size, in pixels, on the generous side.
pub(crate) fn text_width(text: &str) -> f64 {
    let units: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'l' | 'j' | '.' | ',' | ' ' | '\u{202f}' | '\'' | '(' | ')' | 'I' => 3.6,
            'm' | 'w' | 'M' | 'W' | '×' | '≈' | '−' | '+' | '=' => 9.4,
            '⁰'..='⁹' | '¹' | '²' | '³' | '⁻' => 4.8,
            'A'..='Z' => 8.2,
            _ => 6.8,
        })
        .sum();
    units + 2.0
}

/// One panel.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

impl Panel {
    pub(crate) fn new(x: Axis, y: Axis, left: f64, right: f64, top: f64, bottom: f64) -> Self {
        Self { x: x.between(left, right), y: y.between(bottom, top), left, right, top, bottom }
    }

    /// Pixel of a point.
    pub(crate) fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        Some((self.x.at(x)?, self.y.at(y)?))
    }

    /// Pixel of a point that lies inside the panel.
    pub(crate) fn inside(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        if self.x.holds(x) && self.y.holds(y) { self.at(x, y) } else { None }
    }

    /// Grid, ticks and axis lines. `x_labels` is off for the upper of two panels that share an axis.
    pub(crate) fn frame(&self, svg: &mut Svg, x_target: usize, y_target: usize, x_labels: bool) {
        svg.group("axis");
        for tick in self.x.ticks(x_target) {
            let Some(x) = self.x.at(tick.value).filter(|x| *x >= self.left - 0.1 && *x <= self.right + 0.1)
            else {
                continue;
            };
            svg.line(if tick.label.is_some() { "grid" } else { "minor" }, x, self.top, x, self.bottom);
            if let Some(label) = tick.label.filter(|_| x_labels) {
                svg.text("tick", Anchor::Middle, x, self.bottom + 16.0, &label);
            }
        }
        for tick in self.y.ticks(y_target) {
            let Some(y) = self.y.at(tick.value).filter(|y| *y >= self.top - 0.1 && *y <= self.bottom + 0.1)
            else {
                continue;
            };
            svg.line(if tick.label.is_some() { "grid" } else { "minor" }, self.left, y, self.right, y);
            if let Some(label) = tick.label {
                svg.text("tick", Anchor::End, self.left - 7.0, y + 4.0, &label);
            }
        }
        svg.line("base", self.left, self.bottom, self.right, self.bottom);
        svg.end();
    }

    /// What the axes show: x under its ticks at the right end, y over the panel at the left.
    pub(crate) fn titles(&self, svg: &mut Svg, x_title: &str, y_title: &str) {
        if !x_title.is_empty() {
            svg.text("what", Anchor::End, self.right, self.bottom + 34.0, x_title);
        }
        if !y_title.is_empty() {
            svg.text("what", Anchor::Start, (self.left - 44.0).max(2.0), self.top - 12.0, y_title);
        }
    }
}

/// Moves label positions apart by at least `gap` within `top..bottom`, keeping their order and staying as close as
/// possible to where they were wanted. Returned in the order given.
pub(crate) fn spread_labels(wanted: &[f64], gap: f64, top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]).then(a.cmp(b)));
    // Blocks of touching labels, merged while they overlap: (sum of wanted − offset, members).
    let mut blocks: Vec<(f64, Vec<usize>)> = Vec::new();
    for index in order {
        let mut block = (wanted[index], vec![index]);
        while let Some(last) = blocks.last() {
            let last_end = last.0 + (last.1.len() as f64 - 1.0) * gap;
            if block.0 - last_end >= gap {
                break;
            }
            let Some((start, mut members)) = blocks.pop() else { break };
            let (n, m) = (members.len() as f64, block.1.len() as f64);
            let merged = (start * n + (block.0 - n * gap) * m) / (n + m);
            members.append(&mut block.1);
            block = (merged, members);
        }
        let length = (block.1.len() as f64 - 1.0) * gap;
        block.0 = block.0.min(bottom - length).max(top);
        blocks.push(block);
    }
    let mut placed = vec![0.0; wanted.len()];
    for (start, members) in blocks {
        for (i, index) in members.into_iter().enumerate() {
            placed[index] = start + i as f64 * gap;
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_distance_and_their_order() {
        for wanted in
            [vec![10.0, 11.0, 12.0], vec![50.0, 10.0, 10.0, 95.0, 99.0], vec![5.0], vec![100.0; 4], vec![]]
        {
            let placed = spread_labels(&wanted, 12.0, 0.0, 100.0);
            let mut sorted = placed.clone();
            sorted.sort_by(f64::total_cmp);
            assert!(sorted.windows(2).all(|w| w[1] - w[0] >= 12.0 - 1e-9), "{wanted:?} -> {placed:?}");
            assert!(placed.iter().all(|y| (-1e-9..=100.0 + 1e-9).contains(y)), "{wanted:?} -> {placed:?}");
        }
        assert_eq!(spread_labels(&[20.0, 60.0], 12.0, 0.0, 100.0), vec![20.0, 60.0]);
    }
}
