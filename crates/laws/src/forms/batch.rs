//! Steps against batch size to a fixed loss: (S/S_min − 1)(E/E_min − 1) = 1 with E = S·B examples, which is S = S_min
//! + E_min/B (McCandlish et al. 2018, arXiv 1812.06162, eq. 2.11).

use super::{Form, Kernel, Reported, Role, Variable, ln_coord};
use crate::numeric::lanes::each_row;
use crate::numeric::theta_of;

/// The hyperbola.
pub static FORMS: [Form; 1] = [Form {
    id: "hyperbola",
    variant: "",
    formula: "(S/S_min - 1)(E/E_min - 1) = 1, E = S*B",
    latex: "(S/S_{min} - 1)(E/E_{min} - 1) = 1",
    source: "McCandlish et al. 2018, arXiv 1812.06162, eq. 2.11",
    variables: &[Variable { name: "batch", log: true, distinct: 3 }],
    response: "steps",
    log_response: true,
    coords: &[ln_coord("ln_s_min"), ln_coord("ln_e_min")],
    reported: &[
        Reported { name: "S_min", role: Role::Scale, log: true, of: |t| t[0], meaning: "fewest steps" },
        Reported { name: "E_min", role: Role::Scale, log: true, of: |t| t[1], meaning: "fewest examples" },
        Reported {
            name: "B_crit",
            role: Role::Scale,
            log: true,
            of: |t| t[1] - t[0],
            meaning: "critical batch, E_min/S_min",
        },
        Reported {
            name: "B_20",
            role: Role::Scale,
            log: true,
            // (b + 5a·1.2·256)/(5a): the batch that costs 20 % more data than linear scaling from a batch of 256.
            of: |t| ((t[1] - t[0]).exp() * 0.2 + 307.2).ln(),
            meaning: "batch that costs 20 % more data than linear scaling from 256 (Zhang et al. 2024, arXiv 2410.21676)",
        },
    ],
    kernel: Kernel::Row(|x, theta, f, jac| {
        each_row::<2>(x, theta, f, jac, |x, t| t[0].log_add(t[1] - x[0]));
    }),
    starts: |data, _| {
        let fewest = data.y.iter().copied().fold(f64::INFINITY, f64::min);
        let examples: f64 = data.y.iter().zip(&data.x[0]).map(|(s, b)| s + b).fold(f64::INFINITY, f64::min);
        [0.0, -0.5, -2.0].iter().map(|shift| theta_of(&[fewest + shift, examples + shift])).collect()
    },
    linear: None,
    min_rows: 3,
}];
