//! How a test runs `isoflop` and looks at what came of it.

use std::{
    path::Path,
    process::{Command, Output},
};

/// The binary under test, without the environment's opinion about colour and kernels.
pub(crate) fn isoflop(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isoflop"));
    command.current_dir(dir).env("NO_COLOR", "1").env_remove("ISOFLOP_KERNELS");
    command
}

/// Runs to the end and returns exit code, stdout and stderr.
pub(crate) fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = isoflop(dir).args(args).output().expect("isoflop starts");
    (
        status.code().unwrap_or(-1),
        String::from_utf8(stdout).expect("stdout is UTF-8"),
        String::from_utf8(stderr).expect("stderr is UTF-8"),
    )
}
