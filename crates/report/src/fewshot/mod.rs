//! The page of a few-shot study: who is best, what attention between classes gains, on which evidence.

mod elsewhere;
mod episodes;
mod facts;
mod forest;
mod geometry;
mod headline;
pub mod input;
mod lines;
mod methods;
mod picture;
mod sweeps;
mod tables;
mod words;

pub use input::FewShotInput;

use crate::page::{self, Figures};
use methods::Methods;

/// Rules that only this page needs.
const CSS: &str = include_str!("fewshot.css");

/// The page: one HTML file that needs nothing from elsewhere. A pure function of its input.
pub fn render(input: &FewShotInput) -> String {
    let methods = Methods::of(input);
    let mut figures = Figures::default();
    let mut body = headline::header(input, &methods);
    body.push_str(&tables::claims(&input.claims));
    body.push_str(&tables::results(input, &methods));
    body.push_str(&forest::section(&mut figures, input, &methods));
    body.push_str(&elsewhere::section(input, &methods));
    body.push_str(&sweeps::accuracy(&mut figures, input, &methods));
    body.push_str(&sweeps::laws(&mut figures, input, &methods));
    body.push_str(&geometry::section(&mut figures, input, &methods));
    body.push_str(&episodes::section(input, &methods));
    body.push_str(&page::cost(&mut figures, input.cost.as_ref()));
    body.push_str(&facts::section(input, &methods));
    let sheet = page::sheet_with(|ground| methods.css(ground)) + CSS;
    page::document(if input.name.is_empty() { "few-shot study" } else { &input.name }, &sheet, &body)
}
