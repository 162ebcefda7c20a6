//! Whole commands on a card: the emulated driver stands where the machine's would. Without a C++ compiler to build it
//! there is nothing to run.

use crate::common::isoflop;
use crate::small_study::{STUDY, assert_same, fingerprint, write};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The emulated driver, built once.
fn driver() -> Option<&'static PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("ISOFLOP_EMULATOR") {
                return Some(PathBuf::from(path));
            }
            let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
            Command::new(compiler).arg("--version").output().ok()?;
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("emulator");
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda/emulator/build.sh");
            let output = Command::new("sh").arg(script).arg(&folder).arg("driver").output().expect("a shell");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(folder.join("libcuda.so.1"))
        })
        .as_ref()
}

/// A command that finds this library as the CUDA driver.
fn with(dir: &Path, driver: &Path, args: &[&str]) -> Command {
    let mut command = isoflop(dir);
    command.env("ISOFLOP_CUDA_DRIVER", driver).args(args);
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Two sizes are enough: the kernels run on one core, each access watched.
const SMALL: [&str; 8] = [
    "--set",
    "series.models=[\"L1-d8-h1\", \"L1-d16-h2\"]",
    "--set",
    "series.tokens=2560",
    "--set",
    "series.branches=[1280]",
    "--set",
    "train.eval_tokens=400",
];

/// Runs `whole` in peace, and `killed` with a kill in the middle of that time and then again to its end.
fn whole_and_killed(run: &dyn Fn(&str) -> Command) {
    let begun = std::time::Instant::now();
    let output = run("whole").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let whole = begun.elapsed();
    let quiet = std::process::Stdio::null;
    let mut killed = run("killed").stdout(quiet()).stderr(quiet()).spawn().unwrap();
    std::thread::sleep(whole.mul_f64(0.5));
    let _ = killed.kill();
    killed.wait().unwrap();
    let output = run("killed").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_study_on_a_card_comes_to_its_end_and_to_the_same_end_after_a_kill() {
    let Some(driver) = driver() else { return };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let run = |name: &str| {
        let (store, out) = (format!("{name}/runs"), format!("{name}/out"));
        let mut command = with(dir.path(), driver, &["run", "study.toml", "--device", "cuda"]);
        command.args(["--store", &store, "--out", &out]).args(SMALL);
        command
    };
    whole_and_killed(&run);
    assert_same(&fingerprint(dir.path(), "whole"), &fingerprint(dir.path(), "killed"), "after a kill");
    // What a processor would have made is another run: its kernel set is part of what it is.
    let on_processor = ["run", "study.toml", "--store", "whole/runs", "--out", "other"];
    let output = isoflop(dir.path()).args(on_processor).args(SMALL).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("train.kernels"), "{}", said(&output));
}

#[test]
fn doctor_lists_the_cards_of_a_driver_and_says_in_a_line_that_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let cuda = |driver: &Path| -> (Value, String) {
        let output = with(dir.path(), driver, &["doctor", "--json"]).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let page = with(dir.path(), driver, &["doctor"]).output().unwrap();
        assert!(output.status.success() && page.status.success(), "{}", said(&page));
        (document["cuda"].clone(), said(&page))
    };
    let (none, page) = cuda(Path::new("not-there.so"));
    assert_eq!(none["driver"]["provenance"], "missing");
    let lines = page.lines().filter(|line| line.starts_with("cuda")).collect::<Vec<_>>();
    assert!(lines.len() == 1 && lines[0].contains("install NVIDIA's driver"), "{page}");
    let Some(driver) = driver() else { return };
    let (found, page) = cuda(driver);
    let card = &found["cards"]["value"][0];
    assert_eq!(card["capability"], serde_json::json!([8, 9]), "{found}");
    assert_eq!(card["why_not"], Value::Null, "{found}");
    assert!(page.contains("compute capability 8.9"), "{page}");
}

#[test]
fn a_study_is_planned_for_a_card_that_is_not_here() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let plan = |args: &[&str]| {
        let output = isoflop(dir.path()).args(["plan", "study.toml", "--json"]).args(args).output().unwrap();
        (output.status.code(), said(&output), output.stdout)
    };
    let (code, text, document) = plan(&["--device", "RTX 4080"]);
    assert_eq!(code, Some(0), "{text}");
    let document: Value = serde_json::from_slice(&document).unwrap();
    let groups: Vec<&str> = document["shapes"][0]["memory"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|group| group[0].as_str())
        .collect();
    assert!(groups.contains(&"operand weights") && groups.contains(&"weights"), "{groups:?}");
    let (code, text, _) = plan(&["--device", "RTX 9999"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("RTX 4080") && text.contains("hint:"), "{text}");
    let (code, text, _) = plan(&["--device", "RTX 4080", "--set", "train.precision=fp16"]);
    assert_eq!(code, Some(0), "{text}");
}

/// 150 M parameters at a context of 2,048 on a card of 16 GB.
#[test]
fn the_reports_own_case_is_planned() {
    let dir = tempfile::tempdir().unwrap();
    let study = "name = \"report\"\n[data]\ncorpus = \"builtin\"\n[series]\nmodels = [\"L12-d1024-h16\"]\n\
                 tokens = \"3G\"\n[train]\ncontext = 2048\nbatch_tokens = 131072\ndevice = \"RTX 4080\"\n";
    std::fs::write(dir.path().join("report.toml"), study).unwrap();
    let plan = |args: &[&str]| {
        let output = isoflop(dir.path()).args(["plan", "report.toml", "--json"]).args(args).output().unwrap();
        let document: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        (
            output.status.code(),
            said(&output),
            document.map_or(0, |d| d["peak_memory_bytes"].as_u64().unwrap()),
        )
    };
    let (code, text, bytes) = plan(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(((8 << 30)..(16 << 30)).contains(&bytes), "{bytes}: auto takes what the card has");
    let (code, text, bytes) = plan(&["--set", "train.micro_batch=64"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(bytes > 16 << 30 && text.contains("hint: --set train.micro_batch="), "{text}");
    let (code, text, _) = plan(&["--device", "2x RTX 4080"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_card_is_measured_by_its_own_clock() {
    let Some(driver) = driver() else { return };
    let dir = tempfile::tempdir().unwrap();
    let json = |args: &[&str]| -> Value {
        let output = with(dir.path(), driver, &[&["bench", "--json"], args].concat()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let train =
        ["train", "--device", "cuda", "--layers", "1", "--width", "32", "--vocab", "61", "--context", "16"];
    let found = json(&[&train[..], &["--batch", "2", "--steps", "2", "--warmup", "1"]].concat());
    assert_eq!(found["kernels"], "cuda");
    assert!(found["tokens_per_s"].as_f64().unwrap() > 0.0, "{found}");
    for precision in ["bf16", "f32"] {
        let sizes = ["--m", "33", "--n", "65", "--k", "47", "--precision", precision];
        let gemm = json(&[&["gemm", "--device", "cuda"], &sizes[..]].concat());
        let sizes = ["--context", "40", "--width", "32", "--heads", "2", "--precision", precision];
        let attention = json(&[&["attention", "--device", "cuda"], &sizes[..]].concat());
        for row in
            gemm["measured"].as_array().unwrap().iter().chain(attention["measured"].as_array().unwrap())
        {
            assert!(row["flops_per_s"].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    let output = with(dir.path(), driver, &["bench", "gemm", "--device", "RTX 4080"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

/// Networks small enough for one core that watches each access: three classes of pictures of sixteen pixels a side.
const PICTURES: &str = r#"
name = "few"
kind = "fewshot"
methods = ["nearest-mean", "proto", "ccd-residual"]
[data]
folder = "pictures"
side = 16
resize = 16
channels = 1
[backbone]
width = 4
[pretrain]
epochs = 1
batch = 4
[episodes]
ways = 2
shots = [1]
queries = 1
count = 4
trained_count = 4
per_step = 2
[test]
ways = 2
queries = 1
episodes = 20
[train]
eval_episodes = 2
"#;

fn pictures(dir: &Path) {
    for (split, classes) in [("train", 3), ("val", 2), ("test", 2)] {
        for class in 0..classes {
            for number in 0..3 {
                let path = dir.join(format!("pictures/{split}/{split}-{class}/{number}.png"));
                crate::fewshot::draw(&path, class, number + 10 * class + split.len() * 50);
            }
        }
    }
    std::fs::write(dir.join("few.toml"), PICTURES).unwrap();
}

#[test]
fn a_few_shot_study_on_a_card_comes_to_its_end_and_to_the_same_end_after_a_kill() {
    let Some(driver) = driver() else { return };
    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path());
    let run = |name: &str| {
        let (store, out) = (format!("{name}/runs"), format!("{name}/out"));
        let mut command = with(dir.path(), driver, &["fewshot", "run", "few.toml", "--device", "cuda"]);
        command.args(["--store", &store, "--out", &out]);
        command
    };
    whole_and_killed(&run);
    let read = |name: &str, file: &str| std::fs::read(dir.path().join(name).join(file)).unwrap();
    let mut compared = 0;
    for run in std::fs::read_dir(dir.path().join("whole/runs")).unwrap() {
        let name = run.unwrap().file_name().into_string().unwrap();
        let spec = dir.path().join("whole/runs").join(&name).join("spec.json");
        let Ok(spec) = std::fs::read_to_string(spec) else { continue };
        assert!(spec.contains("\"cuda+"), "what stands behind the network is the processor's: {spec}");
        for point in std::fs::read_dir(dir.path().join("whole/runs").join(&name).join("checkpoints")).unwrap()
        {
            let point = point.unwrap().file_name().into_string().unwrap();
            for file in ["model.safetensors", "optimizer.safetensors"] {
                let file = format!("runs/{name}/checkpoints/{point}/{file}");
                assert!(read("whole", &file) == read("killed", &file), "{file}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 6, "{compared} files of three trainings");
    assert!(read("whole", "out/episodes.csv") == read("killed", "out/episodes.csv"));
    // What a processor would have made is another run.
    let on_processor = ["fewshot", "run", "few.toml", "--store", "whole/runs", "--out", "other"];
    let output = isoflop(dir.path()).args(on_processor).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("train.kernels"), "{}", said(&output));
}

#[test]
fn a_few_shot_study_is_planned_for_cards_that_are_not_here_and_not_run_on_them() {
    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path());
    let of = |args: &[&str]| {
        let output = isoflop(dir.path()).arg("fewshot").args(args).output().unwrap();
        (output.status.code(), said(&output), serde_json::from_slice::<Value>(&output.stdout).ok())
    };
    let memory = |device: &str| {
        let (code, text, document) = of(&["plan", "few.toml", "--json", "--device", device]);
        assert_eq!(code, Some(0), "{text}");
        let document = document.unwrap();
        assert_eq!(document["device"], device);
        let row = &document["rows"][0];
        let mut groups = row["memory"].as_array().unwrap().clone();
        let sum: u64 = groups.iter().map(|group| group[1].as_u64().unwrap()).sum();
        assert_eq!(sum, row["memory_bytes"].as_u64().unwrap());
        assert!(groups.iter().any(|group| group[0] == "patches"), "{row}");
        assert_eq!(row["seconds"]["provenance"], "missing", "nothing is known of its speed");
        let statistics = groups.iter().position(|group| group[0] == "statistics").unwrap();
        let statistics = groups.remove(statistics)[1].as_u64().unwrap();
        (statistics, groups)
    };
    // Batches are so small that a share of them is what is embedded at once; only sums of channels are kept of each
    // card.
    let (one, two) = (memory("RTX 4080"), memory("2x RTX 4080"));
    assert!(one.1 == two.1 && one.0 < two.0 && two.0 < 2 * one.0, "{one:?} and {two:?}");
    let (code, text, _) = of(&["plan", "few.toml", "--device", "RTX 4080"]);
    assert!(code == Some(0) && text.contains("each card's memory (RTX 4080)"), "{text}");
    let (code, text, _) = of(&["run", "few.toml", "--device", "RTX 4080"]);
    assert!(code == Some(2) && text.contains("not here") && text.contains("hint:"), "{text}");
    let (code, text, _) = of(&["run", "few.toml", "--device", "RTX 9999"]);
    assert!(code == Some(2) && text.contains("is no device") && text.contains("hint:"), "{text}");
    let output = with(dir.path(), Path::new("not-there.so"), &["fewshot", "run", "few.toml"])
        .args(["--device", "cuda"])
        .output()
        .unwrap();
    assert!(output.status.code() == Some(2) && said(&output).contains("hint:"), "{}", said(&output));
}
