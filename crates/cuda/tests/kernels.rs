//! The kernels by themselves: against plain loops in f64 under the emulator's eyes, and the committed images against
//! their sources. `tests/engine` has the engine on top of them.

use std::path::Path;
use std::process::{Command, Output};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

fn succeed(command: &mut Command, hint: &str) -> Option<String> {
    // Without the program there is nothing to run here; the build itself needs neither.
    let Output { status, stdout, stderr } = command.output().ok()?;
    let text = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(status.success(), "{hint}:\n{text}");
    Some(text)
}

#[test]
fn kernels_agree_with_plain_loops_and_every_planted_fault_is_found() {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
    if Command::new(compiler).arg("--version").output().is_err() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels-test");
    let mut build = Command::new("sh");
    build.arg(format!("{CRATE}/emulator/build.sh")).arg(&folder).arg("test");
    if succeed(&mut build, "the kernels do not build as C++").is_none() {
        return;
    }
    let text = succeed(&mut Command::new(folder.join("kernels-test")), "the kernels differ").unwrap();
    assert!(text.ends_with("all passed\n"), "{text}");
}

#[test]
fn images_are_those_of_the_sources_and_no_kernel_spills() {
    let mut check = Command::new("python3");
    check.arg(format!("{CRATE}/tools/compile.py")).arg("--check");
    succeed(&mut check, "images and sources differ");
}
