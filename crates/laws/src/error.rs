//! What can go wrong between a table and a law.

/// Errors of this crate. Each says what was wrong and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LawError {
    /// Not enough rows for a form.
    #[error("{form} needs at least {needed} usable rows{of}, there are {found}\nhint: {hint}")]
    TooFewRows {
        /// Id of the form.
        form: String,
        /// Rows needed.
        needed: usize,
        /// Rows found.
        found: usize,
        /// ` with three different N`, or nothing.
        of: String,
        /// What to do.
        hint: String,
    },
    /// The table has no column the form needs.
    #[error("{form} needs {column}, which the table does not have\nhint: {hint}")]
    MissingColumn {
        /// Id of the form.
        form: String,
        /// Column in words.
        column: String,
        /// What to do.
        hint: String,
    },
    /// No such form.
    #[error("unknown form `{name}`\nhint: {hint}")]
    UnknownForm {
        /// The name asked for.
        name: String,
        /// The nearest, and the list.
        hint: String,
    },
    /// The text is no table.
    #[error("{what}\nhint: {hint}")]
    BadTable {
        /// What is wrong, and where.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The search found no finite optimum.
    #[error("{form} could not be fitted: {why}")]
    NoOptimum {
        /// Id of the form.
        form: String,
        /// Why.
        why: String,
    },
    /// Paired evaluation without common blocks.
    #[error("no common held-out block in the two evaluations\nhint: evaluate both on the same tokens")]
    NoCommonBlocks,
    /// An option out of range.
    #[error("{what}\nhint: {hint}")]
    BadOption {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
}

impl LawError {
    /// The error with its hint on the same line, for lists of reasons.
    pub fn in_a_line(&self) -> String {
        self.to_string().replace("\nhint: ", "; ")
    }
}
