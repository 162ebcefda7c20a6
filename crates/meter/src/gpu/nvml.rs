//! NVIDIA's cards by the driver's management library (NVML), loaded when it is asked.

use super::{Gpu, not_shown};
use isoflop_base::Measured;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use std::path::PathBuf;

/// Where the driver's library is looked for: where the loader finds it, and where Windows puts it for Linux.
pub(super) fn library_paths() -> Vec<PathBuf> {
    let names: &[&str] = match cfg!(windows) {
        true => &["nvml.dll"],
        false => &["libnvidia-ml.so.1", "libnvidia-ml.so", "/usr/lib/wsl/lib/libnvidia-ml.so.1"],
    };
    names.iter().map(PathBuf::from).collect()
}

/// The library, initialised.
#[derive(Debug)]
pub(super) struct Library {
    nvml: Nvml,
    driver: Measured<String>,
}

impl Library {
    /// Loads the first of the libraries that can be.
    ///
    /// # Errors
    /// None is there, or the driver does not answer; in words.
    pub(super) fn load(libraries: &[PathBuf]) -> Result<Self, String> {
        let mut reason = "no NVIDIA driver: its library libnvidia-ml is not here".to_owned();
        for path in libraries {
            match Nvml::builder().lib_path(path.as_os_str()).init() {
                Ok(nvml) => {
                    let driver = reading(nvml.sys_driver_version());
                    return Ok(Self { nvml, driver });
                }
                Err(NvmlError::LibloadingError(_)) => {}
                // A library that is there and cannot work says more than one that is not.
                Err(e) => reason = format!("the NVIDIA driver's library: {e}"),
            }
        }
        Err(reason)
    }

    /// All cards. One that does not answer keeps its place, with its readings missing.
    pub(super) fn read(&self) -> Measured<Vec<Gpu>> {
        match self.nvml.device_count() {
            Ok(0) => Measured::missing("the NVIDIA driver lists no device"),
            Ok(count) => Measured::measured((0..count).map(|index| self.card(index)).collect()),
            Err(e) => Measured::missing(format!("the NVIDIA driver's library: {e}")),
        }
    }

    /// The energy counter of each card, joules: the one reading that a training loop may wait for.
    pub(super) fn counters(&self) -> Vec<Measured<f64>> {
        let one =
            |index| self.nvml.device_by_index(index).and_then(|device| device.total_energy_consumption());
        let count = self.nvml.device_count().unwrap_or(0);
        (0..count).map(|index| reading(one(index)).map(|millijoules| millijoules as f64 / 1000.0)).collect()
    }

    fn card(&self, index: u32) -> Gpu {
        let device = match self.nvml.device_by_index(index) {
            Ok(device) => device,
            Err(e) => return lost(index, &e),
        };
        let memory = reading(device.memory_info());
        let watts = |milliwatts: u32| f64::from(milliwatts) / 1000.0;
        let fans = device.num_fans().unwrap_or(1);
        let fan = (0..fans).map(|fan| device.fan_speed(fan)).reduce(|a, b| Ok(a?.max(b?)));
        Gpu {
            name: device.name().unwrap_or_else(|_| format!("NVIDIA device {index}")),
            by: "NVML",
            driver: self.driver.clone(),
            memory_total: memory.clone().map(|m| m.total),
            memory_used: memory.map(|m| m.used),
            power_w: reading(device.power_usage()).map(watts),
            power_limit_w: reading(device.enforced_power_limit()).map(watts),
            celsius: reading(device.temperature(TemperatureSensor::Gpu)).map(f64::from),
            utilisation: reading(device.utilization_rates()).map(|rates| f64::from(rates.gpu) / 100.0),
            clock_mhz: reading(device.clock_info(Clock::SM)).map(f64::from),
            fan: fan.map_or_else(|| not_shown("NVML"), reading).map(|percent| f64::from(percent) / 100.0),
            throttle: reading(device.current_throttle_reasons()).map(words),
            counter_j: reading(device.total_energy_consumption())
                .map(|millijoules| millijoules as f64 / 1000.0),
            instances: match device.mig_mode() {
                Ok(mode) if mode.current == 1 => reading(device.mig_device_count()),
                Ok(_) => Measured::measured(1),
                Err(e) => Measured::missing(format!("NVML: {e}")),
            },
            energy_j: not_shown("NVML"),
        }
    }
}

/// A card that fell off the bus, or that this user may not see.
fn lost(index: u32, error: &NvmlError) -> Gpu {
    let reason = format!("NVML: {error}");
    Gpu { name: format!("NVIDIA device {index}"), ..blank(&reason, "NVML") }
}

/// A card of which nothing is known.
pub(super) fn blank(reason: &str, by: &'static str) -> Gpu {
    fn missing<T>(reason: &str) -> Measured<T> {
        Measured::missing(reason)
    }
    Gpu {
        name: String::new(),
        by,
        driver: missing(reason),
        memory_total: missing(reason),
        memory_used: missing(reason),
        power_w: missing(reason),
        power_limit_w: missing(reason),
        celsius: missing(reason),
        utilisation: missing(reason),
        clock_mhz: missing(reason),
        fan: missing(reason),
        throttle: missing(reason),
        counter_j: missing(reason),
        instances: missing(reason),
        energy_j: missing(reason),
    }
}

fn reading<T>(result: Result<T, NvmlError>) -> Measured<T> {
    match result {
        Ok(value) => Measured::measured(value),
        Err(e) => Measured::missing(format!("NVML: {e}")),
    }
}

/// What slows the card; that it idles, or runs at clocks somebody set, is no complaint.
fn words(reasons: ThrottleReasons) -> Vec<String> {
    const NAMES: &[(ThrottleReasons, &str)] = &[
        (ThrottleReasons::SW_POWER_CAP, "power cap"),
        (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "too hot (driver)"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "too hot (hardware)"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "power brake"),
    ];
    NAMES.iter().filter(|(bit, _)| reasons.contains(*bit)).map(|(_, name)| (*name).to_owned()).collect()
}
