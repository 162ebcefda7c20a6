//! Documents of other programs (`fixtures/make_documents.py`) and of our own hand, read whole, in parts, and damaged.

use isoflop_data::documents::{
    Batch, Divide, Fields, Format, Limits, Position, Problem, ProblemKind, Source, Step, find, open, text_of,
};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

const ROWS: usize = 60;

fn expected() -> Vec<String> {
    let text =
        |i: usize| format!("document {i} of {ROWS}, naïve — 日本語 {}", "words and words ".repeat(i % 7));
    (0..ROWS).filter(|i| i % 9 != 4).map(text).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/documents").join(name)
}

fn source(path: &Path) -> Source {
    find(&[path.to_owned()], None).unwrap().sources.remove(0)
}

/// All texts and problems of a source from a position on, in batches of `batch` bytes, and where each batch ended.
fn read(
    source: &Source,
    fields: &Fields,
    from: Position,
    batch: usize,
) -> (Vec<String>, Vec<Problem>, Vec<(usize, Position)>) {
    let (mut texts, mut problems, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = match open(source, fields, from) {
        Ok(reader) => reader,
        Err(e) => return (texts, vec![whole(e.to_string())], ends),
    };
    loop {
        let mut read = Batch::default();
        match reader.read(&mut read, Limits { batch, first: true, large: true }) {
            Ok(Step::Batch) => {}
            Ok(Step::End) => return (texts, problems, ends),
            Ok(Step::Large) => panic!("everything is allowed"),
            Err(e) => {
                problems.push(whole(e.to_string()));
                return (texts, problems, ends);
            }
        }
        problems.append(&mut read.problems);
        for record in &read.records {
            match text_of(source.format, fields, &read, record, &mut problems) {
                Ok(text) => texts.push(text.into_owned()),
                Err(problem) => problems.push(problem),
            }
        }
        ends.push((texts.len(), read.end));
    }
}

fn whole(what: String) -> Problem {
    Problem { record: 0, line: None, kind: ProblemKind::Source, what }
}

fn texts(path: &Path, fields: &Fields) -> Vec<String> {
    read(&source(path), fields, Position::default(), 1 << 20).0
}

const PARQUET: [&str; 7] = [
    "duckdb_gzip.parquet",
    "duckdb_lz4.parquet",
    "polars.parquet",
    "pyarrow_brotli.parquet",
    "pyarrow_dictionary.parquet",
    "pyarrow_lz4.parquet",
    "pyarrow_zstd.parquet",
];
const PACKED: [&str; 4] = ["lines.jsonl.gz", "lines.jsonl.bz2", "lines.jsonl.xz", "lines.jsonl.zst"];

#[test]
fn files_of_other_programs_give_their_texts() {
    for name in PARQUET.iter().chain(&PACKED) {
        assert_eq!(texts(&fixture(name), &Fields::default()), expected(), "{name}");
    }
    let deep = Fields { text: "deep.text".to_owned(), ..Fields::default() };
    let inner: Vec<String> =
        (0..ROWS).filter(|i| i % 5 != 0 && i % 9 != 4).map(|i| expected()[i - (i + 4) / 9].clone()).collect();
    for name in ["pyarrow_brotli.parquet", "pyarrow_dictionary.parquet", "pyarrow_zstd.parquet"] {
        assert_eq!(texts(&fixture(name), &deep), inner, "{name}");
    }
}

#[test]
fn reading_goes_on_anywhere_with_the_same_texts() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let lines: String =
        expected().iter().map(|text| serde_json::json!({"text": text}).to_string() + "\r\n\n").collect();
    let rows: String = expected().iter().map(|text| format!("1,\"{text}\n\"\"{text}\"\"\"\r\n")).collect();
    let plain = "some words of a text — и другие\n".repeat(20_000);
    let ends = ["<|endoftext|>\n", "<|endoftext|>", "\n<|endoftext|> \n"];
    let divided: String = expected().iter().zip(ends.iter().cycle()).flat_map(|(a, b)| [a, *b]).collect();
    let marker = Divide::Marker("<|endoftext|>".to_owned());
    let cases = [
        (write("a.jsonl", &lines), Divide::File),
        (write("b.csv", &format!("id,text\n{rows}")), Divide::File),
        (write("c.txt", &plain), Divide::File),
        (write("d.txt", &divided), marker),
        (write("e.txt", &expected().join("\n\n\n")), Divide::BlankLine),
        (write("f.txt", &expected().join("\n")), Divide::Line),
    ];
    let wide: Vec<u8> =
        [&[0xff, 0xfe][..], &lines.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()].concat();
    let path = dir.path().join("wide.jsonl");
    std::fs::write(&path, wide).unwrap();
    let cases = cases.into_iter().chain([(path, Divide::File)]);
    let packed = PARQUET.iter().chain(&PACKED).map(|name| (fixture(name), Divide::File));
    for (path, divide) in cases.chain(packed) {
        let source = source(&path);
        let fields = Fields { divide, ..Fields::default() };
        let (all, problems, _) = read(&source, &fields, Position::default(), 1 << 20);
        let name = path.display();
        assert!(
            all.len() > 8 && problems.iter().all(|p| p.kind == ProblemKind::NoText),
            "{name} {problems:?}"
        );
        let (again, _, ends) = read(&source, &fields, Position::default(), 700);
        assert!(again == all && ends.len() > 2, "{name}");
        for (count, end) in ends.iter().step_by(3) {
            let (rest, ..) = read(&source, &fields, *end, 900);
            assert!(rest == all[*count..], "{name} from {end:?}");
        }
    }
    assert_eq!(texts(&dir.path().join("c.txt"), &Fields::default()).concat(), plain);
}

fn check_jsonl(line: &str, text: Result<&str, (ProblemKind, &str)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, format!("\n{line}\n")).unwrap();
    let fields = Fields { text: "a.b".to_owned(), ..Fields::default() };
    let (texts, problems, _) = read(&source(&path), &fields, Position::default(), 1000);
    match text {
        Ok(text) => assert_eq!(texts, [text], "{line}: {problems:?}"),
        Err((kind, words)) => {
            assert!(texts.is_empty(), "{line}: {texts:?}");
            assert_eq!(
                (problems.len(), problems[0].kind, problems[0].line),
                (1, kind, Some(2)),
                "{problems:?}"
            );
            assert!(problems[0].what.contains(words), "{line}: {problems:?}");
        }
    }
}

#[test]
fn fields_of_json_are_found_or_named() {
    use ProblemKind::{Malformed, NoField, NoText};
    check_jsonl(r#"{"x": [1, {"a": 2}], "a": {"c": null, "b": "t\n\u00e9\ud83d\ude00"}}"#, Ok("t\né😀"));
    check_jsonl(r#"{"a.b": "dotted", "a": {"b": "path"}}"#, Ok("dotted"));
    check_jsonl(r#"{"a": {"b": "path"}, "a.b": "dotted"}"#, Ok("dotted"));
    check_jsonl(
        r#"{"a": {"b": "half \ud83d of a pair \udc00\\ud83d"}}"#,
        Ok("half \u{fffd} of a pair \u{fffd}\\ud83d"),
    );
    check_jsonl(r#"{"a": {"b": 3}}"#, Err((NoText, "integer")));
    check_jsonl(r#"{"a": {"b": null}}"#, Err((NoText, "null")));
    check_jsonl(r#"{"a": {"b": ["x"]}}"#, Err((NoText, "list")));
    check_jsonl(r#"{"a": {"c": "x"}, "d": 1}"#, Err((NoField, "a.c, d")));
    check_jsonl(r#"{"a": {"b": "x"}"#, Err((Malformed, "EOF")));
    check_jsonl(r#"{"a": {"b": "x"}} trailing"#, Err((Malformed, "trailing")));
    check_jsonl("plain words", Err((Malformed, "")));
}

#[test]
fn a_file_that_is_one_array_is_told_what_makes_it_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, "[{\"text\": \"x\"}]\n").unwrap();
    let (texts, problems, _) = read(&source(&path), &Fields::default(), Position::default(), 1000);
    assert!(texts.is_empty() && problems.len() == 1, "{texts:?} {problems:?}");
    assert_eq!(problems[0].kind, ProblemKind::Source);
    assert!(problems[0].what.contains("jq -c"), "{problems:?}");
}

#[test]
fn what_is_not_utf8_is_named_with_its_line_and_the_rest_kept() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], divide: Divide, kept: &[&str], lines: &[u64]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let fields = Fields { divide, ..Fields::default() };
        let (texts, problems, _) = read(&source(&path), &fields, Position::default(), 1000);
        assert_eq!(texts, kept, "{name}");
        let found: Vec<u64> = problems.iter().filter_map(|p| p.line).collect();
        assert_eq!(found, lines, "{name}: {problems:?}");
        assert!(problems.iter().all(|p| p.kind == ProblemKind::NotUtf8));
    };
    check("a.txt", b"one\ncaf\xe9\nthree\n", Divide::File, &["one\nthree\n"], &[2]);
    check(
        "b.jsonl",
        b"{\"text\": \"caf\xe9\"}\n{\"text\": \"x\", \"y\": \"\xe9\"}\n",
        Divide::File,
        &["x"],
        &[1],
    );
    check("c.csv", b"text,b\nx,1\ncaf\xe9,2\ny,3\n", Divide::File, &["x", "y"], &[3]);
    check("d.txt", b"\xef\xbb\xbfone\n\xff\ntwo", Divide::Line, &["one", "two"], &[2]);
}

#[test]
fn rows_of_tables_are_found_whatever_divides_them() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, text: &str, expected: &[&str], problems: usize| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let (texts, found, _) = read(&source(&path), &Fields::default(), Position::default(), 1000);
        assert_eq!(
            (texts, found.len()),
            (expected.iter().map(|t| t.to_string()).collect(), problems),
            "{found:?}"
        );
    };
    check("a.csv", "id;text\n1;a,b\n2;\"c;d\"\n", &["a,b", "c;d"], 0);
    check("a.tsv", "text\tid\na \"b\"\t1\n", &["a \"b\""], 0);
    check("b.csv", "text\na\n\n\"b\nc\"\n", &["a", "b\nc"], 0);
    check("c.csv", "id,text\n1,a,too many\n2\n3,b\n", &["b"], 2);
    check("d.csv", "\u{feff}text|id\na|1", &["a"], 0);
    // A quote that is not closed swallows what follows: no document, and said so.
    check("f.csv", "id,text\n1,a\n2,\"b\n3,c\n", &["a"], 1);
    check("g.csv", "id,text\n1,\"a\"\n2,5\" disk", &["a", "5\" disk"], 0);
    check("h.csv", "id,text\n1,\"a\"", &["a"], 0);
    let path = dir.path().join("e.csv");
    std::fs::write(&path, "id,body\n1,a\n").unwrap();
    let (_, problems, _) = read(&source(&path), &Fields::default(), Position::default(), 1000);
    assert!(problems[0].what.contains("no column `text`; there are: id, body"), "{problems:?}");
}

#[test]
fn a_line_longer_than_any_document_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl.gz");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    use std::io::Write as _;
    packed.write_all(b"{\"text\": \"first\"}\n{\"text\": \"").unwrap();
    for _ in 0..40 {
        packed.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    packed.write_all(b"\"}\n{\"text\": \"last\"}").unwrap();
    std::fs::write(&path, packed.finish().unwrap()).unwrap();
    let (texts, problems, ends) = read(&source(&path), &Fields::default(), Position::default(), 1 << 16);
    assert_eq!(texts, ["first", "last"]);
    assert_eq!((problems.len(), problems[0].kind, problems[0].line), (1, ProblemKind::TooLong, Some(2)));
    // Where lines are counted behind it is right as well.
    let end = ends.last().unwrap().1;
    assert_eq!((end.record, end.line), (3, 2));
}

#[test]
fn sources_are_found_in_folders_and_by_patterns_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("in/deep")).unwrap();
    for name in ["in/b.txt", "in/a.jsonl.zst", "in/deep/c.csv", "in/.hidden.txt", "in/d.bin", "in/e"] {
        std::fs::write(at(name), "text").unwrap();
    }
    let names = |inputs: &[PathBuf]| {
        let found = find(inputs, None).unwrap();
        let name = |source: &Source| {
            let path = source.path.as_ref().unwrap();
            path.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned()
        };
        (found.sources.iter().map(name).collect::<Vec<_>>(), found.left_out.len())
    };
    assert_eq!(
        names(&[at("in")]),
        (vec!["in/a.jsonl.zst".into(), "in/b.txt".into(), "in/deep/c.csv".into()], 2)
    );
    assert_eq!(names(&[at("in/b.txt"), at("in/*.txt"), at("in")]).0[0], "in/b.txt");
    assert_eq!(names(&[at("in/b.txt"), at("in/../in/b.txt")]).0.len(), 1);
    assert_eq!(names(&[at("in/**/*.csv"), at("in/e")]).0, ["in/deep/c.csv", "in/e"]);
    for (input, words) in [("nowhere", "no such file"), ("in/*.xml", "no file matches"), ("in/[", "pattern")]
    {
        let error = find(&[at(input)], None).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("hint: "), "{error}");
    }
    assert_eq!(find(&[at("in/e")], Some(Format::Jsonl)).unwrap().sources[0].format, Format::Jsonl);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever bytes are damaged: an error or other texts, never a panic, and never without an end.
    #[test]
    fn no_damage_makes_a_reader_of_documents_panic(
        which in 0..PARQUET.len() + PACKED.len(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let name = PARQUET.iter().chain(&PACKED).nth(which).unwrap();
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        if !bytes.is_empty() {
            let source = Source { path: Some(path.clone()), ..source(&path) };
            read(&source, &Fields::default(), Position::default(), 500);
        }
    }
}
