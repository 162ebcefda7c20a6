//! Figures Kaplan et al. derive from their own constants, computed again beside what the paper prints.

use serde::{Deserialize, Serialize};

/// A derived figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    /// What.
    pub name: String,
    /// From which formula.
    pub formula: String,
    /// Computed here from the tables' values.
    pub computed: f64,
    /// As the paper prints it.
    pub printed: f64,
}

/// The constants of tables 1 to 6 that the figures use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// L(N).
    pub alpha_n: f64,
    /// L(D).
    pub alpha_d: f64,
    /// B_crit(L).
    pub alpha_b: f64,
    /// L(N, S_min).
    pub alpha_s: f64,
    /// L(C) as trained, at one batch.
    pub alpha_c: f64,
    /// L(C_min), fitted.
    pub alpha_c_min: f64,
    /// L(N, D): exponent of N.
    pub alpha_n_of_nd: f64,
    /// L(N, D): exponent of D.
    pub alpha_d_of_nd: f64,
    /// L(N, S_min): exponent of N.
    pub alpha_n_of_ns: f64,
}

/// As the paper's tables give them.
pub const PUBLISHED: Constants = Constants {
    alpha_n: 0.076,
    alpha_d: 0.095,
    alpha_b: 0.21,
    alpha_s: 0.76,
    alpha_c: 0.057,
    alpha_c_min: 0.050,
    alpha_n_of_nd: 0.076,
    alpha_d_of_nd: 0.103,
    alpha_n_of_ns: 0.077,
};

/// The derived figures, side by side with the printed ones.
pub fn derived(k: &Constants) -> Vec<Derived> {
    let predicted = 1.0 / (1.0 / k.alpha_s + 1.0 / k.alpha_b + 1.0 / k.alpha_n_of_ns);
    let predicted_plain = 1.0 / (1.0 / k.alpha_s + 1.0 / k.alpha_b + 1.0 / k.alpha_n);
    let row = |name: &str, formula: &str, computed: f64, printed: f64| Derived {
        name: name.to_owned(),
        formula: formula.to_owned(),
        computed,
        printed,
    };
    vec![
        row("alpha_Cmin", "1/(1/alpha_S + 1/alpha_B + 1/alpha_N), alpha_N of L(N)", predicted_plain, 0.054),
        row("alpha_Cmin", "the same with alpha_N = 0.077 of L(N, S_min)", predicted, 0.054),
        row("exponent of N in C_min", "alpha_Cmin/alpha_N, computed", predicted_plain / k.alpha_n, 0.71),
        row("exponent of N in C_min", "0.054/alpha_N, as printed", 0.054 / k.alpha_n, 0.71),
        row("exponent of N in C_min", "fitted in the paper", 0.73, 0.73),
        row("exponent of B in C_min", "alpha_Cmin/alpha_B", predicted_plain / k.alpha_b, 0.24),
        row("exponent of S in C_min", "alpha_Cmin/alpha_S", predicted_plain / k.alpha_s, 0.03),
        row(
            "exponent of D against N for constant overfitting",
            "alpha_N/alpha_D of L(N, D)",
            k.alpha_n_of_nd / k.alpha_d_of_nd,
            0.74,
        ),
        row(
            "share above the converged loss at the best stop",
            "alpha_N/alpha_S",
            k.alpha_n / k.alpha_s,
            0.10,
        ),
        row(
            "data for a model 8 times larger",
            "8^(alpha_N/alpha_D)",
            libm::pow(8.0, k.alpha_n_of_nd / k.alpha_d_of_nd),
            5.0,
        ),
        row("loss drop that doubles B_crit", "1 - 2^(-alpha_B)", 1.0 - libm::pow(2.0, -k.alpha_b), 0.13),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_figures_come_back() {
        let d = derived(&PUBLISHED);
        assert!((d[0].computed - 0.0520).abs() < 5e-5, "{}", d[0].computed);
        assert!((d[2].computed - 0.684).abs() < 1e-3, "{}", d[2].computed);
        assert!((d[3].computed - 0.71).abs() < 1e-2);
        assert!((d[7].computed - 0.74).abs() < 5e-3);
        assert!((d[10].computed - 0.13).abs() < 6e-3, "{}", d[10].computed);
    }
}
