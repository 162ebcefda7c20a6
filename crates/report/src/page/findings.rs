//! Sections that a kind of study has written.

use super::{Figures, section};
use crate::figures;
use crate::html::prose;
use crate::section::{Grid, Section};

/// All of them, in their order.
pub(super) fn all(numbers: &mut Figures, sections: &[Section]) -> String {
    sections.iter().map(|found| one(numbers, found)).collect()
}

fn one(numbers: &mut Figures, found: &Section) -> String {
    let mut body: String =
        found.paragraphs.iter().map(|words| format!("<p>{}</p>\n", prose(words))).collect();
    for chart in &found.charts {
        body += &numbers.both(|id, width| figures::chart(id, chart, width), &chart.title, &chart.caption);
    }
    body.extend(found.tables.iter().map(grid));
    section(&found.id, &found.title, &body)
}

fn grid(grid: &Grid) -> String {
    let class = |column: usize| if column == 0 { "" } else { " class=\"num\"" };
    let row = |cells: &[String], tag: &str| -> String {
        let cells = cells.iter().enumerate();
        let cells: String =
            cells.map(|(i, cell)| format!("<{tag}{}>{}</{tag}>", class(i), prose(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = grid.rows.iter().map(|cells| row(cells, "td")).collect();
    format!(
        "<h3>{}</h3><div class=\"scroll\"><table><thead>{}</thead><tbody>\n{rows}</tbody></table></div>\n",
        prose(&grid.caption),
        row(&grid.columns, "th")
    )
}
