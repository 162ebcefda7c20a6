//! Baseline++ (Chen et al. 2019, arXiv 1904.04232): cosine softmax on frozen features, fitted anew in each episode.
//!
//! `logits[i,n]` = s·⟨f_i/‖f_i‖, w_n/‖w_n‖⟩. It asks what the features alone are worth: no episode was trained on.
//! Here the classes start at the mean of their normalised support, and the whole support goes into every step, so
//! that the outcome is a function of the features.

use super::Outcome;
use super::distances::{cross_entropy, judge, slopes};
use isoflop_base::EpisodeShape;
use isoflop_kernels::Real;
use serde::{Deserialize, Serialize};

/// How the classes are fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BaselineConfig {
    /// Factor s of the cosines.
    pub scale: f64,
    /// Steps of gradient descent.
    pub steps: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// L2 decay.
    pub weight_decay: f64,
}

impl Default for BaselineConfig {
    fn default() -> Self {
        // The published ones, but for the batch of 4, which would need an order of the support.
        Self { scale: 2.0, steps: 100, lr: 0.01, momentum: 0.9, weight_decay: 0.001 }
    }
}

fn norm<T: Real>(x: &[T]) -> T {
    let mut sum = T::default();
    x.iter().for_each(|x| sum += *x * *x);
    // Of a vector of zeros, whatever direction: none.
    if sum > T::default() { sum.sqrt() } else { T::of(1.0) }
}

/// Each row over its length.
fn normalised<T: Real>(rows: &[T], d: usize) -> Vec<T> {
    rows.chunks_exact(d)
        .flat_map(|row| {
            let length = norm(row);
            row.iter().map(move |x| *x / length)
        })
        .collect()
}

/// `logits[R,N]` of normalised features `f[R,d]` and classes `w[N,d]`.
pub fn logits<T: Real>(scale: f64, f: &[T], w: &[T], d: usize) -> Vec<T> {
    let directions = normalised(w, d);
    let mut out = Vec::with_capacity(f.len() / d * (w.len() / d));
    for f in f.chunks_exact(d) {
        for w in directions.chunks_exact(d) {
            let mut dot = T::default();
            f.iter().zip(w).for_each(|(f, w)| dot += *f * *w);
            out.push(T::of(scale) * dot);
        }
    }
    out
}

/// Mean cross-entropy in nats of normalised features `f[R,d]` of `classes[R]`, and its gradient `dw[N,d]`:
/// with u = w/‖w‖ and g the gradient of u, dw = (g − u⟨u,g⟩)/‖w‖.
pub fn loss_and_gradient<T: Real>(
    scale: f64,
    (f, classes): (&[T], &[usize]),
    w: &[T],
    d: usize,
) -> (f64, Vec<T>) {
    let ways = w.len() / d;
    let mut rows = logits(scale, f, w, d);
    let (mut loss, mut dw) = (0.0, vec![T::default(); w.len()]);
    let share = T::of(scale / classes.len() as f64);
    for ((row, &class), f) in rows.chunks_exact_mut(ways).zip(classes).zip(f.chunks_exact(d)) {
        loss += cross_entropy(row, class, 0.0).0;
        slopes(row, class, 0.0);
        for (slope, dw) in row.iter().zip(dw.chunks_exact_mut(d)) {
            dw.iter_mut().zip(f).for_each(|(dw, f)| *dw += *slope * share * *f);
        }
    }
    for (w, dw) in w.chunks_exact(d).zip(dw.chunks_exact_mut(d)) {
        let length = norm(w);
        let mut dot = T::default();
        w.iter().zip(dw.iter()).for_each(|(w, g)| dot += *w * *g);
        let along = dot / (length * length);
        dw.iter_mut().zip(w).for_each(|(g, w)| *g = (*g - *w * along) / length);
    }
    (loss / classes.len() as f64, dw)
}

/// Fits the classes to an episode's support and judges its queries: features `f[N,K+Q,d]`, `logits[N·Q,N]` class by
/// class.
pub fn evaluate<T: Real>(
    config: &BaselineConfig,
    episode: EpisodeShape,
    f: &[T],
    d: usize,
) -> (Outcome, Vec<T>) {
    assert_eq!(f.len(), episode.images() * d, "features do not fit the episode");
    let f = normalised(f, d);
    let (mut support, mut queries, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    let mut w = vec![T::default(); episode.ways * d];
    for (n, (class, w)) in f.chunks_exact(episode.each() * d).zip(w.chunks_exact_mut(d)).enumerate() {
        let (own, rest) = class.split_at(episode.shots * d);
        support.extend_from_slice(own);
        queries.extend_from_slice(rest);
        classes.extend(std::iter::repeat_n(n, episode.shots));
        for f in own.chunks_exact(d) {
            w.iter_mut().zip(f).for_each(|(w, f)| *w += *f / T::of(episode.shots as f64));
        }
    }
    let mut velocity = vec![T::default(); w.len()];
    for _ in 0..config.steps {
        let (_, dw) = loss_and_gradient(config.scale, (&support, &classes), &w, d);
        for i in 0..w.len() {
            velocity[i] = T::of(config.momentum) * velocity[i] + dw[i] + T::of(config.weight_decay) * w[i];
            w[i] = w[i] - T::of(config.lr) * velocity[i];
        }
    }
    let logits = logits(config.scale, &queries, &w, d);
    let (loss, correct) = judge(&logits, episode.ways, episode.queries, 0.0);
    (Outcome { loss, auxiliary: 0.0, correct }, logits)
}
