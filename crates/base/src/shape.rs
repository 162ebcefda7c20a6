//! The shape of a GPT: layers, width, heads; and its parameter counts.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// `L4-d128-h4`: 4 layers of width 128 with 4 heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelShape {
    /// Number of transformer blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Attention heads per block; divides `d_model`.
    pub n_head: usize,
}

impl ModelShape {
    /// Kaplan's N: 12·n_layer·d², matrices of the blocks only, neither embeddings nor biases nor norms.
    pub fn params(&self) -> u64 {
        12 * self.n_layer as u64 * (self.d_model as u64).pow(2)
    }

    /// Every parameter of the Hugging Face GPT-2 of this shape: tied head, learned positions, biases, norms.
    pub fn params_total(&self, vocab: usize, context: usize) -> u64 {
        let (l, d) = (self.n_layer as u64, self.d_model as u64);
        let per_block = 12 * d * d + 13 * d; // matrices; biases 3d + d + 4d + d and two norms of 2d
        (vocab as u64 + context as u64) * d + l * per_block + 2 * d
    }

    /// Width of one head.
    pub fn head_width(&self) -> usize {
        self.d_model / self.n_head
    }
}

impl fmt::Display for ModelShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}-d{}-h{}", self.n_layer, self.d_model, self.n_head)
    }
}

/// Why a text is no model shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a model shape: {why}\nhint: write layers, width and heads as L4-d128-h4")]
pub struct ShapeError {
    text: String,
    why: String,
}

impl FromStr for ModelShape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let fail = |why: &str| ShapeError { text: text.to_owned(), why: why.to_owned() };
        let parts: Vec<&str> = text.split('-').collect();
        let [l, d, h] = parts.as_slice() else {
            return Err(fail("expected three parts joined by `-`"));
        };
        let number = |part: &str, letter: char| -> Result<usize, ShapeError> {
            let digits = part
                .strip_prefix(letter)
                .ok_or_else(|| fail(&format!("`{part}` should start with {letter}")))?;
            match digits.parse::<usize>() {
                Ok(n) if n > 0 && n <= 1 << 20 => Ok(n),
                _ => Err(fail(&format!("`{digits}` is not a number from 1 to 1048576"))),
            }
        };
        let shape = Self { n_layer: number(l, 'L')?, d_model: number(d, 'd')?, n_head: number(h, 'h')? };
        if !shape.d_model.is_multiple_of(shape.n_head) {
            return Err(fail(&format!("{} heads do not divide width {}", shape.n_head, shape.d_model)));
        }
        let params = 12.0 * shape.n_layer as f64 * (shape.d_model as f64).powi(2);
        if params > crate::units::MOST as f64 {
            return Err(fail(&format!("{params:.1e} parameters are more than 9e15")));
        }
        Ok(shape)
    }
}

impl Serialize for ModelShape {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelShape {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_small_has_its_published_parameters() {
        let shape: ModelShape = "L12-d768-h12".parse().unwrap();
        assert_eq!(shape.params_total(50_257, 1024), 124_439_808);
        assert_eq!(shape.params(), 84_934_656);
        assert_eq!(shape.to_string(), "L12-d768-h12");
    }

    #[test]
    fn wrong_shapes_are_refused() {
        for text in ["", "L4", "L4-d128", "L0-d128-h4", "L4-d130-h4", "l4-d128-h4", "L4-d128-h4-x", "L4-d-h1"]
        {
            assert!(text.parse::<ModelShape>().is_err(), "{text}");
        }
    }
}
