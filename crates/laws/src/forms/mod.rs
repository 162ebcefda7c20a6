//! The laws of the literature, one small file each. A form is data: the formula, the variables it reads, the
//! coordinates it is fitted in, the parameters it reports, where a search starts.

pub mod additive;
pub mod batch;
pub mod chinchilla;
pub mod curve;
pub mod data_quality;
pub mod kaplan;
pub mod kaplan_figures;
pub mod mixture;
pub mod overtraining;
pub mod power;
pub mod settings;

use crate::numeric::Theta;
use crate::numeric::dual::Dual;
use crate::{LawError, Table};
use isoflop_base::nearest::nearest;

/// A functional form y = f(x; θ), fitted to ln y (or to y itself, see [`Form::log_response`]).
#[derive(Debug)]
pub struct Form {
    /// Shell-safe id: `l_n`, `l_nd_chinchilla`, …
    pub id: &'static str,
    /// `pure`, `irreducible`, … where an id has several; else empty.
    pub variant: &'static str,
    /// The formula in plain text.
    pub formula: &'static str,
    /// The same for LaTeX.
    pub latex: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// What it reads of a row, in the order in which [`Kernel`] sees it.
    pub variables: &'static [Variable],
    /// The column it explains.
    pub response: &'static str,
    /// Whether ln of the response is explained (else the response itself).
    pub log_response: bool,
    /// Coordinates of the fit.
    pub coords: &'static [Coord],
    /// Parameters shown to people, each a function of the coordinates.
    pub reported: &'static [Reported],
    /// How it is computed.
    pub kernel: Kernel,
    /// Where the searches start; `dense` asks for the literature's full grid.
    pub starts: fn(&Columns<'_>, dense: bool) -> Vec<Theta>,
    /// Exponents that variable projection may search, if the rest is linear.
    pub linear: Option<&'static LinearPart>,
    /// Fewest rows.
    pub min_rows: usize,
}

/// The rows as a search's starts may see them: variables by column, the response, the weights.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    /// `x[variable][row]`, logarithms where the form reads logarithms.
    pub x: &'a [Vec<f64>],
    /// (ln) response.
    pub y: &'a [f64],
    /// Weights.
    pub w: &'a [f64],
}

/// Names that are recipes rather than single forms.
pub const RECIPES: &[&str] = &["all", "isoflop", "envelope"];

/// A variable of a form.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Column: `n`, `d`, `c`, or an extra one.
    pub name: &'static str,
    /// The form reads its natural logarithm.
    pub log: bool,
    /// Fewest distinct values.
    pub distinct: usize,
}

/// A coordinate of the fit with the box the search stays in.
#[derive(Debug, Clone, Copy)]
pub struct Coord {
    /// e.g. `ln_a`, `alpha`.
    pub name: &'static str,
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

/// What a parameter is, for judging whether an interval pins it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Pinned down when its half-width is below half its value and its sign is known.
    Exponent,
    /// A loss that remains; pinned down when bounded away from zero and known to a quarter.
    Floor,
    /// A positive constant; pinned down when its interval spans less than a factor of 100.
    Scale,
    /// Anything else; pinned down when both ends are bounded.
    Other,
}

/// A parameter as people know it.
#[derive(Debug, Clone, Copy)]
pub struct Reported {
    /// e.g. `alpha`, `E`.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
    /// `of` gives its logarithm.
    pub log: bool,
    /// From the coordinates.
    pub of: fn(&[Dual]) -> Dual,
    /// What it means, in words.
    pub meaning: &'static str,
}

/// How ln y and its gradient are computed.
#[derive(Debug)]
pub enum Kernel {
    /// ln Σ_k exp(u_k), each u_k linear in the coordinates: vectorised, with exact second derivatives.
    Terms(&'static [&'static [Slot]]),
    /// As the formula reads, [`crate::numeric::lanes::each_row`]: from `x[variable][row]` and the coordinates to
    /// `f[row]` and `jac[coordinate][row]`.
    Row(RowKernel),
}

/// From `x[variable][row]` and the coordinates to `f[row]` and `jac[coordinate][row]`.
pub type RowKernel = fn(&[&[f64]], &Theta, &mut [f64], &mut [Vec<f64>]);

/// One summand of a term: a coordinate times one, or times a variable or minus it.
#[derive(Debug, Clone, Copy)]
pub enum Slot {
    /// + θ_i.
    Plus(usize),
    /// − θ_i · x_j.
    Minus(usize, usize),
    /// + θ_i · x_j.
    Times(usize, usize),
}

/// The part of a form that is linear once its exponents are given: y = Σ_k c_k · exp(−exponent_k · x_k) with c_k ≥ 0.
#[derive(Debug)]
pub struct LinearPart {
    /// Per term: index of its exponent among the searched ones with its variable, or `None` for the constant term.
    pub terms: &'static [Option<(usize, usize)>],
    /// Coordinate of ln c_k for each term.
    pub ln_coefficient: &'static [usize],
    /// Coordinates of the searched exponents.
    pub exponents: &'static [usize],
}

/// Every form, in the order in which `all` fits them.
pub fn all() -> Vec<&'static Form> {
    let mut out: Vec<&'static Form> = Vec::new();
    out.extend(power::FORMS.iter());
    out.extend(chinchilla::FORMS.iter());
    out.extend(additive::FORMS.iter());
    out.extend(kaplan::FORMS.iter());
    out.extend(overtraining::FORMS.iter());
    out.extend(batch::FORMS.iter());
    out.extend(data_quality::FORMS.iter());
    out.extend(mixture::FORMS.iter());
    out.extend(settings::FORMS.iter());
    out.extend(curve::FORMS.iter());
    out
}

/// All variants of a form id.
///
/// # Errors
/// No such form; the hint names the nearest.
pub fn by_id(id: &str) -> Result<Vec<&'static Form>, LawError> {
    let found: Vec<&'static Form> = all().into_iter().filter(|f| f.id == id).collect();
    if found.is_empty() { Err(unknown(id)) } else { Ok(found) }
}

/// Whether all of these ids read the loss (an empty list means all forms, which do).
pub fn need_loss(ids: &[String]) -> bool {
    let reads = |f: &&Form| f.response == "loss" || f.variables.iter().any(|v| v.name == "loss");
    ids.iter().all(|id| {
        let variants: Vec<&Form> = all().into_iter().filter(|f| f.id == id).collect();
        variants.is_empty() || variants.iter().any(reads)
    })
}

/// Whether some law that explains no loss can be fitted to a table without one.
pub fn fits_without_loss(table: &Table) -> bool {
    all().iter().any(|form| {
        form.response != "loss"
            && form.variables.iter().all(|v| v.name != "loss")
            && form.check(table).is_ok()
    })
}

/// The form of a fit record.
pub fn find(id: &str, variant: &str) -> Option<&'static Form> {
    all().into_iter().find(|f| f.id == id && f.variant == variant)
}

/// Ids of all forms, without repetition.
pub fn ids() -> Vec<&'static str> {
    let mut out: Vec<&'static str> = all().iter().map(|f| f.id).collect();
    out.dedup();
    out
}

/// The error for a name that is no form.
pub fn unknown(name: &str) -> LawError {
    let mut known = ids();
    known.extend(RECIPES);
    let nearest = nearest(name, known.iter().copied()).unwrap_or("l_n");
    LawError::UnknownForm {
        name: name.to_owned(),
        hint: format!("did you mean `{nearest}`? known: {}", known.join(", ")),
    }
}

/// Whether a name is a form or a recipe.
pub fn is_known(name: &str) -> bool {
    RECIPES.contains(&name) || ids().contains(&name)
}

impl Reported {
    /// How far a profile is walked from `centre` (of the logarithm, if `log`) before its end is called open.
    pub(crate) fn reach(&self, centre: f64) -> (f64, f64) {
        match self.role {
            Role::Floor => (-11.5, 5.9),
            Role::Exponent => (-2.9, 11.9),
            Role::Scale if self.log => (centre - 80.0, centre + 80.0),
            _ => (centre - 1e3 - 1e3 * centre.abs(), centre + 1e3 + 1e3 * centre.abs()),
        }
    }
}

impl Form {
    /// Number of coordinates.
    pub fn p(&self) -> usize {
        self.coords.len()
    }

    /// `l_n pure`, or the id alone.
    pub fn label(&self) -> String {
        if self.variant.is_empty() { self.id.to_owned() } else { format!("{} {}", self.id, self.variant) }
    }

    /// ln of the response (or the response) and its gradient at one place.
    pub fn value(&self, x: &[f64], theta: &Theta) -> Dual {
        let t = Dual::coordinates(theta);
        match &self.kernel {
            Kernel::Row(rows) => {
                let columns: Vec<&[f64]> = x.iter().map(std::slice::from_ref).collect();
                let (mut f, mut jac) = ([0.0], vec![vec![0.0]; self.p()]);
                rows(&columns, theta, &mut f, &mut jac);
                let mut out = Dual::constant(f[0]);
                out.g.iter_mut().zip(&jac).for_each(|(g, column)| *g = column[0]);
                out
            }
            Kernel::Terms(terms) => {
                let term = |slots: &[Slot]| {
                    slots.iter().fold(Dual::constant(0.0), |sum, slot| match *slot {
                        Slot::Plus(i) => sum + t[i],
                        Slot::Minus(i, j) => sum - t[i] * x[j],
                        Slot::Times(i, j) => sum + t[i] * x[j],
                    })
                };
                terms[1..].iter().fold(term(terms[0]), |sum, slots| sum.log_add(term(slots)))
            }
        }
    }

    /// The form's variables of a row by name, logarithms taken; `None` if one is absent or not positive where it must
    /// be.
    pub fn inputs(&self, value: &dyn Fn(&str) -> Option<f64>) -> Option<Vec<f64>> {
        self.variables
            .iter()
            .map(|v| {
                let x = value(v.name)?;
                if v.log { (x > 0.0 && x.is_finite()).then(|| libm::log(x)) } else { Some(x) }
            })
            .collect()
    }

    /// Whether the table has the columns and enough rows.
    ///
    /// # Errors
    /// What is missing, and how many rows are needed.
    pub fn check(&self, table: &Table) -> Result<(), LawError> {
        let needs = self.variables.iter().map(|v| v.name).chain([self.response]);
        for name in needs {
            if !table.rows.iter().any(|r| r.get(name).is_some()) {
                return Err(LawError::MissingColumn {
                    form: self.id.to_owned(),
                    column: format!("`{name}`"),
                    hint: match table.unreadable.get(name) {
                        // Which column comes nearest says less than what there is: D follows from steps and batch.
                        _ if name == "d" && table.rows.iter().any(|r| r.get("steps").is_some()) => {
                            "there are steps: with the batch in tokens (batch_tokens), or in sequences (batch_size) \
                             and their length (seq_len), D = steps × batch × length is taken; or map a column with \
                             --column d=NAME"
                                .to_owned()
                        }
                        Some(why) => format!("{why}; write numbers such as 12000000, 12M or 1.2e7"),
                        None => format!(
                            "name it `{name}` in the header, or map a column with --column {name}=NAME"
                        ),
                    },
                });
            }
        }
        let usable = table.filtered(|r| self.inputs(&|name| r.get(name)).is_some());
        if usable.rows.len() < self.min_rows {
            return Err(LawError::TooFewRows {
                form: self.label(),
                needed: self.min_rows,
                found: usable.rows.len(),
                of: String::new(),
                hint: format!(
                    "{} has {} parameters; add runs, or ask for a simpler form",
                    self.formula,
                    self.p()
                ),
            });
        }
        for v in self.variables.iter().filter(|v| v.distinct > 1) {
            let found = usable.levels(v.name).len();
            if found < v.distinct {
                return Err(LawError::TooFewRows {
                    form: self.label(),
                    needed: self.min_rows.max(v.distinct),
                    found: usable.rows.len(),
                    of: format!(" with {} different `{}` (there are {found})", v.distinct, v.name),
                    hint: format!("add runs with other `{}`", v.name),
                });
            }
        }
        Ok(())
    }
}

/// A coordinate that is a logarithm of a positive constant.
pub(crate) const fn ln_coord(name: &'static str) -> Coord {
    Coord { name, lo: -60.0, hi: 120.0 }
}

/// A coordinate that is ln of an irreducible loss: at its lower end the loss is zero for every purpose.
pub(crate) const fn floor_coord(name: &'static str) -> Coord {
    Coord { name, lo: -12.0, hi: 6.0 }
}

/// A coordinate that is an exponent.
pub(crate) const fn exponent(name: &'static str) -> Coord {
    Coord { name, lo: -3.0, hi: 12.0 }
}
