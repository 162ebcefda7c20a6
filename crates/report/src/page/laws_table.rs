//! Every fitted law with its parameters, intervals and what it was fitted to.

use super::headline::end_sentence;
use super::section;
use crate::html::escape;
use crate::numbers::{self, count, fixed, significant};
use isoflop_laws::{FitRecord, LawDocument, ParamEstimate};

fn estimate(name: &str, p: &ParamEstimate, identified: Option<bool>) -> String {
    let open = "open";
    let end = |v: Option<f64>| v.map_or(open.to_owned(), |v| significant(v, 3));
    let ends = match (p.lo, p.hi) {
        (None, None) => "no interval".to_owned(),
        (lo, hi) => format!("{}\u{a0}to\u{a0}{}", end(lo), end(hi)),
    };
    let flag = if identified == Some(false) { " <em>not\u{a0}identified</em>" } else { "" };
    format!(
        "{}\u{202f}=\u{202f}{} <span class=\"prompt\">{}{flag}</span>",
        escape(&numbers::greek(name)),
        significant(p.value, 4),
        escape(&ends)
    )
}

fn conditions(fit: &FitRecord) -> String {
    let text: Vec<String> = fit
        .condition
        .iter()
        .map(|(k, v)| {
            let name = match k.as_str() {
                "tokens" | "d" => "D",
                "params" | "n" => "N",
                "flops" | "c" => "C",
                other => other,
            };
            format!("{name} = {}", count(*v))
        })
        .collect();
    text.join(", ")
}

fn row(fit: &FitRecord) -> String {
    let what: Vec<String> = [fit.variant.clone(), conditions(fit), fit.group.clone()]
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect();
    let params: String = fit
        .params
        .iter()
        .map(|(name, p)| format!("<div>{}</div>", estimate(name, p, fit.identified.get(name).copied())))
        .collect();
    let dropped = if fit.rows_dropped.is_empty() {
        String::new()
    } else {
        format!("<small>{} left out</small>", fit.rows_dropped.len())
    };
    let holdout = fit.holdout.as_ref().and_then(|h| h.rms).map_or(numbers::NONE.to_owned(), |r| fixed(r, 4));
    format!(
        "<tr><td><code>{}</code> {}<small>{}</small></td><td class=\"params\">{params}</td><td class=\"num\">{}</td>\
         <td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}{dropped}</td></tr>\n",
        escape(&fit.form),
        escape(&what.join(", ")),
        escape(&fit.formula),
        fit.r2_loglog.map_or(numbers::NONE.to_owned(), |r| fixed(r, 4)),
        fit.residual_tests.rms.map_or(numbers::NONE.to_owned(), |r| fixed(r, 4)),
        holdout,
        fit.rows_used,
    )
}

/// The table of fits, the comparisons, and what could not be fitted.
pub(crate) fn laws(laws: Option<&LawDocument>) -> String {
    let Some(laws) = laws.filter(|l| !l.fits.is_empty() || !l.not_fitted.is_empty()) else {
        return String::new();
    };
    let mut body = String::new();
    // A form fitted at many sizes or token counts would bury the others.
    let many = |f: &&FitRecord| laws.fits.iter().filter(|g| g.form == f.form).count() > 6;
    let (minor, major): (Vec<_>, Vec<_>) = laws.fits.iter().partition(many);
    for (fits, name, open) in [
        (major, "fits with their intervals", " open"),
        (minor, "fits at one size or one token count each", ""),
    ] {
        if fits.is_empty() {
            continue;
        }
        let rows: String = fits.iter().map(|f| row(f)).collect();
        body.push_str(&format!(
            "<details{open}><summary>{} {name}</summary><div class=\"scroll\"><table class=\"laws\"><thead><tr><th>law</th>\
             <th>parameters</th><th class=\"num\">R²</th><th class=\"num\">rms</th><th class=\"num\">held out</th>\
             <th class=\"num\">rows</th></tr></thead><tbody>\n{rows}</tbody></table></div>\
             <p><small>R² in ln L. rms: of ln observed − ln fitted. Held out: the same on rows the fit did not see.</small></p>\
             </details>\n",
            fits.len()
        ));
    }
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            let items: String = items.iter().map(|i| format!("<li>{i}</li>")).collect();
            body.push_str(&format!(
                "<details><summary>{title}</summary><div class=\"methods\"><ul>{items}</ul></div></details>\n"
            ));
        }
    };
    list(
        "Which form the data support",
        laws.comparisons
            .iter()
            .map(|c| format!("{} {}", escape(&c.question), escape(&end_sentence(&c.words))))
            .collect(),
    );
    list(
        "Not identified",
        laws.fits
            .iter()
            .flat_map(|f| {
                let name = format!("{} {} {} {}", f.form, f.variant, conditions(f), f.group);
                f.not_identified.iter().map(move |w| {
                    format!("<code>{}</code>: {}", escape(name.trim()), escape(&end_sentence(w)))
                })
            })
            .collect(),
    );
    list("How each was fitted", recipes(laws));
    list(
        "Not fitted",
        laws.not_fitted
            .iter()
            .map(|n| format!("<code>{}</code>: {}", escape(&n.form), escape(&end_sentence(&n.reason))))
            .collect(),
    );
    section("laws", "The fitted laws", &body)
}

/// Each distinct recipe once, with the forms that used it.
fn recipes(laws: &LawDocument) -> Vec<String> {
    let mut seen: Vec<(String, Vec<&str>)> = Vec::new();
    for fit in laws.fits.iter().filter(|f| !f.recipe.is_empty()) {
        let text = format!("{} Intervals: {}", end_sentence(&fit.recipe), end_sentence(&fit.interval_method));
        match seen.iter_mut().find(|s| s.0 == text) {
            Some((_, forms)) => {
                if !forms.contains(&fit.form.as_str()) {
                    forms.push(&fit.form);
                }
            }
            None => seen.push((text, vec![&fit.form])),
        }
    }
    seen.iter()
        .map(|(text, forms)| format!("<code>{}</code>: {}", escape(&forms.join(", ")), escape(text)))
        .collect()
}
