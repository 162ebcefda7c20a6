//! A few passages of a text, to be read again and again.

use crate::sampler::{Sampler, mix};
use crate::{DataError, Tokens};
use std::sync::Arc;

const ORDER: u64 = 0x7061_7373_6167_6573;

/// `count` passages of `tokens` tokens each, side by side as one stream: different places of another stream, which a
/// seed chooses. Behind the last the first begins again, for one token, so that every token of every passage is
/// predicted in a pass.
pub struct Passages {
    name: String,
    material: Arc<dyn Tokens>,
    places: Sampler,
    tokens: u64,
    count: u64,
}

impl Passages {
    /// The passages of a seed. More of the same length begin with these.
    ///
    /// # Errors
    /// [`DataError::TooFewTokens`] for less than a passage, [`DataError::Setting`] for fewer passages than asked for.
    pub fn new(material: Arc<dyn Tokens>, tokens: u64, count: u64, seed: u64) -> Result<Self, DataError> {
        let length = usize::try_from(tokens).unwrap_or(usize::MAX);
        let places = Sampler::new(material.len(), length, mix(seed ^ ORDER))?;
        if count == 0 || count > places.windows() {
            return Err(DataError::Setting {
                what: format!(
                    "{} has {} passages of {tokens} tokens, asked for are {count}",
                    material.name(),
                    places.windows()
                ),
                hint: "choose fewer or shorter passages, or more copies of each".to_owned(),
            });
        }
        let name = format!("{count} passages of {}", material.name());
        Ok(Self { name, material, places, tokens, count })
    }
}

impl Tokens for Passages {
    fn len(&self) -> u64 {
        self.tokens * self.count + 1
    }

    fn vocab(&self) -> usize {
        self.material.vocab()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, start: u64, out: &mut [u32]) {
        assert!(start + out.len() as u64 <= self.len(), "within the passages");
        let (mut at, mut done) = (start, 0);
        while done < out.len() {
            let (passage, from) = (at / self.tokens % self.count, at % self.tokens);
            let left = usize::try_from(self.tokens - from).unwrap_or(usize::MAX);
            let count = left.min(out.len() - done);
            self.material.read(self.places.row_start(passage) + from, &mut out[done..done + count]);
            (at, done) = (at + count as u64, done + count);
        }
    }

    fn check_source(&self) -> Result<(), DataError> {
        self.material.check_source()
    }
}
