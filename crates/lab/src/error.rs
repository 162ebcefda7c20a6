//! Errors that are more than words: the user's to mend, or a stop that was asked for.

use crate::stop::StopReason;

/// What the user gave cannot be used.
///
/// Any error in the chain of an `anyhow::Error` that is a `UserError` makes the whole a user's error, so
/// `Err(UserError::new("…").hint("…").into())` and `.context(…)` around it both work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserError {
    message: String,
    hint: Option<String>,
}

impl UserError {
    /// What is wrong, and where.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// What to do about it; printed as a line of its own that starts with `hint:`.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Any error that is the user's to mend; its own text may already end with a `hint:` line.
    pub fn from_error(error: impl std::fmt::Display) -> Self {
        Self::new(error.to_string())
    }
}

impl std::fmt::Display for UserError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UserError {}

/// Somebody or something asked the work to stop; what was done is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped(pub StopReason);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stopped {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_a_line_of_its_own() {
        assert_eq!(UserError::new("a").hint("b").to_string(), "a\nhint: b");
    }
}
