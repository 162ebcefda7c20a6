//! A thread that reads the instruments from time to time, so that no counter wraps unseen, and nothing is read in a
//! training step.

use crate::energy::{Estimate, MachineEnergy};
use crate::{Gpus, LoadMeter, System};
use isoflop_base::Measured;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest time between two readings: a counter of 65 kJ wraps in 234 s at 280 W.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(30);

/// The state of the machine at a moment. What could not be read is left out; the run's ledger says why.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Seconds since 1970 UTC.
    pub unix_s: f64,
    /// Seconds since 1970 UTC at which its sampler began. Samples of one process share it: between two that do not,
    /// nobody sampled.
    #[serde(skip_serializing_if = "is_zero")]
    pub since_s: f64,
    /// Seconds of the interval that means and rises are over.
    pub interval_s: f64,
    /// Joules since the sampler began, by counters or by estimate; those of the cards in it where the work is theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Whether joules and watts are an estimate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Mean power of the processors over the interval, watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
    /// Hottest sensor of the processor, degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celsius: Option<f64>,
    /// Times a core or package was slowed for heat in the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<u64>,
    /// Clock of the first processor, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_mhz: Option<f64>,
    /// Shares of the processors' time in the interval: this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<f64>,
    /// Other programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<f64>,
    /// Taken by the hypervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stolen: Option<f64>,
    /// Resident memory of this process, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident: Option<u64>,
    /// Highest resident memory of this process so far, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// Turns a minute of the fastest fan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan_rpm: Option<u64>,
    /// Graphics cards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuSample>,
}

/// Of samples written before it was noted.
fn is_zero(since_s: &f64) -> bool {
    *since_s == 0.0
}

/// A graphics card at a moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuSample {
    /// Draw, watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
    /// Degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celsius: Option<f64>,
    /// Share of the time in which a kernel ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<f64>,
    /// Memory in use, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<u64>,
    /// Joules since the sampler began, by its counter or by its power over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Clock of its processors, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_mhz: Option<f64>,
    /// Speed of its fastest fan as a share of the highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan: Option<f64>,
    /// Why it is slowed down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle: Vec<String>,
}

/// Energy that several may ask for: the sampler, and whoever brackets a piece of work.
pub type SharedEnergy = Arc<Mutex<MachineEnergy>>;

/// The instruments of a machine, opened.
#[derive(Debug)]
pub struct Instruments {
    system: System,
    energy: SharedEnergy,
    gpus: Option<Arc<Mutex<Gpus>>>,
    cards: Measured<Vec<String>>,
    cooling: Vec<String>,
    since_s: f64,
    last: Last,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    processors: Measured<f64>,
    throttled: Measured<u64>,
    load: LoadMeter,
}

impl Instruments {
    /// Opens what there is. `on_cards`: the work is done by the graphics cards, so their joules are in the sum.
    pub fn open(system: &System, estimate: Option<Estimate>, on_cards: bool) -> Self {
        let mut gpus = Gpus::open(system);
        // No card now means none later: looking for one starts a program where there is no driver's library.
        let read = gpus.read();
        let name = |card: &crate::Gpu| format!("{} ({})", card.name, card.by);
        let cards = read.clone().map(|cards| cards.iter().map(name).collect::<Vec<_>>());
        let cooling = system.cooling(&read);
        let gpus = Arc::new(Mutex::new(gpus));
        let mut energy = MachineEnergy::open(system, estimate);
        if on_cards {
            energy = energy.with_cards(Arc::clone(&gpus));
        }
        let last = Last {
            at: Instant::now(),
            processors: energy.processors(),
            throttled: system.throttle_count(),
            load: LoadMeter::start(system),
        };
        Self {
            system: system.clone(),
            energy: Arc::new(Mutex::new(energy)),
            gpus: cards.value().is_some().then_some(gpus),
            cards,
            cooling,
            since_s: unix_s(),
            last,
        }
    }

    /// The energy counters, which may be read at any time.
    pub fn energy(&self) -> SharedEnergy {
        Arc::clone(&self.energy)
    }

    /// Names of the graphics cards, or why there are none.
    pub fn cards(&self) -> Measured<Vec<String>> {
        self.cards.clone()
    }

    /// Commands that make this machine run cooler, of the processors first; see [`System::cooling`].
    pub fn cooling(&self) -> &[String] {
        &self.cooling
    }

    /// Reads everything once.
    pub fn sample(&mut self) -> Sample {
        let (now, system) = (Instant::now(), &self.system);
        // The cards first: their joules are then a glance at what was just read.
        let lock = |gpus: &Arc<Mutex<Gpus>>| gpus.lock().unwrap_or_else(PoisonError::into_inner).read();
        let cards = self.gpus.as_ref().map(lock);
        let (joules, processors) = {
            let mut energy = self.energy.lock().unwrap_or_else(PoisonError::into_inner);
            (energy.joules(), energy.processors())
        };
        let throttled = system.throttle_count();
        let load = self.last.load.read();
        let interval_s = (now - self.last.at).as_secs_f64();
        let rise = |before: &Measured<f64>, after: &Measured<f64>| Some(after.value()? - before.value()?);
        let watts =
            rise(&self.last.processors, &processors).filter(|_| interval_s > 0.0).map(|j| j / interval_s);
        let slowed = self.last.throttled.value().zip(throttled.value()).map(|(a, b)| b.saturating_sub(*a));
        let sample = Sample {
            unix_s: unix_s(),
            since_s: self.since_s,
            interval_s,
            estimated: matches!(joules, Measured::Estimated { .. }),
            joules: joules.value().copied(),
            watts,
            celsius: system.processor_temperature().value().map(|t| t.celsius),
            throttled: slowed,
            clock_mhz: system.cpu_clock_mhz().value().copied(),
            own: load.own.value().copied(),
            others: load.others.value().copied(),
            stolen: load.stolen.value().copied(),
            resident: system.resident_memory().value().copied(),
            peak: system.peak_memory().value().copied(),
            fan_rpm: system.fans_rpm().value().and_then(|all| all.iter().max().copied()),
            gpus: cards
                .and_then(|cards| Some(cards.value()?.iter().map(GpuSample::of).collect()))
                .unwrap_or_default(),
        };
        self.last = Last { at: now, processors, throttled, load: LoadMeter::start(system) };
        sample
    }
}

fn unix_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

impl GpuSample {
    fn of(card: &crate::Gpu) -> Self {
        Self {
            watts: card.power_w.value().copied(),
            celsius: card.celsius.value().copied(),
            utilisation: card.utilisation.value().copied(),
            memory_used: card.memory_used.value().copied(),
            joules: card.energy_j.value().copied(),
            clock_mhz: card.clock_mhz.value().copied(),
            fan: card.fan.value().copied(),
            throttle: card.throttle.value().cloned().unwrap_or_default(),
        }
    }
}

/// The thread. Dropped, it ends before the drop returns.
#[derive(Debug)]
pub struct Sampler {
    energy: SharedEnergy,
    end: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Begins to read, at intervals of at most [`LONGEST_INTERVAL`]. `take` is given each sample, on the thread; it may
    /// take its time, as nothing waits for it.
    pub fn start(
        mut instruments: Instruments,
        interval: Duration,
        mut take: impl FnMut(Sample) + Send + 'static,
    ) -> Self {
        let (energy, interval) = (instruments.energy(), interval.min(LONGEST_INTERVAL));
        let end = Arc::new((Mutex::new(false), Condvar::new()));
        let asked = Arc::clone(&end);
        let work = move || {
            let (ended, wake) = &*asked;
            loop {
                let guard = ended.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = wake.wait_timeout_while(guard, interval, |ended| !*ended);
                let done = *waited.unwrap_or_else(PoisonError::into_inner).0;
                if done {
                    return;
                }
                take(instruments.sample());
            }
        };
        // A machine that has no thread left for it trains without: the bracketing readings remain.
        let thread = std::thread::Builder::new().name("instruments".to_owned()).spawn(work).ok();
        Self { energy, end, thread }
    }

    /// The energy counters the thread reads.
    pub fn energy(&self) -> SharedEnergy {
        Arc::clone(&self.energy)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        let (ended, wake) = &*self.end;
        *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::{GONE, Tree};
    use std::sync::mpsc;

    const P0: &str = "sys/class/powercap/intel-rapl:0";

    fn tree() -> Tree {
        Tree::new(&[
            (&format!("{P0}/name"), "package-0"),
            (&format!("{P0}/energy_uj"), "65000000000"),
            (&format!("{P0}/max_energy_range_uj"), "65532610987"),
            ("sys/class/hwmon/hwmon0/name", "k10temp"),
            ("sys/class/hwmon/hwmon0/temp1_input", "71500"),
            ("proc/self/status", "VmRSS:\t 100 kB\n"),
            ("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 3100.5\n"),
        ])
    }

    #[test]
    fn the_thread_sees_a_wrap_between_two_readings_of_ours() {
        let tree = tree();
        let (tell, hear) = mpsc::channel();
        let instruments = Instruments::open(&tree.system(), None, false);
        let sampler = Sampler::start(instruments, Duration::from_millis(5), move |s| tell.send(s).unwrap());
        let energy = sampler.energy();
        // Each write is seen before the next: to the end of the range, then 100 J beyond it.
        let mut expected = 0.0;
        let steps = [
            ("65150000000", 150.0),
            ("65300000000", 300.0),
            ("65450000000", 450.0),
            ("65532610987", 532.610987),
            ("99999999", 632.610987),
        ];
        for (value, joules) in steps {
            tree.write(&format!("{P0}/energy_uj"), value);
            expected = joules;
            let seen = |s: &Sample| s.joules.is_some_and(|j| (j - joules).abs() < 1e-6);
            let found = (0..2000).map_while(|_| hear.recv_timeout(Duration::from_secs(5)).ok()).find(seen);
            let sample = found.unwrap_or_else(|| panic!("{value} was not seen"));
            assert_eq!(
                (sample.celsius, sample.resident, sample.clock_mhz),
                (Some(71.5), Some(102_400), Some(3100.5))
            );
        }
        assert!((energy.lock().unwrap().joules().value().unwrap() - expected).abs() < 1e-6);
        drop(sampler);
        assert!(hear.try_iter().count() < 100 && hear.recv().is_err(), "the thread has ended");
    }

    #[test]
    fn a_sample_without_instruments_is_empty_and_never_zero() {
        let mut instruments = Instruments::open(&Tree::new(&[]).system(), None, false);
        let sample = instruments.sample();
        let text = serde_json::to_string(&sample).unwrap();
        assert_eq!(
            sample,
            Sample {
                unix_s: sample.unix_s,
                since_s: sample.since_s,
                interval_s: sample.interval_s,
                ..Sample::default()
            }
        );
        assert!(!text.contains("watts") && !text.contains("celsius"), "{text}");
        let tree = tree();
        let mut instruments = Instruments::open(&tree.system(), None, false);
        tree.write(&format!("{P0}/energy_uj"), GONE);
        tree.write("sys/class/hwmon/hwmon0/temp1_input", GONE);
        let sample = instruments.sample();
        assert_eq!((sample.joules, sample.watts, sample.celsius), (None, None, None));
    }
}
