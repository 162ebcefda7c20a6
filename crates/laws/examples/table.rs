//! A table fitted as `isoflop fit TABLE` does, timed form by form.
//! `cargo run --release -p isoflop-laws --example table -- TABLE [refits]`

#![expect(clippy::print_stdout, reason = "an example that prints its measurements")]

use isoflop_laws::{Options, ReadOptions, fit_watched, read_table};
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().expect("a table");
    let bootstrap = args.next().map_or(1000, |a| a.parse().expect("a number of refits"));
    let bytes = std::fs::read(&name).expect("a file");
    let clock = Instant::now();
    let table = read_table(&bytes, &ReadOptions { name, ..ReadOptions::default() }).expect("a table");
    println!("{:7.3} s  read {} rows", clock.elapsed().as_secs_f64(), table.rows.len());
    let options = Options { bootstrap, threads: 2, ..Options::default() };
    let mut last = (String::new(), clock.elapsed().as_secs_f64());
    let document = fit_watched(&table, &options, &mut |p| {
        let now = clock.elapsed().as_secs_f64();
        println!("{:7.3} s  {}", now - last.1, last.0);
        last = (p.form.to_owned(), now);
    })
    .expect("a law");
    println!("{:7.3} s  {} and what follows", clock.elapsed().as_secs_f64() - last.1, last.0);
    println!("{:7.3} s  in all", clock.elapsed().as_secs_f64());
    for fit in &document.fits {
        println!("{} {:?} {:?}", fit.form, fit.condition.values().collect::<Vec<_>>(), fit.objective);
    }
}
