//! The same methods on pictures that nothing was trained on.

use super::FewShotInput;
use super::input::{ElsewhereRow, Interval};
use super::methods::Methods;
use super::words::{capital, percent, plural, plus_minus, signed};
use crate::html::escape;
use crate::numbers::NONE;
use crate::page::section as in_section;

/// A table for each set.
pub(super) fn section(input: &FewShotInput, methods: &Methods<'_>) -> String {
    let mut sets: Vec<&str> = Vec::new();
    for row in &input.elsewhere {
        if !sets.contains(&row.set.as_str()) {
            sets.push(&row.set);
        }
    }
    if sets.is_empty() {
        return String::new();
    }
    let tables: String = sets.iter().map(|set| table(input, set, methods)).collect();
    let lead = "<p>Classes and pictures of another kind than those of the training: what is left of each method\u{2019}s \
                lead is what carries over.</p>\n";
    in_section("elsewhere", "On other pictures", &format!("{lead}{tables}"))
}

fn table(input: &FewShotInput, set: &str, methods: &Methods<'_>) -> String {
    let mut rows: Vec<&ElsewhereRow> = input.elsewhere.iter().filter(|row| row.set == set).collect();
    rows.sort_by_key(|row| (row.shots, methods.place(&row.method)));
    let best = |row: &ElsewhereRow| {
        let alike = rows.iter().filter(|other| other.shots == row.shots);
        alike.map(|other| other.accuracy.mean).filter(|m| m.is_finite()).fold(f64::MIN, f64::max)
    };
    let Some(first) = rows.first() else { return String::new() };
    let facts = format!(
        "{}, {}; {} of {} of each class",
        plural(first.classes, "class", "classes"),
        plural(first.images, "picture", "pictures"),
        plural(input.test.episodes, "episode", "episodes"),
        plural(first.queries as u64, "query", "queries")
    );
    let body: String =
        rows.iter().map(|row| line(row, row.accuracy.mean >= best(row), input, methods)).collect();
    format!(
        "<h3>{}</h3><div class=\"scroll\"><table class=\"sortable\"><thead><tr><th>method</th>\
         <th class=\"num\">shots</th><th class=\"num\">accuracy</th><th class=\"num\">where it was trained</th>\
         <th class=\"num\">difference on the same episodes</th></tr></thead><tbody>\n{body}</tbody></table></div>\n\
         <p class=\"note\">{facts}. Intervals of 95\u{202f}%, the wider of those over episodes and over seeds. Best at \
         each number of shots in bold.</p>\n",
        escape(&capital(set))
    )
}

fn accuracy(interval: &Interval) -> String {
    escape(&format!("{}{}", percent(interval.mean, 2), plus_minus(interval.wider(), 2)))
}

fn line(row: &ElsewhereRow, best: bool, input: &FewShotInput, methods: &Methods<'_>) -> String {
    let tag = |text: String| if best { format!("<b>{text}</b>") } else { text };
    let home = input.rows.iter().find(|other| other.method == row.method && other.shots == row.shots);
    let difference = row.difference.as_ref().map(|(against, by)| {
        format!("{}{} against {against}", signed(by.mean, 2), plus_minus(by.wider(), 2))
    });
    format!(
        "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
         <td class=\"num\">{}</td></tr>\n",
        tag(methods.named(&row.method)),
        row.shots,
        tag(accuracy(&row.accuracy)),
        home.map_or_else(|| NONE.to_owned(), |home| accuracy(&home.accuracy)),
        difference.map_or_else(|| NONE.to_owned(), |text| escape(&text))
    )
}
