//! `fit`, `predict`, `design` and `report points.csv` as people call them.

use crate::common::run;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// 30 rows of a known law on a grid, in the spelling of someone else's export, with three rows that cannot be used.
fn export() -> String {
    let mut out = String::from("Model Size,Training Tokens,eval/loss,State\n");
    for (i, n) in [1e6, 3e6, 1e7, 3e7, 1e8, 3e8].into_iter().enumerate() {
        for (j, d) in [1e8, 4e8, 1.6e9, 6.4e9, 2.5e10].into_iter().enumerate() {
            // A fixed wobble of about 0.3 %.
            let wobble = 1.0 + 0.003 * f64::sin((i * 7 + j * 11) as f64);
            let loss = (1.8 + 480.0 / f64::powf(n, 0.35) + 2000.0 / f64::powf(d, 0.36)) * wobble;
            let _ = writeln!(out, "{n},{d},{loss},finished");
        }
    }
    out.push_str("1e6,1e8,nan,finished\nbig,1e8,3.0,finished\n1e6,4e8,3.9,crashed\n");
    out
}

fn with_export() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("export.csv"), export()).unwrap();
    dir
}

/// Runs a command that must succeed; its stdout as JSON.
fn json(dir: &Path, args: &[&str]) -> Value {
    let (code, stdout, stderr) = run(dir, args);
    assert_eq!(code, 0, "{args:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {stdout}"))
}

/// Runs a command that must be refused as bad input, with a hint and nothing on stdout.
fn refused(dir: &Path, args: &[&str], parts: &[&str]) {
    let (code, stdout, stderr) = run(dir, args);
    assert_eq!(code, 2, "{args:?}: {stderr}");
    assert!(stdout.is_empty() && stderr.contains("hint: "), "{args:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?} without `{part}`: {stderr}");
    }
}

#[test]
fn a_foreign_table_gives_its_law_and_lists_what_was_not_used() {
    let dir = with_export();
    let args =
        ["fit", "export.csv", "--form", "l_nd_chinchilla", "--bootstrap", "50", "--json", "-o", "law.json"];
    let law = json(dir.path(), &args);
    assert_eq!(law["schema"], "isoflop.law/1");
    let fit = &law["fits"][0];
    assert_eq!(fit["rows_used"], 30);
    for key in
        ["starts_agree", "identified", "holdout", "recipe", "objective", "r2_loglog", "interval_method"]
    {
        assert!(!fit[key].is_null(), "{key}");
    }
    for name in ["E", "A", "B", "alpha", "beta"] {
        let p = &fit["params"][name];
        let (lo, value, hi) =
            (p["lo"].as_f64().unwrap(), p["value"].as_f64().unwrap(), p["hi"].as_f64().unwrap());
        assert!(lo < value && value < hi && p["se"].as_f64().unwrap() > 0.0, "{name}: {p}");
        assert_eq!(fit["identified"][name], true, "{name}");
    }
    let alpha = fit["params"]["alpha"]["value"].as_f64().unwrap();
    assert!((alpha - 0.35).abs() < 0.05, "{alpha}");
    let dropped: Vec<u64> =
        law["rows_dropped"].as_array().unwrap().iter().map(|d| d["row"].as_u64().unwrap()).collect();
    assert_eq!(dropped, [32, 33, 34]);
    let stored = std::fs::read_to_string(dir.path().join("law.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), law);
}

#[test]
fn people_read_the_same_law_as_a_table_and_as_latex() {
    let dir = with_export();
    let base = ["fit", "export.csv", "--form", "l_nd_chinchilla", "--bootstrap", "30"];
    let (code, stdout, _) = run(dir.path(), &base);
    assert_eq!(code, 0);
    for part in [
        "L = E + A/N^alpha + B/D^beta",
        "starts agree",
        "row 32",
        "row 33",
        "row 34",
        "`big` is not a number",
    ] {
        assert!(stdout.contains(part), "no `{part}` in {stdout}");
    }
    let (code, latex, _) = run(dir.path(), &[&base[..], &["--latex"]].concat());
    assert!(code == 0 && latex.contains("\\begin{tabular}") && latex.contains("\\alpha"), "{latex}");
    let (code, kaplan, _) = run(dir.path(), &["fit", "--kaplan"]);
    assert!(code == 0 && kaplan.contains("0.0520") && kaplan.contains("printed"), "{kaplan}");
}

#[test]
fn counts_are_read_as_people_write_them() {
    let dir = tempfile::tempdir().unwrap();
    let loss = |n: f64| 1.7 + 400.0 / n.powf(0.34);
    let mut text = String::from("Params;Tokens (B);Loss\r\n");
    for (written, n) in [
        ("10M", 1e7),
        ("30M", 3e7),
        ("0.1B", 1e8),
        ("300,000,000", 3e8),
        ("1.2B", 1.2e9),
        ("3_000_000_000", 3e9),
    ] {
        let _ = write!(text, "{written};20;{}\r\n", loss(n).to_string().replace('.', ","));
    }
    std::fs::write(dir.path().join("p.csv"), format!("\u{feff}{text}")).unwrap();
    let law = json(dir.path(), &["fit", "p.csv", "--form", "l_n", "--json"]);
    assert_eq!(law["rows_dropped"].as_array().unwrap().len(), 0, "{}", law["rows_dropped"]);
    let fit = law["fits"].as_array().unwrap().iter().find(|f| f["variant"] == "irreducible").unwrap();
    assert_eq!(fit["condition"]["tokens"], 2e10);
    assert!((fit["params"]["alpha"]["value"].as_f64().unwrap() - 0.34).abs() < 1e-6);
    let f = json(dir.path(), &["predict", "p.csv", "--params", "1.2B", "--tokens", "20B", "--json"]);
    assert_eq!((f["n"].as_f64(), f["d"].as_f64()), (Some(1.2e9), Some(2e10)));
    assert!((f["loss"].as_f64().unwrap() - loss(1.2e9)).abs() < 1e-3, "{f}");
}

#[test]
fn a_forecast_is_kept_with_its_hash_and_a_change_to_it_shows() {
    let dir = with_export();
    let args = ["predict", "export.csv", "--params", "1B", "--tokens", "50B", "--register", "--json"];
    let forecast = json(dir.path(), &args);
    let number = |key: &str| forecast[key].as_f64().unwrap();
    assert!(number("lo") < number("loss") && number("loss") < number("hi"), "{forecast}");
    let path = dir.path().join(forecast["registered"].as_str().unwrap());
    let kept = std::fs::read_to_string(&path).unwrap();
    let record: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(record["forecast"]["loss"], forecast["loss"]);
    assert_eq!(record["sha256"].as_str().unwrap().len(), 64);
    let (code, stdout, _) = run(dir.path(), &["predict", "export.csv", "--flops", "1e21"]);
    assert!(code == 0 && stdout.contains("best use of"), "{stdout}");
}

/// A store with runs of the given (id, shape, loss) at 1 M tokens, all with this status; `None` notes none.
pub(crate) fn store(dir: &Path, runs: &[(&str, &str, f64)], status: Option<isoflop_base::Status>) {
    let store = isoflop_store::Store::open(dir.join("runs")).unwrap();
    for (id, shape, loss) in runs {
        let shape: isoflop_base::ModelShape = shape.parse().unwrap();
        let seed: u64 = id.rsplit_once("-s").expect("an id ends with its seed").1.parse().unwrap();
        let mut run = store.create_or_open_run(id, &serde_json::json!({})).unwrap();
        let point = serde_json::json!({
            "run": id, "kind": "final", "shape": shape, "params": shape.params(), "params_total": shape.params() + 10_000,
            "tokens": 1_000_000, "flops": 6e6 * shape.params() as f64 * 1.3, "flops_6nd": 6e6 * shape.params() as f64,
            "loss": loss, "loss_se": 0.01, "bits_per_byte": null, "epochs": 0.1, "unique_tokens": 1_000_000,
            "steps": 500, "batch_tokens": 2000, "lr": 1e-3, "schedule": "wsd", "init": "scaled", "context": 256,
            "vocab": 256, "seed": seed, "precision": "f32", "kernels": "portable",
            "seconds": isoflop_base::Measured::measured(2.0 * shape.params() as f64 / 1e4),
            "tokens_per_s": isoflop_base::Measured::measured(5e9 / shape.params() as f64),
            "energy_j": isoflop_base::Measured::<f64>::missing("no meter"), "blocks": [],
        });
        run.add_point(1, &serde_json::from_value(point).unwrap()).unwrap();
        if let Some(status) = status.clone() {
            run.set_status(status).unwrap();
        }
    }
}

const DONE: Option<isoflop_base::Status> = Some(isoflop_base::Status::Done);

const SMALL: [(&str, &str, f64); 4] = [
    ("a-L2-d24-h2-s1", "L2-d24-h2", 2.30),
    ("a-L2-d32-h2-s1", "L2-d32-h2", 2.16),
    ("a-L2-d48-h3-s1", "L2-d48-h3", 2.00),
    ("a-L3-d64-h4-s1", "L3-d64-h4", 1.86),
];

#[test]
fn the_report_shows_a_registered_forecast_against_its_outcome() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path(), &SMALL, DONE);
    let forecast =
        json(dir.path(), &["predict", "--params", "150528", "--tokens", "1M", "--register", "--json"]);
    let report = |dir: &Path| json(dir, &["report", "-o", "r.html", "--json"])["forecasts"].clone();
    let before = report(dir.path());
    assert!(before[0]["forecast"]["outcome"].is_null(), "{before}");
    // The run that tests it: L3-d64 has 147,456 parameters, so this one is another size.
    let shape: isoflop_base::ModelShape = "L3-d64-h4".parse().unwrap();
    assert_ne!(shape.params(), 150_528);
    store(dir.path(), &[("a-L4-d56-h4-s1", "L4-d56-h4", 1.85)], DONE);
    let after = report(dir.path());
    let outcome = &after[0]["forecast"]["outcome"];
    assert_eq!(outcome["observed"], 1.85, "{after}");
    assert!(outcome["words"].as_str().unwrap().contains("forecast"), "{outcome}");
    assert_eq!(after[0]["forecast"]["loss"], forecast["loss"]);
    let page = std::fs::read_to_string(dir.path().join("r.html")).unwrap();
    assert!(page.contains("a-L4-d56-h4-s1"), "the page does not name the run that tested the forecast");
    // A forecast that was changed afterwards is not shown, and said so.
    let path = dir.path().join(forecast["registered"].as_str().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let loss = forecast["loss"].to_string();
    assert!(text.contains(&loss));
    std::fs::write(&path, text.replace(&loss, "1.85")).unwrap();
    assert_eq!(report(dir.path()).as_array().unwrap().len(), 0);
    assert!(std::fs::read_to_string(dir.path().join("r.html")).unwrap().contains("was changed since"));
}

#[test]
fn parquet_gives_the_law_of_the_same_rows_in_csv() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path(), &SMALL, DONE);
    for format in ["csv", "parquet"] {
        let files = json(dir.path(), &["runs", "export", "--format", format, "-o", ".", "--json"]);
        assert_eq!(files["files"].as_array().unwrap().len(), 2, "{files}");
    }
    let law = |args: &[&str]| json(dir.path(), &[&["fit"], args, &["--form", "l_n", "--json"]].concat());
    let (text, typed) = (law(&["points.csv"]), law(&["points.parquet"]));
    assert_eq!(text["fits"][0]["params"], typed["fits"][0]["params"]);
    assert_eq!(text["notes"], typed["notes"]);
    let near = ["--params", "200k", "--tokens", "1M", "--json"];
    let forecast = |file: &str| json(dir.path(), &[&["predict", file], &near[..]].concat());
    assert_eq!(forecast("points.csv"), forecast("points.parquet"));
    let (code, _, stderr) = run(dir.path(), &["report", "points.parquet"]);
    assert!(code == 0, "{stderr}");
}

#[test]
fn bad_rows_of_a_parquet_table_are_listed_by_their_number() {
    use isoflop_data::parquet::{Column, Value, write};
    let dir = tempfile::tempdir().unwrap();
    let text = |cells: &[&str]| cells.iter().map(|c| Value::Text((*c).to_owned())).collect::<Vec<_>>();
    let columns = [
        Column { name: "Params".into(), values: text(&["10M", "30M", "100M", "300M", "big", "1B"]) },
        Column { name: "tokens".into(), values: vec![Value::Int(20_000_000_000); 6] },
        Column {
            name: "val_loss".into(),
            values: [3.4, 3.0, 2.7, 2.5, 2.4, -1.0].into_iter().map(Value::Float).collect(),
        },
    ];
    std::fs::write(dir.path().join("p.parquet"), write(&columns)).unwrap();
    let law = json(dir.path(), &["fit", "p.parquet", "--form", "l_n", "--json"]);
    let dropped: Vec<u64> =
        law["rows_dropped"].as_array().unwrap().iter().map(|d| d["row"].as_u64().unwrap()).collect();
    assert_eq!(dropped, [5, 6]);
    assert_eq!(law["fits"][0]["rows_used"], 4);
    let whole = write(&columns);
    for (name, bytes) in [("cut.parquet", &whole[..whole.len() / 2]), ("torn.parquet", b"PAR1".as_slice())] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        refused(dir.path(), &["fit", name], &[name, "no Parquet file, or one cut short"]);
    }
}

#[test]
fn plain_runs_give_laws_of_minimal_compute_and_steps_by_a_critical_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::from("params,tokens,steps,batch_tokens,loss\n");
    for n in [1e6, 4e6, 1.6e7, 6.4e7f64] {
        for (steps, batch) in [(3e3, 131_072.0), (3e4, 262_144.0), (3e5, 524_288.0f64)] {
            let loss = (6.5e13 / n).powf(0.077) + f64::powf(2.1e3 / steps, 0.76);
            let _ = writeln!(text, "{n},{},{steps},{batch},{loss}", steps * batch);
        }
    }
    std::fs::write(dir.path().join("runs.csv"), text).unwrap();
    let law = json(
        dir.path(),
        &["fit", "runs.csv", "--b-crit", "2e8,0.21", "--form", "l_ns", "--form", "l_cmin", "--json"],
    );
    let forms: Vec<&str> =
        law["fits"].as_array().unwrap().iter().map(|f| f["form"].as_str().unwrap()).collect();
    assert!(forms.contains(&"l_ns") && forms.contains(&"l_cmin"), "{forms:?}");
    assert!(law["notes"].to_string().contains("S_min = S/(1 + B_crit(L)/B)"), "{}", law["notes"]);
    refused(dir.path(), &["fit", "runs.csv", "--form", "l_cmin"], &["`c_min`"]);
    refused(dir.path(), &["fit", "runs.csv", "--b-crit", "lots"], &["--b-crit lots", "2e8,0.21"]);
    refused(dir.path(), &["fit", "runs.csv", "--b-crit", "2e8,-1"], &["positive"]);
    refused(dir.path(), &["fit", "runs.csv", "--b-crit", "fit"], &["column b_crit"]);
}

#[test]
fn a_table_of_steps_and_batches_needs_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::from("model,target_loss,batch,steps\n");
    for batch in [64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0f64] {
        let _ = writeln!(text, "small,3.0,{batch},{}", 1000.0 + 400_000.0 / batch);
    }
    std::fs::write(dir.path().join("steps.csv"), &text).unwrap();
    let law = json(dir.path(), &["fit", "steps.csv", "--json"]);
    let fit = &law["fits"][0];
    assert_eq!((fit["form"].as_str(), law["fits"].as_array().unwrap().len()), (Some("hyperbola"), 1));
    assert!((fit["params"]["B_crit"]["value"].as_f64().unwrap() - 400.0).abs() < 1e-3, "{fit}");
    refused(dir.path(), &["predict", "steps.csv", "--params", "1M", "--tokens", "1M"], &["`n`"]);
    std::fs::write(dir.path().join("none.csv"), text.replace("steps", "what")).unwrap();
    refused(dir.path(), &["fit", "none.csv"], &["no column for the loss", "--column loss=NAME"]);
}

#[test]
fn mixtures_of_several_sources_are_fitted() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::from("mix_web,mix_code,mix_books,val_loss\n");
    for i in 0..5 {
        for j in 0..(5 - i) {
            let (web, code) = (f64::from(i) / 4.0, f64::from(j) / 4.0);
            let loss = 1.9 + (0.2 - web + 0.6 * code).exp();
            let _ = writeln!(text, "{web},{code},{},{loss}", 1.0 - web - code);
        }
    }
    std::fs::write(dir.path().join("mix.csv"), text).unwrap();
    let law = json(dir.path(), &["fit", "mix.csv", "--json"]);
    let fit = law["fits"].as_array().unwrap().iter().find(|f| f["form"] == "mixture").unwrap();
    assert_eq!(fit["variant"], "2 shares");
    assert!((fit["params"]["c"]["value"].as_f64().unwrap() - 1.9).abs() < 1e-6, "{fit}");
}

#[test]
fn a_design_is_a_study_that_plan_understands() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["design", "--budget", "2e13", "--about", "alpha", "-o", "study.toml"];
    let (code, stdout, stderr) = run(dir.path(), &args);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("std. error"), "{stdout}");
    let (code, _, stderr) = run(dir.path(), &["plan", "study.toml", "--no-timing"]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_design_takes_the_users_sizes_and_recipe() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("mine.toml"),
        "name = \"mine\"\n[data]\ncorpus = \"builtin\"\n[series]\nmodels = [\"L1-d16-h2\", \"L2-d24-h2\", \"L2-d40-h2\", \"L3-d64-h4\"]\n\
         tokens = \"2M\"\n[train]\ncontext = 128\nbatch_tokens = 1024\nschedule = \"cosine\"\nlr = 3e-3\n",
    )
    .unwrap();
    let args = ["design", "--budget", "1e13", "--study", "mine.toml", "-o", "next.toml", "--json"];
    let answer = json(dir.path(), &args);
    let best = &answer["proposals"][0];
    let own = ["L1-d16-h2", "L2-d24-h2", "L2-d40-h2", "L3-d64-h4"];
    assert!(best["models"].as_array().unwrap().iter().all(|m| own.contains(&m.as_str().unwrap())), "{best}");
    assert!(
        best["branches"].as_array().unwrap().is_empty() && best["flops"].as_f64().unwrap() <= 1e13,
        "{best}"
    );
    let next = std::fs::read_to_string(dir.path().join("next.toml")).unwrap();
    for part in ["context = 128", "schedule = \"cosine\"", "lr = 0.003"] {
        assert!(next.contains(part), "no `{part}` in {next}");
    }
    json(dir.path(), &["plan", "next.toml", "--no-timing", "--json"]);
    let sizes = "L2-d24-h2,L2-d32-h2,L2-d48-h3";
    let chosen = json(dir.path(), &["design", "--budget", "1e13", "--sizes", sizes, "--json"]);
    assert_eq!(chosen["proposals"][0]["models"].as_array().unwrap().len(), 3, "{chosen}");
    refused(dir.path(), &["design", "--budget", "1e13", "--sizes", "L2-d24-h2,L2"], &["--sizes", "`L2`"]);
    refused(dir.path(), &["design", "--budget", "1e13", "--sizes", "L2-d24-h2"], &["1 sizes tell nothing"]);
}

/// Losses of the built-in series at 4, 6 and 10 M tokens.
const SERIES: &str = "n,d,loss\n6912,4e6,2.009\n6912,6e6,1.912\n6912,10e6,1.861\n13824,4e6,1.986\n13824,6e6,1.875\n\
                      13824,10e6,1.802\n24576,4e6,1.786\n24576,6e6,1.738\n24576,10e6,1.706\n147456,4e6,1.603\n\
                      147456,6e6,1.534\n147456,10e6,1.475\n307200,4e6,1.568\n307200,6e6,1.498\n786432,4e6,1.529\n\
                      786432,6e6,1.452\n";

#[test]
fn the_built_in_series_is_about_what_design_proposes_for_its_time() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("series.csv"), SERIES).unwrap();
    let demo = crate::tidy::root().join("studies/demo.toml").display().to_string();
    let common = ["design", "series.csv", "--afresh", "--budget", "157e12", "--study", &demo];
    let asked = ["--about", "alpha,beta,E", "--least-tokens", "4M", "--least-sizes", "7", "--json"];
    let answer = json(dir.path(), &[&common[..], &asked].concat());
    let se = |plan: &serde_json::Value| plan["expected_se"].as_f64().unwrap();
    let best = &answer["proposals"][0];
    assert_eq!(best["models"].as_array().unwrap().len(), 7, "{best}");
    assert!(
        best["tokens"].as_u64() >= Some(8_000_000) && best["flops"].as_f64().unwrap() <= 157e12,
        "{best}"
    );
    // Further seeds where they are cheap, as the series has them.
    let seeds: Vec<u64> = best["seeds"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).collect();
    assert!(seeds[0] > 1 && seeds[6] == 1, "{best}");
    assert!(se(&answer["study"]) < 1.02 * se(best), "{answer}");
    let several: f64 =
        ["alpha", "beta", "E"].iter().map(|q| best["expected_se_of"][q].as_f64().unwrap().ln()).sum();
    assert!(((several / 3.0).exp() / se(best) - 1.0).abs() < 1e-9, "{best}");
    // Half the time tells less, and what is written is a study.
    let half = [
        "design",
        "series.csv",
        "--afresh",
        "--budget",
        "80e12",
        "--study",
        &demo,
        "-o",
        "half.toml",
        "--json",
    ];
    let half = json(dir.path(), &[&half[..], &["--about", "alpha,beta,E"]].concat());
    assert!(se(&half["proposals"][0]) > 0.9 * se(best));
    let planned = json(dir.path(), &["plan", "half.toml", "--no-timing", "--json"]);
    let runs: u64 =
        half["proposals"][0]["seeds"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).sum();
    assert_eq!(planned["rows"].as_array().unwrap().len() as u64, runs);
    let zero = ["design", "--budget", "1e13", "--least-tokens", "1e12"];
    refused(dir.path(), &zero, &["too few", "--least-tokens"]);
}

#[test]
fn a_budget_in_time_uses_the_speed_that_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path(), &SMALL, DONE);
    let answer = json(dir.path(), &["design", "--budget", "10m", "--json"]);
    assert!(answer["speed"].as_str().unwrap().contains("measured in 4 runs"), "{answer}");
    for p in answer["proposals"].as_array().unwrap() {
        assert!(p["seconds"].as_f64().unwrap() <= 600.0, "{p}");
    }
    // The store says 6·1.3·5e9 FLOP/s at every size.
    let given = json(dir.path(), &["design", "--budget", "10m", "--flop-per-s", "39e9", "--json"]);
    assert_eq!(answer["proposals"][0]["models"], given["proposals"][0]["models"]);
    assert_eq!(answer["proposals"][0]["tokens"], given["proposals"][0]["tokens"]);
}

#[test]
fn a_table_from_elsewhere_gets_a_page() {
    let dir = with_export();
    let args = ["report", "export.csv", "--bootstrap", "20", "-o", "page.html", "--json"];
    let document = json(dir.path(), &args);
    assert_eq!(document["schema"], "isoflop.page/1");
    assert!(document["law"]["fits"].as_array().unwrap().len() > 1);
    let page = std::fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert_eq!(page.len() as u64, document["bytes"].as_u64().unwrap());
    for part in ["<svg", "esidual", "not a number", "export.csv"] {
        assert!(page.contains(part), "no `{part}` on the page");
    }
    json(dir.path(), &args);
    assert_eq!(std::fs::read_to_string(dir.path().join("page.html")).unwrap(), page, "not the same bytes");
}

#[test]
fn what_cannot_be_fitted_is_said_with_a_hint() {
    let dir = with_export();
    std::fs::write(dir.path().join("short.csv"), "n,d,loss\n1e6,1e8,3\n2e6,1e8,2.9\n").unwrap();
    std::fs::write(dir.path().join("bad.csv"), "n,d,loss\n1e6,1e8,x\n2e6,-1,2.9\n").unwrap();
    for (args, parts) in [
        (&["fit", "none.csv"][..], &["cannot read none.csv"][..]),
        (&["fit", "export.csv", "--form", "l_nd_chinchila"], &["did you mean `l_nd_chinchilla`"]),
        (&["fit", "export.csv", "--column", "loss=bits"], &["has no column `bits`", "eval/loss"]),
        (&["fit", "export.csv", "--column", "loss"], &["--column loss"]),
        (&["fit", "export.csv", "--where", "State=lost"], &["no row has State = lost"]),
        (&["fit", "export.csv", "--weights", "se"], &["standard error"]),
        (&["fit", "export.csv", "--delta", "0"], &["delta 0"]),
        (&["fit", "export.csv", "--level", "1.5"], &["level 1.5"]),
        (&["fit", "export.csv", "--convention", "total"], &["params_total"]),
        (&["fit", "export.csv", "--form", "b_crit"], &["`b_crit`", "--column b_crit=NAME"]),
        (&["fit", "short.csv", "--form", "l_nd_chinchilla"], &["at least 6 usable rows", "there are 2"]),
        (&["fit", "short.csv"], &["at least"]),
        (&["fit", "bad.csv"], &["2 rows were dropped", "row 2", "`x` is not a number"]),
        (&["report", "short.csv"], &["at least"]),
        (&["fit"], &["no finished run"]),
        (&["predict"], &["no finished run"]),
        (&["report"], &["nothing to report"]),
        (&["predict", "export.csv"], &["nothing to forecast"]),
        (&["predict", "export.csv", "--params=-3"], &["--params"]),
        (&["predict", "export.csv", "--params", "1B", "--tokens", "many"], &["--tokens", "`many`"]),
        (
            &["predict", "export.csv", "--params", "1", "--tokens", "1", "--flops", "1"],
            &["one thing too many"],
        ),
        (&["predict", "short.csv", "--params", "1B", "--tokens", "1B"], &["at least 6"]),
        (&["design", "--budget", "2h"], &["needs a speed"]),
        (&["design", "--budget", "5"], &["too few"]),
        (&["design", "--budget", "1e14", "--about", "zeta"], &["`zeta`", "alpha"]),
    ] {
        refused(dir.path(), args, parts);
    }
}

#[test]
fn files_that_are_no_tables_are_refused_by_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    file("empty.csv", b"");
    file("blank.csv", b"\n \n");
    file("header.csv", b"n,d,loss\n");
    file("latin.csv", b"n,d,loss\n1e6,1e8,3.1 \xe9\n");
    file("utf16.csv", b"\xff\xfen\0,\0");
    file("numbers.csv", b"1e6,1e8,3\n2e6,1e8,2.9\n");
    file("torn.jsonl", b"{\"n\": 1e6, \"d\": 1");
    file("torn.json", b"[{\"n\": 1e6, \"loss\"");
    file("huge.csv", b"n,d,loss\n1e400,1e8,3\n1e6,9e999,2\n1e6,1e8,1e-400\n99999999999999999999999999999999999999999999999e300,1,1\n");
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    for (name, parts) in [
        ("empty.csv", &["empty.csv is empty"][..]),
        ("blank.csv", &["blank.csv is empty"]),
        ("header.csv", &["the table is empty"]),
        ("latin.csv", &["`3.1 é` is not a number", "row 2"]),
        ("utf16.csv", &["no column for the loss", "its columns are: n"]),
        ("numbers.csv", &["no header line"]),
        ("torn.jsonl", &["torn.jsonl", "line 1"]),
        ("torn.json", &["torn.json"]),
        ("huge.csv", &["4 rows were dropped", "row 2"]),
        ("folder", &["folder", "directory"]),
    ] {
        refused(dir.path(), &["fit", name], parts);
        refused(dir.path(), &["predict", name, "--params", "1M", "--tokens", "1M"], &parts[..1]);
        refused(dir.path(), &["design", name, "--budget", "1e14"], &parts[..1]);
        if name != "folder" {
            refused(dir.path(), &["report", name], &parts[..1]);
        }
    }
    refused(dir.path(), &["report", "folder"], &["nothing to report"]);
}
