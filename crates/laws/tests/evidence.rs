//! What a table tells is said as it is: copies, runs, units, exact laws, missing columns, places outside of the rows.

use isoflop_laws::numeric::random::Random;
use isoflop_laws::{
    LawDocument, Loss, Options, ReadOptions, Row, Table, Target, fit, forecast, read_table, text,
};

const N: [f64; 8] = [1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9, 2e9];
const D: [f64; 4] = [2e8, 1e9, 5e9, 2e10];

fn law(n: f64, d: f64) -> f64 {
    1.7 + 400.0 / n.powf(0.34) + 600.0 / d.powf(0.30)
}

fn grid() -> Vec<(f64, f64)> {
    N.iter().flat_map(|n| D.map(|d| (*n, d))).collect()
}

fn read(text: &str) -> Table {
    read_table(text.as_bytes(), &ReadOptions { name: "a.csv".into(), ..ReadOptions::default() }).unwrap()
}

fn options(forms: &[&str], bootstrap: usize) -> Options {
    Options {
        forms: forms.iter().map(|f| (*f).to_owned()).collect(),
        bootstrap,
        dense: false,
        ..Options::default()
    }
}

fn value(document: &LawDocument, form: &str, name: &str) -> f64 {
    let fit = document.fits.iter().find(|f| f.form == form).unwrap_or_else(|| panic!("no {form}"));
    fit.params.get(name).unwrap_or_else(|| panic!("no {name}")).value
}

#[test]
fn a_copied_row_counts_once_and_is_named() {
    let mut random = Random::new(9, 0);
    let rows: Vec<String> = grid()
        .iter()
        .enumerate()
        .map(|(i, (n, d))| format!("r{i},{n},{d},{}\n", law(*n, *d) * (0.004 * random.normal()).exp()))
        .collect();
    let header = "run,params,tokens,loss\n".to_owned();
    let once = read(&(header.clone() + &rows.concat()));
    let often = read(&(header + &rows[0].repeat(40) + &rows[1..].concat()));
    assert!(
        often.notes.iter().any(|n| n.contains("39 rows are exact copies") && n.contains("39 of r0")),
        "{:?}",
        often.notes
    );
    let of = |table: &Table| fit(table, &options(&["l_nd_chinchilla"], 0)).unwrap().fits.remove(0).params;
    assert_eq!(of(&once), of(&often));
}

/// Two runs on a frontier, one of them with a single row, which the estimate passes through: their scores are nothing,
/// and tell nothing of how another run would lie. As found: an interval of ±0.000001.
#[test]
fn two_runs_do_not_make_a_law_certain() {
    let text = "run,flops,loss\na,86350233600,2.440741\na,172700467200,2.409594\na,345518899200,2.168517\n\
        a,691155763200,1.936413\nb,1769358753792,1.806496\n";
    let document = fit(&read(text), &options(&["l_c"], 0)).unwrap();
    for record in document.fits.iter().filter(|f| f.form == "l_c") {
        let alpha = record.params.get("alpha").unwrap();
        let wide = alpha.lo.zip(alpha.hi).is_none_or(|(lo, hi)| hi - lo > 0.05);
        assert!(wide && !record.identified["alpha"], "{}: {alpha:?}", record.variant);
    }
}

#[test]
fn bits_per_byte_and_effective_parameters_are_read_by_their_names() {
    let text = "FLOPs\tEff_Params\tTokens\tRatio\tVal_BPB\n\
        1e+18\t110,678,115\t1,241,505,403\t11.2\t0.8972\n2e+18\t167,797,457\t1,785,336,422\t10.7\t0.8616\n\
        5e+18\t250,650,865\t2,642,234,152\t10.8\t0.8293\n1e+19\t381,758,347\t3,806,871,243\t10.3\t0.7999\n";
    let table = read(text);
    assert_eq!(table.loss_unit, "bits per byte");
    assert_eq!(table.rows[0].n, Some(110_678_115.0));
    let columns = [("n_opt", "Eff_Params"), ("d_opt", "Tokens"), ("loss", "Val_BPB")];
    let columns = columns.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let optima = read_table(text.as_bytes(), &ReadOptions { columns, ..ReadOptions::default() }).unwrap();
    let document = fit(&optima, &options(&["n_opt", "d_opt"], 0)).unwrap();
    // Straight lines through the logarithms, by numpy.
    assert!((value(&document, "n_opt", "exponent") - 0.53).abs() < 0.01);
    assert!((value(&document, "d_opt", "exponent") - 0.48).abs() < 0.01);
    for fit in &document.fits {
        assert!(fit.local_slope.iter().all(|s| s.slope > 0.0), "{:?}", fit.local_slope);
    }
    let near = read("compute,my params here,loss\n1e18,1e8,3.0\n2e18,2e8,2.9\n3e18,3e8,2.8\n");
    assert!(near.notes.iter().any(|n| n.contains("my params here")), "{:?}", near.notes);
}

#[test]
fn tokens_come_from_steps_batch_and_length_where_that_is_certain() {
    let rows = |extra: &str| -> String {
        grid()
            .iter()
            .map(|(n, d)| format!("{n},{},128,1024{extra},{}\n", d / (128.0 * 1024.0), law(*n, *d)))
            .collect()
    };
    let table = read(&format!("params,steps,batch_size,seq_len,loss\n{}", rows("")));
    assert!(table.notes.iter().any(|n| n.contains("steps × batch × length")), "{:?}", table.notes);
    let document = fit(&table, &options(&["l_nd_chinchilla"], 0)).unwrap();
    for (name, expected) in [("E", 1.7), ("A", 400.0), ("B", 600.0), ("alpha", 0.34), ("beta", 0.30)] {
        assert!((value(&document, "l_nd_chinchilla", name) / expected - 1.0).abs() < 1e-6, "{name}");
    }
    let accumulated = read(&format!("params,steps,batch_size,seq_len,grad_accum_steps,loss\n{}", rows(",8")));
    assert!(accumulated.rows.iter().all(|r| r.d.is_none()), "a batch that may be a part of the step's");
    assert!(accumulated.notes.iter().any(|n| n.contains("grad_accum_steps")), "{:?}", accumulated.notes);
    // Without D, rows of one N are of different D: L(N) would pool them.
    let document = fit(&accumulated, &options(&[], 0));
    let pooled = document.map(|d| d.fits.iter().any(|f| f.form == "l_n")).unwrap_or(false);
    assert!(!pooled);
    let error = fit(&accumulated, &options(&["l_nd_chinchilla"], 0)).unwrap_err().to_string();
    assert!(error.contains("there are steps"), "{error}");
}

#[test]
fn rows_exactly_on_a_law_identify_all_of_it() {
    let mut table = Table::default();
    for (i, (n, d)) in grid().into_iter().enumerate() {
        table.rows.push(Row::of(i + 2, n, d, law(n, d)));
    }
    for bootstrap in [0, 200] {
        let fit = fit(&table, &options(&["l_nd_chinchilla"], bootstrap)).unwrap().fits.remove(0);
        assert!(fit.not_identified.is_empty(), "{bootstrap}: {:?}", fit.not_identified);
        for (name, expected) in [("E", 1.7), ("A", 400.0), ("B", 600.0), ("alpha", 0.34), ("beta", 0.30)] {
            let p = fit.params.get(name).unwrap();
            assert!((p.value / expected - 1.0).abs() < 1e-7, "{name} {}", p.value);
            let (lo, hi) = (p.lo.unwrap(), p.hi.unwrap());
            assert!(lo <= p.value && p.value <= hi && (hi - lo) / expected < 1e-4, "{name} {lo} {hi}");
        }
    }
}

#[test]
fn of_several_forms_the_one_that_cannot_be_fitted_is_named() {
    let mut table = Table::default();
    for (i, n) in N.into_iter().enumerate() {
        table.rows.push(Row::of(i + 2, n, 1e9, law(n, 1e9)));
    }
    let document = fit(&table, &options(&["l_n", "l_nd_chinchilla", "n_opt"], 0)).unwrap();
    assert!(document.fits.iter().all(|f| f.form == "l_n") && !document.fits.is_empty());
    let named: Vec<&str> = document.not_fitted.iter().map(|n| n.form.as_str()).collect();
    assert_eq!(named, ["l_nd_chinchilla", "n_opt"]);
    assert!(document.not_fitted.iter().all(|n| n.reason.contains("needs")), "{:?}", document.not_fitted);
    assert!(fit(&table, &options(&["l_nd_chinchilla"], 0)).is_err(), "alone it is an error");
}

#[test]
fn a_constant_loss_has_no_r2() {
    let mut table = Table::default();
    for (i, n) in N.into_iter().enumerate() {
        table.rows.push(Row::of(i + 2, n, 1e9, 0.1 + 0.2));
    }
    let document = fit(&table, &options(&["l_n"], 0)).unwrap();
    let pure = document.fits.iter().find(|f| f.variant == "pure").unwrap();
    assert_eq!(pure.r2_loglog, None);
    assert_eq!(pure.straight.as_ref().unwrap().r2, None);
}

#[test]
fn a_forecast_says_how_far_outside_of_the_rows_it_is() {
    let mut table = Table::default();
    let mut random = Random::new(4, 0);
    for (i, (n, d)) in grid().into_iter().enumerate() {
        table.rows.push(Row::of(i + 2, n, d, law(n, d) * (0.003 * random.normal()).exp()));
    }
    let at = |n: f64, d: f64| forecast(&table, &[Target { n, d }], &options(&[], 0)).unwrap().remove(0);
    assert!(at(3e7, 3e9).notes.is_empty());
    let far = at(2e11, 4e12);
    assert!(far.notes[0].contains("N is a factor of 100.000 above"), "{:?}", far.notes);
    assert!(far.notes.iter().any(|n| n.starts_with("D is a factor of 200")), "{:?}", far.notes);
    assert!(text::forecast(&far).contains("more than a decade"));
}

/// Two rows far off pull least squares away from Huber's estimate; each interval is its own estimate's.
#[test]
fn the_interval_is_that_of_the_penalty_asked_for() {
    let mut table = Table::default();
    let mut random = Random::new(77, 0);
    for (i, n) in (0..14).map(|i| 1e6 * 2f64.powi(i)).enumerate() {
        let off = if i == 1 || i == 3 { 0.05 } else { 0.0 };
        let loss = (1e9 / n).powf(0.08) * (0.002 * random.normal() + off).exp();
        table.rows.push(Row::of(i + 2, n, 1e9, loss));
    }
    let alpha = |loss: Loss| {
        let document = fit(&table, &Options { loss, ..options(&["l_n"], 0) }).unwrap();
        let fit = document.fits.into_iter().find(|f| f.variant == "pure").unwrap();
        (fit.params.get("alpha").unwrap().clone(), fit.interval_method)
    };
    let mut values = Vec::new();
    for loss in [Loss::Huber, Loss::Mse, Loss::RawMse] {
        let (a, method) = alpha(loss);
        let (lo, hi) = (a.lo.unwrap(), a.hi.unwrap());
        let place = (a.value - lo) / (hi - lo);
        assert!((0.4..0.6).contains(&place), "{loss:?}: {} in {lo} to {hi}", a.value);
        values.push((a.value, method));
    }
    assert!((values[0].0 - values[1].0).abs() > 5e-4, "{values:?}");
    assert!(values[0].1.contains("Huber") && values[2].1.contains("error of the loss"), "{values:?}");
}

#[test]
fn any_column_may_be_the_unit_of_evidence() {
    let mut random = Random::new(8, 0);
    let mut rows = "curve_of,params,tokens,loss\n".to_owned();
    for (i, n) in N.into_iter().enumerate() {
        let luck = 0.01 * random.normal();
        for k in 0..20 {
            let d = 1e8 * 1.3f64.powi(k);
            let loss = law(n, d) * (luck + 0.001 * random.normal()).exp();
            rows.push_str(&format!("c{i},{n},{d},{loss}\n"));
        }
    }
    let table = read(&rows);
    let units = |table: &Table| {
        let fit = fit(table, &options(&["l_nd_chinchilla"], 0)).unwrap().fits.remove(0);
        let alpha = fit.params.get("alpha").unwrap().clone();
        (fit.runs_used, alpha.hi.unwrap() - alpha.lo.unwrap())
    };
    let (alone, narrow) = units(&table);
    let (by_column, wide) = units(&table.clone().clustered_by("curve_of").unwrap());
    let (by_size, same) = units(&table.clone().clustered_by("n").unwrap());
    assert_eq!((alone, by_column, by_size), (160, 8, 8));
    assert!(wide > 2.0 * narrow && (same / wide - 1.0).abs() < 1e-9, "{narrow} {wide} {same}");
    let error = table.clustered_by("nothing").unwrap_err().to_string();
    assert!(error.contains("curve_of") && error.contains("hint: "), "{error}");
}

/// The search of a long table begins on a sample of its rows, and ends where a search of all of them does that begins
/// at the truth.
#[test]
fn a_long_table_reaches_the_optimum_of_all_its_rows() {
    use isoflop_laws::fitting::{data::Data, minimise::Problem, penalty::Penalty, search};
    let mut random = Random::new(1911, 0);
    let mut table = Table::default();
    for i in 0..1911 {
        let (n, d) = (10f64.powf(6.0 + 3.5 * random.uniform()), 10f64.powf(8.0 + 3.0 * random.uniform()));
        let far = if i % 40 == 0 { 8.0 } else { 1.0 };
        table.rows.push(Row::of(i + 2, n, d, law(n, d) * (0.01 * far * random.normal()).exp()));
    }
    let full = Options { dense: true, holdout: false, ..options(&["l_nd_chinchilla", "l_nd_kaplan"], 100) };
    let document = fit(&table, &full).unwrap();
    for (found, truth) in document.fits.iter().zip([
        [400f64.ln(), 600f64.ln(), 1.7f64.ln(), 0.34, 0.30],
        [13.0 / 0.076, 17.0 / 0.103, 0.076, 0.103, 0.0],
    ]) {
        let form = isoflop_laws::forms::by_id(&found.form).unwrap()[0];
        let (data, _) = Data::of(form, &table);
        let penalty = Penalty::of(Loss::Huber, 1e-3);
        let problem = Problem { form, data: &data, w: &data.w, penalty, pull: None };
        let from_truth = isoflop_laws::fitting::minimise::Solver::default().search(
            &problem,
            &isoflop_laws::numeric::theta_of(&truth),
            isoflop_laws::fitting::minimise::POLISH,
            true,
        );
        let best = search::best_of(&problem, &[from_truth]).unwrap().optimum.objective;
        let objective = found.objective.unwrap();
        assert!(objective <= best * (1.0 + 1e-8), "{}: {objective} against {best}", found.form);
    }
}
