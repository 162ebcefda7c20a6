//! Axes: from values to pixels, and the ticks a reader expects.

use crate::numbers;

/// How values are spread along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    Linear,
    Log,
}

/// How tick values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `1.5`
    Plain,
    /// `100 k`
    Count,
    /// `10¹²`
    Power,
    /// `+1 %`
    Percent,
}

/// One tick; only labelled ones are long.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: Option<String>,
}

/// One axis: `lo..hi` of the data onto `from..to` in pixels (`from > to` for an upward y axis).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) spread: Spread,
    pub(crate) style: Style,
    pub(crate) lo: f64,
    pub(crate) hi: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Axis {
    /// An axis over all `values` that can be drawn on it, with `pad` of its length free at both ends; `None` when
    /// there is nothing to show.
    pub(crate) fn over(
        values: impl IntoIterator<Item = f64>,
        spread: Spread,
        style: Style,
        pad: f64,
    ) -> Option<Self> {
        let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values {
            // Beyond these bounds pixel arithmetic and tick steps lose their meaning.
            let fits = match spread {
                Spread::Linear => v.abs() < 1e30,
                Spread::Log => (1e-30..1e60).contains(&v),
            };
            if fits {
                (lo, hi) = (lo.min(v), hi.max(v));
            }
        }
        if lo > hi {
            return None;
        }
        let (lo, hi) = match spread {
            Spread::Log => {
                let (a, b) = (lo.ln(), hi.ln());
                let room = ((b - a) * pad).max(if b - a < 1e-9 { 0.05 } else { 0.0 });
                ((a - room).exp(), (b + room).exp())
            }
            Spread::Linear => {
                let room = ((hi - lo) * pad).max(if hi - lo <= hi.abs() * 1e-12 {
                    (hi.abs() * 0.05).max(1e-6)
                } else {
                    0.0
                });
                (lo - room, hi + room)
            }
        };
        Some(Self { spread, style, lo, hi, from: 0.0, to: 1.0 })
    }

    /// The same axis between two pixel positions.
    pub(crate) fn between(mut self, from: f64, to: f64) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    fn share(&self, value: f64) -> f64 {
        match self.spread {
            Spread::Linear => (value - self.lo) / (self.hi - self.lo),
            Spread::Log => (value / self.lo).ln() / (self.hi / self.lo).ln(),
        }
    }

    /// Pixel of a value; `None` when it cannot be drawn (not finite, or not positive on a log axis).
    pub(crate) fn at(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.spread == Spread::Log && value <= 0.0) {
            return None;
        }
        let pixel = self.from + self.share(value) * (self.to - self.from);
        (pixel.abs() < 1e5).then_some(pixel)
    }

    /// Pixel of a value held inside the axis.
    pub(crate) fn clamped(&self, value: f64) -> Option<f64> {
        self.at(value.clamp(self.lo, self.hi))
    }

    /// Whether a value lies on the axis.
    pub(crate) fn holds(&self, value: f64) -> bool {
        value.is_finite() && (-1e-9..=1.0 + 1e-9).contains(&self.share(value))
    }

    /// `num` values along the axis, evenly spaced in pixels, both ends included.
    pub(crate) fn samples(&self, num: usize) -> Vec<f64> {
        (0..num)
            .map(|i| {
                let t = i as f64 / (num.max(2) - 1) as f64;
                match self.spread {
                    Spread::Linear => self.lo + t * (self.hi - self.lo),
                    Spread::Log => (self.lo.ln() + t * (self.hi / self.lo).ln()).exp(),
                }
            })
            .collect()
    }

    /// Ticks, about `target` of them labelled.
    pub(crate) fn ticks(&self, target: usize) -> Vec<Tick> {
        let decades = match self.spread {
            Spread::Linear => 0.0,
            Spread::Log => (self.hi / self.lo).log10(),
        };
        if decades > 0.95 { self.decade_ticks(target, decades) } else { self.even_ticks(target) }
    }

    /// 1–2–5 steps, for linear axes and for log axes of less than a decade.
    fn even_ticks(&self, target: usize) -> Vec<Tick> {
        let rough = (self.hi - self.lo) / target.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .iter()
            .map(|m| m * power)
            .find(|s| *s >= rough * 0.999)
            .unwrap_or(power * 10.0);
        let parts = if (step / power - 2.0).abs() < 0.1 { 4.0 } else { 5.0 };
        let minor = step / parts;
        let first = (self.lo / minor).ceil() as i64;
        let last = (self.hi / minor).floor() as i64;
        if last - first > 400 {
            return Vec::new();
        }
        let digits = (-(step.log10() + 1e-9).floor()).max(0.0) as usize
            + usize::from((step / power - 2.5).abs() < 0.01);
        (first..=last)
            .map(|k| {
                let value = k as f64 * minor;
                let label = (k.rem_euclid(parts as i64) == 0).then(|| self.text(value, digits));
                Tick { value, label }
            })
            .collect()
    }

    /// Decades, with 2 and 5 labelled where there is room.
    fn decade_ticks(&self, target: usize, decades: f64) -> Vec<Tick> {
        let (first, last) = (self.lo.log10().floor() as i32, self.hi.log10().ceil() as i32);
        let every = ((decades / target.max(1) as f64).ceil() as i32).max(1);
        let labelled: &[i32] = match target as f64 / decades {
            r if r >= 3.0 => &[1, 2, 5],
            r if r >= 2.0 && self.style != Style::Power => &[1, 3],
            _ => &[1],
        };
        let mut ticks = Vec::new();
        for exponent in first..=last {
            for digit in 1..10 {
                let value = f64::from(digit) * 10f64.powi(exponent);
                if !self.holds(value) || (every > 1 && digit > 1) {
                    continue;
                }
                let label = labelled.contains(&digit) && exponent.rem_euclid(every) == 0;
                ticks.push(Tick { value, label: label.then(|| self.text(value, 0)) });
            }
        }
        ticks
    }

    fn text(&self, value: f64, digits: usize) -> String {
        match self.style {
            Style::Plain if value.abs() >= 1e5 => numbers::count(value),
            Style::Plain => {
                let digits = if digits == 0 && value != 0.0 && value.abs() < 1.0 {
                    (-value.abs().log10().floor()) as usize
                } else {
                    digits
                };
                numbers::fixed(value, digits)
            }
            Style::Count => numbers::count(value),
            Style::Power => numbers::scientific(value),
            Style::Percent => numbers::signed_percent(value, digits.saturating_sub(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, target: usize) -> Vec<String> {
        axis.ticks(target).into_iter().filter_map(|t| t.label).collect()
    }

    #[test]
    fn a_short_log_axis_gets_even_ticks_and_a_long_one_decades() {
        let loss = Axis::over([1.35, 1.9], Spread::Log, Style::Plain, 0.0).unwrap();
        assert_eq!(labels(&loss, 6), ["1.4", "1.5", "1.6", "1.7", "1.8", "1.9"]);
        let params = Axis::over([1e4, 2e6], Spread::Log, Style::Count, 0.0).unwrap();
        assert_eq!(labels(&params, 3), ["10\u{202f}k", "100\u{202f}k", "1\u{202f}M"]);
        let flops = Axis::over([1e10, 1e25], Spread::Log, Style::Power, 0.0).unwrap();
        assert!(labels(&flops, 5).len() <= 6);
    }

    #[test]
    fn pixels_run_from_end_to_end() {
        let axis = Axis::over([1.0, 100.0], Spread::Log, Style::Plain, 0.0).unwrap().between(0.0, 100.0);
        assert!((axis.at(10.0).unwrap() - 50.0).abs() < 1e-9);
        assert_eq!(axis.at(0.0), None);
        assert_eq!(axis.at(f64::NAN), None);
    }

    #[test]
    fn hostile_values_leave_no_axis_or_a_finite_one() {
        assert!(Axis::over([f64::NAN, -1.0, f64::INFINITY], Spread::Log, Style::Plain, 0.1).is_none());
        for values in [vec![0.0], vec![5.0, 5.0], vec![-1e29, 1e29], vec![1e-300, 1.0]] {
            let axis = Axis::over(values, Spread::Linear, Style::Plain, 0.1).unwrap();
            assert!(axis.ticks(5).iter().all(|t| t.value.is_finite()));
        }
    }
}
