//! Properties every fit has: scale, order, duplicates; and no panic on odd tables.

use isoflop_laws::document::FitRecord;
use isoflop_laws::numeric::random::Random;
use isoflop_laws::{Options, Row, Table, fit};

fn cloud() -> Table {
    let mut random = Random::new(11, 0);
    let mut table = Table::default();
    for i in 0..24 {
        let n = 1e6 * 10f64.powf(f64::from(i % 6) * 0.5);
        let d = 1e8 * 10f64.powf(f64::from(i / 6) * 0.7);
        let loss = (1.8 + 400.0 / n.powf(0.34) + 1200.0 / d.powf(0.36)) * (0.004 * random.normal()).exp();
        table.rows.push(Row::of(i as usize + 2, n, d, loss));
    }
    table
}

fn one(table: &Table) -> FitRecord {
    let options = Options {
        forms: vec!["l_nd_chinchilla".to_owned()],
        bootstrap: 0,
        dense: false,
        holdout: false,
        ..Options::default()
    };
    fit(table, &options).unwrap().fits.remove(0)
}

fn value(f: &FitRecord, name: &str) -> f64 {
    f.params.get(name).unwrap().value
}

fn close(a: f64, b: f64, relative: f64) {
    assert!((a / b - 1.0).abs() < relative, "{a} {b}");
}

#[test]
fn counting_n_in_other_units_changes_only_its_coefficient() {
    let table = cloud();
    let mut scaled = table.clone();
    for row in &mut scaled.rows {
        row.n = row.n.map(|n| n * 1000.0);
    }
    let (a, b) = (one(&table), one(&scaled));
    for name in ["E", "B", "alpha", "beta"] {
        close(value(&a, name), value(&b, name), 1e-6);
    }
    close(value(&b, "A"), value(&a, "A") * 1000f64.powf(value(&a, "alpha")), 1e-5);
    close(a.objective.unwrap(), b.objective.unwrap(), 1e-9);
}

#[test]
fn the_order_of_rows_is_irrelevant() {
    let table = cloud();
    let mut turned = table.clone();
    turned.rows.reverse();
    turned.rows.swap(3, 17);
    let (a, b) = (one(&table), one(&turned));
    for name in ["E", "A", "B", "alpha", "beta"] {
        close(value(&a, name), value(&b, name), 1e-7);
    }
}

#[test]
fn a_duplicated_row_is_a_row_of_weight_two() {
    let mut twice = cloud();
    let mut weighted = cloud();
    for i in [0, 5, 9] {
        twice.rows.push(twice.rows[i].clone());
        weighted.rows[i].weight = 2.0;
    }
    let (a, b) = (one(&twice), one(&weighted));
    for name in ["E", "A", "B", "alpha", "beta"] {
        close(value(&a, name), value(&b, name), 1e-7);
        let (p, q) = (a.params.get(name).unwrap(), b.params.get(name).unwrap());
        close(p.lo.unwrap(), q.lo.unwrap(), 1e-3);
        close(p.hi.unwrap(), q.hi.unwrap(), 1e-3);
    }
    close(a.objective.unwrap(), b.objective.unwrap(), 1e-9);
}

#[test]
fn odd_tables_never_panic_and_never_leave_a_nan() {
    let mut random = Random::new(5, 0);
    for k in 0..24 {
        let mut table = Table::default();
        let rows = random.below(14);
        for line in 0..rows {
            let wild = |r: &mut Random| match r.below(5) {
                0 => 1.0,
                1 => 1e-300,
                2 => 1e300,
                3 => 1e6,
                _ => 10f64.powf(12.0 * r.uniform()),
            };
            let (n, d) = (wild(&mut random), wild(&mut random));
            let loss = if k % 3 == 0 { 2.0 } else { wild(&mut random).min(1e200) };
            let mut row = Row::of(line + 2, n, d, loss);
            row.c = row.c.filter(|c| c.is_finite() && *c > 0.0);
            row.seed = Some(random.below(3) as u64);
            row.extra.insert("batch".into(), wild(&mut random));
            row.extra.insert("steps".into(), wild(&mut random));
            row.extra.insert("unique_tokens".into(), wild(&mut random));
            row.extra.insert("junk".into(), random.uniform() * 2.0 - 0.5);
            table.rows.push(row);
        }
        let options = Options { dense: false, bootstrap: 20, ..Options::default() };
        if let Ok(document) = fit(&table, &options) {
            let text = serde_json::to_string(&document).unwrap();
            let back: isoflop_laws::LawDocument = serde_json::from_str(&text)
                .unwrap_or_else(|e| panic!("table {k} left a number that is none: {e}"));
            assert_eq!(back.fits.len(), document.fits.len());
        }
    }
}
