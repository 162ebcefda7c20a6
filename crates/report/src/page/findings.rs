//! Sections that a kind of study has written.

use super::section;
use crate::html::escape;
use crate::section::{Grid, Section};

/// All of them, in their order.
pub(super) fn all(sections: &[Section]) -> String {
    sections.iter().map(one).collect()
}

fn one(found: &Section) -> String {
    let words = found.paragraphs.iter().map(|words| format!("<p>{}</p>\n", escape(words)));
    let body: String = words.chain(found.tables.iter().map(grid)).collect();
    section(&found.id, &found.title, &body)
}

fn grid(grid: &Grid) -> String {
    let class = |column: usize| if column == 0 { "" } else { " class=\"num\"" };
    let row = |cells: &[String], tag: &str| -> String {
        let cells = cells.iter().enumerate();
        let cells: String =
            cells.map(|(i, cell)| format!("<{tag}{}>{}</{tag}>", class(i), escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = grid.rows.iter().map(|cells| row(cells, "td")).collect();
    format!(
        "<table><caption>{}</caption><thead>{}</thead><tbody>\n{rows}</tbody></table>\n",
        escape(&grid.caption),
        row(&grid.columns, "th")
    )
}
