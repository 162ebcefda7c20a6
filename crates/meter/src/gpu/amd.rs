//! AMD's cards by what the `amdgpu` driver shows in sysfs (kernel documentation, `gpu/amdgpu/thermal.rst`).

use super::nvml::blank;
use super::{Gpu, not_shown};
use crate::System;
use crate::system::entries;
use isoflop_base::Measured;
use std::path::Path;

/// AMD's number among vendors of PCI devices.
const VENDOR: &str = "0x1002";

/// The cards; none is the usual case and no reason to say anything.
pub(super) fn read(system: &System) -> Vec<Gpu> {
    let cards = system.entries("sys/class/drm", "card");
    // `card0` is a card, `card0-DP-1` one of its connectors.
    let cards =
        cards.iter().filter(|card| card.file_name().is_some_and(|n| !n.to_string_lossy().contains('-')));
    cards
        .map(|card| card.join("device"))
        .filter(|device| system.read(&device.join("vendor")).is_ok_and(|vendor| vendor == VENDOR))
        .map(|device| card(system, &device))
        .collect()
}

fn card(system: &System, device: &Path) -> Gpu {
    let number = |path: &Path| match system.number(path) {
        Ok(value) => Measured::measured(value),
        Err(reason) => Measured::missing(reason),
    };
    let monitor = entries(&device.join("hwmon"), "hwmon").into_iter().next();
    let sensor = |names: &[&str]| {
        let Some(monitor) = &monitor else { return not_shown("this card") };
        let found = names.iter().map(|name| number(&monitor.join(name))).find(|read| read.value().is_some());
        found.unwrap_or_else(|| not_shown("this card"))
    };
    let scaled = |value: Measured<u64>, unit: f64| value.map(|v| v as f64 * unit);
    let named = system.read(&device.join("product_name")).ok().filter(|name| !name.is_empty());
    let id = || system.read(&device.join("device")).unwrap_or_default();
    let fan = match (sensor(&["pwm1"]), sensor(&["pwm1_max"])) {
        (pwm, Measured::Measured { value: max }) if max > 0 => scaled(pwm, 1.0 / max as f64),
        (pwm, _) => scaled(pwm, 1.0 / 255.0),
    };
    Gpu {
        name: named.unwrap_or_else(|| format!("AMD device {}", id())),
        driver: match system.text("proc/sys/kernel/osrelease") {
            Ok(release) => Measured::measured(format!("amdgpu of Linux {release}")),
            Err(reason) => Measured::missing(reason),
        },
        memory_total: number(&device.join("mem_info_vram_total")),
        memory_used: number(&device.join("mem_info_vram_used")),
        // Averaged where the card has it, else at once; µW.
        power_w: scaled(sensor(&["power1_average", "power1_input"]), 1e-6),
        power_limit_w: scaled(sensor(&["power1_cap"]), 1e-6),
        // The hot spot (`junction`) where it is shown: it is what the card slows down for.
        celsius: scaled(sensor(&["temp2_input", "temp1_input"]), 1e-3),
        utilisation: scaled(number(&device.join("gpu_busy_percent")), 0.01),
        clock_mhz: scaled(sensor(&["freq1_input"]), 1e-6),
        fan,
        ..blank("the amdgpu driver shows it in binary tables only", "amdgpu")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Tree;

    #[test]
    fn a_card_is_read_with_its_units_and_gaps_are_missing() {
        let device = "sys/class/drm/card1/device";
        let monitor = format!("{device}/hwmon/hwmon4");
        let tree = Tree::new(&[
            ("sys/class/drm/card0/device/vendor", "0x8086"),
            ("sys/class/drm/card1-DP-1/status", "connected"),
            (&format!("{device}/vendor"), "0x1002\n"),
            (&format!("{device}/device"), "0x744c\n"),
            (&format!("{device}/mem_info_vram_total"), "25753026560"),
            (&format!("{device}/mem_info_vram_used"), "1000000"),
            (&format!("{device}/gpu_busy_percent"), "97"),
            (&format!("{monitor}/power1_average"), "283000000"),
            (&format!("{monitor}/power1_cap"), "303000000"),
            (&format!("{monitor}/temp1_input"), "61000"),
            (&format!("{monitor}/temp2_input"), "84000"),
            (&format!("{monitor}/freq1_input"), "2482000000"),
            (&format!("{monitor}/pwm1"), "102"),
        ]);
        let cards = read(&tree.system());
        let [card] = cards.as_slice() else { panic!("{cards:?}") };
        let m = |value: f64| Measured::measured(value);
        assert_eq!((card.name.as_str(), card.by), ("AMD device 0x744c", "amdgpu"));
        assert_eq!((&card.memory_total, &card.utilisation), (&Measured::measured(25_753_026_560), &m(0.97)));
        assert_eq!((&card.power_w, &card.power_limit_w, &card.celsius), (&m(283.0), &m(303.0), &m(84.0)));
        assert_eq!((&card.clock_mhz, &card.fan), (&m(2482.0), &m(0.4)));
        assert!(card.throttle.value().is_none() && card.counter_j.value().is_none());
        assert!(read(&Tree::new(&[]).system()).is_empty());
    }
}
