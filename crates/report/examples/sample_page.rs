//! Writes pages to look at while working on them: the invented study, and a page for each file named after it.
//! `cargo run -p isoflop-report --example sample_page -- DIR [report-input.json | points.csv]…`

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

use isoflop_laws::{Options, ReadOptions, read_table};
use isoflop_report::{ReportInput, ascii, law_svg, render, render_table_report};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".".to_owned()));
    let input = synthetic::input();
    std::fs::write(dir.join("sample.html"), render(&input))?;
    if let Some(svg) = law_svg(&input) {
        std::fs::write(dir.join("sample.svg"), svg)?;
    }
    for unicode in [true, false] {
        if let Some(plot) = ascii::law_plot(&input, unicode) {
            std::fs::write(dir.join(format!("sample-{unicode}.txt")), ascii::loglog(&plot, 100, 30))?;
        }
    }
    for (i, path) in args.enumerate() {
        let html = if path.ends_with(".json") {
            render(&ReportInput::from_json(&std::fs::read_to_string(&path)?)?)
        } else {
            let table = read_table(&std::fs::read(&path)?, &ReadOptions::default())?;
            let laws = isoflop_laws::fit(&table, &Options { bootstrap: 100, ..Options::default() })?;
            render_table_report(&path, "isoflop 0.1.0", &table, &laws)
        };
        std::fs::write(dir.join(format!("page-{i}.html")), html)?;
    }
    Ok(())
}
