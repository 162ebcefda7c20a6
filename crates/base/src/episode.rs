//! The shape of a few-shot episode.

use serde::{Deserialize, Serialize};

/// N ways, K shots, Q queries: what a draw of pictures and a head that is trained on them agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeShape {
    /// Classes N.
    pub ways: usize,
    /// Support images of each, K.
    pub shots: usize,
    /// Query images of each, Q.
    pub queries: usize,
}

impl EpisodeShape {
    /// Images of a class, K + Q.
    pub fn each(&self) -> usize {
        self.shots + self.queries
    }

    /// Images of an episode, N · (K + Q).
    pub fn images(&self) -> usize {
        self.ways * self.each()
    }
}
