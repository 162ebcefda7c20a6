//! What can be measured on this machine, and for what cannot, what a person would have to do; and how a machine that
//! runs hot is made to run cooler.

use crate::energy::{EnergyMeter, PERMISSION_FIX};
use crate::{Gpu, System};
use isoflop_base::Measured;
use serde::Serialize;

/// An instrument and whether it can be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Readable {
    /// What it measures.
    pub instrument: &'static str,
    /// What it says now, in words with units, or why it says nothing.
    pub now: Measured<String>,
    /// What makes it readable, where something would: a command, or what to ask for.
    pub fix: Option<String>,
}

/// NVIDIA's number among vendors of PCI devices.
const NVIDIA: &str = "0x10de";

impl System {
    /// Whether this is a virtual machine, as its processor says.
    pub fn is_virtual(&self) -> bool {
        self.text("proc/cpuinfo").is_ok_and(|info| {
            let flags = info.lines().find(|line| line.starts_with("flags"));
            flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
        })
    }

    /// Every instrument, in the order of their use.
    pub fn readable(&self, gpus: &Measured<Vec<Gpu>>) -> Vec<Readable> {
        let mut energy = EnergyMeter::open(self);
        let domains = energy.domains().map(|names| names.join(" + "));
        let energy_fix = unread(&domains).map(|reason| self.energy_fix(reason));
        let temperature = self.processor_temperature().map(|t| format!("{:.0} °C ({})", t.celsius, t.sensor));
        let sensor_fix = unread(&temperature).and_then(|_| self.sensor_fix());
        let fans = self.fans_rpm().map(|all| {
            let all: Vec<String> = all.iter().map(u64::to_string).collect();
            format!("{} rpm", all.join(", "))
        });
        let cards = gpus.clone().map(|cards| cards.iter().map(card).collect::<Vec<_>>().join("; "));
        let card_fix = unread(&cards).and_then(|_| self.card_fix());
        let row = |instrument, now, fix| Readable { instrument, now, fix };
        vec![
            row("energy of the processors", domains, energy_fix),
            row("energy of the board", energy.board_joules().map(|_| "psys".to_owned()), None),
            row("temperature", temperature, sensor_fix),
            row("fans", fans, None),
            row("throttling", self.throttle_count().map(|n| format!("{n} times since boot")), None),
            row("clock", self.cpu_clock_mhz().map(|mhz| format!("{mhz:.0} MHz")), None),
            row("graphics cards", cards, card_fix),
        ]
    }

    fn energy_fix(&self, reason: &str) -> String {
        if reason.contains(PERMISSION_FIX) {
            return PERMISSION_FIX.to_owned();
        }
        if reason.contains("container hides") {
            return "-v /sys/devices/virtual/powercap:/powercap:ro -e ISOFLOP_POWERCAP=/powercap".to_owned();
        }
        let estimate = "set tdp_w under [meter] of a study for an estimate";
        match (self.is_virtual(), self.vendor()) {
            (true, _) => format!("a virtual machine has no counters of its own; {estimate}"),
            (false, Some("GenuineIntel" | "AuthenticAMD")) => "sudo modprobe intel_rapl_msr".to_owned(),
            (false, _) => format!("this processor has no counters that Linux shows; {estimate}"),
        }
    }

    fn sensor_fix(&self) -> Option<String> {
        match (self.is_virtual(), self.vendor()) {
            (false, Some("GenuineIntel")) => Some("sudo modprobe coretemp".to_owned()),
            (false, Some("AuthenticAMD")) => Some("sudo modprobe k10temp".to_owned()),
            _ => None,
        }
    }

    /// A card that is plugged in without a driver that works.
    fn card_fix(&self) -> Option<String> {
        let devices = std::fs::read_dir(self.path("sys/bus/pci/devices")).ok()?;
        let is_card = |device: &std::path::Path| {
            self.read(&device.join("vendor")).is_ok_and(|vendor| vendor == NVIDIA)
                && self.read(&device.join("class")).is_ok_and(|class| class.starts_with("0x03"))
        };
        let found = devices.filter_map(Result::ok).any(|entry| is_card(&entry.path()));
        found.then(|| {
            "an NVIDIA card is plugged in: install its driver (on Debian: sudo apt install nvidia-driver)"
                .to_owned()
        })
    }

    fn vendor(&self) -> Option<&'static str> {
        let info = self.text("proc/cpuinfo").ok()?;
        let line = info.lines().find(|line| line.starts_with("vendor_id"))?;
        ["GenuineIntel", "AuthenticAMD"].into_iter().find(|vendor| line.ends_with(vendor))
    }

    /// Commands that make this machine run cooler: power caps of its packages and cards, clocks, fans.
    pub fn cooling(&self, gpus: &Measured<Vec<Gpu>>) -> Vec<String> {
        let mut commands = Vec::new();
        for package in self.entries("sys/class/powercap", "intel-rapl:") {
            let limit = package.join("constraint_0_power_limit_uw");
            let is_package = self.read(&package.join("name")).is_ok_and(|name| name.starts_with("package"));
            if let Ok(now) = self.number(&limit)
                && is_package
            {
                let less = now / 5 * 4;
                commands.push(format!(
                    "echo {less} | sudo tee {} (now {} W)",
                    limit.display(),
                    now / 1_000_000
                ));
            }
        }
        if commands.is_empty()
            && let Ok(khz) = self.number(&self.path("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"))
        {
            commands.push(format!(
                "echo {} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq (at most {khz} kHz now)",
                khz / 5 * 4
            ));
        }
        let cards = gpus.value().map(Vec::as_slice).unwrap_or_default();
        for (index, card) in cards.iter().enumerate().filter(|(_, card)| card.by != "amdgpu") {
            if let Some(watts) = card.power_limit_w.value() {
                commands
                    .push(format!("sudo nvidia-smi -i {index} -pl {:.0} (now {watts:.0} W)", watts * 0.8));
            }
        }
        for device in self.entries("sys/class/drm", "card") {
            for monitor in crate::system::entries(&device.join("device/hwmon"), "hwmon") {
                let cap = monitor.join("power1_cap");
                if let Ok(now) = self.number(&cap) {
                    commands.push(format!(
                        "echo {} | sudo tee {} (now {} W)",
                        now / 5 * 4,
                        cap.display(),
                        now / 1_000_000
                    ));
                }
            }
        }
        for chip in self.entries("sys/class/hwmon", "hwmon") {
            if self.number(&chip.join("pwm1")).is_ok() {
                let chip = chip.display();
                commands.push(format!(
                    "echo 1 | sudo tee {chip}/pwm1_enable && echo 255 | sudo tee {chip}/pwm1 (full fan)"
                ));
            }
        }
        commands
    }
}

fn unread<T>(reading: &Measured<T>) -> Option<&str> {
    match reading {
        Measured::Missing { reason } => Some(reason),
        _ => None,
    }
}

fn card(card: &Gpu) -> String {
    let number = |value: &Measured<f64>, unit: &str| value.value().map(|v| format!(", {v:.0} {unit}"));
    let parts = [number(&card.power_w, "W"), number(&card.celsius, "°C"), number(&card.clock_mhz, "MHz")];
    let slowed = card.throttle.value().filter(|reasons| !reasons.is_empty());
    let slowed = slowed.map(|reasons| format!(", slowed: {}", reasons.join(" and ")));
    let driver = card.driver.value().map(|driver| format!(", driver {driver}"));
    let divided =
        card.instances.value().filter(|n| **n > 1).map(|n| format!(", whole card of {n} instances"));
    let words: String = parts.into_iter().chain([slowed, driver, divided]).flatten().collect();
    format!("{} by {}{words}", card.name, card.by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::{DENIED, Tree};

    const NONE: Measured<Vec<Gpu>> = Measured::Missing { reason: String::new() };

    fn check(files: &[(&str, &str)], instrument: &str, fix: Option<&str>) {
        let found = Tree::new(files).system().readable(&NONE);
        let row = found.iter().find(|row| row.instrument == instrument).unwrap();
        match (fix, &row.fix) {
            (Some(part), Some(fix)) => assert!(fix.contains(part), "{fix}"),
            (None, None) => {}
            other => panic!("{instrument}: {other:?}"),
        }
    }

    #[test]
    fn each_instrument_that_cannot_be_read_has_the_fix_that_fits_the_machine() {
        let (energy, temperature, cards) = ("energy of the processors", "temperature", "graphics cards");
        let metal = ("proc/cpuinfo", "processor : 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx2\n");
        let amd = ("proc/cpuinfo", "processor : 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n");
        let guest = ("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor avx2\n");
        check(&[metal], energy, Some("modprobe intel_rapl_msr"));
        check(&[guest], energy, Some("tdp_w"));
        let package = "sys/class/powercap/intel-rapl:0";
        let (name, joules) = (format!("{package}/name"), format!("{package}/energy_uj"));
        check(&[metal, (&name, "package-0"), (&joules, DENIED)], energy, Some("sudo chmod a+r"));
        let range = format!("{package}/max_energy_range_uj");
        check(&[metal, (&name, "package-0"), (&joules, "5"), (&range, "9")], energy, None);
        check(&[metal], temperature, Some("modprobe coretemp"));
        check(&[amd], temperature, Some("modprobe k10temp"));
        check(&[guest], temperature, None);
        let (vendor, class) =
            ("sys/bus/pci/devices/0000:01:00.0/vendor", "sys/bus/pci/devices/0000:01:00.0/class");
        check(&[(vendor, "0x10de"), (class, "0x030000")], cards, Some("install its driver"));
        check(&[(vendor, "0x10de"), (class, "0x040300")], cards, None);
    }

    #[test]
    fn commands_that_cool_name_what_this_machine_has() {
        assert!(Tree::new(&[]).system().cooling(&NONE).is_empty());
        let tree = Tree::new(&[
            ("sys/class/powercap/intel-rapl:0/name", "package-0"),
            ("sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw", "125000000"),
            ("sys/class/powercap/intel-rapl:0:0/name", "core"),
            ("sys/class/powercap/intel-rapl:0:0/constraint_0_power_limit_uw", "0"),
            ("sys/class/hwmon/hwmon2/pwm1", "96"),
        ]);
        let commands = tree.system().cooling(&NONE);
        assert_eq!(commands.len(), 2, "{commands:?}");
        assert!(
            commands[0].starts_with("echo 100000000 | sudo tee ") && commands[0].ends_with("(now 125 W)")
        );
        assert!(commands[1].contains("hwmon2/pwm1_enable"));
    }
}
