//! Runs of several rows that share their run's luck: training curves as people export them, and how often intervals
//! hold the truth.

use isoflop_laws::numeric::random::Random;
use isoflop_laws::{Loss, Options, Row, Table, fit};
use std::collections::BTreeMap;
use std::fmt;

/// Where the rows of a table lie and how they scatter.
pub(crate) struct Curves {
    /// In words.
    pub(crate) name: &'static str,
    /// N of each run and the number of its rows; D runs over 2.3 decades inside each.
    pub(crate) runs: Vec<(f64, usize)>,
    /// Standard deviation of a run's offset in ln loss.
    pub(crate) between: f64,
    /// Standard deviation of a row about its run.
    pub(crate) within: f64,
    /// Correlation of neighbouring rows of a run beyond the offset.
    pub(crate) drift: f64,
}

const TRUTH: [(&str, f64); 5] = [("E", 1.7), ("A", 400.0), ("B", 600.0), ("alpha", 0.34), ("beta", 0.30)];

fn sizes(count: usize, low: f64, high: f64) -> Vec<f64> {
    (0..count).map(|i| low * (high / low).powf(i as f64 / (count - 1) as f64)).collect()
}

/// Few runs of many rows, many of few, unbalanced, several seeds of a size, and rows that drift inside their run.
pub(crate) fn designs() -> Vec<Curves> {
    let even = |runs: usize, rows: usize| sizes(runs, 1e7, 2.56e9).into_iter().map(|n| (n, rows)).collect();
    let lengths = [1, 60, 3, 25, 8, 2, 40, 5, 12, 60, 1, 30];
    let seeds = sizes(6, 1e7, 2.56e9).into_iter().flat_map(|n| [(n, 10); 3]).collect();
    let all = |name, runs, between, within, drift| Curves { name, runs, between, within, drift };
    vec![
        all("few runs of many rows: 9 of 40", even(9, 40), 0.01, 0.001, 0.0),
        all("fewer: 7 of 20", even(7, 20), 0.01, 0.003, 0.0),
        all("more: 24 runs of 15", even(24, 15), 0.01, 0.001, 0.0),
        all("many runs of few rows: 60 of 3", even(60, 3), 0.01, 0.005, 0.0),
        all(
            "unbalanced: 12 runs of 1 to 60",
            sizes(12, 1e7, 2.56e9).into_iter().zip(lengths).collect(),
            0.01,
            0.002,
            0.0,
        ),
        all("seeds: 6 sizes, 3 runs each, of 10 rows", seeds, 0.01, 0.001, 0.0),
        all("rows that drift: 9 of 40", even(9, 40), 0.005, 0.005, 0.9),
        all("rows that share nothing: 9 of 40", even(9, 40), 0.0, 0.01, 0.0),
    ]
}

/// One table of a design.
pub(crate) fn table(design: &Curves, seed: u64) -> Table {
    let mut random = Random::new(0xc0de, seed);
    let mut table = Table::default();
    for (i, (n, rows)) in design.runs.iter().enumerate() {
        let offset = design.between * random.normal();
        let mut drifting = random.normal();
        // A run of one row ends somewhere on its way.
        let first = if *rows == 1 { random.uniform() } else { 0.0 };
        for k in 0..*rows {
            let d = 1e8 * 10f64.powf(2.3 * (first + k as f64 / *rows as f64));
            drifting = design.drift * drifting + (1.0 - design.drift * design.drift).sqrt() * random.normal();
            let expected = 1.7 + 400.0 / n.powf(0.34) + 600.0 / d.powf(0.30);
            let loss = expected * (offset + design.within * drifting).exp();
            let mut row = Row::of(table.rows.len() + 2, *n, d, loss);
            row.run = format!("r{i}");
            table.rows.push(row);
        }
    }
    table
}

/// Intervals that held the truth, by parameter.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Name of the design.
    pub(crate) name: String,
    /// Tables.
    pub(crate) tables: usize,
    /// Intervals that held, bounded intervals, points inside their interval.
    pub(crate) by_param: BTreeMap<&'static str, [usize; 3]>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} tables)", self.name, self.tables)?;
        for (name, [held, bounded, _]) in &self.by_param {
            let share = |k: &usize| 100.0 * *k as f64 / self.tables.max(1) as f64;
            write!(f, "  {name} {:.1} % (bounded {:.0} %)", share(held), share(bounded))?;
        }
        writeln!(f)
    }
}

/// Fits `tables` tables of a design under a penalty.
pub(crate) fn measure(design: &Curves, loss: Loss, tables: u64) -> Held {
    let mut out = Held { name: format!("{}, {}", design.name, loss.name()), ..Held::default() };
    let options = Options {
        forms: vec!["l_nd_chinchilla".to_owned()],
        loss,
        dense: false,
        holdout: false,
        bootstrap: 200,
        threads: 1,
        ..Options::default()
    };
    for seed in 0..tables {
        let Ok(document) = fit(&table(design, seed), &options) else { continue };
        let record = &document.fits[0];
        assert_eq!(record.runs_used, design.runs.len());
        out.tables += 1;
        for (name, truth) in TRUTH {
            let p = record.params.get(name).expect("a parameter of the form");
            let holds = |x: f64| p.lo.is_none_or(|l| l <= x) && p.hi.is_none_or(|h| h >= x);
            let entry = out.by_param.entry(name).or_default();
            entry[0] += usize::from(holds(truth));
            entry[1] += usize::from(p.lo.is_some() && p.hi.is_some());
            entry[2] += usize::from(holds(p.value));
        }
    }
    out
}
