//! Pictures from folders and lists to a prepared set, and everything that can be wrong with them.
//!
//! `fixtures/make_images.py` makes the pictures, and with Pillow what they are compared with.

use isoflop_base::EpisodeShape;
use isoflop_data::DataError;
use isoflop_data::episodes::{Episode, Episodes};
use isoflop_data::images::{ImageSet, Index, Picture, prepare};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");

/// A PNG of one value and a corner pixel that tells pictures apart.
fn png(path: &Path, color: png::ColorType, value: u8, corner: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 12, 10);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let mut pixels = vec![value; 120 * color.samples()];
    pixels[0] = corner;
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// Two classes of four grey pictures in each split; the value of a picture is 20 times its class and its number.
fn grey_set() -> TempDir {
    let root = TempDir::new().unwrap();
    for (split, name) in ["train", "val", "test"].into_iter().enumerate() {
        for class in 0..2 {
            for number in 0..4 {
                let value = (20 * (2 * split + class) + number) as u8;
                let file = root.path().join(format!("{name}/class-{split}{class}/{number}.png"));
                png(&file, png::ColorType::Grayscale, value, 255 - value);
            }
        }
    }
    root
}

const GREY: Picture = Picture { short: 6, side: 5, channels: 1, convert: false };

fn prepared(index: &Index, picture: &Picture, threads: usize) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let mut write = |more: &[u8]| {
        bytes.extend_from_slice(more);
        Ok(())
    };
    prepare::<DataError>(index, picture, threads, &mut write)?;
    Ok(bytes)
}

fn opened(bytes: &[u8]) -> (TempDir, Result<ImageSet, DataError>) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("set.images"), bytes).unwrap();
    let set = ImageSet::open(&folder.path().join("set.images"));
    (folder, set)
}

#[test]
fn folders_become_a_set_that_episodes_draw_from() {
    let root = grey_set();
    let index = Index::of_folders(root.path()).unwrap();
    assert_eq!((index.images(), index.splits.len()), (24, 3));
    let bytes = prepared(&index, &GREY, 3).unwrap();
    assert_eq!(bytes, prepared(&index, &GREY, 1).unwrap(), "the number of threads changes no byte");
    let (_folder, set) = opened(&bytes);
    let set = set.unwrap();
    assert_eq!((set.side(), set.channels(), set.images()), (5, 1, 24));
    let mut pixels = vec![0f32; 25];
    let mut seen = [false; 24];
    for (split, name) in ["train", "val", "test"].into_iter().enumerate() {
        let classes = set.classes(name).unwrap();
        assert_eq!(classes[1].name, format!("class-{split}1"));
        let shape = EpisodeShape { ways: 2, shots: 1, queries: 3 };
        let (episodes, mut episode) = (Episodes::new(classes, shape, 1).unwrap(), Episode::default());
        episodes.episode(5, &mut episode);
        for (class, images) in episode.classes.iter().zip(episode.images.chunks_exact(4)) {
            for &image in images {
                // Splits share no picture.
                assert!(!std::mem::replace(&mut seen[image], true));
                set.read(image, &mut pixels).unwrap();
                let value = (pixels[12] * 255.0).round() as usize;
                assert_eq!(value / 20, 2 * split + class, "the picture is one of its class");
            }
        }
    }
    assert!(seen.iter().all(|seen| *seen));
    let error = set.classes("dev").unwrap_err().to_string();
    assert!(error.contains("`dev`") && error.contains("hint: one of train, val, test"), "{error}");
}

#[test]
fn lists_are_those_of_mini_imagenet() {
    let root = grey_set();
    let lines = |split: &str, classes: [&str; 2]| {
        let mut text = "filename,label\n".to_owned();
        for (class, number) in classes.into_iter().flat_map(|class| (0..4).map(move |n| (class, n))) {
            text += &format!("{split}/{class}/{number}.png,label-{class}\n");
        }
        let path = root.path().join(format!("{split}.csv"));
        fs::write(&path, text).unwrap();
        path
    };
    let train = lines("train", ["class-00", "class-01"]);
    let test = lines("test", ["class-20", "class-21"]);
    let lists: [(&str, &Path); 2] = [("train", &train), ("test", &test)];
    let index = Index::of_lists(root.path(), &lists).unwrap();
    assert_eq!(index.splits[1].classes[0].name, "label-class-20");
    index.require(4).unwrap();
    assert!(matches!(index.require(5), Err(DataError::ClassTooSmall { found: 4, needed: 5, .. })));

    let refused = |text: &str| {
        let path = root.path().join("bad.csv");
        fs::write(&path, text).unwrap();
        Index::of_lists(root.path(), &[("train", &path)]).unwrap_err().to_string()
    };
    for (text, expected) in [
        ("file,class\n", "bad.csv:1: `file,class` is no header"),
        ("filename,label\nx.png\n", "bad.csv:2: `x.png` has no comma"),
        ("filename,label\nx.png,a\n", "x.png does not exist"),
        ("filename,label\ntrain/class-00/0.png,a\n\ntrain/class-00/0.png,a\n", "bad.csv:4: "),
    ] {
        let error = refused(text);
        assert!(error.contains(expected) && error.contains("hint: "), "{error}");
    }
    // A file in two lists.
    let again: [(&str, &Path); 2] = [("train", &train), ("val", &train)];
    let error = Index::of_lists(root.path(), &again).unwrap_err();
    assert!(matches!(error, DataError::InTwoSplits { what: "class", .. }), "{error}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let check = |spoil: &dyn Fn(&Path), picture: Picture, expected: &[&str]| {
        let root = grey_set();
        spoil(root.path());
        let error = Index::of_folders(root.path())
            .and_then(|index| prepared(&index, &picture, 2))
            .unwrap_err()
            .to_string();
        assert!(expected.iter().all(|part| error.contains(part)) && error.contains("hint: "), "{error}");
    };
    let file = |root: &Path| root.join("val/class-10/2.png");
    check(
        &|root| fs::write(file(root), b"GIF89a").unwrap(),
        GREY,
        &["class-10/2.png", "neither PNG, JPEG nor SVG"],
    );
    check(&|root| fs::write(file(root), b"").unwrap(), GREY, &["class-10/2.png", "empty"]);
    let cut = |root: &Path| {
        let bytes = fs::read(file(root)).unwrap();
        fs::write(file(root), &bytes[..bytes.len() / 2]).unwrap();
    };
    check(&cut, GREY, &["class-10/2.png", "damaged"]);
    let colour = |root: &Path| png(&file(root), png::ColorType::Rgb, 9, 8);
    check(&colour, GREY, &["class-10/2.png", "colour (3 channels) where grey (1)"]);
    check(&|_| {}, Picture { channels: 3, ..GREY }, &["train/class-00/0.png", "grey (1 channels)"]);
    let twin = |root: &Path| {
        fs::copy(root.join("train/class-01/3.png"), root.join("test/class-21/9.png")).unwrap();
    };
    check(&twin, GREY, &["train/class-01/3.png", "test/class-21/9.png", "different splits"]);
    let both = |root: &Path| png(&root.join("val/class-00/0.png"), png::ColorType::Grayscale, 1, 2);
    check(&both, GREY, &["train/class-00", "val/class-00", "same class"]);
    check(&|root| fs::create_dir(root.join("train/nothing")).unwrap(), GREY, &["train/nothing", "empty"]);
    check(&|_| {}, Picture { side: 7, ..GREY }, &["7 pixels from 6"]);
    let nowhere = Index::of_folders(Path::new("/no/such/folder")).unwrap_err();
    assert!(matches!(nowhere, DataError::NotFound { .. }));
}

#[test]
fn a_damaged_set_is_refused() {
    let index = Index::of_folders(grey_set().path());
    // The folder is gone by now: its files cannot be read any more.
    assert!(prepared(&index.unwrap(), &GREY, 2).is_err());
    let root = grey_set();
    let bytes = prepared(&Index::of_folders(root.path()).unwrap(), &GREY, 2).unwrap();
    assert!(opened(&bytes).1.is_ok());
    for spoilt in [&bytes[..bytes.len() - 1], &bytes[..40], b"isoflop images 1\n", b"something else"] {
        let error = opened(spoilt).1.unwrap_err().to_string();
        assert!(error.contains("set.images") && error.contains("hint: "), "{error}");
    }
    // Sizes whose product does not fit into a word.
    let header =
        br#"{"side":4294967296,"channels":1,"splits":[{"name":"a","classes":[["b",9]]}],"fingerprint":""}"#;
    let mut huge = b"isoflop images 1\n".to_vec();
    huge.extend((header.len() as u64).to_le_bytes());
    huge.extend(header);
    let error = opened(&huge).1.unwrap_err().to_string();
    assert!(error.contains("its header asks for"), "{error}");
}

/// Drawings are pictures too, whole and on white; what is only tested on is not divided.
#[test]
fn folders_of_drawings_are_pictures() {
    let root = TempDir::new().unwrap();
    for class in ["a", "b", "c"] {
        let folder = root.path().join(class);
        fs::create_dir_all(&folder).unwrap();
        let bar = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 4'><path d='M0 0h8v4H0z'/></svg>";
        fs::write(folder.join("bar.SVG"), format!("<?xml version='1.0'?>\n<!-- {class} -->\n{bar}")).unwrap();
    }
    let index = Index::of_test_folders(root.path()).unwrap();
    assert_eq!((index.splits.len(), index.images(), index.splits[0].name.as_str()), (1, 3, "test"));
    let picture = Picture { short: 8, side: 8, channels: 1, convert: true };
    let bytes = prepared(&index, &picture, 2).unwrap();
    for (i, pixel) in bytes[bytes.len() - 64..].iter().enumerate() {
        assert_eq!(*pixel, if (2..6).contains(&(i / 8)) { 0 } else { 255 }, "pixel {i}");
    }
    fs::write(root.path().join("b/broken.svg"), "<svg").unwrap();
    let error = prepared(&Index::of_test_folders(root.path()).unwrap(), &picture, 2).unwrap_err().to_string();
    assert!(error.contains("b/broken.svg") && error.contains("hint: "), "{error}");
    // Of what is divided the test split alone.
    let index = Index::of_test_folders(grey_set().path()).unwrap();
    assert_eq!(
        index.classes().map(|class| class.name.as_str()).collect::<Vec<_>>(),
        ["class-20", "class-21"]
    );
}

/// The pixels of one committed picture, prepared.
fn one_picture(file: &str, picture: Picture) -> Vec<u8> {
    let root = TempDir::new().unwrap();
    let class = root.path().join("train/a");
    fs::create_dir_all(&class).unwrap();
    let from = PathBuf::from(FIXTURES).join(file);
    fs::copy(&from, class.join(file)).unwrap();
    let bytes = prepared(&Index::of_folders(root.path()).unwrap(), &picture, 1).unwrap();
    bytes[bytes.len() - picture.side * picture.side * picture.channels..].to_vec()
}

fn worst(found: &[u8], exact: &[u8]) -> u8 {
    assert_eq!(found.len(), exact.len());
    found.iter().zip(exact).map(|(f, e)| f.abs_diff(*e)).max().unwrap()
}

/// Pillow rounds its weights to 22 bits, we to f32: a pixel may fall to the other side of a half.
#[test]
fn resizing_is_pillows_within_one_level() {
    let found = one_picture("picture.png", Picture { convert: false, ..Picture::mini_imagenet() });
    let exact = fs::read(PathBuf::from(FIXTURES).join("resized.bin")).unwrap();
    assert!(worst(&found, &exact) <= 1);
    let off = found.iter().zip(&exact).filter(|(f, e)| f != e).count();
    assert!(off * 100 < found.len(), "{off} of {} pixels differ", found.len());
}

/// Two decoders may round the cosine transform differently.
#[test]
fn jpegs_are_decoded_as_by_libjpeg() {
    // The middle 117 × 117, not resized.
    let found = one_picture("picture.jpg", Picture { short: 117, side: 117, channels: 3, convert: false });
    let exact = fs::read(PathBuf::from(FIXTURES).join("decoded.bin")).unwrap();
    // (150 − 117)/2 = 16.5 goes to the even 16.
    let middle: Vec<u8> =
        exact.chunks_exact(450).flat_map(|row| row[16 * 3..(16 + 117) * 3].to_vec()).collect();
    assert!(worst(&found, &middle) <= 3, "{}", worst(&found, &middle));
}
