//! From runs at some batch size to what they would have cost at the best one, by a law of the critical batch (Kaplan et
//! al. 2020, arXiv
//! 2001.08361, eq. 5.4 and 5.5): C_min = C/(1 + B/B_crit(L)) at a batch far below the critical one, and S_min = S/(1 +
//! B_crit(L)/B) at one
//! far above it. With them `l_cmin` and `l_ns` can be fitted to plain runs.

use crate::numeric::linear::least_squares;
use crate::{LawError, Table};
use isoflop_base::units::si;

/// B_crit(L) = B_*/L^(1/α_B) in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct CriticalBatch {
    /// B_*: the critical batch at a loss of one, in tokens.
    pub b_star: f64,
    /// α_B.
    pub alpha: f64,
    /// Where it comes from.
    pub source: String,
}

impl CriticalBatch {
    /// Kaplan et al.'s own constants.
    pub fn kaplan() -> Self {
        Self { b_star: 2e8, alpha: 0.21, source: "Kaplan et al. 2020".to_owned() }
    }

    /// Fitted to the rows that have both a loss and a critical batch: the straight line through their logarithms.
    ///
    /// # Errors
    /// Fewer than three such rows, or a critical batch that does not grow as the loss falls.
    pub fn of_table(table: &Table) -> Result<Self, LawError> {
        let rows: Vec<(f64, f64)> = table
            .rows
            .iter()
            .filter_map(|r| Some((r.get("loss")?, r.get("b_crit")?)))
            .filter(|(l, b)| *l > 0.0 && *b > 0.0)
            .collect();
        let few = |found: usize, hint: &str| LawError::TooFewRows {
            form: "b_crit".to_owned(),
            needed: 3,
            found,
            of: " with a loss and a critical batch (column b_crit)".to_owned(),
            hint: hint.to_owned(),
        };
        let give = "give its constants instead, e.g. --b-crit 2e8,0.21";
        if rows.len() < 3 {
            return Err(few(rows.len(), give));
        }
        let x: Vec<Vec<f64>> = rows.iter().map(|(l, _)| vec![1.0, libm::log(*l)]).collect();
        let y: Vec<f64> = rows.iter().map(|(_, b)| libm::log(*b)).collect();
        let line =
            least_squares(&x, &y, &vec![1.0; y.len()]).filter(|l| l.beta.iter().all(|b| b.is_finite()));
        let line = line
            .ok_or_else(|| few(rows.len(), "their losses do not differ; add rows, or give its constants"))?;
        if line.beta[1] >= 0.0 {
            return Err(LawError::NoOptimum {
                form: "b_crit".to_owned(),
                why: format!("the critical batch does not grow as the loss falls\nhint: {give}"),
            });
        }
        Ok(Self {
            b_star: libm::exp(line.beta[0]),
            alpha: -1.0 / line.beta[1],
            source: format!("fitted to {} rows of this table", rows.len()),
        })
    }

    /// The critical batch at a loss, in tokens.
    pub fn at(&self, loss: f64) -> f64 {
        self.b_star / libm::pow(loss, 1.0 / self.alpha)
    }
}

/// The table with `c_min` and `s_min` of every row that knows its batch.
///
/// The batch is taken in tokens. Where tokens and steps are known, D/S is the batch, which also tells a column that
/// counts sequences.
///
/// # Errors
/// A law whose constants are no positive numbers, a table that already has C_min, or one without batches.
pub fn converted(table: &Table, law: &CriticalBatch) -> Result<Table, LawError> {
    let bad = |what: String, hint: &str| LawError::BadOption { what, hint: hint.to_owned() };
    if !(law.b_star > 0.0 && law.alpha > 0.0 && law.b_star.is_finite() && law.alpha.is_finite()) {
        return Err(bad(
            format!("a critical batch of {}/L^(1/{}) is none", law.b_star, law.alpha),
            "both constants are positive, e.g. --b-crit 2e8,0.21",
        ));
    }
    if table.rows.iter().any(|r| r.get("c_min").is_some() || r.get("s_min").is_some()) {
        return Err(bad(
            "the table has a column for C_min or S_min already".to_owned(),
            "leave --b-crit out to fit it as it is",
        ));
    }
    let mut out = table.clone();
    let (mut done, mut sequences) = (0, 0);
    let mut ratios: Vec<f64> = Vec::new();
    for row in &mut out.rows {
        let (steps, given) = (row.get("steps"), row.get("batch"));
        let per_step = row.d.zip(steps).map(|(d, s)| d / s).filter(|b| b.is_finite() && *b > 0.0);
        let Some(batch) = per_step.or(given).filter(|b| b.is_finite() && *b > 0.0) else { continue };
        if row.loss.is_nan() {
            continue;
        }
        sequences += usize::from(per_step.zip(given).is_some_and(|(own, said)| said < 0.5 * own));
        let critical = law.at(row.loss);
        ratios.push(batch / critical);
        if let Some(c) = row.c {
            row.extra.insert("c_min".to_owned(), c / (1.0 + batch / critical));
        }
        if let Some(s) = steps.or_else(|| Some(row.d? / batch)) {
            row.extra.insert("s_min".to_owned(), s / (1.0 + critical / batch));
        }
        done += 1;
    }
    if done == 0 {
        return Err(LawError::MissingColumn {
            form: "the conversion to C_min and S_min".to_owned(),
            column: "the batch in tokens of any row".to_owned(),
            hint: "name it batch_tokens in the header (or have both tokens and steps)".to_owned(),
        });
    }
    ratios.sort_by(f64::total_cmp);
    out.c_min_from_batch = true;
    out.notes.push(format!(
        "C_min = C/(1 + B/B_crit(L)) and S_min = S/(1 + B_crit(L)/B) with B_crit = {}/L^(1/{:.4}) tokens ({}), for {done} of {} rows; \
         B/B_crit is {:.3} to {:.3}",
        si(law.b_star),
        law.alpha,
        law.source,
        table.rows.len(),
        ratios[0],
        ratios[ratios.len() - 1],
    ));
    if sequences > 0 {
        out.notes.push(format!(
            "{sequences} rows give a batch that is not tokens per step (sequences?): D/steps was taken instead"
        ));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Row, fit};

    fn runs() -> Table {
        let mut table = Table::default();
        let (alpha_n, n_c, alpha_s, s_c) = (0.077, 6.5e13, 0.76, 2.1e3);
        for n in [1e6, 4e6, 1.6e7, 6.4e7f64] {
            for (steps, batch) in [(3e3, 2f64.powi(17)), (3e4, 2f64.powi(18)), (3e5, 2f64.powi(19))] {
                // The loss of eq. 1.6 at this S_min, which itself depends on the loss: a few rounds settle it.
                let mut loss: f64 = 4.0;
                for _ in 0..200 {
                    let s_min = steps / (1.0 + CriticalBatch::kaplan().at(loss) / batch);
                    loss = (n_c / n).powf(alpha_n) + (s_c / s_min).powf(alpha_s);
                }
                let mut row = Row::of(table.rows.len() + 1, n, steps * batch, loss);
                row.extra.insert("steps".into(), steps);
                row.extra.insert("batch".into(), batch / 1024.0);
                table.rows.push(row);
            }
        }
        table
    }

    #[test]
    fn plain_runs_give_kaplans_law_of_steps_back() {
        let table = converted(&runs(), &CriticalBatch::kaplan()).unwrap();
        assert!(table.notes.iter().any(|n| n.contains("12 of 12 rows")), "{:?}", table.notes);
        assert!(table.notes.iter().any(|n| n.contains("sequences?")), "{:?}", table.notes);
        let row = &table.rows[0];
        let ratio = row.d.unwrap() / row.get("steps").unwrap() / CriticalBatch::kaplan().at(row.loss);
        assert!((row.get("c_min").unwrap() * (1.0 + ratio) / row.c.unwrap() - 1.0).abs() < 1e-12);
        let options =
            Options { forms: vec!["l_ns".into(), "l_cmin".into()], bootstrap: 0, ..Options::default() };
        let document = fit(&table, &options).unwrap();
        let steps = document.fits.iter().find(|f| f.form == "l_ns").unwrap();
        for (name, expected) in [("alpha_N", 0.077), ("alpha_S", 0.76), ("S_c", 2.1e3), ("N_c", 6.5e13)] {
            let found = steps.params.get(name).unwrap().value;
            assert!((found / expected - 1.0).abs() < 1e-4, "{name} {found}");
        }
        let compute = document.fits.iter().find(|f| f.form == "l_cmin").unwrap();
        assert!(compute.notes.iter().any(|n| n.contains("frontier")), "{:?}", compute.notes);
    }

    #[test]
    fn the_law_may_come_from_the_table_itself() {
        let mut table = runs();
        for row in &mut table.rows {
            row.extra.insert("b_crit".into(), CriticalBatch::kaplan().at(row.loss));
        }
        let law = CriticalBatch::of_table(&table).unwrap();
        assert!((law.alpha / 0.21 - 1.0).abs() < 1e-9 && (law.b_star / 2e8 - 1.0).abs() < 1e-9, "{law:?}");
        assert!(CriticalBatch::of_table(&runs()).unwrap_err().to_string().contains("hint: "));
        let rising = Table {
            rows: table
                .rows
                .iter()
                .map(|r| {
                    let mut r = r.clone();
                    r.extra.insert("b_crit".into(), r.loss);
                    r
                })
                .collect(),
            ..table.clone()
        };
        assert!(CriticalBatch::of_table(&rising).unwrap_err().to_string().contains("does not grow"));
        let twice = converted(&table, &law).unwrap();
        assert!(converted(&twice, &law).unwrap_err().to_string().contains("already"));
        let bare = Table { rows: vec![Row::of(1, 1e6, 1e8, 3.0)], ..Table::default() };
        assert!(converted(&bare, &law).unwrap_err().to_string().contains("batch_tokens"));
    }
}
