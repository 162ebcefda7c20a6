//! A store of the first format (`fixtures/store-1`: one run finished, one interrupted in its trunk after a branch) is
//! read and gone on with to the bits that the version which wrote it came to, or refused with the exact reason.

use isoflop_base::RunDocument;
use isoflop_lab::conduct::Conductor;
use isoflop_lab::open::{Opened, resolve};
use isoflop_lab::record::Silent;
use isoflop_lab::study::raw::RawStudy;
use isoflop_lab::study::resolve::Machine;
use isoflop_lab::{Stop, UserError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/store-1")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(std::fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

fn opened(sets: &[&str]) -> Opened {
    let text = std::fs::read_to_string(fixture().join("study.toml")).unwrap();
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let raw = RawStudy::parse("study.toml", &text, &sets).unwrap();
    let corpus = Arc::new(isoflop_data::builtin().unwrap());
    let machine = Machine { kernels: "portable".to_owned(), threads: 1, bf16: false, bf16_loses: None };
    let study = resolve(&raw, &corpus, &machine).unwrap();
    Opened { raw, study, corpus }
}

/// Conducts the study in a copy of the fixture; its points.csv.
fn conduct(root: &Path, opened: &Opened) -> anyhow::Result<String> {
    let (store_root, out, stop) = (root.join("runs"), root.join("out"), Stop::never());
    let Opened { study, corpus, .. } = opened;
    let conductor = Conductor {
        study,
        corpus,
        store_root,
        out: out.clone(),
        preset: None,
        stop: &stop,
        only: Vec::new(),
    };
    conductor.conduct(&[], &mut Silent)?;
    Ok(std::fs::read_to_string(out.join("points.csv")).unwrap())
}

/// Loss, FLOPs and steps as they are written, by run and tokens.
fn bits(csv: &str) -> BTreeMap<String, Vec<String>> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let at = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let (run, tokens) = (at("run"), at("tokens"));
    let kept = [at("loss"), at("loss_se"), at("flops"), at("steps"), at("kind")];
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let key = format!("{} {}", cells[run], cells[tokens]);
            (key, kept.iter().map(|i| cells[*i].to_owned()).collect())
        })
        .collect()
}

#[test]
fn it_is_gone_on_with_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    let points = conduct(dir.path(), &opened(&[])).unwrap();
    let expected = std::fs::read_to_string(fixture().join("points.csv")).unwrap();
    assert_eq!(bits(&points), bits(&expected));
    let spec = std::fs::read_to_string(dir.path().join("runs/old-L1-d16-h2-s1/spec.json")).unwrap();
    let document = RunDocument::read(&serde_json::from_str(&spec).unwrap()).unwrap();
    assert_eq!(document.schema, "isoflop.run/2", "the finished run's specification is of today's format now");
}

#[test]
fn a_longer_point_keeps_what_it_has_finished() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    let longer = opened(&["series.tokens=1M", "series.branches=[\"200k\", \"800k\"]"]);
    let points = bits(&conduct(dir.path(), &longer).unwrap());
    let expected = bits(&std::fs::read_to_string(fixture().join("points.csv")).unwrap());
    assert_eq!(points.len(), 6);
    for (key, cells) in &expected {
        assert_eq!(points[key][..4], cells[..4], "{key}: loss, its error, FLOPs and steps");
    }
}

#[test]
fn another_recipe_is_refused_with_both_values() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    let error = conduct(dir.path(), &opened(&["train.weight_decay=0.2"])).unwrap_err();
    assert!(error.is::<UserError>(), "{error:#}");
    let words = error.to_string();
    for part in ["train.weight_decay", "0.1", "0.2", "hint:"] {
        assert!(words.contains(part), "`{part}` is not in {words}");
    }
}
