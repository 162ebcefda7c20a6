//! Tables of studies about rates, batches and data: what made them comes back, in whatever dialect they are written.

use crate::document::FitRecord;
use crate::{LawDocument, Options, ReadOptions, fit, read_table};

fn fitted(text: &str, forms: &[&str]) -> LawDocument {
    let options = ReadOptions { loss_optional: true, name: "table.csv".to_owned(), ..ReadOptions::default() };
    let table = read_table(text.as_bytes(), &options).unwrap();
    let forms = forms.iter().map(|f| (*f).to_owned()).collect();
    fit(&table, &Options { forms, bootstrap: 0, dense: false, ..Options::default() }).unwrap()
}

fn record<'a>(document: &'a LawDocument, form: &str, variant: &str, group: &str) -> &'a FitRecord {
    let found = document.fits.iter().find(|f| f.form == form && f.variant == variant && f.group == group);
    found.unwrap_or_else(|| panic!("no {form} {variant} {group}: {:?}", document.not_fitted))
}

fn holds(record: &FitRecord, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        let found = record.params.get(name).unwrap().value;
        let near = (found - value).abs() <= 1e-5 * value.abs().max(0.01);
        assert!(near, "{} {}: {name} is {found}, not {value}", record.form, record.variant);
        let known = record.identified[*name];
        assert!(known, "{} {}: {name} is not identified", record.form, record.variant);
    }
}

/// N, D, B and L of a grid that separates them.
fn grid() -> Vec<[f64; 4]> {
    let mut out = Vec::new();
    for n in [6e7, 2.5e8, 1e9] {
        for d in [2e9, 8e9, 1e11] {
            for b in [2.5e5, 1e6] {
                out.push([n, d, b, 1.7 + 400.0 / f64::powf(n, 0.34) + 400.0 / f64::powf(d, 0.28)]);
            }
        }
    }
    out
}

#[test]
fn laws_of_settings_give_their_constants_back() {
    type Law = fn([f64; 4]) -> f64;
    type Constants = &'static [(&'static str, f64)];
    let laws: [(&str, &str, Law, Constants); 9] = [
        (
            "lr_nd",
            "lr_opt",
            |[n, d, ..]| 1.79 * n.powf(-0.713) * d.powf(0.307),
            &[("G", 1.79), ("x", -0.713), ("y", 0.307)],
        ),
        (
            "lr_nb",
            "lr_opt",
            |[n, _, b, _]| 0.2 * n.powf(-0.3) * b.powf(0.5),
            &[("G", 0.2), ("x", -0.3), ("y", 0.5)],
        ),
        (
            "lr_db",
            "lr_opt",
            |[_, d, b, _]| 3.0 * b.powf(0.62) * d.powf(-0.56),
            &[("x", -0.56), ("y", 0.62), ("G", 3.0)],
        ),
        (
            "lr_ndb",
            "lr_opt",
            |[n, d, b, _]| 0.5 * n.powf(-0.4) * d.powf(-0.2) * b.powf(0.45),
            &[("x", -0.4), ("y", -0.2), ("z", 0.45), ("G", 0.5)],
        ),
        ("batch_d", "batch_opt", |[_, d, ..]| 0.58 * d.powf(0.571), &[("G", 0.58), ("exponent", 0.571)]),
        ("batch_nd", "batch_opt", |[n, d, ..]| 0.1 * n.powf(0.1) * d.powf(0.5), &[("x", 0.1), ("y", 0.5)]),
        ("b_crit_d", "b_crit", |[_, d, ..]| 20.0 * d.powf(0.462), &[("G", 20.0), ("exponent", 0.462)]),
        ("b_crit_nd", "b_crit", |[n, d, ..]| 20.0 * n.powf(0.05) * d.powf(0.45), &[("x", 0.05), ("y", 0.45)]),
        ("b_crit_l", "b_crit", |[.., l]| 2e8 * l.powf(-1.0 / 0.21), &[("alpha_B", 0.21), ("B_star", 2e8)]),
    ];
    for (form, response, law, expected) in laws {
        let mut text = format!("params,tokens,batch_tokens,loss,{response}\n");
        for [n, d, b, l] in grid() {
            text.push_str(&format!("{n},{d},{b},{l},{}\n", law([n, d, b, l])));
        }
        holds(record(&fitted(&text, &[form]), form, "", ""), expected);
        // And unasked, among whatever else the columns allow.
        assert!(fitted(&text, &[]).fits.iter().any(|f| f.form == form), "{form} is not offered");
    }
}

#[test]
fn sizes_and_tokens_that_move_together_say_which_exponent_is_unknown() {
    let mut text = String::from("N,D,lr_opt\n");
    for (i, n) in [1e7, 3e7, 1e8, 3e8, 1e9].into_iter().enumerate() {
        let wobble = 1.0 + 0.02 * f64::sin(3.0 * i as f64);
        text.push_str(&format!("{n},{},{}\n", 20.0 * n, 0.3 * f64::powf(n, -0.4) * wobble));
    }
    let document = fitted(&text, &["lr_nd"]);
    let fit = record(&document, "lr_nd", "", "");
    for name in ["x", "y"] {
        assert!(!fit.identified[name], "{name}: {:?}", fit.params.get(name));
    }
    let alone = fitted(&text, &["lr_n"]);
    assert!(record(&alone, "lr_n", "", "").identified["exponent"]);
}

#[test]
fn the_best_of_a_sweep_is_read_in_many_spellings() {
    let law = |n: f64, d: f64| 1.79 * n.powf(-0.713) * d.powf(0.307);
    for (head, mark) in [
        ("N,D,lr_opt", ','),
        ("Model size;Training tokens;Best LR", ';'),
        ("params\ttokens\toptimal learning rate", '\t'),
        ("n_params,train_tokens,eta_star", ','),
        ("N (M),D (B),best_lr", ','),
    ] {
        let scale = if head.contains("(M)") { (1e6, 1e9) } else { (1.0, 1.0) };
        let mut text = format!("{head}\n");
        for (n, d) in [(6e7, 2e9), (6e7, 8e10), (4e8, 2e9), (4e8, 8e10), (1e9, 2e10)] {
            text.push_str(&format!("{}{mark}{}{mark}{}\n", n / scale.0, d / scale.1, law(n, d)));
        }
        let document = fitted(&text, &[]);
        holds(record(&document, "lr_nd", "", ""), &[("G", 1.79), ("x", -0.713), ("y", 0.307)]);
        let question = document.comparisons.iter().find(|c| c.question.contains("learning rate"));
        assert!(question.is_some_and(|q| q.candidates.len() == 4), "{head}: {:?}", document.comparisons);
    }
}

/// ln-free losses of a clean law with what junk does to it.
fn junk_rows(of: impl Fn(f64, f64, f64) -> f64) -> Vec<[f64; 4]> {
    let mut out = Vec::new();
    for n in [1e5, 1e6, 1e7] {
        for d in [1e7, 1e8, 1e9] {
            for q in [0.0, 0.5, 0.75, 0.875] {
                out.push([n, d, q, of(n, d, q)]);
            }
        }
    }
    out
}

#[test]
fn every_reading_of_junk_gives_its_constants_back() {
    let (size, data) = (|n: f64| 300.0 / n.powf(0.33), |d: f64| 900.0 / d.powf(0.36));
    let base = [("E", 1.4), ("A", 300.0), ("B", 900.0), ("alpha", 0.33), ("beta", 0.36)];
    let text = |rows: Vec<[f64; 4]>| {
        rows.iter().fold("N,D,q,loss\n".to_owned(), |t, [n, d, q, l]| t + &format!("{n},{d},{q},{l}\n"))
    };
    let only_data = text(junk_rows(|n, d, q| 1.4 + size(n) + data(d * (1.0 - q).powf(1.6))));
    let offset = text(junk_rows(|n, d, q| 1.4 + size(n) + data(d * (1.0 - q)) + 0.25 * q));
    let capacity =
        text(junk_rows(|n, d, q| 1.4 + size(n * (1.0 - q).powf(0.4)) + data(d * (1.0 - q).powf(1.2))));
    for (text, variant, more) in [
        (&only_data, "sizes", &[("g", 1.6)][..]),
        (&offset, "offset", &[("k", 0.25)]),
        (&capacity, "sizes and data", &[("g", 1.2), ("h", 0.4)]),
    ] {
        let document = fitted(text, &["junk"]);
        holds(record(&document, "junk", variant, ""), &base);
        holds(record(&document, "junk", variant, ""), more);
        assert!(
            document.comparisons.iter().any(|c| c.question.starts_with("junk: ") && c.candidates.len() == 3)
        );
    }
}

#[test]
fn kinds_of_junk_are_fitted_apart_and_share_the_rows_without_it() {
    let loss = |n: f64, d: f64, q: f64, g: f64| {
        1.4 + 300.0 / n.powf(0.33) + 900.0 / (d * (1.0 - q).powf(g)).powf(0.36)
    };
    for (head, percent, clean, mark) in [
        ("N,D,q,junk_kind,loss", 1.0, "none", ','),
        ("params,tokens,Junk share (%),Kind of junk,val loss", 100.0, "", ','),
        ("Params;Tokens;junk fraction;noise type;Loss", 100.0, "clean", ';'),
    ] {
        let mut text = format!("{head}\n");
        for (kind, g) in [(clean, 1.0), ("base64", 0.8), ("uniform-ascii", 1.7)] {
            for [n, d, q, l] in junk_rows(|n, d, q| loss(n, d, q, g)) {
                if (kind == clean) == (q == 0.0) {
                    text.push_str(&format!("{n}{mark}{d}{mark}{}{mark}{kind}{mark}{l}\n", percent * q));
                }
            }
        }
        let document = fitted(&text, &["junk"]);
        for (group, g) in [("junk base64", 0.8), ("junk uniform-ascii", 1.7)] {
            let fit = record(&document, "junk", "sizes", group);
            holds(fit, &[("g", g), ("alpha", 0.33), ("beta", 0.36)]);
            assert_eq!(fit.rows_used, 9 + 27, "{head}");
            assert!(
                fit.notes.iter().any(|n| n.contains("9 rows without junk are shared")),
                "{:?}",
                fit.notes
            );
        }
        let groups: std::collections::BTreeSet<&str> =
            document.fits.iter().map(|f| f.group.as_str()).collect();
        assert_eq!(groups.len(), 2, "{head}: {groups:?}");
        let words = crate::text::document(&document);
        assert!(words.contains("junk base64"), "{words}");
    }
}

#[test]
fn epochs_tell_the_unique_tokens() {
    let star = 12.0;
    let mut by_unique = String::from("N,D,unique_tokens,loss\n");
    let mut by_epochs = String::from("N,D,Epochs,loss\n");
    let mut without_d = String::from("N,unique_tokens,epochs,loss\n");
    for n in [1e6, 1e7, 1e8] {
        for unique in [2e8, 2e9] {
            for epochs in [1.0, 4.0, 16.0, 64.0] {
                let d: f64 = unique * epochs;
                let worth = unique + unique * star * (1.0 - f64::exp(-(epochs - 1.0) / star));
                let loss = 1.7 + 400.0 / f64::powf(n, 0.34) + 900.0 / f64::powf(worth, 0.3);
                by_unique.push_str(&format!("{n},{d},{unique},{loss}\n"));
                by_epochs.push_str(&format!("{n},{d},{epochs},{loss}\n"));
                without_d.push_str(&format!("{n},{unique},{epochs},{loss}\n"));
            }
        }
    }
    for text in [by_unique, by_epochs, without_d] {
        let document = fitted(&text, &["repeat"]);
        holds(record(&document, "repeat", "data", ""), &[("R_star_D", star), ("alpha", 0.34), ("beta", 0.3)]);
    }
    // Less than one pass sees every token of D once.
    let table = read_table(b"n,d,epochs,loss\n1e6,1e8,0.5,3\n", &ReadOptions::default()).unwrap();
    assert_eq!(table.rows[0].get("unique_tokens"), Some(1e8));
}
