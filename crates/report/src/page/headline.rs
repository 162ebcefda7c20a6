//! The head of the page: the measured law in one sentence, what it was measured on, and the figures that matter most.

use crate::claims::{Ruling, Verdict};
use crate::data::{Data, fits};
use crate::html::{escape, prose};
use crate::input::ReportInput;
use crate::numbers::{self, count, fixed, interval};
use isoflop_base::{Measured, units};
use isoflop_laws::kaplan_figures::PUBLISHED;
use isoflop_laws::{FitRecord, LawDocument};

/// The fit of L(N) at the most tokens.
fn main_fit(laws: Option<&LawDocument>) -> Option<&FitRecord> {
    let tokens =
        |f: &FitRecord| ["tokens", "d"].iter().find_map(|k| f.condition.get(*k)).copied().unwrap_or(0.0);
    fits(laws, "l_n", "pure")
        .filter(|f| f.params.get("alpha").is_some_and(|p| p.value.is_finite()))
        .max_by(|a, b| tokens(a).total_cmp(&tokens(b)))
}

fn tokens_of(fit: &FitRecord) -> Option<f64> {
    ["tokens", "d"].iter().find_map(|k| fit.condition.get(*k)).copied()
}

/// The law in one sentence, as HTML.
fn sentence(laws: Option<&LawDocument>, grid: bool) -> String {
    let power = |x: &str, exponent: f64| format!("<i>{x}</i><sup>{}</sup>", fixed(-exponent, 3));
    if let Some(alpha) = main_fit(laws).filter(|_| grid).and_then(|f| f.params.get("alpha")) {
        return match alpha.lo.zip(alpha.hi) {
            Some((lo, _)) if lo > 0.0 => {
                let gain = 1.0 - 10f64.powf(-alpha.value);
                let gain = fixed(100.0 * gain, 0);
                format!(
                    "Loss falls as {}: a model ten times larger ends {gain}\u{202f}% lower",
                    power("N", alpha.value)
                )
            }
            Some((_, hi)) if hi < 0.0 => {
                format!(
                    "Loss rises with size here, as {}: these runs are not tuned or not long enough",
                    power("N", alpha.value)
                )
            }
            Some(_) => {
                "Size makes no clear difference here: the interval of its exponent contains zero".to_owned()
            }
            None => format!(
                "Loss goes as {}, but the points are too few to say how surely",
                power("N", alpha.value)
            ),
        };
    }
    let joint = laws.and_then(|l| l.fits.iter().find(|f| f.form == "l_nd_chinchilla"));
    if let Some((fit, a, b)) = joint.and_then(|f| Some((f, f.params.get("alpha")?, f.params.get("beta")?))) {
        let known = fit.identified.get("E").copied().unwrap_or(false);
        let floor =
            fit.params.get("E").filter(|_| known).map_or("its floor".to_owned(), |e| fixed(e.value, 2));
        return format!(
            "Loss falls towards {floor} as {} in parameters and {} in tokens",
            power("N", a.value),
            power("D", b.value)
        );
    }
    let lc = fits(laws, "l_c", "pure").next().and_then(|f| f.params.get("alpha"));
    match lc {
        Some(p) => format!("Loss falls as {} in compute", power("C", p.value)),
        None => "No law could be fitted to these points yet".to_owned(),
    }
}

fn range(values: &[f64]) -> String {
    match (values.first(), values.last()) {
        (Some(a), Some(b)) if values.len() > 1 => format!("{} to {}", count(*a), count(*b)),
        (Some(a), _) => count(*a),
        _ => "no".to_owned(),
    }
}

/// A figure that matters, with what it is and a line about it; `big` and `small` are markup already.
pub(crate) fn tile(name: &str, big: &str, small: &str) -> String {
    format!("<div><b>{}</b><span class=\"big\">{big}</span><small>{small}</small></div>", escape(name))
}

fn exponent_tile(laws: Option<&LawDocument>) -> Option<String> {
    let fit = main_fit(laws)?;
    let alpha = fit.params.get("alpha")?;
    let ends = alpha.lo.zip(alpha.hi).map(|(lo, hi)| interval(lo, hi, 3));
    let at = tokens_of(fit).map(|d| format!(" at D = {}", count(d))).unwrap_or_default();
    // The same R² as the verdict on straightness: of the mean of each size, not of each row.
    let r2 = fit.straight.as_ref().and_then(|s| s.r2).or(fit.r2_loglog);
    let r2 = r2.map(|r| format!("<br>R² {} log-log", fixed(r, 4))).unwrap_or_default();
    let level = fixed(100.0 * fit.level, 0);
    let ends = ends.map(|e| format!("{level}\u{202f}%: {}{r2}", escape(&e)));
    Some(tile(&format!("exponent α{at}"), &fixed(alpha.value, 3), &ends.unwrap_or(r2)))
}

fn forecast_tile(input: &ReportInput) -> Option<String> {
    let rows = &input.forecasts;
    let hits: Vec<bool> = rows.iter().filter_map(|r| r.forecast.outcome.as_ref().map(|o| o.hit)).collect();
    let errors: Vec<String> = rows
        .iter()
        .filter_map(|r| r.forecast.outcome.as_ref().map(|o| numbers::signed_percent(o.relative_error, 1)))
        .collect();
    if rows.is_empty() {
        return None;
    }
    let big = if hits.is_empty() {
        format!("{} open", rows.len())
    } else {
        format!("{} of {} hit", hits.iter().filter(|h| **h).count(), hits.len())
    };
    let small = match errors.as_slice() {
        [] => "made before the runs that test them".to_owned(),
        few if few.len() <= 4 => format!("measured against forecast: {}", escape(&few.join(", "))),
        _ => "made before the runs that tested them".to_owned(),
    };
    Some(tile("forecasts", &big, &small))
}

fn claims_tile(verdicts: &[Verdict]) -> String {
    let of = |r: Ruling| verdicts.iter().filter(|v| v.ruling == r).count();
    let small =
        format!("{} not reproduced, {} cannot tell", of(Ruling::NotReproduced), of(Ruling::CannotTell));
    tile("claims", &format!("{} of {} hold", of(Ruling::Reproduced), verdicts.len()), &small)
}

fn cost_tile(input: &ReportInput) -> String {
    let t = &input.totals;
    let time = numbers::provenance(&t.seconds, |s| units::duration(*s));
    let flops = numbers::provenance(&t.flops, |f| format!("{} FLOP", numbers::scientific(*f)));
    let energy = match &t.energy_j {
        Measured::Missing { .. } => "energy not measured".to_owned(),
        known => numbers::provenance(known, |j| energy_text(*j)),
    };
    tile("what it cost", &time, &format!("{flops}<br>{energy}"))
}

/// Joules as kWh, or Wh below a tenth of one.
pub(crate) fn energy_text(joules: f64) -> String {
    let kwh = joules / 3.6e6;
    if kwh < 0.1 {
        format!("{} Wh", numbers::significant(1000.0 * kwh, 3))
    } else {
        format!("{} kWh", numbers::significant(kwh, 3))
    }
}

/// The head of a study's page.
pub(crate) fn study(input: &ReportInput, data: &Data, verdicts: &[Verdict]) -> String {
    let laws = input.laws.as_ref();
    let models = match data.sizes.len() {
        1 => "One model of".to_owned(),
        n => format!("{n} models of"),
    };
    let each = if data.sizes.len() == 1 { "" } else { "each " };
    let mut dek = format!(
        "{models} {} parameters, {each}trained on up to {} tokens",
        range(&data.sizes),
        data.tokens.last().map_or("no".to_owned(), |d| count(*d)),
    );
    if let Some(corpus) = &input.corpus {
        let name = if corpus.name == "builtin" { "the built-in corpus" } else { &corpus.name };
        dek.push_str(&format!(" of {name}"));
    }
    let points = format!(
        " and measured on the same held-out text: {} finished points, every one of them behind the figures below.",
        data.obs.len()
    );
    dek.push_str(&points);
    let preset =
        input.preset.as_ref().map(|p| format!("Preset <b>{}</b>: {}", escape(&p.name), escape(&p.why)));
    // A study that asks something else than how loss falls answers that first; the law of its series comes after.
    let answer = input.answer.as_ref();
    let title = answer.map_or_else(|| sentence(laws, true), |a| prose(&a.title));
    let paragraph = |words: &str| format!("<p class=\"dek\">{}</p>\n", prose(words));
    let dek = match answer {
        Some(answer) => answer.words.iter().map(|w| paragraph(w)).collect::<String>() + &paragraph(&dek),
        None => paragraph(&dek) + &worth(laws) + &bend_note(laws),
    };
    let tiles: Vec<String> = [
        exponent_tile(laws).filter(|_| answer.is_none()),
        forecast_tile(input),
        Some(claims_tile(verdicts)),
        Some(cost_tile(input)),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!(
        "<header>\n<p class=\"kicker\">{}{}</p>\n<h1>{title}</h1>\n{dek}<div class=\"tiles\">{}</div>\n{}</header>\n",
        escape(if input.title.is_empty() { "scaling study" } else { &input.title }),
        input.date.as_ref().map(|d| format!(" · {}", escape(d))).unwrap_or_default(),
        tiles.concat(),
        preset.map(|p| format!("<p class=\"note\">{p}</p>\n")).unwrap_or_default(),
    )
}

/// The fit of a power law that falls, at the most of what was held fixed.
fn falling<'a>(laws: Option<&'a LawDocument>, form: &'a str, fixed: &str) -> Option<&'a FitRecord> {
    let at = |f: &FitRecord| f.condition.get(fixed).copied().unwrap_or(0.0);
    fits(laws, form, "pure")
        .filter(|f| f.params.get("alpha").is_some_and(|p| p.value > 0.0 && p.lo.is_some_and(|lo| lo > 0.0)))
        .max_by(|a, b| at(a).total_cmp(&at(b)))
}

/// What ten times the size, the data and the compute are worth here, how sure that is, and what others measured.
fn worth(laws: Option<&LawDocument>) -> String {
    let one = |what: &str, fit: Option<&FitRecord>, place: &dyn Fn(&FitRecord) -> String| {
        let fit = fit?;
        let alpha = fit.params.get("alpha")?;
        let (lo, hi) = alpha.lo.zip(alpha.hi)?;
        let lower = fixed(100.0 * (1.0 - 10f64.powf(-alpha.value)), 0);
        Some(format!(
            "ten times the {what} by {lower}\u{202f}% (exponent {}, {}\u{202f}%: {}{})",
            fixed(alpha.value, 3),
            fixed(100.0 * fit.level, 0),
            interval(lo, hi, 3),
            place(fit)
        ))
    };
    let at = |symbol: &'static str, key: &'static str| {
        move |fit: &FitRecord| {
            fit.condition.get(key).map_or(String::new(), |x| format!(", at {symbol} = {}", count(*x)))
        }
    };
    let parts: Vec<String> = [
        one("parameters", falling(laws, "l_n", "tokens"), &at("D", "tokens")),
        one("tokens", falling(laws, "l_d", "params"), &at("N", "params")),
        one("compute", falling(laws, "l_c", ""), &|_| ", on the frontier".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.len() < 2 {
        return String::new();
    }
    format!(
        "<p class=\"dek\">The loss falls: {}. Kaplan et al. measured {} in parameters, {} in tokens and {} in compute, \
         with word pieces as tokens, other text and up to a billion parameters.</p>\n",
        escape(&parts.join("; ")),
        PUBLISHED.alpha_n,
        PUBLISHED.alpha_d,
        PUBLISHED.alpha_c
    )
}

/// The caveat that belongs beside the headline when the main fit is no straight line.
fn bend_note(laws: Option<&LawDocument>) -> String {
    let Some(fit) = main_fit(laws) else { return String::new() };
    // Without a slope there is no line to be straight.
    let sloped =
        fit.params.get("alpha").and_then(|p| p.lo.zip(p.hi)).is_some_and(|(lo, hi)| lo > 0.0 || hi < 0.0);
    let Some(straight) = fit.straight.as_ref().filter(|_| sloped) else { return String::new() };
    let verdict = crate::claims::straight_line(straight, None, fit.rows_used);
    if verdict.ruling != Ruling::NotReproduced {
        return String::new();
    }
    let why = verdict.why.trim_start_matches("Fails: ");
    format!("<p class=\"dek\">Mind that the line is not straight on log-log axes: {}</p>\n", escape(why))
}

/// The text with a full stop at its end.
pub(crate) fn end_sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// The head of a table's page.
pub(crate) fn table(source: &str, made_by: &str, data: &Data, laws: &LawDocument) -> String {
    let ranges: Vec<String> = [("N", &data.sizes), ("D", &data.tokens), ("C", &data.budgets)]
        .iter()
        .filter(|(_, v)| !v.is_empty())
        .map(|(name, v)| format!("{name} {}", range(v)))
        .collect();
    let joint = laws.fits.iter().find(|f| f.form == "l_nd_chinchilla");
    let mut tiles: Vec<String> = exponent_tile(Some(laws)).filter(|_| data.is_grid()).into_iter().collect();
    if let Some(fit) = joint {
        for (name, p) in
            fit.params.iter().filter(|(n, _)| ["E", "alpha", "beta"].contains(n)).take(4 - tiles.len().min(1))
        {
            let ends =
                p.lo.zip(p.hi)
                    .map(|(lo, hi)| escape(&format!("[{}]", interval(lo, hi, 3))))
                    .unwrap_or_default();
            tiles.push(tile(
                &format!("{} of L(N, D)", numbers::greek(name)),
                &numbers::significant(p.value, 4),
                &ends,
            ));
        }
    }
    let tiles = if tiles.is_empty() {
        String::new()
    } else {
        format!("<div class=\"tiles\">{}</div>\n", tiles.concat())
    };
    format!(
        "<header>\n<p class=\"kicker\">{}</p>\n<h1>{}</h1>\n<p class=\"dek\">{}</p>\n{}{tiles}</header>\n",
        escape(&format!("{source} · fitted by {made_by}")),
        sentence(Some(laws), data.is_grid()),
        escape(&format!(
            "{} rows: {}.{}",
            data.obs.len(),
            ranges.join(", "),
            match laws.rows_dropped.len() {
                0 => String::new(),
                1 => " One row could not be used.".to_owned(),
                n => format!(" {n} rows could not be used."),
            }
        )),
        if data.is_grid() { bend_note(Some(laws)) } else { String::new() },
    )
}
