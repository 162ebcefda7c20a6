//! A run as a linear program of segments.
//!
//! With WSD, points at several token counts share one trunk. The trunk runs at a constant rate; where the decay of an
//! earlier point would begin it is saved (the *fork*), a side branch decays to that point's end, and the trunk goes on
//! from the fork as if nothing had been:
//!
//! ```text
//!            fork A    fork B              last decay begins
//! trunk  ──────●─────────●──────────────────────╲
//!               ╲         ╲                      ╲
//! branches       ╲ point A ╲ point B              ╲ final point
//!
//! program: trunk to A | branch A | trunk from fork A to B | branch B | trunk from fork B to the end
//! ```
//!
//! Steps count optimiser updates along a path from the start, so a branch's first step is its fork's.

use isoflop_base::PointKind;
use isoflop_base::ScheduleKind;
use isoflop_base::study::{RunSpec, TrainSpec};
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

/// The segments of a run in the order in which they are executed.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    pub segments: Vec<Segment>,
}

/// Steps over which the rate rises.
pub fn warmup_steps(share: f64, total: u64) -> u64 {
    (share * total as f64).round() as u64
}

/// Steps over which a point that ends after `end` steps decays: at least one.
pub fn decay_steps(share: f64, end: u64) -> u64 {
    ((share * end as f64).round() as u64).clamp(1, end)
}

impl Program {
    /// The program of a run under a recipe.
    pub fn new(run: &RunSpec, train: &TrainSpec) -> Self {
        let total = *run.ends.last().expect("a run has an end");
        let warmup = warmup_steps(train.warmup, total);
        let schedule = |end: u64| Schedule {
            kind: train.schedule,
            peak: run.lr,
            warmup_steps: warmup,
            decay_steps: if train.schedule == ScheduleKind::Wsd { decay_steps(train.decay, end) } else { 0 },
            total_steps: end,
            min_lr: train.min_lr,
        };
        let (mut segments, mut from_fork, mut start) = (Vec::new(), None, 0);
        for &end in &run.ends[..run.ends.len() - 1] {
            let tokens = end * train.batch_tokens;
            let (fork, label) = (end - decay_steps(train.decay, end), format!("fork-{tokens}"));
            let trunk = Segment {
                name: "trunk".to_owned(),
                start,
                end: fork,
                schedule: schedule(total),
                from_fork: from_fork.take(),
                ending: Ending::Fork(label.clone()),
            };
            let branch = Segment {
                name: tokens.to_string(),
                start: fork,
                end,
                schedule: schedule(end),
                from_fork: None,
                ending: Ending::Point(PointKind::Branch, format!("point-{tokens}")),
            };
            segments.extend([trunk, branch]);
            (start, from_fork) = (fork, Some(label));
        }
        let label = format!("point-{}", total * train.batch_tokens);
        segments.push(Segment {
            name: "trunk".to_owned(),
            start,
            end: total,
            schedule: schedule(total),
            from_fork,
            ending: Ending::Point(PointKind::Final, label),
        });
        Self { segments }
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

    /// A recipe for tests: sequences of 8 tokens, 2 a batch.
    pub fn small_recipe() -> TrainSpec {
        use isoflop_base::recipe::*;
        TrainSpec {
            context: 8,
            batch_tokens: 16,
            micro_batch: 1,
            precision: Precision::F32,
            optimizer: Optimizer::AdamW,
            init: Init::Scaled,
            schedule: ScheduleKind::Wsd,
            decay: 0.2,
            warmup: 0.05,
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
            threads: 1,
            checkpoint_every_s: 0.0,
            kernels: "naive".to_owned(),
        }
    }

    pub fn small_run(ends: &[u64]) -> RunSpec {
        RunSpec {
            id: "t-L1-d8-h1-s1".to_owned(),
            shape: "L1-d8-h1".parse().unwrap(),
            seed: 1,
            lr: 0.1,
            ends: ends.to_vec(),
            extra_seed: false,
        }
    }

    #[test]
    fn branches_leave_the_trunk_where_their_decay_begins() {
        let program = Program::new(&small_run(&[30, 60, 120]), &small_recipe());
        let outline: Vec<(&str, u64, u64)> =
            program.segments.iter().map(|s| (s.name.as_str(), s.start, s.end)).collect();
        assert_eq!(
            outline,
            [("trunk", 0, 24), ("480", 24, 30), ("trunk", 24, 48), ("960", 48, 60), ("trunk", 48, 120)]
        );
        assert_eq!(program.segments[2].from_fork.as_deref(), Some("fork-480"));
        assert_eq!(program.segments[4].ending, Ending::Point(PointKind::Final, "point-1920".to_owned()));
        assert_eq!(program.steps(), 120 + 6 + 12);
        assert_eq!(program.steps_before(3, 50), 24 + 6 + 24 + 2);
    }

    #[test]
    fn the_trunk_keeps_its_rate_while_a_branch_falls_to_nothing() {
        let program = Program::new(&small_run(&[30, 120]), &small_recipe());
        let [trunk, branch, rest] = program.segments.as_slice() else { panic!("{program:?}") };
        assert_eq!(trunk.schedule.lr(trunk.end - 1), 0.1);
        assert!(branch.schedule.lr(branch.end - 1) < 0.02);
        assert!(branch.schedule.decayed(branch.end - 1) && !trunk.schedule.decayed(trunk.end - 1));
        assert_eq!(rest.schedule.lr(24), 0.1);
        assert!(rest.schedule.lr(119) < 0.02);
    }

    #[test]
    fn one_end_is_one_segment() {
        let mut recipe = small_recipe();
        recipe.schedule = ScheduleKind::Cosine;
        let program = Program::new(&small_run(&[40]), &recipe);
        assert_eq!(program.segments.len(), 1);
        assert_eq!(program.segments[0].ending, Ending::Point(PointKind::Final, "point-640".to_owned()));
    }
}
