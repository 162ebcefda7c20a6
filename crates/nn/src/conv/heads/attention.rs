//! A set of vectors that see each other: attention without positions, so that a permutation of the set permutes the
//! outcome, and any number of members will do.
//!
//! ```text
//!   q, k, v = X·W + b                                   [n,d] each
//!   A = softmax(q·kᵀ/√(d/h)),  y = A·v                  h heads of d/h columns
//!   o = dropout(y·W_o + b_o),  r = X + o,  LayerNorm(r)       each of the three if the form has it
//! ```

use super::Arithmetic;
use super::distances::exp;
use crate::conv::parameters::{Order, Parameters, Start};
use crate::init::mix;
use isoflop_kernels::matmul::{Init, Left, Right};
use isoflop_kernels::{Real, layernorm};

/// What the function consists of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Form {
    /// Whether q, k and v have biases.
    pub biases: bool,
    /// Heads h.
    pub heads: usize,
    /// Whether an output map follows.
    pub project: bool,
    /// Whether the set itself is added.
    pub residual: bool,
    /// Whether a layer norm ends it.
    pub norm: bool,
    /// Share of the output that is dropped in training.
    pub dropout: f64,
}

/// A linear map: numbers of its weight `[in,out]` and its bias.
#[derive(Debug, Clone, Copy)]
struct Linear {
    weight: usize,
    bias: Option<usize>,
}

/// The function with the inner values of its last forward pass.
#[derive(Debug)]
pub struct Attention<T> {
    form: Form,
    width: usize,
    /// q, k, v.
    maps: [Linear; 3],
    project: Option<Linear>,
    /// Weight of the layer norm; its bias is the next.
    norm: Option<usize>,
    qkv: [Vec<T>; 3],
    dqkv: [Vec<T>; 3],
    /// `[h,n,n]`.
    weights: Vec<T>,
    mixed: Vec<T>,
    dmixed: Vec<T>,
    /// Factor of each element of o: 0 or 1/(1 − dropout).
    kept: Vec<T>,
    sum: Vec<T>,
    stats: Vec<T>,
    dsum: Vec<T>,
    /// Transposes on the way.
    turned: Vec<T>,
    product: Vec<T>,
    scores: Vec<T>,
}

fn sized<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    buffer.clear();
    buffer.resize(len, T::default());
    buffer
}

impl Linear {
    fn new(parameters: &mut Parameters, name: &str, width: usize, bias: bool, start: Start) -> Self {
        let weight = parameters.add(format!("{name}.weight"), &[width, width], start, Order::Transposed);
        let bias = bias.then(|| parameters.add(format!("{name}.bias"), &[width], Start::Zero, Order::AsIs));
        Self { weight, bias }
    }
}

impl<T: Real> Attention<T> {
    /// Adds the function's tensors to `parameters`.
    ///
    /// Panics if the heads do not divide the width.
    pub fn new(form: Form, width: usize, parameters: &mut Parameters) -> Self {
        assert!(form.heads > 0 && width.is_multiple_of(form.heads), "heads divide the features");
        // FEAT's: q, k and v with √(2/(2d)), the output map as Xavier's normal has it, which is the same.
        let start = Start::Normal(libm::sqrt(1.0 / width as f64));
        let mut linear = |name: &str, bias: bool| Linear::new(&mut *parameters, name, width, bias, start);
        let maps = ["query", "key", "value"].map(|name| linear(name, form.biases));
        let project = form.project.then(|| linear("project", true));
        let norm = form.norm.then(|| {
            let weight = parameters.add("norm.weight".into(), &[width], Start::One, Order::AsIs);
            parameters.add("norm.bias".into(), &[width], Start::Zero, Order::AsIs);
            weight
        });
        let empty = || [Vec::new(), Vec::new(), Vec::new()];
        Self {
            form,
            width,
            maps,
            project,
            norm,
            qkv: empty(),
            dqkv: empty(),
            weights: Vec::new(),
            mixed: Vec::new(),
            dmixed: Vec::new(),
            kept: Vec::new(),
            sum: Vec::new(),
            stats: Vec::new(),
            dsum: Vec::new(),
            turned: Vec::new(),
            product: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// `out[n,d]` of the set `x[n,d]`; `mask` decides what is dropped, and without one nothing is.
    pub fn forward<A: Arithmetic<T>>(
        &mut self,
        arithmetic: A,
        layout: &Parameters,
        w: &[T],
        x: &[T],
        mask: Option<u64>,
        out: &mut [T],
    ) {
        let (d, n) = (self.width, x.len() / self.width);
        for (map, y) in self.maps.iter().zip(&mut self.qkv) {
            linear(arithmetic, layout, w, *map, x, sized(y, n * d));
        }
        self.mix(arithmetic, n);
        self.drop_some(n * d, mask);
        let sum = sized(&mut self.sum, n * d);
        match self.project {
            Some(map) => linear(arithmetic, layout, w, map, &self.mixed, sum),
            None => sum.copy_from_slice(&self.mixed),
        }
        for i in 0..n * d {
            sum[i] = sum[i] * self.kept[i];
            if self.form.residual {
                sum[i] += x[i];
            }
        }
        match self.norm {
            Some(norm) => {
                let (gamma, beta) = (layout.of(w, norm), layout.of(w, norm + 1));
                let epsilon = T::of(layernorm::EPSILON);
                layernorm::naive::forward(epsilon, sum, gamma, beta, out, sized(&mut self.stats, 2 * n));
            }
            None => out.copy_from_slice(sum),
        }
    }

    /// Attention of each head over the set: `mixed[n,d]`.
    fn mix<A: Arithmetic<T>>(&mut self, arithmetic: A, n: usize) {
        let (d, h) = (self.width, self.width / self.form.heads);
        let scale = T::of(1.0 / libm::sqrt(h as f64));
        let [q, k, v] = &self.qkv;
        sized(&mut self.weights, self.form.heads * n * n);
        sized(&mut self.mixed, n * d);
        for (head, a) in self.weights.chunks_exact_mut(n * n).enumerate() {
            let at = head * h;
            transpose(&k[at..], (n, h), d, sized(&mut self.turned, n * h));
            let left = Left { data: &q[at..], row_stride: d, k_stride: 1 };
            arithmetic.multiply((n, n, h), left, Right::rows(&self.turned, n), a, n, Init::Zero);
            for row in a.chunks_exact_mut(n) {
                softmax(row, scale);
            }
            let values = columns(&v[at..], (n, h), d, sized(&mut self.turned, n * h));
            let mixed = sized(&mut self.product, n * h);
            arithmetic.multiply((n, h, n), Left::rows(a, n), Right::rows(values, h), mixed, h, Init::Zero);
            put(mixed, (n, h), &mut self.mixed[at..], d);
        }
    }

    fn drop_some(&mut self, len: usize, mask: Option<u64>) {
        let kept = sized(&mut self.kept, len);
        kept.fill(T::of(1.0));
        let share = self.form.dropout;
        if let Some(mask) = mask.filter(|_| share > 0.0) {
            for (i, k) in kept.iter_mut().enumerate() {
                let uniform = (mix(mask ^ mix(i as u64)) >> 11) as f64 / (1u64 << 53) as f64;
                *k = T::of(if uniform < share { 0.0 } else { 1.0 / (1.0 - share) });
            }
        }
    }

    /// `dx[n,d]` (overwritten) from `dout[n,d]` of the last forward pass of `x[n,d]`; adds to `dw`.
    pub fn backward<A: Arithmetic<T>>(
        &mut self,
        arithmetic: A,
        layout: &Parameters,
        w: &[T],
        (x, dout): (&[T], &[T]),
        dx: &mut [T],
        dw: &mut [T],
    ) {
        let (d, n) = (self.width, x.len() / self.width);
        assert!(dout.len() == n * d && dx.len() == n * d);
        let dsum = sized(&mut self.dsum, n * d);
        match self.norm {
            Some(norm) => {
                let (dgamma, dbeta) = (&mut vec![T::default(); d], &mut vec![T::default(); d]);
                let gamma = layout.of(w, norm);
                let nothing = vec![T::default(); n * d];
                layernorm::naive::backward(
                    &self.sum,
                    &self.stats,
                    gamma,
                    dout,
                    &nothing,
                    dsum,
                    dgamma,
                    dbeta,
                );
                add(dgamma, layout.of_mut(dw, norm));
                add(dbeta, layout.of_mut(dw, norm + 1));
            }
            None => dsum.copy_from_slice(dout),
        }
        if self.form.residual {
            dx.copy_from_slice(dsum);
        } else {
            dx.fill(T::default());
        }
        dsum.iter_mut().zip(&self.kept).for_each(|(d, k)| *d = *d * *k);
        sized(&mut self.dmixed, n * d);
        let space = &mut (std::mem::take(&mut self.turned), std::mem::take(&mut self.product));
        match self.project {
            Some(map) => {
                let given = (&self.mixed[..], &self.dsum[..]);
                linear_backward(arithmetic, layout, w, map, given, &mut self.dmixed, dw, space);
            }
            None => self.dmixed.copy_from_slice(&self.dsum),
        }
        (self.turned, self.product) = std::mem::take(space);
        self.mix_backward(arithmetic, n);
        let space = &mut (std::mem::take(&mut self.turned), std::mem::take(&mut self.product));
        for (map, dy) in self.maps.iter().zip(&self.dqkv) {
            linear_backward(arithmetic, layout, w, *map, (x, dy), dx, dw, space);
        }
        (self.turned, self.product) = std::mem::take(space);
    }

    /// From `dmixed` to the gradients of q, k and v. With A the attention and D = dA: dS = A∘(D − Σ_j A∘D)/√h.
    fn mix_backward<A: Arithmetic<T>>(&mut self, arithmetic: A, n: usize) {
        let (d, h) = (self.width, self.width / self.form.heads);
        let scale = T::of(1.0 / libm::sqrt(h as f64));
        self.dqkv.iter_mut().for_each(|dy| {
            sized(dy, n * d);
        });
        for (head, a) in self.weights.chunks_exact(n * n).enumerate() {
            let at = head * h;
            let part = |of: &[T]| -> Vec<T> {
                let mut out = vec![T::default(); n * h];
                columns(&of[at..], (n, h), d, &mut out);
                out
            };
            let [q, k, v] = [&self.qkv[0], &self.qkv[1], &self.qkv[2]].map(|of| part(of));
            let dy = part(&self.dmixed);
            let out = sized(&mut self.product, n * h);
            // dv = Aᵀ·dy
            arithmetic.multiply((n, h, n), Left::transposed(a, n), Right::rows(&dy, h), out, h, Init::Zero);
            put(out, (n, h), &mut self.dqkv[2][at..], d);
            let scores = sized(&mut self.scores, n * n);
            transpose(&v, (n, h), h, sized(&mut self.turned, n * h));
            arithmetic.multiply(
                (n, n, h),
                Left::rows(&dy, h),
                Right::rows(&self.turned, n),
                scores,
                n,
                Init::Zero,
            );
            for (s, a) in scores.chunks_exact_mut(n).zip(a.chunks_exact(n)) {
                let mut dot = T::default();
                s.iter().zip(a).for_each(|(s, a)| dot += *s * *a);
                s.iter_mut().zip(a).for_each(|(s, a)| *s = *a * (*s - dot) * scale);
            }
            arithmetic.multiply((n, h, n), Left::rows(scores, n), Right::rows(&k, h), out, h, Init::Zero);
            put(out, (n, h), &mut self.dqkv[0][at..], d);
            arithmetic.multiply(
                (n, h, n),
                Left::transposed(scores, n),
                Right::rows(&q, h),
                out,
                h,
                Init::Zero,
            );
            put(out, (n, h), &mut self.dqkv[1][at..], d);
        }
    }

    /// Mean entropy of the last attention's rows over ln n.
    pub fn entropy(&self, n: usize) -> f64 {
        let rows = self.weights.len() / n;
        let nats = |a: &T| {
            let a = a.to_f64();
            if a > 0.0 { -a * libm::log(a) } else { 0.0 }
        };
        self.weights.iter().map(nats).sum::<f64>() / rows as f64 / libm::log(n as f64)
    }
}

/// e^(scale·l) over its sum, in place.
fn softmax<T: Real>(row: &mut [T], scale: T) {
    let most = row.iter().copied().fold(row[0], |a, b| if b > a { b } else { a });
    let mut sum = T::default();
    for l in row.iter_mut() {
        *l = exp((*l - most) * scale);
        sum += *l;
    }
    row.iter_mut().for_each(|l| *l = *l / sum);
}

/// `out[c,r]` of `x[r,c]`, rows `stride` apart.
fn transpose<T: Real>(x: &[T], (r, c): (usize, usize), stride: usize, out: &mut [T]) {
    for i in 0..r {
        for j in 0..c {
            out[j * r + i] = x[i * stride + j];
        }
    }
}

/// `out[r,c]` of the first c columns of rows `stride` apart.
fn columns<'a, T: Real>(x: &[T], (r, c): (usize, usize), stride: usize, out: &'a mut [T]) -> &'a [T] {
    for i in 0..r {
        out[i * c..(i + 1) * c].copy_from_slice(&x[i * stride..i * stride + c]);
    }
    out
}

/// The other way.
fn put<T: Real>(x: &[T], (r, c): (usize, usize), out: &mut [T], stride: usize) {
    for i in 0..r {
        out[i * stride..i * stride + c].copy_from_slice(&x[i * c..(i + 1) * c]);
    }
}

fn add<T: Real>(x: &[T], sum: &mut [T]) {
    x.iter().zip(sum).for_each(|(x, sum)| *sum += *x);
}

/// `y[n,d] = x[n,d]·W + b`.
fn linear<T: Real, A: Arithmetic<T>>(
    arithmetic: A,
    layout: &Parameters,
    w: &[T],
    map: Linear,
    x: &[T],
    y: &mut [T],
) {
    let [outputs, inputs] = layout.tensors[map.weight].shape[..] else { unreachable!("a matrix") };
    let n = x.len() / inputs;
    let init = map.bias.map_or(Init::Zero, |bias| Init::Bias(layout.of(w, bias)));
    let right = Right::rows(layout.of(w, map.weight), outputs);
    arithmetic.multiply((n, outputs, inputs), Left::rows(x, inputs), right, y, outputs, init);
}

/// `dx += dy·Wᵀ`, `dW += xᵀ·dy`, `db += Σ dy`. `space` is scratch.
fn linear_backward<T: Real, A: Arithmetic<T>>(
    arithmetic: A,
    layout: &Parameters,
    w: &[T],
    map: Linear,
    (x, dy): (&[T], &[T]),
    dx: &mut [T],
    dw: &mut [T],
    (turned, product): &mut (Vec<T>, Vec<T>),
) {
    let [outputs, inputs] = layout.tensors[map.weight].shape[..] else { unreachable!("a matrix") };
    let n = x.len() / inputs;
    let right = Right::rows(dy, outputs);
    let dweight = layout.of_mut(dw, map.weight);
    let dims = (inputs, outputs, n);
    arithmetic.multiply(dims, Left::transposed(x, inputs), right, dweight, outputs, Init::Accumulate);
    if let Some(bias) = map.bias {
        let db = layout.of_mut(dw, bias);
        dy.chunks_exact(outputs).for_each(|row| add(row, db));
    }
    // dxᵀ = W·dyᵀ: W is read as it lies, and what is turned is small.
    transpose(dy, (n, outputs), outputs, sized(turned, n * outputs));
    let dxt = sized(product, inputs * n);
    let left = Left::rows(layout.of(w, map.weight), outputs);
    arithmetic.multiply((inputs, n, outputs), left, Right::rows(turned, n), dxt, n, Init::Zero);
    for i in 0..n {
        for j in 0..inputs {
            dx[i * inputs + j] += dxt[j * n + i];
        }
    }
}
