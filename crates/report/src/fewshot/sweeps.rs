//! Accuracy against what is varied besides the method, the noise of its gradient, and the power laws of the error.

use super::FewShotInput;
use super::input::{ErrorLaw, SweepRow};
use super::lines::{self, Axes, Facet, Point, Series};
use super::methods::Methods;
use super::words::{capital, percent, plus_minus, shots};
use crate::html::escape;
use crate::numbers::{self, NONE, fixed, interval, significant};
use crate::page::{Figures, section};

/// What an axis of a sweep is, and how it stands in a title.
pub(super) fn axis_words(axis: &str) -> (String, String) {
    let (short, long) = match axis {
        "classes" => ("base classes", "base classes in training"),
        "images" => ("images per class", "images of each base class"),
        "width" => ("backbone width", "channels of the backbone"),
        "per_step" => ("episodes per step", "episodes per training step"),
        "shots" => ("shots", "support images of a class"),
        other => (other, other),
    };
    (short.to_owned(), long.to_owned())
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// Values that span a factor of four or more are drawn on a log axis.
fn is_wide(values: impl Iterator<Item = f64>) -> bool {
    let ends = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    ends.0 > 0.0 && ends.1 >= 4.0 * ends.0
}

/// Rows of one axis as panels by shots; where the shots themselves are varied there is one panel.
fn facets<'a>(
    rows: &[&'a SweepRow],
    methods: &Methods<'_>,
    point: impl Fn(&SweepRow) -> Option<Point>,
) -> Vec<Facet<'a>> {
    let panel = |row: &SweepRow| if row.axis == "shots" { 0 } else { row.shots };
    let mut all = distinct(rows.iter().map(|row| panel(row)));
    all.sort_unstable();
    let series = |shots: usize, method: &'a str| {
        let of = rows.iter().filter(|row| panel(row) == shots && row.method == method);
        let mut points: Vec<Point> = of.filter_map(|row| point(row)).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Series { method, points, line: Vec::new(), note: String::new() }
    };
    let mut names = distinct(rows.iter().map(|row| row.method.as_str()));
    names.sort_by_key(|name| methods.place(name));
    all.into_iter()
        .map(|shots| Facet {
            shots,
            series: names.iter().map(|name| series(shots, name)).filter(|s| !s.points.is_empty()).collect(),
        })
        .filter(|facet| !facet.series.is_empty())
        .collect()
}

/// A figure for each axis, and the noise of the gradient where it was measured.
pub(super) fn accuracy(figures: &mut Figures, input: &FewShotInput, methods: &Methods<'_>) -> String {
    let mut body = String::new();
    for axis in distinct(input.sweeps.iter().map(|row| row.axis.as_str())) {
        let rows: Vec<&SweepRow> = input.sweeps.iter().filter(|row| row.axis == axis).collect();
        body += &accuracy_against(figures, axis, &rows, methods);
        body += &noise_against(figures, axis, &rows, methods);
    }
    section("sweeps", "What else accuracy depends on", &body)
}

fn accuracy_against(figures: &mut Figures, axis: &str, rows: &[&SweepRow], methods: &Methods<'_>) -> String {
    let (short, long) = axis_words(axis);
    let facets = facets(rows, methods, |row| {
        let tip = format!(
            "{}, {}, {} {}: {}{}",
            row.method,
            shots(row.shots),
            numbers::count(row.value),
            short,
            percent(row.accuracy.mean, 2),
            plus_minus(row.accuracy.wider(), 2)
        );
        let (y, half) = (100.0 * row.accuracy.mean, 100.0 * row.accuracy.wider());
        (row.value.is_finite() && y.is_finite()).then_some(Point { x: row.value, y, half, tip })
    });
    let axes = Axes {
        x_log: is_wide(rows.iter().map(|row| row.value)),
        y_log: false,
        x_title: long.clone(),
        y_title: "right answers, %".to_owned(),
    };
    let log = if axes.x_log { " The horizontal axis is logarithmic." } else { "" };
    figures.both(
        |id, width| lines::draw(id, &format!("Accuracy against {short}"), &facets, &axes, methods, width),
        &format!("Accuracy against {short}."),
        &format!("Bars: the wider of the intervals of 95 % over episodes and over seeds.{log}"),
    )
}

fn noise_against(figures: &mut Figures, axis: &str, rows: &[&SweepRow], methods: &Methods<'_>) -> String {
    let (short, long) = axis_words(axis);
    let facets = facets(rows, methods, |row| {
        let noise = row.noise.filter(|n| n.is_finite() && *n > 0.0)?;
        let tip = format!(
            "{}, {}, {} {}: noise {}",
            row.method,
            shots(row.shots),
            numbers::count(row.value),
            short,
            significant(noise, 3)
        );
        Some(Point { x: row.value, y: noise, half: f64::NAN, tip })
    });
    let points = || facets.iter().flat_map(|f| &f.series).flat_map(|s| &s.points);
    let axes = Axes {
        x_log: is_wide(points().map(|p| p.x)),
        y_log: is_wide(points().map(|p| p.y)),
        x_title: long,
        y_title: "gradient noise of an episode, tr Σ / |G|²".to_owned(),
    };
    figures.both(
        |id, width| {
            lines::draw(id, &format!("Gradient noise against {short}"), &facets, &axes, methods, width)
        },
        &format!("Noise of the gradient against {short}."),
        "The variance of one episode’s gradient over the squared mean gradient, from pairs of norms in the \
         later half of \
         training: about the number of episodes at which a larger step stops paying. A noisier method needs \
         more episodes a \
         step.",
    )
}

/// The power laws on log-log axes, and their exponents as a table.
pub(super) fn laws(figures: &mut Figures, input: &FewShotInput, methods: &Methods<'_>) -> String {
    let mut body = String::new();
    for axis in distinct(input.laws.iter().map(|law| law.axis.as_str())) {
        let laws: Vec<&ErrorLaw> = input.laws.iter().filter(|law| law.axis == axis).collect();
        let (short, long) = axis_words(axis);
        let facets = law_facets(&laws, methods, &short);
        let y_title = "share of wrong answers".to_owned();
        let axes = Axes { x_log: true, y_log: true, x_title: long, y_title };
        body += &figures.both(
            |id, width| lines::draw(id, &format!("Error against {short}"), &facets, &axes, methods, width),
            &format!("Error against {short}, on log-log axes."),
            "Lines: fitted power laws; in the corner their exponents with intervals of 95 %. A straight line is \
             a pure power law. Bars: intervals of 95 %.",
        );
    }
    if input.laws.is_empty() {
        return body;
    }
    let rows: String = input.laws.iter().map(|law| law_row(law, methods)).collect();
    body += &format!(
        "<div class=\"scroll\"><table class=\"sortable\"><thead><tr><th>method</th><th>error against</th>\
         <th class=\"num\">shots</th><th class=\"num\">points</th><th class=\"num\">exponent</th>\
         <th class=\"num\">95\u{202f}% interval</th><th class=\"num\">last step</th><th class=\"num\">floor</th><th class=\"num\">tenfold leaves</th>\
         <th class=\"num\">accuracy then</th></tr></thead><tbody>\n\
         {rows}</tbody></table></div>\n<p class=\"note\">error = floor + (scale / x)<sup>exponent</sup>, accuracy is the \
         rest; a floor is there only where Akaike’s criterion asks for one. The last step is the exponent between the two largest values \
         alone; where its interval lies below that of the law the error bends away from it, and the law is not read further. Ten times the most that was tried leaves this share of \
         the error above its floor; the accuracy then is the law read where nothing was measured: a forecast, not a result.</p>\n"
    );
    section("laws", "How the error falls", &body)
}

fn law_facets<'a>(laws: &[&'a ErrorLaw], methods: &Methods<'_>, short: &str) -> Vec<Facet<'a>> {
    let panel = |law: &ErrorLaw| if law.axis == "shots" { 0 } else { law.shots };
    let mut all = distinct(laws.iter().map(|law| panel(law)));
    all.sort_unstable();
    let series = |law: &&'a ErrorLaw| {
        let point = |&(x, y, half): &(f64, f64, f64)| {
            let error = format!("{}{}", percent(y, 2), plus_minus(half, 2));
            let tip = format!("{}, {} {short}: {error} wrong", law.method, numbers::count(x));
            Point { x, y, half, tip }
        };
        let drawable = |p: &&(f64, f64, f64)| p.0.is_finite() && p.0 > 0.0 && p.1.is_finite() && p.1 > 0.0;
        let points: Vec<Point> = law.points.iter().filter(drawable).map(point).collect();
        let exponent = law.exponent.as_ref().ok().filter(|e| e.0.is_finite());
        let note =
            exponent.map(|e| format!("{} ({})", fixed(e.0, 2), interval(e.1, e.2, 2))).unwrap_or_default();
        Series { method: law.method.as_str(), line: corners(law), points, note }
    };
    let of = |shots: usize| {
        let mut found: Vec<&&ErrorLaw> = laws.iter().filter(|law| panel(law) == shots).collect();
        found.sort_by_key(|law| methods.place(&law.method));
        found.into_iter().map(series).filter(|s| !s.points.is_empty()).collect()
    };
    let facets = all.iter().map(|shots| Facet { shots: *shots, series: of(*shots) });
    facets.filter(|facet| !facet.series.is_empty()).collect()
}

/// The fitted law between the first and the last point.
fn corners(law: &ErrorLaw) -> Vec<(f64, f64)> {
    let Ok((exponent, ..)) = law.exponent else { return Vec::new() };
    let xs = || law.points.iter().map(|p| p.0).filter(|x| x.is_finite() && *x > 0.0);
    let (lo, hi) = xs().fold((f64::INFINITY, 0.0f64), |(a, b), x| (a.min(x), b.max(x)));
    if lo >= hi || !law.scale.is_finite() || law.scale <= 0.0 {
        return Vec::new();
    }
    let floor = if law.floor.is_finite() { law.floor } else { 0.0 };
    (0..=32)
        .map(|i| lo * (hi / lo).powf(f64::from(i) / 32.0))
        .map(|x| (x, floor + (law.scale / x).powf(exponent)))
        .filter(|(_, y)| y.is_finite() && *y > 0.0)
        .collect()
}

fn law_row(law: &ErrorLaw, methods: &Methods<'_>) -> String {
    let (short, _) = axis_words(&law.axis);
    let figures = match &law.exponent {
        Ok((value, lo, hi)) => format!(
            "<td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
             <td class=\"num\">{}</td><td class=\"num\">{}</td>",
            escape(&fixed(*value, 3)),
            escape(&interval(*lo, *hi, 3)),
            escape(&last_step(law)),
            if law.floor > 0.0 { escape(&percent(law.floor, 1)) } else { NONE.to_owned() },
            if law.bends() { NONE.to_owned() } else { escape(&percent(10f64.powf(-value), 0)) },
            tenfold(law, *value).map_or_else(|| NONE.to_owned(), |accuracy| escape(&percent(accuracy, 1)))
        ),
        Err(why) => {
            format!("<td colspan=\"6\"><span class=\"missing\">{}</span></td>", escape(&capital(why)))
        }
    };
    format!(
        "<tr><td>{}</td><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>{figures}</tr>\n",
        methods.named(&law.method),
        escape(&short),
        if law.shots == 0 { NONE.to_owned() } else { law.shots.to_string() },
        law.points.len()
    )
}

/// `0.105, bends`.
fn last_step(law: &ErrorLaw) -> String {
    match law.last_step() {
        Some((exponent, ..)) => format!("{}{}", fixed(exponent, 3), if law.bends() { ", bends" } else { "" }),
        None => NONE.to_owned(),
    }
}

/// Where a law can be read on: the accuracy that it has for ten times the largest value it was fitted to.
fn tenfold(law: &ErrorLaw, exponent: f64) -> Option<f64> {
    let most = law.points.iter().map(|p| p.0).filter(|x| x.is_finite()).fold(0.0, f64::max);
    let error = law.floor.max(0.0) + (law.scale / (10.0 * most)).powf(exponent);
    (most > 0.0 && !law.bends() && (0.0..=1.0).contains(&error)).then_some(1.0 - error)
}
