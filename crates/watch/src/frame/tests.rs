use super::*;
use crate::store::tests::made_store;

const LOOK: Look = Look { width: 80, height: 30, colour: false, unicode: true, log: true, chosen: None };

fn picture(seen: &Seen, look: Look) -> String {
    frame(seen, 1_700_000_100.0, look).join("\n")
}

#[test]
fn runs_curves_machine_and_alarms_are_in_the_picture() {
    let (_dir, mut seen) = made_store(&[("one", 200), ("two", 60)], 200);
    while seen.look() {}
    let text = picture(&seen, LOOK);
    assert!(text.contains("one") && text.contains("two"), "{text}");
    assert!(text.contains("100%") && text.contains(" 30%"), "{text}");
    assert!(text.contains("training loss, log, against tokens"), "{text}");
    assert!(text.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count() > 20, "{text}");
    assert!(text.contains("power 41 W") && text.contains("temperature 62 °C"), "{text}");
    assert!(text.contains("! loss-spike: two step 30"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn the_size_is_kept_and_ascii_is_ascii() {
    let (_dir, mut seen) =
        made_store(&[("a-rather-long-name-of-a-run-that-does-not-fit", 200), ("two", 60)], 200);
    while seen.look() {}
    for (width, height) in [(0, 0), (40, 10), (80, 24), (120, 40), (300, 100)] {
        for unicode in [true, false] {
            for chosen in [None, Some(0), Some(99)] {
                let lines = frame(&seen, 0.0, Look { width, height, unicode, chosen, ..LOOK });
                assert!(lines.len() <= height.max(8), "{} of {height} lines", lines.len());
                for line in &lines {
                    assert!(line.chars().count() <= width.max(NARROWEST), "{width}: {line}");
                    assert!(unicode || line.is_ascii(), "{line}");
                }
            }
        }
    }
}

#[test]
fn colour_adds_nothing_but_colour() {
    let (_dir, mut seen) = made_store(&[("one", 200), ("two", 60)], 200);
    while seen.look() {}
    let coloured = picture(&seen, Look { colour: true, ..LOOK });
    let mut bare = String::new();
    let mut rest = coloured.as_str();
    while let Some(at) = rest.find('\u{1b}') {
        bare.push_str(&rest[..at]);
        rest = &rest[at + rest[at..].find('m').unwrap() + 1..];
    }
    assert_eq!(bare + rest, picture(&seen, LOOK));
    assert!(coloured.contains("\u{1b}[31m"), "an alarm is red");
}

#[test]
fn an_empty_or_missing_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Seen::new(dir.path());
    seen.look();
    assert!(picture(&seen, LOOK).contains("waiting: no run is in this store yet"));
    let mut seen = Seen::new(dir.path().join("none"));
    seen.look();
    assert!(picture(&seen, LOOK).contains("is not there yet"));
}
