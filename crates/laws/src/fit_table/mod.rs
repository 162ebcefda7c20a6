//! All the laws of one table: [`fit`].

pub mod compare;
mod scrub;
mod slices;
#[cfg(test)]
mod tests;

use crate::allocation::allocate;
use crate::document::{Convention, FitRecord, LawDocument, NotFitted, SCHEMA, condition_words};
use crate::fitting::{Setting, fit_form};
use crate::forms::{self, Form, RECIPES};
use crate::rollout::foretold;
use crate::table::paired::paired_differences;
use crate::table::seeds::Repeats;
use crate::{LawError, Options, Row, Table};
use compare::{floors, junk, settings, surfaces};
use isoflop_base::{Point, Status};
use slices::{Slice, frontier_slice, groups, kinds_of_junk, pools, slices, with_s_min, worthwhile};
use std::collections::BTreeMap;

/// Fits every form in `options.forms` (or all the columns allow) to the table.
///
/// For a series of sizes and token counts: `l_n` at each D, `l_d` at each N (each pure and with an irreducible term),
/// `l_nd_chinchilla`, and `l_c` on the frontier of the rows.
///
/// # Errors
/// A form that does not exist; a table without usable rows, or none of whose forms can be fitted. One of several that
/// cannot be is listed in `not_fitted` with its reason.
pub fn fit(table: &Table, options: &Options) -> Result<LawDocument, LawError> {
    fit_watched(table, options, &mut |_| ())
}

/// How far a fit of a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Id of the form that begins.
    pub form: &'a str,
    /// Forms done before it.
    pub done: usize,
    /// Forms in all.
    pub of: usize,
}

/// [`fit`], which tells `watch` of each form before it begins.
///
/// # Errors
/// As [`fit`].
pub fn fit_watched(
    table: &Table,
    options: &Options,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<LawDocument, LawError> {
    check(options)?;
    table.not_empty()?;
    let all = options.forms.iter().any(|f| f == "all");
    let asked: Vec<&str> =
        options.forms.iter().map(String::as_str).filter(|f| !all && !f.is_empty()).collect();
    let ids: Vec<&str> = if asked.is_empty() {
        forms::ids().into_iter().filter(|id| offered(id, table)).collect()
    } else {
        asked.clone()
    };
    let mut document = start(table);
    let repeats = Repeats::of(table);
    document.seed_spread = repeats.spread();
    let mut first_error = None;
    let of = ids.len();
    for (done, id) in ids.into_iter().enumerate() {
        watch(Progress { form: id, done, of });
        if matches!(id, "isoflop" | "envelope") {
            continue;
        }
        let before = document.fits.len();
        let reason = one(id, table, &repeats, options, &mut document)?;
        if let Some(error) = reason.filter(|_| document.fits.len() == before) {
            // What was not asked for by name and lacks a column is no news.
            let missing = matches!(error, LawError::MissingColumn { .. }) && !asked.contains(&id);
            first_error.get_or_insert_with(|| error.clone());
            if !missing {
                document.not_fitted.push(NotFitted { form: id.to_owned(), reason: error.in_a_line() });
            }
        }
    }
    let recipes_only = !asked.is_empty() && asked.iter().all(|f| RECIPES.contains(f));
    if document.fits.is_empty() && !recipes_only {
        let nothing = || LawError::NoOptimum {
            form: "the table".to_owned(),
            why: "no form applies to its columns".to_owned(),
        };
        return Err(first_error.unwrap_or_else(nothing));
    }
    document.notes.extend(hidden_runs(table, &document));
    document.comparisons.extend(floors(&document));
    document.comparisons.extend(surfaces(&document));
    document.comparisons.extend(junk(&document));
    document.comparisons.extend(settings(&document));
    if asked.is_empty() || asked.iter().any(|f| f.starts_with("l_nd") || RECIPES.contains(f)) {
        document.allocation = allocate(table, &document, options);
    }
    if asked.is_empty() && document.fits.iter().any(|f| f.form == "l_n") {
        (document.rollout, document.left_out) = foretold(table, options);
    }
    document.conventions = conventions(table, &document, options);
    scrub::scrub(&mut document);
    Ok(document)
}

/// Rows that name no run but whose residuals lie together by size, as the points of one training run do: said, since
/// intervals take them as independent.
fn hidden_runs(table: &Table, document: &LawDocument) -> Option<String> {
    const ROWS_PER_SIZE: usize = 5;
    const TOGETHER: f64 = 0.5;
    let fit =
        document.fits.iter().find(|f| f.form.starts_with("l_nd_") && f.residuals.len() == f.runs_used)?;
    let sizes = table.levels("n").len();
    if sizes < 3 || fit.residuals.len() < ROWS_PER_SIZE * sizes || table.is_clustered() {
        return None;
    }
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let total: f64 = fit.residuals.iter().map(|r| r.residual * r.residual).sum();
    for r in &fit.residuals {
        let entry = sums.entry(format!("{:.3e}", r.n?)).or_default();
        *entry = (entry.0 + r.residual, entry.1 + 1.0);
    }
    let between: f64 = sums.values().map(|(s, k)| s * s / k).sum();
    (total > 0.0 && between / total > TOGETHER).then(|| {
        format!(
            "{:.0} % of the squared residuals are common to the rows of a size, and no column names a run: if they are points of \
             one training run, say which rows belong together (--cluster COLUMN), or every interval here is too narrow",
            100.0 * between / total
        )
    })
}

/// Exponents of the fits so far beside those with all parameters counted, where the rows know both.
fn conventions(table: &Table, document: &LawDocument, options: &Options) -> Vec<Convention> {
    let Some(total) = table.with_total_params() else { return Vec::new() };
    let wanted = |f: &&FitRecord| matches!(f.form.as_str(), "l_n" | "l_nd_chinchilla");
    let ids: Vec<String> = ["l_n", "l_nd_chinchilla"]
        .into_iter()
        .filter(|id| document.fits.iter().any(|f| f.form == *id))
        .map(str::to_owned)
        .collect();
    if ids.is_empty() {
        return Vec::new();
    }
    let repeats = Repeats::of(&total);
    let quick = Options { bootstrap: 0, dense: false, holdout: false, ..options.clone() };
    let mut other = start(&total);
    for id in &ids {
        // What cannot be fitted under the other count is simply not shown beside this one.
        let _ = one(id, &total, &repeats, &quick, &mut other);
    }
    let mut out = Vec::new();
    for record in document.fits.iter().filter(wanted) {
        let partner = other.fits.iter().find(|f| {
            f.form == record.form && f.variant == record.variant && f.condition == record.condition
        });
        for f in [Some(record), partner].into_iter().flatten() {
            let exponents = f.params.iter().filter(|(name, _)| matches!(*name, "alpha" | "beta" | "a"));
            out.extend(exponents.map(|(name, estimate)| Convention {
                form: f.form.clone(),
                variant: f.variant.clone(),
                condition: f.condition.clone(),
                n_convention: f.n_convention.clone(),
                param: name.to_owned(),
                estimate: estimate.clone(),
            }));
        }
    }
    out
}

/// Whether a form is worth fitting unasked: some would fit a table whose columns mean something else.
fn offered(id: &str, table: &Table) -> bool {
    let any = |f: &dyn Fn(&Row) -> bool| table.rows.iter().any(f);
    match id {
        // Steps against batch size is only a hyperbola at one fixed loss.
        "hyperbola" => any(&|r| r.get("target").is_some()),
        // Without a row that sees its data more than once, the repeats are not there.
        "repeat" => any(&|r| matches!((r.d, r.get("unique_tokens")), (Some(d), Some(u)) if d > 1.05 * u)),
        _ => true,
    }
}

fn check(options: &Options) -> Result<(), LawError> {
    let bad = |what: String, hint: &str| Err(LawError::BadOption { what, hint: hint.to_owned() });
    if !(options.delta > 0.0 && options.delta.is_finite()) {
        return bad(format!("delta {} is not a positive number", options.delta), "1e-3 is the literature's");
    }
    if !(options.level > 0.0 && options.level < 1.0) {
        return bad(format!("level {} is not between 0 and 1", options.level), "write 0.95");
    }
    Ok(())
}

/// A document of a table that no law was fitted to: its rows, and why.
pub fn unfitted(table: &Table, why: &LawError) -> LawDocument {
    let mut document = start(table);
    document.seed_spread = Repeats::of(table).spread();
    document.not_fitted.push(NotFitted { form: "any law".to_owned(), reason: why.in_a_line() });
    document
}

/// The laws of finished points, with the paired differences between their sizes. Where no law can be fitted the
/// document holds the pairs and the reason, and the error comes along.
pub fn fit_points<'a>(
    points: &[(&'a Point, &'a Status)],
    options: &Options,
) -> (LawDocument, Option<LawError>) {
    let table = Table::from_points(points.iter().copied());
    let (mut document, why) = match fit(&table, options) {
        Ok(document) => (document, None),
        Err(why) => (unfitted(&table, &why), Some(why)),
    };
    document.paired = paired_differences(&table, &|row| {
        let same = |p: &Point| p.run == row.run && Some(p.tokens as f64) == row.d;
        points.iter().find(|(p, _)| same(p)).map(|(p, _)| p.blocks.as_slice())
    });
    (document, why)
}

fn start(table: &Table) -> LawDocument {
    LawDocument {
        schema: SCHEMA.to_owned(),
        rows_read: table.rows.len(),
        rows_dropped: table.dropped.clone(),
        notes: table.notes.clone(),
        ..LawDocument::default()
    }
}

/// Fits all variants of one id on each slice it is made for. An error about the whole id comes back as a value.
fn one(
    id: &str,
    table: &Table,
    repeats: &Repeats,
    options: &Options,
    document: &mut LawDocument,
) -> Result<Option<LawError>, LawError> {
    let mut variants = forms::by_id(id)?;
    let mut slices = match id {
        "l_n" | "l_d" => {
            let (varied, fixed, name) = if id == "l_n" { ("n", "d", "tokens") } else { ("d", "n", "params") };
            if !options.forms.iter().any(|f| f == id) && pools(table, varied, fixed) {
                return Ok(Some(pooled(id, varied, fixed)));
            }
            slices(table, varied, fixed, name)
        }
        "l_c" => vec![frontier_slice(table, "c")],
        "l_cmin" if table.c_min_from_batch => vec![frontier_slice(table, "c_min")],
        "l_ns" => vec![with_s_min(table)],
        "hyperbola" => groups(table),
        "mixture" => match forms::mixture::shares(table) {
            Ok(shares) => {
                variants.retain(|f| f.variables.len() == shares.count);
                vec![Slice::of(shares.table, shares.notes)]
            }
            Err(error) => return Ok(Some(error)),
        },
        "l_t" => forms::curve::by_run(table)
            .into_iter()
            .map(|(run, rows)| Slice::of(rows, vec![format!("run {run}; S1 and S2 from its column lr")]))
            .collect(),
        "junk" => kinds_of_junk(table),
        _ => vec![Slice::of(table.clone(), Vec::new())],
    };
    let unasked = !options.forms.iter().any(|f| f == id);
    if unasked && matches!(id, "l_n" | "l_d") && slices.iter().any(|s| !s.condition.is_empty()) {
        slices = worthwhile(slices, table, document, id);
        if slices.is_empty() {
            return Ok(None);
        }
    }
    let mut last = None;
    for slice in &slices {
        let setting = Setting { condition: slice.condition.clone(), repeats: repeats.clone() };
        for form in &variants {
            match fit_form(form, &slice.table, &setting, options) {
                Ok(mut record) => {
                    record.group.clone_from(&slice.group);
                    record.notes.extend(slice.notes.clone());
                    document.fits.push(record);
                }
                Err(error) => {
                    let places = [condition_words(&slice.condition), slice.group.clone()];
                    let place: Vec<String> = places.into_iter().filter(|p| !p.is_empty()).collect();
                    if !place.is_empty() {
                        document.not_fitted.push(NotFitted {
                            form: format!("{} at {}", form.label(), place.join(", ")),
                            reason: error.in_a_line(),
                        });
                    }
                    last = Some(error);
                }
            }
        }
    }
    if slices.is_empty() {
        last = Some(no_slice(variants[0], table));
    }
    Ok(last)
}

fn pooled(id: &str, varied: &str, fixed: &str) -> LawError {
    let (varied, fixed) = (varied.to_uppercase(), fixed.to_uppercase());
    LawError::BadOption {
        what: format!(
            "{id} was not fitted: the rows know no {fixed}, and rows of one {varied} differ in loss"
        ),
        hint: format!(
            "name the column of {fixed} (--column {}=NAME); --form {id} fits all rows as one series",
            fixed.to_lowercase()
        ),
    }
}

fn no_slice(form: &Form, table: &Table) -> LawError {
    match form.check(table) {
        Err(error) => error,
        Ok(()) => LawError::TooFewRows {
            form: form.id.to_owned(),
            needed: 3,
            found: 0,
            of: if form.id == "l_n" { " at one D".to_owned() } else { " at one N".to_owned() },
            hint: "no three rows share the other variable; fit l_nd_chinchilla, which needs no such grid"
                .to_owned(),
        },
    }
}
