//! What the three approaches say of where compute is best spent, as a section of the page.

use isoflop_base::units::si;
use isoflop_laws::LawDocument;
use isoflop_laws::document::Allocation;
use isoflop_report::{Grid, Section};

/// The section of an isoFLOP study.
pub(super) fn section(laws: &LawDocument) -> Section {
    let mut section = Section {
        id: "budget".to_owned(),
        title: "Where a budget is best spent".to_owned(),
        ..Section::default()
    };
    if laws.allocation.is_empty() {
        section.paragraphs.push(
            "Nothing can be said yet: an approach needs at least two budgets of three sizes each.".to_owned(),
        );
        return section;
    }
    section.paragraphs.push(answer(&laws.allocation));
    section.tables.push(Grid {
        caption: "N_opt = G·C^a by each approach, on the same runs".to_owned(),
        columns: ["approach", "a", "b = exponent of D", "budgets"].map(str::to_owned).to_vec(),
        rows: laws.allocation.iter().map(row).collect(),
    });
    section
}

fn answer(all: &[Allocation]) -> String {
    let words: Vec<String> = all.iter().map(|a| format!("{} by the {}", exponent(a), a.approach)).collect();
    format!("The best size grows as compute to the power a: {}.", words.join(", "))
}

fn exponent(a: &Allocation) -> String {
    match (a.a.lo, a.a.hi) {
        (Some(lo), Some(hi)) => format!("{:.2} ({lo:.2} to {hi:.2})", a.a.value),
        _ => format!("{:.2} (no interval)", a.a.value),
    }
}

fn row(a: &Allocation) -> Vec<String> {
    let budgets: Vec<String> = a.optima.iter().map(|o| format!("{}FLOP: N {}", si(o.c), si(o.n))).collect();
    vec![a.approach.clone(), exponent(a), format!("{:.2}", a.b), budgets.join("; ")]
}
