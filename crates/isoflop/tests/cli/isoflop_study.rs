//! A study of kind `isoflop` from its file to the page.

use crate::small_study::{complete, write};

const STUDY: &str = r#"
name = "budgets"
kind = "isoflop"

[data]
train = "train.bin"
val = "val.bin"

[series]
models = ["L1-d8-h1", "L1-d16-h2", "L2-d16-h2", "L1-d24-h3", "L2-d24-h3"]
flops = ["2e8", "6e8"]

[train]
context = 16
batch_tokens = 16
lr = 1e-2
threads = 1
eval_tokens = 1000
"#;

#[test]
fn every_model_ends_at_every_budget_and_the_page_says_where_it_is_best_spent() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    complete(dir.path(), "it", &[]);
    let out = dir.path().join("it/out");
    let mut reader = csv_rows(&std::fs::read_to_string(out.join("points.csv")).unwrap());
    reader.sort_by(|a, b| a.1.total_cmp(&b.1));
    for budget in [2e8, 6e8] {
        let spent = reader.iter().filter(|r| r.1 <= budget && r.1 > 0.9 * budget).count();
        assert_eq!(spent, 5, "{reader:?}");
    }
    let law: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("law.json")).unwrap()).unwrap();
    let approaches: Vec<&str> =
        law["allocation"].as_array().unwrap().iter().filter_map(|a| a["approach"].as_str()).collect();
    assert!(approaches.contains(&"argmin"), "{approaches:?}");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for text in ["<section id=\"budget\">", "Where a budget is best spent", "IsoFLOP valleys"] {
        assert!(page.contains(text), "{text} is not on the page");
    }
}

/// Run and FLOPs of every finished point.
fn csv_rows(csv: &str) -> Vec<(String, f64)> {
    let mut lines = csv.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let column = |name: &str| head.iter().position(|c| *c == name).unwrap();
    let (run, flops) = (column("run"), column("flops"));
    lines.map(|l| (l[run].to_owned(), l[flops].parse().unwrap())).collect()
}
