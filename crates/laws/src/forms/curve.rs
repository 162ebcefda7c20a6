//! Learning curves with the schedule in them: L = L_0 + A/S1^alpha − C·S2, S1 the sum of learning rates over steps,
//! S2 the annealing area (Tissue et al. 2024, arXiv 2408.11029, eq. 1). With it, the loss after a decay can be
//! forecast from before it.

use super::{Coord, Form, Kernel, Reported, Role, Variable, exponent, floor_coord, ln_coord};
use crate::numeric::lanes::each_row;
use crate::numeric::theta_of;
use crate::{Row, Table};

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
    kernel: Kernel::Row(|x, theta, f, jac| {
        each_row::<4>(x, theta, f, jac, |x, t| {
            let undecayed = (t[0] - t[1] * x[0]).log_add(t[2]).exp();
            (undecayed - t[3] * x[1]).ln()
        });
    }),
    starts: |data, _| {
        let lowest = data.y.iter().copied().fold(f64::INFINITY, f64::min);
        let first = data.x[0].iter().sum::<f64>() / data.y.len() as f64;
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

/// The curves of a table by run, with S1 and S2 from columns `steps` and `lr` (the rate is taken as linear between
/// rows). Runs that have S1 and S2 already stay as they are.
pub fn by_run(table: &Table) -> Vec<(String, Table)> {
    let mut names: Vec<&str> = Vec::new();
    for row in &table.rows {
        if !names.contains(&row.run.as_str()) {
            names.push(&row.run);
        }
    }
    names
        .into_iter()
        .map(|name| {
            let mut curve = table.filtered(|r| r.run == name);
            fill(&mut curve);
            (name.to_owned(), curve)
        })
        .collect()
}

/// Most steps that are walked one by one; longer runs are walked in equal strides.
const WALK: f64 = 2e5;

fn fill(curve: &mut Table) {
    let known = |r: &Row| Some((*r.extra.get("steps")?, *r.extra.get("lr")?));
    if curve.rows.iter().any(|r| r.extra.contains_key("s1") || known(r).is_none()) {
        return;
    }
    curve.rows.sort_by(|a, b| a.extra["steps"].total_cmp(&b.extra["steps"]));
    let last = curve.rows.last().map_or(0.0, |r| r.extra["steps"]);
    let stride = (last / WALK).max(1.0);
    let mut rates = Vec::new();
    let mut marks = Vec::new();
    let (mut step, mut rate) = (0.0, curve.rows.first().map_or(0.0, |r| r.extra["lr"]));
    for row in &curve.rows {
        let (to, end) = (row.extra["steps"], row.extra["lr"]);
        let count = ((to - step) / stride).round().clamp(0.0, 2.0 * WALK) as usize;
        for k in 1..=count {
            rates.push((rate + (end - rate) * k as f64 / count as f64) * stride);
        }
        (step, rate) = (to, end);
        marks.push(rates.len());
    }
    let walked = areas(&rates);
    for (row, mark) in curve.rows.iter_mut().zip(marks) {
        if let Some((s1, s2)) = mark.checked_sub(1).and_then(|i| walked.get(i)) {
            row.extra.insert("s1".to_owned(), *s1);
            row.extra.insert("s2".to_owned(), *s2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loss, Options};

    /// A curve that follows the form, seen up to the start of its decay and once after: the decay's worth comes back.
    #[test]
    fn the_worth_of_a_decay_is_found() {
        let rates: Vec<f64> =
            (0..4000).map(|i| if i < 3200 { 1e-2 } else { 1e-2 * (4000 - i) as f64 / 800.0 }).collect();
        let walked = areas(&rates);
        let mut table = Table::default();
        for i in (200..4000).step_by(100).chain([3999]) {
            let (s1, s2) = walked[i];
            let mut row =
                Row::of(table.rows.len() + 2, 1e6, 1e3 * i as f64, 1.5 + 2.0 * s1.powf(-0.4) - 0.02 * s2);
            row.run = "a".into();
            row.extra.insert("steps".into(), (i + 1) as f64);
            row.extra.insert("lr".into(), rates[i]);
            table.rows.push(row);
        }
        let options =
            Options { forms: vec!["l_t".into()], loss: Loss::Mse, bootstrap: 0, ..Options::default() };
        let fit = crate::fit(&table, &options).unwrap().fits.remove(0);
        let c = fit.params.get("c").unwrap().value;
        assert!((c - 0.02).abs() < 2e-3, "{c} {:?}", fit.params);
    }
}
