//! The variance of one run's ln loss, from residuals and repeated seeds together.

/// Variance of one run's ln loss about a law, from residuals and seeds together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Variance {
    /// σ².
    pub(crate) value: f64,
    /// Its degrees of freedom.
    pub(crate) dof: f64,
    /// The residuals are larger than seeds explain (5 % level): the law misses something, and σ² is the residuals' own.
    pub(crate) lack_of_fit: bool,
    /// Seeds outside of the rows entered.
    pub(crate) pooled: bool,
}

/// Pools Σ w·r² with `dof` degrees of freedom with what the seeds outside say. `None` without any degree of freedom.
pub(super) fn variance(ssr: f64, dof: f64, (seed_ss, seed_dof): (f64, usize)) -> Option<Variance> {
    let seed_dof = seed_dof as f64;
    match (dof > 0.0, seed_dof > 0.0) {
        (false, false) => None,
        (true, false) => Some(Variance { value: ssr / dof, dof, lack_of_fit: false, pooled: false }),
        (false, true) => {
            Some(Variance { value: seed_ss / seed_dof, dof: seed_dof, lack_of_fit: false, pooled: true })
        }
        (true, true) => {
            let f = (ssr / dof) / (seed_ss / seed_dof).max(1e-300);
            if crate::numeric::quantile::f_tail(f, dof, seed_dof) < 0.05 {
                Some(Variance { value: ssr / dof, dof, lack_of_fit: true, pooled: false })
            } else {
                let dof = dof + seed_dof;
                Some(Variance { value: (ssr + seed_ss) / dof, dof, lack_of_fit: false, pooled: true })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_beyond_the_seeds_are_lack_of_fit() {
        let fine = variance(4.0, 4.0, (3.0, 3)).unwrap();
        assert!(fine.pooled && !fine.lack_of_fit && (fine.value - 1.0).abs() < 1e-12 && fine.dof == 7.0);
        assert!(variance(400.0, 4.0, (3.0, 3)).unwrap().lack_of_fit);
        assert!(variance(0.0, 0.0, (0.0, 0)).is_none());
    }
}
