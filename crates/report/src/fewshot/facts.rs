//! What it was measured on and how: pictures, backbone, recipe, notes.

use super::FewShotInput;
use super::methods::Methods;
use super::words::{and, grouped, plural};
use crate::html::escape;
use crate::page::{self, end_sentence};

/// A channel count as people call it.
fn colours(channels: usize) -> String {
    match channels {
        1 => "grey".to_owned(),
        3 => "colour".to_owned(),
        n => format!("{n} channels"),
    }
}

fn definition(name: &str, value: &str) -> String {
    format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value))
}

/// The last section and the foot of the page.
pub(super) fn section(input: &FewShotInput, methods: &Methods<'_>) -> String {
    let (data, test, backbone) = (&input.data, &input.test, &input.backbone);
    let mut facts = String::new();
    let pictures = format!("{}, {} × {} pixels, {}", data.name, data.side, data.side, colours(data.channels));
    facts += &definition("pictures", &pictures);
    for (split, classes, images) in &data.splits {
        let words =
            format!("{}, {}", plural(*classes, "class", "classes"), plural(*images, "image", "images"));
        facts += &definition(split, &words);
    }
    facts += &definition(
        "backbone",
        &format!(
            "{}, {} features, {} weights",
            backbone.name,
            grouped(backbone.features as u64),
            grouped(backbone.params)
        ),
    );
    facts += &input.recipe.iter().map(|(key, value)| definition(key, value)).collect::<String>();
    facts += &definition(
        "test",
        &format!(
            "{} of {} ways, {} of each class; the same for every method and seed",
            plural(test.episodes, "episode", "episodes"),
            test.ways,
            plural(test.queries as u64, "query", "queries")
        ),
    );
    let mut seeds: Vec<u64> = input.rows.iter().flat_map(|row| row.seeds.iter().copied()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    if !seeds.is_empty() {
        facts += &definition("seeds", &and(&seeds.iter().map(u64::to_string).collect::<Vec<_>>()));
    }
    if !input.machine.is_empty() {
        facts += &definition("machine", &input.machine);
    }
    let how = [
        "An interval over episodes is 1.96·s/√n of the episodes’ accuracies, seeds as they are: it covers which \
         episodes were \
         drawn, not which training. An interval over seeds is Student’s t over the seeds’ means. Where both \
         are, the wider decides.",
        "A paired difference is taken between two methods on each episode before its mean and spread are.",
        "A plain number was measured or counted; ≈ marks an estimate; – stands for what is not there, with its reason.",
    ];
    let notes = input.notes.iter().map(|note| end_sentence(note));
    let items: String = how
        .iter()
        .map(|words| (*words).to_owned())
        .chain(notes)
        .map(|words| format!("<li>{}</li>", escape(&words)))
        .collect();
    let named = if methods.names().next().is_none() { String::new() } else { about_methods(methods) };
    let body = format!(
        "<dl>\n{facts}</dl>\n{named}<div class=\"methods\"><h3>How the figures were made</h3><ul>{items}</ul></div>\n"
    );
    let version = if input.version.is_empty() { String::new() } else { format!(" {}", input.version) };
    page::section("methods", "Pictures, backbone, recipe", &body)
        + &format!(
            "<footer>Drawn by isoflop{}. One file, no network; the same results draw the same bytes.</footer>\n",
            escape(&version)
        )
}

/// The methods in a few words, those that are known here.
fn about_methods(methods: &Methods<'_>) -> String {
    let rows: String = methods
        .names()
        .filter(|name| !super::methods::about(name).is_empty())
        .map(|name| {
            format!("<dt>{}</dt><dd>{}</dd>\n", methods.named(name), escape(super::methods::about(name)))
        })
        .collect();
    if rows.is_empty() { rows } else { format!("<h3>The methods</h3><dl>\n{rows}</dl>\n") }
}
