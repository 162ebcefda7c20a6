//! Plain power laws of settings and optima: learning rate and batch against size, loss or compute, N_opt and D_opt
//! against C, critical batch against size.

use super::{Coord, Form, Kernel, Reported, Role, Slot, Variable};
use crate::numeric::theta_of;

const COORDS: &[Coord] =
    &[Coord { name: "ln_g", lo: -400.0, hi: 400.0 }, Coord { name: "exponent", lo: -30.0, hi: 30.0 }];
const REPORTED: &[Reported] = &[
    Reported {
        name: "exponent",
        role: Role::Exponent,
        log: false,
        of: |t| -t[1],
        meaning: "exponent of the power law",
    },
    Reported { name: "G", role: Role::Scale, log: true, of: |t| t[0], meaning: "coefficient" },
];

macro_rules! law {
    ($id:literal, $formula:literal, $latex:literal, $x:literal, $y:literal, $source:literal) => {
        Form {
            id: $id,
            variant: "",
            formula: $formula,
            latex: $latex,
            source: $source,
            variables: &[Variable { name: $x, log: true, distinct: 2 }],
            response: $y,
            log_response: true,
            coords: COORDS,
            reported: REPORTED,
            kernel: Kernel::Terms(&[&[Slot::Plus(0), Slot::Minus(1, 0)]]),
            starts: |data, _| {
                let (slope, intercept) = super::power::line(data);
                vec![theta_of(&[intercept, -slope])]
            },
            linear: None,
            min_rows: 3,
        }
    };
}

/// Fitted only when asked for by name or when the table has the response under its own name.
pub static FORMS: [Form; 7] = [
    law!(
        "lr_n",
        "lr = G*N^exponent",
        "\\eta = G N^{x}",
        "n",
        "lr_opt",
        "e.g. arXiv 2406.19146: 0.0047 (N/108e6)^(-1/3)"
    ),
    law!(
        "lr_c",
        "lr = G*C^exponent",
        "\\eta = G C^{x}",
        "c",
        "lr_opt",
        "DeepSeek 2024, arXiv 2401.02954, eq. 1"
    ),
    law!(
        "batch_c",
        "B = G*C^exponent",
        "B = G C^{x}",
        "c",
        "batch_opt",
        "DeepSeek 2024, arXiv 2401.02954, eq. 1"
    ),
    law!("batch_n", "B = G*N^exponent", "B = G N^{x}", "n", "batch_opt", "arXiv 2406.19146: B ~ N^(2/3)"),
    law!(
        "b_crit_n",
        "B_crit = G*N^exponent",
        "B_{crit} = G N^{x}",
        "n",
        "b_crit",
        "Zhang et al. 2024, arXiv 2410.21676"
    ),
    law!(
        "n_opt",
        "N_opt = G*C^exponent",
        "N_{opt} = G C^{x}",
        "c",
        "n_opt",
        "Hoffmann et al. 2022, arXiv 2203.15556, table 2"
    ),
    law!(
        "d_opt",
        "D_opt = G*C^exponent",
        "D_{opt} = G C^{x}",
        "c",
        "d_opt",
        "Hoffmann et al. 2022, arXiv 2203.15556, table 2"
    ),
];
