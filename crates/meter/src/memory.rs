//! Memory of this process and of the machine.

use crate::System;
use crate::cpu::control_group_files;
use isoflop_base::Measured;
use serde::Serialize;

/// Bytes of memory, as far as they can be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Memory {
    /// Highest resident memory of this process since it started, or since the kernel's counter was reset.
    pub peak: Measured<u64>,
    /// Resident memory of this process now.
    pub resident: Measured<u64>,
    /// Of the machine.
    pub total: Measured<u64>,
    /// Free or freeable without swapping.
    pub available: Measured<u64>,
    /// What the control group of this process may use; missing if there is no limit.
    pub limit: Measured<u64>,
    /// Highest use of this process's control group so far, files it read included.
    pub group_peak: Measured<u64>,
}

impl System {
    /// Memory of this process and of the machine, bytes.
    pub fn memory(&self) -> Memory {
        Memory {
            peak: self.peak_memory(),
            resident: self.resident_memory(),
            total: self.kibibytes("proc/meminfo", "MemTotal:"),
            available: self.kibibytes("proc/meminfo", "MemAvailable:"),
            limit: self.memory_limit(),
            group_peak: self.group_peak(),
        }
    }

    /// Highest resident memory of this process so far, bytes.
    pub fn peak_memory(&self) -> Measured<u64> {
        self.kibibytes("proc/self/status", "VmHWM:")
    }

    /// Resident memory of this process now, bytes.
    pub fn resident_memory(&self) -> Measured<u64> {
        self.kibibytes("proc/self/status", "VmRSS:")
    }

    /// A line `Key:   123 kB` of a file of such lines.
    fn kibibytes(&self, file: &str, key: &str) -> Measured<u64> {
        let text = match self.text(file) {
            Ok(text) => text,
            Err(reason) => return Measured::missing(reason),
        };
        let line = text.lines().find_map(|l| l.strip_prefix(key));
        let value = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        match value {
            Some(kib) => Measured::measured(kib * 1024),
            None => Measured::missing(format!("/{file} has no line `{key} … kB`")),
        }
    }

    fn group_peak(&self) -> Measured<u64> {
        let peaks = control_group_files(self, "memory", &["memory.peak", "memory.max_usage_in_bytes"]);
        match peaks.first().and_then(|text| text.parse().ok()) {
            Some(bytes) => Measured::measured(bytes),
            None => Measured::missing(
                "this process's control group shows no peak (kernels before 5.19 have none)",
            ),
        }
    }

    fn memory_limit(&self) -> Measured<u64> {
        // Version 2 writes `max`, version 1 a number near 2^63, for no limit.
        let limits = control_group_files(self, "memory", &["memory.max", "memory.limit_in_bytes"]);
        let lowest = limits.iter().filter_map(|text| text.parse::<u64>().ok()).filter(|&b| b < 1 << 60).min();
        match lowest {
            Some(bytes) => Measured::measured(bytes),
            None => Measured::missing("no memory limit is set for this process's control group"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Tree;

    #[test]
    fn kilobytes_become_bytes_and_limits_are_found_up_the_tree() {
        let tree = Tree::new(&[
            ("proc/self/status", "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n"),
            ("proc/meminfo", "MemTotal:       8000 kB\nMemAvailable:   6000 kB\n"),
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "4096000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.peak", "3000000\n"),
            ("sys/fs/cgroup/a/memory.peak", "5000000\n"),
        ]);
        let memory = tree.system().memory();
        let m = Measured::measured;
        assert_eq!(memory.group_peak, m(3_000_000), "of its own group, not of those above");
        assert_eq!(
            (memory.peak, memory.resident, memory.total, memory.available, memory.limit),
            (m(2_097_152), m(1_048_576), m(8_192_000), m(6_144_000), m(4_096_000))
        );
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let tree = Tree::new(&[("proc/self/status", "Name:\tx\n")]);
        let memory = tree.system().memory();
        assert!(matches!(memory.peak, Measured::Missing { reason } if reason.contains("VmHWM")));
        assert!(matches!(memory.total, Measured::Missing { reason } if reason.contains("meminfo")));
        assert!(memory.limit.value().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_peak() {
        let peak = *System::real().peak_memory().value().unwrap();
        assert!((1 << 20..1 << 40).contains(&peak), "{peak}");
    }
}
