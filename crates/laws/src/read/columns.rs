//! Which column is which.

use crate::table::same_level;
use crate::{LawError, Table};

/// Columns that become fields of a row; all others are kept under their names.
pub(super) const CORE: &[&str] = &["n", "d", "c", "loss", "loss_se", "weight", "run", "seed", "status"];

/// Canonical names with the headers that mean them, best first, compared without case, spaces and punctuation.
pub const SYNONYMS: &[(&str, &[&str])] = &[
    (
        "n",
        &[
            "n",
            "params",
            "nparams",
            "parameters",
            "numparams",
            "numparameters",
            "nparameters",
            "modelparams",
            "modelparameters",
            "paramcount",
            "parametercount",
            "modelsize",
            "nonembeddingparams",
            "nnonembedding",
            "paramsnonembedding",
            "paramstotal",
            "totalparams",
            "effparams",
            "effectiveparams",
            "effectiveparameters",
            "activeparams",
            "size",
        ],
    ),
    (
        "d",
        &[
            "d",
            "tokens",
            "ntokens",
            "numtokens",
            "traintokens",
            "trainingtokens",
            "tokensseen",
            "totaltokens",
            "datasettokens",
            "trainingdatasetsize",
            "datasetsize",
            "datatokens",
            "data",
            "t",
        ],
    ),
    (
        "c",
        &[
            "c",
            "flops",
            "flop",
            "compute",
            "computebudget",
            "trainingflops",
            "trainingflop",
            "trainflops",
            "totalflops",
            "computeflops",
            "computeflop",
            "budget",
            "flops6nd",
        ],
    ),
    (
        "loss",
        &[
            "loss",
            "finalloss",
            "valloss",
            "validationloss",
            "evalloss",
            "testloss",
            "l",
            "lossval",
            "finalvalloss",
            "crossentropy",
            "crossentropyloss",
            "nll",
            "lossc4val",
            "trainloss",
            "meanloss",
            "bitsperbyte",
            "bpb",
            "valbpb",
            "validationbpb",
            "evalbpb",
            "testbpb",
            "trainbpb",
            "valbitsperbyte",
            "bitspertoken",
            "bitsperchar",
            "bitspercharacter",
            "bpc",
            "valbpc",
            "perplexity",
            "ppl",
            "valperplexity",
            "valppl",
        ],
    ),
    ("loss_se", &["lossse", "lossstderr", "losssem", "losserr", "losserror", "stderr", "se", "lossstd"]),
    ("weight", &["weight", "weights", "w"]),
    (
        "run",
        &[
            "run",
            "runid",
            "runname",
            "runpath",
            "name",
            "id",
            "experiment",
            "experimentname",
            "trial",
            "trialid",
            "jobid",
            "curve",
        ],
    ),
    ("seed", &["seed", "randomseed"]),
    ("status", &["status", "state"]),
    ("c_min", &["cmin", "mincompute", "minflops"]),
    ("s_min", &["smin", "minsteps"]),
    ("steps", &["steps", "step", "numsteps", "nsteps", "stepstotarget", "updates", "trainsteps"]),
    (
        "batch",
        &[
            "batch",
            "batchtokens",
            "batchsize",
            "batchsizetokens",
            "batchsizesequences",
            "globalbatchsize",
            "bs",
            "globalbsseq",
        ],
    ),
    (
        "seq_len",
        &[
            "seqlen",
            "seqlength",
            "sequencelength",
            "contextlength",
            "contextsize",
            "contextwindow",
            "blocksize",
            "maxseqlen",
            "maxlength",
            "nctx",
            "ctxlen",
        ],
    ),
    ("b_crit", &["bcrit", "criticalbatch", "criticalbatchsize", "cbs"]),
    ("unique_tokens", &["uniquetokens", "unique", "u", "uniqued"]),
    ("epochs", &["epochs", "epoch", "repeats"]),
    ("junk", &["junk", "junkshare", "junkfraction", "q"]),
    ("lr", &["lr", "learningrate", "peaklr", "maxlr"]),
    ("target", &["target", "targetloss", "targetc4valloss"]),
    ("n_opt", &["nopt", "noptimal", "nstar"]),
    ("d_opt", &["dopt", "doptimal", "tstar"]),
    ("lr_opt", &["lropt", "bestlr", "optimallr"]),
    ("batch_opt", &["batchopt", "bestbatch", "optimalbatch"]),
    ("log_se", &["logse", "lnse", "selog"]),
    ("p", &["p", "share", "proportion"]),
    ("s1", &["s1"]),
    ("s2", &["s2"]),
];

/// A factor in the header: `params (M)`, `tokens_billions`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit(f64);

impl Unit {
    /// The unit a header names, one if none.
    pub fn of(header: &str) -> Self {
        let h = header.trim().to_ascii_lowercase();
        let ends = |list: &[&str]| list.iter().any(|s| h.ends_with(s));
        Self(match () {
            // `model_size_M`, but not `tokens_m`: only a capital is a unit.
            () if header.trim().ends_with("_M") => 1e6,
            () if header.trim().ends_with("_B") => 1e9,
            () if ends(&["(k)", "[k]", "_thousands", "(thousands)"]) => 1e3,
            () if ends(&["(m)", "[m]", "_millions", "(millions)", "_in_millions"]) => 1e6,
            () if ends(&["(b)", "[b]", "(g)", "_billions", "(billions)", "_in_billions"]) => 1e9,
            () if ends(&["(t)", "[t]", "_trillions", "(trillions)"]) => 1e12,
            () => 1.0,
        })
    }

    /// What a cell is multiplied with.
    pub fn factor(self) -> f64 {
        self.0
    }
}

/// Words before a name that add nothing to it.
const FILLERS: [&str; 7] = ["numberof", "totalnumberof", "final", "best", "mean", "average", "total"];

/// Whether a header means a name: as it stands, or without a word before it (`Number of Parameters`, `best val loss`).
fn means(header: &str, name: &str) -> bool {
    let p = plain(header);
    p == name || FILLERS.iter().any(|f| p.strip_prefix(f) == Some(name))
}

/// The unit that a loss column's name says.
fn unit_of_loss(plain: &str) -> Option<&'static str> {
    let ends = |list: &[&str]| list.iter().any(|s| plain.ends_with(s));
    match () {
        () if ends(&["bpb", "bitsperbyte"]) => Some("bits per byte"),
        () if ends(&["bpc", "bitsperchar", "bitspercharacter"]) => Some("bits per character"),
        () if ends(&["bitspertoken"]) => Some("bits per token"),
        () => None,
    }
}

/// Header without case, unit, spaces and punctuation.
fn plain(header: &str) -> String {
    let trimmed = header.trim();
    let trimmed = trimmed.strip_suffix("_M").or(trimmed.strip_suffix("_B")).unwrap_or(trimmed);
    let lower = trimmed.to_lowercase();
    let mut base = lower.as_str();
    for open in ['(', '['] {
        base = base.split(open).next().unwrap_or(base);
    }
    for suffix in ["_in_millions", "_in_billions", "_thousands", "_millions", "_billions", "_trillions"] {
        base = base.strip_suffix(suffix).unwrap_or(base);
    }
    base.chars().filter(|c| c.is_alphanumeric()).collect()
}

fn positions(header: &[String], is: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
    header.iter().enumerate().filter(move |(_, h)| is(h)).map(|(i, _)| i)
}

/// What follows the last dot or slash of a nested name.
fn last_part(header: &str) -> Option<&str> {
    header.rsplit_once(['.', '/']).map(|(_, last)| last)
}

/// Which header stands for which canonical column.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    found: Vec<(String, usize, Unit)>,
    /// Remarks: choices among several candidates.
    pub notes: Vec<String>,
    /// The loss column holds perplexities.
    pub perplexity: bool,
    /// Unit of the loss, where its column names one.
    pub loss_unit: Option<&'static str>,
}

impl Mapping {
    /// Maps a header, the user's own choices first.
    ///
    /// `numeric(i)` tells whether column i holds any number: a `param_count` of words is no N.
    ///
    /// # Errors
    /// A chosen column that does not exist, or no loss column.
    pub fn of(
        header: &[String],
        chosen: &[(String, String)],
        name: &str,
        loss_optional: bool,
        numeric: &dyn Fn(usize) -> bool,
    ) -> Result<Self, LawError> {
        let mut out = Self::default();
        for (canonical, wanted) in chosen {
            let canonical = canonical_name(canonical);
            let Some(index) = header.iter().position(|h| h == wanted) else {
                return Err(LawError::BadTable {
                    what: format!("{name} has no column `{wanted}`"),
                    hint: format!("its columns are: {}", header.join(", ")),
                });
            };
            out.found.retain(|(c, _, _)| *c != canonical);
            out.found.push((canonical, index, Unit::of(wanted)));
        }
        for (canonical, names) in SYNONYMS {
            if out.index(canonical).is_some() {
                continue;
            }
            let taken = |i: usize| out.found.iter().any(|(_, j, _)| *j == i);
            // The whole header first, then what follows its last dot or slash (`config.n_params`, `summary/loss`).
            let whole = names.iter().flat_map(|n| positions(header, move |h| means(h, n)));
            let last = names
                .iter()
                .flat_map(|n| positions(header, move |h| last_part(h).is_some_and(|l| means(l, n))));
            let free: Vec<usize> = whole.chain(last).filter(|i| !taken(*i)).collect();
            let words = matches!(*canonical, "run" | "status");
            let mut matches: Vec<usize> = Vec::new();
            for i in free.iter().copied().filter(|i| words || numeric(*i)) {
                if !matches.contains(&i) {
                    matches.push(i);
                }
            }
            if matches.is_empty() && *canonical == "loss" && !loss_optional {
                // Without numbers every row will be listed with what its cell holds, which tells more than a missing column.
                matches.extend(free.first());
            }
            let Some(&index) = matches.first() else { continue };
            if CORE.contains(canonical) && matches.len() > 1 {
                let others: Vec<&str> = matches[1..].iter().map(|i| header[*i].as_str()).collect();
                out.notes.push(format!(
                    "`{}` was read as {canonical}; also there: {} (choose with --column {canonical}=NAME)",
                    header[index],
                    others.join(", ")
                ));
            }
            out.found.push(((*canonical).to_owned(), index, Unit::of(&header[index])));
        }
        if let Some(index) = out.index("loss") {
            let p = plain(last_part(&header[index]).unwrap_or(&header[index]));
            out.perplexity = p.ends_with("perplexity") || p.ends_with("ppl");
            out.loss_unit = unit_of_loss(&p);
        }
        out.name_the_near(header, numeric);
        if !loss_optional && out.index("loss").is_none() {
            return Err(LawError::BadTable {
                what: format!("{name} has no column for the loss"),
                hint: format!("its columns are: {}; choose one with --column loss=NAME", header.join(", ")),
            });
        }
        Ok(out)
    }

    /// Columns of numbers whose names speak of sizes, tokens or compute that were not read as any of them: said, never replaced in silence.
    fn name_the_near(&mut self, header: &[String], numeric: &dyn Fn(usize) -> bool) {
        for (canonical, words) in
            [("n", &["param", "modelsize"][..]), ("d", &["token"][..]), ("c", &["flop", "compute"][..])]
        {
            if self.index(canonical).is_some() {
                continue;
            }
            let near: Vec<&str> = (0..header.len())
                .filter(|i| !self.found.iter().any(|(_, j, _)| j == i) && numeric(*i))
                .map(|i| header[i].as_str())
                .filter(|h| words.iter().any(|w| plain(h).contains(w)))
                .collect();
            if !near.is_empty() {
                self.notes.push(format!(
                    "no column was read as {canonical}; near it: {} (choose with --column {canonical}=NAME)",
                    near.join(", ")
                ));
            }
        }
    }

    /// Index of a canonical column.
    pub fn index(&self, canonical: &str) -> Option<usize> {
        self.found.iter().find(|(c, _, _)| c == canonical).map(|(_, i, _)| *i)
    }

    /// Unit of a canonical column.
    pub fn unit(&self, canonical: &str) -> Unit {
        self.found.iter().find(|(c, _, _)| c == canonical).map_or(Unit(1.0), |(_, _, u)| *u)
    }

    /// The name under which column `index` is kept.
    pub fn key(&self, index: usize, title: &str) -> String {
        self.found
            .iter()
            .find(|(_, i, _)| *i == index)
            .map_or_else(|| title.trim().to_lowercase(), |(c, _, _)| c.clone())
    }
}

impl Table {
    /// The rows whose column, number or text, has this value.
    pub fn with_value(&self, column: &str, value: &str) -> Self {
        let key = canonical_name(column);
        let wanted = isoflop_base::units::parse_count(value).ok();
        self.filtered(|r| {
            let text = r.labels.get(&key).or_else(|| r.labels.get(column));
            let matches_run = key == "run" && r.run == value;
            let same_number = match (r.get(&key).or_else(|| r.get(column)), wanted) {
                (Some(have), Some(want)) => have == want || same_level(have, want) && want > 100.0,
                _ => false,
            };
            matches_run || text.is_some_and(|t| t == value) || same_number
        })
    }
}

/// The canonical name people mean by `N`, `params`, `tokens`, …
pub fn canonical_name(name: &str) -> String {
    let p = plain(name);
    let known = SYNONYMS.iter().find(|(c, names)| plain(c) == p || names.contains(&p.as_str()));
    known.map_or_else(|| name.trim().to_lowercase(), |(c, _)| (*c).to_owned())
}
