//! Synthetic tables of known laws, and how often the intervals hold the truth.

pub(crate) mod curves;
pub(crate) mod plan;

use isoflop_laws::numeric::random::Random;
use isoflop_laws::{Options, Row, Table, Target, fit, forecast};
use std::collections::BTreeMap;
use std::fmt;

/// A law, where its runs lie, and their noise.
pub(crate) struct Design {
    /// e.g. `l_n 7 runs, noise 0.002`.
    pub(crate) name: String,
    /// Form to fit.
    pub(crate) form: &'static str,
    /// Its variant.
    pub(crate) variant: &'static str,
    /// (N, D) of each run.
    pub(crate) runs: Vec<(f64, f64)>,
    /// Standard deviation of ln loss.
    pub(crate) noise: f64,
    /// Expected loss.
    pub(crate) loss: fn(f64, f64) -> f64,
    /// Parameters whose truth is known.
    pub(crate) truth: Vec<(&'static str, f64)>,
    /// One decade out.
    pub(crate) target: (f64, f64),
    /// Extra seeds at the smallest size (they enter as rows).
    pub(crate) extra_seeds: usize,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Tables.
    pub(crate) tables: usize,
    /// Per parameter: (interval holds the truth, called identified, both).
    pub(crate) held: BTreeMap<&'static str, (usize, usize, usize)>,
    /// Forecast interval holds a new run one decade out.
    pub(crate) forecast: usize,
    /// Forecasts made with this form (a grid with one D is forecast by L(N) instead).
    pub(crate) forecasts: usize,
    /// Name of the design.
    pub(crate) name: String,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |k: usize, of: usize| 100.0 * k as f64 / of.max(1) as f64;
        writeln!(f, "{} ({} tables)", self.name, self.tables)?;
        for (name, (held, known, both)) in &self.held {
            writeln!(
                f,
                "  {name:<8} holds {:5.1} %  identified {:5.1} %  holds where identified {:5.1} %",
                share(*held, self.tables),
                share(*known, self.tables),
                share(*both, *known)
            )?;
        }
        if self.forecasts == 0 {
            return writeln!(f, "  forecast made by another form");
        }
        writeln!(f, "  forecast holds {:5.1} %", share(self.forecast, self.forecasts))
    }
}

fn power(n: f64, _d: f64) -> f64 {
    (8.8e7 / n).powf(0.076)
}

fn floored(n: f64, _d: f64) -> f64 {
    1.0 + 12.0 / n.powf(0.25)
}

fn chinchilla(n: f64, d: f64) -> f64 {
    1.8172 + 482.0 / n.powf(0.3478) + 2085.4 / d.powf(0.3658)
}

fn ladder(count: usize, low: f64, high: f64) -> Vec<f64> {
    (0..count).map(|i| low * (high / low).powf(i as f64 / (count - 1) as f64)).collect()
}

/// Main forms by runs and noise, and two designs that do not identify a parameter.
pub(crate) fn designs() -> Vec<Design> {
    let mut out = Vec::new();
    for noise in [0.002, 0.01] {
        for runs in [7usize, 30, 240] {
            let along_n: Vec<(f64, f64)> = ladder(runs, 1e4, 1e7).into_iter().map(|n| (n, 1e8)).collect();
            out.push(Design {
                name: format!("l_n pure, {runs} runs, noise {noise}"),
                form: "l_n",
                variant: "pure",
                runs: along_n.clone(),
                noise,
                loss: power,
                truth: vec![("alpha", 0.076), ("N_c", 8.8e7)],
                target: (1e8, 1e8),
                extra_seeds: 0,
            });
            out.push(Design {
                name: format!("l_n irreducible, {runs} runs, noise {noise}"),
                form: "l_n",
                variant: "irreducible",
                runs: along_n,
                noise,
                loss: floored,
                truth: vec![("alpha", 0.25), ("A", 12.0), ("E", 1.0)],
                target: (1e8, 1e8),
                extra_seeds: 0,
            });
            let side = if runs == 7 { 0 } else { (runs as f64).sqrt().ceil() as usize };
            let grid: Vec<(f64, f64)> = if side == 0 {
                // Seven runs for five parameters: two degrees of freedom.
                [(1e6, 1e9), (1e7, 1e9), (1e8, 1e9), (1e8, 1e8), (1e7, 1e10), (1e9, 1e10), (1e6, 1e8)]
                    .to_vec()
            } else {
                let d = ladder(runs.div_ceil(side), 1e8, 1e11);
                ladder(side, 1e6, 1e9)
                    .into_iter()
                    .flat_map(|n| d.iter().map(move |d| (n, *d)).collect::<Vec<_>>())
                    .take(runs)
                    .collect()
            };
            let surface = |name: String, runs: Vec<(f64, f64)>, extra_seeds: usize| Design {
                name,
                form: "l_nd_chinchilla",
                variant: "",
                runs,
                noise,
                loss: chinchilla,
                truth: vec![("E", 1.8172), ("A", 482.0), ("B", 2085.4), ("alpha", 0.3478), ("beta", 0.3658)],
                target: (3.2e9, 3.2e11),
                extra_seeds,
            };
            if runs == 7 {
                // The smallest size is there twice, so every extra seed is two rows.
                out.push(surface(
                    format!("l_nd_chinchilla, 7 runs and 2 of another seed, noise {noise}"),
                    grid.clone(),
                    1,
                ));
                out.push(surface(
                    format!("l_nd_chinchilla, 7 runs and 4 of other seeds, noise {noise}"),
                    grid.clone(),
                    2,
                ));
            }
            out.push(surface(format!("l_nd_chinchilla, {runs} runs, noise {noise}"), grid, 0));
        }
        // Half a decade of sizes says nothing about the floor.
        out.push(Design {
            name: format!("unidentified floor: l_n irreducible over half a decade, noise {noise}"),
            form: "l_n",
            variant: "irreducible",
            runs: ladder(8, 1e6, 3e6).into_iter().map(|n| (n, 1e8)).collect(),
            noise,
            loss: floored,
            truth: vec![("E", 1.0)],
            target: (1e7, 1e8),
            extra_seeds: 0,
        });
        // D hardly varies: beta and B are out of reach.
        out.push(Design {
            name: format!("unidentified data term: D over 20 %, noise {noise}"),
            form: "l_nd_chinchilla",
            variant: "",
            runs: ladder(15, 1e6, 1e9).into_iter().flat_map(|n| [(n, 1e9), (n, 1.2e9)]).collect(),
            noise,
            loss: chinchilla,
            truth: vec![("beta", 0.3658), ("B", 2085.4)],
            target: (3.2e9, 1e9),
            extra_seeds: 0,
        });
    }
    out
}

/// Fits `tables` synthetic tables of a design.
pub(crate) fn measure(design: &Design, tables: usize) -> Counts {
    let mut counts = Counts { name: design.name.clone(), ..Counts::default() };
    let options = Options {
        forms: vec![design.form.to_owned()],
        dense: false,
        holdout: false,
        bootstrap: 400,
        // Many tables one after another: threads would only wait for each other.
        threads: 1,
        ..Options::default()
    };
    for k in 0..tables {
        let mut random = Random::new(0x5ca1e, k as u64);
        let mut table = Table::default();
        let smallest = design.runs.iter().map(|r| r.0).fold(f64::INFINITY, f64::min);
        for (n, d) in &design.runs {
            let repeats = if *n == smallest { 1 + design.extra_seeds } else { 1 };
            for seed in 0..repeats {
                let loss = (design.loss)(*n, *d) * (design.noise * random.normal()).exp();
                let mut row = Row::of(table.rows.len() + 1, *n, *d, loss);
                row.seed = Some(seed as u64 + 1);
                table.rows.push(row);
            }
        }
        let observed =
            (design.loss)(design.target.0, design.target.1) * (design.noise * random.normal()).exp();
        let Ok(document) = fit(&table, &options) else { continue };
        let Some(record) =
            document.fits.iter().find(|f| f.form == design.form && f.variant == design.variant)
        else {
            continue;
        };
        counts.tables += 1;
        for (name, truth) in &design.truth {
            let p = record.params.get(name).expect("a parameter of the form");
            let holds = p.lo.is_none_or(|l| l <= *truth) && p.hi.is_none_or(|h| h >= *truth);
            let known = record.identified[*name];
            let entry = counts.held.entry(name).or_default();
            entry.0 += usize::from(holds);
            entry.1 += usize::from(known);
            entry.2 += usize::from(holds && known);
        }
        let target = Target { n: design.target.0, d: design.target.1 };
        if let Ok(forecasts) = forecast(&table, &[target], &options) {
            // The law is known to be of this form: its own interval counts, not the union over forms.
            let label = if design.variant.is_empty() {
                design.form.to_owned()
            } else {
                format!("{} {}", design.form, design.variant)
            };
            if let Some(f) = forecasts[0].by_form.iter().find(|f| f.form == label) {
                counts.forecasts += 1;
                let holds = f.lo.is_none_or(|l| l <= observed) && f.hi.is_none_or(|h| h >= observed);
                counts.forecast += usize::from(holds);
            }
        }
    }
    counts
}
