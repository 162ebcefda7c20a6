//! Power laws of settings and optima: learning rate and batch against size, data, loss or compute, alone and together
//! (lr(N, D), lr(N, D, B), B(N, D)), N_opt and D_opt against C, the critical batch against size, data and loss.

use super::{Columns, Coord, Form, Kernel, Reported, Role, Slot, Variable};
use crate::numeric::dual::Dual;
use crate::numeric::linear::least_squares;
use crate::numeric::{Theta, theta_of};

const LN_G: Coord = Coord { name: "ln_g", lo: -400.0, hi: 400.0 };
const fn power(name: &'static str) -> Coord {
    Coord { name, lo: -30.0, hi: 30.0 }
}
const COORDS: &[Coord] = &[LN_G, power("exponent")];
const SEVERAL: &[Coord] = &[LN_G, power("x"), power("y"), power("z")];
const G: Reported =
    Reported { name: "G", role: Role::Scale, log: true, of: |t| t[0], meaning: "coefficient" };
const REPORTED: &[Reported] = &[
    Reported {
        name: "exponent",
        role: Role::Exponent,
        log: false,
        of: |t| -t[1],
        meaning: "exponent of the power law",
    },
    G,
];
const X: Reported = Reported {
    name: "x",
    role: Role::Exponent,
    log: false,
    of: |t| -t[1],
    meaning: "exponent of the first variable",
};
const Y: Reported = Reported {
    name: "y",
    role: Role::Exponent,
    log: false,
    of: |t| -t[2],
    meaning: "exponent of the second variable",
};
const Z: Reported = Reported {
    name: "z",
    role: Role::Exponent,
    log: false,
    of: |t| -t[3],
    meaning: "exponent of the third variable",
};

const fn variable(name: &'static str) -> Variable {
    Variable { name, log: true, distinct: 2 }
}

macro_rules! law {
    ($id:literal, $formula:literal, $latex:literal, $x:literal, $y:literal, $source:literal) => {
        Form {
            id: $id,
            variant: "",
            formula: $formula,
            latex: $latex,
            source: $source,
            variables: &[variable($x)],
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

macro_rules! law_of_two {
    ($id:literal, $formula:literal, $latex:literal, $x:literal, $y:literal, $response:literal, $source:literal) => {
        Form {
            id: $id,
            variant: "",
            formula: $formula,
            latex: $latex,
            source: $source,
            variables: &[variable($x), variable($y)],
            response: $response,
            log_response: true,
            coords: SEVERAL.split_at(3).0,
            reported: &[X, Y, G],
            kernel: Kernel::Terms(&[&[Slot::Plus(0), Slot::Minus(1, 0), Slot::Minus(2, 1)]]),
            starts: plane,
            linear: None,
            min_rows: 4,
        }
    };
}

/// The plane through the logarithms. Where the variables move together (D = 20·N in every row) only their sum is
/// there to be seen: the slope goes to the first then, and the profile finds the other open.
fn plane(data: &Columns<'_>, _dense: bool) -> Vec<Theta> {
    let design: Vec<Vec<f64>> = (0..data.y.len())
        .map(|row| std::iter::once(1.0).chain(data.x.iter().map(|column| column[row])).collect())
        .collect();
    let (slope, intercept) = super::power::line(data);
    let mut along_the_first = vec![intercept, -slope];
    along_the_first.resize(data.x.len() + 1, 0.0);
    let mut out = vec![theta_of(&along_the_first)];
    let beta = least_squares(&design, data.y, data.w).map(|line| line.beta);
    if let Some(beta) = beta.filter(|b| b.iter().all(|v| v.is_finite())) {
        let signed: Vec<f64> = beta.iter().enumerate().map(|(i, b)| if i == 0 { *b } else { -*b }).collect();
        out.push(theta_of(&signed));
    }
    out
}

/// Fitted only when asked for by name or when the table has the response under its own name.
pub static FORMS: [Form; 18] = [
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
        "lr_d",
        "lr = G*D^exponent",
        "\\eta = G D^{x}",
        "d",
        "lr_opt",
        "e.g. Filatov et al. 2025, arXiv 2510.03871: lr ~ D^-0.28 with Scion"
    ),
    law!(
        "lr_b",
        "lr = G*B^exponent",
        "\\eta = G B^{x}",
        "batch",
        "lr_opt",
        "the square-root rule of Adam, the linear rule of SGD: exponents 0.5 and 1"
    ),
    law_of_two!(
        "lr_nd",
        "lr = G*N^x*D^y",
        "\\eta = G N^{x} D^{y}",
        "n",
        "d",
        "lr_opt",
        "Step law, Li et al. 2025, arXiv 2503.04715: 1.79 N^-0.713 D^0.307"
    ),
    law_of_two!(
        "lr_nb",
        "lr = G*N^x*B^y",
        "\\eta = G N^{x} B^{y}",
        "n",
        "batch",
        "lr_opt",
        "the rate of a size at a batch"
    ),
    law_of_two!(
        "lr_db",
        "lr = G*D^x*B^y",
        "\\eta = G D^{x} B^{y}",
        "d",
        "batch",
        "lr_opt",
        "Filatov et al. 2025, arXiv 2510.03871: lr ~ B^0.62 D^-0.56 with Scion"
    ),
    LR_NDB,
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
        "batch_d",
        "B = G*D^exponent",
        "B = G D^{x}",
        "d",
        "batch_opt",
        "Step law, Li et al. 2025, arXiv 2503.04715: 0.58 D^0.571 tokens; Bergsma et al. 2025, arXiv 2505.13738: D^0.383"
    ),
    law_of_two!(
        "batch_nd",
        "B = G*N^x*D^y",
        "B = G N^{x} D^{y}",
        "n",
        "d",
        "batch_opt",
        "arXiv 2503.04715 and 2505.13738 find x = 0"
    ),
    law!(
        "b_crit_n",
        "B_crit = G*N^exponent",
        "B_{crit} = G N^{x}",
        "n",
        "b_crit",
        "Zhang et al. 2024, arXiv 2410.21676"
    ),
    law!(
        "b_crit_d",
        "B_crit = G*D^exponent",
        "B_{crit} = G D^{x}",
        "d",
        "b_crit",
        "Bergsma et al. 2025, arXiv 2505.13738: D^0.462"
    ),
    law_of_two!(
        "b_crit_nd",
        "B_crit = G*N^x*D^y",
        "B_{crit} = G N^{x} D^{y}",
        "n",
        "d",
        "b_crit",
        "Zhang et al. 2024, arXiv 2410.21676, find x near 0 at fixed D"
    ),
    B_CRIT_L,
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

const LR_NDB: Form = Form {
    id: "lr_ndb",
    variant: "",
    formula: "lr = G*N^x*D^y*B^z",
    latex: "\\eta = G N^{x} D^{y} B^{z}",
    source: "lr(N, D) at one batch is arXiv 2503.04715, lr(D, B) at one size arXiv 2510.03871",
    variables: &[variable("n"), variable("d"), variable("batch")],
    response: "lr_opt",
    log_response: true,
    coords: SEVERAL,
    reported: &[X, Y, Z, G],
    kernel: Kernel::Terms(&[&[Slot::Plus(0), Slot::Minus(1, 0), Slot::Minus(2, 1), Slot::Minus(3, 2)]]),
    starts: plane,
    linear: None,
    min_rows: 5,
};

/// ln B = ln B_* − (1/α_B)·ln L.
const B_CRIT_L: Form = Form {
    id: "b_crit_l",
    variant: "",
    formula: "B_crit = B_*/L^(1/alpha_B)",
    latex: "B_{crit} = B_* / L^{1/\\alpha_B}",
    source: "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.4: 2e8 tokens, 0.21",
    variables: &[variable("loss")],
    response: "b_crit",
    log_response: true,
    // Beyond 100 a critical batch would change a hundredfold over 5 % of loss.
    coords: &[LN_G, Coord { name: "1/alpha_B", lo: 1e-3, hi: 100.0 }],
    reported: &[
        Reported {
            name: "alpha_B",
            role: Role::Exponent,
            log: false,
            of: |t| Dual::constant(1.0) / t[1],
            meaning: "B_crit grows as L^(-1/alpha_B)",
        },
        Reported {
            name: "B_star",
            role: Role::Scale,
            log: true,
            of: |t| t[0],
            meaning: "critical batch at a loss of 1",
        },
    ],
    kernel: Kernel::Terms(&[&[Slot::Plus(0), Slot::Minus(1, 0)]]),
    starts: |data, _| {
        let (slope, intercept) = super::power::line(data);
        vec![theta_of(&[intercept, (-slope).clamp(1e-2, 90.0)])]
    },
    linear: None,
    min_rows: 3,
};
