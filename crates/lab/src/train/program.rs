//! A run as a linear program of segments.
//!
//! With WSD, points at several token counts share one trunk. The trunk runs at a constant rate; where the decay of a
//! point begins it is saved (the *fork*), a side branch decays to that point's end, and the trunk goes on from the fork
//! as if nothing had been:
//!
//! ```text
//!            fork A    fork B                 fork C
//! trunk  ──────●─────────●──────────────────────●┄┄┄┄┄┄┄┄ (a longer point, asked for later)
//!               ╲         ╲                      ╲
//! branches       ╲ point A ╲ point B              ╲ point C, the final one
//!
//! program: trunk to A | branch A | trunk from fork A to B | branch B | trunk from fork B to C | branch C
//! ```
//!
//! Steps count along a path from the start, so a branch's first step is its fork's. The last fork is kept when a run is
//! done: the program of the same run with a longer point begins with this one, so that the run can be gone on with.

use super::state::Place;
use isoflop_base::PointKind;
use isoflop_base::ScheduleKind;
use isoflop_base::study::{BranchBatch, RunSpec};
use isoflop_nn::schedule::Schedule;

/// A stretch of optimiser steps and what is done at its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// `trunk`, or the branch's tokens.
    pub name: String,
    /// First step.
    pub start: u64,
    /// One past the last step.
    pub end: u64,
    /// Learning rates by step.
    pub schedule: Schedule,
    /// Batches that an optimiser step takes, and by which it goes on: one, but in branches with a batch of their own.
    pub batches: u64,
    /// Label of the checkpoint whose state this segment starts from; `None`: it goes on from the segment before.
    pub from_fork: Option<String>,
    /// What its end is.
    pub ending: Ending,
}

/// What the end of a segment is.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// A fork, pinned under this label: a branch follows, then the trunk goes on from here.
    Fork(String),
    /// A finished point, pinned under this label.
    Point(PointKind, String),
}

impl Segment {
    /// The batches of the step that begins at `step`: the last one takes what is left.
    pub fn step_at(&self, step: u64) -> std::ops::Range<u64> {
        step..self.end.min(step + self.batches)
    }

    /// Where the step began that ended at `step`.
    pub fn step_before(&self, step: u64) -> u64 {
        let done = step.saturating_sub(self.start + 1);
        self.start + done / self.batches * self.batches
    }
}

/// The segments of a run in the order in which they are executed.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// The segments.
    pub segments: Vec<Segment>,
    /// Steps at the end of each point.
    ends: Vec<u64>,
}

/// Steps over which a point that ends after `end` steps decays: at least one.
pub fn decay_steps(share: f64, end: u64) -> u64 {
    ((share * end as f64).round() as u64).clamp(1, end)
}

/// Name of the checkpoint of a finished point, by its tokens.
pub fn point_label(tokens: u64) -> String {
    format!("point-{tokens}")
}

/// Name of the checkpoint where a point's decay begins, by the point's tokens.
fn fork_label(tokens: u64) -> String {
    format!("fork-{tokens}")
}

impl Program {
    /// The program of a run.
    pub fn new(run: &RunSpec) -> Self {
        let (train, total) = (&run.train, run.end());
        let wsd = train.schedule == ScheduleKind::Wsd;
        let schedule = |end: u64, times: f64| Schedule {
            kind: train.schedule,
            peak: train.lr * times,
            warmup_steps: train.warmup_steps,
            decay_steps: if wsd { decay_steps(train.decay, end) } else { 0 },
            total_steps: end,
            min_lr: train.min_lr,
        };
        let kind = |end: u64| if end == total { PointKind::Final } else { PointKind::Branch };
        let point = |end: u64| Ending::Point(kind(end), point_label(run.tokens_at(end)));
        if !wsd {
            let whole = Segment {
                name: "trunk".to_owned(),
                start: 0,
                end: total,
                schedule: schedule(total, 1.0),
                batches: 1,
                from_fork: None,
                ending: point(total),
            };
            return Self { segments: vec![whole], ends: vec![total] };
        }
        let own = train.branch.unwrap_or(BranchBatch { batches: 1, rate: 1.0 });
        let (mut segments, mut from_fork, mut start) = (Vec::new(), None, 0);
        for &end in &run.ends {
            let tokens = run.tokens_at(end);
            let (fork, label) = (end - decay_steps(train.decay, end), fork_label(tokens));
            let trunk = Segment {
                name: "trunk".to_owned(),
                start,
                end: fork,
                schedule: schedule(total, 1.0),
                batches: 1,
                from_fork: from_fork.take(),
                ending: Ending::Fork(label.clone()),
            };
            let branch = Segment {
                name: tokens.to_string(),
                start: fork,
                end,
                schedule: schedule(end, own.rate),
                batches: own.batches,
                from_fork: None,
                ending: point(end),
            };
            segments.extend([trunk, branch]);
            (start, from_fork) = (fork, Some(label));
        }
        Self { segments, ends: run.ends.clone() }
    }

    /// Label of the fork from which a longer point could be reached.
    pub fn last_fork(&self) -> Option<&str> {
        self.segments.iter().rev().find_map(|segment| match &segment.ending {
            Ending::Fork(label) => Some(label.as_str()),
            Ending::Point(..) => None,
        })
    }

    /// Ends of the points up to and including the one a segment leads to.
    pub fn ends_through(&self, segment: usize) -> Vec<u64> {
        let per_point = self.segments.len() / self.ends.len();
        self.ends[..=segment / per_point].to_vec()
    }

    /// A saved place in this program, or `None` if it was on the way to other points. `before` are the points the run
    /// was ever asked for: a place of the first format does not say which it led to, and had no branch for the last
    /// one.
    pub fn locate(&self, mut place: Place, before: &[u64]) -> Option<Place> {
        let segment = self.segments.get(place.segment)?;
        if !place.ends.is_empty() {
            return (self.ends_through(place.segment) == place.ends).then_some(place);
        }
        if before != self.ends {
            return None;
        }
        if place.step > segment.end {
            place.segment += 1;
        }
        let segment = self.segments.get(place.segment)?;
        place.ends = self.ends_through(place.segment);
        (segment.start..=segment.end).contains(&place.step).then_some(place)
    }

    /// Optimiser steps executed in all, branches included.
    pub fn steps(&self) -> u64 {
        self.segments.iter().map(|s| s.end - s.start).sum()
    }

    /// Optimiser steps executed before `step` of segment `segment`.
    pub fn steps_before(&self, segment: usize, step: u64) -> u64 {
        let done: u64 = self.segments[..segment].iter().map(|s| s.end - s.start).sum();
        done + self.segments.get(segment).map_or(0, |s| step.saturating_sub(s.start))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A run for tests: sequences of 8 tokens, 2 a batch.
    pub fn small_run(ends: &[u64]) -> RunSpec {
        use isoflop_base::recipe::*;
        use isoflop_base::study::*;
        RunSpec {
            id: "t-L1-d8-h1-s1".to_owned(),
            seed: 1,
            arm: Default::default(),
            role: Role::Series,
            model: ModelSpec::Gpt2(GptSpec {
                shape: "L1-d8-h1".parse().unwrap(),
                vocab: 256,
                context: 8,
                init: Init::Scaled,
            }),
            data: DataSpec {
                corpus: "t".to_owned(),
                train: None,
                val: None,
                train_tokens: 3000,
                val_tokens: 300,
                bytes_per_token: Some(1.0),
                fingerprint: "0".to_owned(),
                mix: None,
                end_of_text: None,
            },
            train: TrainSpec {
                lr: 0.1,
                batch_tokens: 16,
                branch: None,
                micro_batch: 1,
                precision: Precision::F32,
                optimizer: Optimizer::AdamW,
                schedule: ScheduleKind::Wsd,
                decay: 0.2,
                warmup: Warmup::Share(0.05),
                warmup_steps: Warmup::Share(0.05).steps(*ends.last().unwrap()),
                min_lr: 0.1,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                clip: 1.0,
                recompute: Recompute::None,
                eval_every: 0.25,
                eval_tokens: 200,
                curve_tokens: 50,
                init_from: None,
                kernels: "naive".to_owned(),
            },
            ends: ends.to_vec(),
        }
    }

    fn outline(program: &Program) -> Vec<(&str, u64, u64)> {
        program.segments.iter().map(|s| (s.name.as_str(), s.start, s.end)).collect()
    }

    #[test]
    fn branches_leave_the_trunk_where_their_decay_begins() {
        let program = Program::new(&small_run(&[30, 60, 120]));
        assert_eq!(
            outline(&program),
            [
                ("trunk", 0, 24),
                ("480", 24, 30),
                ("trunk", 24, 48),
                ("960", 48, 60),
                ("trunk", 48, 96),
                ("1920", 96, 120)
            ]
        );
        assert_eq!(program.segments[2].from_fork.as_deref(), Some("fork-480"));
        assert_eq!(program.segments[5].ending, Ending::Point(PointKind::Final, "point-1920".to_owned()));
        assert_eq!(program.last_fork(), Some("fork-1920"));
        assert_eq!(program.steps(), 120 + 6 + 12);
        assert_eq!(program.steps_before(3, 50), 24 + 6 + 24 + 2);
    }

    #[test]
    fn a_longer_point_goes_on_where_the_program_ended() {
        let (short, long) = (Program::new(&small_run(&[30, 60])), Program::new(&small_run(&[30, 60, 120])));
        assert_eq!(outline(&long)[..4], outline(&short)[..]);
        assert_eq!(long.segments[4].from_fork.as_deref(), short.last_fork());
    }

    #[test]
    fn a_place_on_the_way_to_other_points_is_not_in_the_program() {
        let program = Program::new(&small_run(&[30, 60, 120]));
        let place =
            |segment: usize, step: u64, ends: &[u64]| Place { segment, step, ..Place::start(ends.to_vec()) };
        let located = |p: Place, before: &[u64]| program.locate(p, before).map(|p| (p.segment, p.ends));
        assert_eq!(located(place(3, 50, &[30, 60]), &[]), Some((3, vec![30, 60])));
        assert_eq!(located(place(1, 50, &[60]), &[]), None, "60 was the first point then");
        assert_eq!(located(place(6, 130, &[30, 60, 120, 240]), &[]), None);
        // The first format: the last point's decay was part of the trunk.
        let all = &[30, 60, 120];
        assert_eq!(located(place(4, 90, &[]), all), Some((4, all.to_vec())));
        assert_eq!(located(place(4, 100, &[]), all), Some((5, all.to_vec())));
        assert_eq!(located(place(1, 28, &[]), all), Some((1, vec![30])));
        assert_eq!(located(place(1, 28, &[]), &[30, 60]), None, "points were added since");
    }

    #[test]
    fn the_trunk_keeps_its_rate_while_a_branch_falls_to_nothing() {
        let program = Program::new(&small_run(&[30, 120]));
        let [trunk, branch, rest, last] = program.segments.as_slice() else { panic!("{program:?}") };
        assert_eq!(trunk.schedule.lr(trunk.end - 1), 0.1);
        assert!(branch.schedule.lr(branch.end - 1) < 0.02);
        assert!(branch.schedule.decayed(branch.end - 1) && !trunk.schedule.decayed(trunk.end - 1));
        assert_eq!(rest.schedule.lr(24), 0.1);
        assert_eq!(rest.schedule.lr(rest.end - 1), 0.1);
        assert!(last.schedule.lr(119) < 0.02);
    }

    #[test]
    fn branches_with_a_batch_of_their_own_leave_the_same_trunk() {
        let mut run = small_run(&[30, 60, 120]);
        let plain = Program::new(&run);
        run.train.branch = Some(BranchBatch { batches: 4, rate: 2.0 });
        let program = Program::new(&run);
        assert_eq!(outline(&program), outline(&plain));
        let branch = &program.segments[1];
        let steps: Vec<_> = std::iter::successors(Some(branch.step_at(24)), |s| {
            (s.end < branch.end).then(|| branch.step_at(s.end))
        })
        .collect();
        assert_eq!(steps, [24..28, 28..30], "what is left of the point's tokens is the last step's");
        assert_eq!([25, 28, 29, 30].map(|step| branch.step_before(step)), [24, 24, 28, 28]);
        assert_eq!(program.segments[2], plain.segments[2]);
        assert_eq!(branch.schedule.lr(24), 2.0 * plain.segments[1].schedule.lr(24));
    }

    #[test]
    fn one_end_is_one_segment() {
        let mut run = small_run(&[40]);
        run.train.schedule = ScheduleKind::Cosine;
        let program = Program::new(&run);
        assert_eq!(program.segments.len(), 1);
        assert_eq!(program.segments[0].ending, Ending::Point(PointKind::Final, "point-640".to_owned()));
    }
}
