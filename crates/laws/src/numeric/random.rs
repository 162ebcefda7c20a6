//! A small seeded generator (xoshiro256++, Blackman & Vigna 2019) for bootstraps and synthetic tables.

use isoflop_base::bits::SplitMix64;

/// The stream of one seed.
#[derive(Debug, Clone)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// Stream number `stream` of `seed`; streams are independent, so that refit k draws the same whoever computes it.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut first = SplitMix64(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        let state = std::array::from_fn(|_| first.next_u64());
        Self { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Uniform in 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        let u = (self.uniform() + 2f64.powi(-54)).min(1.0 - 2f64.powi(-53));
        super::quantile::normal_quantile(u)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_unit_variance_and_streams_differ() {
        let mut r = Random::new(1, 0);
        let draws: Vec<f64> = (0..4000).map(|_| r.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 4000.0;
        let var = draws.iter().map(|x| x * x).sum::<f64>() / 4000.0;
        assert!(mean.abs() < 0.05 && (var - 1.0).abs() < 0.08, "{mean} {var}");
        assert_ne!(Random::new(1, 0).next_u64(), Random::new(1, 1).next_u64());
        assert!((0..1000).map(|_| r.below(7)).all(|k| k < 7));
    }
}
