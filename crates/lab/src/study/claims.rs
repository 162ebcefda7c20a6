//! The claims of a study: published statements the report will judge.

use super::raw::{Entry, RawStudy, quantity_text};
use crate::error::UserError;
use isoflop_base::nearest::nearest;
use isoflop_base::study::ClaimSpec;
use isoflop_laws::forms;
use isoflop_report::claims;

/// Every claim of the file, in its order.
pub fn claims(raw: &RawStudy) -> Result<Vec<ClaimSpec>, UserError> {
    raw.claims.iter().map(|(text, entry)| claim(raw, text, entry)).collect()
}

fn claim(raw: &RawStudy, text: &str, entry: &Entry) -> Result<ClaimSpec, UserError> {
    let wrong = |what: &str| {
        UserError::new(format!("{}: {}: claim \"{text}\": {what}", raw.file, entry.origin)).hint(
            "write \"alpha = 0.076\" = { law = \"l_n\", param = \"alpha\", within = 0.02, source = \
                   \"…\", needs = [\"converged\"] }",
        )
    };
    let toml::Value::Table(table) = &entry.value else { return Err(wrong("should be a table")) };
    let string = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(toml::Value::String(s)) => Ok(Some(s.clone())),
        Some(_) => Err(wrong(&format!("`{key}` should be a string"))),
    };
    let float = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(v) => quantity_text(v)
            .and_then(|t| t.parse::<f64>().ok())
            .map(Some)
            .ok_or_else(|| wrong(&format!("`{key}` should be a number"))),
    };
    let law = string("law")?.ok_or_else(|| wrong("`law` is missing"))?;
    let param = string("param")?.ok_or_else(|| wrong("`param` is missing"))?;
    let unknown = |what: &str, word: &str, known: &[&str]| {
        let near = nearest(word, known.iter().copied()).unwrap_or_default();
        UserError::new(format!(
            "{}: {}: claim \"{text}\": there is no {what} `{word}`",
            raw.file, entry.origin
        ))
        .hint(format!("did you mean `{near}`? known: {}", known.join(", ")))
    };
    let laws = forms::ids();
    if !laws.contains(&law.as_str()) {
        return Err(unknown("law", &law, &laws));
    }
    let params = params_of(&law);
    if !params.contains(&param.as_str()) {
        return Err(unknown(&format!("parameter of {law} called"), &param, &params));
    }
    let after_equals = text.rsplit_once('=').and_then(|(_, v)| v.trim().parse::<f64>().ok());
    let needs = match table.get("needs") {
        None => Vec::new(),
        Some(toml::Value::Array(items)) => items
            .iter()
            .map(|i| {
                i.as_str().map(str::to_owned).ok_or_else(|| wrong("`needs` should be a list of strings"))
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong("`needs` should be a list of strings")),
    };
    if let Some(need) = needs.iter().find(|n: &&String| !claims::is_condition(n)) {
        return Err(unknown("condition", need, claims::CONDITIONS));
    }
    Ok(ClaimSpec {
        text: text.to_owned(),
        law,
        param,
        value: float("value")?
            .or(after_equals)
            .ok_or_else(|| wrong("has no value: end its name in `= 0.076` or give `value`"))?,
        within: float("within")?.ok_or_else(|| wrong("`within` is missing"))?,
        source: string("source")?,
        needs,
    })
}

/// What a law's fit says that a claim can be about: its parameters under any variant, and how straight its points lie.
fn params_of(law: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for name in forms::all().iter().filter(|f| f.id == law).flat_map(|f| f.reported.iter().map(|r| r.name)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.push(claims::R2);
    names
}
