//! Bad input: a clear error with a hint, exit code 2 or 1, nothing lost.

use crate::common::run;

#[test]
fn an_unknown_verb_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = run(dir.path(), &["domo"]);
    assert_eq!(code, 2);
    assert!(err.contains("demo"), "{err}");
}
