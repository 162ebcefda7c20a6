//! Tables as other programs write them, with the values known: read right, or refused, never read as something else.

use super::*;
use proptest::prelude::*;

/// N, D and the loss.
type Known = (u64, u64, f64);
type Rows = [Known];
/// How a row is written.
type Each = dyn Fn(usize, &Known) -> String;

fn read(name: &str, bytes: &[u8]) -> Result<Table, LawError> {
    read_table(bytes, &ReadOptions { name: name.to_owned(), ..ReadOptions::default() })
}

/// 1234567 as `1,234,567`.
fn grouped(value: u64, mark: &str) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push_str(mark);
        }
        out.push(d);
    }
    out
}

/// 1234567 as India writes it, `12,34,567`.
fn lakhs(value: u64) -> String {
    let digits = value.to_string();
    if digits.len() <= 3 {
        return digits;
    }
    let (front, last) = digits.split_at(digits.len() - 3);
    let pairs: Vec<&str> =
        front.as_bytes().rchunks(2).rev().map(|p| std::str::from_utf8(p).unwrap()).collect();
    format!("{},{last}", pairs.join(","))
}

/// A spreadsheet saved in a locale: separator, mark between thousands, decimal mark.
fn sheet(rows: &Rows, digits: usize, separator: &str, thousands: &str, decimal: &str) -> String {
    let cell = |text: String| if text.contains(separator) { format!("\"{text}\"") } else { text };
    let mut out = ["Params", "Tokens", "Loss"].join(separator) + "\r\n";
    for (n, d, loss) in rows {
        let loss = format!("{loss:.digits$}").replace('.', decimal);
        let cells = [grouped(*n, thousands), grouped(*d, thousands), loss].map(cell);
        out += &(cells.join(separator) + "\r\n");
    }
    out
}

fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// Windows-1252 of text that has nothing beyond Latin-1.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// Spreadsheets by locale.
fn sheets(rows: &Rows, digits: usize) -> Vec<(&'static str, Vec<u8>)> {
    let german = sheet(rows, digits, ";", ".", ",");
    let indian = {
        let mut out = "Params,Tokens,Loss\n".to_owned();
        for (n, d, loss) in rows {
            out += &format!("\"{}\",\"{}\",{loss:.digits$}\n", lakhs(*n), lakhs(*d));
        }
        out
    };
    vec![
        ("en-US.csv", sheet(rows, digits, ",", ",", ".").into_bytes()),
        ("de-DE.csv", format!("\u{feff}{german}").into_bytes()),
        ("de-DE-sep.csv", format!("sep=;\r\n{german}").into_bytes()),
        ("fr-FR.csv", latin(&sheet(rows, digits, ";", "\u{a0}", ","))),
        ("fr-FR-2019.csv", sheet(rows, digits, ";", "\u{202f}", ",").into_bytes()),
        ("de-CH.csv", sheet(rows, digits, ";", "\u{2019}", ".").into_bytes()),
        ("sheets-de.csv", sheet(rows, digits, ",", ".", ",").into_bytes()),
        ("unicode-de.txt", utf16(&sheet(rows, digits, "\t", ".", ","))),
        ("unicode-en.txt", utf16(&sheet(rows, digits, "\t", ",", "."))),
        ("en-IN.csv", indian.into_bytes()),
    ]
}

/// Each row as text, joined.
fn joined(rows: &Rows, each: &dyn Fn(usize, &Known) -> String, joint: &str) -> String {
    rows.iter().enumerate().map(|(i, r)| each(i, r)).collect::<Vec<_>>().join(joint)
}

/// Data frames and trackers: all of them write decimal points.
fn frames(rows: &Rows) -> Vec<(&'static str, Vec<u8>)> {
    let csv = |header: &str, each: &Each| format!("{header}\n{}\n", joined(rows, each, "\n"));
    let record = |i: usize, (n, d, loss): &(u64, u64, f64)| {
        let lr = if i == 0 { "NaN".to_owned() } else { "0.001".to_owned() };
        format!(
            "{{\"params\": {n}, \"tokens\": {d}.0, \"loss\": {loss:?}, \"lr\": {lr}, \"run\": \"r \\\" NaN {i}\"}}"
        )
    };
    let column = |of: &dyn Fn(&(u64, u64, f64)) -> String, indexed: bool| {
        let key = |i: usize| if indexed { format!("\"{i}\":") } else { String::new() };
        joined(rows, &|i, r| key(i) + &of(r), ",")
    };
    let columns = |open: &str, close: &str, indexed: bool| {
        format!(
            "{{\"params\":{open}{}{close},\"tokens\":{open}{}{close},\"loss\":{open}{}{close}}}",
            column(&|r| r.0.to_string(), indexed),
            column(&|r| r.1.to_string(), indexed),
            column(&|r| format!("{:?}", r.2), indexed)
        )
    };
    let plain =
        |_: usize, (n, d, l): &(u64, u64, f64)| format!("\"params\":{n},\"tokens\":{d},\"loss\":{l:?}");
    [
        ("pandas.csv", csv(",params,tokens,loss", &|i, (n, d, l)| format!("{i},{n},{d}.0,{l:?}"))),
        ("pandas.tsv", csv("\tparams\ttokens\tloss", &|i, (n, d, l)| format!("{i}\t{n}\t{d}\t{l:e}"))),
        ("polars.csv", csv("params,tokens,loss,note", &|_, (n, d, l)| format!("{n},{:e},{l:?},", *d as f64))),
        ("records.json", format!("[{}]", joined(rows, &record, ","))),
        ("lines.jsonl", joined(rows, &record, "\n") + "\n"),
        ("lists.json", columns("[", "]", false)),
        ("columns.json", columns("{", "}", true)),
        ("index.json", format!("{{{}}}", joined(rows, &|i, r| format!("\"{i}\":{{{}}}", plain(i, r)), ","))),
        (
            "split.json",
            format!(
                "{{\"columns\":[\"params\",\"tokens\",\"loss\"],\"index\":[{}],\"data\":[{}]}}",
                joined(rows, &|i, _| i.to_string(), ","),
                joined(rows, &|_, (n, d, l)| format!("[{n},{d},{l:?}]"), ",")
            ),
        ),
        (
            "polars.json",
            format!(
                "{{\"columns\":[{}]}}",
                [
                    ("params", column(&|r| r.0.to_string(), false)),
                    ("tokens", column(&|r| r.1.to_string(), false)),
                    ("loss", column(&|r| format!("{:?}", r.2), false)),
                ]
                .map(|(name, values)| format!(
                    "{{\"name\":\"{name}\",\"datatype\":\"Float64\",\"values\":[{values}]}}"
                ))
                .join(",")
            ),
        ),
        (
            "table.md",
            csv("| params | tokens | loss |\n|---|--:|---|", &|_, (n, d, l)| {
                format!("| {n} | {d} | {l:?} |")
            }),
        ),
    ]
    .map(|(name, text)| (name, text.into_bytes()))
    .into()
}

/// W&B's chart export: a column a run, over tokens.
fn chart(rows: &Rows) -> String {
    let mut header = vec!["\"train/tokens\"".to_owned()];
    let name = |i: usize, n: u64| format!("run {i}: {:.3}M - val/loss", n as f64 / 1e6);
    for (i, (n, ..)) in rows.iter().enumerate() {
        let name = name(i, *n);
        header.extend([format!("\"{name}\""), format!("\"{name}__MIN\""), format!("\"{name}__MAX\"")]);
    }
    let mut out = header.join(",") + "\n";
    for (i, (_, d, loss)) in rows.iter().enumerate() {
        let mut cells = vec![format!("\"{d}\"")];
        for j in 0..rows.len() {
            let cell = if i == j { format!("\"{loss:?}\"") } else { "\"\"".to_owned() };
            cells.extend([cell.clone(), cell.clone(), cell]);
        }
        out += &(cells.join(",") + "\n");
    }
    out
}

fn same(table: &Table, rows: &Rows, digits: Option<usize>) -> Result<(), String> {
    if table.rows.len() != rows.len() || !table.dropped.is_empty() {
        return Err(format!("{} rows of {}, {:?}", table.rows.len(), rows.len(), table.dropped));
    }
    for (row, (n, d, loss)) in table.rows.iter().zip(rows) {
        let loss = digits.map_or(*loss, |k| format!("{loss:.k$}").parse().unwrap());
        if (row.n, row.d, row.loss) != (Some(*n as f64), Some(*d as f64), loss) {
            return Err(format!("{:?} {:?} {} for {n} {d} {loss}", row.n, row.d, row.loss));
        }
    }
    Ok(())
}

fn rows() -> impl Strategy<Value = Vec<(u64, u64, f64)>> {
    proptest::collection::vec((1_000_u64..30_000_000_000, 1_000_u64..15_000_000_000_000, 1.0_f64..12.0), 3..9)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn spreadsheets_of_any_locale_are_read_right_or_refused(rows in rows(), digits in 1_usize..9) {
        for (name, bytes) in sheets(&rows, digits) {
            match read(name, &bytes) {
                Ok(table) => same(&table, &rows, Some(digits)).map_err(|e| TestCaseError::fail(format!("{name}: {e}")))?,
                // Three decimals look like thousands.
                Err(e) => prop_assert!(digits == 3 && e.to_string().contains("--decimal"), "{name}: {e}"),
            }
        }
    }

    #[test]
    fn data_frames_are_read_right(rows in rows(), which in any::<proptest::sample::Index>()) {
        let all = frames(&rows);
        for (name, bytes) in &all {
            let table = read(name, bytes).map_err(|e| TestCaseError::fail(format!("{name}: {e}")))?;
            same(&table, &rows, None).map_err(|e| TestCaseError::fail(format!("{name}: {e}")))?;
        }
        // Cut anywhere, it is an error or a table of what is whole; never a panic.
        let (name, bytes) = which.get(&all);
        let _ = read(name, &bytes[..which.index(bytes.len())]);
    }

    #[test]
    fn charts_of_one_column_a_run_become_rows(rows in rows()) {
        let rows: Vec<(u64, u64, f64)> = rows.into_iter().map(|(n, d, l)| (n / 1000 * 1000, d, l)).collect();
        let table = read("wandb_export.csv", chart(&rows).as_bytes()).unwrap();
        prop_assert_eq!(same(&table, &rows, None), Ok(()));
        let named = table.rows.iter().enumerate().all(|(i, r)| r.run.starts_with(&format!("run {i}: ")));
        prop_assert!(named);
        prop_assert!(table.notes.iter().any(|n| n.contains("chart")), "{:?}", table.notes);
    }
}

#[test]
fn ambiguous_marks_are_refused_with_both_readings_and_can_be_said() {
    let text = "params;tokens;loss\n1000000;20000000;3.217\n2000000;40000000;2.914\n";
    let error = read("p.csv", text.as_bytes()).unwrap_err().to_string();
    for part in ["`3.217`", "column `loss`", "line 2", "3.217 or 3217", "hint: say --decimal point"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    for (decimal, loss) in [(Decimal::Point, 3.217), (Decimal::Comma, 3217.0)] {
        let options = ReadOptions { decimal: Some(decimal), ..ReadOptions::default() };
        assert_eq!(read_table(text.as_bytes(), &options).unwrap().rows[0].loss, loss);
    }
    // In a column that no law reads they are words.
    let text = "params;tokens;loss;score\n1.5e6;20000000;3.2171;1,234\n2e6;40000000;2.9;2.345,6\n";
    let table = read("p.csv", text.as_bytes()).unwrap();
    assert_eq!((table.rows.len(), table.rows[0].loss), (2, 3.2171));
}

#[test]
fn units_in_headers_are_read_or_named() {
    let n = |text: &str| {
        read("t.csv", text.as_bytes()).map(|t| (t.rows[0].n.unwrap(), t.rows[0].loss, t.loss_unit))
    };
    for header in [
        "Params (M),Loss",
        "params [1e6],loss [nats]",
        "Parameters (N) (millions),Loss (val)",
        "N_millions,\"loss, nats\"",
        "Model Size M,final loss (nats/token)",
        "params (×10^6),loss",
        "n (in millions of parameters),loss",
        "Non-embedding params (10⁶),validation loss (C4)",
    ] {
        assert_eq!(
            n(&format!("{header}\n12.5,3\n")).unwrap(),
            (12.5e6, 3.0, "nats per token".into()),
            "{header}"
        );
    }
    // A cell that names its multiple is complete.
    assert_eq!(n("params (M),loss\n125M,3\n").unwrap().0, 125e6);
    for (header, flop) in [
        ("compute (PF-days)", 8.64e19),
        ("FLOPs (1e18)", 1e18),
        ("C [EFLOPs]", 1e18),
        ("PF-days", 8.64e19),
        ("train/compute (petaflop/s-days)", 8.64e19),
        ("compute_pf_days", 8.64e19),
    ] {
        let table = read("t.csv", format!("params,{header},loss\n1e6,2,3\n").as_bytes()).unwrap();
        assert_eq!(table.rows[0].c, Some(2.0 * flop), "{header}");
    }
    for (header, unit) in [
        ("params (GB),tokens", "`GB`"),
        ("params,compute (A100-hours)", "`A100-hours`"),
        ("params,FLOPs (TFLOP/s)", "`TFLOP/s`"),
        ("params (PF-days),tokens", "`PF-days`"),
        ("params [furlongs],tokens", "`furlongs`"),
    ] {
        let error = read("t.csv", format!("{header},loss\n1e6,2,3\n").as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains(unit) && error.contains("not understood") && error.contains("*1e6"),
            "{error}"
        );
    }
    assert_eq!(n("params,loss (bits per byte)\n1e6,1\n").unwrap().2, "bits per byte");
    assert_eq!(n("params,loss (bits)\n1e6,1\n").unwrap().2, "bits per token");
    assert!((n("params,loss (ppl)\n1e6,20\n").unwrap().1 - 20_f64.ln()).abs() < 1e-12);
    // A unit that makes models of 10^14 parameters was not meant for these cells.
    let error = n("params (M),loss\n1.25e10,3\n").unwrap_err().to_string();
    assert!(error.contains("1.250e16") && error.contains("*1'"), "{error}");
    // The factor can be given.
    let options =
        ReadOptions { columns: vec![("n".into(), "size (GP)*1e9".into())], ..ReadOptions::default() };
    assert_eq!(read_table(b"size (GP),loss\n2,3\n", &options).unwrap().rows[0].n, Some(2e9));
    let options = ReadOptions { columns: vec![("n".into(), "width_M".into())], ..ReadOptions::default() };
    assert_eq!(read_table(b"width_M,loss\n2,3\n", &options).unwrap().rows[0].n, Some(2e6));
    assert_eq!(n("config.N_millions,summary/loss\n2,3\n").unwrap().0, 2e6);
    // Of a column that only few laws read, it is said where it is missed.
    let table = read("t.csv", b"params,batch size (images),loss\n1e6,2,3\n").unwrap();
    assert!(table.unreadable["batch"].contains("`images`"), "{:?}", table.unreadable);
}

#[test]
fn what_is_there_is_said_where_a_column_is_missing() {
    let error = read("t.csv", b"parms,toks,vall_loss\n1e6,2e6,3\n").unwrap_err().to_string();
    assert!(error.contains("its column `vall_loss` comes nearest"), "{error}");
    let options = ReadOptions { columns: vec![("loss".into(), "val_los".into())], ..ReadOptions::default() };
    let error = read_table(b"n,Val_Loss\n1,2\n", &options).unwrap_err().to_string();
    assert!(error.contains("did you mean --column 'loss=Val_Loss'"), "{error}");
    let options = ReadOptions { columns: vec![("loss".into(), "val_loss".into())], ..ReadOptions::default() };
    assert_eq!(read_table(b"n,Val_Loss\n1,2\n", &options).unwrap().rows[0].loss, 2.0);
    let table = read("t.csv", b"Gross_Params,flops,loss\n1e6,2e12,3\n").unwrap();
    assert!(table.unreadable["n"].contains("`Gross_Params` comes nearest"), "{:?}", table.unreadable);
}

#[test]
fn pythons_nan_and_infinity_cost_their_own_rows_only() {
    let text = "{\"params\": 1e7, \"tokens\": 2e8, \"loss\": 3.0, \"grad\": NaN}\n\
                {\"params\": 1e7, \"tokens\": 2e8, \"loss\": NaN}\n\
                {\"params\": 1e7, \"tokens\": 2e8, \"loss\": Infinity}\n\
                {\"params\": 1e7, \"tokens\": NaN, \"loss\": 3.5, \"lr\": -Infinity, \"run\": \"a NaN \\\" b\"}\n";
    for (name, text) in
        [("a.jsonl", text.to_owned()), ("a.json", format!("[{}]", text.trim().replace('\n', ",")))]
    {
        let table = read(name, text.as_bytes()).unwrap();
        let kept: Vec<(f64, Option<f64>)> = table.rows.iter().map(|r| (r.loss, r.d)).collect();
        assert_eq!(kept, [(3.0, Some(2e8)), (3.5, None)], "{name}");
        assert_eq!(table.rows[1].run, "a NaN \" b");
        let reasons: Vec<&str> = table.dropped.iter().map(|d| d.reason.as_str()).collect();
        assert!(
            reasons[0].starts_with("loss is NaN,") && reasons[1].starts_with("loss is Infinity,"),
            "{reasons:?}"
        );
    }
}

#[test]
fn encodings_are_recognised() {
    let text = "params,tokens,loss,Größe\n1e6,2e6,3,ü\n2e6,4e6,2.9,é\n";
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [utf16(text), big, little, latin(text), format!("\u{feff}{text}").into_bytes()] {
        let table = read("t.csv", &bytes).unwrap();
        assert_eq!((table.rows.len(), table.rows[1].loss), (2, 2.9));
        assert_eq!(table.rows[1].labels["größe"], "é");
    }
    let cut = &utf16(text)[..41];
    assert!(read("t.csv", cut).unwrap_err().to_string().contains("cut short"));
    assert!(read("t.xlsx", b"PK\x03\x04....").unwrap_err().to_string().contains("Excel"));
}

#[test]
fn unquoted_decimal_commas_between_commas_are_named() {
    let error =
        read("t.csv", b"params,tokens,loss\n1000,2000,3,25\n1000,2000,3,5\n").unwrap_err().to_string();
    assert!(error.contains("more cells than the header") && error.contains("decimal commas"), "{error}");
}

#[test]
fn what_a_column_holds_is_not_guessed_from_half_of_its_name() {
    let logs = b"log_params,log10(tokens),loss\n7,8,3\n8,9,2.9\n";
    for (canonical, column) in [("n", "log_params"), ("d", "log10(tokens)")] {
        let columns = vec![(canonical.to_owned(), column.to_owned())];
        let options = ReadOptions { columns, ..ReadOptions::default() };
        let error = read_table(logs, &options).unwrap_err().to_string();
        assert!(
            error.contains(&format!("`{column}` holds logarithms")) && error.contains("hint: "),
            "{error}"
        );
    }
    assert_eq!(
        read("a.csv", b"params,log_loss\n1e6,3\n").unwrap_err().to_string().matches("hint").count(),
        1
    );
    let error = read("a.csv", b"params,loss,loss\n1e6,3,2\n").unwrap_err().to_string();
    assert!(error.contains("columns 2 and 3 are both called `loss`"), "{error}");
    let error = read("a.json", b"[{'params': 1e6, 'loss': 3}]").unwrap_err().to_string();
    assert!(error.contains("json.dump"), "{error}");
}

#[test]
fn tokens_come_from_a_ratio_or_the_tokens_of_a_step() {
    let table = read("a.csv", b"params,tokens_per_param,loss\n1e6,20,3\n2e6,40,2.9\n").unwrap();
    assert_eq!(table.rows.iter().map(|r| r.d).collect::<Vec<_>>(), [Some(2e7), Some(8e7)]);
    assert!(table.notes.iter().any(|n| n.contains("tokens per parameter")), "{:?}", table.notes);
    let table = read("a.csv", b"params,step,tokens_per_step,loss\n1e6,100,524288,3\n").unwrap();
    assert_eq!(table.rows[0].d, Some(52_428_800.0));
}
