//! How an error or an ending becomes an exit code: 0 done, 1 failed, 2 usage or bad input, 3 diverged,
//! 130/143 interrupted and saved.

use std::process::ExitCode;

/// What the user gave cannot be used. Leaves with code 2.
///
/// Any error in the chain of an `anyhow::Error` that is a `UserError` makes the whole a user's error, so
/// `Err(UserError::new("…").hint("…").into())` and `.context(…)` around it both work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserError {
    message: String,
    hint: Option<String>,
}

impl UserError {
    /// What is wrong, and where.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// What to do about it; printed as a line of its own that starts with `hint:`.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Any error that is the user's to mend; its own text may already end with a `hint:` line.
    pub(crate) fn from_error(error: impl std::fmt::Display) -> Self {
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

/// A signal asked us to stop; what was done is saved. Leaves with 130 or 143.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// Number of the signal, 2 or 15.
    pub(crate) signal: u8,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "signal {}", self.signal)
    }
}

impl std::error::Error for Interrupted {}

/// The code of a study in which a run diverged.
pub(crate) fn diverged() -> ExitCode {
    ExitCode::from(3)
}

/// The exit code an error leaves with.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(interrupted) = error.chain().find_map(|e| e.downcast_ref::<Interrupted>()) {
        return 128 + interrupted.signal;
    }
    // `downcast_ref` on the error itself also sees a `UserError` given as `.context(…)`.
    if error.is::<UserError>() || error.chain().any(|e| e.is::<UserError>()) { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn codes_follow_the_kind_of_error_through_any_context() {
        let user: anyhow::Error = UserError::new("no such file").hint("look again").into();
        let wrapped = Err::<(), _>(user).context("while reading").unwrap_err();
        assert_eq!(code_of(&wrapped), 2);
        assert_eq!(code_of(&anyhow::anyhow!("disk full")), 1);
        assert_eq!(code_of(&anyhow::Error::new(Interrupted { signal: 15 }).context("training")), 143);
        assert_eq!(UserError::new("a").hint("b").to_string(), "a\nhint: b");
    }
}
