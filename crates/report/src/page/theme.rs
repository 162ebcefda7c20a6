//! Colours of the page in light and dark, and the style sheet of a drawing that stands alone.

use crate::data::Data;
use crate::palette::{self, Ground};

const LIGHT: &str = "--paper:#fff;--ink:#1b1f24;--soft:#454c55;--muted:#676f79;--grid:#dfe3e8;--faint:#f1f3f5;--good:#13714f;--bad:#b03a12;--link:#20558a";
const DARK: &str = "--paper:#14171b;--ink:#eceff2;--soft:#c2c9d1;--muted:#98a1ab;--grid:#343b43;--faint:#1f242a;--good:#56c596;--bad:#f0875c;--link:#8fbcea";
const FIGURE_CSS: &str = include_str!("../figures/figure.css");
const PAGE_CSS: &str = include_str!("page.css");

/// The script; the page reads well without it.
pub(crate) const SCRIPT: &str = include_str!("page.js");

/// The page's style sheet.
pub(crate) fn sheet(data: &Data) -> String {
    format!("{}{FIGURE_CSS}{PAGE_CSS}", colours(data))
}

/// A style element for a drawing on its own, with its ground.
pub(crate) fn standalone(data: &Data) -> String {
    format!(
        "<style>{}{FIGURE_CSS}.ground{{fill:var(--paper)}}</style><rect class=\"ground\" width=\"100%\" \
         height=\"100%\"/>",
        colours(data)
    )
}

/// The style sheet of a page whose series have other colours than sizes and token counts.
pub(crate) fn sheet_with(series: impl Fn(Ground) -> String) -> String {
    format!("{}{FIGURE_CSS}{PAGE_CSS}", grounds(series))
}

fn colours(data: &Data) -> String {
    let (sizes, tokens) = data.colours();
    grounds(|ground| palette::css(sizes, tokens, ground, ""))
}

/// The colours of both grounds, with those of the series on each.
fn grounds(series: impl Fn(Ground) -> String) -> String {
    format!(
        ":root{{color-scheme:light dark;{LIGHT}}}{}@media(prefers-color-scheme:dark){{:root{{{DARK}}}{}}}\
         @media print{{:root{{{LIGHT}}}{}}}\n",
        series(Ground::Light),
        series(Ground::Dark),
        series(Ground::Light),
    )
}
