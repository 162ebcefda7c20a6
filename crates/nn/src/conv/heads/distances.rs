//! Softmax over negative squared distances to prototypes, its cross-entropy and gradients.
//!
//! `logits[q,n]` = −‖f_q − c_n‖²/T; with t the target, ε of it spread over all classes, and l = ∂loss/∂logit = p − t:
//! df_q = −(2/T)·Σ_n `l[q,n]`·(f_q − c_n), dc_n = (2/T)·Σ_q `l[q,n]`·(f_q − c_n).

use isoflop_base::EpisodeShape;
use isoflop_kernels::Real;
use std::ops::Range;

/// e^x by a library that computes the same bits on every system.
pub(super) fn exp<T: Real>(x: T) -> T {
    T::of(libm::exp(x.to_f64()))
}

/// Space for an episode's logits.
#[derive(Debug, Default)]
pub(super) struct Distances<T> {
    logits: Vec<T>,
}

/// Which images of each class are judged: the episode, their numbers within a class, and features d.
pub(super) type Judged = (EpisodeShape, Range<usize>, usize);

/// The judged images' features, with the class of each.
fn rows<'a, T>((episode, own, d): &'a Judged, f: &'a [T]) -> impl Iterator<Item = (usize, &'a [T])> {
    let each = episode.each();
    (0..episode.ways)
        .flat_map(move |n| own.clone().map(move |i| (n, &f[(n * each + i) * d..(n * each + i + 1) * d])))
}

impl<T: Real> Distances<T> {
    /// `logits[judged,N]`, class by class.
    pub(super) fn logits(&self, judged: Judged, temperature: T, f: &[T], centres: &[T], logits: &mut Vec<T>) {
        logits.clear();
        for (_, x) in rows(&judged, f) {
            for c in centres.chunks_exact(judged.2) {
                let mut sum = T::default();
                x.iter().zip(c).for_each(|(x, c)| sum += (*x - *c) * (*x - *c));
                logits.push(-(sum / temperature));
            }
        }
    }

    /// Mean cross-entropy in nats and the number of right answers; adds `scale` times the gradients to `df` and
    /// `dcentres`.
    pub(super) fn train(
        &mut self,
        judged: Judged,
        (temperature, smoothing): (T, f64),
        scale: T,
        f: &[T],
        centres: &[T],
        df: &mut [T],
        dcentres: &mut [T],
    ) -> (f64, usize) {
        let (ways, each, d) = (judged.0.ways, judged.0.each(), judged.2);
        let own = judged.1.clone();
        let mut logits = std::mem::take(&mut self.logits);
        self.logits(judged, temperature, f, centres, &mut logits);
        let (loss, correct) = judge(&logits, ways, own.len(), smoothing);
        let factor = scale * T::of(2.0 / (ways * own.len()) as f64) / temperature;
        for (index, row) in logits.chunks_exact_mut(ways).enumerate() {
            let (class, image) = (index / own.len(), own.start + index % own.len());
            slopes(row, class, smoothing);
            let at = (class * each + image) * d;
            let (x, dx) = (&f[at..at + d], &mut df[at..at + d]);
            let centres = centres.chunks_exact(d).zip(dcentres.chunks_exact_mut(d));
            for (slope, (c, dc)) in row.iter().zip(centres) {
                let slope = *slope * factor;
                for i in 0..d {
                    let way = slope * (x[i] - c[i]);
                    dx[i] += -way;
                    dc[i] += way;
                }
            }
        }
        self.logits = logits;
        (loss, correct)
    }
}

/// Softmax minus target, in place of a row of logits.
pub(super) fn slopes<T: Real>(row: &mut [T], class: usize, smoothing: f64) {
    let most = row.iter().copied().fold(row[0], |a, b| if b > a { b } else { a });
    let mut sum = T::default();
    for l in row.iter_mut() {
        *l = exp(*l - most);
        sum += *l;
    }
    let spread = smoothing / row.len() as f64;
    for (n, l) in row.iter_mut().enumerate() {
        let target = spread + if n == class { 1.0 - smoothing } else { 0.0 };
        *l = *l / sum - T::of(target);
    }
}

/// Mean cross-entropy, in nats, and right answers of `logits[N·each,N]`, class by class; of equal logits the first
/// counts.
pub(super) fn judge<T: Real>(logits: &[T], ways: usize, each: usize, smoothing: f64) -> (f64, usize) {
    let (mut loss, mut correct) = (0.0, 0);
    for (index, row) in logits.chunks_exact(ways).enumerate() {
        let (nats, right) = cross_entropy(row, index / each, smoothing);
        loss += nats;
        correct += usize::from(right);
    }
    (loss / (logits.len() / ways) as f64, correct)
}

/// Cross-entropy of one row of logits in nats, and whether its first largest is the class's.
pub(super) fn cross_entropy<T: Real>(row: &[T], class: usize, smoothing: f64) -> (f64, bool) {
    let best = row.iter().enumerate().fold(0, |best, (n, l)| if *l > row[best] { n } else { best });
    let most = row[best].to_f64();
    let sum: f64 = row.iter().map(|l| libm::exp(l.to_f64() - most)).sum();
    let log_sum = most + libm::log(sum);
    let mean = row.iter().map(|l| l.to_f64()).sum::<f64>() / row.len() as f64;
    let nats = log_sum - (1.0 - smoothing) * row[class].to_f64() - smoothing * mean;
    (nats, best == class)
}
