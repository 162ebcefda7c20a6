//! Pre-training: softmax over the base classes, `logits[B,M] = f[B,d]·W + b`. The head is dropped afterwards.

use super::Arithmetic;
use super::distances::{cross_entropy, slopes};
use crate::conv::parameters::{Order, Parameters, Start};
use isoflop_kernels::Real;
use isoflop_kernels::matmul::{Init, Left, Right};

/// A linear classifier. Weights and gradients are the caller's flat buffers.
#[derive(Debug)]
pub struct Classifier<T = f32> {
    width: usize,
    classes: usize,
    parameters: Parameters,
    /// Share ε of the target that is spread over all classes.
    smoothing: f64,
    logits: Vec<T>,
    turned: Vec<T>,
    product: Vec<T>,
}

impl<T: Real> Classifier<T> {
    /// A classifier of `width` features into `classes`.
    pub fn new(width: usize, classes: usize, smoothing: f64) -> Self {
        let mut parameters = Parameters::default();
        let start = Start::Normal(libm::sqrt(1.0 / width as f64));
        parameters.add("fc.weight".into(), &[classes, width], start, Order::Transposed);
        parameters.add("fc.bias".into(), &[classes], Start::Zero, Order::AsIs);
        let empty = Vec::new;
        Self { width, classes, parameters, smoothing, logits: empty(), turned: empty(), product: empty() }
    }

    /// Layout of its weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Mean cross-entropy in nats and right answers for `f[B,d]` of these classes; `df` and `dweights` (overwritten)
    /// are `scale` times the gradients. Panics if a class lies beyond.
    pub fn train<A: Arithmetic<T>>(
        &mut self,
        arithmetic: A,
        weights: &[T],
        (f, targets): (&[T], &[u32]),
        scale: T,
        df: &mut [T],
        dweights: &mut [T],
    ) -> (f64, usize) {
        let (n, d, m) = (targets.len(), self.width, self.classes);
        assert!(n > 0 && f.len() == n * d && df.len() == f.len(), "one row of features a target");
        assert!(targets.iter().all(|&t| (t as usize) < m), "a class lies beyond the classifier");
        let w = self.parameters.of(weights, 0);
        self.logits.resize(n * m, T::default());
        let bias = Init::Bias(self.parameters.of(weights, 1));
        arithmetic.multiply((n, m, d), Left::rows(f, d), Right::rows(w, m), &mut self.logits, m, bias);
        let (mut loss, mut correct) = (0.0, 0);
        let share = scale / T::of(n as f64);
        for (row, &target) in self.logits.chunks_exact_mut(m).zip(targets) {
            let (nats, right) = cross_entropy(row, target as usize, self.smoothing);
            loss += nats;
            correct += usize::from(right);
            slopes(row, target as usize, self.smoothing);
            row.iter_mut().for_each(|l| *l = *l * share);
        }
        let dlogits = &self.logits[..n * m];
        let dw = self.parameters.of_mut(dweights, 0);
        arithmetic.multiply((d, m, n), Left::transposed(f, d), Right::rows(dlogits, m), dw, m, Init::Zero);
        let db = self.parameters.of_mut(dweights, 1);
        db.fill(T::default());
        for row in dlogits.chunks_exact(m) {
            db.iter_mut().zip(row).for_each(|(db, d)| *db += *d);
        }
        // dfᵀ = W·dlogitsᵀ: W is read as it lies.
        self.turned.resize(n * m, T::default());
        self.product.resize(d * n, T::default());
        for (i, row) in dlogits.chunks_exact(m).enumerate() {
            row.iter().enumerate().for_each(|(j, d)| self.turned[j * n + i] = *d);
        }
        let right = Right::rows(&self.turned, n);
        arithmetic.multiply((d, n, m), Left::rows(w, m), right, &mut self.product, n, Init::Zero);
        for (i, df) in df.chunks_exact_mut(d).enumerate() {
            df.iter_mut().enumerate().for_each(|(j, df)| *df = self.product[j * n + i]);
        }
        (loss / n as f64, correct)
    }
}
