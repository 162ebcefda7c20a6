//! All the laws of one table.

use crate::{LawDocument, LawError, Options, Table};

/// Names that are recipes rather than single forms.
pub const RECIPES: &[&str] = &["all"];

/// Fits every form in `options.forms` (or all the columns allow) to the table.
///
/// For a series of sizes and token counts: `l_n` at each D, `l_d` at each N (each pure and with an irreducible term),
/// `l_nd_chinchilla`, and `l_c` on the frontier of the rows.
///
/// # Errors
/// A form asked for by name that does not exist or cannot be fitted; a table without usable rows.
pub fn fit(_table: &Table, _options: &Options) -> Result<LawDocument, LawError> {
    Err(LawError::NoOptimum { form: "all".into(), why: "not written yet".into() })
}
