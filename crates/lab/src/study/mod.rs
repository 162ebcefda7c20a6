//! From a study file to what its runs are made of: parse ([`raw`]), resolve every `auto` ([`resolve`]), lay out a
//! grid of models, lengths and seeds ([`series`]). Which grid a study has is its kind's to say ([`crate::kinds`]).

pub mod arms;
pub mod claims;
pub mod device;
mod documents;
pub mod instruments;
mod mix;
pub mod raw;
pub mod recipe;
pub mod resolve;
pub mod series;
#[cfg(test)]
mod tests;
pub mod vocabulary;

use crate::error::UserError;
use crate::input;
use raw::RawStudy;
use std::path::Path;

/// Reads and parses a study file.
pub fn read(path: &Path, sets: &[String]) -> Result<RawStudy, UserError> {
    let (name, text) = text(path)?;
    RawStudy::parse(&name, &text, sets)
}

/// A study file's name in messages, and its text.
///
/// # Errors
/// A [`UserError`]: no such file, no text.
pub fn text(path: &Path) -> Result<(String, String), UserError> {
    let name = input::name(path);
    let bytes = input::read(path).map_err(|e| {
        UserError::new(format!("{name}: {}", io_words(&e)))
            .hint("name a study file; isoflop init drafts one for your text, tokens or pictures")
    })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..valid].iter().filter(|b| **b == b'\n').count() + 1;
        UserError::new(format!("{name}:{line}: not UTF-8 at byte {valid}"))
            .hint("a study is TOML in UTF-8; is this a token file or a text in another encoding?")
    })?;
    Ok((name, text))
}

/// What the system said, in its plain words.
pub fn io_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory, not a file".to_owned(),
        _ => error.to_string(),
    }
}
