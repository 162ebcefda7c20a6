//! Temperatures, from the kernel's hardware monitors and thermal zones.

use crate::System;
use crate::system::entries;
use isoflop_base::Measured;
use serde::Serialize;

/// One sensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Temperature {
    /// Chip and label, such as `coretemp Package id 0`.
    pub sensor: String,
    /// Degrees Celsius.
    pub celsius: f64,
}

impl System {
    /// All sensors that can be read: the hardware monitors, or the thermal zones where there are none.
    pub fn temperatures(&self) -> Measured<Vec<Temperature>> {
        let mut all = Vec::new();
        for chip in self.entries("sys/class/hwmon", "hwmon") {
            let name = self.read(&chip.join("name")).unwrap_or_else(|_| "unnamed".to_owned());
            for input in entries(&chip, "temp") {
                let Some(stem) = input.to_str().and_then(|p| p.strip_suffix("_input")) else { continue };
                let label = self.read(format!("{stem}_label").as_ref()).unwrap_or_default();
                all.extend(self.sensor(&input, format!("{name} {label}")));
            }
        }
        if all.is_empty() {
            for zone in self.entries("sys/class/thermal", "thermal_zone") {
                let name = self.read(&zone.join("type")).unwrap_or_else(|_| "thermal zone".to_owned());
                all.extend(self.sensor(&zone.join("temp"), name));
            }
        }
        if all.is_empty() {
            return Measured::missing("the kernel shows no temperature sensor (usual in a virtual machine)");
        }
        Measured::measured(all)
    }

    /// The hottest sensor of a processor, or of anything where none is known as one's.
    pub fn processor_temperature(&self) -> Measured<Temperature> {
        const PROCESSOR: &[&str] = &["coretemp", "k10temp", "zenpower", "cpu", "x86_pkg_temp", "soc"];
        match self.temperatures() {
            Measured::Measured { value: all } => {
                let known = |t: &&Temperature| PROCESSOR.iter().any(|p| t.sensor.starts_with(p));
                let hotter = |a: &&Temperature, b: &&Temperature| a.celsius.total_cmp(&b.celsius);
                let found = all.iter().filter(known).max_by(hotter).or_else(|| all.iter().max_by(hotter));
                Measured::measured(found.expect("at least one sensor").clone())
            }
            Measured::Estimated { how: reason, .. } | Measured::Missing { reason } => {
                Measured::missing(reason)
            }
        }
    }

    /// Turns a minute of all fans that can be read, in the order of the monitors; one that stands is 0.
    pub fn fans_rpm(&self) -> Measured<Vec<u64>> {
        let chips = self.entries("sys/class/hwmon", "hwmon");
        let inputs = chips.iter().flat_map(|chip| entries(chip, "fan"));
        let inputs = inputs.filter(|path| path.to_str().is_some_and(|p| p.ends_with("_input")));
        let fans: Vec<u64> = inputs.filter_map(|path| self.number(&path).ok()).collect();
        match fans.is_empty() {
            true => Measured::missing("the kernel shows no fan"),
            false => Measured::measured(fans),
        }
    }

    /// A sensor in thousandths of a degree; absent if unreadable or outside what silicon survives (disconnected
    /// sensors read so).
    fn sensor(&self, path: &std::path::Path, name: String) -> Option<Temperature> {
        let thousandths: i64 = self.read(path).ok()?.parse().ok()?;
        let celsius = thousandths as f64 / 1000.0;
        let plausible = celsius > -60.0 && celsius < 150.0 && thousandths != 0;
        plausible.then(|| Temperature { sensor: name.trim().to_owned(), celsius })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Tree;

    #[test]
    fn the_hottest_processor_sensor_is_found_among_others() {
        let tree = Tree::new(&[
            ("sys/class/hwmon/hwmon0/name", "nvme"),
            ("sys/class/hwmon/hwmon0/temp1_input", "88850"),
            ("sys/class/hwmon/hwmon1/name", "coretemp"),
            ("sys/class/hwmon/hwmon1/temp1_input", "61000"),
            ("sys/class/hwmon/hwmon1/temp1_label", "Package id 0"),
            ("sys/class/hwmon/hwmon1/temp2_input", "57000"),
            ("sys/class/hwmon/hwmon1/temp3_input", "-128000"),
            ("sys/class/thermal/thermal_zone0/type", "acpitz"),
            ("sys/class/thermal/thermal_zone0/temp", "99000"),
        ]);
        let system = tree.system();
        assert_eq!(system.temperatures().value().unwrap().len(), 3);
        let hottest = system.processor_temperature();
        let expected = Temperature { sensor: "coretemp Package id 0".into(), celsius: 61.0 };
        assert_eq!(hottest.value(), Some(&expected));
    }

    #[test]
    fn fans_are_read_and_a_standing_one_is_no_gap() {
        let tree = Tree::new(&[
            ("sys/class/hwmon/hwmon0/name", "nct6798"),
            ("sys/class/hwmon/hwmon0/fan1_input", "1210"),
            ("sys/class/hwmon/hwmon0/fan1_min", "300"),
            ("sys/class/hwmon/hwmon0/fan2_input", "0"),
        ]);
        assert_eq!(tree.system().fans_rpm().value().unwrap(), &[1210, 0]);
        assert!(Tree::new(&[]).system().fans_rpm().value().is_none());
    }

    #[test]
    fn zones_serve_where_there_are_no_monitors_and_nothing_is_missing() {
        let zone = [
            ("sys/class/thermal/thermal_zone0/type", "acpitz"),
            ("sys/class/thermal/thermal_zone0/temp", "45500"),
        ];
        assert_eq!(Tree::new(&zone).system().processor_temperature().value().unwrap().celsius, 45.5);
        let none = Tree::new(&[]).system().processor_temperature();
        assert!(matches!(none, Measured::Missing { reason } if reason.contains("virtual machine")));
    }
}
