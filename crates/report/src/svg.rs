//! A writer of SVG: balanced by construction, coordinates in tenths of a pixel, nothing drawn that is not finite.

use crate::html::escape;
use std::fmt::Write as _;

/// Where a text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing under construction; groups are closed by [`Svg::finish`] at the latest.
#[derive(Debug)]
pub(crate) struct Svg {
    out: String,
    open: usize,
}

/// A coordinate in tenths of a pixel.
pub(crate) fn px(value: f64) -> String {
    let text = format!("{:.1}", if value.is_finite() { value } else { 0.0 });
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

impl Svg {
    /// A drawing of `width` × `height` pixels. `id` must be unique on the page; `title` and `description` are what a
    /// screen reader says.
    pub(crate) fn new(id: &str, width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             role=\"img\" aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>",
            escape(title),
            escape(description),
            w = px(width),
            h = px(height),
        );
        Self { out, open: 0 }
    }

    /// Raw markup, for a style sheet in a drawing that stands alone.
    pub(crate) fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    pub(crate) fn group(&mut self, class: &str) {
        let _ = write!(self.out, "<g class=\"{class}\">");
        self.open += 1;
    }

    /// A group that the page's script lights up together with everything else of the same run.
    pub(crate) fn group_of(&mut self, class: &str, key: &str, tip: &str) {
        let _ = write!(self.out, "<g class=\"{class}\" data-k=\"{}\">", escape(key));
        if !tip.is_empty() {
            let _ = write!(self.out, "<title>{}</title>", escape(tip));
        }
        self.open += 1;
    }

    pub(crate) fn end(&mut self) {
        assert!(self.open > 0, "no group is open");
        self.out.push_str("</g>");
        self.open -= 1;
    }

    pub(crate) fn line(&mut self, class: &str, x1: f64, y1: f64, x2: f64, y2: f64) {
        if [x1, y1, x2, y2].iter().all(|v| v.is_finite()) {
            let _ = write!(
                self.out,
                "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
                px(x1),
                px(y1),
                px(x2),
                px(y2)
            );
        }
    }

    pub(crate) fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        if [x, y, width, height].iter().all(|v| v.is_finite()) && width >= 0.0 && height >= 0.0 {
            let _ = write!(
                self.out,
                "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                px(x),
                px(y),
                px(width),
                px(height)
            );
        }
    }

    /// A line through the points; `None` lifts the pen.
    pub(crate) fn path(&mut self, class: &str, points: impl IntoIterator<Item = Option<(f64, f64)>>) {
        let mut d = String::new();
        let mut down = false;
        for point in points {
            match point {
                Some((x, y)) if x.is_finite() && y.is_finite() => {
                    let _ = write!(d, "{}{},{}", if down { 'L' } else { 'M' }, px(x), px(y));
                    down = true;
                }
                _ => down = false,
            }
        }
        if !d.is_empty() {
            let _ = write!(self.out, "<path class=\"{class}\" d=\"{d}\"/>");
        }
    }

    /// The area between two lines over the same x.
    pub(crate) fn band(&mut self, class: &str, lower: &[(f64, f64)], upper: &[(f64, f64)]) {
        if lower.len() < 2 || upper.len() < 2 {
            return;
        }
        let mut d = String::new();
        for (i, (x, y)) in upper.iter().chain(lower.iter().rev()).enumerate() {
            if !x.is_finite() || !y.is_finite() {
                return;
            }
            let _ = write!(d, "{}{},{}", if i == 0 { 'M' } else { 'L' }, px(*x), px(*y));
        }
        let _ = write!(self.out, "<path class=\"{class}\" d=\"{d}Z\"/>");
    }

    /// A mark: circle, square, triangle, diamond by `kind`, so that series differ in more than colour.
    pub(crate) fn mark(&mut self, kind: usize, class: &str, x: f64, y: f64, radius: f64, tip: &str) {
        if !x.is_finite() || !y.is_finite() {
            return;
        }
        let tip = if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
        let r = radius;
        let shape = match kind % 4 {
            0 => format!("circle cx=\"{}\" cy=\"{}\" r=\"{}\"", px(x), px(y), px(r)),
            1 => format!(
                "path d=\"M{},{}h{s}v{s}h-{s}Z\"",
                px(x - 0.87 * r),
                px(y - 0.87 * r),
                s = px(1.74 * r)
            ),
            2 => format!(
                "path d=\"M{},{}L{},{}L{},{}Z\"",
                px(x),
                px(y - 1.2 * r),
                px(x + 1.1 * r),
                px(y + 0.8 * r),
                px(x - 1.1 * r),
                px(y + 0.8 * r)
            ),
            _ => format!(
                "path d=\"M{},{}L{},{}L{},{}L{},{}Z\"",
                px(x),
                px(y - 1.25 * r),
                px(x + 1.25 * r),
                px(y),
                px(x),
                px(y + 1.25 * r),
                px(x - 1.25 * r),
                px(y)
            ),
        };
        let name = if kind.is_multiple_of(4) { "circle" } else { "path" };
        if tip.is_empty() {
            let _ = write!(self.out, "<{shape} class=\"{class}\"/>");
        } else {
            let _ = write!(self.out, "<{shape} class=\"{class}\">{tip}</{name}>");
        }
    }

    pub(crate) fn text(&mut self, class: &str, anchor: Anchor, x: f64, y: f64, text: &str) {
        if !x.is_finite() || !y.is_finite() || text.is_empty() {
            return;
        }
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let _ = write!(
            self.out,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\"{anchor}>{}</text>",
            px(x),
            px(y),
            escape(text)
        );
    }

    /// Text that ends in a raised exponent.
    pub(crate) fn text_power(
        &mut self,
        class: &str,
        anchor: Anchor,
        x: f64,
        y: f64,
        text: &str,
        exponent: &str,
    ) {
        let before = self.out.len();
        self.text(class, anchor, x, y, text);
        if self.out.len() > before {
            self.out.truncate(self.out.len() - "</text>".len());
            let _ = write!(self.out, "<tspan dy=\"-5\" font-size=\"10\">{}</tspan></text>", escape(exponent));
        }
    }

    /// Closes what is open.
    pub(crate) fn finish(mut self) -> String {
        for _ in 0..self.open {
            self.out.push_str("</g>");
        }
        self.out.push_str("</svg>");
        self.out
    }
}
