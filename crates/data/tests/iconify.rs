//! Drawings out of `@iconify/json`, of a small package made here: what is taken, what counts once, how it is divided,
//! and what a damaged package says.

use flate2::Compression;
use flate2::write::GzEncoder;
use isoflop_data::images::ImageSet;
use isoflop_data::images::iconify::{Drawings, Gathered, gather};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use tempfile::TempDir;

/// Classes that every set draws, under names of its own.
const THINGS: [&str; 10] =
    ["home", "tree", "tree-palm", "fish", "boat", "key", "lamp", "drum", "kite", "eye"];
const SETS: usize = 24;

/// A drawing that differs by thing and by set: rectangles at hashed places.
fn body(thing: usize, set: usize) -> String {
    let bars = (0..3).map(|bar| {
        let at = |n: usize| (thing * 7 + set * 5 + bar * 11 + n * (thing + 3)) % 13;
        format!(
            "<path fill=\"currentColor\" d=\"M{} {}h{}v{}z\"/>",
            at(1),
            at(2),
            3 + (set + bar) % 9,
            2 + (thing + set) % 5
        )
    });
    bars.collect()
}

/// Files of the package by their names in it.
fn package() -> BTreeMap<String, Value> {
    let (mut files, mut sets) = (BTreeMap::new(), serde_json::Map::new());
    for set in 0..SETS {
        let name = |thing: &str| match set % 4 {
            0 => format!("{thing}-outline"),
            1 => format!("{thing}-24"),
            2 if thing == "home" => "house".to_owned(),
            _ => thing.to_owned(),
        };
        let mut icons = serde_json::Map::new();
        for (number, thing) in THINGS.iter().enumerate() {
            icons.insert(name(thing), json!({ "body": body(number, set) }));
        }
        // The second drawing of a thing by the same hand, a hidden one, a brand, and nothing at all.
        icons.insert("fish-filled-bold".into(), json!({ "body": body(99, set) }));
        icons.insert("ghost".into(), json!({ "body": body(50, set), "hidden": true }));
        icons.insert("github".into(), json!({ "body": body(51, set) }));
        icons.insert("blank".into(), json!({ "body": "<g/>" }));
        sets.insert(
            format!("set-{set:02}"),
            json!({
                "name": format!("Set {set}"),
                "author": { "name": "Somebody", "url": "https://example.org" },
                "license": { "title": "MIT", "spdx": "MIT" },
                "category": "General", "palette": false,
            }),
        );
        files.insert(format!("json/set-{set:02}.json"), json!({ "icons": icons, "width": 16, "height": 16 }));
    }
    for (prefix, licence, category) in
        [("owned", "LicenseRef-Proprietary", "General"), ("signs", "MIT", "Logos"), ("smile", "MIT", "Emoji")]
    {
        let icons: serde_json::Map<_, _> = THINGS
            .iter()
            .enumerate()
            .map(|(n, thing)| ((*thing).to_owned(), json!({ "body": body(n, 77) })))
            .collect();
        let author = json!({ "name": "Other" });
        let license = json!({ "title": licence, "spdx": licence });
        sets.insert(
            prefix.to_owned(),
            json!({ "name": prefix, "author": author, "license": license, "category": category }),
        );
        files.insert(format!("json/{prefix}.json"), json!({ "icons": icons }));
    }
    files.insert("collections.json".into(), Value::Object(sets));
    files.insert("package.json".into(), json!({ "version": "1.2.3" }));
    files
}

fn unpacked(files: &BTreeMap<String, Value>) -> TempDir {
    let root = TempDir::new().unwrap();
    for (name, value) in files {
        let path = root.path().join("package").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    }
    root
}

/// What `npm pack` leaves: a gzipped `ustar` archive of one folder.
fn packed(files: &BTreeMap<String, Value>) -> Vec<u8> {
    let mut archive = GzEncoder::new(Vec::new(), Compression::fast());
    for (name, value) in files {
        let bytes = value.to_string();
        let mut header = [0u8; 512];
        let name = format!("package/{name}");
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.write_all(&header).unwrap();
        archive.write_all(bytes.as_bytes()).unwrap();
        archive.write_all(&vec![0; bytes.len().next_multiple_of(512) - bytes.len()]).unwrap();
    }
    archive.write_all(&[0; 1024]).unwrap();
    archive.finish().unwrap()
}

fn icons(path: &Path, threads: usize) -> Gathered {
    gather(path, Drawings::Icons, 28, threads).unwrap()
}

fn classes(of: &Gathered) -> BTreeMap<String, (String, usize)> {
    let split = |split: &isoflop_data::images::SplitHeader| {
        split
            .classes
            .iter()
            .map(|(class, count)| (class.clone(), (split.name.clone(), *count)))
            .collect::<Vec<_>>()
    };
    of.header.splits.iter().flat_map(split).collect()
}

#[test]
fn things_are_gathered_once_by_each_hand_and_divided_by_families() {
    let root = unpacked(&package());
    let found = icons(root.path(), 2);
    let classes = classes(&found);
    assert_eq!(classes.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut all = THINGS.to_vec();
        all.sort_unstable();
        all
    });
    // `house` is `home`; brands, hidden and blank drawings are none; two drawings of one hand are one.
    assert!(classes.values().all(|(_, count)| (20..=SETS).contains(count)), "{classes:?}");
    assert_eq!(classes["tree"].0, classes["tree-palm"].0, "a family stays together");
    let size = |name: &str| classes.values().filter(|(split, _)| split == name).count();
    assert_eq!([size("train"), size("val"), size("test")], [6, 2, 2]);
    // Only permissive sets, each credited.
    let credits = found.credits();
    assert_eq!(credits.matches("[Somebody](https://example.org)").count(), SETS);
    assert!(credits.contains("1.2.3") && !credits.contains("Other"), "{credits}");
    // The bytes are a set that opens.
    let file = root.path().join("icons.images");
    fs::write(&file, found.bytes()).unwrap();
    let set = ImageSet::open(&file).unwrap();
    assert_eq!((set.side(), set.channels(), set.images()), (28, 1, found.images()));
    let mut pixels = vec![0f32; 28 * 28];
    set.read(0, &mut pixels).unwrap();
    let light = pixels.iter().sum::<f32>();
    let set = set.inverted();
    set.read(0, &mut pixels).unwrap();
    assert!((light + pixels.iter().sum::<f32>() - 784.0).abs() < 1e-2 && light > 1.0);
}

#[test]
fn an_archive_is_its_folder_whatever_the_threads() {
    let files = package();
    let (root, archive) = (unpacked(&files), TempDir::new().unwrap());
    let path = archive.path().join("package.tgz");
    fs::write(&path, packed(&files)).unwrap();
    assert!(icons(root.path(), 1).bytes() == icons(&path, 3).bytes());
    assert_eq!(icons(root.path(), 1).credits(), icons(&path, 3).credits());
    assert!(icons(&root.path().join("package"), 2).bytes() == icons(&path, 2).bytes());
}

#[test]
fn what_is_wrong_with_a_package_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("package.tgz");
    let refused = |bytes: &[u8], words: &[&str]| {
        fs::write(&path, bytes).unwrap();
        let error = gather(&path, Drawings::Icons, 28, 1).unwrap_err().to_string();
        for word in words.iter().chain(&["package.tgz", "hint: "]) {
            assert!(error.contains(word), "{word} not in {error}");
        }
    };
    let whole = packed(&package());
    for part in [0, 10, whole.len() / 2, whole.len() - 20] {
        refused(&whole[..part], &["not whole"]);
    }
    refused(b"PK\x03\x04 something else", &["no archive"]);
    let without = |name: &str| {
        let mut files = package();
        files.remove(name);
        packed(&files)
    };
    refused(&without("collections.json"), &["no collections.json"]);
    refused(&without("json/set-03.json"), &["23 of the 24 sets"]);
    let mut spoilt = package();
    spoilt.insert("json/set-03.json".into(), json!({ "icons": [1, 2] }));
    refused(&packed(&spoilt), &["json/set-03.json does not parse"]);
    let mut few = package();
    few.retain(|name, _| !name.starts_with("json/set-0"));
    let Value::Object(sets) = few.get_mut("collections.json").unwrap() else { unreachable!() };
    sets.retain(|prefix, _| !prefix.starts_with("set-0"));
    refused(&packed(&few), &["no thing is drawn by 20 sets"]);
    let empty = TempDir::new().unwrap();
    let error = gather(empty.path(), Drawings::Icons, 28, 1).unwrap_err().to_string();
    assert!(error.contains("no collections.json") && error.contains("npm pack"), "{error}");
    assert!(gather(&path, Drawings::Icons, 0, 1).is_err());
}
