//! A study drafted for what a user has: `isoflop init` looks at a path and writes a file that runs in the time given.

mod look;
mod series;

pub use look::{Found, look};
pub use series::{Series, choose, text};

use std::path::Path;

/// A study's name out of a path's: letters, digits and dashes.
pub fn name_of(path: &Path) -> String {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    // `books.txt.gz` and `train.bin` in `owt` are `books` and `owt`.
    let stem = match (stem.split('.').next().unwrap_or_default(), path.parent().and_then(Path::file_name)) {
        ("train" | "val" | "data", Some(folder)) => folder.to_string_lossy().into_owned(),
        (first, _) => first.to_owned(),
    };
    let mut name = String::new();
    for c in stem.to_ascii_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    let name: String = name.trim_end_matches('-').chars().take(40).collect();
    if name.is_empty() { "study".to_owned() } else { name }
}

/// A path as a string of a TOML file.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.to_string_lossy().into_owned()).to_string()
}

/// The draft of a few-shot study of a folder of class folders, of which the smallest class has `smallest` pictures.
pub fn pictures(name: &str, folder: &Path, classes: usize, smallest: usize) -> String {
    let most = smallest.saturating_sub(1).max(1);
    let shots = if smallest >= 10 { "[1, 5]" } else { "[1]" };
    let queries = most.saturating_sub(if smallest >= 10 { 4 } else { 0 }).clamp(1, 15);
    // A fifth of the classes is tested on, and the 16 % that choose the best epoch are fewer still.
    let ways = (classes * 16 / 100).clamp(2, 5);
    format!(
        "# {classes} classes of pictures in {folder}, the smallest of {smallest}. Every method from the same start, tested on the\n\
         # same episodes. `isoflop fewshot plan` says what it costs, `isoflop fewshot run` runs and resumes it.\n\
         \n\
         name = \"{name}\"\n\
         kind = \"fewshot\"\n\
         methods = [\"nearest-mean\", \"baseline++\", \"proto\", \"ccd-residual\", \"feat\"]\n\
         seeds = [1]                # more seeds say what the training's luck is worth\n\
         \n\
         [data]\n\
         folder = {path}            # folders train, val and test in it are the splits; else classes are divided 64/16/20\n\
         \n\
         [backbone]\n\
         network = \"conv4\"          # or resnet12\n\
         \n\
         [episodes]\n\
         ways = {ways}\n\
         shots = {shots}\n\
         queries = {queries}\n",
        folder = folder.display(),
        path = quoted(folder),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_studies() {
        for (path, name) in [
            ("/data/My Books (2).txt", "my-books-2"),
            ("books.txt.gz", "books"),
            ("owt/train.bin", "owt"),
            ("/", "study"),
            ("тексты", "study"),
        ] {
            assert_eq!(name_of(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn few_pictures_a_class_make_fewer_queries_and_shots() {
        for (smallest, shots, queries) in
            [(600, "[1, 5]", 15), (20, "[1, 5]", 15), (10, "[1, 5]", 5), (6, "[1]", 5), (2, "[1]", 1)]
        {
            let text = pictures("p", Path::new("a \"b\""), 100, smallest);
            let table: toml::Table = text.parse().unwrap();
            assert_eq!(table["episodes"]["shots"].to_string(), shots, "{smallest}");
            assert_eq!(table["episodes"]["queries"].as_integer(), Some(queries), "{smallest}");
            assert_eq!(table["data"]["folder"].as_str(), Some("a \"b\""));
        }
    }
}
