//! What the reader takes and what it lists.

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
        "{\"config\": {\"n_params\": \"1.2B\"}, \"summary\": {\"loss\": 2.5, \"tokens\": 3e10}}\n{\"config\": {\"n_params\": 3e8}, \"summary\": {\"loss\": 2.9, \"tokens\": 6e9}}",
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
