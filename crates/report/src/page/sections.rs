//! The parts of the page that are figures, each with the words that say how it was made.

use super::headline::end_sentence;
use super::{Figures, section, tables};
use crate::claims::REFERENCES;
use crate::data::{Data, fits};
use crate::figures::{self, Against};
use crate::html::escape;
use crate::input::ReportInput;
use crate::numbers::{count, fixed};
use isoflop_laws::LawDocument;

fn paragraph(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<p>{}</p>\n", escape(text)) }
}

/// What the comparisons of a law's forms say, conditions with the same answer together.
fn supported(laws: Option<&LawDocument>, form: &str) -> String {
    let mut answers: Vec<(String, Vec<String>)> = Vec::new();
    for c in laws.into_iter().flat_map(|l| &l.comparisons) {
        let (subject, question) = c.question.split_once(": ").unwrap_or((c.question.as_str(), ""));
        let (id, condition) = subject.split_once(" at ").unwrap_or((subject, ""));
        if id != form || c.words.is_empty() {
            continue;
        }
        let words = end_sentence(&c.words);
        let words: String =
            words.chars().take(1).flat_map(char::to_uppercase).chain(words.chars().skip(1)).collect();
        let answer = format!("{question} {words}");
        match answers.iter_mut().find(|a| a.0 == answer) {
            Some((_, conditions)) => conditions.push(condition.to_owned()),
            None => answers.push((answer, vec![condition.to_owned()])),
        }
    }
    let items: String = answers
        .iter()
        .map(|(answer, conditions)| {
            let at = conditions.iter().filter(|c| !c.is_empty()).cloned().collect::<Vec<_>>().join("; ");
            let at = if at.is_empty() { String::new() } else { format!("<b>{}.</b> ", escape(&at)) };
            let answer = answer.trim();
            let first: String = answer.chars().take(1).flat_map(char::to_uppercase).collect();
            let rest: String = answer.chars().skip(1).collect();
            format!("<p>{at}{}{}</p>\n", escape(&first), escape(&rest))
        })
        .collect();
    items
}

/// Loss against size, against tokens, and the exponent by tokens.
pub(crate) fn size(figures: &mut Figures, data: &Data, laws: Option<&LawDocument>) -> String {
    if !data.is_grid() {
        return String::new();
    }
    let level = laws.and_then(|l| l.fits.first()).map_or(95.0, |f| 100.0 * f.level);
    let level = fixed(level, 0);
    let seeds = data.obs.iter().filter_map(|o| o.seed).collect::<std::collections::BTreeSet<_>>().len();
    let seeds = if seeds > 1 { " Sizes trained with several seeds show one mark per seed." } else { "" };
    let by_size = figures.both(
        |id, width| figures::law(id, data, laws, Against::Params, width, ""),
        "Loss against model size, on log-log axes.",
        &format!(
            "Each line keeps the number of training tokens fixed. A straight line here is a power law. Solid: \
             L = (N_c/N)^α; dotted: the same with an irreducible loss; shaded: {level} % band of the fitted line; bars: \
             1.96 standard errors of the validation loss, clustered by held-out block.{seeds} Below: how far each \
             point lies from its straight line."
        ),
    );
    let slopes = slopes(laws);
    let alpha = figures.small(
        |id| figures::alpha_by_tokens(id, data, laws, &REFERENCES),
        if moves(&slopes) { "The exponent is not one number." } else { "The exponent at each number of tokens." },
        &format!(
            "α of L(N) fitted at each number of training tokens, with {level} % intervals. Dashed: published values, \
             from other text, tokens and sizes."
        ),
    );
    // Budgets of compute have no two sizes at one number of tokens, and so no figure of the first kind.
    let read = if by_size.is_empty() { "Each" } else { "The same points read the other way: each" };
    let by_tokens = figures.both(
        |id, width| figures::law(id, data, laws, Against::Tokens, width, ""),
        "Loss against training tokens, for each size.",
        &format!("{read} line keeps the model fixed, with the {level} % interval of its exponent beside it."),
    );
    let title = match (&slopes, slopes.iter().all(|s| s.ends.is_some_and(|e| e.0 > 0.0))) {
        (s, true) if moves(s) => "Larger models end lower, and the slope depends on the data",
        (s, true) if !s.is_empty() => "Larger models end lower",
        _ if by_size.is_empty() => "Loss against tokens",
        _ => "Loss against size",
    };
    let words = slope_words(&slopes);
    let alpha = if alpha.is_empty() {
        alpha
    } else {
        format!("<div class=\"pair\">{alpha}<div>{}{}</div></div>", paragraph(&words), supported(laws, "l_n"))
    };
    let tail = if alpha.is_empty() { supported(laws, "l_n") } else { alpha };
    section("size", title, &format!("{by_size}{tail}{by_tokens}"))
}

/// α of L(N) at one number of training tokens.
struct Slope {
    tokens: f64,
    alpha: f64,
    ends: Option<(f64, f64)>,
}

fn slopes(laws: Option<&LawDocument>) -> Vec<Slope> {
    let mut rows: Vec<Slope> = fits(laws, "l_n", "pure")
        .filter_map(|f| {
            let p = f.params.get("alpha")?;
            Some(Slope { tokens: *f.condition.get("tokens")?, alpha: p.value, ends: p.lo.zip(p.hi) })
        })
        .collect();
    rows.sort_by(|a, b| a.tokens.total_cmp(&b.tokens));
    rows
}

/// Whether the intervals at the fewest and the most tokens lie apart.
fn moves(slopes: &[Slope]) -> bool {
    match (slopes.first().and_then(|s| s.ends), slopes.last().and_then(|s| s.ends)) {
        (Some(a), Some(b)) => a.1 < b.0 || b.1 < a.0,
        _ => false,
    }
}

fn slope_words(slopes: &[Slope]) -> String {
    let [first, .., last] = slopes else { return String::new() };
    let (a, b) = (fixed(first.alpha, 3), fixed(last.alpha, 3));
    let (from, to) = (count(first.tokens), count(last.tokens));
    let lesson = "An exponent is only comparable with another when the data, the tokens and the tuning behind both are.";
    if moves(slopes) {
        let how = if last.alpha > first.alpha { "steepens" } else { "flattens" };
        format!(
            "The line {how} from α = {a} at {from} tokens to {b} at {to}, and the intervals lie apart. {lesson}"
        )
    } else {
        format!(
            "α = {a} at {from} tokens and {b} at {to}; the intervals overlap, so it may be the same. {lesson}"
        )
    }
}

/// Loss against compute.
pub(crate) fn compute(
    figures: &mut Figures,
    data: &Data,
    input: Option<&ReportInput>,
    laws: Option<&LawDocument>,
) -> String {
    let curves = if input.is_some_and(|i| !i.curves.is_empty()) {
        " Faint lines: training curves; the thin parts, before the learning rate decayed, are not finished models \
         and enter no fit."
    } else {
        ""
    };
    let figure = figures.both(
        |id, width| figures::compute(id, data, input, laws, width),
        "Loss against training compute.",
        &format!(
            "Marks: finished points. The thin dark line is their frontier, the lowest finished loss for each amount \
             of compute; dashed: L(C) fitted to the points on it.{curves}"
        ),
    );
    let body = if figure.is_empty() { figure } else { figure + &supported(laws, "l_c") };
    section("compute", "What compute buys", &body)
}

/// Training curves and the learning rate's rule.
pub(crate) fn curves(figures: &mut Figures, input: &ReportInput, data: &Data) -> String {
    let curves = figures.both(
        |id, width| figures::training_curves(id, input, data, width),
        "Training curves.",
        "Thin: learning rate constant; thick: learning rate falling to zero; marks: finished points. Each branch \
         leaves the trunk, decays and ends; the trunk goes on from where the branch left it.",
    );
    let mut words = String::new();
    if let Some(rate) = &input.learning_rate {
        if !rate.rule.is_empty() {
            words.push_str(&format!(
                "<p>Learning rate of the series: <code>{}</code></p>\n",
                escape(&rate.rule)
            ));
        }
        let why: String =
            rate.why.chars().take(1).flat_map(char::to_uppercase).chain(rate.why.chars().skip(1)).collect();
        words.push_str(&paragraph(&end_sentence(&why)));
    }
    let body = if curves.is_empty() { String::new() } else { curves + &words };
    section("curves", "Every run, step by step", &body)
}

/// Forecast and outcome.
pub(crate) fn forecasts(figures: &mut Figures, input: &ReportInput, data: &Data) -> String {
    let level = input.forecasts.first().map_or(0.95, |f| f.forecast.level);
    let made: Vec<&str> =
        input.forecasts.iter().map(|f| f.made_from.as_str()).filter(|m| !m.is_empty()).collect();
    let from = made.first().map(|m| format!(" They were made from {m}.")).unwrap_or_default();
    let at = input.forecasts.iter().find_map(|f| f.made_at.as_ref());
    let at = at.map(|a| format!(" Written down {a}.")).unwrap_or_default();
    let figure = figures.both(
        |id, width| figures::forecasts(id, &input.forecasts, &data.loss_unit, width),
        "Forecast first, then the run.",
        &format!(
            "Bars: {} % prediction interval for one new run; line in the bar: the forecast; dot: what was \
             measured, with 1.96 standard errors.{from}{at}",
            fixed(100.0 * level, 0)
        ),
    );
    let body = figure + &super::tables::foretold(input.laws.as_ref());
    section("forecast", "Did the small models foretell the large?", &body)
}

/// The joint fit: contours, valleys, residuals.
pub(crate) fn joint(figures: &mut Figures, data: &Data, laws: Option<&LawDocument>) -> String {
    let valleys = figures.both(
        |id, width| figures::valleys(id, data, width),
        "IsoFLOP valleys.",
        "Loss against size at fixed compute, with a parabola in ln N through each budget's points; diamonds: their \
         lowest points.",
    );
    let contours = figures.both(
        |id, width| figures::contours(id, data, laws, width),
        "Contours of the fitted L(N, D).",
        "Lines of equal fitted loss; dots: the points behind the fit. Dashed: the efficient frontier, where a budget of \
         C = 6ND buys the lowest fitted loss, drawn only where that lies inside what was tried.",
    );
    let joint =
        laws.and_then(|l| l.fits.iter().find(|f| f.form.starts_with("l_nd") && !f.residuals.is_empty()));
    let residuals = match joint {
        Some(fit) => figures.both(
            |id, width| figures::residuals(id, data, fit, width),
            "What the joint fit leaves over.",
            "A form that fits shows no pattern here.",
        ),
        None => String::new(),
    };
    let allocation = allocation(laws);
    section("joint", "Size and data together", &format!("{valleys}{contours}{residuals}{allocation}"))
}

/// The exponents of the compute-optimal allocation by each approach.
fn allocation(laws: Option<&LawDocument>) -> String {
    let rows: String = laws
        .into_iter()
        .flat_map(|l| &l.allocation)
        .map(|a| {
            let ends = a.a.lo.zip(a.a.hi).map(|(lo, hi)| format!("{} to {}", fixed(lo, 3), fixed(hi, 3)));
            format!(
                "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td \
                 class=\"num\">{}</td><td>{}</td></tr>",
                escape(&a.approach),
                fixed(a.a.value, 4),
                escape(&ends.unwrap_or_else(|| "no interval".to_owned())),
                fixed(a.b, 4),
                escape(&a.notes.join(" "))
            )
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<h3>Where the next budget should go: N<sub>opt</sub> ∝ C<sup>a</sup>, D<sub>opt</sub> ∝ C<sup>b</sup></h3>\
         <div class=\"scroll\"><table><thead><tr><th>approach</th><th class=\"num\">a</th><th class=\"num\">interval</th>\
         <th class=\"num\">b</th><th>remarks</th></tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
}

/// 6ND against the exact ledger.
pub(crate) fn ledger(figures: &mut Figures, input: &ReportInput, data: &Data) -> String {
    let figure = figures.small(
        |id| figures::ledger_ratio(id, data, &input.ledger),
        "Exact training FLOPs over 6ND.",
        "Exact: every multiply and add as executed, causal attention counted as half.",
    );
    if figure.is_empty() {
        return String::new();
    }
    let words = "The rule of thumb C = 6ND counts the matrices of the blocks and nothing else. At small widths the attention \
                 scores and the output head are a large share, so L(C) above uses the exact count, and a fit says \
                 which count it used.";
    section(
        "ledger",
        "What 6ND leaves out",
        &format!(
            "<div class=\"pair\">{figure}<div>{}</div></div>{}",
            paragraph(words),
            tables::parts(&input.ledger)
        ),
    )
}
