//! One run as it is seen from outside: what it is, how far it is, its curves, its machine, its alarms.

use crate::line::{Dot, Line};
use isoflop_base::instruments::Alarm;
use isoflop_base::study::{ModelSpec, RunSpec};
use isoflop_base::{Cost, CurveRow, Point, RunDocument, Status};
use isoflop_lab::environment::Environment;
use isoflop_lab::gpt;
use isoflop_lab::train::program::Program;
use isoflop_meter::Sample;
use isoflop_store::{RunView, SideLog, Tail};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is drawn of a training curve, by the names the page asks for it.
pub(crate) const METRICS: [&str; 6] = ["train", "val", "lr", "grad", "speed", "wait"];
/// What is drawn of the machine.
pub(crate) const READINGS: [&str; 9] =
    ["watts", "celsius", "own", "others", "resident", "gpu_watts", "gpu_celsius", "gpu_busy", "gpu_memory"];
/// Rows over whose speeds the remaining time is foreseen.
const SPEED_ROWS: usize = 12;
/// Alarms of a run that are shown at most, the newest.
const MOST_ALARMS: usize = 200;
/// A longer time between two samples is a pause.
const PAUSE_S: f64 = 120.0;
/// Bytes of a log of the instruments, or of points, read at once.
const SMALL_LOGS: u64 = 4 << 20;

/// What a run is, from its specification.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) study: String,
    pub(crate) spec: RunSpec,
    pub(crate) program: Program,
}

/// A stretch of a run: its trunk, or a branch by its tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    pub(crate) name: String,
    /// The step it begins at: a branch's fork.
    pub(crate) from: u64,
    pub(crate) lines: [Line; METRICS.len()],
    /// Tokens and seconds at its last row.
    tokens: f64,
    seconds: f64,
}

/// A row that is new since the page last heard of the run: its segment, and a value per metric where there is one.
#[derive(Debug, Clone)]
pub(crate) struct FreshRow {
    pub(crate) segment: usize,
    pub(crate) step: f64,
    pub(crate) seconds: f64,
    pub(crate) values: [Option<f64>; METRICS.len()],
}

/// A sample that is new since the page last heard of the run.
#[derive(Debug, Clone)]
pub(crate) struct FreshSample {
    pub(crate) unix_s: f64,
    /// Nothing joins it to the one before: another process took it, or time passed unseen.
    pub(crate) apart: bool,
    pub(crate) values: [Option<f64>; READINGS.len()],
}

/// A run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: String,
    /// `None` if it was written by hand or by another version.
    pub(crate) facts: Option<Facts>,
    pub(crate) status: Status,
    pub(crate) cost: Option<Cost>,
    pub(crate) updated_unix_s: f64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) rows: u64,
    pub(crate) last: Option<CurveRow>,
    pub(crate) points: Vec<Point>,
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) machine: [Line; READINGS.len()],
    pub(crate) peak_flops_per_s: Option<f64>,
    /// What could not be read.
    pub(crate) problem: Option<String>,
    /// New since the page last heard.
    pub(crate) fresh: Fresh,
    /// Its curve was read to the end at least once.
    pub(crate) read: bool,
    speeds: VecDeque<f64>,
    /// When the last sample was taken, and when its sampler began.
    last_sample: Option<(f64, f64)>,
    /// Length and time of its specification when it was read.
    spec_seen: Option<(u64, SystemTime)>,
    tails: Tails,
}

#[derive(Debug)]
struct Tails {
    view: RunView,
    curves: Tail<CurveRow>,
    points: Tail<Point>,
    machine: Tail<Sample>,
    alarms: Tail<Alarm>,
    environment: Tail<Environment>,
}

/// What the page has not heard yet.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// Something of the summary changed.
    pub(crate) changed: bool,
    /// All lines are to be sent anew.
    pub(crate) reset: bool,
    pub(crate) rows: Vec<FreshRow>,
    pub(crate) samples: Vec<FreshSample>,
    pub(crate) alarms: Vec<Alarm>,
}

impl Run {
    pub(crate) fn open(view: RunView) -> Self {
        let tails = Tails {
            curves: view.follow_curves(),
            points: view.follow_points(),
            machine: view.follow_side(SideLog::Machine),
            alarms: view.follow_side(SideLog::Alarms),
            environment: view.follow_side(SideLog::Environment),
            view,
        };
        let mut run = Self {
            id: tails.view.id().to_owned(),
            facts: facts(&tails.view),
            status: Status::Running,
            cost: None,
            updated_unix_s: 0.0,
            segments: Vec::new(),
            rows: 0,
            last: None,
            points: Vec::new(),
            alarms: Vec::new(),
            machine: Default::default(),
            peak_flops_per_s: None,
            problem: None,
            fresh: Fresh { changed: true, ..Fresh::default() },
            read: false,
            speeds: VecDeque::new(),
            last_sample: None,
            spec_seen: tails.view.spec_stamp(),
            tails,
        };
        run.read_state();
        run
    }

    /// Whether its specification was written anew: then it is to be opened again.
    pub(crate) fn is_other(&self) -> bool {
        self.tails.view.spec_stamp() != self.spec_seen
    }

    /// Reads all but its curve.
    pub(crate) fn read_state(&mut self) {
        let mut problem = None;
        match (self.tails.view.status(), self.tails.view.cost()) {
            (Ok(status), Ok(cost)) => {
                self.fresh.changed |= (&status, &cost) != (&self.status, &self.cost);
                (self.status, self.cost) = (status, cost);
            }
            (Err(e), _) | (_, Err(e)) => problem = Some(e.to_string()),
        }
        match self.tails.points.read(SMALL_LOGS) {
            Ok(grown) => {
                if grown.restarted {
                    self.points.clear();
                }
                self.fresh.changed |= grown.restarted || !grown.records.is_empty();
                self.points.extend(grown.records);
            }
            Err(e) => problem = Some(e.to_string()),
        }
        self.read_instruments();
        self.notice_time();
        // The first line: the rest is a hint for whoever writes.
        let problem = problem.map(|words| words.lines().next().unwrap_or_default().to_owned());
        self.fresh.changed |= problem != self.problem;
        self.problem = problem;
    }

    /// The logs of the instruments. One that cannot be read is left out: it is beside the run's own.
    fn read_instruments(&mut self) {
        if let Ok(grown) = self.tails.environment.read(SMALL_LOGS)
            && let Some(environment) = grown.records.last()
        {
            self.peak_flops_per_s = environment.peak_flops_per_s.value().copied();
            self.fresh.changed = true;
        }
        if let Ok(grown) = self.tails.alarms.read(SMALL_LOGS) {
            if grown.restarted {
                self.alarms.clear();
                self.fresh.reset = true;
            }
            self.fresh.changed |= !grown.records.is_empty();
            self.fresh.alarms.extend(grown.records.iter().cloned());
            self.alarms.extend(grown.records);
            self.alarms.drain(..self.alarms.len().saturating_sub(MOST_ALARMS));
        }
        if let Ok(grown) = self.tails.machine.read(SMALL_LOGS) {
            if grown.restarted {
                self.machine = Default::default();
                self.last_sample = None;
                self.fresh.reset = true;
            }
            for sample in &grown.records {
                self.take_sample(sample);
            }
        }
    }

    fn take_sample(&mut self, sample: &Sample) {
        let over_gpus = |of: fn(&isoflop_meter::GpuSample) -> Option<f64>, join: fn(f64, f64) -> f64| {
            sample.gpus.iter().filter_map(of).reduce(join)
        };
        let values = [
            sample.watts,
            sample.celsius,
            sample.own,
            sample.others,
            sample.resident.map(|bytes| bytes as f64),
            over_gpus(|gpu| gpu.watts, |a, b| a + b),
            over_gpus(|gpu| gpu.celsius, f64::max),
            over_gpus(|gpu| gpu.utilisation, f64::max),
            over_gpus(|gpu| gpu.memory_used.map(|bytes| bytes as f64), |a, b| a + b),
        ];
        let joined =
            |(unix_s, since_s): (f64, f64)| since_s == sample.since_s && sample.unix_s - unix_s <= PAUSE_S;
        let apart = self.last_sample.is_some_and(|last| !joined(last));
        self.last_sample = Some((sample.unix_s, sample.since_s));
        for (line, value) in self.machine.iter_mut().zip(values) {
            if apart {
                line.part();
            }
            if let Some(y) = value {
                line.push(Dot { x: sample.unix_s, seconds: 0.0, y: y as f32, apart: false });
            }
        }
        self.fresh.changed = true;
        self.fresh.samples.push(FreshSample { unix_s: sample.unix_s, apart, values });
    }

    /// Reads about `most` bytes of its curve; the bytes' worth of work left: whether there is more.
    pub(crate) fn read_curve(&mut self, most: u64) -> bool {
        let grown = match self.tails.curves.read(most) {
            Ok(grown) => grown,
            Err(e) => {
                self.problem = Some(e.to_string().lines().next().unwrap_or_default().to_owned());
                self.read = true;
                return false;
            }
        };
        if grown.restarted {
            // A resume cut it back: the run of before is not drawn over the run of now.
            self.segments.clear();
            (self.rows, self.last) = (0, None);
            self.speeds.clear();
            self.fresh.reset = true;
            self.fresh.rows.clear();
        }
        let mut gaps = grown.gaps.iter().copied().peekable();
        for (index, row) in grown.records.into_iter().enumerate() {
            let after_gap = gaps.next_if_eq(&index).is_some();
            self.take_row(row, after_gap);
        }
        self.read |= !grown.more;
        if self.last.is_some() {
            self.notice_time();
        }
        grown.more
    }

    fn take_row(&mut self, row: CurveRow, after_gap: bool) {
        let index = match self.segments.iter().position(|s| s.name == row.segment) {
            Some(index) => index,
            None => {
                // A branch leaves the trunk where the trunk is now.
                let trunk = self.segments.first();
                let (tokens, seconds) = trunk.map_or((0.0, 0.0), |t| (t.tokens, t.seconds));
                let program = self.facts.as_ref().map(|facts| &facts.program);
                let from = program.and_then(|p| p.segments.iter().find(|s| s.name == row.segment));
                self.segments.push(Segment {
                    name: row.segment.clone(),
                    from: from.map_or(0, |s| s.start),
                    tokens,
                    seconds,
                    ..Segment::default()
                });
                self.segments.len() - 1
            }
        };
        if let Some(speed) = row.tokens_per_s.filter(|s| *s > 0.0) {
            self.speeds.push_back(speed);
            self.speeds.drain(..self.speeds.len().saturating_sub(SPEED_ROWS));
        }
        let speed = row.tokens_per_s.filter(|s| *s > 0.0).or(self.speeds.back().copied());
        let segment = &mut self.segments[index];
        // The row's speed is over its interval, so its interval took its tokens over its speed.
        if let Some(speed) = speed {
            segment.seconds += (row.tokens as f64 - segment.tokens).max(0.0) / speed;
        }
        segment.tokens = row.tokens as f64;
        let values = [
            Some(row.train_loss),
            row.val_loss,
            Some(row.lr),
            Some(row.grad_norm),
            row.tokens_per_s,
            row.data_wait,
        ];
        for (line, value) in segment.lines.iter_mut().zip(values) {
            if after_gap {
                line.part();
            }
            if let Some(y) = value {
                let (x, seconds) = (row.step as f64, segment.seconds as f32);
                line.push(Dot { x, seconds, y: y as f32, apart: false });
            }
        }
        // The page hears of rows without their gaps: with one, of the whole run.
        self.fresh.reset |= after_gap;
        let seconds = segment.seconds;
        self.fresh.rows.push(FreshRow { segment: index, step: row.step as f64, seconds, values });
        // Whoever has not listened for long gets all lines anew, in bounded room.
        if self.fresh.rows.len() > crate::line::MOST {
            self.fresh.rows.clear();
            self.fresh.reset = true;
        }
        self.rows += 1;
        self.fresh.changed = true;
        self.last = Some(row);
    }

    /// When anything of it was last written.
    fn notice_time(&mut self) {
        let unix = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let tails = [
            self.tails.curves.changed(),
            self.tails.points.changed(),
            self.tails.machine.changed(),
            self.tails.alarms.changed(),
        ];
        let newest = tails.into_iter().flatten().map(unix).fold(0.0, f64::max);
        let status = self.tails.view.updated_unix_s().unwrap_or(0) as f64;
        let updated = newest.max(status);
        self.fresh.changed |= updated > self.updated_unix_s;
        self.updated_unix_s = updated;
    }

    /// Whether it may still grow by itself.
    pub(crate) fn is_live(&self) -> bool {
        self.status == Status::Running
    }

    /// Optimiser steps executed and in all, branches included.
    pub(crate) fn steps(&self) -> Option<(u64, u64)> {
        let program = &self.facts.as_ref()?.program;
        let total = program.steps();
        if self.status == Status::Done {
            return Some((total, total));
        }
        let done = self.last.as_ref().map_or(0, |row| {
            let within = |s: &isoflop_lab::train::program::Segment| {
                s.name == row.segment && s.start < row.step && row.step <= s.end
            };
            let index = program.segments.iter().position(within);
            index.map_or(row.step.min(total), |index| program.steps_before(index, row.step))
        });
        Some((done, total))
    }

    /// Tokens (or images) a second over the last rows.
    pub(crate) fn speed(&self) -> Option<f64> {
        // Rows are of equal work, so time adds up: the harmonic mean.
        let count = self.speeds.len();
        (count > 0).then(|| count as f64 / self.speeds.iter().map(|s| 1.0 / s).sum::<f64>())
    }

    /// Seconds until it is done, at the speed of its last rows.
    pub(crate) fn eta_s(&self) -> Option<f64> {
        let (done, total) = self.steps().filter(|_| self.is_live())?;
        let batch = self.facts.as_ref()?.spec.train.batch_tokens;
        Some((total - done) as f64 * batch as f64 / self.speed()?)
    }

    /// Training FLOPs of a step.
    pub(crate) fn flops_per_step(&self) -> Option<f64> {
        let row = self.last.as_ref().filter(|row| row.step > 0);
        let point = self.points.last().filter(|point| point.steps > 0);
        let planned = self.facts.as_ref().filter(|facts| facts.spec.model.gpt().is_some());
        let planned =
            planned.map(|facts| gpt::run_flops_per_token(&facts.spec) * facts.spec.train.batch_tokens as f64);
        row.map(|r| r.flops / r.step as f64).or(point.map(|p| p.flops / p.steps as f64)).or(planned)
    }

    /// Mean power of its training, watts.
    pub(crate) fn watts(&self) -> Option<f64> {
        let cost = self.cost.filter(|cost| cost.seconds > 0.0);
        let by_cost = cost.and_then(|cost| Some(cost.joules? / cost.seconds));
        by_cost.filter(|watts| *watts > 0.0).or_else(|| {
            let dots = self.machine[0].dots();
            (!dots.is_empty()).then(|| dots.iter().map(|d| f64::from(d.y)).sum::<f64>() / dots.len() as f64)
        })
    }

    pub(crate) fn study(&self) -> &str {
        self.facts.as_ref().map_or("", |facts| facts.study.as_str())
    }

    /// What it is and how far, in plain data.
    pub(crate) fn summary(&self) -> Summary<'_> {
        let spec = self.facts.as_ref().map(|facts| &facts.spec);
        let few_shot = spec.is_some_and(|spec| matches!(spec.model, ModelSpec::FewShot(_)));
        let steps = self.steps();
        let best = self.points.iter().map(|p| p.loss).reduce(f64::min);
        Summary {
            id: &self.id,
            study: self.study(),
            model: spec
                .map(|spec| spec.model.name())
                .or_else(|| self.points.last()?.shape.map(|s| s.to_string())),
            params: spec.map(|spec| spec.model.params()).or_else(|| Some(self.points.last()?.params)),
            seed: spec.map(|spec| spec.seed),
            arm: spec
                .map(|spec| spec.arm.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ")),
            unit: if few_shot { "images" } else { "tokens" },
            per: if few_shot { "query" } else { "token" },
            status: self.status.word(),
            why: why(&self.status).or(self.problem.as_deref().map(str::to_owned)),
            done: steps.map(|s| s.0),
            total: steps.map(|s| s.1),
            eta_s: self.eta_s(),
            tokens_per_step: spec.map(|spec| spec.train.batch_tokens),
            flops_per_step: self.flops_per_step(),
            watts: self.watts(),
            peak: self.peak_flops_per_s,
            speed: self.speed(),
            step: self.last.as_ref().map(|row| row.step),
            tokens: self.last.as_ref().map(|row| row.tokens),
            train: self.last.as_ref().map(|row| row.train_loss),
            best,
            updated: self.updated_unix_s,
            rows: self.rows,
            read: self.read,
            alarms: self.alarms.len(),
            seconds: self.cost.map(|cost| cost.seconds),
            joules: self.cost.and_then(|cost| cost.joules),
            points: self.points.iter().map(Finished::of).collect(),
        }
    }
}

/// Of a run, what the page's table and axes need.
#[derive(Debug, Serialize)]
pub(crate) struct Summary<'a> {
    id: &'a str,
    study: &'a str,
    model: Option<String>,
    params: Option<u64>,
    seed: Option<u64>,
    arm: Option<String>,
    unit: &'static str,
    per: &'static str,
    status: &'static str,
    why: Option<String>,
    done: Option<u64>,
    total: Option<u64>,
    eta_s: Option<f64>,
    tokens_per_step: Option<u64>,
    flops_per_step: Option<f64>,
    watts: Option<f64>,
    peak: Option<f64>,
    speed: Option<f64>,
    step: Option<u64>,
    tokens: Option<u64>,
    train: Option<f64>,
    best: Option<f64>,
    updated: f64,
    rows: u64,
    read: bool,
    alarms: usize,
    seconds: Option<f64>,
    joules: Option<f64>,
    points: Vec<Finished>,
}

/// Of a finished point, what the page shows.
#[derive(Debug, Serialize)]
struct Finished {
    kind: &'static str,
    steps: u64,
    tokens: u64,
    flops: f64,
    loss: f64,
    se: Option<f64>,
    seconds: Option<f64>,
    joules: Option<f64>,
}

impl Finished {
    fn of(point: &Point) -> Self {
        Self {
            kind: point.kind.word(),
            steps: point.steps,
            tokens: point.tokens,
            flops: point.flops,
            loss: point.loss,
            se: point.loss_se,
            seconds: point.seconds.value().copied(),
            joules: point.energy_j.value().copied(),
        }
    }
}

fn why(status: &Status) -> Option<String> {
    match status {
        Status::Running | Status::Done => None,
        Status::Diverged { step, segment } => Some(format!("diverged at step {step} of {segment}")),
        Status::Stopped { reason } | Status::Failed { reason } => Some(reason.clone()),
    }
}

fn facts(view: &RunView) -> Option<Facts> {
    let RunDocument { study, run, .. } = RunDocument::read(view.spec()).ok()?;
    // A document of another hand may have no end; a program without one is none.
    if run.ends.is_empty() || run.ends.windows(2).any(|w| w[0] >= w[1]) {
        return None;
    }
    Some(Facts { study, program: Program::new(&run), spec: run })
}
