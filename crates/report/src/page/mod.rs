//! The page: what is said, in which order, and with which figures.

mod diagnosis;
mod findings;
mod headline;
mod laws_table;
mod methods;
mod sections;
mod tables;
mod theme;

use crate::data::Data;
use crate::html::{escape, prose};
use crate::input::ReportInput;
use crate::plot::Width;
use crate::section::Section;
use isoflop_laws::{LawDocument, Table};

pub(crate) use headline::{end_sentence, energy_text, tile};
pub(crate) use tables::code;
pub(crate) use theme::{sheet_with, standalone};

/// Numbers the figures and gives their drawings distinct ids.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    count: usize,
}

impl Figures {
    /// A figure drawn for both widths; empty when there is nothing to draw.
    pub(crate) fn both(
        &mut self,
        draw: impl Fn(&str, Width) -> Option<String>,
        title: &str,
        caption: &str,
    ) -> String {
        let number = self.count + 1;
        let drawings: Option<Vec<String>> = [Width::Wide, Width::Narrow]
            .into_iter()
            .map(|w| {
                let class = w.pick("wide", "narrow");
                Some(format!("<div class=\"{class}\">{}</div>", draw(&format!("f{number}{}", w.word()), w)?))
            })
            .collect();
        match drawings {
            Some(drawings) => self.wrap(&drawings.concat(), title, caption),
            None => String::new(),
        }
    }

    /// A small figure with one drawing.
    pub(crate) fn small(
        &mut self,
        draw: impl Fn(&str) -> Option<String>,
        title: &str,
        caption: &str,
    ) -> String {
        match draw(&format!("f{}", self.count + 1)) {
            Some(drawing) => self.wrap(&drawing, title, caption),
            None => String::new(),
        }
    }

    fn wrap(&mut self, drawing: &str, title: &str, caption: &str) -> String {
        self.count += 1;
        format!(
            "<figure>{drawing}<figcaption><b>Figure {}. {}</b> {}</figcaption></figure>\n",
            self.count,
            prose(title),
            prose(caption)
        )
    }
}

/// A titled part of the page; nothing when its body is empty.
pub(crate) fn section(id: &str, title: &str, body: &str) -> String {
    if body.trim().is_empty() {
        return String::new();
    }
    format!("<section id=\"{id}\"><h2>{}</h2>\n{body}</section>\n", prose(title))
}

/// The whole file around a style sheet and a body.
pub(crate) fn document(title: &str, sheet: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"generator\" content=\"isoflop\">\n<title>{}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n<script>\n{}</script>\n</body>\n</html>\n",
        escape(title),
        sheet,
        theme::SCRIPT
    )
}

/// Anchor of the section on what a study cost, which stands with the ledger and not with the findings.
const COST: &str = "cost";

/// The section on what a study cost, where there is one.
pub(crate) fn cost(figures: &mut Figures, section: Option<&Section>) -> String {
    findings::all(figures, section.map(std::slice::from_ref).unwrap_or_default())
}

/// The page of a study.
pub(crate) fn study(input: &ReportInput) -> String {
    let data = Data::of(&input.table());
    let laws = input.laws.as_ref();
    let verdicts = crate::claims::judge(input);
    let mut figures = Figures::default();
    let mut body = headline::study(input, &data, &verdicts);
    let (cost, found): (Vec<Section>, Vec<Section>) =
        input.sections.iter().cloned().partition(|section| section.id == COST);
    body.push_str(&findings::all(&mut figures, &found));
    body.push_str(&sections::size(&mut figures, &data, laws));
    body.push_str(&diagnosis::study(input));
    body.push_str(&sections::compute(&mut figures, &data, Some(input), laws));
    body.push_str(&sections::curves(&mut figures, input, &data));
    body.push_str(&sections::forecasts(&mut figures, input, &data));
    body.push_str(&sections::joint(&mut figures, &data, laws));
    body.push_str(&tables::completions(input, &data));
    body.push_str(&tables::claims(&verdicts));
    body.push_str(&sections::ledger(&mut figures, input, &data));
    body.push_str(&findings::all(&mut figures, &cost));
    body.push_str(&laws_table::laws(laws));
    body.push_str(&tables::runs(input, &data));
    body.push_str(&methods::study(input));
    document(&input.title, &theme::sheet(&data), &body)
}

/// The page of a table of points from anywhere.
pub(crate) fn table(source: &str, made_by: &str, table: &Table, laws: &LawDocument) -> String {
    let data = Data::of(table);
    let mut figures = Figures::default();
    let mut body = headline::table(source, made_by, &data, laws);
    body.push_str(&sections::size(&mut figures, &data, Some(laws)));
    body.push_str(&sections::compute(&mut figures, &data, None, Some(laws)));
    body.push_str(&sections::joint(&mut figures, &data, Some(laws)));
    body.push_str(&section(
        "forecast",
        "Do the smaller sizes foretell the larger?",
        &tables::foretold(Some(laws)),
    ));
    body.push_str(&laws_table::laws(Some(laws)));
    body.push_str(&tables::rows(&data));
    body.push_str(&methods::table(table, laws, made_by));
    document(&format!("Scaling laws of {source}"), &theme::sheet(&data), &body)
}
