//! GPT-2, forward and backward, in plain loops over `f32` or `f64`: the page to read first, and the oracle.
//!
//! ```text
//!   x = wte[token] + wpe[position]                                  [T,C]
//!   per block:  x += attention(norm(x)·Wqkv + b)·Wproj + b          pre-norm residual branches
//!               x += f(norm(x)·Wfc + b)·Wout + b                    f: GELU
//!   logits = norm(x)·headᵀ                                          [T,V], head = wte if tied
//! ```
//!
//! Nothing here is shared with the fast engine but the layout of the weights.

use crate::layout::Layout;
use crate::{AdamWConfig, GptConfig};
use isoflop_base::TokenBatch;
use isoflop_kernels::Real;
use isoflop_kernels::adamw::{self, Step};
use isoflop_kernels::attention::{self, Head};
use isoflop_kernels::matmul::naive::multiply;
use isoflop_kernels::matmul::{Init, Left, Right};
use isoflop_kernels::{activation, cross_entropy, layernorm, rows};

/// A model with its weights, gradients and moments in one number type.
#[derive(Debug, Clone)]
pub struct Reference<T> {
    config: GptConfig,
    layout: Layout,
    /// Weights, flat.
    pub weights: Vec<T>,
    /// Gradients, flat: the mean over the last batch.
    pub gradients: Vec<T>,
    first: Vec<T>,
    second: Vec<T>,
    step: i32,
}

/// What the backward pass of one block needs of its forward.
struct Kept<T> {
    x: Vec<T>,
    norm1: Vec<T>,
    stats1: Vec<T>,
    qkv: Vec<T>,
    attended: Vec<T>,
    lse: Vec<T>,
    mid: Vec<T>,
    norm2: Vec<T>,
    stats2: Vec<T>,
    hidden: Vec<T>,
    active: Vec<T>,
}

impl<T: Real> Reference<T> {
    /// A model with these weights.
    pub fn new(config: &GptConfig, weights: Vec<T>) -> Self {
        let layout = Layout::new(config);
        assert_eq!(weights.len(), layout.len);
        let zeros = vec![T::default(); layout.len];
        Self {
            config: *config,
            layout,
            gradients: zeros.clone(),
            first: zeros.clone(),
            second: zeros,
            weights,
            step: 0,
        }
    }

    /// The layout of the flat buffers.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn weight(&self, index: usize) -> &[T] {
        self.layout.of(&self.weights, index)
    }

    /// `y[T,N] = x[T,K]·w[K,N] + b[N]`.
    fn linear(&self, x: &[T], w: usize, b: usize) -> Vec<T> {
        let (w, b) = (self.weight(w), self.weight(b));
        let (n, k) = (b.len(), w.len() / b.len());
        let t = x.len() / k;
        let mut y = vec![T::default(); t * n];
        multiply((t, n, k), Left::rows(x, k), Right::rows(w, n), &mut y, n, Init::Bias(b));
        y
    }

    /// `dx[T,K] = dy[T,N]·wᵀ`, and adds `dw = xᵀ·dy`, `db = Σ dy`.
    fn linear_backward(&mut self, x: &[T], dy: &[T], w: usize, b: usize) -> Vec<T> {
        let n = self.weight(b).len();
        let k = self.weight(w).len() / n;
        let t = x.len() / k;
        let turned: Vec<T> = (0..k * n).map(|i| self.weight(w)[(i % k) * n + i / k]).collect();
        let mut dx = vec![T::default(); t * k];
        multiply((t, k, n), Left::rows(dy, n), Right::rows(&turned, k), &mut dx, k, Init::Zero);
        let dw = self.layout.of_mut(&mut self.gradients, w);
        multiply((k, n, t), Left::transposed(x, k), Right::rows(dy, n), dw, n, Init::Accumulate);
        let mut sums = vec![T::default(); n];
        rows::naive::column_sums(dy, &mut sums);
        add(&sums, self.layout.of_mut(&mut self.gradients, b));
        dx
    }

    fn norm(&self, x: &[T], w: usize) -> (Vec<T>, Vec<T>) {
        let c = self.config.shape.d_model;
        let (mut y, mut stats) = (vec![T::default(); x.len()], vec![T::default(); x.len() / c * 2]);
        let epsilon = T::of(self.config.variant.norm_epsilon);
        layernorm::naive::forward(epsilon, x, self.weight(w), self.weight(w + 1), &mut y, &mut stats);
        (y, stats)
    }

    /// The gradient through a norm, plus `residual`.
    fn norm_backward(&mut self, x: &[T], stats: &[T], w: usize, dy: &[T], residual: &[T]) -> Vec<T> {
        let c = self.config.shape.d_model;
        let (mut dx, mut dw, mut db) =
            (vec![T::default(); x.len()], vec![T::default(); c], vec![T::default(); c]);
        let weight = self.layout.of(&self.weights, w);
        layernorm::naive::backward(x, stats, weight, dy, residual, &mut dx, &mut dw, &mut db);
        add(&dw, self.layout.of_mut(&mut self.gradients, w));
        add(&db, self.layout.of_mut(&mut self.gradients, w + 1));
        dx
    }

    fn head(&self, layer: usize, length: usize, head: usize) -> Head {
        let shape = self.config.shape;
        let divisor = self.config.score_divisor(layer);
        Head { divisor, ..Head::new(length, shape.d_model, shape.head_width(), head) }
    }

    fn forward(&self, tokens: &[u32]) -> (Vec<Kept<T>>, Vec<T>) {
        let (c, t) = (self.config.shape.d_model, tokens.len());
        let (wte, wpe) = (self.weight(self.layout.wte), self.weight(self.layout.wpe));
        let mut x: Vec<T> = (0..t * c).map(|i| wte[tokens[i / c] as usize * c + i % c] + wpe[i]).collect();
        let mut kept = Vec::new();
        for (layer, block) in self.layout.blocks.iter().enumerate() {
            let (norm1, stats1) = self.norm(&x, block.ln1_w);
            let qkv = self.linear(&norm1, block.qkv_w, block.qkv_b);
            let heads = self.config.shape.n_head;
            let (mut attended, mut lse) = (vec![T::default(); t * c], vec![T::default(); heads * t]);
            for h in 0..heads {
                attention::naive::forward(
                    self.head(layer, t, h),
                    &qkv,
                    &mut attended,
                    &mut lse[h * t..(h + 1) * t],
                );
            }
            let mut mid = self.linear(&attended, block.proj_w, block.proj_b);
            add(&x, &mut mid);
            let (norm2, stats2) = self.norm(&mid, block.ln2_w);
            let hidden = self.linear(&norm2, block.fc_w, block.fc_b);
            let mut active = vec![T::default(); hidden.len()];
            activation::naive::forward(self.config.variant.activation, &hidden, &mut active);
            let mut next = self.linear(&active, block.out_w, block.out_b);
            add(&mid, &mut next);
            let x = std::mem::replace(&mut x, next);
            kept.push(Kept { x, norm1, stats1, qkv, attended, lse, mid, norm2, stats2, hidden, active });
        }
        (kept, x)
    }

    /// Root mean square of what each part gives, one sequence: the embedding, each branch of each block as it is added
    /// to the residual stream, the logits.
    pub fn sizes(&self, tokens: &[u32]) -> Vec<(String, f64)> {
        let rms = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = values.fold((0.0, 0.0), |(sum, count), x| (sum + x * x, count + 1.0));
            (sum / count).sqrt()
        };
        let branch =
            |to: &[T], from: &[T]| rms(&mut to.iter().zip(from).map(|(a, b)| a.to_f64() - b.to_f64()));
        let (kept, end) = self.forward(tokens);
        let mut out = Vec::new();
        for (i, block) in kept.iter().enumerate() {
            if i == 0 {
                out.push(("embedding".to_owned(), rms(&mut block.x.iter().map(|x| x.to_f64()))));
            }
            let next = kept.get(i + 1).map_or(&end, |next| &next.x);
            out.push((format!("attention {}", i + 1), branch(&block.mid, &block.x)));
            out.push((format!("mlp {}", i + 1), branch(next, &block.mid)));
        }
        let logits = self.project(&self.norm(&end, self.layout.lnf_w).0);
        out.push(("logits".to_owned(), rms(&mut logits.iter().map(|x| x.to_f64()))));
        out
    }

    /// `logits[T,V]` of one sequence.
    pub fn logits(&self, tokens: &[u32]) -> Vec<T> {
        let (_, x) = self.forward(tokens);
        self.project(&self.norm(&x, self.layout.lnf_w).0)
    }

    fn project(&self, normed: &[T]) -> Vec<T> {
        let (c, v) = (self.config.shape.d_model, self.config.vocab);
        let t = normed.len() / c;
        let head = self.weight(self.layout.head);
        let turned: Vec<T> = (0..c * v).map(|i| head[(i % v) * c + i / v]).collect();
        let mut logits = vec![T::default(); t * v];
        multiply((t, v, c), Left::rows(normed, c), Right::rows(&turned, v), &mut logits, v, Init::Zero);
        logits
    }

    /// Mean loss of a batch in nats per token; the gradients become its gradient.
    pub fn loss_and_gradient(&mut self, batch: &TokenBatch) -> f64 {
        self.gradients.fill(T::default());
        let count = (batch.sequences() * batch.length()) as f64;
        let mut loss = 0.0;
        for s in 0..batch.sequences() {
            loss += self.sequence(batch.inputs(s), batch.targets(s), T::of(1.0 / count)) / count;
        }
        loss
    }

    /// Summed loss of one sequence; adds `scale` times its gradient.
    fn sequence(&mut self, tokens: &[u32], targets: &[u32], scale: T) -> f64 {
        let (c, v, t) = (self.config.shape.d_model, self.config.vocab, tokens.len());
        let (mut kept, x) = self.forward(tokens);
        let (normed, stats) = self.norm(&x, self.layout.lnf_w);
        let mut logits = self.project(&normed);
        let mut losses = vec![T::default(); t];
        cross_entropy::naive::forward_backward(&mut logits, v, targets, scale, &mut losses);
        let dlogits = logits;

        let mut dnormed = vec![T::default(); t * c];
        let head = self.layout.of(&self.weights, self.layout.head);
        multiply((t, c, v), Left::rows(&dlogits, v), Right::rows(head, c), &mut dnormed, c, Init::Zero);
        let dhead = self.layout.of_mut(&mut self.gradients, self.layout.head);
        multiply(
            (v, c, t),
            Left::transposed(&dlogits, v),
            Right::rows(&normed, c),
            dhead,
            c,
            Init::Accumulate,
        );
        let nothing = vec![T::default(); t * c];
        let mut dx = self.norm_backward(&x, &stats, self.layout.lnf_w, &dnormed, &nothing);
        for i in (0..self.layout.blocks.len()).rev() {
            let k = kept.pop().expect("one record per block");
            dx = self.block_backward(i, &k, &dx);
        }
        for (position, (token, dx)) in tokens.iter().zip(dx.chunks_exact(c)).enumerate() {
            let row = *token as usize * c;
            add(dx, &mut self.layout.of_mut(&mut self.gradients, self.layout.wte)[row..row + c]);
            let row = position * c;
            add(dx, &mut self.layout.of_mut(&mut self.gradients, self.layout.wpe)[row..row + c]);
        }
        losses.iter().map(|l| l.to_f64()).sum()
    }

    fn block_backward(&mut self, index: usize, k: &Kept<T>, dx: &[T]) -> Vec<T> {
        let block = self.layout.blocks[index];
        let t = dx.len() / self.config.shape.d_model;
        let mut dhidden = self.linear_backward(&k.active, dx, block.out_w, block.out_b);
        let mut again = vec![T::default(); k.hidden.len()];
        activation::naive::backward(self.config.variant.activation, &k.hidden, &mut again, &mut dhidden);
        let dnorm2 = self.linear_backward(&k.norm2, &dhidden, block.fc_w, block.fc_b);
        let dmid = self.norm_backward(&k.mid, &k.stats2, block.ln2_w, &dnorm2, dx);
        let dattended = self.linear_backward(&k.attended, &dmid, block.proj_w, block.proj_b);
        let mut dqkv = vec![T::default(); k.qkv.len()];
        for h in 0..self.config.shape.n_head {
            let lse = &k.lse[h * t..(h + 1) * t];
            attention::naive::backward(
                self.head(index, t, h),
                &k.qkv,
                &k.attended,
                lse,
                &dattended,
                &mut dqkv,
            );
        }
        let dnorm1 = self.linear_backward(&k.norm1, &dqkv, block.qkv_w, block.qkv_b);
        self.norm_backward(&k.x, &k.stats1, block.ln1_w, &dnorm1, &dmid)
    }

    /// Clips and makes one step; returns the norm before clipping.
    pub fn update(&mut self, adamw: &AdamWConfig, lr: f64) -> f64 {
        self.step += 1;
        let norm = adamw::naive::sum_of_squares(&self.gradients).sqrt();
        let clip = if adamw.clip > 0.0 { (adamw.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        for tensor in &self.layout.tensors {
            let step = Step {
                lr: T::of(lr),
                beta1: T::of(adamw.beta1),
                beta2: T::of(adamw.beta2),
                eps: T::of(adamw.eps),
                weight_decay: T::of(if tensor.decays() { adamw.weight_decay } else { 0.0 }),
                correction1: T::of(1.0 - adamw.beta1.powi(self.step)),
                correction2_root: T::of((1.0 - adamw.beta2.powi(self.step)).sqrt()),
                gradient_scale: T::of(clip),
            };
            let r = tensor.range();
            let (g, m, v) =
                (&self.gradients[r.clone()], &mut self.first[r.clone()], &mut self.second[r.clone()]);
            adamw::naive::update(&step, &mut self.weights[r], g, m, v);
        }
        norm
    }
}

fn add<T: Real>(x: &[T], sum: &mut [T]) {
    for (x, sum) in x.iter().zip(sum) {
        *sum += *x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::mix;

    /// A model small enough to perturb every weight, with weights large enough that every path matters.
    fn small() -> (Reference<f64>, TokenBatch) {
        let shape = "L2-d6-h2".parse().unwrap();
        let config = GptConfig::new(shape, 11, 5);
        let len = Layout::new(&config).len;
        let weights = (0..len).map(|i| (mix(i as u64) >> 11) as f64 / (1u64 << 53) as f64 - 0.5).collect();
        let tokens = (0..2 * 6).map(|i| (mix(i) % 11) as u32).collect();
        (Reference::new(&config, weights), TokenBatch::new(tokens, 2, 5))
    }

    #[test]
    fn every_gradient_is_the_limit_of_differences() {
        let (mut model, batch) = small();
        model.loss_and_gradient(&batch);
        let exact = model.gradients.clone();
        let h = 1e-5;
        for tensor in model.layout.tensors.clone() {
            for i in tensor.range() {
                let w = model.weights[i];
                model.weights[i] = w + h;
                let up = model.loss_and_gradient(&batch);
                model.weights[i] = w - h;
                let down = model.loss_and_gradient(&batch);
                model.weights[i] = w;
                let difference = (up - down) / (2.0 * h);
                // Central differences err by h²·f‴/6 and ε·f/h: about 1e-10 each here.
                assert!(
                    (difference - exact[i]).abs() < 2e-9,
                    "{} [{i}]: {difference} {}",
                    tensor.name,
                    exact[i]
                );
            }
        }
    }

    #[test]
    fn steps_lower_the_loss() {
        let (mut model, batch) = small();
        let before = model.loss_and_gradient(&batch);
        for _ in 0..30 {
            model.loss_and_gradient(&batch);
            model.update(&AdamWConfig::default(), 1e-2);
        }
        assert!(model.loss_and_gradient(&batch) < before - 0.5);
    }
}
