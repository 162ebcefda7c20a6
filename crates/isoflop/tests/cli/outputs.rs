//! Where outputs go and inputs come from: devices, pipes, links, `-`, full and closed ones, terminals without a cursor.

#![cfg(unix)]

use crate::common::{isoflop, run};
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{FileTypeExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;

const POINTS: &str = "n,loss\n1e6,3\n2e6,2.9\n4e6,2.8\n8e6,2.7\n";

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.csv"), POINTS).unwrap();
    dir
}

/// `isoflop fit p.csv` with more arguments.
fn fit(dir: &Path, more: &[&str]) -> (i32, String, String) {
    run(dir, &[&["fit", "p.csv", "--bootstrap", "0"], more].concat())
}

fn is_law(text: &str) {
    let document: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(document["fits"].is_array(), "{text}");
}

#[test]
fn an_output_goes_through_links_and_into_pipes() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("real.json"), "old").unwrap();
    symlink("real.json", at("latest.json")).unwrap();
    symlink("/dev/null", at("null")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = at("pipe");
        move || fs::read_to_string(pipe).unwrap()
    });
    for name in ["latest.json", "null", "pipe"] {
        let (code, _, err) = fit(dir.path(), &["-o", name]);
        assert_eq!(code, 0, "{name}: {err}");
    }
    is_law(&fs::read_to_string(at("real.json")).unwrap());
    is_law(&reader.join().unwrap());
    assert!(fs::symlink_metadata(at("latest.json")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(at("null")).unwrap().is_symlink());
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    // The other verbs that write where they are told.
    for args in [
        vec!["report", "p.csv", "-o", "null"],
        vec!["report", "p.csv", "-o", "r.html", "--svg", "null"],
        vec!["design", "--budget", "1e15", "-o", "null"],
    ] {
        let (code, _, err) = run(dir.path(), &args);
        assert!(code == 0 || err.contains("no plot of loss"), "{args:?}: {err}");
        assert!(fs::symlink_metadata(at("null")).unwrap().is_symlink(), "{args:?}");
    }
}

#[test]
fn what_cannot_be_written_is_an_error_that_names_it() {
    let dir = folder();
    symlink("/dev/full", dir.path().join("full")).unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    symlink("there", dir.path().join("here")).unwrap();
    symlink("here", dir.path().join("there")).unwrap();
    for (name, word) in [
        ("full", "No space left"),
        ("dir", "a directory stands"),
        ("p.csv/x", "a file stands"),
        ("here", "symbolic links"),
    ] {
        let (code, out, err) = fit(dir.path(), &["-o", name]);
        assert!(
            code == 1
                && err.contains(&format!("cannot write {name}"))
                && err.matches("cannot write").count() == 1
                && !err.contains("checkpoint")
                && err.contains(word),
            "{name}: {code} {err}"
        );
        assert!(err.contains("hint: ") && !err.contains("wrote"), "{err}");
        assert!(out.is_empty(), "{out}");
    }
}

#[test]
fn a_dash_is_stdout_and_stdin() {
    let dir = folder();
    let (code, out, err) = fit(dir.path(), &["-o", "-"]);
    assert_eq!(code, 0);
    is_law(&out);
    // People's text has gone to stderr.
    assert!(err.contains("l_n"), "{err}");
    let (_, once, _) = fit(dir.path(), &["-o", "-", "--json"]);
    assert_eq!(once, out);
    // By any other name, and with stdout in a file, which is not replaced under it.
    for name in ["/dev/stdout", "out.json"] {
        let file = fs::File::create(dir.path().join("out.json")).unwrap();
        let status = isoflop(dir.path())
            .args(["fit", "p.csv", "--bootstrap", "0", "-o", name])
            .stdout(file)
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        assert_eq!(fs::read_to_string(dir.path().join("out.json")).unwrap(), out, "{name}");
    }
    let (code, page, _) = run(dir.path(), &["report", "p.csv", "-o", "-"]);
    assert!(code == 0 && page.starts_with("<!doctype html>"), "{page:.60}");
    let (code, _, err) = run(dir.path(), &["report", "p.csv", "-o", "-", "--json"]);
    assert!(code == 2 && err.contains("hint: "), "{err}");
    let (code, study, _) = run(dir.path(), &["design", "--budget", "1e15", "-o", "-"]);
    assert_eq!(code, 0);
    // And what one writes another reads.
    let mut child = isoflop(dir.path())
        .args(["plan", "-", "--no-timing"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(study.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(run(dir.path(), &["demo", "--out", "-"]).2.contains("--out - is no directory"));
}

#[test]
fn tables_come_through_pipes_and_compressed() {
    let dir = folder();
    let (_, expected, _) = fit(dir.path(), &["--json"]);
    let compressed = Command::new("gzip").args(["-k", "p.csv"]).current_dir(dir.path()).status();
    let mut inputs = vec![("-", "p.csv"), ("/dev/stdin", "p.csv")];
    if compressed.is_ok_and(|s| s.success()) {
        inputs.extend([("p.csv.gz", "p.csv"), ("-", "p.csv.gz")]);
    }
    for (name, file) in inputs {
        let output = isoflop(dir.path())
            .args(["fit", name, "--bootstrap", "0", "--json"])
            .stdin(fs::File::open(dir.path().join(file)).unwrap())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{name} {file}: {output:?}");
    }
}

#[test]
fn a_full_stdout_is_one_line_and_code_1() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let dir = folder();
    for args in [
        vec!["fit", "p.csv", "--bootstrap", "0"],
        vec!["fit", "p.csv", "--bootstrap", "0", "--json"],
        vec!["fit", "p.csv", "--bootstrap", "0", "--latex", "-o", "-"],
        vec!["report", "p.csv", "-o", "-"],
        vec!["--help"],
        vec!["--version"],
        vec!["doctor"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = isoflop(dir.path()).args(&args).stdout(full).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        assert!(
            err.contains("error: cannot write to stdout: No space left") && !err.contains("panicked"),
            "{args:?}: {err}"
        );
    }
}

#[test]
fn a_closed_pipe_ends_it_and_a_lost_stderr_does_not() {
    let dir = folder();
    for args in [
        vec!["fit", "p.csv", "--bootstrap", "0", "--json"],
        vec!["--help"],
        vec!["report", "p.csv", "-o", "-"],
    ] {
        // Closed before it starts: an answer short enough for the pipe's buffer would else be gone before.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child =
            isoflop(dir.path()).args(&args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(141), "{args:?}: {err}");
        assert!(!err.contains("panicked"), "{args:?}: {err}");
    }
    if Path::new("/dev/full").exists() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = isoflop(dir.path())
            .args(["fit", "p.csv", "--bootstrap", "0", "--json", "-o", "law.json"])
            .stderr(full)
            .output()
            .unwrap();
        assert!(output.status.success());
        is_law(&String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn a_terminal_that_understands_nothing_gets_no_escapes() {
    // A terminal is made by util-linux' `script`, where there is one.
    let dir = tempfile::tempdir().unwrap();
    crate::small_study::write(dir.path(), crate::small_study::STUDY);
    let on_terminal = |name: &str, term: Option<&str>, no_color: &str| {
        let command =
            format!("{} run study.toml --store {name} --out {name}-out", env!("CARGO_BIN_EXE_isoflop"));
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).current_dir(dir.path()).env("NO_COLOR", no_color);
        match term {
            Some(term) => script.env("TERM", term),
            None => script.env_remove("TERM"),
        };
        let output = script.stdin(Stdio::null()).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(shown) = on_terminal("full", Some("xterm"), "") else { return };
    assert!(shown.contains('\x1b'), "a bar is drawn where it is understood: {shown}");
    for (name, term, no_color) in
        [("dumb", Some("dumb"), ""), ("unset", None, ""), ("plain", Some("xterm"), "1")]
    {
        let shown = on_terminal(name, term, no_color).unwrap();
        assert!(!shown.contains('\x1b') && shown.contains("small-L1-d8-h1-s1"), "{name}: {shown}");
    }
}
