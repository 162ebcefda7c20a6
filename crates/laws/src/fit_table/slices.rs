//! Which rows a law of one variable is fitted to: those at one D, at one N, on the frontier, of one model.

use crate::document::{LawDocument, NotFitted};
use crate::table::{distinct, same_level};
use crate::{Row, Table};
use std::collections::BTreeMap;

/// A selection of rows with what was held fixed.
#[derive(Default)]
pub(super) struct Slice {
    pub(super) table: Table,
    pub(super) condition: BTreeMap<String, f64>,
    /// What the rows have in common that is no number.
    pub(super) group: String,
    pub(super) notes: Vec<String>,
}

impl Slice {
    pub(super) fn of(table: Table, notes: Vec<String>) -> Self {
        Self { table, notes, ..Self::default() }
    }
}

/// The rows at each level of `fixed` that has at least three different `varied`; all rows when the table has no `fixed`
/// at all.
pub(super) fn slices(table: &Table, varied: &str, fixed: &str, name: &str) -> Vec<Slice> {
    if !table.rows.iter().any(|r| r.get(fixed).is_some()) {
        return vec![Slice::of(table.clone(), Vec::new())];
    }
    let at = |row: &Row, level: f64| row.get(fixed).is_some_and(|x| same_level(x, level));
    let mut out = Vec::new();
    for level in table.levels(fixed) {
        // In a table that is no grid nearly every row is a level of its own: look before copying.
        let there = table.rows.iter().filter(|r| at(r, level)).filter_map(|r| r.get(varied));
        if distinct(there).len() >= 3 {
            let condition = BTreeMap::from([(name.to_owned(), level)]);
            out.push(Slice { table: table.filtered(|r| at(r, level)), condition, ..Slice::default() });
        }
    }
    out
}

/// Whether a law of `varied` alone would pool rows that differ in what the table does not know: no row has `fixed`,
/// and several rows of one `varied`, not seeds of each other, have losses more than 1 % apart.
pub(super) fn pools(table: &Table, varied: &str, fixed: &str) -> bool {
    if table.rows.iter().any(|r| r.get(fixed).is_some()) {
        return false;
    }
    table.levels(varied).into_iter().any(|level| {
        let at: Vec<&Row> =
            table.rows.iter().filter(|r| r.get(varied).is_some_and(|x| same_level(x, level))).collect();
        let seeds = at.len() > 1 && at.iter().all(|r| r.seed.is_some());
        let ends = at.iter().fold((f64::INFINITY, 0.0f64), |(lo, hi), r| (lo.min(r.loss), hi.max(r.loss)));
        !seeds && at.len() > 1 && ends.1 > 1.01 * ends.0
    })
}

/// Most slices of one law that are fitted unasked.
const MOST_SLICES: usize = 8;

/// In a table that is no grid, rows share a D or N by accident: slices are fitted unasked only when they hold at
/// least half of the rows, and of many only those with the most rows.
pub(super) fn worthwhile(
    mut slices: Vec<Slice>,
    table: &Table,
    document: &mut LawDocument,
    id: &str,
) -> Vec<Slice> {
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

/// Rows of finished points that no cheaper point beats; repeated seeds count by their mean, so that luck does not
/// choose them.
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

pub(super) fn frontier_slice(table: &Table, cost: &str) -> Slice {
    let rows = frontier_in(table, cost);
    let note = format!(
        "on the frontier: {} of {} rows, those no cheaper row beats (repeated seeds by their mean); losses before the learning rate \
         has decayed are no points",
        rows.rows.len(),
        table.rows.len()
    );
    Slice::of(rows, vec![note])
}

/// S_min where the table has it, else the steps as they were, with a note.
pub(super) fn with_s_min(table: &Table) -> Slice {
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
    Slice::of(rows, notes)
}

/// One slice per model (a text column `model`, else N) and target loss.
pub(super) fn groups(table: &Table) -> Vec<Slice> {
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
            Slice { table: rows, condition, notes: vec![format!("model {}", k.0)], ..Slice::default() }
        })
        .collect()
}

/// One slice per kind of junk (column `junk_kind`, words or numbers) with the rows without junk in each, whatever
/// kind they name; all rows where no kind is named.
pub(super) fn kinds_of_junk(table: &Table) -> Vec<Slice> {
    const NO_KIND: &str = "of no named kind";
    let kind = |r: &Row| {
        let number = || r.get("junk_kind").map(|k| k.to_string());
        r.labels.get("junk_kind").cloned().or_else(number).unwrap_or_else(|| NO_KIND.to_owned())
    };
    let is_clean = |r: &Row| r.get("junk") == Some(0.0);
    let mut kinds: Vec<String> = Vec::new();
    for row in table.rows.iter().filter(|r| r.get("junk").is_some() && !is_clean(r)) {
        let k = kind(row);
        if !kinds.contains(&k) {
            kinds.push(k);
        }
    }
    if kinds.iter().all(|k| k == NO_KIND) {
        return vec![Slice::of(table.clone(), Vec::new())];
    }
    let clean = table.rows.iter().filter(|r| is_clean(r)).count();
    let shared = if kinds.len() > 1 { "shared by all kinds" } else { "with it" };
    kinds
        .into_iter()
        .map(|k| Slice {
            table: table.filtered(|r| is_clean(r) || kind(r) == k),
            group: format!("junk {k}"),
            notes: vec![format!("{clean} rows without junk are {shared}")],
            ..Slice::default()
        })
        .collect()
}
