//! The arrows between the rooms, read from what cargo knows of them. A new crate or a new arrow fails here
//! first and is then a decision, made in `ALLOWED` and in ARCHITECTURE.md.

use crate::tidy::root;
use std::{collections::BTreeMap, process::Command};

/// Room → the rooms it may use, in any kind of dependency.
const ALLOWED: &[(&str, &[&str])] = &[
    ("isoflop-base", &[]),
    ("isoflop-kernels", &["isoflop-base"]),
    ("isoflop-nn", &["isoflop-base", "isoflop-kernels"]),
    ("isoflop-cuda", &["isoflop-base", "isoflop-kernels", "isoflop-nn"]),
    ("isoflop-data", &["isoflop-base", "isoflop-kernels"]),
    ("isoflop-laws", &["isoflop-base"]),
    ("isoflop-meter", &["isoflop-base"]),
    ("isoflop-store", &["isoflop-base"]),
    ("isoflop-report", &["isoflop-base", "isoflop-laws"]),
    (
        "isoflop-lab",
        &[
            "isoflop-base",
            "isoflop-kernels",
            "isoflop-nn",
            "isoflop-cuda",
            "isoflop-data",
            "isoflop-laws",
            "isoflop-meter",
            "isoflop-store",
            "isoflop-report",
        ],
    ),
    (
        "isoflop-watch",
        &["isoflop-base", "isoflop-laws", "isoflop-meter", "isoflop-store", "isoflop-report", "isoflop-lab"],
    ),
    (
        "isoflop",
        &[
            "isoflop-base",
            "isoflop-kernels",
            "isoflop-nn",
            "isoflop-cuda",
            "isoflop-data",
            "isoflop-laws",
            "isoflop-meter",
            "isoflop-store",
            "isoflop-report",
            "isoflop-lab",
            "isoflop-watch",
        ],
    ),
];

/// Crates by which a program talks to the network, or starts threads behind the pool's back.
const UNWELCOME: &[&str] = &[
    "reqwest",
    "ureq",
    "hyper",
    "curl",
    "openssl-sys",
    "native-tls",
    "rustls",
    "tokio",
    "async-std",
    "socket2",
    "rayon-core",
];

/// Room → names of the rooms its manifest names, dev and build dependencies included.
fn arrows() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let rooms: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    packages
        .iter()
        .map(|package| {
            let uses = package["dependencies"].as_array().expect("dependencies").iter();
            let uses = uses.filter_map(|d| d["name"].as_str()).filter(|name| rooms.contains(name));
            (package["name"].as_str().expect("a name").to_string(), uses.map(str::to_string).collect())
        })
        .collect()
}

#[test]
fn no_arrow_between_rooms_but_the_designed_ones() {
    let arrows = arrows();
    assert!(arrows.len() >= ALLOWED.len(), "rooms missing: found {:?}", arrows.keys());
    for (room, uses) in arrows {
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("room `{room}` has no row in ALLOWED: say what it may use, and why"));
        for used in uses {
            assert!(
                allowed.contains(&used.as_str()),
                "`{room}` uses `{used}`, which is not one of {allowed:?}"
            );
        }
    }
}

#[test]
fn no_dependency_reaches_the_network() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed");
    let names: Vec<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.contains(&"isoflop-base"), "Cargo.lock was not understood");
    for name in names {
        assert!(!UNWELCOME.contains(&name), "`{name}` is in the dependency tree");
    }
}
