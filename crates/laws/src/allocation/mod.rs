//! Where a budget is best spent, by every approach the table allows, side by side: N_opt = G·C^a, D_opt = H·C^b.

pub mod envelope;
pub mod isoflop;

use crate::document::{Allocation, FitRecord, LawDocument, Optimum, ParamEstimate};
use crate::numeric::linear::least_squares;
use crate::numeric::quantile::t_quantile;
use crate::{Options, Table};

/// All approaches: `parabola`, `argmin`, `envelope`, and `parametric` from each L(N, D) in the document.
pub fn allocate(table: &Table, document: &LawDocument, options: &Options) -> Vec<Allocation> {
    let mut out = Vec::new();
    let budgets = isoflop::budgets(table);
    for (approach, choose) in [
        ("parabola", isoflop::parabola as fn(&isoflop::Budget) -> Option<Optimum>),
        ("argmin", isoflop::argmin),
    ] {
        let optima: Vec<Optimum> = budgets.iter().filter_map(choose).collect();
        let mut found = line(approach, optima, options.level);
        if let Some(a) = found.as_mut().filter(|_| table.is_clustered()) {
            (a.a.lo, a.a.hi, a.a.se) = (None, None, None);
            a.notes.push("no interval: budgets share their runs, whose luck their optima share".to_owned());
        }
        out.extend(found);
    }
    out.extend(envelope::allocation(table, options.level));
    for record in document.fits.iter().filter(|f| f.form == "l_nd_chinchilla") {
        out.extend(parametric(record));
    }
    out
}

/// Power law through the optima of at least two budgets.
pub(crate) fn line(approach: &str, optima: Vec<Optimum>, level: f64) -> Option<Allocation> {
    let used: Vec<&Optimum> = optima.iter().filter(|o| o.interior || approach != "parabola").collect();
    let x: Vec<Vec<f64>> = used.iter().map(|o| vec![1.0, libm::log(o.c)]).collect();
    let w = vec![1.0; used.len()];
    let fit = |y: Vec<f64>| least_squares(&x, &y, &w);
    let n = fit(used.iter().map(|o| libm::log(o.n)).collect())?;
    let d = fit(used.iter().map(|o| libm::log(o.d)).collect())?;
    let dof = used.len() as f64 - 2.0;
    let se = (dof > 0.0).then(|| libm::sqrt(n.ssr / dof * n.inverse[1][1]));
    let half = se.map(|s| s * t_quantile(0.5 + 0.5 * level, dof));
    let mut notes = Vec::new();
    let outside = optima.len() - used.len();
    if outside > 0 {
        notes
            .push(format!("{outside} budgets whose parabola has no minimum inside their sizes are left out"));
    }
    if approach == "parabola" {
        notes.push("parabolas of the loss in ln N over all rows of a budget; biased when alpha and beta differ or the grid is \
                    off-centre (arXiv 2603.22339)".to_owned());
    }
    Some(Allocation {
        approach: approach.to_owned(),
        a: ParamEstimate {
            value: n.beta[1],
            se,
            lo: half.map(|h| n.beta[1] - h),
            hi: half.map(|h| n.beta[1] + h),
            ..ParamEstimate::default()
        },
        ln_coefficient: n.beta[0],
        b: d.beta[1],
        ln_coefficient_d: d.beta[0],
        optima,
        notes,
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
        optima: Vec::new(),
        notes: vec!["from L = E + A/N^alpha + B/D^beta with C = 6·N·D".to_owned()],
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
}
