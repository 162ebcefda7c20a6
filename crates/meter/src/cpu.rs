//! The processor: what it is, how much of it this process may use, whether it was throttled.

use crate::System;
use isoflop_base::Measured;
use serde::Serialize;
use std::collections::BTreeSet;

/// The processor as this process sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cpu {
    /// Its name.
    pub model: Measured<String>,
    /// Logical processors of the machine.
    pub logical: Measured<usize>,
    /// Physical cores of the machine.
    pub physical: Measured<usize>,
    /// Logical processors the scheduler may put this process on.
    pub affinity: Measured<usize>,
    /// Processors' worth of time the control group allows; missing if there is no limit.
    pub quota: Measured<f64>,
    /// Threads that make sense: the least of the above.
    pub usable: Measured<usize>,
    /// Instruction sets that matter for this program's arithmetic.
    pub features: Measured<Vec<String>>,
    /// Data and unified caches of the first processor.
    pub caches: Measured<Vec<Cache>>,
    /// Clock of the first processor now, MHz.
    pub clock_mhz: Measured<f64>,
    /// Times a core or package was slowed for heat, since boot.
    pub throttled: Measured<u64>,
}

/// One cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// 1, 2, 3.
    pub level: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical processors that share it.
    pub shared_by: usize,
}

/// What the kernels look for, as Linux spells it on x86-64 and AArch64.
const FEATURES: &[&str] = &[
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512_bf16",
    "avx512_vnni",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimdhp",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
    "svebf16",
];

impl System {
    /// What the processor is.
    pub fn cpu(&self) -> Cpu {
        let info = self.text("proc/cpuinfo");
        let (affinity, quota) = (self.affinity(), self.quota());
        Cpu {
            model: measured(info.clone().and_then(|i| model(&i))),
            logical: measured(info.clone().and_then(|i| logical(&i))),
            physical: measured(info.clone().and_then(|i| physical(&i))),
            usable: usable(&affinity, &quota),
            affinity,
            quota,
            features: measured(info.and_then(|i| features(&i))),
            caches: self.caches(),
            clock_mhz: self.cpu_clock_mhz(),
            throttled: self.throttle_count(),
        }
    }

    /// Times a core or package was slowed for heat since boot, summed. Intel only; its change over a run is what tells.
    pub fn throttle_count(&self) -> Measured<u64> {
        let counts: Vec<u64> = self
            .entries("sys/devices/system/cpu", "cpu")
            .iter()
            .flat_map(|cpu| {
                ["core_throttle_count", "package_throttle_count"]
                    .map(|f| cpu.join("thermal_throttle").join(f))
            })
            .filter_map(|path| self.number(&path).ok())
            .collect();
        if counts.is_empty() {
            return Measured::missing("this processor or kernel shows no throttle counters");
        }
        Measured::measured(counts.iter().sum())
    }

    /// Clock of the first processor now, MHz.
    pub fn cpu_clock_mhz(&self) -> Measured<f64> {
        // The governor's own file is short; the list of all processors is not.
        match self.number(&self.path("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")) {
            Ok(kilohertz) => Measured::measured(kilohertz as f64 / 1000.0),
            Err(_) => measured(self.text("proc/cpuinfo").and_then(|info| clock_mhz(&info))),
        }
    }

    fn affinity(&self) -> Measured<usize> {
        measured(self.text("proc/self/status").and_then(|status| {
            let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
            list.and_then(|l| count_list(l.trim()))
                .ok_or("no Cpus_allowed_list in /proc/self/status".to_owned())
        }))
    }

    fn quota(&self) -> Measured<f64> {
        // Version 2: `cpu.max` is `quota period` or `max period`. Version 1: two files, quota -1 for none.
        let v2 = control_group_files(self, "cpu", &["cpu.max"]);
        let v1 = control_group_files(self, "cpu", &["cpu.cfs_quota_us"]);
        let period = control_group_files(self, "cpu", &["cpu.cfs_period_us"]);
        let from_v2 = v2.iter().filter_map(|text| {
            let (quota, period) = text.split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.trim().parse::<f64>().ok()?)
        });
        let from_v1 = v1.iter().zip(&period).filter_map(|(quota, period)| {
            let quota = quota.parse::<f64>().ok().filter(|&q| q > 0.0)?;
            Some(quota / period.parse::<f64>().ok()?)
        });
        match from_v2.chain(from_v1).filter(|q| q.is_finite() && *q > 0.0).min_by(f64::total_cmp) {
            Some(quota) => Measured::measured(quota),
            None => Measured::missing("no processor limit is set for this process's control group"),
        }
    }

    fn caches(&self) -> Measured<Vec<Cache>> {
        let caches: Vec<Cache> = self
            .entries("sys/devices/system/cpu/cpu0/cache", "index")
            .iter()
            .filter(|index| self.read(&index.join("type")).is_ok_and(|t| t != "Instruction"))
            .filter_map(|index| {
                Some(Cache {
                    level: self.number(&index.join("level")).ok()?,
                    bytes: cache_bytes(&self.read(&index.join("size")).ok()?)?,
                    shared_by: count_list(&self.read(&index.join("shared_cpu_list")).ok()?)?,
                })
            })
            .collect();
        if caches.is_empty() {
            return Measured::missing("the kernel shows no caches");
        }
        Measured::measured(caches)
    }
}

/// The texts of the first of `names` that exists in each control group of this process, from its own up to the root.
pub(crate) fn control_group_files(system: &System, controller: &str, names: &[&str]) -> Vec<String> {
    let Ok(groups) = system.text("proc/self/cgroup") else { return Vec::new() };
    let mut texts = Vec::new();
    // `hierarchy:controllers:path`; version 2 is hierarchy 0 with no controllers.
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let mounts = match controllers {
            "" => vec![String::new(), "unified/".to_owned()],
            list if list.split(',').any(|c| c == controller) => {
                vec![format!("{list}/"), format!("{controller}/")]
            }
            _ => continue,
        };
        for mount in mounts {
            let mut group = path.trim_matches('/');
            loop {
                let found =
                    names.iter().find_map(|n| system.text(&format!("sys/fs/cgroup/{mount}{group}/{n}")).ok());
                texts.extend(found);
                match (group.rsplit_once('/'), group) {
                    (_, "") => break,
                    (Some((parent, _)), _) => group = parent,
                    (None, _) => group = "",
                }
            }
        }
    }
    texts
}

fn usable(affinity: &Measured<usize>, quota: &Measured<f64>) -> Measured<usize> {
    match (affinity.value(), quota.value()) {
        (Some(&cores), Some(&quota)) => Measured::measured(cores.min((quota.floor() as usize).max(1))),
        (Some(&cores), None) => Measured::measured(cores),
        (None, _) => match std::thread::available_parallelism() {
            Ok(n) => Measured::estimated(n.get(), "the standard library's available parallelism"),
            Err(e) => Measured::missing(e.to_string()),
        },
    }
}

fn measured<T>(result: Result<T, String>) -> Measured<T> {
    match result {
        Ok(value) => Measured::measured(value),
        Err(reason) => Measured::missing(reason),
    }
}

/// The values of one key of `/proc/cpuinfo`, one per processor.
fn values<'a>(info: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    info.lines().filter_map(move |line| {
        let (k, v) = line.split_once(':')?;
        (k.trim() == key).then(|| v.trim())
    })
}

fn model(info: &str) -> Result<String, String> {
    let named = ["model name", "Model", "cpu model", "uarch"];
    let found = named.iter().find_map(|key| values(info, key).next());
    found.map(str::to_owned).ok_or("/proc/cpuinfo names no model".to_owned())
}

fn logical(info: &str) -> Result<usize, String> {
    match values(info, "processor").count() {
        0 => Err("/proc/cpuinfo lists no processor".to_owned()),
        n => Ok(n),
    }
}

fn physical(info: &str) -> Result<usize, String> {
    let cores: BTreeSet<_> = values(info, "physical id").zip(values(info, "core id")).collect();
    if cores.is_empty() { Err("/proc/cpuinfo does not tell cores apart".to_owned()) } else { Ok(cores.len()) }
}

fn features(info: &str) -> Result<Vec<String>, String> {
    let line = values(info, "flags").next().or_else(|| values(info, "Features").next());
    let all: BTreeSet<&str> = line.ok_or("/proc/cpuinfo lists no features")?.split_whitespace().collect();
    Ok(FEATURES.iter().filter(|f| all.contains(*f)).map(|f| (*f).to_owned()).collect())
}

fn clock_mhz(info: &str) -> Result<f64, String> {
    let value = values(info, "cpu MHz").next().and_then(|v| v.parse().ok());
    value.ok_or("/proc/cpuinfo shows no clock".to_owned())
}

/// Processors in a list such as `0-3,8,10-11`.
fn count_list(list: &str) -> Option<usize> {
    list.split(',')
        .map(|part| match part.split_once('-') {
            Some((a, b)) => (b.trim().parse::<usize>().ok()? + 1).checked_sub(a.trim().parse().ok()?),
            None => part.trim().parse::<usize>().ok().map(|_| 1),
        })
        .sum()
}

fn cache_bytes(text: &str) -> Option<u64> {
    match (text.strip_suffix('K'), text.strip_suffix('M')) {
        (Some(k), _) => Some(k.parse::<u64>().ok()? << 10),
        (_, Some(m)) => Some(m.parse::<u64>().ok()? << 20),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Tree;

    const X86: &str = "processor\t: 0\nmodel name\t: Fast 9\ncpu MHz\t\t: 2596.1\nphysical id\t: 0\ncore id\t\t: 0\n\
        flags\t\t: fpu avx avx2 fma avx512f avx512_bf16\n\nprocessor\t: 1\nmodel name\t: Fast 9\nphysical id\t: 0\n\
        core id\t\t: 0\nflags\t\t: fpu\n\nprocessor\t: 2\nphysical id\t: 0\ncore id\t\t: 1\n\nprocessor\t: 3\n\
        physical id\t: 0\ncore id\t\t: 1\n";

    #[test]
    fn a_processor_is_read() {
        let cache = "sys/devices/system/cpu/cpu0/cache";
        let tree = Tree::new(&[
            ("proc/cpuinfo", X86),
            ("proc/self/status", "Cpus_allowed_list:\t0-1,3\n"),
            ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n"),
            ("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "4\n"),
            (&format!("{cache}/index0/type"), "Data"),
            (&format!("{cache}/index0/level"), "1"),
            (&format!("{cache}/index0/size"), "32K"),
            (&format!("{cache}/index0/shared_cpu_list"), "0"),
            (&format!("{cache}/index1/type"), "Instruction"),
            (&format!("{cache}/index3/type"), "Unified"),
            (&format!("{cache}/index3/level"), "3"),
            (&format!("{cache}/index3/size"), "16M"),
            (&format!("{cache}/index3/shared_cpu_list"), "0-3"),
        ]);
        let cpu = tree.system().cpu();
        assert_eq!(cpu.model.value().unwrap(), "Fast 9");
        assert_eq!((cpu.logical.value(), cpu.physical.value()), (Some(&4), Some(&2)));
        assert_eq!((cpu.affinity.value(), cpu.usable.value()), (Some(&3), Some(&3)));
        assert_eq!(cpu.features.value().unwrap(), &["avx", "avx2", "fma", "avx512f", "avx512_bf16"]);
        assert_eq!(cpu.throttled.value(), Some(&7));
        assert_eq!(cpu.clock_mhz.value(), Some(&2596.1));
        let caches = [(1, 32 << 10, 1), (3, 16 << 20, 4)].map(|(level, bytes, shared_by)| Cache {
            level,
            bytes,
            shared_by,
        });
        assert_eq!(cpu.caches.value().unwrap(), &caches);
    }

    fn check_usable(files: &[(&str, &str)], quota: Option<f64>, usable: usize) {
        let tree = Tree::new(files);
        tree.write("proc/self/status", "Cpus_allowed_list:\t0-7\n");
        let cpu = tree.system().cpu();
        assert_eq!(cpu.quota.value().copied(), quota, "{files:?}");
        assert_eq!(cpu.usable.value(), Some(&usable), "{files:?}");
    }

    #[test]
    fn control_groups_limit_the_cores() {
        let v2 = ("proc/self/cgroup", "0::/user/job\n");
        check_usable(&[v2], None, 8);
        check_usable(&[v2, ("sys/fs/cgroup/user/job/cpu.max", "max 100000")], None, 8);
        check_usable(&[v2, ("sys/fs/cgroup/user/job/cpu.max", "250000 100000")], Some(2.5), 2);
        check_usable(&[v2, ("sys/fs/cgroup/user/cpu.max", "50000 100000")], Some(0.5), 1);
        check_usable(
            &[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", "300000 100000")],
            Some(3.0),
            3,
        );
        let v1 = ("proc/self/cgroup", "4:cpu,cpuacct:/job\n1:memory:/job\n");
        let base = "sys/fs/cgroup/cpu,cpuacct/job";
        let (quota, period) = (format!("{base}/cpu.cfs_quota_us"), format!("{base}/cpu.cfs_period_us"));
        check_usable(&[v1, (&quota, "400000"), (&period, "100000")], Some(4.0), 4);
        check_usable(&[v1, (&quota, "-1"), (&period, "100000")], None, 8);
    }

    #[test]
    fn without_proc_all_but_the_cores_is_missing() {
        let cpu = Tree::new(&[]).system().cpu();
        assert!(
            cpu.model.value().is_none() && cpu.features.value().is_none() && cpu.throttled.value().is_none()
        );
        assert!(matches!(cpu.usable, Measured::Estimated { value, .. } if value >= 1));
    }
}
