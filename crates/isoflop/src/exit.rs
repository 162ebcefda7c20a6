//! How an error or an ending becomes an exit code: 0 done, 1 failed, 2 usage or bad input, 3 diverged,
//! 4 a run is held by another process, 5 stopped by a limit or an alarm and saved, 130/143 interrupted and saved.

use isoflop_lab::{StopReason, Stopped, UserError};
use isoflop_store::StoreError;
use std::process::ExitCode;

/// The code of a study in which a run diverged.
pub(crate) fn diverged() -> ExitCode {
    ExitCode::from(3)
}

/// The code when another process works on a run: nothing is wrong, and the same command may be given again later.
const HELD: u8 = 4;

/// The exit of a study whose last runs are left to other processes.
pub(crate) fn held() -> ExitCode {
    ExitCode::from(HELD)
}

/// The exit code an error leaves with.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(Stopped(reason)) = error.chain().find_map(|e| e.downcast_ref::<Stopped>()) {
        return match reason {
            StopReason::Signal(number) => 128 + number,
            StopReason::Limit(_) | StopReason::Alarm(_) => 5,
        };
    }
    let held = |e: &(dyn std::error::Error + 'static)| {
        matches!(e.downcast_ref::<StoreError>(), Some(StoreError::Locked { .. } | StoreError::FolderHeld(_)))
    };
    if error.chain().any(held) {
        return HELD;
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

/// Leaves because the answer could not be delivered, which was said.
#[expect(clippy::exit, reason = "called where no value can be returned")]
pub(crate) fn unheard() -> ! {
    std::process::exit(1)
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
        let stopped = |reason| anyhow::Error::new(Stopped(reason)).context("training");
        assert_eq!(code_of(&stopped(StopReason::Signal(15))), 143);
        assert_eq!(code_of(&stopped(StopReason::Limit("4 h of 4 h".to_owned()))), 5);
        let held = StoreError::Locked { run: "a".to_owned(), holder: Default::default() };
        assert_eq!(code_of(&anyhow::Error::new(held).context("training")), 4);
    }
}
