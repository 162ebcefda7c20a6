//! House rules that no compiler holds: what each room's sources may say, how long they may be, and that every
//! invariant of ARCHITECTURE.md names tests which exist.
//!
//! Rules read *code*: comments, string contents and `#[cfg(test)]` parts are blanked first, so that prose may
//! name what code may not do and tests may make their own files.

use std::path::{Path, PathBuf};

/// Top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

/// One Rust source: its path from the root with `/`, its text, and its code alone, line for line.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        self.path.split('/').nth(1).expect("crates/<room>/…")
    }

    /// Tests, benches and examples, and `src` modules that exist for tests only.
    fn is_test(&self) -> bool {
        let tail = self.path.splitn(3, '/').nth(2).unwrap_or("");
        !tail.starts_with("src/") || tail.ends_with("/tests.rs") || tail.contains("/tests/")
    }

    /// Fails with file and line for each code line that contains one of `words` as a whole path or word.
    fn lines_with<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        self.code.lines().enumerate().flat_map(move |(index, line)| {
            let found = words.iter().filter(|word| contains_word(line, word));
            found.map(move |word| format!("{}:{}: `{word}`", self.path, index + 1))
        })
    }
}

/// Whether `word` stands in `line` with no identifier character directly before it, or after it where it ends
/// in one (`fs::remove_` is a prefix on purpose).
fn contains_word(line: &str, word: &str) -> bool {
    let ident = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(ident);
        let after = line[at + word.len()..].chars().next().is_some_and(ident);
        !before && (!after || word.ends_with('_'))
    })
}

/// Every file under `directory` with this extension, build output aside, sorted.
fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if !path.ends_with("target") {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let (root, mut paths) = (root(), Vec::new());
    files(&root.join("crates"), "rs", &mut paths);
    assert!(paths.len() > 9, "only {} sources found", paths.len());
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let path = path.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
            let code = without_tests(&code_only(&text));
            Source { path, text, code }
        })
        .collect()
}

/// `text` with comments and the insides of string and character literals blanked, lines kept.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = at + literal_or_comment(rest, at.checked_sub(1).map(|i| bytes[i]));
        if end > at {
            code.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            code.push(if rest[0].is_ascii() { char::from(rest[0]) } else { '·' });
            at += 1;
        }
    }
    code
}

/// Length of the comment, string or character literal at the start of `rest`, 0 if there is none.
fn literal_or_comment(rest: &[u8], before: Option<u8>) -> usize {
    let find = |needle: &[u8], from: usize| {
        let found = rest[from..].windows(needle.len()).position(|w| w == needle);
        found.map_or(rest.len(), |i| from + i)
    };
    let in_identifier = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => find(b"\n", 0),
        [b'/', b'*', ..] => (find(b"*/", 2) + 2).min(rest.len()),
        [b'r', b'"' | b'#', ..] if !in_identifier => {
            let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return 0;
            }
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            (find(&close, 2 + hashes) + close.len()).min(rest.len())
        }
        [b'"', ..] => {
            let mut end = 1;
            while end < rest.len() && rest[end] != b'"' {
                end += if rest[end] == b'\\' { 2 } else { 1 };
            }
            (end + 1).min(rest.len())
        }
        [b'\'', b'\\', _, ..] => (find(b"'", 3) + 1).min(rest.len()),
        [b'\'', _, b'\'', ..] => 3,
        _ => 0,
    }
}

/// Blanks each item under a `#[cfg(test)]` or `#[cfg(all(test, …))]`: to its `;`, or to the brace that closes its first
/// one.
fn without_tests(code: &str) -> String {
    let mut code = code.to_string();
    while let Some(start) = code.find("#[cfg(test)]").or_else(|| code.find("#[cfg(all(test,")) {
        let mut depth = 0;
        let end = code[start..]
            .char_indices()
            .find(|&(_, c)| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                (c == '}' || c == ';') && depth == 0
            })
            .map_or(code.len(), |(i, c)| start + i + c.len_utf8());
        let blank: String = code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
    code
}

fn none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}\n{}", found.join("\n"));
}

#[test]
fn the_reader_of_code_blanks_what_is_not_code() {
    let check = |text: &str, expected: &str| {
        let code = without_tests(&code_only(text));
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
        assert_eq!(code.lines().count(), text.lines().count(), "{text}");
    };
    check("let a = \"unsafe \\\" {\"; // unsafe", "let a = ;");
    check("a /* x\n y */ b", "a b");
    check(
        "let q = '\"'; let n = '\\n'; fn f<'a>(x: &'a str) {}",
        "let q = ; let n = ; fn f<'a>(x: &'a str) {}",
    );
    check("let r = r#\"fs::write(\"x\")\"#; after", "let r = ; after");
    check("fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { c(); }\n}\nfn d() {}", "fn a() {} fn d() {}");
    check("#[cfg(all(test, unix))]\nmod tests { fn b() {} }\nfn d() {}", "fn d() {}");
    check("#[cfg(test)]\nmod tests;\nfn d() {}", "fn d() {}");
    assert!(contains_word("std::fs::remove_file(x)", "fs::remove_"));
    assert!(contains_word("a.env::var(", "env::var"));
    assert!(!contains_word("myfs::write(x)", "fs::write"));
    assert!(!contains_word("Instantly", "Instant"));
}

#[test]
fn files_are_of_a_length_one_reads() {
    let long = sources().into_iter().filter(|s| s.text.lines().count() > 600);
    none(long.map(|s| format!("{}: {} lines", s.path, s.text.lines().count())).collect(), "over 600 lines:");
}

/// Characters of a line of Rust, strings aside: rustfmt wraps neither them nor comments nor macros.
const RUST_COLUMNS: usize = 120;
/// Characters of a line of Markdown, tables, code and links that cannot be wrapped aside.
const MARKDOWN_COLUMNS: usize = 120;

#[test]
fn lines_are_of_a_length_one_reads() {
    let mut long = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            let in_string = line.contains('"') || line.ends_with('\\');
            if (comment || !in_string) && line.chars().count() > RUST_COLUMNS {
                long.push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    let (root, mut paths) = (root(), Vec::new());
    for folder in ["crates", "fixtures", "bench", "docs"] {
        files(&root.join(folder), "md", &mut paths);
    }
    paths
        .extend(["README.md", "ARCHITECTURE.md", "DECISIONS.md", "CHANGELOG.md"].map(|name| root.join(name)));
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("readable");
        let mut in_code = false;
        for (index, line) in text.lines().enumerate() {
            in_code ^= line.starts_with("```");
            let wraps = line.trim().contains(' ') && !line.starts_with('|') && !line.starts_with("    ");
            if wraps && !in_code && !line.contains("](") && line.chars().count() > MARKDOWN_COLUMNS {
                long.push(format!("{}:{}", path.display(), index + 1));
            }
        }
    }
    none(long, "lines too long to read:");
}

#[test]
fn every_file_says_why_it_exists() {
    let bare = sources().into_iter().filter(|s| !s.is_test() && !s.text.starts_with("//!"));
    none(bare.map(|s| s.path).collect(), "no `//!` header on the first line:");
}

#[test]
fn no_file_is_named_for_nothing() {
    let vague = ["utils.rs", "util.rs", "misc.rs", "base.rs", "common.rs", "helpers.rs"];
    let found = sources()
        .into_iter()
        .filter(|s| !s.is_test() && vague.iter().any(|v| s.path.ends_with(&format!("/{v}"))));
    none(found.map(|s| s.path).collect(), "a name that says nothing of what is inside:");
}

#[test]
fn unsafe_stays_in_kernels_the_memory_map_and_the_driver() {
    let outside = sources().into_iter().filter(|s| {
        let driver = s.path.starts_with("crates/cuda/src/driver/");
        s.room() != "kernels" && s.path != "crates/data/src/map.rs" && !driver
    });
    let found = outside.flat_map(|s| s.lines_with(&["unsafe"]).collect::<Vec<_>>());
    none(found.collect(), "`unsafe` outside kernels, crates/data/src/map.rs and crates/cuda/src/driver:");
}

#[test]
fn only_store_creates_renames_or_deletes_files() {
    let calls = [
        "fs::write",
        "fs::rename",
        "fs::copy",
        "fs::hard_link",
        "fs::remove_",
        "fs::create_dir",
        "fs::create_dir_all",
        "File::create",
        "File::create_new",
        "OpenOptions",
        "set_len",
        "tempfile",
    ];
    let others = sources().into_iter().filter(|s| s.room() != "store" && !s.is_test());
    let found = others.flat_map(|s| s.lines_with(&calls).collect::<Vec<_>>());
    none(found.collect(), "a file made, moved or removed outside store:");
}

#[test]
fn store_touches_files_in_one_module() {
    let calls =
        ["fs::write", "fs::rename", "fs::remove_", "fs::create_dir", "fs::create_dir_all", "OpenOptions"];
    let others = sources().into_iter().filter(|s| s.room() == "store" && !s.is_test());
    let others = others.filter(|s| s.path != "crates/store/src/files.rs");
    let found = others.flat_map(|s| s.lines_with(&calls).collect::<Vec<_>>());
    none(found.collect(), "outside crates/store/src/files.rs:");
}

#[test]
fn pure_rooms_read_no_clock_environment_or_file() {
    let words = [
        "std::time",
        "Instant",
        "SystemTime",
        "std::env",
        "env::var",
        "std::fs",
        "fs::read",
        "File",
        "std::process",
        "std::net",
    ];
    let pure = sources()
        .into_iter()
        .filter(|s| ["nn", "laws", "report", "base", "cuda"].contains(&s.room()) && !s.is_test());
    let found = pure.flat_map(|s| s.lines_with(&words).collect::<Vec<_>>());
    none(found.collect(), "nn, cuda, laws, report and base are functions of their arguments:");
}

#[test]
fn kernels_read_no_clock_environment_or_file() {
    // The pool may ask how many processors it was given; nothing else of the machine.
    let words =
        ["Instant", "SystemTime", "std::env", "env::var", "fs::read", "File", "std::process", "std::net"];
    let kernels = sources().into_iter().filter(|s| s.room() == "kernels" && !s.is_test());
    let found = kernels.flat_map(|s| s.lines_with(&words).collect::<Vec<_>>());
    none(found.collect(), "kernels take slices and give slices:");
}

#[test]
fn only_the_binary_prints_or_exits() {
    let words = ["println!", "eprintln!", "print!", "eprint!", "process::exit", "process::abort"];
    let libraries = sources().into_iter().filter(|s| s.room() != "isoflop" && !s.is_test());
    let found = libraries.flat_map(|s| s.lines_with(&words).collect::<Vec<_>>());
    none(found.collect(), "a library that speaks or leaves:");
}

/// The one file that opens connections, and those that take them: each refuses every address but this machine's own,
/// the server unless a token is set.
const SOCKETS: &[&str] = &[
    "crates/lab/src/instruments/notify.rs",
    "crates/watch/src/server/guard.rs",
    "crates/watch/src/server/mod.rs",
];

#[test]
fn no_source_opens_a_socket() {
    let words =
        ["std::net", "TcpStream", "TcpListener", "UdpSocket", "ToSocketAddrs", "UnixListener", "UnixStream"];
    let (loopback, others): (Vec<Source>, Vec<Source>) =
        sources().into_iter().filter(|s| !s.is_test()).partition(|s| SOCKETS.contains(&s.path.as_str()));
    assert_eq!(loopback.len(), SOCKETS.len(), "a file of SOCKETS is gone");
    for source in loopback {
        assert!(source.code.contains("is_loopback()"), "{} asks for no loopback address", source.path);
        let lookups = source.lines_with(&["ToSocketAddrs", "to_socket_addrs", "UdpSocket", "lookup_host"]);
        none(lookups.collect(), "a name that is looked up leads anywhere:");
        // One file connects, another listens, none does both.
        let connects = source.path.ends_with("notify.rs");
        let other = if connects { "TcpListener" } else { "TcpStream::connect" };
        none(source.lines_with(&[other]).collect(), "a file that listens and connects:");
    }
    // An address is named, nothing is opened with it.
    let addresses = |line: &String| !line.contains("crates/isoflop/src/verbs/watch.rs");
    let found = others.into_iter();
    let found = found.flat_map(|s| s.lines_with(&words).collect::<Vec<_>>()).filter(addresses);
    none(found.collect(), "a socket:");
}

#[test]
fn what_is_seen_of_a_store_is_only_read() {
    let words = ["lock_study", "create_or_open_run", "open_run", "remove_run", "write_artifact", "reindex"];
    let watch = sources().into_iter().filter(|s| s.room() == "watch" && !s.is_test());
    let found = watch.flat_map(|s| {
        let list = s.lines_with(&["Store::open", ".list("]).filter(|line| !line.contains("open_existing"));
        s.lines_with(&words).chain(list).collect::<Vec<_>>()
    });
    none(found.collect(), "the room that watches a store writes to it or locks it:");
}

#[test]
fn nothing_unfinished_and_no_swallowed_type() {
    let words = ["todo!", "unimplemented!", "dbg!", "Box<dyn std::error::Error", "Box<dyn Error"];
    let found = sources().into_iter().filter(|s| !s.is_test());
    none(found.flat_map(|s| s.lines_with(&words).collect::<Vec<_>>()).collect(), "unfinished:");
}

#[test]
fn no_committed_text_names_a_place_of_one_machine() {
    // Spelled in halves, so that this list does not find itself.
    let places = ["/ho|me/", "/ro|ot/", "/wo|rk/", "/tmp/tar|get", "/Us|ers/", "C:\\Us|ers"]
        .map(|p| p.replace('|', ""));
    let (root, mut paths) = (root(), Vec::new());
    for extension in ["rs", "md", "toml", "py", "sh", "txt"] {
        for folder in ["crates", "fixtures", "bench", "studies", "docs"] {
            if root.join(folder).is_dir() {
                files(&root.join(folder), extension, &mut paths);
            }
        }
    }
    for top in ["README.md", "ARCHITECTURE.md", "DECISIONS.md", "CHANGELOG.md", ".ci/run", "Cargo.toml"] {
        paths.push(root.join(top));
    }
    let mut found = Vec::new();
    for path in paths.iter().filter(|p| p.is_file()) {
        let text = String::from_utf8_lossy(&std::fs::read(path).expect("readable")).into_owned();
        for (index, line) in text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place.as_str())) {
                found.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    none(found, "a path of one machine:");
}

/// Names of all `#[test]` functions, those in `proptest!` blocks too.
fn test_names() -> Vec<String> {
    let mut names = Vec::new();
    for source in sources() {
        let mut marked = false;
        for line in source.text.lines().map(str::trim) {
            if line.starts_with("#[test]") {
                marked = true;
            } else if marked && let Some(rest) = line.strip_prefix("fn ") {
                names.push(
                    rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or("").to_string(),
                );
                marked = false;
            }
        }
    }
    names
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    assert!(
        text.lines().count() <= 250,
        "ARCHITECTURE.md has {} lines, 250 are allowed",
        text.lines().count()
    );
    let section =
        text.split("\n## ").find(|s| s.starts_with("Invariants")).expect("a section `## Invariants`");
    let (names, mut rows) = (test_names(), 0);
    for row in section.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| invariant")) {
        rows += 1;
        let tests = row.trim_end_matches(['|', ' ']).rsplit('|').next().expect("a last column");
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "an invariant without a test: {row}");
        for test in tests {
            assert!(
                names.iter().any(|n| n == test),
                "ARCHITECTURE.md names the test `{test}`, which does not exist"
            );
        }
    }
    assert!(rows >= 9, "only {rows} invariants found");
}
