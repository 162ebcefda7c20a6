//! Episodes as pictures: what a class was shown by, what was asked, and what each method said.

use super::FewShotInput;
use super::input::{Drawing, DrawnEpisode, DrawnQuery};
use super::methods::Methods;
use super::picture::{Pixels, pixels};
use super::words::{percent, plural, shots};
use crate::html::escape;
use crate::page;

/// Bytes that all pictures together may take, before base64.
const BUDGET_BYTES: usize = 480_000;
/// Bytes of a PNG beside its pixels, and of the markup around it.
const OVERHEAD_BYTES: usize = 220;
/// Pictures on the page at most; a first episode is drawn however many it has, up to the limits below.
const MAX_PICTURES: usize = 220;
/// Classes of an episode that are drawn.
const MAX_CLASSES: usize = 20;
/// Support pictures of a class that are drawn.
const MAX_SUPPORT: usize = 10;
/// Queries of an episode that are drawn.
const MAX_QUERIES: usize = 60;

/// What is drawn of an episode: support by class, and the queries.
struct Shown<'a> {
    episode: &'a DrawnEpisode,
    support: Vec<&'a [Drawing]>,
    queries: Vec<&'a DrawnQuery>,
}

impl<'a> Shown<'a> {
    fn of(episode: &'a DrawnEpisode) -> Self {
        let support = episode.support.iter().take(MAX_CLASSES);
        let queries = episode.queries.iter().filter(|q| q.class < MAX_CLASSES.min(episode.classes.len()));
        Self {
            episode,
            support: support.map(|s| &s[..s.len().min(MAX_SUPPORT)]).collect(),
            queries: queries.take(MAX_QUERIES).collect(),
        }
    }

    fn pictures(&self) -> impl Iterator<Item = &'a Drawing> + '_ {
        self.support.iter().flat_map(|s| s.iter()).chain(self.queries.iter().map(|q| &q.picture))
    }
}

/// How pictures are drawn on this page.
#[derive(Clone, Copy)]
struct Frame {
    /// Pixels of a side at most.
    side: usize,
    /// Whether they are ink on an empty ground, which then takes the page's colours.
    ink: bool,
}

/// The episodes; the first is open, the others fold.
pub(super) fn section(input: &FewShotInput, methods: &Methods<'_>) -> String {
    let mut all: Vec<Shown<'_>> = Vec::new();
    let mut count = 0;
    for shown in input.episodes.iter().map(Shown::of) {
        let more = shown.pictures().count();
        if !all.is_empty() && count + more > MAX_PICTURES {
            break;
        }
        count += more;
        all.push(shown);
    }
    if count == 0 {
        return String::new();
    }
    let drawn: Vec<Pixels> = all.iter().flat_map(Shown::pictures).filter_map(pixels).collect();
    let channels = drawn.iter().map(|p| p.channels).max().unwrap_or(1);
    let room = (BUDGET_BYTES / count).saturating_sub(OVERHEAD_BYTES) / channels;
    let frame = Frame {
        side: (room as f64).sqrt().floor().max(8.0) as usize,
        ink: !drawn.is_empty() && drawn.iter().filter(|p| p.is_ink()).count() * 2 >= drawn.len(),
    };
    let episodes: String =
        all.iter().enumerate().map(|(i, shown)| one(shown, i == 0, frame, methods)).collect();
    let lead = "<p>First come the support pictures that a class is known by, then queries with what each method \
        said: ✓ right, \
                ✗ wrong and the class it named instead. The bar is the probability it gave to its answer.</p>\n";
    page::section("episodes", "Episodes, as the methods saw them", &format!("{lead}{episodes}"))
}

fn one(shown: &Shown<'_>, open: bool, frame: Frame, methods: &Methods<'_>) -> String {
    let names: Vec<&str> =
        methods.names().filter(|name| shown.queries.iter().any(|q| q.said.contains_key(*name))).collect();
    let heads: String = names
        .iter()
        .map(|name| {
            let asked = shown.queries.iter().filter(|q| q.said.contains_key(*name));
            let right =
                asked.clone().filter(|q| answer(&q.said[*name]).is_some_and(|a| a.0 == q.class)).count();
            format!("<th>{}<small>{right} of {} right</small></th>", methods.named(name), asked.count())
        })
        .collect();
    let classes = shown.episode.classes.iter().take(MAX_CLASSES).enumerate();
    let rows: String = classes.map(|(class, name)| class_rows(shown, class, name, &names, frame)).collect();
    let support = shown.episode.support.iter().map(Vec::len).max().unwrap_or(0);
    let title = format!(
        "Test episode {}: {}, {}",
        shown.episode.number,
        plural(shown.episode.classes.len() as u64, "class", "classes"),
        shots(support)
    );
    format!(
        "<details{}><summary>{}</summary><div class=\"scroll\"><table \
         class=\"episode{}\"><thead><tr><th>query</th>{heads}\
         </tr></thead><tbody>\n{rows}</tbody></table></div></details>\n",
        if open { " open" } else { "" },
        escape(&title),
        if frame.ink { " ink" } else { "" }
    )
}

fn class_rows(shown: &Shown<'_>, class: usize, name: &str, methods: &[&str], frame: Frame) -> String {
    let support = shown.support.get(class).copied().unwrap_or_default();
    let hidden = shown.episode.support.get(class).map_or(0, Vec::len) - support.len();
    let more = if hidden > 0 { format!("<small>and {hidden} more</small>") } else { String::new() };
    let pictures: String = support
        .iter()
        .enumerate()
        .map(|(i, p)| picture(p, &format!("support picture {} of {name}", i + 1), frame))
        .collect();
    let mut out = format!(
        "<tr class=\"known\"><td colspan=\"{}\"><b>{}</b><span class=\"support\">{pictures}</span>{more}</td></tr>\n",
        methods.len() + 1,
        escape(name)
    );
    for query in shown.queries.iter().filter(|q| q.class == class) {
        let cells: String = methods.iter().map(|m| said(query, m, &shown.episode.classes)).collect();
        let picture = picture(&query.picture, &format!("query of {name}"), frame);
        out += &format!("<tr><td>{picture}</td>{cells}</tr>\n");
    }
    out
}

/// The class with the highest probability, and that probability.
fn answer(probabilities: &[f32]) -> Option<(usize, f32)> {
    let all = probabilities.iter().copied().enumerate().filter(|(_, p)| p.is_finite());
    all.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
}

fn said(query: &DrawnQuery, method: &str, classes: &[String]) -> String {
    let Some((class, p)) = query.said.get(method).and_then(|said| answer(said)) else {
        return "<td><span class=\"missing\">no answer</span></td>".to_owned();
    };
    let (mark, sign, word) = if class == query.class {
        ("right", "✓", String::new())
    } else {
        let name = classes.get(class).map_or("?", String::as_str);
        ("wrong", "✗", format!(" <span title=\"{0}\">{0}</span>", escape(name)))
    };
    let share = f64::from(p).clamp(0.0, 1.0);
    format!(
        "<td class=\"{mark}\">{sign} {}{word}<i class=\"bar\"><i style=\"width:{:.0}%\"></i></i></td>",
        escape(&percent(share, 0)),
        100.0 * share
    )
}

fn picture(drawing: &Drawing, what: &str, frame: Frame) -> String {
    match pixels(drawing) {
        Some(pixels) => {
            let uri = pixels.within(frame.side).data_uri();
            format!("<img alt=\"{}\" src=\"{uri}\"/>", escape(what))
        }
        None => "<span class=\"missing\">no picture</span>".to_owned(),
    }
}
