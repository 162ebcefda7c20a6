//! A law document as people read it: aligned tables with units, and LaTeX.

use crate::document::{
    Allocation, Comparison, FitRecord, Forecast, LawDocument, ParamEstimate, condition_words,
};
use crate::fitting::verdict::number;
use isoflop_base::units::si;
use std::fmt::Write as _;

/// The whole document.
pub fn document(doc: &LawDocument) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} rows used, {} dropped", doc.rows_read, doc.rows_dropped.len());
    for dropped in &doc.rows_dropped {
        let run = if dropped.run.is_empty() { String::new() } else { format!(" ({})", dropped.run) };
        let _ = writeln!(out, "  row {}{run}: {}", dropped.row, dropped.reason);
    }
    for note in &doc.notes {
        let _ = writeln!(out, "note: {note}");
    }
    if let Some(seeds) = &doc.seed_spread {
        let _ = writeln!(
            out,
            "seeds: standard deviation {:.4} in loss ({:.3} %), {} degrees of freedom",
            seeds.sigma_loss,
            100.0 * seeds.sigma_ln,
            seeds.dof
        );
    }
    for record in &doc.fits {
        out.push('\n');
        out.push_str(&fit(record));
    }
    if !doc.comparisons.is_empty() {
        out.push('\n');
        doc.comparisons.iter().for_each(|c| out.push_str(&comparison(c)));
    }
    if !doc.rollout.is_empty() || !doc.left_out.is_empty() {
        out.push('\n');
        out.push_str(&foretold(doc));
    }
    if !doc.allocation.is_empty() {
        out.push('\n');
        out.push_str(&allocations(&doc.allocation));
    }
    if !doc.conventions.is_empty() {
        out.push_str("\nexponents by how N is counted\n");
        for c in &doc.conventions {
            let variant = if c.variant.is_empty() { String::new() } else { format!(" ({})", c.variant) };
            let at = condition_words(&c.condition);
            let place = format!("{}{variant} {at}", c.form);
            let _ = writeln!(
                out,
                "  {place:<34} {:<8} {:<6} {:>9.4}  {}",
                c.n_convention,
                c.param,
                c.estimate.value,
                ends(&c.estimate)
            );
        }
    }
    if !doc.not_fitted.is_empty() {
        out.push_str("\nnot fitted\n");
        for n in &doc.not_fitted {
            let _ = writeln!(out, "  {}: {}", n.form, n.reason);
        }
    }
    out
}

/// The rollout, and each size against the others.
fn foretold(doc: &LawDocument) -> String {
    let mut out = String::new();
    let between = |lo: Option<f64>, hi: Option<f64>| match (lo, hi) {
        (Some(lo), Some(hi)) => format!("[{lo:.4}, {hi:.4}]"),
        _ => "no interval".to_owned(),
    };
    if let Some(first) = doc.rollout.first() {
        let _ = writeln!(out, "each next size from all smaller ones, at D = {}", si(first.tokens));
    }
    for r in &doc.rollout {
        let _ = writeln!(
            out,
            "  {:>2} sizes  N {:<10} forecast {:.4} {:<18} measured {:.4}  {:+.2} %  {}",
            r.sizes,
            si(r.n),
            r.forecast,
            between(r.lo, r.hi),
            r.observed,
            100.0 * r.relative_error,
            if r.hit { "hit" } else { "miss" }
        );
    }
    if let Some(first) = doc.left_out.first() {
        let _ = writeln!(out, "each size from all others, at D = {}", si(first.tokens));
    }
    for s in &doc.left_out {
        let _ = writeln!(
            out,
            "  N {:<10} expected {:.4} {:<18} measured {:.4}  {}",
            si(s.n),
            s.expected,
            between(s.lo, s.hi),
            s.observed,
            s.ruling
        );
    }
    out
}

/// One fit.
pub fn fit(record: &FitRecord) -> String {
    let mut out = String::new();
    let variant = if record.variant.is_empty() { String::new() } else { format!(" ({})", record.variant) };
    let at = if record.condition.is_empty() {
        String::new()
    } else {
        format!(" at {}", condition_words(&record.condition))
    };
    let group = if record.group.is_empty() { String::new() } else { format!(", {}", record.group) };
    let _ = writeln!(
        out,
        "{}{variant}{at}{group}: {} · {} rows of {} runs · {}, N {}, C {}",
        record.form,
        record.formula,
        record.rows_used,
        record.runs_used,
        record.loss_unit,
        record.n_convention,
        record.c_convention
    );
    let level = format!("{} % interval", 100.0 * record.level);
    let _ = writeln!(out, "  {:<10} {:>12}   {:<28} {:>11}", "", "value", level, "std. error");
    for (name, p) in record.params.iter() {
        let known = record.identified.get(name).copied().unwrap_or(true);
        let flag = if known { "" } else { "  not identified" };
        let se = p.se.map_or_else(|| "–".to_owned(), number);
        let _ = writeln!(out, "  {name:<10} {:>12}   {:<28} {se:>11}{flag}", number(p.value), ends(p));
    }
    let _ = writeln!(out, "  {}", quality(record));
    if !record.local_slope.is_empty() {
        let slopes: Vec<String> = record.local_slope.iter().map(|s| format!("{:.4}", s.slope)).collect();
        let _ = writeln!(out, "  local slopes {}", slopes.join(" "));
    }
    if let Some(s) = &record.straight {
        let _ = writeln!(out, "  {}", s.words);
    }
    if let Some(h) = &record.holdout {
        let percent = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |v| format!("{:+.3} %", 100.0 * v));
        let _ = writeln!(
            out,
            "  held out {}: {} rows forecast from {}, mean error {}, rms {}",
            h.left_out,
            h.rows_tested,
            h.rows_fitted,
            percent(h.bias),
            percent(h.rms).trim_start_matches('+')
        );
    }
    for words in record.not_identified.iter().chain(&record.notes) {
        let _ = writeln!(out, "  {words}");
    }
    for dropped in &record.rows_dropped {
        let _ = writeln!(out, "  row {} not used: {}", dropped.row, dropped.reason);
    }
    let _ = writeln!(out, "  intervals: {}", record.interval_method);
    out
}

fn quality(record: &FitRecord) -> String {
    let mut parts = Vec::new();
    if let Some(r2) = record.r2_loglog {
        parts.push(format!("R² {r2:.5} (log-log)"));
    }
    if let Some(rms) = record.residual_tests.rms {
        parts.push(format!("rms {:.3} %", 100.0 * rms));
    }
    if let Some(worst) = record.residual_tests.worst_deviation {
        parts.push(format!("worst {:.3} %", 100.0 * worst));
    }
    if let Some(p) = record.residual_tests.sign_runs_p {
        parts.push(format!("runs test p {p:.3}"));
    }
    if let Some(objective) = record.objective {
        parts.push(format!("objective {objective:.9} ({})", record.objective_kind));
    }
    if record.starts > 0 {
        parts.push(format!("{} of {} starts agree", record.starts_agree, record.starts));
    }
    if let Some(v) = record.varpro_objective {
        parts.push(format!("variable projection {v:.9}"));
    }
    parts.join(" · ")
}

/// `1.70 to 1.92`, or the open end in words.
pub fn ends(p: &ParamEstimate) -> String {
    match (p.lo, p.hi) {
        (Some(lo), Some(hi)) => format!("{} to {}", number(lo), number(hi)),
        (Some(lo), None) => format!("above {}", number(lo)),
        (None, Some(hi)) => format!("below {}", number(hi)),
        (None, None) => "none".to_owned(),
    }
}

fn comparison(c: &Comparison) -> String {
    let verdict = if c.supported == crate::fit_table::compare::NEITHER {
        "the data cannot tell".to_owned()
    } else {
        format!("the data support {}", c.supported)
    };
    format!("{} {verdict}: {}\n", c.question, c.words)
}

fn allocations(list: &[Allocation]) -> String {
    let mut out = String::from("compute-optimal allocation, N_opt = G·C^a\n");
    let _ = writeln!(
        out,
        "  {:<14} {:>9}  {:<20} {:>9} {:>11} {:>8}",
        "approach", "a", "interval", "b", "G", "budgets"
    );
    for a in list {
        let _ = writeln!(
            out,
            "  {:<14} {:>9.4}  {:<20} {:>9.4} {:>11} {:>8}",
            a.approach,
            a.a.value,
            ends(&a.a),
            a.b,
            number(libm::exp(a.ln_coefficient)),
            a.optima.len()
        );
        for note in &a.notes {
            let _ = writeln!(out, "    {note}");
        }
    }
    out
}

/// Kaplan et al.'s derived figures, computed beside printed.
pub fn kaplan() -> String {
    let mut out = String::from("derived from the constants of Kaplan et al. 2020 (arXiv 2001.08361)\n");
    let _ = writeln!(out, "  {:<52} {:>9} {:>8}  formula", "figure", "computed", "printed");
    for d in crate::forms::kaplan_figures::derived(&crate::forms::kaplan_figures::PUBLISHED) {
        let _ = writeln!(out, "  {:<52} {:>9.4} {:>8}  {}", d.name, d.computed, d.printed, d.formula);
    }
    out
}

/// A forecast.
pub fn forecast(f: &Forecast) -> String {
    let size = |name: &str, v: Option<f64>| v.map(|x| format!("{name} = {}", si(x)));
    let place: Vec<String> = [size("N", f.n), size("D", f.d), size("C", f.c)].into_iter().flatten().collect();
    let interval = ends(&ParamEstimate { lo: f.lo, hi: f.hi, ..ParamEstimate::default() });
    let mut out = format!(
        "{}: loss {:.4}, {} % interval of one new run {interval}\n  {}\n",
        place.join(", "),
        f.loss,
        100.0 * f.level,
        f.method
    );
    let part = |name: &str, v: Option<f64>| v.map(|x| format!("{name} ±{:.2} %", 100.0 * x));
    let parts: Vec<String> = [
        part("fit", f.half_width_fit),
        part("seed", f.half_width_seed),
        part("form", f.half_width_form.filter(|h| *h > 0.0)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !parts.is_empty() {
        let _ = writeln!(out, "  sources: {}", parts.join(", "));
    }
    for note in &f.notes {
        let _ = writeln!(out, "  {note}");
    }
    if let Some(o) = &f.outcome {
        let _ = writeln!(out, "  {}", o.words);
    }
    out
}

/// LaTeX: one `tabular` row per parameter, and the formula of each fit.
pub fn latex(doc: &LawDocument) -> String {
    let mut out = String::from("% \\usepackage{booktabs}\n\\begin{tabular}{lllll}\n\\toprule\n");
    out.push_str("law & condition & parameter & value & interval \\\\\n\\midrule\n");
    for record in &doc.fits {
        let form = crate::forms::find(&record.form, &record.variant);
        let formula = form.map_or_else(|| record.form.replace('_', "\\_"), |f| format!("${}$", f.latex));
        let condition = condition_words(&record.condition);
        for (i, (name, p)) in record.params.iter().enumerate() {
            let first = if i == 0 { (formula.as_str(), condition.as_str()) } else { ("", "") };
            let interval = match (p.lo, p.hi) {
                (Some(lo), Some(hi)) => format!("$[{}, {}]$", tex_number(lo), tex_number(hi)),
                _ => "not identified".to_owned(),
            };
            let _ = writeln!(
                out,
                "{} & {} & ${}$ & ${}$ & {interval} \\\\",
                first.0,
                first.1,
                tex_name(name),
                tex_number(p.value)
            );
        }
        out.push_str("\\addlinespace\n");
    }
    out.push_str("\\bottomrule\n\\end{tabular}\n");
    out
}

fn tex_name(name: &str) -> String {
    match name {
        "alpha" | "beta" | "gamma" | "eta" => format!("\\{name}"),
        other => match other.split_once('_') {
            Some((a, b)) => format!("{a}_{{\\mathrm{{{b}}}}}"),
            None => other.to_owned(),
        },
    }
}

fn tex_number(value: f64) -> String {
    let text = number(value);
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{mantissa}\\times10^{{{exponent}}}"),
        None => text,
    }
}
