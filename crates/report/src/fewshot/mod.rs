//! The page of a few-shot study.

pub mod input;

pub use input::FewShotInput;

/// The page: one HTML file that needs nothing from elsewhere.
pub fn render(input: &FewShotInput) -> String {
    format!("<!doctype html><title>{}</title>", input.name)
}
