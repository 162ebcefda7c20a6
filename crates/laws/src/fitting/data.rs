//! Rows as a form reads them: columns of (log) variables, the (log) response, weights, and which run each row belongs
//! to.

use crate::document::DroppedRow;
use crate::forms::{Columns, Form, Kernel, Slot};
use crate::numeric::{MAX_COORDS, Square, Theta, fast};
use crate::{Row, Table};
use std::collections::HashMap;

/// A table with more rows than this is long: what only has to come near looks at a sample of them.
pub const LONG: usize = 512;

/// The numbers of one fit.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// `x[variable][row]`.
    pub x: Vec<Vec<f64>>,
    /// (ln) response.
    pub y: Vec<f64>,
    /// Weights.
    pub w: Vec<f64>,
    /// Index of the run of each row, 0..runs.
    pub run: Vec<usize>,
    /// Number of runs.
    pub runs: usize,
    /// Index in the table of each row.
    pub source: Vec<usize>,
}

/// f, its gradient columns, and the scratch of the log-sum-exp kernel.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// `f[row]`.
    pub f: Vec<f64>,
    /// `jac[coordinate][row]`.
    pub jac: Vec<Vec<f64>>,
    /// Softmax share of each term, `share[term][row]`.
    share: Vec<Vec<f64>>,
}

impl Work {
    /// Takes what is in `other`, into the memory there is.
    pub fn copy(&mut self, other: &Self) {
        self.f.clone_from(&other.f);
        self.jac.clone_from(&other.jac);
        self.share.clone_from(&other.share);
    }
}

impl Data {
    /// The rows of `table` that have everything the form reads, and the list of those that have not.
    pub fn of(form: &Form, table: &Table) -> (Self, Vec<DroppedRow>) {
        let mut data = Self { x: vec![Vec::new(); form.variables.len()], ..Self::default() };
        let mut dropped = Vec::new();
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (index, row) in table.rows.iter().enumerate() {
            let inputs = form.inputs(&|name| row.get(name));
            let response =
                row.get(form.response).filter(|y| y.is_finite() && (!form.log_response || *y > 0.0));
            let (Some(inputs), Some(y)) = (inputs, response) else {
                dropped.push(DroppedRow {
                    row: row.line,
                    run: row.run.clone(),
                    reason: format!("no usable {}", missing(form, row)),
                });
                continue;
            };
            for (column, value) in data.x.iter_mut().zip(inputs) {
                column.push(value);
            }
            data.y.push(if form.log_response { libm::log(y) } else { y });
            data.w.push(row.weight);
            data.source.push(index);
            let unit = row.unit();
            let next = data.runs;
            let run = if unit.is_empty() { next } else { *names.entry(unit).or_insert(next) };
            data.runs = data.runs.max(run + 1);
            data.run.push(run);
        }
        (data, dropped)
    }

    /// Some of the rows.
    pub fn some(&self, rows: &[usize]) -> Self {
        let pick = |column: &[f64]| rows.iter().map(|i| column[*i]).collect();
        Self {
            x: self.x.iter().map(|column| pick(column)).collect(),
            y: pick(&self.y),
            w: pick(&self.w),
            run: rows.iter().map(|i| self.run[*i]).collect(),
            runs: self.runs,
            source: rows.iter().map(|i| self.source[*i]).collect(),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.y.len()
    }

    /// No row.
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    /// The numbers alone, for a form's starts.
    pub fn columns(&self) -> Columns<'_> {
        Columns { x: &self.x, y: &self.y, w: &self.w }
    }
}

fn missing(form: &Form, row: &Row) -> String {
    let absent =
        form.variables.iter().find(|v| row.get(v.name).is_none_or(|x| !x.is_finite() || (v.log && x <= 0.0)));
    absent.map_or_else(|| format!("`{}`", form.response), |v| format!("`{}`", v.name))
}

/// f and ∂f/∂θ for all rows, into `work`.
pub fn evaluate(form: &Form, data: &Data, theta: &Theta, work: &mut Work) {
    let (n, p) = (data.len(), form.p());
    work.f.resize(n, 0.0);
    work.jac.resize(p, Vec::new());
    for column in &mut work.jac {
        column.resize(n, 0.0);
    }
    match &form.kernel {
        Kernel::Row(rows) => {
            let columns: Vec<&[f64]> = data.x.iter().map(Vec::as_slice).collect();
            rows(&columns, theta, &mut work.f, &mut work.jac);
        }
        Kernel::Terms(terms) => log_sum_exp(terms, data, theta, work),
    }
}

fn log_sum_exp(terms: &[&[Slot]], data: &Data, theta: &Theta, work: &mut Work) {
    let n = data.len();
    work.share.resize(terms.len(), Vec::new());
    for (share, slots) in work.share.iter_mut().zip(terms) {
        share.clear();
        share.resize(n, 0.0);
        for slot in *slots {
            match *slot {
                Slot::Plus(i) => share.iter_mut().for_each(|u| *u += theta[i]),
                Slot::Minus(i, j) | Slot::Times(i, j) => {
                    let t = if matches!(slot, Slot::Minus(..)) { theta[i] } else { -theta[i] };
                    share.iter_mut().zip(&data.x[j]).for_each(|(u, x)| *u -= t * x);
                }
            }
        }
    }
    if let [only] = work.share.as_mut_slice() {
        work.f.copy_from_slice(only);
        only.fill(1.0);
    } else {
        let (top, f) = (&mut work.jac[0], &mut work.f);
        top.copy_from_slice(&work.share[0]);
        for share in &work.share[1..] {
            top.iter_mut().zip(share).for_each(|(t, u)| *t = t.max(*u));
        }
        f.fill(0.0);
        for share in &mut work.share {
            for ((u, t), total) in share.iter_mut().zip(top.iter()).zip(f.iter_mut()) {
                *u = fast::exp(*u - t);
                *total += *u;
            }
        }
        // f holds the sums; the share of each term is its part of them.
        for (t, total) in top.iter_mut().zip(f.iter_mut()) {
            let sum = *total;
            *total = *t + fast::ln(sum);
            *t = 1.0 / sum;
        }
        for share in &mut work.share {
            share.iter_mut().zip(top.iter()).for_each(|(s, scale)| *s *= scale);
        }
    }
    for column in &mut work.jac {
        column.fill(0.0);
    }
    for (share, slots) in work.share.iter().zip(terms) {
        for slot in *slots {
            match *slot {
                Slot::Plus(i) => work.jac[i].iter_mut().zip(share).for_each(|(g, s)| *g += s),
                Slot::Minus(i, j) => {
                    for ((g, s), x) in work.jac[i].iter_mut().zip(share).zip(&data.x[j]) {
                        *g -= s * x;
                    }
                }
                Slot::Times(i, j) => {
                    for ((g, s), x) in work.jac[i].iter_mut().zip(share).zip(&data.x[j]) {
                        *g += s * x;
                    }
                }
            }
        }
    }
}

/// Second derivatives of an objective: Σ bend·∂f∂fᵀ + Σ coef·∂²f.
#[derive(Debug, Clone, Copy)]
pub struct Curvature<'a> {
    /// ∂objective/∂f of each row.
    pub coef: &'a [f64],
    /// ∂²objective/∂f² of each row.
    pub bend: &'a [f64],
}

impl Curvature<'_> {
    /// Σ bend·∂f∂fᵀ alone.
    pub fn squares(bend: &[f64], work: &Work, p: usize, hessian: &mut Square) {
        add_outer(bend, work, p, hessian);
    }

    /// Adds them to `hessian`, for the θ of the last [`evaluate`] into `work`. ∂²f is exact for log-sum-exp forms, by
    /// central differences of the gradient for the others.
    pub fn add(
        &self,
        form: &Form,
        data: &Data,
        theta: &Theta,
        work: &Work,
        scratch: &mut Work,
        hessian: &mut Square,
    ) {
        let p = form.p();
        match &form.kernel {
            Kernel::Terms(terms) if terms.len() > 1 => {
                // ∂²f = Σ_k s_k c_k c_kᵀ − ∂f ∂fᵀ with c_k = ∂u_k, which has one entry per slot.
                let rest: Vec<f64> = self.bend.iter().zip(self.coef).map(|(b, c)| b - c).collect();
                add_outer(&rest, work, p, hessian);
                for (share, slots) in work.share.iter().zip(*terms) {
                    let shared: Vec<f64> = self.coef.iter().zip(share).map(|(c, s)| c * s).collect();
                    add_term(&shared, slots, data, hessian);
                }
            }
            Kernel::Terms(_) => add_outer(self.bend, work, p, hessian),
            Kernel::Row(_) => {
                add_outer(self.bend, work, p, hessian);
                let mut raw = [[0.0; MAX_COORDS]; MAX_COORDS];
                for j in 0..p {
                    let h = 1e-5 * theta[j].abs().max(1.0);
                    for sign in [1.0, -1.0] {
                        let mut moved = *theta;
                        moved[j] += sign * h;
                        evaluate(form, data, &moved, scratch);
                        for i in 0..p {
                            raw[i][j] += sign * dot(self.coef, &scratch.jac[i]) / (2.0 * h);
                        }
                    }
                }
                for i in 0..p {
                    for j in 0..p {
                        hessian[i][j] += 0.5 * (raw[i][j] + raw[j][i]);
                    }
                }
            }
        }
    }
}

/// hessian += Σ w·∂f∂fᵀ.
fn add_outer(w: &[f64], work: &Work, p: usize, hessian: &mut Square) {
    for i in 0..p {
        for j in 0..=i {
            let sum = dot3(w, &work.jac[i], &work.jac[j]);
            hessian[i][j] += sum;
            if i != j {
                hessian[j][i] += sum;
            }
        }
    }
}

/// hessian += Σ w·c cᵀ with c the gradient of one term.
fn add_term(w: &[f64], slots: &[Slot], data: &Data, hessian: &mut Square) {
    for a in slots {
        for b in slots {
            let ((i, sa, xa), (j, sb, xb)) = (part(a, data), part(b, data));
            if j > i {
                continue;
            }
            let size = match (xa, xb) {
                (None, None) => sum(w),
                (Some(x), None) | (None, Some(x)) => dot(w, x),
                (Some(x), Some(z)) => dot3(w, x, z),
            };
            let sum = sa * sb * size;
            hessian[i][j] += sum;
            if i != j {
                hessian[j][i] += sum;
            }
        }
    }
}

/// Σ a in four lanes.
fn sum(a: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let chunks = a.chunks_exact(4);
    let tail: f64 = chunks.remainder().iter().sum();
    for x in chunks {
        for k in 0..4 {
            lanes[k] += x[k];
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + tail
}

/// The coordinate of a slot, its sign, and its variable.
fn part<'a>(slot: &Slot, data: &'a Data) -> (usize, f64, Option<&'a [f64]>) {
    match *slot {
        Slot::Plus(i) => (i, 1.0, None),
        Slot::Minus(i, j) => (i, -1.0, Some(&data.x[j])),
        Slot::Times(i, j) => (i, 1.0, Some(&data.x[j])),
    }
}

/// Σ a·b in four lanes, the same order everywhere.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let tail: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a4.zip(b4) {
        for k in 0..4 {
            lanes[k] += x[k] * y[k];
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + tail
}

/// Σ a·b·c in four lanes.
pub fn dot3(a: &[f64], b: &[f64], c: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let n4 = a.len() / 4 * 4;
    for ((x, y), z) in a.chunks_exact(4).zip(b.chunks_exact(4)).zip(c.chunks_exact(4)) {
        for k in 0..4 {
            lanes[k] += x[k] * y[k] * z[k];
        }
    }
    let tail: f64 = (n4..a.len()).map(|i| a[i] * b[i] * c[i]).sum();
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + tail
}
