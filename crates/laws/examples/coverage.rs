//! Do 95 % intervals hold the truth 95 % of the time? Synthetic tables of known laws, fitted as any table is.
//! `cargo run --release -p isoflop-laws --example coverage [tables per design] [design]`

#![expect(clippy::print_stdout, reason = "an example that prints its measurements")]

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

fn main() {
    let mut args = std::env::args().skip(1);
    let tables: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(500);
    let only = args.next();
    for design in synthetic::designs().iter().filter(|d| only.as_ref().is_none_or(|o| d.name.contains(o))) {
        print!("{}", synthetic::measure(design, tables));
    }
    for design in
        synthetic::curves::designs().iter().filter(|d| only.as_ref().is_none_or(|o| d.name.contains(o)))
    {
        for loss in [isoflop_laws::Loss::Mse, isoflop_laws::Loss::Huber] {
            print!("{}", synthetic::curves::measure(design, loss, tables as u64));
        }
    }
    for plan in synthetic::plan::PLANS.iter().filter(|p| only.as_ref().is_none_or(|o| p.name.contains(o))) {
        print!("{}", synthetic::plan::measure(plan, tables as u64));
    }
}
