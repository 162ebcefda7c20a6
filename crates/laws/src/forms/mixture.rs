//! Data mixing laws: L = c + k·exp(Σ_j t_j·r_j) for the shares r_j of the sources (Ye et al. 2024, arXiv 2403.16952,
//! eq. 1 and 6).
//!
//! Shares that add up to one leave one rate free: k·exp(t·Σr) is k again. The last source is then the reference, its
//! rate zero, and every other t says what a share costs or earns when it is taken from that source.

use super::{Columns, Coord, Form, Kernel, Reported, Role, Slot, Variable, floor_coord};
use crate::numeric::lanes::each_row;
use crate::numeric::linear::least_squares;
use crate::numeric::{MAX_COORDS, Theta, theta_of};
use crate::{LawError, Table};

const RATE: Coord = Coord { name: "t", lo: -200.0, hi: 200.0 };
const COORDS: &[Coord] = &[
    floor_coord("ln_c"),
    Coord { name: "b", lo: -200.0, hi: 200.0 },
    Coord { name: "t_1", ..RATE },
    Coord { name: "t_2", ..RATE },
    Coord { name: "t_3", ..RATE },
    Coord { name: "t_4", ..RATE },
    Coord { name: "t_5", ..RATE },
    Coord { name: "t_6", ..RATE },
    Coord { name: "t_7", ..RATE },
];
const REPORTED: &[Reported] = &[
    Reported {
        name: "c",
        role: Role::Floor,
        log: true,
        of: |t| t[0],
        meaning: "loss that no mixture removes",
    },
    Reported {
        name: "b",
        role: Role::Other,
        log: false,
        of: |t| t[1],
        meaning: "ln of the removable loss at shares of zero",
    },
    Reported {
        name: "t_1",
        role: Role::Other,
        log: false,
        of: |t| t[2],
        meaning: "rate at which share 1 changes the removable loss",
    },
    Reported {
        name: "t_2",
        role: Role::Other,
        log: false,
        of: |t| t[3],
        meaning: "rate at which share 2 changes the removable loss",
    },
    Reported {
        name: "t_3",
        role: Role::Other,
        log: false,
        of: |t| t[4],
        meaning: "rate at which share 3 changes the removable loss",
    },
    Reported {
        name: "t_4",
        role: Role::Other,
        log: false,
        of: |t| t[5],
        meaning: "rate at which share 4 changes the removable loss",
    },
    Reported {
        name: "t_5",
        role: Role::Other,
        log: false,
        of: |t| t[6],
        meaning: "rate at which share 5 changes the removable loss",
    },
    Reported {
        name: "t_6",
        role: Role::Other,
        log: false,
        of: |t| t[7],
        meaning: "rate at which share 6 changes the removable loss",
    },
    Reported {
        name: "t_7",
        role: Role::Other,
        log: false,
        of: |t| t[8],
        meaning: "rate at which share 7 changes the removable loss",
    },
];
const fn share(name: &'static str) -> Variable {
    Variable { name, log: false, distinct: 2 }
}
/// Columns the slice makes of whatever the table calls its shares.
const SHARES: &[Variable] = &[
    share("share 1"),
    share("share 2"),
    share("share 3"),
    share("share 4"),
    share("share 5"),
    share("share 6"),
    share("share 7"),
];

const fn of(count: usize, variant: &'static str) -> Form {
    Form {
        id: "mixture",
        variant,
        formula: "L = c + exp(b + sum_j t_j*r_j)",
        latex: "L = c + e^{b + \\sum_j t_j r_j}",
        source: "Ye et al. 2024, arXiv 2403.16952, eq. 6",
        variables: SHARES.split_at(count).0,
        response: "loss",
        log_response: true,
        coords: COORDS.split_at(count + 2).0,
        reported: REPORTED.split_at(count + 2).0,
        kernel: Kernel::Row(|x, theta, f, jac| {
            each_row::<MAX_COORDS>(x, theta, f, jac, |x, t| {
                let rates = x.iter().zip(&t[2..]);
                rates.fold(t[1], |sum, (share, rate)| sum + *rate * *share).log_add(t[0])
            });
        }),
        starts,
        linear: None,
        min_rows: count + 3,
    }
}

/// One share, and two to seven free ones (up to eight sources).
pub static FORMS: [Form; 7] = [
    Form {
        id: "mixture",
        variant: "",
        formula: "L = c + exp(k*p + b)",
        latex: "L = c + e^{k p + b}",
        source: "Ye et al. 2024, arXiv 2403.16952, eq. 1, for the share p of one source",
        variables: &[Variable { name: "p", log: false, distinct: 3 }],
        response: "loss",
        log_response: true,
        coords: &[
            floor_coord("ln_c"),
            Coord { name: "k", lo: -60.0, hi: 60.0 },
            Coord { name: "b", lo: -60.0, hi: 30.0 },
        ],
        reported: &[
            Reported {
                name: "c",
                role: Role::Floor,
                log: true,
                of: |t| t[0],
                meaning: "loss that no mixture removes",
            },
            Reported {
                name: "k",
                role: Role::Exponent,
                log: false,
                of: |t| t[1],
                meaning: "rate at which the share lowers the loss",
            },
            Reported {
                name: "b",
                role: Role::Other,
                log: false,
                of: |t| t[2],
                meaning: "ln of the removable loss at share 0",
            },
        ],
        kernel: Kernel::Terms(&[&[Slot::Times(1, 0), Slot::Plus(2)], &[Slot::Plus(0)]]),
        starts: |data, _| {
            let lowest = data.y.iter().copied().fold(f64::INFINITY, f64::min);
            let mut out = Vec::new();
            for share in [0.3, 0.7, 0.9, 0.98] {
                for k in [-8.0, -2.0, -0.5, 0.5, 2.0, 8.0] {
                    out.push(theta_of(&[lowest + libm::log(share), k, lowest + libm::log(1.05 - share)]));
                }
            }
            out
        },
        linear: None,
        min_rows: 4,
    },
    of(2, "2 shares"),
    of(3, "3 shares"),
    of(4, "4 shares"),
    of(5, "5 shares"),
    of(6, "6 shares"),
    of(7, "7 shares"),
];

/// With the floor given, ln(L − c) is linear in the shares: floors on a grid, the rest by least squares.
fn starts(data: &Columns<'_>, _dense: bool) -> Vec<Theta> {
    let lowest = libm::exp(data.y.iter().copied().fold(f64::INFINITY, f64::min));
    let x: Vec<Vec<f64>> = (0..data.y.len())
        .map(|i| std::iter::once(1.0).chain(data.x.iter().map(|column| column[i])).collect())
        .collect();
    let mut out = Vec::new();
    for part in [0.001, 0.2, 0.4, 0.6, 0.75, 0.85, 0.92, 0.96, 0.98, 0.99, 0.995, 0.999] {
        let floor = part * lowest;
        let y: Vec<f64> = data.y.iter().map(|v| libm::log(libm::exp(*v) - floor)).collect();
        if let Some(line) = least_squares(&x, &y, data.w) {
            out.push(theta_of(&[&[libm::log(floor)], line.beta.as_slice()].concat()));
        }
    }
    if out.is_empty() {
        out.push(theta_of(&[libm::log(0.5 * lowest), libm::log(0.5 * lowest)]));
    }
    out
}

/// A table with its free shares under the names the forms read, and what they are in words.
#[derive(Debug, Clone)]
pub struct Shares {
    /// The rows with `p`, or with `share 1`, `share 2`, …
    pub table: Table,
    /// Number of free shares.
    pub count: usize,
    /// Which is which.
    pub notes: Vec<String>,
}

/// The shares of a table: columns `p1`, `p2`, …, `mix_<name>`, `share_<name>`, or weights `weight_<name>`, which are
/// divided by their sum; one column `p` alone is left as it is.
///
/// # Errors
/// More sources than are fitted, or shares that never vary.
pub fn shares(table: &Table) -> Result<Shares, LawError> {
    let mut names: Vec<&String> = Vec::new();
    for name in table.rows.iter().flat_map(|r| r.extra.keys()) {
        if is_share(name) && !names.contains(&name) {
            names.push(name);
        }
    }
    if names.len() < 2 {
        return Ok(Shares { table: table.clone(), count: 1, notes: Vec::new() });
    }
    let weights = names.iter().all(|n| n.starts_with("weight"));
    names.sort_by_key(|n| (n.strip_prefix('p').and_then(|d| d.parse::<u32>().ok()), (*n).clone()));
    let sums: Vec<f64> = table
        .rows
        .iter()
        .filter_map(|r| names.iter().map(|n| r.extra.get(*n).copied()).sum::<Option<f64>>())
        .collect();
    let near = |total: f64| !sums.is_empty() && sums.iter().all(|s| (s - total).abs() <= 0.01 * total);
    let scale = if near(100.0) { 0.01 } else { 1.0 };
    let normalised = weights.then(|| by_their_sum(table, &names));
    let closed = near(1.0) || near(100.0) || weights;
    let scale = if weights { 1.0 } else { scale };
    let table = normalised.as_ref().unwrap_or(table);
    let mut notes = Vec::new();
    if weights {
        notes.push("the shares are the weights over their sum".to_owned());
    }
    let varies = |name: &&String| table.levels(name).len() > 1;
    let (mut free, fixed): (Vec<&String>, Vec<&String>) = names.into_iter().partition(varies);
    for name in fixed {
        notes.push(format!("the share `{name}` is the same in all rows: nothing can be said of it"));
    }
    if closed && let Some(reference) = free.pop() {
        notes.push(format!(
            "the shares add up to one: `{reference}` is the reference, each t is relative to it"
        ));
    }
    if free.is_empty() || free.len() > SHARES.len() {
        return Err(LawError::BadTable {
            what: format!("mixture: {} shares vary freely", free.len()),
            hint: format!("1 to {} can be fitted; merge sources, or vary them", SHARES.len()),
        });
    }
    let mut out = table.clone();
    for row in &mut out.rows {
        for (i, name) in free.iter().enumerate() {
            if let Some(v) = row.extra.get(*name).copied() {
                let key = if free.len() == 1 { "p" } else { SHARES[i].name };
                row.extra.insert(key.to_owned(), scale * v);
            }
        }
    }
    let which: Vec<String> =
        free.iter().enumerate().map(|(i, n)| format!("t_{} belongs to `{n}`", i + 1)).collect();
    notes.push(if free.len() == 1 { format!("p is the share `{}`", free[0]) } else { which.join(", ") });
    if scale < 1.0 {
        notes.push("the shares were percentages".to_owned());
    }
    Ok(Shares { table: out, count: free.len(), notes })
}

/// Weights such as 3 : 1 as shares of their sum, in the rows that have all of them.
fn by_their_sum(table: &Table, names: &[&String]) -> Table {
    let mut out = table.clone();
    for row in &mut out.rows {
        let sum = names.iter().map(|n| row.extra.get(*n).copied()).sum::<Option<f64>>();
        let Some(sum) = sum.filter(|s| *s > 0.0 && s.is_finite()) else { continue };
        for name in names {
            row.extra.entry((*name).clone()).and_modify(|w| *w /= sum);
        }
    }
    out
}

/// `p1`, `p2`, …, or `mix_<name>`, `share_<name>`, `weight_<name>` (also with a dot, slash, colon, blank or hyphen).
fn is_share(name: &str) -> bool {
    let numbered =
        name.strip_prefix('p').is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    let of_a_source = |word: &str| {
        let rest = name.strip_prefix(word).and_then(|r| r.strip_prefix(['_', '.', '/', ':', ' ', '-']));
        rest.is_some_and(|source| !source.trim().is_empty())
    };
    let of_the_optimiser = name.starts_with("weight") && name.ends_with("decay");
    !of_the_optimiser
        && (numbered || ["mix", "share", "weight", "proportion"].iter().any(|word| of_a_source(word)))
}

#[cfg(test)]
mod tests {
    use crate::{Options, ReadOptions, fit, read_table};

    /// Rows of a known law of three sources, shares on a lattice, in percent if `scale` is 100.
    fn text(scale: f64) -> String {
        let mut out = String::from("mix_web,mix_code,mix_books,loss\n");
        for i in 0..=5 {
            for j in 0..=(5 - i) {
                let (web, code) = (f64::from(i) / 5.0, f64::from(j) / 5.0);
                let books = 1.0 - web - code;
                let loss = 1.9 + (0.4 - 1.2 * web + 0.7 * code - 0.5 * books).exp();
                out.push_str(&format!("{},{},{},{loss}\n", scale * web, scale * code, scale * books));
            }
        }
        out
    }

    #[test]
    fn three_sources_give_their_rates_back_relative_to_the_last() {
        for scale in [1.0, 100.0] {
            let table = read_table(text(scale).as_bytes(), &ReadOptions::default()).unwrap();
            let options = Options { forms: vec!["mixture".into()], bootstrap: 0, ..Options::default() };
            let document = fit(&table, &options).unwrap();
            assert_eq!(document.fits.len(), 1);
            let record = &document.fits[0];
            assert_eq!(record.variant, "2 shares");
            // In the order of the names: books, code; web is the reference.
            for (name, expected) in [("c", 1.9), ("b", 0.4 - 1.2), ("t_1", -0.5 + 1.2), ("t_2", 0.7 + 1.2)] {
                let found = record.params.get(name).unwrap().value;
                assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
            }
            assert!(
                record.notes.iter().any(|n| n.contains("`mix_web` is the reference")),
                "{:?}",
                record.notes
            );
            assert!(
                record.notes.iter().any(|n| n.contains("t_2 belongs to `mix_code`")),
                "{:?}",
                record.notes
            );
        }
    }

    #[test]
    fn weights_are_shares_of_their_sum_and_weight_decay_is_none() {
        let mut text = String::from("weight_web,weight_code,weight_decay,loss\n");
        for i in 0..8 {
            let p = (f64::from(i) + 0.5) / 8.0;
            let loss = 2.0 + (-1.5 * p - 0.5).exp();
            // The same mixture whatever the weights add up to.
            let of = f64::from(1 + i % 3);
            text.push_str(&format!("{},{},{},{loss}\n", of * (1.0 - p), of * p, 0.01 * f64::from(i % 2)));
        }
        let options = Options { forms: vec!["mixture".into()], ..Options::default() };
        for written in
            [text.clone(), text.replace("weight_web", "share:web").replace("weight_code", "share:code")]
        {
            let table = read_table(written.as_bytes(), &ReadOptions::default()).unwrap();
            let document = fit(&table, &options);
            if written == text {
                let document = document.unwrap();
                let k = document.fits[0].params.get("k").unwrap().value;
                assert!((k + 1.5).abs() < 1e-5, "{k}");
                assert!(document.fits[0].notes.iter().any(|n| n.contains("over their sum")));
            } else {
                // Called shares, they are taken as they stand: two that vary freely.
                assert_eq!(document.unwrap().fits[0].variant, "2 shares");
            }
        }
    }

    #[test]
    fn two_sources_are_one_share() {
        let mut text = String::from("p1,p2,loss\n");
        for i in 0..8 {
            let p = f64::from(i) / 7.0;
            text.push_str(&format!("{p},{},{}\n", 1.0 - p, 2.0 + (-1.5 * p - 0.5).exp()));
        }
        let table = read_table(text.as_bytes(), &ReadOptions::default()).unwrap();
        let options = Options { forms: vec!["mixture".into()], ..Options::default() };
        let document = fit(&table, &options).unwrap();
        let k = document.fits[0].params.get("k").unwrap().value;
        assert!((k + 1.5).abs() < 1e-5, "{k}");
        let same = table.filtered(|r| r.line == 3);
        assert!(fit(&same, &options).unwrap_err().to_string().contains("0 shares vary"));
    }
}
