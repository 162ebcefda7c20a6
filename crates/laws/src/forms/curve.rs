//! Learning curves with the schedule in them: L = L_0 + A/S1^alpha − C·S2, S1 the sum of learning rates over steps, S2 the annealing
//! area (Tissue et al. 2024, arXiv 2408.11029, eq. 1). With it, the loss after a decay can be forecast from before it.

use super::{Coord, Form, Kernel, Reported, Role, Variable, exponent, floor_coord, ln_coord};
use crate::numeric::theta_of;

/// The form.
pub static FORMS: [Form; 1] = [Form {
    id: "l_t",
    variant: "",
    formula: "L = E + A/S1^alpha - c*S2",
    latex: "L = E + A/S_1^{\\alpha} - c S_2",
    source: "Tissue et al. 2024, arXiv 2408.11029, eq. 1",
    variables: &[
        Variable { name: "s1", log: true, distinct: 3 },
        Variable { name: "s2", log: false, distinct: 1 },
    ],
    response: "loss",
    log_response: true,
    coords: &[
        ln_coord("ln_a"),
        exponent("alpha"),
        floor_coord("ln_e"),
        Coord { name: "c", lo: -1e6, hi: 1e6 },
    ],
    reported: &[
        Reported {
            name: "alpha",
            role: Role::Exponent,
            log: false,
            of: |t| t[1],
            meaning: "exponent of the summed rate",
        },
        Reported { name: "A", role: Role::Scale, log: true, of: |t| t[0], meaning: "coefficient" },
        Reported {
            name: "E",
            role: Role::Floor,
            log: true,
            of: |t| t[2],
            meaning: "loss at the end of endless training",
        },
        Reported {
            name: "c",
            role: Role::Other,
            log: false,
            of: |t| t[3],
            meaning: "loss removed per unit of annealing",
        },
    ],
    kernel: Kernel::Row(|x, t| {
        let undecayed = (t[0] - t[1] * x[0]).log_add(t[2]).exp();
        (undecayed - t[3] * x[1]).ln()
    }),
    starts: |data, _| {
        let lowest = data.y.iter().copied().fold(f64::INFINITY, f64::min);
        let first = data.x[0].iter().sum::<f64>() / data.len() as f64;
        let mut out = Vec::new();
        for alpha in [0.2, 0.5, 1.0] {
            for share in [0.4, 0.8, 0.95] {
                let rest = lowest + libm::log(1.1 - share);
                out.push(theta_of(&[rest + alpha * first, alpha, lowest + libm::log(share), 0.0]));
            }
        }
        out
    },
    linear: None,
    min_rows: 6,
}];

/// S1 and S2 of each step of a schedule: S1 = Σ lr, S2 = Σ_i Σ_{k≤i} (lr_{k−1} − lr_k)·λ^(i−k), λ = 0.999.
pub fn areas(rates: &[f64]) -> Vec<(f64, f64)> {
    let mut s1 = 0.0;
    let mut s2 = 0.0;
    let mut momentum = 0.0;
    let mut previous = rates.first().copied().unwrap_or(0.0);
    rates
        .iter()
        .map(|lr| {
            s1 += lr;
            // Warm-up is no annealing: only falls of the rate count.
            momentum = 0.999 * momentum + (previous - lr).max(0.0);
            s2 += momentum;
            previous = *lr;
            (s1, s2)
        })
        .collect()
}
