//! All the laws of one table.

use crate::allocation::allocate;
use crate::compare::compare;
use crate::document::{Convention, FitRecord, LawDocument, NotFitted, SCHEMA};
use crate::forms::{self, Form};
use crate::record::{Setting, fit_form};
use crate::seeds::Repeats;
use crate::table::same_level;
use crate::{LawError, Options, Row, Table};
use isoflop_base::units::si;
use std::collections::BTreeMap;

/// Names that are recipes rather than single forms.
pub const RECIPES: &[&str] = &["all", "isoflop", "envelope"];

/// Fits every form in `options.forms` (or all the columns allow) to the table.
///
/// For a series of sizes and token counts: `l_n` at each D, `l_d` at each N (each pure and with an irreducible term),
/// `l_nd_chinchilla`, and `l_c` on the frontier of the rows.
///
/// # Errors
/// A form asked for by name that does not exist or cannot be fitted; a table without usable rows.
pub fn fit(table: &Table, options: &Options) -> Result<LawDocument, LawError> {
    check(options)?;
    table.not_empty()?;
    let all = options.forms.iter().any(|f| f == "all");
    let asked: Vec<&str> =
        options.forms.iter().map(String::as_str).filter(|f| !all && !f.is_empty()).collect();
    let ids = if asked.is_empty() {
        forms::ids().into_iter().filter(|id| offered(id, table)).collect()
    } else {
        asked.clone()
    };
    let mut document = start(table);
    let repeats = Repeats::of(table);
    document.seed_spread = repeats.spread();
    let mut first_error = None;
    for id in ids {
        if matches!(id, "isoflop" | "envelope") {
            continue;
        }
        let before = document.fits.len();
        let reason = one(id, table, &repeats, options, &mut document)?;
        if let Some(error) = reason.filter(|_| document.fits.len() == before) {
            if asked.contains(&id) {
                return Err(error);
            }
            let missing = matches!(error, LawError::MissingColumn { .. });
            first_error.get_or_insert_with(|| error.clone());
            if !missing {
                document.not_fitted.push(NotFitted { form: id.to_owned(), reason: first_line(&error) });
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
    document.comparisons.extend(floors(&document));
    document.comparisons.extend(surfaces(&document));
    if asked.is_empty() || asked.iter().any(|f| f.starts_with("l_nd") || RECIPES.contains(f)) {
        document.allocation = allocate(table, &document, options);
    }
    document.conventions = conventions(table, &document, options);
    crate::scrub::scrub(&mut document);
    Ok(document)
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

fn start(table: &Table) -> LawDocument {
    LawDocument {
        schema: SCHEMA.to_owned(),
        rows_read: table.rows.len(),
        rows_dropped: table.dropped.clone(),
        notes: table.notes.clone(),
        ..LawDocument::default()
    }
}

pub(crate) fn first_line(error: &LawError) -> String {
    error.to_string().replace("\nhint: ", "; ")
}

/// A selection of rows with what was held fixed.
struct Slice {
    table: Table,
    condition: BTreeMap<String, f64>,
    notes: Vec<String>,
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
        "l_n" => slices(table, "n", "d", "tokens"),
        "l_d" => slices(table, "d", "n", "params"),
        "l_c" => vec![frontier_slice(table, "c")],
        "l_cmin" if table.c_min_from_batch => vec![frontier_slice(table, "c_min")],
        "l_ns" => vec![with_s_min(table)],
        "hyperbola" => groups(table),
        "mixture" => match forms::mixture::shares(table) {
            Ok(shares) => {
                variants.retain(|f| f.variables.len() == shares.count);
                vec![Slice { table: shares.table, condition: BTreeMap::new(), notes: shares.notes }]
            }
            Err(error) => return Ok(Some(error)),
        },
        "l_t" => forms::curve::by_run(table)
            .into_iter()
            .map(|(run, rows)| Slice {
                table: rows,
                condition: BTreeMap::new(),
                notes: vec![format!("run {run}; S1 and S2 from its column lr")],
            })
            .collect(),
        _ => vec![Slice { table: table.clone(), condition: BTreeMap::new(), notes: Vec::new() }],
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
                    record.notes.extend(slice.notes.clone());
                    document.fits.push(record);
                }
                Err(error) => {
                    if !slice.condition.is_empty() {
                        let at = condition_words(&slice.condition);
                        document.not_fitted.push(NotFitted {
                            form: format!("{} at {at}", form.label()),
                            reason: first_line(&error),
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

/// The rows at each level of `fixed` that has at least three different `varied`; all rows when the table has no `fixed` at all.
fn slices(table: &Table, varied: &str, fixed: &str, name: &str) -> Vec<Slice> {
    if !table.rows.iter().any(|r| r.get(fixed).is_some()) {
        return vec![Slice { table: table.clone(), condition: BTreeMap::new(), notes: Vec::new() }];
    }
    table
        .levels(fixed)
        .into_iter()
        .map(|level| {
            let rows = table.filtered(|r| r.get(fixed).is_some_and(|x| same_level(x, level)));
            let condition = BTreeMap::from([(name.to_owned(), level)]);
            Slice { table: rows, condition, notes: Vec::new() }
        })
        .filter(|s| s.table.levels(varied).len() >= 3)
        .collect()
}

/// Most slices of one law that are fitted unasked.
const MOST_SLICES: usize = 8;

/// In a table that is no grid, rows share a D or N by accident: slices are fitted unasked only when they hold at least half of the rows,
/// and of many only those with the most rows.
fn worthwhile(mut slices: Vec<Slice>, table: &Table, document: &mut LawDocument, id: &str) -> Vec<Slice> {
    let held: usize = slices.iter().map(|s| s.table.rows.len()).sum();
    if 2 * held < table.rows.len() {
        document.not_fitted.push(NotFitted {
            form: id.to_owned(),
            reason: format!("the table is no grid: only {held} of {} rows share the other variable; --form {id} fits them", table.rows.len()),
        });
        return Vec::new();
    }
    if slices.len() > MOST_SLICES {
        let mut sizes: Vec<usize> = slices.iter().map(|s| s.table.rows.len()).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let least = sizes[MOST_SLICES - 1];
        let count = slices.len();
        let mut kept = 0;
        slices.retain(|s| {
            let keep = s.table.rows.len() >= least && kept < MOST_SLICES;
            kept += usize::from(keep);
            keep
        });
        document.notes.push(format!(
            "{id}: the {MOST_SLICES} of {count} slices with the most rows; --form {id} fits all"
        ));
    }
    slices
}

/// Rows of finished points that no cheaper point beats; repeated seeds count by their mean, so that luck does not choose them.
pub fn frontier(table: &Table) -> Table {
    frontier_in(table, "c")
}

fn frontier_in(table: &Table, cost: &str) -> Table {
    let usable: Vec<&Row> = table.rows.iter().filter(|r| r.get(cost).is_some_and(|c| c > 0.0)).collect();
    let mut groups: Vec<(f64, f64, f64, Vec<usize>)> = Vec::new();
    for row in usable {
        let c = row.get(cost).unwrap_or(0.0);
        let same = |g: &(f64, f64, f64, Vec<usize>)| {
            same_level(g.0, c) && table.rows.iter().any(|r| r.line == g.3[0] && r.n == row.n && r.d == row.d)
        };
        match groups.iter_mut().find(|g| same(g)) {
            Some(g) => {
                g.1 += libm::log(row.loss);
                g.2 += 1.0;
                g.3.push(row.line);
            }
            None => groups.push((c, libm::log(row.loss), 1.0, vec![row.line])),
        }
    }
    groups.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1 / a.2).total_cmp(&(b.1 / b.2))));
    let mut lowest = f64::INFINITY;
    let mut lines = Vec::new();
    for (_, sum, count, members) in groups {
        if sum / count < lowest {
            lowest = sum / count;
            lines.extend(members);
        }
    }
    table.filtered(|r| lines.contains(&r.line))
}

fn frontier_slice(table: &Table, cost: &str) -> Slice {
    let rows = frontier_in(table, cost);
    let note = format!(
        "on the frontier: {} of {} rows, those no cheaper row beats (repeated seeds by their mean); losses before the learning rate \
         has decayed are no points",
        rows.rows.len(),
        table.rows.len()
    );
    Slice { table: rows, condition: BTreeMap::new(), notes: vec![note] }
}

/// S_min where the table has it, else the steps as they were, with a note.
fn with_s_min(table: &Table) -> Slice {
    let mut rows = table.clone();
    let mut notes = Vec::new();
    if !rows.rows.iter().any(|r| r.extra.contains_key("s_min")) {
        for row in &mut rows.rows {
            if let Some(s) = row.extra.get("steps").copied() {
                row.extra.insert("s_min".to_owned(), s);
            }
        }
        notes.push(
            "no column s_min: the steps were taken as they are, without S_min = S/(1 + B_crit/B)".to_owned(),
        );
    }
    Slice { table: rows, condition: BTreeMap::new(), notes }
}

/// One slice per model (a text column `model`, else N) and target loss.
fn groups(table: &Table) -> Vec<Slice> {
    let key = |r: &Row| {
        let model = r.labels.get("model").cloned().or_else(|| r.n.map(|n| n.to_string())).unwrap_or_default();
        (model, r.get("target").map(|t| t.to_string()).unwrap_or_default())
    };
    let mut keys: Vec<(String, String)> = Vec::new();
    for row in &table.rows {
        let k = key(row);
        if !keys.contains(&k) {
            keys.push(k);
        }
    }
    keys.into_iter()
        .map(|k| {
            let rows = table.filtered(|r| key(r) == k);
            let mut condition = BTreeMap::new();
            let first = &rows.rows[0];
            if let Some(n) = first.n {
                condition.insert("params".to_owned(), n);
            }
            if let Some(t) = first.get("target") {
                condition.insert("target loss".to_owned(), t);
            }
            Slice { table: rows, condition, notes: vec![format!("model {}", k.0)] }
        })
        .collect()
}

/// `D = 3.00 M`, …
pub fn condition_words(condition: &BTreeMap<String, f64>) -> String {
    let parts: Vec<String> = condition
        .iter()
        .map(|(name, value)| {
            let symbol = match name.as_str() {
                "tokens" => "D",
                "params" => "N",
                "flops" => "C",
                other => other,
            };
            format!("{symbol} = {}", si(*value))
        })
        .collect();
    parts.join(", ")
}

/// Pure against irreducible, wherever both were fitted to the same rows.
fn floors(document: &LawDocument) -> Vec<crate::document::Comparison> {
    let mut out = Vec::new();
    for pure in document.fits.iter().filter(|f| f.variant == "pure") {
        let partner = document
            .fits
            .iter()
            .find(|f| f.variant == "irreducible" && f.form == pure.form && f.condition == pure.condition);
        if let Some(floored) = partner {
            let question = if pure.condition.is_empty() {
                format!("{}: is there an irreducible loss?", pure.form)
            } else {
                format!(
                    "{} at {}: is there an irreducible loss?",
                    pure.form,
                    condition_words(&pure.condition)
                )
            };
            out.push(compare(&question, &[("pure", pure), ("irreducible", floored)]));
        }
    }
    out
}

/// The forms of L(N, D) against each other, by the rows held out of each.
fn surfaces(document: &LawDocument) -> Option<crate::document::Comparison> {
    let found: Vec<(&str, &FitRecord)> = document
        .fits
        .iter()
        .filter(|f| f.form.starts_with("l_nd_") && f.condition.is_empty())
        .map(|f| (f.form.as_str(), f))
        .collect();
    (found.len() > 1).then(|| compare("L(N, D): which form?", &found))
}

/// Whether a name is a form or a recipe.
pub fn is_known(name: &str) -> bool {
    RECIPES.contains(&name) || forms::ids().contains(&name)
}

/// The record of a form, for callers that look one up.
pub fn find<'a>(document: &'a LawDocument, form: &str, variant: &str) -> Option<&'a FitRecord> {
    document.fits.iter().find(|f| f.form == form && (variant.is_empty() || f.variant == variant))
}
