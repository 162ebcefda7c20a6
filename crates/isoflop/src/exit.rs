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

/// An error and its causes on one line, each said once, and the hints behind it on lines of their own.
pub(crate) fn words(error: &anyhow::Error) -> String {
    let (mut said, mut hints) = (String::new(), Vec::new());
    for cause in error.chain() {
        for line in cause.to_string().lines() {
            if line.trim_start().starts_with("hint:") {
                if !hints.iter().any(|hint| hint == line) {
                    hints.push(line.to_owned());
                }
            } else if !said.contains(line) {
                // Lines of one message stay lines; a cause follows a colon.
                let joint = if said.is_empty() {
                    ""
                } else if cause.to_string().starts_with(line) {
                    ": "
                } else {
                    "\n"
                };
                said = said + joint + line;
            }
        }
    }
    hints.into_iter().fold(said, |all, hint| all + "\n" + &hint)
}

/// Leaves as a process does that SIGPIPE ended: 128 + 13.
#[expect(clippy::exit, reason = "called where no value can be returned")]
pub(crate) fn closed_pipe() -> ! {
    std::process::exit(141)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_said_once_and_hints_come_last() {
        let cause = std::io::Error::other("no space left");
        let inner = anyhow::Error::new(cause).context("writing x: no space left\nhint: free some space");
        let outer = inner.context("saving the run");
        assert_eq!(super::words(&outer), "saving the run: writing x: no space left\nhint: free some space");
    }

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
