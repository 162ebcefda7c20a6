//! The published protocol on the Chinchilla cloud, timed: 4,500 starts and 4,000 bootstrap refits on 234 rows.
//! `cargo run --release -p isoflop-laws --example protocol [threads]`

#![expect(clippy::print_stdout, reason = "an example that prints its measurements")]

use isoflop_laws::fitting::{bootstrap, data::Data, minimise::Problem, penalty::Penalty, search, varpro};
use isoflop_laws::{Loss, Row, Table, forms};
use std::time::Instant;

fn main() {
    let threads = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(2);
    let text = include_str!("../data/chinchilla_cloud.csv");
    let mut table = Table::default();
    for (i, line) in text.lines().enumerate().skip(1) {
        let cells: Vec<f64> = line.split(',').map(|c| c.trim().parse().expect("a number")).collect();
        table.rows.push(Row::of(i + 1, cells[1], cells[2], cells[3]));
    }
    let form = forms::by_id("l_nd_chinchilla").expect("known")[0];
    let (data, _) = Data::of(form, &table);
    let problem =
        Problem { form, data: &data, w: &data.w, penalty: Penalty::of(Loss::Huber, 1e-3), pull: None };
    let starts = (form.starts)(&data.columns(), true);
    let clock = Instant::now();
    let best = search::search(&problem, &starts, threads).expect("an optimum");
    let searched = clock.elapsed().as_secs_f64();
    println!(
        "{} starts, {} agree, {:.3} s, objective {:.12}",
        best.starts, best.agree, searched, best.optimum.objective
    );
    println!("theta {:?}", &best.optimum.theta[..5]);
    let clock = Instant::now();
    let refits = bootstrap::refits(&problem, &best.optimum.theta, 4000, 1, threads, bootstrap::STOP);
    println!("{} refits, {:.3} s", refits.len(), clock.elapsed().as_secs_f64());
    let clock = Instant::now();
    let ends = varpro::search(&problem, form.linear.expect("linear part"), threads);
    let varpro = search::best_of(&problem, &ends).expect("an optimum");
    println!("varpro {:.3} s, objective {:.12}", clock.elapsed().as_secs_f64(), varpro.optimum.objective);
}
