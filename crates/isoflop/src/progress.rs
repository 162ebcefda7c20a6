//! What a person sees while runs train: a bar for the run and one for the series on a terminal that understands them,
//! plain lines elsewhere. All of it goes to stderr; no colour is used.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use isoflop_base::Point;
use isoflop_base::units::{duration, si};
use isoflop_lab::instruments::Voice;
use isoflop_lab::plan::{Plan, PlanRow};
use isoflop_lab::record::ExpectedRun;
use isoflop_lab::{Event, Recorder};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds between two plain lines.
const LINE_EVERY_S: f64 = 5.0;
/// Seconds over which a speed is measured.
const SPEED_WINDOW_S: f64 = 1.0;

/// The terminal as a listener: the progress of a series.
pub(crate) struct Terminal {
    mode: Mode,
    series: Series,
    current: Option<Current>,
}

enum Mode {
    Lines { last: Option<Instant> },
    Bars { all: MultiProgress, run: ProgressBar, series: ProgressBar },
}

struct Current {
    expected: ExpectedRun,
    steps: u64,
    done: u64,
    first: u64,
    segment: String,
    loss: f64,
    started: Instant,
    window: (Instant, u64),
    steps_per_s: Option<f64>,
}

/// Expected and real seconds, to foresee the rest.
#[derive(Debug, Default)]
struct Series {
    expected: Vec<ExpectedRun>,
    finished: Vec<String>,
    real_s: f64,
    expected_s: f64,
}

impl Recorder for Terminal {
    fn record(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match event {
            Event::Planned(plan) => {
                eprintln!("{}", plan.text());
                self.series.expected = expected(plan);
                if crate::console::has_a_cursor() {
                    self.mode = bars();
                }
            }
            Event::Expected(text, runs) => {
                eprintln!("{text}\n");
                self.series.expected.clone_from(runs);
                if crate::console::has_a_cursor() {
                    self.mode = bars();
                }
            }
            Event::RunBegins { run, steps, done } => self.start_run(run, *steps, *done),
            Event::Stepped { executed, segment, loss } => self.step(*executed, *loss, segment),
            Event::Evaluating => self.phase("evaluating"),
            Event::Point(_, point) => self.say(&point_line(point)),
            Event::RunEnds => self.finish_run(),
            Event::RunLeft(run) => self.skip_run(run),
            Event::Fitting => {
                self.close();
                eprintln!("fitting …");
            }
            Event::Note(words) => self.say(words),
            _ => {}
        }
        Ok(())
    }

    fn voice(&self) -> Voice {
        // Bars that are drawn are drawn again below the line.
        Arc::new(|words| eprintln!("{words}"))
    }
}

/// What is known of a plan's runs before they start.
fn expected(plan: &Plan) -> Vec<ExpectedRun> {
    let of = |row: &PlanRow| ExpectedRun {
        id: row.run.clone(),
        seconds: row.seconds.value().copied().unwrap_or(0.0),
        batch: row.batch_tokens,
        flops_each: row.flops / row.tokens_executed as f64,
        unit: "tokens",
    };
    plan.rows.iter().map(of).collect()
}

/// `demo-L2-d32-h2-s1  12.0 M tokens  loss 1.7500 ± 0.0300 nats/token`; images and queries where there is no context.
fn point_line(point: &Point) -> String {
    let (seen, judged) = if point.context.is_some() { ("tokens", "token") } else { ("images", "query") };
    let se = point.loss_se.map_or(String::new(), |se| format!(" ± {se:.4}"));
    format!("{}  {:>6} {seen}  loss {:.4}{se} nats/{judged}", point.run, si(point.tokens as f64), point.loss)
}

impl Terminal {
    /// Plain lines, until a plan is known and there is a terminal for bars.
    pub(crate) fn new() -> Self {
        Self { mode: Mode::Lines { last: None }, series: Series::default(), current: None }
    }

    /// A line that stays.
    fn say(&self, text: &str) {
        match &self.mode {
            Mode::Lines { .. } => eprintln!("{text}"),
            Mode::Bars { all, .. } => {
                // A terminal that went away is no reason to stop training.
                let _ = all.println(text);
            }
        }
    }

    /// A run begins, or goes on after `done` of its `steps`.
    fn start_run(&mut self, id: &str, steps: u64, done: u64) {
        let known = self.series.expected.iter().find(|e| e.id == id).cloned();
        let expected = known.unwrap_or(ExpectedRun {
            id: id.to_owned(),
            seconds: 0.0,
            batch: 0,
            flops_each: 0.0,
            unit: "tokens",
        });
        let now = Instant::now();
        self.current = Some(Current {
            expected,
            steps,
            done,
            first: done,
            segment: String::new(),
            loss: f64::NAN,
            started: now,
            window: (now, done),
            steps_per_s: None,
        });
        if let Mode::Bars { run, .. } = &self.mode {
            run.set_length(steps);
            run.set_position(done);
            run.set_prefix(id.to_owned());
        }
    }

    /// `done` steps of the current run are executed.
    fn step(&mut self, done: u64, loss: f64, segment: &str) {
        let Some(current) = &mut self.current else { return };
        current.done = done;
        current.loss = loss;
        if current.segment != segment {
            current.segment = segment.to_owned();
        }
        let (since, steps) = current.window;
        let elapsed = since.elapsed().as_secs_f64();
        if elapsed < SPEED_WINDOW_S && !(current.steps_per_s.is_none() && elapsed > 0.2) {
            return;
        }
        current.steps_per_s = Some((done - steps) as f64 / elapsed);
        current.window = (Instant::now(), done);
        self.draw();
    }

    /// What is being done besides training.
    fn phase(&self, what: &str) {
        if let Mode::Bars { run, .. } = &self.mode {
            run.set_message(format!("{what} …"));
        }
    }

    /// The current run is over.
    fn finish_run(&mut self) {
        let Some(current) = self.current.take() else { return };
        let share = (current.steps - current.first.min(current.steps)) as f64 / current.steps.max(1) as f64;
        self.series.real_s += current.started.elapsed().as_secs_f64();
        self.series.expected_s += current.expected.seconds * share;
        self.skip_run(&current.expected.id);
    }

    /// A run that needs no training counts as done.
    fn skip_run(&mut self, id: &str) {
        self.series.finished.push(id.to_owned());
        self.draw();
    }

    /// Takes the bars away.
    pub(crate) fn close(&mut self) {
        if let Mode::Bars { all, run, series } = &self.mode {
            run.finish_and_clear();
            series.finish_and_clear();
            let _ = all.clear();
        }
        self.mode = Mode::Lines { last: None };
    }

    fn draw(&mut self) {
        let remaining = self.series.remaining_s(self.current.as_ref());
        let status = self.current.as_ref().map(Current::status);
        match &mut self.mode {
            Mode::Lines { last } => {
                let due = last.is_none_or(|at| at.elapsed().as_secs_f64() >= LINE_EVERY_S);
                if let (true, Some(current), Some(status)) = (due, &self.current, status) {
                    *last = Some(Instant::now());
                    eprintln!(
                        "{}  step {}/{}  {status}  series {}",
                        current.expected.id,
                        current.done,
                        current.steps,
                        duration(remaining)
                    );
                }
            }
            Mode::Bars { run, series, .. } => {
                if let (Some(current), Some(status)) = (&self.current, status) {
                    run.set_position(current.done);
                    run.set_message(status);
                }
                series.set_length(self.series.expected.len() as u64);
                series.set_position(self.series.finished.len() as u64);
                series.set_message(format!("ETA {}", duration(remaining)));
            }
        }
    }
}

impl Current {
    fn status(&self) -> String {
        let segment = match self.segment.as_str() {
            "trunk" | "" => String::new(),
            tokens => {
                tokens.parse().map_or(String::new(), |t: f64| format!("branch {}  ", si(t).replace(' ', "")))
            }
        };
        let Some(rate) = self.steps_per_s else { return segment };
        let tokens = rate * self.expected.batch as f64;
        let left = (self.steps - self.done.min(self.steps)) as f64 / rate;
        format!(
            "{segment}loss {:.4}  {}{}/s  {:.1} GFLOP/s  ETA {}",
            self.loss,
            si(tokens),
            if self.expected.unit == "images" { "img" } else { "tok" },
            tokens * self.expected.flops_each / 1e9,
            duration(left)
        )
    }
}

impl Series {
    /// Seconds until the last run is done: what was expected, times how wrong that has been so far.
    fn remaining_s(&self, current: Option<&Current>) -> f64 {
        let (mut real, mut expected) = (self.real_s, self.expected_s);
        let mut left: f64 = self
            .expected
            .iter()
            .filter(|e| !self.finished.contains(&e.id) && current.is_none_or(|c| c.expected.id != e.id))
            .map(|e| e.seconds)
            .sum();
        if let Some(current) = current {
            let total = current.steps.max(1) as f64;
            real += current.started.elapsed().as_secs_f64();
            expected += current.expected.seconds * (current.done - current.first) as f64 / total;
            left += current.expected.seconds * (1.0 - current.done as f64 / total).max(0.0);
        }
        let correction = if expected > 1.0 { real / expected } else { 1.0 };
        left * correction
    }
}

fn bars() -> Mode {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4));
    let style = |template: &str| {
        ProgressStyle::with_template(template).expect("the template is ours").progress_chars("=> ")
    };
    let run = all.add(ProgressBar::new(0).with_style(style("{prefix} [{bar:16}] {pos}/{len}  {wide_msg}")));
    let series =
        all.add(ProgressBar::new(0).with_style(style("series [{bar:16}] {pos}/{len} runs  {wide_msg}")));
    run.enable_steady_tick(Duration::from_millis(500));
    Mode::Bars { all, run, series }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(id: &str, seconds: f64) -> ExpectedRun {
        ExpectedRun { id: id.to_owned(), seconds, batch: 16, flops_each: 6.0, unit: "tokens" }
    }

    #[test]
    fn the_rest_is_foreseen_from_how_wrong_expectations_were() {
        let series = Series {
            expected: vec![expected("a", 10.0), expected("b", 30.0), expected("c", 60.0)],
            finished: vec!["a".to_owned()],
            real_s: 20.0,
            expected_s: 10.0,
        };
        assert_eq!(series.remaining_s(None), 180.0);
    }
}
