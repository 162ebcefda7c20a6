//! NVIDIA's cards as `nvidia-smi` reports them, where the driver's library cannot be loaded.

use super::Gpu;
use super::nvml::blank;
use isoflop_base::Measured;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is asked, in the order that [`parse`] expects.
const QUERY: &str = "--query-gpu=name,driver_version,memory.total,memory.used,power.draw,power.limit,temperature.gpu,\
                     utilization.gpu,clocks.sm,fan.speed";

/// A driver in trouble can block the program for minutes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The devices of this machine. Starts `nvidia-smi`; missing where there is none.
pub(super) fn read() -> Measured<Vec<Gpu>> {
    match ask() {
        Ok(text) => parse(&text),
        Err(reason) => Measured::missing(reason),
    }
}

fn ask() -> Result<String, String> {
    let mut child = Command::new("nvidia-smi")
        .args([QUERY, "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => "nvidia-smi is not installed".to_owned(),
            _ => format!("nvidia-smi: {e}"),
        })?;
    let start = Instant::now();
    // The answer is a line per device: it fits the pipe, so the child never waits for us to read.
    let status = loop {
        match child.try_wait().map_err(|e| format!("nvidia-smi: {e}"))? {
            Some(status) => break status,
            None if start.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("nvidia-smi did not answer within {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        std::io::Read::read_to_string(&mut out, &mut text).map_err(|e| format!("nvidia-smi: {e}"))?;
    }
    if status.success() { Ok(text) } else { Err(format!("nvidia-smi failed ({status}): {}", text.trim())) }
}

/// The answer, a line per device; values in MiB, W, °C and percent.
fn parse(text: &str) -> Measured<Vec<Gpu>> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let devices: Option<Vec<Gpu>> = lines.iter().map(|line| device(line)).collect();
    match devices {
        Some(devices) if !devices.is_empty() => Measured::measured(devices),
        Some(_) => Measured::missing("nvidia-smi lists no device"),
        None => Measured::missing(format!("nvidia-smi answered `{}`", lines.join("; "))),
    }
}

fn device(line: &str) -> Option<Gpu> {
    // A name may hold a comma; the nine fields after it do not.
    let mut fields: Vec<&str> = line.rsplitn(10, ',').map(str::trim).collect();
    fields.reverse();
    let [name, driver, total, used, power, limit, celsius, utilisation, clock, fan] = fields[..] else {
        return None;
    };
    let mebibytes = |text| number(text).map(|mib| (mib * 1_048_576.0) as u64);
    Some(Gpu {
        name: name.to_owned(),
        driver: Measured::measured(driver.to_owned()),
        memory_total: mebibytes(total),
        memory_used: mebibytes(used),
        power_w: number(power),
        power_limit_w: number(limit),
        celsius: number(celsius),
        utilisation: number(utilisation).map(|percent| percent / 100.0),
        clock_mhz: number(clock),
        fan: number(fan).map(|percent| percent / 100.0),
        ..blank("nvidia-smi was not asked for it", "nvidia-smi")
    })
}

/// `[N/A]`, `[Not Supported]` and the like are missing.
fn number(text: &str) -> Measured<f64> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Measured::measured(value),
        _ => Measured::missing(format!("the driver says {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_gaps_are_missing() {
        let text = "NVIDIA GeForce RTX 4080, 550.54.14, 16376, 1024, 287.41, 320.00, 66, 98, 2505, 41\n\
                    Tesla T4, 550.54.14, 15360, 0, [N/A], 70.00, [N/A], 0, 300, [N/A]\n";
        let devices = parse(text);
        let devices = devices.value().unwrap();
        assert_eq!(devices.len(), 2);
        let first = &devices[0];
        assert_eq!(first.name, "NVIDIA GeForce RTX 4080");
        assert_eq!(first.memory_total, Measured::measured(16376 << 20));
        assert_eq!(first.power_w, Measured::measured(287.41));
        assert_eq!(first.utilisation, Measured::measured(0.98));
        assert_eq!((&first.clock_mhz, &first.fan), (&Measured::measured(2505.0), &Measured::measured(0.41)));
        assert!(matches!(&devices[1].power_w, Measured::Missing { reason } if reason.contains("N/A")));
        assert_eq!(devices[1].utilisation, Measured::measured(0.0));
    }

    #[test]
    fn other_answers_are_missing_with_the_answer() {
        for (text, reason) in [("", "no device"), ("No devices were found\n", "No devices")] {
            assert!(matches!(parse(text), Measured::Missing { reason: r } if r.contains(reason)));
        }
    }
}
