//! The terminal's picture as text: runs with bars and remaining time, the curves in Braille, the machine, alarms.
//!
//! A function of what is seen, the time and the size, so that it is tested as text and printed once into a pipe as it
//! is drawn on a terminal. Colour only says again what words and marks say.

mod plot;

use crate::run::Run;
use crate::store::Seen;
use isoflop_base::units::{duration, percent, si};
use isoflop_base::{Point, Status};
use std::fmt::Write as _;

/// Seconds without a word after which a run that should be running is called silent.
const SILENT_S: f64 = 90.0;
/// Columns below which nothing is drawn any narrower.
const NARROWEST: usize = 40;
/// Cells of a run's bar, and of one on a narrow screen.
const BAR: usize = 12;
const NARROW_BAR: usize = 6;

/// How the picture is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Colours may be used beside words and marks.
    pub colour: bool,
    /// Braille and line drawing; plain ASCII otherwise.
    pub unicode: bool,
    /// Losses on a logarithmic axis.
    pub log: bool,
    /// Which of the runs is looked at, counted from the first of the list.
    pub chosen: Option<usize>,
}

/// Paint of a line's parts; with colour off it is nothing.
#[derive(Debug, Clone, Copy)]
enum Paint {
    Good,
    Bad,
    Faint,
    Strong,
}

impl Look {
    fn paint(self, paint: Paint, words: &str) -> String {
        if !self.colour || words.is_empty() {
            return words.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Faint => "2",
            Paint::Strong => "1",
        };
        format!("\u{1b}[{code}m{words}\u{1b}[0m")
    }

    fn bar(self) -> usize {
        if self.width < 60 { NARROW_BAR } else { BAR }
    }

    /// At most `width` characters of words, an ellipsis where some are missing.
    fn cut(self, words: &str, width: usize) -> String {
        if words.chars().count() <= width {
            return words.to_owned();
        }
        let mut cut: String = words.chars().take(width.saturating_sub(1)).collect();
        if width > 0 {
            cut.push(if self.unicode { '…' } else { '~' });
        }
        cut
    }
}

/// The picture: lines of at most the width, as many as the height at most.
pub fn frame(seen: &Seen, now: f64, look: Look) -> Vec<String> {
    let look = Look { width: look.width.max(NARROWEST), height: look.height.max(8), ..look };
    let mut out = vec![heading(seen, now, look)];
    let runs = ordered(seen);
    if runs.is_empty() {
        out.push(String::new());
        let why = seen.problem.clone().unwrap_or_else(|| "no run is in this store yet".to_owned());
        out.push(look.cut(&format!("waiting: {why}"), look.width));
        return plain(out, look);
    }
    let alarms = alarms(&runs, look);
    let machine = machine(&runs, look);
    // Curves take what the list leaves, and at least a third.
    let fixed = out.len() + alarms.len() + usize::from(machine.is_some());
    let waiting: usize = seen.studies().keys().map(|study| seen.planned_of(study).len()).sum();
    let wanted = 1 + runs.len() + usize::from(waiting > 0);
    let plot_rows = look.height.saturating_sub(fixed + wanted).max(look.height / 3).clamp(5, 24);
    let list_rows = look.height.saturating_sub(fixed + plot_rows).max(2);
    out.extend(list(&runs, waiting, list_rows, now, look));
    out.extend(machine);
    out.extend(plot::curves(&runs, plot_rows, look));
    out.extend(alarms);
    out.truncate(look.height);
    plain(out, look)
}

/// Running first, then by size.
fn ordered(seen: &Seen) -> Vec<&Run> {
    let mut runs: Vec<&Run> = seen.runs.values().collect();
    let size = |run: &Run| run.facts.as_ref().map_or(0, |facts| facts.spec.model.params());
    runs.sort_by(|a, b| (!a.is_live(), size(a), &a.id).cmp(&(!b.is_live(), size(b), &b.id)));
    runs
}

fn heading(seen: &Seen, now: f64, look: Look) -> String {
    let studies = seen.studies();
    let shares: Vec<f64> =
        studies.iter().filter_map(|(study, runs)| seen.progress(study, runs).share).collect();
    let eta: Option<f64> = studies
        .iter()
        .map(|(study, runs)| seen.progress(study, runs).eta_s)
        .reduce(|a, b| Some(a?.max(b?)))
        .flatten();
    let live = seen.runs.values().filter(|run| run.is_live()).count();
    let silent = seen.runs.values().filter(|run| run.is_live() && is_silent(run, now)).count();
    let newest = seen.runs.values().map(|run| run.updated_unix_s).fold(0.0, f64::max);
    let mut parts = Vec::new();
    parts.push(match () {
        () if live > 0 && live == silent => "stale".to_owned(),
        () if live > 0 => format!("{} running", live - silent),
        () if seen.runs.is_empty() => "waiting".to_owned(),
        () if seen.runs.values().all(|run| run.status == Status::Done) => "finished".to_owned(),
        () => "over".to_owned(),
    });
    if !shares.is_empty() && shares.len() == studies.len() {
        parts.push(format!("{:.0} %", (100.0 * shares.iter().sum::<f64>() / shares.len() as f64).floor()));
    }
    if let Some(eta) = eta.filter(|_| live > silent) {
        parts.push(format!("about {} left", duration(eta)));
    }
    if newest > 0.0 {
        // Whole seconds: a picture in which nothing else moved is not sent again and again.
        let ago = (now - newest).max(0.0).floor();
        let ago = if ago < 10.0 { format!("{ago}s") } else { duration(ago) };
        parts.push(format!("updated {ago} ago"));
    }
    let (read, of) = seen.read_so_far();
    if read < of {
        parts.push(format!("reading run {read} of {of}"));
    }
    let names: Vec<&str> = studies.keys().copied().filter(|name| !name.is_empty()).collect();
    let name = match names.as_slice() {
        [] => seen.root().display().to_string(),
        [one] => (*one).to_owned(),
        several => format!("{} studies", several.len()),
    };
    let rest = parts.join(" · ");
    let name = look.cut(&name, look.width.saturating_sub(rest.chars().count() + 2).max(8));
    let line = look.cut(&format!("{name}  {rest}"), look.width);
    look.paint(Paint::Strong, &line)
}

pub(crate) fn is_silent(run: &Run, now: f64) -> bool {
    now - run.updated_unix_s > SILENT_S
}

/// A line for each run: mark, name, bar, status, remaining time, loss, speed.
fn list(runs: &[&Run], waiting: usize, rows: usize, now: f64, look: Look) -> Vec<String> {
    // The right part is of one width; the name has the rest.
    let right = |status: &str, eta: &str, loss: &str, speed: &str| {
        let eta = if look.width >= 56 { format!(" {eta:>11}") } else { String::new() };
        let speed = if look.width >= 76 { format!(" {speed:>9}") } else { String::new() };
        format!("{status:<9}{eta} {loss:>7}{speed}")
    };
    let tail = right("", "", "", "").chars().count();
    let name_width = look.width.saturating_sub(tail + look.bar() + 10).clamp(6, 48);
    let bar_width = look.bar();
    let head =
        format!("   {:<name_width$} {:<bar_width$}      {}", "run", "", right("", "left", "loss", "per s"));
    let mut out = vec![look.paint(Paint::Faint, look.cut(&head, look.width).trim_end())];
    let lines = rows.saturating_sub(1 + usize::from(waiting > 0)).max(1);
    let several = runs.iter().any(|run| run.study() != runs[0].study());
    let more = runs.len() > lines;
    let chosen = look.chosen.map(|c| c.min(runs.len() - 1));
    // What is chosen stays in sight.
    let kept = lines - usize::from(more && lines > 1);
    let first = chosen.map_or(0, |c| (c + 1).saturating_sub(kept));
    for (index, run) in runs.iter().enumerate().skip(first).take(kept) {
        let share = run.steps().map(|(done, total)| done as f64 / total.max(1) as f64);
        let silent = run.is_live() && is_silent(run, now);
        let status = if silent { "silent" } else { run.status.word() };
        let eta = run.eta_s().filter(|_| !silent).map(duration).unwrap_or_default();
        let loss = match (run.is_live(), run.points.last()) {
            (false, Some(Point { loss, .. })) => format!("{loss:.4}"),
            _ => run.last.as_ref().map(|row| format!("{:.4}", row.train_loss)).unwrap_or_default(),
        };
        let speed = run.speed().map(si).unwrap_or_default().replace('\u{202f}', " ");
        let name = if several { run.id.as_str() } else { strip_study(run) };
        let percent = share.map(|s| format!("{:>3.0}%", (100.0 * s).floor())).unwrap_or_default();
        let mark = plot::mark(index, look);
        let pointer = if chosen == Some(index) { '>' } else { ' ' };
        let paint = match &run.status {
            Status::Done => Paint::Good,
            Status::Diverged { .. } | Status::Failed { .. } => Paint::Bad,
            _ if silent => Paint::Bad,
            _ => Paint::Strong,
        };
        let rest = right(status, &eta, &loss, &speed);
        let painted = rest.replacen(status, &look.paint(paint, status), 1);
        out.push(format!(
            "{pointer}{mark} {:<name_width$} {} {percent:>4} {painted}",
            look.cut(name, name_width),
            bar(share.unwrap_or(0.0), look),
        ));
    }
    if more {
        let left = runs.len() - kept;
        out.push(look.paint(Paint::Faint, &format!("   and {left} more")));
    }
    if waiting > 0 {
        out.push(look.paint(Paint::Faint, &format!("   {waiting} waiting to begin")));
    }
    out
}

/// A run's name without its study's.
pub(crate) fn strip_study(run: &Run) -> &str {
    run.id.strip_prefix(run.study()).and_then(|rest| rest.strip_prefix('-')).unwrap_or(&run.id)
}

fn bar(share: f64, look: Look) -> String {
    let width = look.bar();
    let inside = if look.unicode { width } else { width - 2 };
    let cells = share.clamp(0.0, 1.0) * inside as f64;
    let full = cells.floor() as usize;
    if !look.unicode {
        return format!("[{}{}]", "#".repeat(full), ".".repeat(inside - full));
    }
    let parts = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = ((cells - full as f64) * 8.0) as usize;
    let part = if full < inside && eighths > 0 { parts[eighths - 1].to_string() } else { String::new() };
    let empty = inside - full - usize::from(!part.is_empty());
    format!("{}{part}{}", "█".repeat(full), "·".repeat(empty))
}

/// Power, temperature, load of the newest sample; `None` if nothing was sampled.
fn machine(runs: &[&Run], look: Look) -> Option<String> {
    let newest = runs.iter().max_by(|a, b| a.updated_unix_s.total_cmp(&b.updated_unix_s))?;
    let last = |reading: usize| newest.machine[reading].dots().last().map(|dot| f64::from(dot.y));
    let mut parts = Vec::new();
    let mut say = |name: &str, value: Option<f64>, words: &dyn Fn(f64) -> String| {
        if let Some(value) = value {
            parts.push(format!("{name} {}", words(value)));
        }
    };
    say("power", last(0), &|w| format!("{w:.0} W"));
    say("temperature", last(1), &|c| format!("{c:.0} °C"));
    say("cards", last(5), &|w| format!("{w:.0} W"));
    say("cards", last(6), &|c| format!("{c:.0} °C"));
    say("processors", last(2), &percent);
    say("others", last(3), &percent);
    say("memory", last(4), &|b| isoflop_base::units::bytes(b as u64));
    let share = newest
        .speed()
        .zip(newest.flops_per_step())
        .zip(newest.peak_flops_per_s)
        .and_then(|((s, f), p)| Some(s * f / newest.facts.as_ref()?.spec.train.batch_tokens as f64 / p));
    say("of peak", share, &percent);
    if last(0).is_none() && last(5).is_none() {
        parts.push("power missing (isoflop doctor)".to_owned());
    }
    let words = parts.join("  ").replace('\u{202f}', " ");
    Some(look.cut(&words, look.width))
}

/// The newest three.
fn alarms(runs: &[&Run], look: Look) -> Vec<String> {
    let mut all: Vec<_> =
        runs.iter().flat_map(|run| run.alarms.iter().map(move |alarm| (*run, alarm))).collect();
    all.sort_by_key(|(_, alarm)| std::cmp::Reverse(alarm.unix_s));
    let words = all.iter().take(3).map(|(run, alarm)| {
        let step = alarm.step.map(|step| format!(" step {step}")).unwrap_or_default();
        let mut line = String::new();
        let _ = write!(line, "! {}: {}{step}: {}", alarm.alarm.word(), strip_study(run), alarm.words);
        look.paint(Paint::Bad, &look.cut(&line, look.width))
    });
    words.collect()
}

/// Without Unicode every other sign has a stand-in.
fn plain(lines: Vec<String>, look: Look) -> Vec<String> {
    let sign = |c: char| match c {
        '\u{202f}' => ' ',
        c if look.unicode || c.is_ascii() => c,
        '·' => '|',
        '°' => ' ',
        '–' | '−' => '-',
        '…' => '~',
        _ => '?',
    };
    lines.into_iter().map(|line| line.chars().map(sign).collect()).collect()
}

#[cfg(test)]
mod tests;
