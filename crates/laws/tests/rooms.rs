//! The order of the crate's rooms, as `lib.rs` lists it: a room uses only those above it.

use std::path::{Path, PathBuf};

/// From the ground up. `error` and `options` are words of all.
const ROOMS: [&str; 13] = [
    "numeric",
    "document",
    "table",
    "read",
    "forms",
    "fitting",
    "allocation",
    "fit_table",
    "forecast",
    "design",
    "arms",
    "text",
    "lib",
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if !path.ends_with("tests.rs") {
            out.push(path);
        }
    }
}

#[test]
fn a_room_uses_only_those_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 40, "{} sources", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let inside = path.strip_prefix(&src).expect("below src").with_extension("");
        let room = inside.iter().next().and_then(|r| r.to_str()).expect("a name").to_owned();
        let Some(mine) = ROOMS.iter().position(|r| *r == room).filter(|_| room != "lib") else { continue };
        let text = std::fs::read_to_string(&path).expect("readable");
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        for line in code.lines().filter(|l| !l.trim_start().starts_with("//")) {
            for (at, _) in line.match_indices("crate::") {
                let used: String =
                    line[at + 7..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if ROOMS.iter().position(|r| *r == used).is_some_and(|theirs| theirs > mine) {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "a room that uses one above it:\n{}", wrong.join("\n"));
}
