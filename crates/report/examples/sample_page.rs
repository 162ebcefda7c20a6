//! Writes the page of an invented study, to look at while working on the page:
//! `cargo run -p isoflop-report --example sample_page -- DIR`.

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    let input = synthetic::input();
    std::fs::write(dir.join("sample.html"), isoflop_report::render(&input))?;
    if let Some(svg) = isoflop_report::law_svg(&input) {
        std::fs::write(dir.join("sample.svg"), svg)?;
    }
    Ok(())
}
