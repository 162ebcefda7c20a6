//! The `isoflop` binary.
fn main() {}
