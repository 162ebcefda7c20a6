//! Learning rate against step.

use isoflop_base::ScheduleKind;
use serde::{Deserialize, Serialize};

/// A learning rate for every step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Shape.
    pub kind: ScheduleKind,
    /// Highest learning rate.
    pub peak: f64,
    /// Steps of the linear rise.
    pub warmup_steps: u64,
    /// Steps of the linear fall at the end (`Wsd`).
    pub decay_steps: u64,
    /// Steps of the run.
    pub total_steps: u64,
    /// Share of the peak the cosine ends at.
    pub min_lr: f64,
}

impl Schedule {
    /// The rate of step `step`, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        let rise = if step < self.warmup_steps { (step + 1) as f64 / self.warmup_steps as f64 } else { 1.0 };
        let shape = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Wsd => {
                let left = self.total_steps.saturating_sub(step);
                if left <= self.decay_steps { left as f64 / (self.decay_steps + 1) as f64 } else { 1.0 }
            }
            ScheduleKind::Cosine => {
                let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let done = (step.saturating_sub(self.warmup_steps) as f64 / span).min(1.0);
                self.min_lr + (1.0 - self.min_lr) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done))
            }
        };
        self.peak * rise.min(1.0) * shape
    }

    /// Whether the rate of step `step` is on its way down.
    pub fn decayed(&self, step: u64) -> bool {
        match self.kind {
            ScheduleKind::Constant => false,
            ScheduleKind::Wsd => self.total_steps.saturating_sub(step) <= self.decay_steps,
            ScheduleKind::Cosine => step >= self.warmup_steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, peak: 1e-2, warmup_steps: 10, decay_steps: 20, total_steps: 100, min_lr: 0.1 }
    }

    #[test]
    fn warm_up_is_linear_and_reaches_the_peak() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Wsd, ScheduleKind::Constant] {
            let s = schedule(kind);
            assert!((s.lr(0) - 1e-3).abs() < 1e-12);
            assert!((s.lr(9) - 1e-2).abs() < 1e-12);
        }
    }

    #[test]
    fn wsd_holds_then_falls_to_almost_nothing() {
        let s = schedule(ScheduleKind::Wsd);
        assert_eq!(s.lr(79), 1e-2);
        assert!(!s.decayed(79) && s.decayed(80));
        assert!((s.lr(80) - 1e-2 * 20.0 / 21.0).abs() < 1e-12);
        assert!((s.lr(99) - 1e-2 / 21.0).abs() < 1e-12);
        assert!((80..99).all(|t| s.lr(t + 1) < s.lr(t)));
    }

    #[test]
    fn cosine_ends_at_its_share_and_constant_does_not_move() {
        let s = schedule(ScheduleKind::Cosine);
        assert!((s.lr(55) - 0.55e-2).abs() < 1e-9);
        assert!(s.lr(99) < 1.01e-3 && s.lr(99) > 1e-3);
        assert_eq!(schedule(ScheduleKind::Constant).lr(99), 1e-2);
    }
}
