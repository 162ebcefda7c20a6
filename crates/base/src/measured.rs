//! A number shown to a person says where it came from.

use serde::{Deserialize, Serialize};

/// A value with its provenance. Missing is a reason, never 0 and never NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "provenance", rename_all = "lowercase")]
pub enum Measured<T> {
    /// Read from an instrument or counted exactly.
    Measured {
        /// The reading.
        value: T,
    },
    /// Computed from a model of the machine; `how` names it.
    Estimated {
        /// The estimate.
        value: T,
        /// What it was computed from.
        how: String,
    },
    /// Not available.
    Missing {
        /// Why not.
        reason: String,
    },
}

impl<T> Measured<T> {
    /// A value that was read or counted.
    #[expect(
        clippy::self_named_constructors,
        reason = "the three provenances read alike where they are made"
    )]
    pub fn measured(value: T) -> Self {
        Self::Measured { value }
    }

    /// A value computed from something else, with the name of what.
    pub fn estimated(value: T, how: impl Into<String>) -> Self {
        Self::Estimated { value, how: how.into() }
    }

    /// No value, and why.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self::Missing { reason: reason.into() }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Measured { value } | Self::Estimated { value, .. } => Some(value),
            Self::Missing { .. } => None,
        }
    }

    /// The same provenance around another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Measured<U> {
        match self {
            Self::Measured { value } => Measured::Measured { value: f(value) },
            Self::Estimated { value, how } => Measured::Estimated { value: f(value), how },
            Self::Missing { reason } => Measured::Missing { reason },
        }
    }
}

impl Measured<f64> {
    /// The sum, no better known than either part: missing if one is, an estimate if one is.
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Missing { reason }, _) | (_, Self::Missing { reason }) => Self::missing(reason),
            (Self::Measured { value: a }, Self::Measured { value: b }) => Self::measured(a + b),
            (Self::Estimated { value, how }, other) | (other, Self::Estimated { value, how }) => {
                Self::estimated(value + other.value().unwrap_or(&0.0), how)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_no_better_known_than_its_parts() {
        let (read, guess, none) =
            (Measured::measured(2.0), Measured::estimated(3.0, "a guess"), Measured::missing("no meter"));
        assert_eq!(read.clone().plus(read.clone()), Measured::measured(4.0));
        assert_eq!(read.clone().plus(guess.clone()), Measured::estimated(5.0, "a guess"));
        assert_eq!(guess.clone().plus(read.clone()), Measured::estimated(5.0, "a guess"));
        assert_eq!(guess.clone().plus(guess.clone()), Measured::estimated(6.0, "a guess"));
        assert_eq!(none.clone().plus(read), none);
        assert_eq!(guess.plus(none.clone()), none);
    }
}
