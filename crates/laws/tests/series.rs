//! A small series of the kind `demo` trains: what is fitted, what is said of it, and that the document survives JSON.

use isoflop_laws::document::LawDocument;
use isoflop_laws::{Options, Row, Table, fit};

const SIZES: [f64; 7] = [13_824.0, 24_576.0, 55_296.0, 102_400.0, 200_704.0, 602_112.0, 1_536_000.0];

fn demo_like(noise: f64) -> Table {
    let mut table = Table::default();
    let mut random = isoflop_laws::numeric::random::Random::new(3, 0);
    let mut line = 0;
    for n in SIZES {
        for d in [3e6, 6e6, 12e6] {
            let seeds = if n == 24_576.0 { 3 } else { 1 };
            for seed in 1..=seeds {
                line += 1;
                let loss = 1.0 + 6.0 / n.powf(0.25) + 40.0 / f64::powf(d, 0.3);
                let mut row = Row::of(line, n, d, loss * (noise * random.normal()).exp());
                row.run = format!("n{n}-s{seed}");
                row.seed = Some(seed);
                table.rows.push(row);
            }
        }
    }
    table
}

fn options() -> Options {
    Options { dense: false, bootstrap: 100, ..Options::default() }
}

#[test]
fn every_law_of_the_series_is_there() {
    let document = fit(&demo_like(0.003), &options()).unwrap();
    let count = |form: &str| document.fits.iter().filter(|f| f.form == form).count();
    assert_eq!(count("l_n"), 6, "pure and irreducible at three D");
    assert_eq!(count("l_nd_chinchilla"), 1);
    assert_eq!(count("l_c"), 2);
    assert!(count("l_d") >= 7);
    for f in &document.fits {
        assert!(f.objective.is_some() && f.starts > 0 && !f.recipe.is_empty() && f.r2_loglog.is_some());
        assert!(f.params.iter().all(|(_, p)| p.value.is_finite()), "{f:?}");
    }
    let l_n = document.fits.iter().find(|f| f.form == "l_n" && f.variant == "pure").unwrap();
    assert_eq!(l_n.condition["tokens"], 3e6);
    assert_eq!(l_n.local_slope.len(), 6);
    let alpha = l_n.params.get("alpha").unwrap();
    assert!(alpha.lo.unwrap() < alpha.value && alpha.value < alpha.hi.unwrap());
    assert!(l_n.curvature.as_ref().unwrap().lo.is_some());
    assert!(document.comparisons.len() >= 4);
    let seeds = document.seed_spread.unwrap();
    // Three seeds seen at three D: the same luck, two degrees of freedom.
    assert_eq!((seeds.groups, seeds.dof), (3, 2));
}

#[test]
fn the_document_survives_json() {
    let document = fit(&demo_like(0.003), &options()).unwrap();
    let text = serde_json::to_string(&document).unwrap();
    assert!(!text.contains("NaN") && !text.contains("Infinity"));
    let back: LawDocument = serde_json::from_str(&text).unwrap();
    assert_eq!(document, back);
}

#[test]
fn thread_count_changes_nothing() {
    let table = demo_like(0.003);
    let one = fit(&table, &Options { threads: 1, ..options() }).unwrap();
    let three = fit(&table, &Options { threads: 3, ..options() }).unwrap();
    assert_eq!(one, three);
}

#[test]
fn unknown_forms_name_the_nearest() {
    let asked = Options { forms: vec!["l_nd_chinchila".to_owned()], ..options() };
    let error = fit(&demo_like(0.0), &asked).unwrap_err().to_string();
    assert!(error.contains("did you mean `l_nd_chinchilla`"), "{error}");
}

#[test]
fn tiny_tables_are_errors_that_say_how_many_rows_are_needed() {
    let mut table = Table::default();
    let error = fit(&table, &options()).unwrap_err().to_string();
    assert!(error.contains("at least"), "{error}");
    table.rows.push(Row::of(2, 1e6, 1e8, 3.0));
    let asked = Options { forms: vec!["l_nd_chinchilla".to_owned()], ..options() };
    let error = fit(&table, &asked).unwrap_err().to_string();
    assert!(error.contains("at least 6"), "{error}");
}
