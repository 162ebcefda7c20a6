//! A line of a figure in bounded room: however many values come, its lowest and highest are kept.
//!
//! Every second or hundredth value would lose peaks; of each stretch the lowest and the highest are kept instead, in
//! their order. Folding what was folded keeps that promise, so a line can grow for weeks.

/// Values of a line at most; more are folded to half.
pub const MOST: usize = 1024;
/// Neighbours of which two are kept by a fold.
const STRETCH: usize = 4;

/// A value of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    /// Where it stands: an optimiser step, or a second since 1970.
    pub x: f64,
    /// Seconds of training up to it.
    pub seconds: f32,
    /// The value.
    pub y: f32,
    /// Nothing joins it to the value before: lines between them were lost, or time passed unseen.
    pub apart: bool,
}

/// A line that grows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    dots: Vec<Dot>,
    seen: u64,
    /// The next value lies apart from the last one.
    parted: bool,
}

impl Line {
    /// Nothing joins what comes next to what was before, whenever it comes.
    pub fn part(&mut self) {
        self.parted = !self.dots.is_empty();
    }

    /// Adds a value; what is no number is left out.
    pub fn push(&mut self, mut dot: Dot) {
        if !dot.y.is_finite() || !dot.x.is_finite() {
            return;
        }
        dot.apart |= std::mem::take(&mut self.parted);
        self.seen += 1;
        self.dots.push(dot);
        if self.dots.len() > MOST {
            self.dots = folded(&self.dots);
        }
    }

    /// Its values, thinned if there were more than can be kept.
    pub fn dots(&self) -> &[Dot] {
        &self.dots
    }

    /// Values it was given.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// About `budget` values at most, with the lowest and highest of each stretch.
    pub fn thinned(&self, budget: usize) -> Vec<Dot> {
        let mut dots = self.dots.clone();
        while dots.len() > budget.max(2 * STRETCH) {
            let fewer = folded(&dots);
            if fewer.len() == dots.len() {
                break;
            }
            dots = fewer;
        }
        dots
    }
}

/// Half as many values: the lowest and the highest of each stretch, and the very last.
fn folded(dots: &[Dot]) -> Vec<Dot> {
    let Some((last, rest)) = dots.split_last() else { return Vec::new() };
    let mut kept = Vec::with_capacity(dots.len() / 2 + 2);
    // No stretch reaches over a gap.
    for joined in rest.chunk_by(|_, next| !next.apart) {
        for stretch in joined.chunks(STRETCH) {
            let by = |a: &(usize, &Dot), b: &(usize, &Dot)| a.1.y.total_cmp(&b.1.y);
            let lowest = stretch.iter().enumerate().min_by(by).expect("a chunk has values").0;
            let highest = stretch.iter().enumerate().max_by(by).expect("a chunk has values").0;
            let start = kept.len();
            kept.push(stretch[lowest.min(highest)]);
            if lowest != highest {
                kept.push(stretch[lowest.max(highest)]);
            }
            kept[start].apart = stretch[0].apart;
        }
    }
    kept.push(*last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(x: u32, y: f32) -> Dot {
        Dot { x: f64::from(x), seconds: x as f32, y, apart: false }
    }

    #[test]
    fn a_line_is_bounded_and_keeps_its_peaks() {
        let mut line = Line::default();
        for i in 0..1_000_000u32 {
            let y = match i {
                123_457 => 9.0,
                700_001 => -9.0,
                i => (i % 7) as f32 / 7.0,
            };
            line.push(dot(i, y));
            assert!(line.dots().len() <= MOST);
        }
        assert_eq!(line.seen(), 1_000_000);
        for budget in [MOST, 100, 20] {
            let thin = line.thinned(budget);
            assert!(thin.len() <= budget, "{} of {budget}", thin.len());
            assert!(thin.contains(&dot(123_457, 9.0)) && thin.contains(&dot(700_001, -9.0)), "{budget}");
            assert_eq!(thin.last().unwrap().x, 999_999.0);
            assert!(thin.windows(2).all(|w| w[0].x < w[1].x), "out of order");
        }
    }

    #[test]
    fn a_gap_stays_a_gap_and_what_is_no_number_is_left_out() {
        let mut line = Line::default();
        for i in 0..5000u32 {
            line.push(Dot { apart: i == 2500, ..dot(i, i as f32) });
            line.push(dot(i, f32::NAN));
        }
        assert_eq!(line.seen(), 5000);
        let gaps: Vec<f64> = line.thinned(40).iter().filter(|d| d.apart).map(|d| d.x).collect();
        assert_eq!(gaps, [2500.0]);
    }

    #[test]
    fn a_gap_waits_for_the_next_value() {
        let mut line = Line::default();
        line.part();
        line.push(dot(0, 1.0));
        line.part();
        line.push(dot(1, f32::NAN));
        line.push(dot(2, 1.0));
        line.push(dot(3, 1.0));
        let apart: Vec<bool> = line.dots().iter().map(|d| d.apart).collect();
        assert_eq!(
            apart,
            [false, true, false],
            "nothing lies before the first; what is no number closes no gap"
        );
    }

    #[test]
    fn few_values_are_all_kept() {
        let mut line = Line::default();
        (0..100).for_each(|i| line.push(dot(i, i as f32)));
        assert_eq!(line.thinned(100).len(), 100);
        assert_eq!(Line::default().thinned(10), []);
    }
}
