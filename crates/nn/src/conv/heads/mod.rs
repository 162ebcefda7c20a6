//! Heads: what predicts the classes of an episode's query images from features `f[N,K+Q,d]`, the first K of each class
//! its support.
//!
//! Every head of [`HeadKind`] makes a prototype of each class, the mean of its support, lets the prototypes of the
//! task see each other (or not), and measures distances:
//!
//! ```text
//!   P[N,d] = mean over support        R = set(P)        logits[q,n] = −‖f_q − R_n‖²/T
//! ```
//!
//! | head | set(P) | from |
//! |---|---|---|
//! | `proto` | P | Snell et al. 2017 |
//! | `ccd` | softmax(q·kᵀ/√d)·v | the class-dependency module as reported; collapses at its start |
//! | `ccd-residual` | P + softmax(q·kᵀ/√d)·v | its repair |
//! | `ccd-mha` | eight heads, an output map | the report's other variant |
//! | `feat` | LayerNorm(P + Dropout(W_o·softmax(q·kᵀ/√d)·v)) | Ye et al. 2020; trained with an auxiliary loss |
//!
//! [`baseline`] (cosine softmax on frozen features) and [`classifier`] (pre-training) need no episodes of training.
//! The code is written once, over the number type and over what multiplies ([`Arithmetic`]): in f64 with plain loops it
//! is the reference, in f32 on the kernels what trains.

pub mod attention;
pub mod baseline;
pub mod classifier;
pub mod distances;

use super::parameters::Parameters;
use attention::{Attention, Form};
pub use classifier::Classifier;
use distances::Distances;
use isoflop_base::EpisodeShape;
pub use isoflop_base::HeadKind;
use isoflop_kernels::matmul::{self, Init, Left, Right};
use isoflop_kernels::{KernelSet, Real};
use serde::{Deserialize, Serialize};

/// What multiplies matrices.
pub trait Arithmetic<T: Real>: Copy {
    /// `c[M,N] = init + a[M,K] · b[K,N]`, rows of `c` being `c_stride` apart.
    fn multiply(
        self,
        dims: (usize, usize, usize),
        a: Left<'_, T>,
        b: Right<'_, T>,
        c: &mut [T],
        c_stride: usize,
        init: Init<'_, T>,
    );
}

/// Plain loops.
#[derive(Debug, Clone, Copy)]
pub struct PlainLoops;

impl<T: Real> Arithmetic<T> for PlainLoops {
    fn multiply(
        self,
        dims: (usize, usize, usize),
        a: Left<'_, T>,
        b: Right<'_, T>,
        c: &mut [T],
        c_stride: usize,
        init: Init<'_, T>,
    ) {
        matmul::naive::multiply(dims, a, b, c, c_stride, init);
    }
}

impl Arithmetic<f32> for KernelSet {
    fn multiply(
        self,
        dims: (usize, usize, usize),
        a: Left<'_>,
        b: Right<'_>,
        c: &mut [f32],
        c_stride: usize,
        init: Init<'_>,
    ) {
        matmul::multiply(self, dims, a, b, c, c_stride, init);
    }
}

/// What a head's set function consists of, if it has one.
fn form(kind: HeadKind, dropout: f64) -> Option<Form> {
    let plain = Form { biases: true, heads: 1, project: false, residual: false, norm: false, dropout: 0.0 };
    match kind {
        HeadKind::Proto => None,
        HeadKind::Ccd => Some(plain),
        HeadKind::CcdResidual => Some(Form { residual: true, ..plain }),
        HeadKind::CcdMha => Some(Form { heads: 8, project: true, ..plain }),
        HeadKind::Feat => {
            Some(Form { biases: false, project: true, residual: true, norm: true, dropout, ..plain })
        }
    }
}

/// A head and its loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeadConfig {
    /// Which.
    pub kind: HeadKind,
    /// Features d.
    pub width: usize,
    /// What squared distances are divided by: 1 for Conv-4, 64 for ResNet-12.
    pub temperature: f64,
    /// Weight λ and temperature of FEAT's auxiliary loss; none is not computed.
    pub auxiliary: Option<(f64, f64)>,
    /// Share ε of the target that is spread over all classes.
    pub smoothing: f64,
    /// Share of FEAT's output that is dropped in training.
    pub dropout: f64,
}

impl HeadConfig {
    /// A head with distances as they are and nothing added to the loss.
    pub fn new(kind: HeadKind, width: usize) -> Self {
        Self { kind, width, temperature: 1.0, auxiliary: None, smoothing: 0.0, dropout: 0.0 }
    }
}

impl HeadConfig {
    /// What judges features that no head was trained for: the nearest mean, at a temperature of the features' number,
    /// which keeps their distances of the order of one.
    pub fn nearest_mean(width: usize) -> Self {
        Self { temperature: width as f64, ..Self::new(HeadKind::Proto, width) }
    }
}

/// What a head made of an episode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Mean cross-entropy of the query images, nats.
    pub loss: f64,
    /// Mean cross-entropy of the auxiliary task, nats, not weighted; 0 without.
    pub auxiliary: f64,
    /// Query images whose nearest prototype is their class's.
    pub correct: usize,
}

/// What prototypes look like before and after they saw each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Mean cosine between the class means.
    pub cosine_before: f64,
    /// Mean cosine between what the distances are measured to: near 1, all classes are one.
    pub cosine_after: f64,
    /// Mean entropy of the attention over ln N: 1 is uniform. Without attention not a number.
    pub entropy: f64,
}

/// A head with the space its passes need. Weights and gradients are the caller's flat buffers.
#[derive(Debug)]
pub struct Head<T = f32> {
    config: HeadConfig,
    parameters: Parameters,
    attention: Option<Attention<T>>,
    prototypes: Vec<T>,
    refined: Vec<T>,
    drefined: Vec<T>,
    distances: Distances<T>,
    /// Centres of the auxiliary task and their gradients, members of a class turned, and theirs.
    centres: Vec<T>,
    dcentres: Vec<T>,
    turned: Vec<T>,
    dturned: Vec<T>,
}

impl<T: Real> Head<T> {
    /// A head for episodes of any shape; space grows with the largest it has seen.
    pub fn new(config: HeadConfig) -> Self {
        let mut parameters = Parameters::default();
        let form = form(config.kind, config.dropout);
        let attention = form.map(|form| Attention::new(form, config.width, &mut parameters));
        Self {
            config,
            parameters,
            attention,
            prototypes: Vec::new(),
            refined: Vec::new(),
            drefined: Vec::new(),
            distances: Distances::default(),
            centres: Vec::new(),
            dcentres: Vec::new(),
            turned: Vec::new(),
            dturned: Vec::new(),
        }
    }

    /// What it is.
    pub fn config(&self) -> &HeadConfig {
        &self.config
    }

    /// Layout of its weights: empty for `proto`.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Loss of one episode's features `f[N,K+Q,d]`; `df` (overwritten) and `dweights` (added to) are `scale` times its
    /// gradients. `mask` decides what dropout drops: a function of it and of nothing else.
    pub fn train<A: Arithmetic<T>>(
        &mut self,
        arithmetic: A,
        episode: EpisodeShape,
        weights: &[T],
        f: &[T],
        (scale, mask): (T, u64),
        df: &mut [T],
        dweights: &mut [T],
    ) -> Outcome {
        let d = self.config.width;
        assert!(f.len() == episode.images() * d && df.len() == f.len(), "features do not fit the episode");
        df.fill(T::default());
        self.refine(arithmetic, episode, weights, f, Some(mask));
        let n = episode.ways * d;
        self.drefined.clear();
        self.drefined.resize(n, T::default());
        let queries = episode.shots..episode.each();
        let settings = (T::of(self.config.temperature), self.config.smoothing);
        let (loss, correct) = self.distances.train(
            (episode, queries, d),
            settings,
            scale,
            f,
            &self.refined[..n],
            df,
            &mut self.drefined,
        );
        if let Some(attention) = &mut self.attention {
            let layout = &self.parameters;
            let given = (&self.prototypes[..n], &self.drefined[..n]);
            self.turned.clear();
            self.turned.resize(n, T::default());
            attention.backward(arithmetic, layout, weights, given, &mut self.turned, dweights);
            std::mem::swap(&mut self.turned, &mut self.drefined);
        }
        spread_means(episode, d, &self.drefined, df);
        let auxiliary = match self.config.auxiliary {
            Some((weight, temperature)) if self.attention.is_some() => self.auxiliary(
                arithmetic,
                (episode, weights, f),
                (scale * T::of(weight), T::of(temperature), mask),
                df,
                dweights,
            ),
            _ => 0.0,
        };
        Outcome { loss, auxiliary, correct }
    }

    /// Logits `[N·Q,N]` of the query images, class by class, and what they are worth. Nothing is dropped.
    pub fn evaluate<A: Arithmetic<T>>(
        &mut self,
        arithmetic: A,
        episode: EpisodeShape,
        weights: &[T],
        f: &[T],
        logits: &mut Vec<T>,
    ) -> Outcome {
        let d = self.config.width;
        assert!(f.len() == episode.images() * d, "features do not fit the episode");
        self.refine(arithmetic, episode, weights, f, None);
        let queries = episode.shots..episode.each();
        let refined = &self.refined[..episode.ways * d];
        let temperature = T::of(self.config.temperature);
        self.distances.logits((episode, queries, d), temperature, f, refined, logits);
        let (loss, correct) = distances::judge(logits, episode.ways, episode.queries, self.config.smoothing);
        Outcome { loss, auxiliary: 0.0, correct }
    }

    /// Prototypes before and after they saw each other, of the last episode.
    pub fn geometry(&self, ways: usize) -> Geometry {
        let d = self.config.width;
        Geometry {
            cosine_before: mean_cosine(&self.prototypes[..ways * d], d),
            cosine_after: mean_cosine(&self.refined[..ways * d], d),
            entropy: self.attention.as_ref().map_or(f64::NAN, |a| a.entropy(ways)),
        }
    }

    /// The class means, and what the set function makes of them.
    fn refine<A: Arithmetic<T>>(
        &mut self,
        arithmetic: A,
        episode: EpisodeShape,
        weights: &[T],
        f: &[T],
        mask: Option<u64>,
    ) {
        let d = self.config.width;
        self.prototypes.clear();
        self.prototypes.resize(episode.ways * d, T::default());
        let shots = T::of(episode.shots as f64);
        for (class, p) in f.chunks_exact(episode.each() * d).zip(self.prototypes.chunks_exact_mut(d)) {
            for x in class.chunks_exact(d).take(episode.shots) {
                p.iter_mut().zip(x).for_each(|(p, x)| *p += *x);
            }
            p.iter_mut().for_each(|p| *p = *p / shots);
        }
        self.refined.clear();
        self.refined.extend_from_slice(&self.prototypes);
        if let Some(attention) = &mut self.attention {
            let layout = &self.parameters;
            attention.forward(arithmetic, layout, weights, &self.prototypes, mask, &mut self.refined);
        }
    }

    /// FEAT's auxiliary task: the set function on the images of each class alone; every image is to lie nearest to the
    /// mean of what became of its own class. Adds `scale` times the gradients.
    fn auxiliary<A: Arithmetic<T>>(
        &mut self,
        arithmetic: A,
        (episode, weights, f): (EpisodeShape, &[T], &[T]),
        (scale, temperature, mask): (T, T, u64),
        df: &mut [T],
        dweights: &mut [T],
    ) -> f64 {
        let (d, each) = (self.config.width, episode.each() * self.config.width);
        let attention = self.attention.as_mut().expect("the auxiliary task is the set function's");
        let layout = &self.parameters;
        self.centres.clear();
        self.centres.resize(episode.ways * d, T::default());
        self.turned.clear();
        self.turned.resize(each, T::default());
        let count = T::of(episode.each() as f64);
        let own_mask = |class: usize| Some(crate::init::mix(mask ^ (class as u64 + 1)));
        for (n, (class, centre)) in f.chunks_exact(each).zip(self.centres.chunks_exact_mut(d)).enumerate() {
            attention.forward(arithmetic, layout, weights, class, own_mask(n), &mut self.turned);
            for x in self.turned.chunks_exact(d) {
                centre.iter_mut().zip(x).for_each(|(c, x)| *c += *x / count);
            }
        }
        self.dcentres.clear();
        self.dcentres.resize(episode.ways * d, T::default());
        let all = (episode, 0..episode.each(), d);
        let (loss, _) =
            self.distances.train(all, (temperature, 0.0), scale, f, &self.centres, df, &mut self.dcentres);
        self.dturned.clear();
        self.dturned.resize(each, T::default());
        for (n, (class, dcentre)) in f.chunks_exact(each).zip(self.dcentres.chunks_exact(d)).enumerate() {
            // Again, for only one class's inner values are kept.
            attention.forward(arithmetic, layout, weights, class, own_mask(n), &mut self.turned);
            for dx in self.dturned.chunks_exact_mut(d) {
                dx.iter_mut().zip(dcentre).for_each(|(dx, dc)| *dx = *dc / count);
            }
            let given = (class, &self.dturned[..]);
            attention.backward(arithmetic, layout, weights, given, &mut self.turned, dweights);
            df[n * each..(n + 1) * each].iter_mut().zip(&self.turned).for_each(|(df, dx)| *df += *dx);
        }
        loss
    }
}

/// Adds each prototype's gradient to its support images, a K-th to each.
fn spread_means<T: Real>(episode: EpisodeShape, d: usize, dprototypes: &[T], df: &mut [T]) {
    let shots = T::of(episode.shots as f64);
    for (class, dp) in df.chunks_exact_mut(episode.each() * d).zip(dprototypes.chunks_exact(d)) {
        for df in class.chunks_exact_mut(d).take(episode.shots) {
            df.iter_mut().zip(dp).for_each(|(df, dp)| *df += *dp / shots);
        }
    }
}

/// Mean cosine between all pairs of rows. Behind a ReLU all features of a class may be 0: then it has nothing in common
/// with another, and the pair counts as 0.
fn mean_cosine<T: Real>(rows: &[T], d: usize) -> f64 {
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
    let rows: Vec<&[T]> = rows.chunks_exact(d).collect();
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (i, a) in rows.iter().enumerate() {
        for b in &rows[..i] {
            let lengths = libm::sqrt(dot(a, a) * dot(b, b));
            sum += if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 };
            pairs += 1.0;
        }
    }
    sum / pairs
}

#[cfg(test)]
mod tests;
