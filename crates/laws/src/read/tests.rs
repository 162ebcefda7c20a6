//! What the reader takes and what it lists.

mod dialects;

use super::*;

fn read(text: &str) -> Result<Table, LawError> {
    read_table(text.as_bytes(), &ReadOptions { name: "points.csv".into(), ..ReadOptions::default() })
}

#[test]
fn synonyms_units_and_quotes_are_understood() {
    for text in [
        "N,D,loss\n1.2B,30B,2.5\n300M,6e9,2.9\n",
        "\u{feff}params,Train Tokens,val_loss\r\n\"1,200,000,000\",30_000_000_000,2.5\r\n300M,6B,2.9\r\n",
        "n_params\ttokens\tfinal loss\n1.2e9\t30B\t2.5\n3e8\t6e9\t2.9\n",
        "params (M);tokens (B);loss\n1200;30;2,5\n300;6;2,9\n",
        "# from W&B\nparameters,training_tokens,eval/loss\n1.2G,30B,2.5\n300M,6B,2.9\n",
        "{\"N\": 1.2e9, \"tokens\": \"30B\", \"loss\": 2.5}\n\n{\"N\": 3e8, \"tokens\": 6e9, \"loss\": 2.9}\n",
        "{\"config\": {\"n_params\": \"1.2B\"}, \"summary\": {\"loss\": 2.5, \"tokens\": 3e10}}\n{\"config\": \
         {\"n_params\": 3e8}, \"summary\": {\"loss\": 2.9, \"tokens\": 6e9}}",
        "[{\"parameters\": 1200000000, \"d\": 3e10, \"loss\": 2.5}, {\"parameters\": 3e8, \"d\": 6e9, \"loss\": 2.9}]",
    ] {
        let table = read(text).unwrap();
        assert_eq!(table.rows.len(), 2, "{text}");
        let row = &table.rows[0];
        assert_eq!((row.n, row.d, row.loss), (Some(1.2e9), Some(3e10), 2.5), "{text}");
        assert_eq!(row.c, Some(6.0 * 1.2e9 * 3e10));
        assert!(table.notes.iter().any(|n| n.contains("C = 6·N·D")), "{:?}", table.notes);
    }
}

#[test]
fn other_peoples_layouts_are_understood() {
    let files = [
        (
            "a.csv",
            "Number of Parameters , Number of Training Tokens , Final Validation Loss\n1.2B , 30B , 2.5\n300M,6B,2.9\n",
        ),
        ("b.csv", "params;tokens;loss\n1.200.000.000;30.000.000.000;2,5\n300.000.000;6.000.000.000;2,9\n"),
        (
            "c.csv",
            "params,tokens,loss\n1 200 000 000,30 000 000 000,2.5\n300 000 000,6\u{a0}000\u{a0}000\u{a0}000,2.9\n",
        ),
        ("d.csv", "params|tokens|loss\n1.2B|30B|2.5\n300M|6B|2.9\n"),
        ("e.md", "| params | tokens | loss |\n|:---|---:|---|\n| 1.2B | 30B | 2.5 |\n| 300M | 6B | 2.9 |\n"),
        ("f.txt", "params     tokens  loss\n1.2B       30B     2.5\n300M       6B      2.9\n"),
        ("g.csv", "params,tokens,loss\n1.2B,30B,2.5,\n300M,6B,2.9,\n"),
        ("h.csv", "Table 3: our runs\nparams,tokens,loss\n1.2B,30B,2.5\n300M,6B,2.9\n"),
        (
            "i.csv",
            "params,tokens,ppl\n1.2 B params,30bn tokens,12.182493960703473\n0.3 billion,6 B,18.17414536944306\n",
        ),
        ("j.csv", "params,tokens,loss\n1.2×10^9,3*10^10,2.5\n3x10^8,6·10^9,2.9\n"),
        ("k.json", "{\"params\": [1.2e9, 3e8], \"tokens\": [3e10, 6e9], \"loss\": [2.5, 2.9]}"),
        (
            "l.json",
            "{\"project\": \"x\", \"runs\": [{\"params\": 1.2e9, \"tokens\": 3e10, \"loss\": 2.5},\n \
             {\"params\": 3e8, \"tokens\": 6e9, \"loss\": 2.9}]}",
        ),
        ("m.csv", "params,tokens,loss,remark\n1.2B,30B,2.5,\"two\nlines, \"\"quoted\"\"\"\n300M,6B,2.9,\n"),
        ("n.csv", "params,tokens,loss\r1.2B,30B,2.5\r300M,6B,2.9\r"),
    ];
    for (name, text) in files {
        let options = ReadOptions { name: name.to_owned(), ..ReadOptions::default() };
        let table = read_table(text.as_bytes(), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((table.rows.len(), &table.dropped), (2, &Vec::new()), "{name}");
        for (row, (n, d, loss)) in table.rows.iter().zip([(1.2e9, 3e10, 2.5), (3e8, 6e9, 2.9)]) {
            let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
            assert!(
                near(row.n.unwrap(), n) && near(row.d.unwrap(), d) && near(row.loss, loss),
                "{name}: {row:?}"
            );
        }
    }
    let titled = read("Our runs\n\nparams,tokens,loss\n1.2B,30B,2.5\nx,6B,2.9\n").unwrap();
    assert_eq!(titled.dropped[0].row, 5, "{titled:?}");
    assert!(titled.notes.iter().any(|n| n.contains("`Our runs`")), "{:?}", titled.notes);
    assert_eq!(read("params,tokens,bpb\n1e9,1e10,0.9\n").unwrap().loss_unit, "bits per byte");
}

#[test]
fn a_column_without_numbers_is_said_to_be_one() {
    let table = read("params,tokens,loss\nsmall,1B,3\nlarge,2B,2\n").unwrap();
    let error =
        crate::fit(&table, &crate::Options { forms: vec!["l_n".into()], ..crate::Options::default() });
    let words = error.unwrap_err().to_string();
    assert!(words.contains("its column `params` holds no number but e.g. `small`"), "{words}");
    let table = read("params,tokens,loss\n1B,1B,3 ± 0.1\n").unwrap();
    assert!(table.dropped[0].reason.contains("`3 ± 0.1` is not a number"), "{table:?}");
    assert!(read("params,tokens,ppl\n1B,1B,0.5\n").unwrap().dropped[0].reason.contains("perplexity"));
}

#[test]
fn bad_rows_are_listed_with_their_lines() {
    let text = "n,d,loss,status\n1e6,1e8,3.0,done\nx,1e8,3.0,done\n1e6,0,3.0,done\n1e6,1e8,nan,done\n1e6,1e8,-1,done\n\
                1e6,1e8\n1e6,1e8,3.1,diverged\n1e6,1e8,,done\n2e6,1e8,inf,done\n";
    let table = read(text).unwrap();
    assert_eq!(table.rows.len(), 1);
    let lines: Vec<usize> = table.dropped.iter().map(|d| d.row).collect();
    assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9, 10]);
    for (dropped, word) in table.dropped.iter().zip([
        "`x` is not a number",
        "not a positive",
        "not a positive",
        "not a positive",
        "2 cells where the header has 4",
        "diverged",
        "empty",
        "not a positive",
    ]) {
        assert!(dropped.reason.contains(word), "{dropped:?}");
    }
}

#[test]
fn missing_sizes_are_derived() {
    let table = read("compute_budget,parameters,final_loss\n6e18,1e9,2.5\n").unwrap();
    assert_eq!(table.rows[0].d, Some(1e9));
    assert!(table.notes.iter().any(|n| n.contains("D = C/(6·N)")));
}

#[test]
fn columns_can_be_chosen() {
    let options = ReadOptions {
        columns: vec![("loss".into(), "c4".into()), ("N".into(), "total".into())],
        ..ReadOptions::default()
    };
    let table = read_table(b"total,loss,c4,tokens\n1e9,9,2.5,1e10\n", &options).unwrap();
    assert_eq!((table.rows[0].n, table.rows[0].loss), (Some(1e9), 2.5));
    let missing = ReadOptions { columns: vec![("loss".into(), "c5".into())], ..ReadOptions::default() };
    let error = read_table(b"n,c4\n1,2\n", &missing).unwrap_err().to_string();
    assert!(error.contains("no column `c5`") && error.contains("n, c4"));
}

#[test]
fn what_is_no_table_is_an_error_with_a_hint() {
    for bytes in [
        &b""[..],
        b"\n\n",
        b"1,2,3\n4,5,6\n",
        b"a,b\n1,2\n",
        b"PAR1....",
        b"\xff\xfe\x00",
        b"PK\x03\x04",
        b"\x1f\x8b\x08\x00",
        b"n,loss\n\x80\x81,1\n",
        b"{\"n\": 1",
        b"[1, 2]",
        b"[",
    ] {
        let error = read_table(bytes, &ReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains("hint: "), "{error}");
    }
}

mod random {
    use super::*;
    use proptest::prelude::*;

    /// Tables that read well, to be damaged.
    const WHOLE: [&str; 10] = [
        "params,tokens,loss,note\n1.2B,30B,2.5,\"a\nb\"\n\"1,200,000\",6e9,2.9,x\n",
        "params (M);tokens;loss\r\n1.200.000;30B;2,5\r\n300;6B;2,9\r\n",
        "| params | tokens | ppl |\n|---|---|---|\n| 1.2×10^9 | 30 B tokens | 12.5 |\n",
        "params  tokens  loss\n1e9     30B     2.5\n3 ± 1   6B      2.9\n",
        "{\"a\": {\"params\": 1e9, \"tokens\": \"30B\"}, \"loss\": 2.5}\n{\"loss\": null}\n[1]\n",
        "{\"params\": [1e9, 3e8], \"tokens\": [1, 2], \"loss\": [2.5, 2.9]}",
        "{\"columns\": [\"params\", \"loss\"], \"index\": [0], \"data\": [[1e9, NaN]]}",
        "{\"params\": {\"0\": 1e9, \"1\": -Infinity}, \"loss\": {\"0\": 2.5, \"1\": 2.9}}",
        "\"Step\",\"a-124M - val/loss\",\"a-124M - val/loss__MIN\",\"b-1B - val/loss\"\n1,3.5,3,\n2,,,3.1\n",
        "sep=;\r\nparams [1e6];compute (PF-days);loss, nats\r\n1.234,5;2;2,5\r\n300;6;2,9\r\n",
    ];

    fn damaged(which: usize, changes: &[(usize, u8)], cut: Option<usize>) {
        let mut bytes = WHOLE[which].as_bytes().to_vec();
        for (at, value) in changes {
            let at = at % (bytes.len() + 1);
            // Mostly marks that mean something.
            let marks = b",;|\t\n\r\"{}[]:.-+eE_ %\xc2\xa0\xef0919BMkn#";
            bytes.insert(at, if *value < 200 { marks[*value as usize % marks.len()] } else { *value });
            if value % 3 == 0 {
                bytes.remove((at + 1).min(bytes.len() - 1));
            }
        }
        bytes.truncate(cut.map_or(bytes.len(), |c| c % (bytes.len() + 1)));
        for name in ["points", "points.csv", "points.tsv", "points.jsonl"] {
            let options = ReadOptions { name: name.to_owned(), ..ReadOptions::default() };
            if let Ok(table) = read_table(&bytes, &options) {
                assert!(table.rows.iter().all(|r| r.loss > 0.0 && r.loss.is_finite()), "{bytes:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000_000, ..ProptestConfig::default() })]

        #[test]
        #[ignore = "minutes: cargo test --release -p isoflop-laws --lib -- --ignored"]
        fn two_million_damaged_tables_make_no_panic(
            which in 0..WHOLE.len(),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
            cut in proptest::option::weighted(0.1, any::<usize>()),
        ) {
            damaged(which, &changes, cut);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        #[test]
        fn no_damaged_table_makes_it_panic(
            which in 0..WHOLE.len(),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
            cut in proptest::option::weighted(0.1, any::<usize>()),
        ) {
            damaged(which, &changes, cut);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_table(&bytes, &ReadOptions::default());
        }

        #[test]
        fn no_text_that_looks_like_a_table_makes_it_panic(
            text in "(n|loss|d|c|\\{|\"|,|;|\t|\n|1e9|-|nan|\\[|\\]|:|é|1,000| ){0,120}",
        ) {
            let _ = read_table(text.as_bytes(), &ReadOptions::default());
            let with_header = format!("n,d,loss\n{text}");
            if let Ok(table) = read_table(with_header.as_bytes(), &ReadOptions::default()) {
                prop_assert!(table.rows.iter().all(|r| r.loss > 0.0 && r.loss.is_finite()));
            }
        }
    }
}
