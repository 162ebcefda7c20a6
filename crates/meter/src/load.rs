//! Processor time since a moment: ours, other programs', and what a hypervisor took away.
//!
//! A timing taken while others used the cores says little; this is how one knows.

use crate::System;
use isoflop_base::Measured;
use serde::Serialize;

/// Below this many clock ticks (10 ms each, over all processors) shares are noise.
const FEWEST_TICKS: u64 = 20;

/// Shares of the time of all processors, each 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// This process.
    pub own: Measured<f64>,
    /// Other programs and the kernel.
    pub others: Measured<f64>,
    /// Taken by the hypervisor for other machines.
    pub stolen: Measured<f64>,
    /// Nobody.
    pub idle: Measured<f64>,
}

/// Remembers processor time at one moment.
#[derive(Debug)]
pub struct LoadMeter {
    system: System,
    start: Result<Ticks, String>,
}

#[derive(Debug, Clone, Copy)]
struct Ticks {
    busy: u64,
    idle: u64,
    stolen: u64,
    own: u64,
}

impl LoadMeter {
    /// From now on.
    pub fn start(system: &System) -> Self {
        Self { system: system.clone(), start: Ticks::read(system) }
    }

    /// Shares since [`LoadMeter::start`].
    pub fn read(&self) -> Load {
        match self.shares() {
            Ok([own, others, stolen, idle]) => {
                let m = Measured::measured;
                Load { own: m(own), others: m(others), stolen: m(stolen), idle: m(idle) }
            }
            Err(reason) => {
                let m = || Measured::missing(reason.clone());
                Load { own: m(), others: m(), stolen: m(), idle: m() }
            }
        }
    }

    /// Share of the time of all processors in which they worked for anybody, since [`LoadMeter::start`].
    pub(crate) fn busy(&self) -> Result<f64, String> {
        self.shares().map(|[own, others, _, _]| own + others)
    }

    fn shares(&self) -> Result<[f64; 4], String> {
        let (a, b) = (self.start.clone()?, Ticks::read(&self.system)?);
        // Some kernels let single counters step back a little.
        let busy = b.busy.saturating_sub(a.busy);
        let stolen = b.stolen.saturating_sub(a.stolen);
        let idle = b.idle.saturating_sub(a.idle);
        let own = b.own.saturating_sub(a.own).min(busy);
        let total = busy + stolen + idle;
        if total < FEWEST_TICKS {
            return Err("less than a fifth of a second of processor time has passed".to_owned());
        }
        Ok([own, busy - own, stolen, idle].map(|ticks| ticks as f64 / total as f64))
    }
}

impl System {
    /// Mean number of runnable processes over one, five and fifteen minutes.
    pub fn load_average(&self) -> Measured<Vec<f64>> {
        let means = self.text("proc/loadavg").map(|text| {
            text.split_whitespace().take(3).map_while(|word| word.parse().ok()).collect::<Vec<f64>>()
        });
        match means {
            Ok(means) if means.len() == 3 => Measured::measured(means),
            Ok(_) => Measured::missing("/proc/loadavg is not as Linux writes it"),
            Err(reason) => Measured::missing(reason),
        }
    }

    /// Release of the operating system's kernel.
    pub fn release(&self) -> Measured<String> {
        match self.text("proc/sys/kernel/osrelease") {
            Ok(text) => Measured::measured(text),
            Err(reason) => Measured::missing(reason),
        }
    }
}

impl Ticks {
    fn read(system: &System) -> Result<Self, String> {
        let stat = system.text("proc/stat")?;
        let own = system.text("proc/self/stat")?;
        Self::parse(&stat, &own).ok_or_else(|| "/proc/stat is not as Linux writes it".to_owned())
    }

    /// `cpu user nice system idle iowait irq softirq steal guest guest_nice` (guest is inside user); the process's
    /// `utime` and `stime` are fields 14 and 15, counted after the parenthesised name, which may hold anything
    /// (proc(5)).
    fn parse(stat: &str, own: &str) -> Option<Self> {
        let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
        let t: Vec<u64> = line.split_whitespace().map_while(|w| w.parse().ok()).collect();
        let at = |i: usize| t.get(i).copied().unwrap_or(0);
        if t.len() < 4 {
            return None;
        }
        let (_, fields) = own.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11).map_while(|w| w.parse::<u64>().ok());
        Some(Self {
            busy: at(0) + at(1) + at(2) + at(5) + at(6),
            idle: at(3) + at(4),
            stolen: at(7),
            own: times.next()? + times.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Tree;

    const OWN: &str = "7 (a (b) c) R 1 1 1 0 -1 4194304 1 0 0 0";

    #[test]
    fn time_is_ours_others_stolen_or_idle() {
        let tree = Tree::new(&[
            ("proc/stat", "cpu  100 10 20 1000 5 1 2 3 0 0\ncpu0 1 1 1 1\n"),
            ("proc/self/stat", &format!("{OWN} 50 10 0 0 20 0 2 0 1 1 1")),
        ]);
        let meter = LoadMeter::start(&tree.system());
        assert!(meter.read().own.value().is_none(), "nothing has passed yet");
        tree.write("proc/stat", "cpu  180 10 30 1030 25 1 12 53 0 0\n");
        tree.write("proc/self/stat", &format!("{OWN} 110 20 0 0 20 0 2 0 1 1 1"));
        // 80 + 10 + 10 busy of which 70 ours, 50 idle, 50 stolen.
        let load = meter.read();
        let shares = [&load.own, &load.others, &load.stolen, &load.idle].map(|m| *m.value().unwrap());
        assert_eq!(shares, [0.35, 0.15, 0.25, 0.25]);
    }

    #[test]
    fn load_averages_are_three_numbers() {
        let tree = Tree::new(&[("proc/loadavg", "0.50 1.25 3.00 2/345 6789\n")]);
        assert_eq!(tree.system().load_average(), Measured::measured(vec![0.5, 1.25, 3.0]));
        assert!(Tree::new(&[("proc/loadavg", "x")]).system().load_average().value().is_none());
    }

    #[test]
    fn without_proc_it_is_missing() {
        let load = LoadMeter::start(&Tree::new(&[]).system()).read();
        assert!(matches!(load.others, Measured::Missing { reason } if reason.contains("proc/stat")));
    }
}
