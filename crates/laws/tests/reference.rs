//! The bars: published fits that a correct fitter must reach or beat, on the rows they were made from (see
//! `data/NOTICE.md`).

use isoflop_laws::{Loss, Options, ReadOptions, Table, fit, read_table};

fn table(name: &str, bytes: &[u8], columns: &[(&str, &str)]) -> Table {
    let columns = columns.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    read_table(
        bytes,
        &ReadOptions { columns, name: name.to_owned(), loss_optional: true, ..ReadOptions::default() },
    )
    .unwrap()
}

fn options(form: &str, loss: Loss) -> Options {
    Options { forms: vec![form.to_owned()], loss, bootstrap: 0, ..Options::default() }
}

fn close(got: f64, want: f64, relative: f64) {
    assert!((got / want - 1.0).abs() <= relative, "{got} is not {want} within {relative}");
}

const CLOUD: &[u8] = include_bytes!("../data/chinchilla_cloud.csv");
const CS336: &[u8] = include_bytes!("../data/cs336_isoflops.json");
const PAIRS: &[u8] = include_bytes!("../data/formll_optimal_pairs.csv");
const PUBLISHED: &[u8] = include_bytes!("../data/formll_published_fits.csv");
const STEPS: &[u8] = include_bytes!("../data/critical_batch_steps.csv");
const OVERTRAINING: &[u8] = include_bytes!("../data/overtraining.csv");

#[test]
fn noise_free_rows_give_their_law_back() {
    let rows = table("isoflops_curves.json", CS336, &[]);
    assert_eq!((rows.rows.len(), rows.dropped.len()), (72, 0));
    let document = fit(&rows, &options("l_nd_chinchilla", Loss::Huber)).unwrap();
    let f = &document.fits[0];
    for (name, want) in [("E", 2.69), ("A", 1606.4), ("B", 3210.7), ("alpha", 0.34), ("beta", 0.36)] {
        close(f.params.get(name).unwrap().value, want, 1e-6);
    }
    assert!(f.objective.unwrap() < 1e-17, "{:?}", f.objective);
    let a = |approach: &str| {
        document
            .allocation
            .iter()
            .find(|a| a.approach == approach)
            .unwrap_or_else(|| panic!("{approach}"))
            .a
            .value
    };
    assert!((a("parabola") - 0.5146).abs() < 5e-5, "{}", a("parabola"));
    assert!((a("argmin") - 0.4687).abs() < 5e-5, "{}", a("argmin"));
    close(a("parametric"), 0.36 / 0.70, 1e-6);
}

#[test]
fn the_chinchilla_cloud_by_huber() {
    let document = fit(&table("df.csv", CLOUD, &[]), &options("l_nd_chinchilla", Loss::Huber)).unwrap();
    let f = &document.fits[0];
    assert_eq!((f.rows_used, f.starts), (234, 4500));
    assert!(f.objective.unwrap() <= 0.000_840_094, "{:?}", f.objective);
    close(f.varpro_objective.unwrap(), f.objective.unwrap(), 1e-9);
    assert!(f.starts_agree > 1000, "{}", f.starts_agree);
    for (name, want) in
        [("E", 1.783_894), ("A", 442.164), ("B", 1271.81), ("alpha", 0.342_626), ("beta", 0.342_002)]
    {
        close(f.params.get(name).unwrap().value, want, 1e-4);
    }
}

#[test]
fn the_chinchilla_cloud_by_the_asymmetric_recipe() {
    let document = fit(&table("df.csv", CLOUD, &[]), &options("l_nd_chinchilla", Loss::Asymmetric)).unwrap();
    let f = &document.fits[0];
    assert!(f.objective.unwrap() <= 0.022_782_1, "{:?}", f.objective);
    for (name, want) in [("E", 1.700_246), ("A", 184.732), ("alpha", 0.289_021), ("beta", 0.355_775)] {
        close(f.params.get(name).unwrap().value, want, 1e-3);
    }
}

/// The fifteen weighted exponents of Porian et al., from the pairs of budget and optimum; rows without a standard error
/// are listed.
#[test]
fn fifteen_weighted_exponents() {
    let pairs = table(
        "optimal_pairs.csv",
        PAIRS,
        &[("n_opt", "n"), ("c", "flops"), ("log_se", "n_star_std"), ("loss", "loss")],
    );
    assert_eq!(pairs.dropped.len(), 4, "{:?}", pairs.dropped.first());
    assert!(
        pairs.dropped.iter().all(|d| d.reason.contains("standard error is empty")),
        "{:?}",
        pairs.dropped
    );
    let text = std::str::from_utf8(PUBLISHED).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let keys = ["dataset", "hparams", "warmup", "decay", "param_count", "val", "file"];
    let mut count = 0;
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let group = pairs.filtered(|r| {
            keys.iter().all(|k| r.labels.get(*k).map(String::as_str) == Some(cells[column(k)]))
        });
        let document = fit(&group, &options("n_opt", Loss::Mse)).unwrap();
        let got = document.fits[0].params.get("exponent").unwrap().value;
        close(got, cells[column("weighted.n_exponent")].parse().unwrap(), 1e-9);
        count += 1;
    }
    assert_eq!(count, 15);
}

#[test]
fn critical_batch_sizes_and_their_law() {
    let steps = table(
        "steps_to_target.csv",
        STEPS,
        &[("n", "model_size_M"), ("batch", "batch_size_sequences"), ("steps", "steps_to_target")],
    );
    assert_eq!(steps.rows.len(), 45);
    let document = fit(&steps, &options("hyperbola", Loss::Mse)).unwrap();
    assert_eq!(document.fits.len(), 5);
    let mut law = Table::default();
    let want = [
        (1293.83, 2_834_258.0, 745.32, 2191.0),
        (1752.42, 5_677_479.0, 955.16, 3240.0),
        (2095.35, 1.1383e7, 1393.73, 5433.0),
        (2459.93, 1.9450e7, 1888.52, 7907.0),
        (3897.31, 4.3381e7, 2533.41, 11131.0),
    ];
    for (f, (a, b, cbs, ratio)) in document.fits.iter().zip(want) {
        close(f.params.get("S_min").unwrap().value, a, 1e-5);
        close(f.params.get("E_min").unwrap().value, b, 1e-4);
        close(f.params.get("B_20").unwrap().value, cbs, 1e-5);
        // Printed as whole sequences.
        assert!((f.params.get("B_crit").unwrap().value - ratio).abs() < 1.0);
        let mut row = isoflop_laws::Row::of(law.rows.len() + 1, f.condition["params"] / 1e6, 1.0, 1.0);
        row.extra.insert("b_crit".to_owned(), f.params.get("B_20").unwrap().value);
        law.rows.push(row);
    }
    let document = fit(&law, &options("b_crit_n", Loss::Mse)).unwrap();
    close(document.fits[0].params.get("G").unwrap().value, 93.197, 1e-4);
    close(document.fits[0].params.get("exponent").unwrap().value, 0.46828, 1e-4);
}

#[test]
fn overtraining_coefficients_and_forecasts() {
    let all = table(
        "overtraining.csv",
        OVERTRAINING,
        &[("n", "N"), ("d", "D"), ("loss", "loss_c4_val"), ("run", "name")],
    );
    let mut fits = Vec::new();
    for (set, e, a, b, eta) in [
        ("c4_original", 1.51, 141.0, 190.0, 0.121),
        ("rpj", 1.84, 212.0, 367.0, 0.136),
        ("rw_original", 1.73, 157.0, 246.0, 0.127),
    ] {
        let rows = all.with_value("train_set", set);
        let small = rows.filtered(|r| {
            let times = r.get("chinchilla_multiplier").unwrap();
            let d = |w: &str| r.labels["model"].starts_with(w);
            (times == 1.0 && ["d=96_", "d=512_", "d=576_", "d=1024_"].iter().any(|w| d(w)))
                || (times == 16.0 && d("d=96_"))
        });
        assert_eq!(small.rows.len(), 5, "{set}");
        let document = fit(&small, &options("overtraining", Loss::RawMse)).unwrap();
        let f = document.fits[0].clone();
        close(f.params.get("E").unwrap().value, e, 5e-3);
        close(f.params.get("a").unwrap().value, a, 1e-2);
        close(f.params.get("b").unwrap().value, b, 1e-2);
        close(f.params.get("eta").unwrap().value, eta, 5e-3);
        fits.push((f, rows));
    }
    let (f, rows) = &fits[1];
    let error = |pick: &dyn Fn(f64, f64) -> bool| {
        let row =
            rows.rows.iter().find(|r| pick(r.n.unwrap(), r.get("m_tokens_per_param").unwrap())).unwrap();
        let band = isoflop_laws::evaluate(f, &|name| row.get(name)).unwrap();
        (band.value / row.loss - 1.0).abs()
    };
    let big = error(&|n, m| (1.2e9..1.6e9).contains(&n) && (m - 640.0).abs() < 1.0);
    let seven = error(&|n, m| n > 6e9 && (m - 20.0).abs() < 1.0);
    assert!((big - 0.0071).abs() < 1e-4, "{big}");
    assert!((seven - 0.0073).abs() < 1e-4, "{seven}");
}
