//! Every command in a `sh` block of `docs/` does what the book says, on small models.

use crate::common::isoflop;
use crate::fewshot::draw;
use std::fs;
use std::path::{Path, PathBuf};

/// What makes a study of the book take a second.
const SMALL: [&str; 6] = [
    "series.models=[\"L1-d8-h1\", \"L1-d16-h1\", \"L1-d24-h2\", \"L1-d32-h2\", \"L2-d32-h2\"]",
    "series.tokens=60k",
    "series.branches=[\"30k\"]",
    "series.extra_seeds={}",
    "train.batch_tokens=512",
    "train.eval_tokens=16k",
];

fn chapters() -> Vec<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut found: Vec<PathBuf> = fs::read_dir(docs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    found.sort();
    found
}

/// What a reader of the book has lying about.
fn belongings(dir: &Path) {
    let text: String = (0..8_000).map(|i| format!("Sentence number {i} of a book, {}.\n", i * i)).collect();
    fs::write(dir.join("book.txt"), &text).unwrap();
    let documents: String = (0..2_000)
        .map(|i| format!("{{\"text\": \"Document {} says {}.\"}}\n", i % 1_500, i % 1_500 * 7))
        .collect();
    fs::write(dir.join("docs.jsonl"), documents).unwrap();
    let mut table = "params,tokens,loss\n".to_owned();
    for n in [1e6, 2e6, 4e6, 8e6, 1.6e7, 3.2e7] {
        for d in [1e8, 4e8, 1.6e9] {
            let loss: f64 = 1.7 + 400.0 / f64::powf(n, 0.34) + 600.0 / f64::powf(d, 0.3);
            table.push_str(&format!("{n},{d},{loss}\n"));
        }
    }
    fs::write(dir.join("points.csv"), table).unwrap();
    for class in 0..25 {
        for number in 0..10 {
            draw(&dir.join(format!("pictures/class-{class}/{number}.png")), class, number + 10 * class);
        }
    }
}

/// A file that the chapter shows indented, named before it as "in `NAME`:".
fn shown_files(chapter: &str, dir: &Path) {
    for (at, _) in chapter.match_indices("in `") {
        let Some((name, rest)) = chapter[at + 4..].split_once('`') else { continue };
        if !name.ends_with(".toml") || name.contains('/') || !rest.starts_with(":\n") {
            continue;
        }
        let lines = rest[2..].lines().skip_while(|line| line.is_empty());
        let shown = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
        let text: Vec<&str> = shown.map(str::trim_start).collect();
        fs::write(dir.join(name), text.join("\n")).unwrap();
    }
}

fn commands(chapter: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in chapter.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside && !line.is_empty() {
            found.push(line.to_owned());
        }
    }
    found
}

/// Words of a command, quotes taken off.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in command.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

#[test]
fn every_command_of_the_book_runs() {
    let mut ran = 0;
    for path in chapters() {
        let chapter = fs::read_to_string(&path).unwrap();
        let commands = commands(&chapter);
        if commands.is_empty() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        belongings(dir.path());
        shown_files(&chapter, dir.path());
        for command in commands {
            let words = words(&command);
            assert_eq!(words[0], "isoflop", "{}: {command}", path.display());
            let mut process = isoflop(dir.path());
            process.args(&words[1..]);
            // A study that the chapter shows is small as it stands.
            let shown = words.iter().any(|word| word.ends_with("junk.toml"));
            if matches!(words[1].as_str(), "demo" | "run" | "plan") && !shown {
                process.args(SMALL.iter().flat_map(|set| ["--set", set]));
            }
            let output = process.output().unwrap();
            assert!(
                output.status.success(),
                "{}: {command}\n{}",
                path.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            ran += 1;
        }
    }
    assert!(ran >= 20, "{ran} commands");
}

#[test]
fn every_link_of_the_book_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for path in chapters().into_iter().chain([root.join("README.md"), root.join("COMPARE.md")]) {
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("](") {
            let Some((target, _)) = text[at + 2..].split_once(')') else { continue };
            let outside = target.contains("://") || target.starts_with('#');
            let file = path.parent().unwrap().join(target.split('#').next().unwrap());
            assert!(outside || file.exists(), "{}: {target}", path.display());
        }
    }
}
