//! Few-shot studies: killed and gone on with, the same tables; one's own pictures; what is wrong is named.

use crate::common::{isoflop, run};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Every kind of run once, in a second or two: pre-training, a backbone that moves, one that does not, a sweep.
const STUDY: &str = r#"
name = "small"
kind = "fewshot"
methods = ["nearest-mean", "baseline++", "proto", "ccd", "feat"]
seeds = [1, 2]
[backbone]
width = 16
[pretrain]
epochs = 0.4
[episodes]
shots = [1]
queries = 5
count = 64
trained_count = 12
backbone = "frozen"
[test]
episodes = 60
[sweep]
methods = ["feat"]
classes = [0.2]
per_step = [2]
[train]
eval_episodes = 8
checkpoint_every = "50ms"
"#;

fn study(dir: &Path, text: &str) {
    std::fs::write(dir.join("study.toml"), text).unwrap();
}

/// What does not depend on the clock: accuracies of all episodes, and every weight.
fn outcome(dir: &Path, name: &str) -> Vec<(String, Vec<u8>)> {
    let out = dir.join(name);
    let mut found = vec![("episodes.csv".to_owned(), std::fs::read(out.join("out/episodes.csv")).unwrap())];
    let mut runs: Vec<_> = std::fs::read_dir(out.join("runs")).unwrap().map(|e| e.unwrap().path()).collect();
    runs.sort();
    for run in runs.iter().filter(|run| run.join("checkpoints").is_dir()) {
        for point in std::fs::read_dir(run.join("checkpoints")).unwrap() {
            let path = point.unwrap().path();
            for file in ["model.safetensors", "optimizer.safetensors"] {
                found.push((
                    path.join(file).display().to_string().replace(name, ""),
                    std::fs::read(path.join(file)).unwrap(),
                ));
            }
        }
    }
    found.sort();
    assert!(found.len() > 10, "{} files", found.len());
    found
}

fn args(name: &str) -> [String; 7] {
    let of = |part: &str| format!("{name}/{part}");
    ["fewshot", "run", "study.toml", "--store", &of("runs"), "--out", &of("out")].map(str::to_owned)
}

fn complete(dir: &Path, name: &str) -> String {
    let args = args(name);
    let (code, out, err) = run(dir, &args.each_ref().map(String::as_str));
    assert_eq!(code, 0, "{out}{err}");
    err
}

#[test]
fn a_few_shot_study_killed_anywhere_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    study(dir.path(), STUDY);
    let begun = Instant::now();
    let said = complete(dir.path(), "whole");
    let whole = begun.elapsed();
    for words in ["feat", "baseline++", "same episodes", "holds"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (mut killed, mut moment) = (0, 0.5_f64);
    for _ in 0..20 {
        let mut child = isoflop(dir.path())
            .args(args("killed"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        moment = (moment + 0.618_033_988_75) % 1.0;
        std::thread::sleep(whole.mul_f64(0.05 + 0.4 * moment).max(Duration::from_millis(20)));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
    }
    assert!(killed >= 5, "killed {killed} times");
    complete(dir.path(), "killed");
    let (whole, killed) = (outcome(dir.path(), "whole"), outcome(dir.path(), "killed"));
    for ((name, a), (other, b)) in whole.iter().zip(&killed) {
        assert_eq!(name, other, "the same files are left");
        assert!(a == b, "{name} differs");
    }
    assert_eq!(whole.len(), killed.len());
}

#[test]
fn the_document_of_a_few_shot_study_says_what_its_tables_say() {
    let dir = tempfile::tempdir().unwrap();
    study(
        dir.path(),
        &STUDY.replace("seeds = [1, 2]", "seeds = [1]").replace("classes = [0.2]\nper_step = [2]", ""),
    );
    let meter = "--set=meter.tdp_w=65";
    let (code, out, err) = run(dir.path(), &["fewshot", "run", "study.toml", meter, "--json"]);
    assert_eq!(code, 0, "{err}");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let table = std::fs::read_to_string(dir.path().join("small/results.csv")).unwrap();
    let rows = document["rows"].as_array().unwrap();
    assert_eq!((rows.len(), table.lines().count()), (5, 6));
    let episodes = std::fs::read_to_string(dir.path().join("small/episodes.csv")).unwrap();
    let names: Vec<&str> = episodes.lines().next().unwrap().split(',').skip(1).collect();
    for row in rows {
        let (method, mean) = (row["method"].as_str().unwrap(), row["accuracy"]["mean"].as_f64().unwrap());
        let column = 1 + names.iter().position(|n| *n == format!("{method}-k1-s1")).unwrap();
        let values: Vec<f64> = episodes
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(column).unwrap().parse().unwrap())
            .collect();
        assert_eq!(values.len(), 60);
        assert!((values.iter().sum::<f64>() / 60.0 - mean).abs() < 1e-4, "{method}");
        let line = table.lines().find(|line| line.starts_with(&format!("{method},"))).unwrap();
        assert!(line.split(',').nth(6).unwrap().parse::<f64>().unwrap() == mean, "{line}");
    }
    // A difference on identical episodes is narrower than two intervals side by side.
    let difference =
        document["differences"].as_array().unwrap().iter().find(|d| d["method"] == "nearest-mean");
    let half = difference.unwrap()["difference"]["half"].as_f64().unwrap();
    let alone = rows.iter().find(|r| r["method"] == "proto").unwrap()["accuracy"]["half"].as_f64().unwrap();
    assert!(half < alone, "{half} {alone}");
    let tex = std::fs::read_to_string(dir.path().join("small/table.tex")).unwrap();
    assert!(tex.contains("baseline++ & $") && tex.contains("\\end{tabular}"));
    let page = std::fs::read_to_string(dir.path().join("small/report.html")).unwrap();
    for words in
        ["id=\"cost\"", "What it cost", "a TDP of 65 W", "FLOP/s per watt", "planned for the largest run"]
    {
        assert!(page.contains(words), "`{words}` is not on the page");
    }
    let header: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    let cell = |method: &str, name: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("{method},"))).unwrap();
        let column = header.iter().position(|h| *h == name).unwrap_or_else(|| panic!("{name}"));
        line.split(',').nth(column).unwrap().to_owned()
    };
    let number = |method: &str, name: &str| {
        cell(method, name).parse::<f64>().unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    assert_eq!(
        (cell("nearest-mean", "trained_episodes"), cell("proto", "trained_episodes")),
        ("0".into(), "12".into())
    );
    assert!(number("proto", "flops") > number("nearest-mean", "flops"), "its pre-training, and more");
    let seconds = number("proto", "train_seconds") + number("proto", "pretrain_seconds");
    assert!((number("proto", "watts") * seconds / number("proto", "joules") - 1.0).abs() < 1e-9);
    assert!(cell("proto", "energy_from").starts_with("estimated: a TDP of 65 W"));
    // The images that go once through a frozen backbone take time, as they take operations.
    let points =
        |run: &str| std::fs::read_to_string(dir.path().join(format!("runs/{run}/points.jsonl"))).unwrap();
    let speed = |run: &str| {
        let line = points(run);
        let point: serde_json::Value =
            serde_json::from_str(&line[line.find('{').unwrap()..=line.rfind('}').unwrap()])
                .unwrap_or_else(|e| panic!("{e}: {line}"));
        let point = if point["point"].is_object() { point["point"].clone() } else { point };
        point["flops"].as_f64().unwrap() / point["seconds"]["value"].as_f64().unwrap()
    };
    let (whole, frozen) = (speed("small-pretrain-w16-s1"), speed("small-feat-k1-w16-s1"));
    assert!(frozen < 10.0 * whole, "{frozen:.1e} FLOP/s beside {whole:.1e}");
}

/// Filled squares, discs and stripes of differing sizes and places: three classes that can be told apart.
pub(crate) fn draw(path: &Path, class: usize, number: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let side = 28;
    let (x0, y0, r) = (9 + number % 9, 9 + number * 5 % 9, 5.0 + (number % 3) as f64);
    let ink = |x: usize, y: usize| {
        let (dx, dy) = (x as f64 - x0 as f64, y as f64 - y0 as f64);
        match class % 3 {
            0 => dx.abs().max(dy.abs()) < r,
            1 => dx * dx + dy * dy < r * r && dx * dx + dy * dy > (r - 2.0).powi(2),
            _ => (x + number) % 4 < 2 && dy.abs() < r,
        }
    };
    let mut pixels: Vec<u8> =
        (0..side * side).map(|i| if ink(i % side, i / side) { 255 } else { (number % 7) as u8 }).collect();
    // No two are alike.
    (pixels[0], pixels[1]) = ((number % 256) as u8, (number / 256) as u8);
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

#[test]
fn ones_own_pictures_are_learnt_from_and_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    for split in ["train", "val", "test"] {
        for class in 0..3 {
            for number in 0..12 {
                let name = format!("pictures/{split}/{split}-{class}/{number}.png");
                // No picture stands in two splits.
                let offset = ["train", "val", "test"].iter().position(|s| *s == split).unwrap() * 100;
                draw(&dir.path().join(name), class, number + offset + 37 * class);
            }
        }
    }
    let text = STUDY
        .replace(
            "[backbone]",
            "[data]\nfolder = \"pictures\"\nside = 28\nchannels = 1\nresize = 28\n[backbone]",
        )
        .replace("seeds = [1, 2]", "seeds = [1]")
        .replace("epochs = 0.4", "epochs = 30\nbatch = 16")
        .replace("queries = 5", "queries = 5\nways = 3")
        .replace("classes = [0.2]\nper_step = [2]", "");
    study(dir.path(), &text);
    let (code, _, err) = run(dir.path(), &["fewshot", "plan", "study.toml"]);
    assert_eq!(code, 0, "{err}");
    complete(dir.path(), "own");
    let predict = |invert: &[&str]| {
        let all = [
            "fewshot",
            "predict",
            "--checkpoint",
            "own/runs/small-feat-k1-w16-s1",
            "--support",
            "pictures/test",
        ];
        let pictures =
            ["pictures/val/val-0/3.png", "pictures/val/val-1/4.png", "pictures/val/val-2/5.png", "--json"];
        let (code, out, err) = run(dir.path(), &[&all[..], &pictures, invert].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()
    };
    let answers = predict(&[]);
    for (class, answer) in answers.as_array().unwrap().iter().enumerate() {
        let classes = answer["classes"].as_array().unwrap();
        assert_eq!(classes.len(), 3);
        assert_eq!(classes[0]["class"], format!("test-{class}"), "{answer}");
        let sum: f64 = classes.iter().map(|c| c["probability"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
    assert_ne!(predict(&["--invert"]), answers);
}

/// Class folders, drawings among them, that the study's methods are tested on besides its own.
#[test]
fn what_was_learnt_is_tested_on_other_pictures() {
    let dir = tempfile::tempdir().unwrap();
    for class in 0..6 {
        for number in 0..7 {
            draw(&dir.path().join(format!("shapes/shape-{class}/{number}.png")), class, number + 40 * class);
        }
        let bar = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 28 28'><path d='M{class} 2h9v20h-9z'/></svg>"
        );
        std::fs::write(dir.path().join(format!("shapes/shape-{class}/bar.svg")), bar).unwrap();
    }
    let text = STUDY
        .replace("episodes = 60", "episodes = 60\nalso = [\"shapes\"]")
        .replace("\"feat\"]\nseeds = [1, 2]", "\"feat\", \"proto-scratch\"]\nseeds = [1, 2]")
        .replace("classes = [0.2]\nper_step = [2]", "support = [1, 2, 3, 4]");
    study(dir.path(), &text);
    let (code, out, err) = run(dir.path(), &["fewshot", "run", "study.toml", "--json"]);
    assert_eq!(code, 0, "{err}");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let rows = document["elsewhere"].as_array().unwrap();
    assert_eq!(rows.len(), 6, "{rows:?}");
    for row in rows {
        assert_eq!((&row["set"], &row["classes"], &row["images"]), (&"shapes".into(), &6.into(), &48.into()));
        let mean = row["accuracy"]["mean"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&mean) && (row["difference"].is_null() == (row["method"] == "proto")));
    }
    // Shapes that differ as these do are told apart above chance by features of icons.
    assert!(rows[0]["accuracy"]["mean"].as_f64().unwrap() > 0.25, "{}", rows[0]);
    let table = std::fs::read_to_string(dir.path().join("small/elsewhere.csv")).unwrap();
    assert_eq!(table.lines().count(), 7);
    assert!(
        std::fs::read_to_string(dir.path().join("small/report.html")).unwrap().contains("On other pictures")
    );
    // What leads is said with its lead on the same episodes, and support images are a law.
    let lead = &document["leads"][0];
    assert!(lead["difference"]["mean"].as_f64().unwrap() >= 0.0 && lead["method"] != lead["against"]);
    let law = &document["laws"][0];
    assert_eq!((&law["axis"], law["points"].as_array().unwrap().len()), (&"shots".into(), 4));
    // From scratch nothing is started from.
    let scratch =
        document["rows"].as_array().unwrap().iter().find(|r| r["method"] == "proto-scratch").unwrap();
    assert!(scratch["accuracy"]["mean"].as_f64().unwrap() > 0.2 && scratch["head_params"] == 0);
    let spec = std::fs::read(dir.path().join("runs/small-proto-scratch-k1-w16-s1/spec.json")).unwrap();
    let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
    assert!(!spec.to_string().contains("checkpoints/point"), "{spec}");
    // A class too small is named, with the folder.
    for number in 2..7 {
        std::fs::remove_file(dir.path().join(format!("shapes/shape-3/{number}.png"))).unwrap();
    }
    let (code, _, err) = run(dir.path(), &["fewshot", "run", "study.toml"]);
    assert!(
        code == 2 && err.contains("shapes: class `shape-3` has 3 images") && err.contains("hint: "),
        "{err}"
    );
}

#[test]
fn prepared_pictures_are_studied_and_must_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = run(dir.path(), &["fewshot", "prepare-icons", "nowhere.tgz", "--out", "icons"]);
    assert!(code == 2 && err.contains("nowhere.tgz") && err.contains("hint: "), "{err}");
    std::fs::write(dir.path().join("set.images"), b"isoflop images 1\n").unwrap();
    study(dir.path(), &STUDY.replace("[backbone]", "[data]\nprepared = \"set.images\"\n[backbone]"));
    let (code, _, err) = run(dir.path(), &["fewshot", "run", "study.toml"]);
    assert!(code == 2 && err.contains("set.images") && err.contains("hint: "), "{err}");
    let header =
        r#"{"side":8,"channels":1,"splits":[{"name":"test","classes":[["a",1]]}],"fingerprint":"x"}"#;
    let mut bytes = b"isoflop images 1\n".to_vec();
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(64) + 64, 0);
    std::fs::write(dir.path().join("set.images"), &bytes).unwrap();
    let (code, _, err) = run(dir.path(), &["fewshot", "run", "study.toml"]);
    let words = ["set.images: pictures of 8 pixels and 1 channels", "28 pixels and 3 channels", "hint: "];
    assert!(code == 2 && words.iter().all(|word| err.contains(word)), "{err}");
}

#[test]
fn what_is_wrong_with_a_few_shot_study_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |from: &str, to: &str, words: &[&str]| {
        let text = STUDY.replace(from, to);
        assert_ne!(text, STUDY, "{from}");
        study(dir.path(), &text);
        let (code, _, err) = run(dir.path(), &["fewshot", "run", "study.toml"]);
        assert_eq!(code, 2, "{to}: {err}");
        for word in words.iter().chain(&["hint: "]) {
            assert!(err.contains(word), "{to}: {word} not in {err}");
        }
        assert!(!dir.path().join("runs/small-pretrain-w16-s1").exists());
    };
    refused("\"feat\"", "\"feet\"", &["study.toml:4", "feet", "ccd-residual"]);
    refused("epochs = 0.4", "epoch = 0.4", &["unknown key `pretrain.epoch`", "pretrain.epochs"]);
    refused("epochs = 0.4", "epochs = 0", &["pretrain.epochs", "nearest-mean"]);
    refused("shots = [1]", "shots = [30]", &["split `test`", "takes 35"]);
    refused("queries = 5", "queries = 5\nways = 500", &["500 ways"]);
    refused("shots = [1]", "shots = [0]", &["0 shots"]);
    refused("shots = [1]", "shots = [1, 1]", &["twice"]);
    refused("width = 16", "width = 16\nnetwork = \"resnet50\"", &["resnet50", "resnet12"]);
    refused("[backbone]", "[data]\nfolder = \"nowhere\"\n[backbone]", &["nowhere"]);
    refused("[backbone]", "[data]\nset = \"faces\"\n[backbone]", &["faces", "icons"]);
    refused("classes = [0.2]", "classes = [2]", &["no share"]);
    refused("kind = \"fewshot\"", "kind = \"scaling\"", &["isoflop run"]);
    study(dir.path(), STUDY);
    let (code, _, err) = run(dir.path(), &["run", "study.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("isoflop fewshot run"), "{err}");
    let (code, _, err) = run(
        dir.path(),
        &["fewshot", "predict", "--checkpoint", "nowhere", "--support", "nowhere", "nowhere.png"],
    );
    assert!(code == 2 && err.contains("nowhere") && err.contains("hint: "), "{err}");
}

#[test]
fn what_diverges_is_left_out_with_what_starts_from_it_and_the_rest_is_tested() {
    let dir = tempfile::tempdir().unwrap();
    study(dir.path(), &STUDY.replace("seeds = [1, 2]", "seeds = [1]"));
    let diverge = |name: &str, set: &str| {
        let args = args(name);
        let given = [&args.each_ref().map(String::as_str)[..], &["--set", set]].concat();
        let (code, _, err) = run(dir.path(), &given);
        assert_eq!(code, 3, "{set}: {err}");
        assert!(err.contains("diverged"), "{err}");
        std::fs::read_to_string(dir.path().join(name).join("out/results.csv")).unwrap()
    };
    let rest = diverge("heads", "episodes.lr=1e30");
    assert!(rest.contains("\nnearest-mean,") && !rest.contains("\nfeat,"), "{rest}");
    let nothing = diverge("all", "pretrain.lr=1e30");
    assert!(!nothing.contains("\nnearest-mean,") && !nothing.contains("\nproto,"), "{nothing}");
}
