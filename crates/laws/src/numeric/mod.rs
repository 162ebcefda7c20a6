//! The arithmetic under the fits: everything here gives the same bits on every system.

pub mod dual;
pub mod fast;
pub mod lanes;
pub mod linear;
pub mod quantile;
pub mod random;

/// Most coordinates a form may have; small fixed arrays keep the inner loops free of allocation.
pub const MAX_COORDS: usize = 10;

/// Coordinates of a fit, zero beyond the form's own.
pub type Theta = [f64; MAX_COORDS];

/// A small symmetric matrix over coordinates.
pub type Square = [[f64; MAX_COORDS]; MAX_COORDS];

/// The first values of a slice as coordinates.
pub fn theta_of(values: &[f64]) -> Theta {
    let mut out = [0.0; MAX_COORDS];
    for (o, v) in out.iter_mut().zip(values) {
        *o = *v;
    }
    out
}
