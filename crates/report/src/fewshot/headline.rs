//! The head of the page: who is best, by how much on identical episodes, and what that says of attention between
//! classes.

use super::FewShotInput;
use super::input::{DifferenceRow, ErrorLaw, Interval, MethodRow};
use super::methods::Methods;
use super::sweeps::axis_words;
use super::words::{and, grouped, percent, plural, plus_minus, shots, signed};
use crate::html::escape;
use crate::numbers::fixed;
use crate::page::tile;

/// Above this mean cosine prototypes are called nearly one.
pub(super) const NEARLY_ONE: f64 = 0.9;

/// The method with the highest accuracy at one number of shots, and its lead where it was measured.
struct Best<'a> {
    row: &'a MethodRow,
    lead: Option<Lead<'a>>,
}

/// A paired difference to another method, seen from the best.
struct Lead<'a> {
    over: &'a str,
    by: Interval,
}

impl Lead<'_> {
    fn is_clear(&self) -> bool {
        self.by.mean - self.by.wider() > 0.0
    }
}

/// The numbers of shots that were tested, ascending.
pub(super) fn tested_shots(input: &FewShotInput) -> Vec<usize> {
    let mut all: Vec<usize> = input.rows.iter().map(|row| row.shots).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn best(input: &FewShotInput, shots: usize) -> Option<Best<'_>> {
    let mut rows: Vec<&MethodRow> =
        input.rows.iter().filter(|row| row.shots == shots && row.accuracy.mean.is_finite()).collect();
    rows.sort_by(|a, b| b.accuracy.mean.total_cmp(&a.accuracy.mean));
    let row = *rows.first()?;
    let seen = |d: &DifferenceRow, sign: f64| Interval { mean: sign * d.difference.mean, ..d.difference };
    let leads = input
        .leads
        .iter()
        .chain(&input.differences)
        .filter(|d| d.shots == shots && d.difference.mean.is_finite());
    let leads = leads.filter_map(|d| {
        if d.method == row.method {
            Some(Lead { over: &d.against, by: seen(d, 1.0) })
        } else if d.against == row.method {
            Some(Lead { over: &d.method, by: seen(d, -1.0) })
        } else {
            None
        }
    });
    // The nearest rival that was compared.
    let lead = leads.min_by(|a, b| a.by.mean.total_cmp(&b.by.mean));
    Some(Best { row, lead })
}

/// Each best method with the numbers of shots at which it is, in the order of shots.
fn by_method<'a>(all: &[Best<'a>]) -> Vec<(&'a str, Vec<usize>)> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for best in all {
        match groups.iter_mut().find(|g| g.0 == best.row.method) {
            Some(group) => group.1.push(best.row.shots),
            None => groups.push((&best.row.method, vec![best.row.shots])),
        }
    }
    groups
}

fn at_shots(all: &[usize]) -> String {
    let numbers: Vec<String> = all.iter().map(usize::to_string).collect();
    let noun = if all == [1] { "shot" } else { "shots" };
    format!("at {} {noun}", and(&numbers))
}

/// The headline as markup.
fn sentence(all: &[Best<'_>]) -> String {
    let Some(last) = all.last() else { return "No method has been tested yet".to_owned() };
    let name = |name: &str| format!("<i>{}</i>", escape(name));
    let groups = by_method(all);
    let open: Vec<&Best<'_>> =
        all.iter().filter(|b| b.lead.as_ref().is_some_and(|lead| !lead.is_clear())).collect();
    if open.len() == all.len() {
        let over = open.iter().filter_map(|b| b.lead.as_ref()).map(|l| l.over).next_back().unwrap_or("");
        return format!(
            "No method is clearly best: {} and {} cannot be told apart {}",
            name(&last.row.method),
            name(over),
            at_shots(&all.iter().map(|b| b.row.shots).collect::<Vec<_>>())
        );
    }
    let parts: Vec<String> = groups
        .iter()
        .map(|(method, _)| {
            let of = |kind: fn(&Best<'_>) -> bool| -> Vec<usize> {
                let of = all.iter().filter(|b| b.row.method == *method && kind(b));
                of.map(|b| b.row.shots).collect()
            };
            let kinds = [
                (of(|b| b.lead.as_ref().is_some_and(Lead::is_clear)), "best", ""),
                (of(|b| b.lead.as_ref().is_some_and(|lead| !lead.is_clear())), "first but not clearly", ""),
                (of(|b| b.lead.is_none()), "first", ", without a paired comparison"),
            ];
            let words = kinds.into_iter().filter(|kind| !kind.0.is_empty());
            let words: Vec<String> =
                words.map(|(at, word, more)| format!("{word} {}{more}", at_shots(&at))).collect();
            format!("{} is {}", name(method), and(&words))
        })
        .collect();
    let lead = last.lead.as_ref().filter(|lead| lead.is_clear() && groups.len() == 1 && open.is_empty());
    let by = lead.map(|lead| {
        let at = if all.len() > 1 { format!(" {}", at_shots(&[last.row.shots])) } else { String::new() };
        format!(", {} points above {}{at}", fixed(100.0 * lead.by.mean, 1), name(lead.over))
    });
    format!("{}{}", and(&parts), by.unwrap_or_default())
}

/// Of a study of laws, those of its best method by which the error surely falls: at one number of shots, if these are
/// not varied themselves.
fn laws<'a>(input: &'a FewShotInput, methods: &Methods<'_>, all: &[Best<'_>]) -> Vec<&'a ErrorLaw> {
    let Some(best) = all.last() else { return Vec::new() };
    if input.rows.iter().any(|row| methods.attends(&row.method)) {
        return Vec::new();
    }
    let of_best = |law: &&ErrorLaw| {
        law.method == best.row.method
            && (law.shots == 0 || law.shots == best.row.shots)
            && law.exponent.as_ref().is_ok_and(|(_, least, _)| *least > 0.0)
    };
    input.laws.iter().filter(of_best).collect()
}

/// The headline of a study of laws, as markup.
fn law_sentence(laws: &[&ErrorLaw]) -> String {
    let power = |law: &&ErrorLaw| {
        let exponent = law.exponent.as_ref().map_or(f64::NAN, |e| e.0);
        format!("{}<sup>{}</sup>", escape(&axis_words(&law.axis).0), fixed(-exponent, 2))
    };
    format!("Errors fall as {}", and(&laws.iter().map(power).collect::<Vec<_>>()))
}

/// Whose laws these are, and which of them end.
fn law_words(laws: &[&ErrorLaw]) -> String {
    let Some(law) = laws.first() else { return String::new() };
    let bent: Vec<String> =
        laws.iter().filter(|law| law.bends()).map(|law| axis_words(&law.axis).0).collect();
    let bent = match bent.is_empty() {
        true => String::new(),
        false => format!(" With {} the fall slows at the end: those laws are not read further.", and(&bent)),
    };
    format!("Shares of wrong answers of {}, one thing varied at a time.{bent}", law.method)
}

/// One sentence for each number of shots.
fn details(input: &FewShotInput, all: &[Best<'_>]) -> String {
    let mut episodes = format!("the same {}", plural(input.test.episodes, "episode", "episodes"));
    let sentences = all.iter().map(|best| {
        let accuracy = &best.row.accuracy;
        let right = format!(
            "At {} {} is right on {}{}",
            shots(best.row.shots),
            best.row.method,
            percent(accuracy.mean, 1),
            plus_minus(accuracy.wider(), 1)
        );
        let Some(lead) = &best.lead else { return format!("{right}.") };
        let over = std::mem::replace(&mut episodes, "those episodes".to_owned());
        let by = format!("{}{} points", signed(lead.by.mean, 2), plus_minus(lead.by.wider(), 2));
        if lead.is_clear() {
            format!("{right}, {by} against {} on {over}.", lead.over)
        } else {
            format!("{right}; its {by} against {} on {over} cannot be told from none.", lead.over)
        }
    });
    sentences.collect::<Vec<String>>().join(" ")
}

/// The attention method with the largest difference to one without attention, at each number of shots.
fn gains<'a>(input: &'a FewShotInput, methods: &Methods<'_>) -> Vec<&'a DifferenceRow> {
    let pairs =
        input.differences.iter().filter(|d| methods.attends(&d.method) && !methods.attends(&d.against));
    let pairs: Vec<&DifferenceRow> = pairs.filter(|d| d.difference.mean.is_finite()).collect();
    let mut at: Vec<usize> = pairs.iter().map(|d| d.shots).collect();
    at.sort_unstable();
    at.dedup();
    let largest = |k: usize| {
        let of = pairs.iter().filter(|d| d.shots == k);
        of.max_by(|a, b| a.difference.mean.total_cmp(&b.difference.mean)).copied()
    };
    at.into_iter().filter_map(largest).collect()
}

/// `helps at 1 shot (feat against proto: +1.22 ± 0.62 points)`.
fn gain_words(best: &DifferenceRow) -> String {
    let (mean, half) = (best.difference.mean, best.difference.wider());
    let what = if mean - half > 0.0 {
        "helps"
    } else if mean + half < 0.0 {
        "hurts"
    } else {
        "makes no difference that can be told"
    };
    format!(
        "{what} {} ({} against {}: {}{} points)",
        at_shots(&[best.shots]),
        best.method,
        best.against,
        signed(mean, 2),
        plus_minus(half, 2)
    )
}

/// What the differences say of attention between classes.
fn attention(input: &FewShotInput, methods: &Methods<'_>) -> String {
    if !input.rows.iter().any(|row| methods.attends(&row.method)) {
        return String::new();
    }
    let gains: Vec<String> = gains(input, methods).into_iter().map(gain_words).collect();
    let mut words = if gains.is_empty() {
        "No method without attention was compared on the same episodes, so what attention between classes adds cannot \
         be read here."
            .to_owned()
    } else {
        format!("Attention between classes, in its best form, {}.", and(&gains))
    };
    if let Some(literal) = input.rows.iter().filter(|row| row.method == "ccd").max_by_key(|row| row.shots) {
        words += &format!(" {}", to_the_letter(input, literal));
    }
    words
}

/// What becomes of the module as the report writes it.
fn to_the_letter(input: &FewShotInput, row: &MethodRow) -> String {
    let difference = input.differences.iter().find(|d| d.method == "ccd" && d.shots == row.shots);
    let mut words = match difference {
        Some(d) => format!(
            "The module to the letter (ccd) stands at {}{} points to {}",
            signed(d.difference.mean, 1),
            plus_minus(d.difference.wider(), 1),
            d.against
        ),
        None => format!(
            "The module to the letter (ccd) is right on {}, where chance is {}",
            percent(row.accuracy.mean, 1),
            chance(input)
        ),
    };
    if let Some(g) = row.geometry.filter(|g| g.cosine_after >= NEARLY_ONE && g.cosine_after > g.cosine_before)
    {
        words += &format!(
            ": nothing of a class's own mean is kept, and its prototypes are nearly one (mean cosine {} after \
             attention, {} before)",
            fixed(g.cosine_after, 2),
            fixed(g.cosine_before, 2)
        );
    }
    words + "."
}

fn chance(input: &FewShotInput) -> String {
    percent(1.0 / input.test.ways as f64, 1)
}

fn tiles(input: &FewShotInput, methods: &Methods<'_>, all: &[Best<'_>]) -> String {
    let mut tiles = Vec::new();
    if let Some(best) = all.last() {
        let accuracy = &best.row.accuracy;
        let seeds = accuracy.seeds_half.filter(|half| half.is_finite());
        let seeds = seeds.map(|half| format!(",{} over seeds", plus_minus(half, 2)));
        let small = format!(
            "{},{} over episodes{}",
            best.row.method,
            plus_minus(accuracy.half, 2),
            seeds.unwrap_or_default()
        );
        let name = format!("best at {}", shots(best.row.shots));
        tiles.push(tile(&name, &escape(&percent(accuracy.mean, 1)), &escape(&small)));
    }
    if let Some(best) = gains(input, methods).pop() {
        let big = format!("{} points", signed(best.difference.mean, 1));
        let half = plus_minus(best.difference.wider(), 2);
        let small = format!("{} to {},{half}, {}", best.method, best.against, shots(best.shots));
        tiles.push(tile("what attention adds", &escape(&big), &escape(&small)));
    }
    if let Some(row) = input.rows.iter().filter(|row| row.method == "ccd").max_by_key(|row| row.shots) {
        let small = format!("{}; chance is {}", shots(row.shots), chance(input));
        tiles.push(tile("ccd to the letter", &escape(&percent(row.accuracy.mean, 1)), &escape(&small)));
    }
    tiles.push(tile("tested on", &test_words(input), &escape(&how_tested(input))));
    if tiles.len() < 4 && !input.claims.is_empty() {
        let of = |word: &str| input.claims.iter().filter(|c| c.verdict == word).count();
        let big = format!("{} of {} hold", of("holds"), input.claims.len());
        let small = format!("{} refuted, {} open", of("refuted"), of("open"));
        tiles.push(tile("claims", &big, &small));
    }
    tiles.concat()
}

fn test_words(input: &FewShotInput) -> String {
    escape(&format!("{} episodes", grouped(input.test.episodes)))
}

fn how_tested(input: &FewShotInput) -> String {
    let seeds = input.rows.iter().map(|row| row.seeds.len()).max().unwrap_or(0);
    format!(
        "{}-way, {} of each class, {}",
        input.test.ways,
        plural(input.test.queries as u64, "query", "queries"),
        plural(seeds as u64, "seed", "seeds")
    )
}

/// The head of the page.
pub(super) fn header(input: &FewShotInput, methods: &Methods<'_>) -> String {
    let all: Vec<Best<'_>> = tested_shots(input).into_iter().filter_map(|k| best(input, k)).collect();
    let name = if input.name.is_empty() { "few-shot study" } else { &input.name };
    let kicker: Vec<&str> = [name, &input.data.name, &input.backbone.name, &input.date]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let laws = laws(input, methods, &all);
    let paragraphs = [law_words(&laws), details(input, &all), attention(input, methods)];
    let paragraphs = paragraphs.iter().filter(|p| !p.is_empty());
    let paragraphs: String = paragraphs.map(|p| format!("<p class=\"dek\">{}</p>\n", escape(p))).collect();
    format!(
        "<header>\n<p class=\"kicker\">{}</p>\n<h1>{}</h1>\n{paragraphs}<div class=\"tiles\">{}</div>\n</header>\n",
        escape(&kicker.join(" · ")),
        if laws.is_empty() { sentence(&all) } else { law_sentence(&laws) },
        tiles(input, methods, &all)
    )
}
