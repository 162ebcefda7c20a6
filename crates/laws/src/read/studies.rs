//! What tables of studies about data leave to their reader: junk in per cent, epochs instead of unique tokens.

use crate::Table;

/// A junk share beyond 1 in a column that stays within 100 is in per cent, for the whole column.
pub(super) fn shares_of_junk(table: &mut Table) {
    let most = table.rows.iter().filter_map(|r| r.get("junk")).fold(0.0f64, f64::max);
    if most <= 1.0 || most > 100.0 {
        return;
    }
    for share in table.rows.iter_mut().filter_map(|r| r.extra.get_mut("junk")) {
        *share *= 0.01;
    }
    table.notes.push("the shares of junk were percentages".to_owned());
}

/// The missing one of unique tokens, epochs and D: D = unique tokens × epochs. Who passes less than once over the
/// data has seen each token of D once.
pub(super) fn epochs_and_unique_tokens(table: &mut Table) {
    let (mut unique, mut tokens) = (0, 0);
    for row in &mut table.rows {
        let Some(epochs) = row.get("epochs").filter(|e| *e > 0.0 && e.is_finite()) else { continue };
        match (row.d, row.get("unique_tokens")) {
            (Some(d), None) => {
                row.extra.insert("unique_tokens".to_owned(), d / epochs.max(1.0));
                unique += 1;
            }
            (None, Some(u)) if u > 0.0 => {
                row.d = Some(u * epochs);
                tokens += 1;
            }
            _ => {}
        }
    }
    for (count, words) in [(unique, "unique tokens = D/epochs"), (tokens, "D = unique tokens × epochs")] {
        if count > 0 {
            table.notes.push(format!("{count} rows: {words}"));
        }
    }
}
