//! The built-in series as it is planned: seven sizes with seeds where they are cheap, three points on each trunk, a
//! spread between seeds that falls with size, and one held-out text for all of them.

use isoflop_laws::numeric::random::Random;
use isoflop_laws::{FitRecord, Options, Row, Table, fit};
use std::collections::BTreeMap;
use std::fmt;

/// Parameters, seeds, standard deviation of ln loss between seeds at each of the tokens: measured over four to six
/// seeds up to 55 k parameters, over two at 147 k, and taken to be as small above.
const SIZES: [(f64, usize, [f64; 3]); 7] = [
    (6_912.0, 3, [0.0139, 0.0061, 0.0025]),
    (13_824.0, 3, [0.0124, 0.0067, 0.0066]),
    (24_576.0, 3, [0.0077, 0.0044, 0.0058]),
    (55_296.0, 2, [0.0097, 0.0057, 0.0028]),
    (147_456.0, 1, [0.003, 0.002, 0.002]),
    (307_200.0, 1, [0.003, 0.002, 0.002]),
    (786_432.0, 1, [0.003, 0.002, 0.002]),
];
const TOKENS: [f64; 3] = [4e6, 5.5e6, 8e6];
/// alpha_N, alpha_D, N_c, D_c near what the series itself finds.
const KAPLAN: [f64; 4] = [0.113, 0.188, 1.97e6, 3.17e7];
/// E, A, alpha, B, beta near it, too.
const CHINCHILLA: [f64; 5] = [0.818, 9.44, 0.303, 82.0, 0.330];

/// What is taken of the plan, and what the fit is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// In words.
    pub(crate) name: &'static str,
    /// Share of a seed's variance that its three points have in common: they are of one trunk.
    pub(crate) shared: f64,
    /// Standard deviation of ln loss of the held-out text against all text, the same in every row.
    pub(crate) text: f64,
    /// Whether rows say which run they are of.
    pub(crate) runs: bool,
    /// One spread for all sizes, of the same mean square over the rows.
    pub(crate) even: bool,
    /// Whether rows come with their spread, and so with weights.
    pub(crate) weighed: bool,
}

/// The plan as it is, and with one thing changed at a time.
pub(crate) const PLANS: [Plan; 6] = {
    let plan = Plan { name: "the plan", shared: 0.5, text: 0.008, runs: true, even: false, weighed: false };
    [
        plan,
        Plan { name: "the plan, no text in common", text: 0.0, ..plan },
        Plan { name: "the plan, nothing in common on a trunk", shared: 0.0, ..plan },
        Plan { name: "the plan, one spread for all sizes", even: true, ..plan },
        Plan { name: "the plan, rows weighed by their spread", weighed: true, ..plan },
        Plan { name: "the plan, rows taken as independent", runs: false, ..plan },
    ]
};

/// Kaplan's law, or for Chinchilla's form its own.
fn loss(form: &str, n: f64, d: f64) -> f64 {
    if form == "l_nd_chinchilla" {
        let [e, a, alpha, b, beta] = CHINCHILLA;
        return e + a / n.powf(alpha) + b / d.powf(beta);
    }
    let [alpha_n, alpha_d, n_c, d_c] = KAPLAN;
    ((n_c / n).powf(alpha_n / alpha_d) + d_c / d).powf(alpha_d)
}

/// One table of the plan; `noise` 0 is the law itself.
fn table(plan: &Plan, form: &str, draw: u64, noise: f64) -> Table {
    let mut random = Random::new(0xde30, draw);
    let rows: usize = SIZES.iter().map(|size| size.1).sum();
    let squares = |(_, seeds, spread): &(f64, usize, [f64; 3])| {
        *seeds as f64 * spread.iter().map(|sd| sd * sd).sum::<f64>() / TOKENS.len() as f64
    };
    let square = SIZES.iter().map(squares).sum::<f64>() / rows as f64;
    let text = plan.text * random.normal();
    let mut table = Table::default();
    for (n, seeds, spread) in SIZES {
        for seed in 1..=seeds {
            let trunk = plan.shared.sqrt() * random.normal();
            for (d, sd) in TOKENS.into_iter().zip(spread) {
                let sd = if plan.even { square.sqrt() } else { sd };
                let own = (1.0 - plan.shared).sqrt() * random.normal();
                let ln = noise * (text + sd * (trunk + own));
                let row = Row::of(table.rows.len() + 2, n, d, loss(form, n, d) * ln.exp());
                let run = if plan.runs { format!("{n}-s{seed}") } else { String::new() };
                let loss_se = plan.weighed.then_some(sd * row.loss);
                table.rows.push(Row { run, loss_se, seed: Some(seed as u64), ..row });
            }
        }
    }
    if plan.weighed { table.weighted_by_se().expect("each row has its spread") } else { table }
}

/// What is asked: exponents of L(N) at the most tokens and of L(N, D).
const ASKED: [(&str, &str, &[&str]); 3] = [
    ("l_n", "pure", &["alpha"]),
    ("l_nd_kaplan", "", &["alpha_N", "alpha_D"]),
    ("l_nd_chinchilla", "", &["alpha", "beta"]),
];

/// Of one quantity: its value without noise, intervals that held it, their mean width, tables; of them those in which
/// it is called identified, and how many of these held.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) truth: f64,
    pub(crate) held: usize,
    pub(crate) width: f64,
    pub(crate) tables: usize,
    pub(crate) known: usize,
    pub(crate) known_held: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) name: &'static str,
    pub(crate) of: BTreeMap<(&'static str, &'static str), Held>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        for ((form, param), of) in &self.of {
            let Held { truth, held, width, tables, known, known_held } = of;
            let share = 100.0 * *held as f64 / (*tables).max(1) as f64;
            writeln!(
                f,
                "  {:<24} {truth:.4}  holds {share:5.1} % of {tables}, mean width {:.4}; identified {known}, of which \
                 {known_held} hold",
                format!("{param} of {form}"),
                width / (*tables).max(1) as f64
            )?;
        }
        Ok(())
    }
}

fn record(form: &str, variant: &str, table: &Table) -> Option<FitRecord> {
    let options = Options {
        forms: vec![form.to_owned()],
        dense: false,
        holdout: false,
        bootstrap: 200,
        threads: 1,
        ..Options::default()
    };
    let most = |r: &FitRecord| r.condition.get("tokens").is_none_or(|d| *d > 0.99 * TOKENS[2]);
    let fits = fit(table, &options).ok()?.fits;
    fits.into_iter().find(|r| r.variant == variant && most(r))
}

/// How often intervals of the plan hold what a fit without noise finds.
pub(crate) fn measure(plan: &Plan, tables: u64) -> Counts {
    let mut counts = Counts { name: plan.name, ..Counts::default() };
    for (form, variant, params) in ASKED {
        let Some(exact) = record(form, variant, &table(plan, form, 0, 0.0)) else { continue };
        for draw in 0..tables {
            let Some(found) = record(form, variant, &table(plan, form, draw, 1.0)) else { continue };
            for param in params.iter().copied() {
                let known = found.identified[param];
                let (Some(truth), Some(found)) = (exact.params.get(param), found.params.get(param)) else {
                    continue;
                };
                let entry = counts.of.entry((form, param)).or_default();
                entry.truth = truth.value;
                entry.tables += 1;
                if let (Some(lo), Some(hi)) = (found.lo, found.hi) {
                    entry.width += hi - lo;
                }
                let holds = found.lo.is_none_or(|lo| lo <= truth.value)
                    && found.hi.is_none_or(|hi| hi >= truth.value);
                entry.held += usize::from(holds);
                entry.known += usize::from(known);
                entry.known_held += usize::from(known && holds);
            }
        }
    }
    counts
}
