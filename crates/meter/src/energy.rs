//! Energy of the processor packages, from Intel's and AMD's running average power limit counters (RAPL), which Linux
//! shows under `/sys/class/powercap`.
//!
//! What is counted: the package domains (`package-0`, …) and, where a server has it, `dram`, which lies outside the
//! package. What is not: `core` and `uncore`, which are parts of a package; `psys`, which contains it; graphics
//! cards, drives, fans and the power supply's loss. The counters do not know processes: other programs on the machine
//! are in the figure.

use crate::System;
use crate::system::{entries, number, read};
use isoflop_base::Measured;
use std::path::PathBuf;

/// What the figure covers, in words for a report.
pub const SCOPE: &str = "processor packages and memory (RAPL), all programs on the machine";

/// Joules since it was opened.
///
/// A counter wraps at some 65 to 262 kJ, that is after about ten minutes of a large server or an hour of a desktop at
/// full power: call [`EnergyMeter::joules`] at least every few minutes. One wrap between calls is seen, a second
/// would not be.
#[derive(Debug)]
pub struct EnergyMeter {
    state: Result<Vec<Domain>, String>,
}

#[derive(Debug)]
struct Domain {
    name: String,
    counter: PathBuf,
    /// The counter counts 0 ..= range, in µJ.
    range: u64,
    last: u64,
    total: u64,
}

impl EnergyMeter {
    /// Finds the counters and takes their first reading. Never fails: without counters the energy is missing.
    pub fn open(system: &System) -> Self {
        Self { state: find(system) }
    }

    /// Joules since [`EnergyMeter::open`]. Once a counter could not be read, missing for good: a sum with a hole is no
    /// sum.
    pub fn joules(&mut self) -> Measured<f64> {
        let read = match &mut self.state {
            Err(reason) => Err(reason.clone()),
            Ok(domains) => domains
                .iter_mut()
                .try_fold(0u64, |sum, domain| Ok(sum + domain.advance()?))
                .map(|microjoules| microjoules as f64 * 1e-6),
        };
        match read {
            Ok(joules) => Measured::measured(joules),
            Err(reason) => {
                self.state = Err(reason.clone());
                Measured::missing(reason)
            }
        }
    }

    /// The counted domains, such as `package-0`, or why there are none.
    pub fn domains(&self) -> Measured<Vec<String>> {
        match &self.state {
            Ok(domains) => Measured::measured(domains.iter().map(|d| d.name.clone()).collect()),
            Err(reason) => Measured::missing(reason.clone()),
        }
    }
}

impl Domain {
    /// Reads the counter; the µJ so far.
    fn advance(&mut self) -> Result<u64, String> {
        let now = number(&self.counter)?;
        self.total += match now.checked_sub(self.last) {
            Some(difference) => difference,
            None => self.range.saturating_sub(self.last) + now + 1,
        };
        self.last = now;
        Ok(self.total)
    }
}

fn find(system: &System) -> Result<Vec<Domain>, String> {
    let base = system.path("sys/class/powercap");
    if !base.is_dir() {
        return Err(format!(
            "no energy counters: {} does not exist here (a virtual machine, or no RAPL driver)",
            base.display()
        ));
    }
    let mut domains = Vec::new();
    // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it; AMD uses the same names. `intel-rapl-mmio` shows the
    // same packages again and does not match.
    for folder in entries(&base, "intel-rapl:") {
        let Ok(name) = read(&folder.join("name")) else { continue };
        if !(name.starts_with("package") || name == "dram") {
            continue;
        }
        let counter = folder.join("energy_uj");
        let last = number(&counter).map_err(|reason| {
            format!("{reason}; to allow it: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj")
        })?;
        let range = number(&folder.join("max_energy_range_uj"))?;
        domains.push(Domain { name, counter, range, last, total: 0 });
    }
    if domains.is_empty() { Err(format!("no package counter under {}", base.display())) } else { Ok(domains) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Tree;

    const P0: &str = "sys/class/powercap/intel-rapl:0";

    fn tree() -> Tree {
        Tree::new(&[
            ("sys/class/powercap/intel-rapl/name", "x"),
            (&format!("{P0}/name"), "package-0\n"),
            (&format!("{P0}/energy_uj"), "1000000\n"),
            (&format!("{P0}/max_energy_range_uj"), "9999999\n"),
            (&format!("{P0}:0/name"), "core\n"),
            (&format!("{P0}:0/energy_uj"), "5\n"),
            (&format!("{P0}:0/max_energy_range_uj"), "9999999\n"),
            (&format!("{P0}:1/name"), "dram\n"),
            (&format!("{P0}:1/energy_uj"), "0\n"),
            (&format!("{P0}:1/max_energy_range_uj"), "9999999\n"),
            ("sys/class/powercap/intel-rapl:1/name", "psys\n"),
            ("sys/class/powercap/intel-rapl:1/energy_uj", "77\n"),
            ("sys/class/powercap/intel-rapl-mmio:0/name", "package-0\n"),
        ])
    }

    fn check(meter: &mut EnergyMeter, joules: f64) {
        let value = *meter.joules().value().expect("a reading");
        assert!((value - joules).abs() < 1e-9, "{value} J, not {joules} J");
    }

    #[test]
    fn packages_and_memory_are_summed_and_parts_are_not() {
        let tree = tree();
        let mut meter = EnergyMeter::open(&tree.system());
        assert_eq!(meter.domains().value().unwrap(), &["package-0", "dram"]);
        check(&mut meter, 0.0);
        tree.write(&format!("{P0}/energy_uj"), "3500000");
        tree.write(&format!("{P0}:0/energy_uj"), "900000");
        tree.write(&format!("{P0}:1/energy_uj"), "250000");
        check(&mut meter, 2.75);
        check(&mut meter, 2.75);
    }

    #[test]
    fn a_counter_that_wraps_goes_on() {
        let tree = tree();
        let mut meter = EnergyMeter::open(&tree.system());
        tree.write(&format!("{P0}/energy_uj"), "9999999");
        check(&mut meter, 8.999_999);
        // The count after the highest is 0.
        tree.write(&format!("{P0}/energy_uj"), "0");
        check(&mut meter, 9.0);
        tree.write(&format!("{P0}/energy_uj"), "9000000");
        tree.write(&format!("{P0}:1/energy_uj"), "1000000");
        check(&mut meter, 19.0);
        tree.write(&format!("{P0}/energy_uj"), "500000");
        check(&mut meter, 20.5);
    }

    #[test]
    fn a_counter_that_disappears_makes_the_sum_missing_for_good() {
        let tree = tree();
        let mut meter = EnergyMeter::open(&tree.system());
        tree.remove(&format!("{P0}/energy_uj"));
        assert!(meter.joules().value().is_none());
        tree.write(&format!("{P0}/energy_uj"), "3500000");
        assert!(matches!(meter.joules(), Measured::Missing { reason } if reason.contains("energy_uj")));
    }

    #[test]
    fn without_counters_energy_is_missing_with_a_reason() {
        for (files, reason) in [
            (vec![], "virtual machine"),
            (vec![("sys/class/powercap/dtpm/name", "x")], "no package counter"),
            (vec![("sys/class/powercap/intel-rapl:0/name", "package-0")], "chmod a+r"),
        ] {
            let mut meter = EnergyMeter::open(&Tree::new(&files).system());
            match meter.joules() {
                Measured::Missing { reason: r } => assert!(r.contains(reason), "{r}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
