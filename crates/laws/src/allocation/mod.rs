//! Where a budget is best spent, by every approach the table allows, side by side: N_opt = G·C^a, D_opt = H·C^b.

pub mod envelope;
pub mod isoflop;
pub mod spread;
pub mod surface;

use crate::document::{Allocation, FitRecord, LawDocument, Optimum, ParamEstimate};
use crate::numeric::linear::least_squares;
use crate::{Options, Table};

/// All approaches: `parabola`, `argmin`, `envelope`, and from each L(N, D) in the document `parametric` (with C =
/// 6·N·D) and `surface` (the same law along the table's own budgets, however their FLOPs were counted).
pub fn allocate(table: &Table, document: &LawDocument, options: &Options) -> Vec<Allocation> {
    let mut out = Vec::new();
    for find in [parabola, argmin, envelope::allocation] {
        out.extend(find(table).map(|found| spread::leaving_out_sizes(table, found, find, options.level)));
    }
    let budgets = isoflop::budgets(table);
    for record in document.fits.iter().filter(|f| f.form == "l_nd_chinchilla") {
        out.extend(parametric(record));
        out.extend(surface::allocation(record, &budgets));
    }
    out
}

fn parabola(table: &Table) -> Option<Allocation> {
    line("parabola", isoflop::budgets(table).iter().filter_map(isoflop::parabola).collect())
}

fn argmin(table: &Table) -> Option<Allocation> {
    line("argmin", isoflop::budgets(table).iter().filter_map(isoflop::argmin).collect())
}

/// Power law through the interior optima of at least two budgets, without intervals. The lowest row of a budget counts
/// at the edge too.
pub(crate) fn line(approach: &str, optima: Vec<Optimum>) -> Option<Allocation> {
    let used: Vec<&Optimum> = optima.iter().filter(|o| o.interior || approach == "argmin").collect();
    let x: Vec<Vec<f64>> = used.iter().map(|o| vec![1.0, libm::log(o.c)]).collect();
    let w = vec![1.0; used.len()];
    let fit = |y: Vec<f64>| least_squares(&x, &y, &w);
    let n = fit(used.iter().map(|o| libm::log(o.n)).collect())?;
    let d = fit(used.iter().map(|o| libm::log(o.d)).collect())?;
    let mut notes = Vec::new();
    let outside = optima.len() - used.len();
    if outside > 0 {
        notes.push(format!("{outside} budgets without a minimum inside their sizes are left out"));
    }
    if approach == "parabola" {
        notes.push("parabolas of the loss in ln N over all rows of a budget; biased when alpha and beta differ or the \
                    grid is off-centre (arXiv 2603.22339)".to_owned());
    }
    Some(Allocation {
        approach: approach.to_owned(),
        a: ParamEstimate { value: n.beta[1], ..ParamEstimate::default() },
        ln_coefficient: n.beta[0],
        b: d.beta[1],
        ln_coefficient_d: d.beta[0],
        optima,
        notes,
        ..Allocation::default()
    })
}

/// a = β/(α + β), G = (αA/(βB))^(1/(α+β)) with C/6 in place of C (Hoffmann et al. 2022, eq. 4).
fn parametric(record: &FitRecord) -> Option<Allocation> {
    let value = |name: &str| record.params.get(name).map(|p| p.value);
    let (a, b, alpha, beta) = (value("A")?, value("B")?, value("alpha")?, value("beta")?);
    let share = record.params.get("a")?.clone();
    if alpha <= 0.0 || beta <= 0.0 || a <= 0.0 || b <= 0.0 {
        return None;
    }
    let ln_g = libm::log(alpha * a / (beta * b)) / (alpha + beta);
    let exponent = share.value;
    let ln_6 = libm::log(6.0);
    Some(Allocation {
        approach: "parametric".to_owned(),
        a: share,
        ln_coefficient: ln_g - exponent * ln_6,
        b: 1.0 - exponent,
        ln_coefficient_d: -ln_g - (1.0 - exponent) * ln_6,
        interval_method: "as of the fit of L(N, D)".to_owned(),
        notes: vec!["from L = E + A/N^alpha + B/D^beta with C = 6·N·D".to_owned()],
        ..Allocation::default()
    })
}

impl Allocation {
    /// The best N and D of a budget of `c` FLOPs.
    pub fn at(&self, c: f64) -> Optimum {
        let ln_c = libm::log(c);
        Optimum {
            c,
            n: libm::exp(self.ln_coefficient + self.a.value * ln_c),
            d: libm::exp(self.ln_coefficient_d + self.b * ln_c),
            loss: None,
            interior: true,
            rows: 0,
        }
    }
    /// Interval of the best N of a budget of `c` FLOPs.
    pub fn n_interval(&self, c: f64) -> Option<(f64, f64)> {
        self.spread_n.map(|spread| spread.around(self.at(c).n, c))
    }

    /// Interval of the best D of a budget of `c` FLOPs.
    pub fn d_interval(&self, c: f64) -> Option<(f64, f64)> {
        self.spread_d.map(|spread| spread.around(self.at(c).d, c))
    }
}
