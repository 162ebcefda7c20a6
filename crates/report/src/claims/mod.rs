//! Verdicts on published claims: reproduced, not reproduced, cannot tell, each with its reason.
//!
//! The rules, one function each:
//! - *loss falls with N*: every pair of neighbouring sizes, paired on the same held-out blocks, at every D;
//! - *straight on log-log axes*: R² ≥ 0.98, worst deviation under 1 %, curvature interval around zero, all three;
//! - *a parameter has a value*: its interval lies wholly inside the claimed range, or wholly outside, else the data
//!   cannot tell; nor can they when a precondition of the claim does not hold;
//! - *C ≈ 6ND*: the exact ledger stays within 10 % of it at every size;
//! - *a forecast*: the measured loss lies in its interval.

mod needs;

pub use isoflop_base::study::ClaimSpec;
pub use needs::{CONDITIONS, Facts, is_condition, unmet};

use crate::input::{ForecastRow, LedgerRow, ReportInput};
use crate::numbers::{count, fixed, interval, signed_percent};
use isoflop_laws::kaplan_figures::PUBLISHED;
use isoflop_laws::{FitRecord, LawDocument, PairedDifference, Straightness};
use serde::{Deserialize, Serialize};

/// Kaplan's α of L(N), and the home reproduction's: what the page compares every series with.
pub(crate) const REFERENCES: [(&str, f64); 2] = [("Kaplan et al.", PUBLISHED.alpha_n), ("home report", 0.07)];

/// What the series says about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// The data agree, and could have disagreed.
    Reproduced,
    /// The data disagree.
    NotReproduced,
    /// The data, or the preconditions, do not allow a verdict.
    CannotTell,
}

impl Ruling {
    /// As people say it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::NotReproduced => "not reproduced",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// One row of the claims table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The claim.
    pub claim: String,
    /// Where it was made.
    pub source: String,
    /// What was measured here.
    pub measured: String,
    /// The verdict.
    pub ruling: Ruling,
    /// Why, in a sentence or two.
    pub why: String,
}

/// Judges the standing claims (loss falls with N, straightness, α, C ≈ 6ND, the forecasts) and those of the study.
pub fn judge(input: &ReportInput) -> Vec<Verdict> {
    let empty = LawDocument::default();
    let laws = input.laws.as_ref().unwrap_or(&empty);
    let facts = Facts::of(input);
    if !input.judged.is_empty() {
        // A study of another question than how loss scales: its own claims, not the standing ones.
        let own = input.claims.iter().map(|claim| parameter(claim, laws, &facts));
        return input.judged.iter().cloned().chain(own).collect();
    }
    let seeds = laws.seed_spread.as_ref().map(|s| SeedSd { sd: s.sigma_loss, dof: s.dof }).or_else(|| {
        let known = input.seed_variance.as_ref()?;
        Some(SeedSd { sd: known.sd, dof: known.num_seeds.saturating_sub(1) as usize })
    });
    let seeds = seeds.filter(|s| s.sd.is_finite() && s.dof > 0);
    let mut verdicts = vec![falls_with_size(&laws.paired, seeds)];
    for fit in laws.fits.iter().filter(|f| f.form == "l_n" && f.variant == "pure") {
        if let Some(straight) = &fit.straight {
            verdicts.push(straight_line(straight, condition(fit).as_deref(), fit.rows_used));
        }
    }
    for claim in standing_claims(&input.claims).iter().chain(&input.claims) {
        verdicts.push(parameter(claim, laws, &facts));
    }
    verdicts.push(six_nd(&input.ledger));
    if !input.forecasts.is_empty() {
        verdicts.push(forecasts_hit(&input.forecasts));
    }
    verdicts
}

/// Claims the page always judges, unless the study states them itself: each of the law under which its author measured
/// it. Kaplan's exponents of N and D are those of L(N, D) as the other grows, his exponent of compute that of the
/// frontier at one batch (of C_min, which no series at one batch knows, it is 0.050); the home report's is the slope of
/// a series as it ended.
fn standing_claims(own: &[ClaimSpec]) -> Vec<ClaimSpec> {
    const KAPLAN: &str = "Kaplan et al. 2020, arXiv:2001.08361";
    let claim = |text: &str,
                 (law, param, value, within): (&str, &str, f64, f64),
                 source: &str,
                 needs: &[&str]| ClaimSpec {
        text: format!("{text} {value}"),
        law: law.to_owned(),
        param: param.to_owned(),
        value,
        within,
        source: Some(source.to_owned()),
        needs: needs.iter().map(|s| (*s).to_owned()).collect(),
    };
    let mut claims = vec![
        claim(
            "α of L(N) with endless data is",
            ("l_nd_kaplan", "alpha_N", PUBLISHED.alpha_n_of_nd, 0.02),
            &format!("{KAPLAN}, equation 1.5"),
            &["bpe", "n >= 1e6"],
        ),
        claim(
            "α of L(D) with an endless model is",
            ("l_nd_kaplan", "alpha_D", PUBLISHED.alpha_d_of_nd, 0.02),
            &format!("{KAPLAN}, equation 1.5"),
            &["bpe", "n >= 1e6"],
        ),
        claim(
            "α of L(C) on the frontier at one batch is",
            ("l_c", "alpha", PUBLISHED.alpha_c, 0.01),
            KAPLAN,
            &["bpe", "n >= 1e6"],
        ),
        claim(
            "α of L(N) is about",
            ("l_n", "alpha", 0.07, 0.02),
            "a home reproduction on two consumer GPUs, 5 M to 150 M parameters, OpenWebText",
            &["bpe", "n >= 5e6"],
        ),
    ];
    let of_size = |param: &str| matches!(param, "alpha" | "alpha_N");
    claims.retain(|c| {
        !own.iter().any(|o| {
            let same = o.law == c.law && o.param == c.param
                || o.law.starts_with("l_n")
                    && c.law.starts_with("l_n")
                    && of_size(&o.param)
                    && of_size(&c.param);
            same && (o.value - c.value).abs() < 1e-9
        })
    });
    claims
}

/// `D = 3 M`, when the fit holds D fixed.
fn condition(fit: &FitRecord) -> Option<String> {
    let tokens = ["tokens", "d"].iter().find_map(|k| fit.condition.get(*k))?;
    Some(format!("D\u{a0}=\u{a0}{}", count(*tokens)))
}

/// How far seeds of one size and length lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeedSd {
    /// Standard deviation, nats per token.
    pub sd: f64,
    /// Degrees of freedom it was measured with.
    pub dof: usize,
}

/// Loss falls from each size to the next, at every D. The error of a difference joins the paired error over blocks
/// with the spread between seeds, which the pairing cannot see: √(se² + sd²·(1/k + 1/l)) for k and l seeds, times
/// Student's t of the degrees of freedom behind the spread.
pub fn falls_with_size(pairs: &[PairedDifference], seeds: Option<SeedSd>) -> Verdict {
    let quantile = seeds.map_or(1.96, |s| isoflop_laws::t_quantile(0.975, s.dof as f64));
    let variance = |p: &PairedDifference| {
        let shares = 1.0 / p.small_seeds.max(1) as f64 + 1.0 / p.large_seeds.max(1) as f64;
        seeds.map_or(0.0, |s| s.sd * s.sd * shares)
    };
    let spread = |p: &PairedDifference| {
        p.se.filter(|se| se.is_finite()).map(|se| quantile * (se * se + variance(p)).sqrt())
    };
    let pairs: Vec<&PairedDifference> = pairs.iter().filter(|p| p.difference.is_finite()).collect();
    let name = |p: &PairedDifference| {
        format!("N = {} to {} at D = {}", count(p.small_n), count(p.large_n), count(p.tokens))
    };
    let show = |p: &PairedDifference| match spread(p) {
        Some(s) => format!("{} ± {} nats", fixed(p.difference, 4), fixed(s, 4)),
        None => format!("{} nats without an error", fixed(p.difference, 4)),
    };
    let surely_up = pairs.iter().find(|p| spread(p).is_some_and(|s| p.difference + s < 0.0));
    let falling = pairs.iter().filter(|p| spread(p).is_some_and(|s| p.difference - s > 0.0)).count();
    let open =
        pairs.iter().find(|p| spread(p).is_none_or(|s| (p.difference - s) <= 0.0 && p.difference + s >= 0.0));
    let least = pairs.iter().min_by(|a, b| a.difference.total_cmp(&b.difference));
    let measured = match least {
        Some(p) => {
            format!("{falling} of {} neighbouring pairs fall; the smallest step is {}", pairs.len(), show(p))
        }
        None => "no two sizes were measured on the same held-out blocks".to_owned(),
    };
    let known = match seeds {
        Some(s) => format!(
            "errors join the paired error over blocks and a seed spread of {} nats, measured with {} degrees of freedom",
            fixed(s.sd, 4),
            s.dof
        ),
        None => "errors are paired over blocks; the spread between seeds was not measured and is not in them"
            .to_owned(),
    };
    let (ruling, why) = match (pairs.is_empty(), surely_up, open) {
        (true, ..) => (Ruling::CannotTell, "There is no pair to compare.".to_owned()),
        (_, Some(p), _) => {
            (Ruling::NotReproduced, format!("The loss rises from {}: {}; {known}.", name(p), show(p)))
        }
        (_, _, Some(p)) => {
            let tell = seeds.map_or(String::new(), |s| seeds_that_would_tell(p, s, quantile));
            (
                Ruling::CannotTell,
                format!("The interval from {} contains zero: {}; {known}.{tell}", name(p), show(p)),
            )
        }
        _ => (Ruling::Reproduced, format!("Every 95 % interval lies above zero; {known}.")),
    };
    Verdict {
        claim: "Loss falls as the model grows".to_owned(),
        source: "Kaplan et al. 2020, arXiv:2001.08361".to_owned(),
        measured,
        ruling,
        why,
    }
}

/// More seeds than this are no advice.
const MOST_SEEDS: f64 = 100.0;

/// What would tell a step from none: seeds of either size, if the step is what it seems.
fn seeds_that_would_tell(p: &PairedDifference, seeds: SeedSd, quantile: f64) -> String {
    let room = (p.difference / quantile).powi(2) - p.se.unwrap_or(0.0).powi(2);
    let needed = (2.0 * seeds.sd * seeds.sd / room).ceil();
    let now = p.small_seeds.max(p.large_seeds).max(1) as f64;
    if p.difference <= 0.0 {
        " The step that was measured points the other way: more seeds of both sizes would show which is luck."
            .to_owned()
    } else if room > 0.0 && needed <= MOST_SEEDS {
        format!(
            " If the step is what it seems, {} seeds of each of the two sizes would tell (`series.extra_seeds`).",
            needed.max(now + 1.0)
        )
    } else {
        " A step that small is below what seeds can tell here; longer runs or more held-out text would be needed.".to_owned()
    }
}

/// R² ≥ 0.98, worst deviation under 1 %, and a curvature interval that contains zero; what fails is named.
pub fn straight_line(s: &Straightness, at: Option<&str>, num_points: usize) -> Verdict {
    let r2 = s.r2.filter(|v| v.is_finite());
    let worst = Some(s.worst_deviation).filter(|v| v.is_finite());
    let ends =
        s.curvature.as_ref().and_then(|c| c.lo.zip(c.hi)).filter(|(lo, hi)| lo.is_finite() && hi.is_finite());
    let mut fails = Vec::new();
    let mut unknown = Vec::new();
    match r2 {
        Some(v) if v < 0.98 => fails.push(format!("R² {} is below 0.98", fixed(v, 4))),
        None => unknown.push("R² could not be computed"),
        _ => {}
    }
    match worst {
        Some(v) if v >= 0.01 => fails.push(format!("the worst deviation, {}, is not under 1 %", percent(v))),
        None => unknown.push("the worst deviation could not be computed"),
        _ => {}
    }
    match ends {
        Some((lo, hi)) if lo > 0.0 || hi < 0.0 => fails.push(format!(
            "the curvature interval {} excludes zero: the line {}",
            interval(lo, hi, 4),
            if lo > 0.0 { "flattens" } else { "steepens" }
        )),
        None => unknown.push("the curvature has no interval"),
        _ => {}
    }
    let too_few = num_points < 4;
    let (ruling, why) = if too_few {
        (Ruling::CannotTell, format!("{num_points} points are too few to see a bend; four are needed."))
    } else if !fails.is_empty() {
        (Ruling::NotReproduced, format!("Fails: {}.", fails.join("; ")))
    } else if !unknown.is_empty() {
        (Ruling::CannotTell, format!("Unknown: {}.", unknown.join("; ")))
    } else {
        (Ruling::Reproduced, "R², worst deviation and curvature all pass.".to_owned())
    };
    let curvature = ends.map_or("no interval".to_owned(), |(lo, hi)| interval(lo, hi, 4));
    Verdict {
        claim: format!(
            "L(N) is straight on log-log axes{}",
            at.map(|a| format!(" at {a}")).unwrap_or_default()
        ),
        source: "Kaplan et al. 2020; R² ≥ 0.98, worst deviation < 1 %, curvature interval around 0"
            .to_owned(),
        measured: format!(
            "R² {}, worst deviation {}, curvature {curvature}",
            r2.map_or("unknown".to_owned(), |v| fixed(v, 4)),
            worst.map_or("unknown".to_owned(), percent),
        ),
        ruling,
        why,
    }
}

fn percent(share: f64) -> String {
    format!("{}\u{202f}%", fixed(100.0 * share, 2))
}

/// The name by which a claim asks for R² of the law's points on log-log axes: no parameter, hence without an interval.
pub const R2: &str = "r2_loglog";

/// What a fit says of a parameter: its value and its interval. R² is what it is.
fn said(fit: &FitRecord, param: &str) -> Option<(f64, Option<(f64, f64)>)> {
    if param == R2 {
        return fit.r2_loglog.map(|r2| (r2, Some((r2, r2))));
    }
    fit.params.get(param).map(|p| (p.value, p.lo.zip(p.hi)))
}

/// A law's parameter has the claimed value. Of several fits of the law, the one with the most tokens decides.
pub fn parameter(claim: &ClaimSpec, laws: &LawDocument, facts: &Facts) -> Verdict {
    let mut fits: Vec<&FitRecord> =
        laws.fits.iter().filter(|f| f.form == claim.law && said(f, &claim.param).is_some()).collect();
    let pure = fits.iter().any(|f| f.variant == "pure");
    fits.retain(|f| !pure || f.variant == "pure");
    let tokens =
        |f: &FitRecord| ["tokens", "d"].iter().find_map(|k| f.condition.get(*k)).copied().unwrap_or(0.0);
    fits.sort_by(|a, b| tokens(a).total_cmp(&tokens(b)));
    let measured: Vec<String> = fits
        .iter()
        .filter_map(|f| {
            let (value, ends) = said(f, &claim.param)?;
            let ends = ends.filter(|(lo, hi)| lo != hi);
            let ends = ends.map(|(lo, hi)| format!(" [{},\u{a0}{}]", fixed(lo, 3), fixed(hi, 3)));
            let at = condition(f).or_else(|| limit(&claim.law, &claim.param)).map(|c| format!("{c}: "));
            let (at, name) = (at.unwrap_or_default(), crate::numbers::greek(&claim.param));
            Some(format!("{at}{name} = {}{}", fixed(value, 4), ends.unwrap_or_default()))
        })
        .collect();
    let measured: Vec<String> = measured.into_iter().chain(naive(claim, laws)).collect();
    let (ruling, why) = match (unmet(&claim.needs, facts), fits.last()) {
        (Some(reason), None) => {
            (Ruling::CannotTell, format!("A precondition of the claim does not hold. {reason}"))
        }
        (Some(reason), Some(fit)) => {
            let here = within_range(claim, fit, facts).1;
            let words = format!(
                "A precondition of the claim does not hold. {reason} Under the conditions here: {here}"
            );
            (Ruling::CannotTell, words)
        }
        (None, None) => (
            Ruling::CannotTell,
            format!("No fit of `{}` with a parameter `{}` exists here.", claim.law, claim.param),
        ),
        (None, Some(fit)) => within_range(claim, fit, facts),
    };
    Verdict {
        claim: claim.text.clone(),
        source: claim.source.clone().unwrap_or_else(|| "the study file".to_owned()),
        measured: if measured.is_empty() { "not fitted".to_owned() } else { measured.join("; ") },
        ruling,
        why,
    }
}

/// Where a law of two variables has the exponent.
fn limit(law: &str, param: &str) -> Option<String> {
    let endless = match param {
        "alpha_N" => "D",
        "alpha_D" => "N",
        _ => return None,
    };
    law.starts_with("l_nd").then(|| format!("L(N, D), {endless} endless"))
}

/// The slope at the largest of the other variable, which is what people read off: beside the law that was asked.
fn naive(claim: &ClaimSpec, laws: &LawDocument) -> Option<String> {
    let (form, other) = match (claim.law.starts_with("l_nd"), claim.param.as_str()) {
        (true, "alpha_N" | "alpha") => ("l_n", "tokens"),
        (true, "alpha_D" | "beta") => ("l_d", "params"),
        _ => return None,
    };
    let at = |f: &&FitRecord| f.condition.get(other).copied().unwrap_or(0.0);
    let fit = laws
        .fits
        .iter()
        .filter(|f| f.form == form && f.variant == "pure")
        .max_by(|a, b| at(a).total_cmp(&at(b)))?;
    let (value, ends) = said(fit, "alpha")?;
    let ends = ends.map_or(String::new(), |(lo, hi)| format!(" [{},\u{a0}{}]", fixed(lo, 3), fixed(hi, 3)));
    let place = fit.condition.get(other).map_or(String::new(), |x| {
        format!(" at {}\u{a0}=\u{a0}{}", if other == "tokens" { "D" } else { "N" }, count(*x))
    });
    Some(format!("naive, the slope{place}: {}{ends}", fixed(value, 4)))
}

/// How many more runs would decide, if the value stays what it is.
fn would_tell((value, lo, hi): (f64, f64, f64), range: (f64, f64), facts: &Facts) -> String {
    let Some(runs) = facts.runs.filter(|r| *r > 0.0) else { return String::new() };
    let edge = (value - range.0).abs().min((value - range.1).abs());
    let factor = ((hi - value).max(value - lo) / edge).powi(2);
    let more = ((factor - 1.0) * runs).ceil();
    if !(more.is_finite() && more <= MOST_RUNS) {
        return " Its value lies too near the edge of that range for more runs of this kind to decide."
            .to_owned();
    }
    let time = facts
        .seconds
        .map_or(String::new(), |s| format!(", {} here", isoflop_base::units::duration(s * (factor - 1.0))));
    format!(
        " If the value stays, about {more} more runs like these {runs}{time}, would tell; `isoflop design` says which."
    )
}

/// More runs than this are no advice.
const MOST_RUNS: f64 = 1000.0;

fn within_range(claim: &ClaimSpec, fit: &FitRecord, facts: &Facts) -> (Ruling, String) {
    let range = (claim.value - claim.within, claim.value + claim.within);
    let text = format!("{} ± {}", claim.value, claim.within);
    let Some((value, Some((lo, hi)))) = said(fit, &claim.param) else {
        return (Ruling::CannotTell, "The fit gives no interval for it.".to_owned());
    };
    if lo.is_nan() || hi.is_nan() || lo > hi || !range.0.is_finite() || !range.1.is_finite() {
        return (Ruling::CannotTell, "The interval or the claim is not a number.".to_owned());
    }
    let shown = interval(lo, hi, 4);
    if claim.param == R2 {
        let inside = (range.0..=range.1).contains(&lo);
        let (ruling, word) =
            if inside { (Ruling::Reproduced, "within") } else { (Ruling::NotReproduced, "outside") };
        return (ruling, format!("{} lies {word} {text}.", fixed(lo, 4)));
    }
    if range.0 <= lo && hi <= range.1 {
        (Ruling::Reproduced, format!("The whole interval {shown} lies within {text}."))
    } else if hi < range.0 || lo > range.1 {
        (Ruling::NotReproduced, format!("The whole interval {shown} lies outside {text}."))
    } else {
        let tell = would_tell((value, lo, hi), range, facts);
        (Ruling::CannotTell, format!("The interval {shown} reaches both into and out of {text}.{tell}"))
    }
}

/// The exact ledger stays within 10 % of 6ND at every size.
pub fn six_nd(ledger: &[LedgerRow]) -> Verdict {
    let ratios: Vec<(String, f64)> = ledger
        .iter()
        .map(|r| (r.shape.to_string(), r.exact_per_token / r.six_n))
        .filter(|r| r.1.is_finite() && r.1 > 0.0)
        .collect();
    let worst = ratios.iter().max_by(|a, b| (a.1 - 1.0).abs().total_cmp(&(b.1 - 1.0).abs()));
    let (ruling, why) = match worst {
        None => (Ruling::CannotTell, "The ledger has no rows.".to_owned()),
        Some((_, r)) if (r - 1.0).abs() <= 0.1 => {
            (Ruling::Reproduced, "Every size is within 10 % of 6ND.".to_owned())
        }
        Some((shape, r)) => (
            Ruling::NotReproduced,
            format!(
                "At {shape} the exact count is {} from 6ND, more than 10 %: attention and the output head count \
                 for much where the width is not far above a twelfth of the context.",
                signed_percent(r - 1.0, 0)
            ),
        ),
    };
    let measured = match ratios.as_slice() {
        [] => "no ledger".to_owned(),
        rows => {
            let list: Vec<String> = rows
                .iter()
                // A size and its ratio stay on one line.
                .map(|r| format!("{}\u{a0}{}", r.0.replace('-', "\u{2011}"), fixed(r.1, 2)))
                .collect();
            format!("exact FLOPs over 6ND: {}", list.join(", "))
        }
    };
    Verdict {
        claim: "Training compute is C ≈ 6ND".to_owned(),
        source: "Kaplan et al. 2020, arXiv:2001.08361, section 2.1".to_owned(),
        measured,
        ruling,
        why,
    }
}

/// The forecasts made from the smaller sizes came true.
pub fn forecasts_hit(rows: &[ForecastRow]) -> Verdict {
    let known: Vec<(&ForecastRow, bool)> =
        rows.iter().filter_map(|r| Some((r, r.forecast.outcome.as_ref()?.hit))).collect();
    let hits = known.iter().filter(|k| k.1).count();
    let errors: Vec<String> = known
        .iter()
        .filter_map(|(r, _)| {
            let o = r.forecast.outcome.as_ref()?;
            Some(format!("{} {}", r.label(), signed_percent(o.relative_error, 2)))
        })
        .collect();
    let miss = known.iter().find(|k| !k.1);
    let unbounded = known.iter().find(|(r, _)| r.forecast.lo.is_none() || r.forecast.hi.is_none());
    let (ruling, why) = match (known.len() == rows.len(), miss, unbounded) {
        (_, Some((r, _)), _) => {
            (Ruling::NotReproduced, format!("{} fell outside its interval{}.", r.label(), bounds(r)))
        }
        (false, None, _) => (
            Ruling::CannotTell,
            format!("{} of {} forecasts have not been tested yet.", rows.len() - known.len(), rows.len()),
        ),
        (true, None, Some((r, _))) => (
            Ruling::CannotTell,
            format!("The interval of {} is open: nothing could have missed it.", r.label()),
        ),
        (true, None, None) => (Ruling::Reproduced, "Every measured loss lies in its interval.".to_owned()),
    };
    Verdict {
        claim: "The smaller sizes foretell the larger ones".to_owned(),
        source: "forecasts written down before the runs that test them".to_owned(),
        measured: if known.is_empty() {
            "no outcome yet".to_owned()
        } else {
            format!("{hits} of {} hit; measured against forecast: {}", known.len(), errors.join("; "))
        },
        ruling,
        why,
    }
}

fn bounds(row: &ForecastRow) -> String {
    match (row.forecast.lo, row.forecast.hi) {
        (Some(lo), Some(hi)) => format!(" {}", interval(lo, hi, 4)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
