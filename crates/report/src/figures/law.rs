//! Loss against size at each token count (or against tokens at each size) on log-log axes, with the fitted lines, their
//! bands, and the deviations from the straight line underneath.

use crate::data::{Data, Obs, fits, law_at, same};
use crate::numbers;
use crate::plot::{Panel, Width, spread_labels};
use crate::scale::{Axis, Spread, Style};
use crate::svg::{Anchor, Svg};
use isoflop_laws::{FitRecord, LawDocument, ParamEstimate};

/// Which variable the loss is drawn against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// L(N) at each D.
    Params,
    /// L(D) at each N.
    Tokens,
}

/// One line of the figure: the points at one level of the other variable, with their fits.
struct Group<'a> {
    level: f64,
    class: String,
    mark: usize,
    obs: Vec<&'a Obs>,
    pure: Option<&'a FitRecord>,
    bent: Option<&'a FitRecord>,
}

impl Against {
    fn form(self) -> &'static str {
        match self {
            Self::Params => "l_n",
            Self::Tokens => "l_d",
        }
    }

    /// The fitted exponent, by whichever of its usual names the form uses.
    fn slope(self, fit: &FitRecord) -> Option<&ParamEstimate> {
        ["alpha", "beta"].iter().find_map(|name| fit.params.get(name))
    }

    fn x(self, o: &Obs) -> Option<f64> {
        match self {
            Self::Params => o.n,
            Self::Tokens => o.d,
        }
    }

    fn other(self, o: &Obs) -> Option<f64> {
        match self {
            Self::Params => o.d,
            Self::Tokens => o.n,
        }
    }

    /// The fitted law at `x` of a line at `level`.
    fn law(self, fit: &FitRecord, x: f64, level: f64) -> Option<(f64, Option<(f64, f64)>)> {
        match self {
            Self::Params => law_at(fit, Some(x), Some(level), None),
            Self::Tokens => law_at(fit, Some(level), Some(x), None),
        }
    }

    fn level_of(self, fit: &FitRecord) -> Option<f64> {
        let key = match self {
            Self::Params => ["tokens", "d"],
            Self::Tokens => ["params", "n"],
        };
        key.iter().find_map(|k| fit.condition.get(*k)).copied()
    }
}

fn groups<'a>(data: &'a Data, laws: Option<&'a LawDocument>, against: Against) -> Vec<Group<'a>> {
    let levels = match against {
        Against::Params => &data.tokens,
        Against::Tokens => &data.sizes,
    };
    let find = |variant: &'static str, level: f64| {
        fits(laws, against.form(), variant).find(|f| {
            against.level_of(f).is_some_and(|l| same(l, level))
                || (f.condition.is_empty() && levels.len() == 1)
        })
    };
    levels
        .iter()
        .enumerate()
        .map(|(i, level)| Group {
            level: *level,
            class: match against {
                Against::Params => data.token_class(Some(*level)),
                Against::Tokens => data.size_class(Some(*level)),
            },
            mark: if against == Against::Params { i } else { 0 },
            obs: data
                .obs
                .iter()
                .filter(|o| against.other(o).is_some_and(|v| same(v, *level)) && against.x(o).is_some())
                .collect(),
            pure: find("pure", *level),
            bent: find("irreducible", *level),
        })
        .filter(|g| g.obs.len() >= 2)
        .collect()
}

/// The figure, or `None` without at least two points on one line.
pub(crate) fn law(
    id: &str,
    data: &Data,
    laws: Option<&LawDocument>,
    against: Against,
    width: Width,
    sheet: &str,
) -> Option<String> {
    let groups = groups(data, laws, against);
    if groups.is_empty() || groups.len() > 12 {
        return None;
    }
    let deviations: Vec<(usize, f64, f64, &Obs)> = groups
        .iter()
        .enumerate()
        .flat_map(|(i, g)| {
            g.obs.iter().filter_map(move |o| {
                let x = against.x(o)?;
                let (line, _) = against.law(g.pure?, x, g.level)?;
                Some((i, x, o.loss / line - 1.0, *o))
            })
        })
        .collect();
    let residual_height = if deviations.is_empty() { 0.0 } else { width.pick(96.0, 84.0) };
    let main_height = width.pick(400.0, 330.0);
    let gap = if residual_height > 0.0 { 40.0 } else { 0.0 };
    let (left, top) = (52.0, 34.0);
    let bottom = top + main_height;
    let height = bottom + gap + residual_height + 44.0;
    let right =
        width.px() - width.pick(176.0, if in_corner(against, groups.len(), width) { 10.0 } else { 62.0 });

    let xs = || groups.iter().flat_map(|g| g.obs.iter().filter_map(|o| against.x(o)));
    let losses = groups.iter().flat_map(|g| {
        g.obs.iter().flat_map(|o| [o.loss - 1.96 * o.se.unwrap_or(0.0), o.loss + 1.96 * o.se.unwrap_or(0.0)])
    });
    let x = Axis::over(xs(), Spread::Log, Style::Count, 0.06)?;
    let y = Axis::over(losses, Spread::Log, Style::Plain, 0.06)?;
    let panel = Panel::new(x.clone(), y, left, right, top, bottom);

    let (what, at) = match against {
        Against::Params => ("parameters N, without embeddings", "tokens D"),
        Against::Tokens => ("training tokens D", "parameters N"),
    };
    let mut svg = Svg::new(
        id,
        width.px(),
        height,
        &format!("Validation loss against {what}"),
        &describe(&groups, against, at),
    );
    svg.raw(sheet);
    panel.frame(&mut svg, width.pick(6, 3), 7, residual_height == 0.0);
    panel.titles(
        &mut svg,
        if residual_height == 0.0 { what } else { "" },
        &format!("validation loss, {}", data.loss_unit),
    );
    for g in &groups {
        draw_group(&mut svg, &panel, data, against, g);
    }
    label_groups(&mut svg, &panel, against, &groups, width);
    if residual_height > 0.0 {
        let lower = (bottom + gap, bottom + gap + residual_height);
        residual_panel(&mut svg, x, (left, right), lower, &groups, &deviations, width, what);
    }
    Some(svg.finish())
}

fn describe(groups: &[Group<'_>], against: Against, at: &str) -> String {
    groups
        .iter()
        .map(|g| {
            let slope = g.pure.and_then(|f| against.slope(f));
            let slope = slope
                .map(|p| format!(", fitted exponent {}", numbers::fixed(p.value, 4)))
                .unwrap_or_default();
            format!("At {at} = {}: {} points{slope}.", numbers::count(g.level), g.obs.len())
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn draw_group(svg: &mut Svg, panel: &Panel, data: &Data, against: Against, g: &Group<'_>) {
    svg.group_of(&format!("series {}", g.class), &g.class, "");
    let samples = panel.x.samples(49);
    if let Some(fit) = g.pure {
        let (mut lower, mut upper, mut line) = (Vec::new(), Vec::new(), Vec::new());
        for x in &samples {
            let Some((value, band)) = against.law(fit, *x, g.level) else { continue };
            line.push(panel.at(*x, value).filter(|_| panel.y.holds(value)));
            // Lines through three points have bands that would hide each other; their exponents' intervals are in
            // words.
            let band = band.filter(|_| against == Against::Params);
            if let (Some((lo, hi)), Some(px)) = (band, panel.x.at(*x))
                && let (Some(a), Some(b)) = (panel.y.clamped(lo), panel.y.clamped(hi))
            {
                lower.push((px, a));
                upper.push((px, b));
            }
        }
        svg.band("band", &lower, &upper);
        svg.path("fit", line);
    }
    if let Some(fit) = g.bent {
        let line = samples.iter().map(|x| {
            let (value, _) = against.law(fit, *x, g.level)?;
            panel.inside(*x, value)
        });
        svg.path("fit bent", line);
    }
    for o in &g.obs {
        let Some((px, py)) = against.x(o).and_then(|x| panel.at(x, o.loss)) else { continue };
        if let Some(se) = o.se
            && let (Some(a), Some(b)) =
                (panel.y.clamped(o.loss - 1.96 * se), panel.y.clamped(o.loss + 1.96 * se))
        {
            svg.line("whisker", px, a, px, b);
        }
        svg.mark(g.mark, "dot", px, py, 4.6, &data.tip(o));
    }
    svg.end();
}

/// Names each line at its right end. A narrow drawing has no room there for exponents: a few lines are named in the
/// upper right corner, which is empty where losses fall to the right; many get only their number at the end.
fn label_groups(svg: &mut Svg, panel: &Panel, against: Against, groups: &[Group<'_>], width: Width) {
    let letter = if against == Against::Params { 'D' } else { 'N' };
    let symbol = if against == Against::Params { 'α' } else { 'β' };
    let name = |g: &Group<'_>| format!("{letter} = {}", numbers::count(g.level));
    fn slope<'a>(against: Against, g: &Group<'a>) -> Option<&'a ParamEstimate> {
        g.pure.and_then(|f| against.slope(f))
    }
    let slope = |g| slope(against, g);
    if in_corner(against, groups.len(), width) {
        for (i, g) in groups.iter().enumerate() {
            let exponent = slope(g).map(|p| format!(", {symbol} = {}", numbers::fixed(p.value, 3)));
            let y = panel.top + 18.0 + 18.0 * i as f64;
            svg.group_of(&format!("series {}", g.class), &g.class, "");
            svg.mark(g.mark, "dot", panel.right - 8.0, y - 4.5, 4.2, "");
            let text = format!("{}{}", name(g), exponent.unwrap_or_default());
            svg.text("label halo", Anchor::End, panel.right - 18.0, y, &text);
            svg.end();
        }
        return;
    }
    let wanted: Vec<f64> = groups
        .iter()
        .map(|g| {
            let end = g.pure.and_then(|f| against.law(f, panel.x.hi, g.level)).map(|(v, _)| v);
            let last = g
                .obs
                .iter()
                .max_by(|a, b| against.x(a).unwrap_or(0.0).total_cmp(&against.x(b).unwrap_or(0.0)));
            let value = end.or(last.map(|o| o.loss)).unwrap_or(panel.y.lo);
            panel.y.clamped(value).unwrap_or(panel.bottom)
        })
        .collect();
    let wide = width == Width::Wide;
    let gap = if wide && groups.iter().any(|g| slope(g).is_some()) { 36.0 } else { 17.0 };
    let placed = spread_labels(&wanted, gap, panel.top + 4.0, panel.bottom - 8.0);
    for ((g, y), wanted) in groups.iter().zip(placed).zip(wanted) {
        svg.group_of(&format!("series {}", g.class), &g.class, "");
        svg.line("leader", panel.right + 2.0, wanted, panel.right + 9.0, y - 1.0);
        let text = if wide { name(g) } else { numbers::count(g.level) };
        svg.text("label", Anchor::Start, panel.right + 12.0, y + 3.0, &text);
        if let Some(p) = slope(g).filter(|_| wide) {
            let ends =
                p.lo.zip(p.hi)
                    .map(|(lo, hi)| format!(" [{}, {}]", numbers::fixed(lo, 3), numbers::fixed(hi, 3)));
            let text = format!("{symbol} = {}{}", numbers::fixed(p.value, 3), ends.unwrap_or_default());
            svg.text("sublabel", Anchor::Start, panel.right + 12.0, y + 17.0, &text);
        }
        svg.end();
    }
}

/// Whether the lines are named in the corner.
fn in_corner(against: Against, num_groups: usize, width: Width) -> bool {
    width == Width::Narrow && against == Against::Params && num_groups <= 4
}

fn residual_panel(
    svg: &mut Svg,
    x: Axis,
    (left, right): (f64, f64),
    (top, bottom): (f64, f64),
    groups: &[Group<'_>],
    deviations: &[(usize, f64, f64, &Obs)],
    width: Width,
    what: &str,
) {
    let reach = deviations.iter().map(|d| d.2.abs()).filter(|v| v.is_finite()).fold(0.012, f64::max);
    let Some(y) = Axis::over([-reach, reach], Spread::Linear, Style::Percent, 0.08) else { return };
    let panel = Panel::new(x, y, left, right, top, bottom);
    if let (Some(a), Some(b)) = (panel.y.at(0.01), panel.y.at(-0.01)) {
        svg.rect("tolerance", left, a, right - left, b - a);
    }
    panel.frame(svg, width.pick(6, 3), 4, true);
    if let Some(zero) = panel.y.at(0.0) {
        svg.line("zero", left, zero, right, zero);
    }
    panel.titles(svg, what, "deviation from the straight line (shaded: ±1 %)");
    for (index, g) in groups.iter().enumerate() {
        svg.group_of(&format!("series {}", g.class), &g.class, "");
        let mut own: Vec<_> = deviations.iter().filter(|d| d.0 == index).collect();
        own.sort_by(|a, b| a.1.total_cmp(&b.1));
        svg.path("thread", own.iter().map(|d| panel.at(d.1, d.2)));
        for d in own {
            if let Some((px, py)) = panel.at(d.1, d.2) {
                let tip = format!("{}: {}", d.3.run, numbers::signed_percent(d.2, 2));
                svg.mark(g.mark, "dot", px, py, 3.4, &tip);
            }
        }
        svg.end();
    }
}
