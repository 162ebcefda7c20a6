//! The instruments of a study while it runs: a thread samples the machine into the run's store, sees that limits are
//! kept, and that steps go on; rows of the training curve are judged where they are written. Nothing is read or judged
//! in a training step, and nothing here can fail a run.

pub mod alarms;
pub mod care;
pub mod notify;
mod watch;

pub use watch::Watch;

use crate::environment::{MachineFacts, Process};
use crate::error::UserError;
use crate::machine::{Hardware, measure};
use crate::stop::{Stop, StopReason};
use care::{Used, Verdict};
use isoflop_base::Measured;
use isoflop_base::instruments::{Alarm, AlarmKind, InstrumentSpec};
use isoflop_base::study::{MachineSpec, RunSpec};
use isoflop_data::TokenizerKind;
use isoflop_kernels::KernelSet;
use isoflop_meter::{Estimate, Instruments as Readings, Sample, Sampler, SharedEnergy, System, disk};
use isoflop_nn::Precision;
use isoflop_store::{Run, SideLog, SideLogs, Store};
use notify::{Notify, Webhook};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Words for a person at once, from any thread.
pub type Voice = Arc<dyn Fn(&str) + Send + Sync>;

/// Seconds between two samples: often enough for a curve of the temperature and for limits.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// A sample is noted when this share of the run's time has passed since the last: so many samples a factor e of time,
/// however long the run.
const NOTED_SHARE: f64 = 1.0 / 500.0;
/// Seconds for which the idle power is measured.
const IDLE_S: f64 = 5.0;
/// What a processor that may draw this much draws when idle, as a share, unless the user says.
const IDLE_SHARE: f64 = 0.3;

/// What a run's loop needs of the instruments.
#[derive(Clone)]
pub struct Meters {
    /// Counters that the sampler reads too; `None` opens some of the loop's own.
    pub energy: Option<SharedEnergy>,
    /// Operations per second that this machine reaches at most.
    pub peak_flops_per_s: Measured<f64>,
}

impl Default for Meters {
    fn default() -> Self {
        Self { energy: None, peak_flops_per_s: Measured::missing("it was not measured") }
    }
}

/// The instruments of a study.
pub struct Instruments {
    shared: Arc<Shared>,
    energy_counters: SharedEnergy,
    /// Held for its thread.
    _sampler: Option<Sampler>,
    process: Process,
    study: String,
    threads: usize,
    device: String,
    tokenizer: Option<String>,
    energy: Measured<String>,
    idle_w: Measured<f64>,
    gpus: Measured<Vec<String>>,
    peaks: Mutex<Vec<Peak>>,
}

/// The peak of products, FLOP/s, by kernel set and precision.
type Peak = ((String, &'static str), Measured<f64>);

/// What the cards' vendor says they reach at most.
fn published(cards: Option<&Hardware>, precision: Precision) -> Measured<f64> {
    match cards.and_then(|cards| cards.published_flops_per_s(precision)) {
        Some(peak) => Measured::estimated(peak, "the vendor's figure, not measured here"),
        None => Measured::missing("no published figure of this card is known here"),
    }
}

/// What the sampling thread and the training thread share.
struct Shared {
    spec: InstrumentSpec,
    stop: Stop,
    voice: Voice,
    notify: Notify,
    store_root: PathBuf,
    began: Instant,
    /// What the study's runs had cost before this process.
    before: Used,
    /// Graphics cards do the work.
    on_cards: bool,
    /// Commands that make this machine run cooler.
    cooling: Vec<String>,
    /// Optimiser steps executed of the current run; a number stored, no clock read, in a step.
    steps: AtomicU64,
    /// A point is being scored: no steps are finished, and none are missed.
    scoring: AtomicBool,
    state: Mutex<State>,
    telling: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    run: Option<Attached>,
    held_since: Option<Instant>,
    disk_said: bool,
}

/// The run in training.
struct Attached {
    id: String,
    side: SideLogs,
    began: Instant,
    noted: Option<Instant>,
    /// Steps seen when they last grew, when, and those the process began with.
    seen: (u64, Instant, u64),
    raised: BTreeSet<(&'static str, String)>,
}

impl Instruments {
    /// Opens the instruments and begins to sample. `runs` are the study's, for what they have cost already.
    ///
    /// # Errors
    /// A [`UserError`]: a limit that nothing here measures, a webhook that is none.
    pub fn start(
        study: (&str, &MachineSpec),
        runs: &[RunSpec],
        store: &Store,
        stop: &Stop,
        voice: Voice,
    ) -> Result<Self, UserError> {
        Self::start_on(&System::real(), study, runs, store, stop, voice, SAMPLE_EVERY)
    }

    /// The same on any tree, at any interval.
    fn start_on(
        system: &System,
        (study, machine): (&str, &MachineSpec),
        runs: &[RunSpec],
        store: &Store,
        stop: &Stop,
        voice: Voice,
        interval: Duration,
    ) -> Result<Self, UserError> {
        let spec = machine.instruments.clone();
        let webhook = spec.alarms.webhook.as_deref().map(Webhook::parse).transpose()?;
        let estimate = spec
            .meter
            .tdp_w
            .map(|tdp_w| Estimate { tdp_w, idle_w: spec.meter.idle_w.unwrap_or(IDLE_SHARE * tdp_w) });
        let on_cards = Hardware::is_cards(&machine.device);
        let mut readings = Readings::open(system, estimate, on_cards);
        let gpus = readings.cards();
        let energy = energy_of(&readings.energy(), on_cards.then_some(&gpus));
        let first = readings.sample();
        check_measurable(&spec, &energy, &first)?;
        let idle_w = idle(&spec, &readings.energy());
        let shared = Arc::new(Shared {
            notify: Notify { command: spec.alarms.command.clone(), webhook },
            before: before(&spec, runs, store),
            spec,
            stop: stop.clone(),
            voice,
            store_root: store.root().to_owned(),
            began: Instant::now(),
            on_cards,
            cooling: readings.cooling().to_vec(),
            steps: AtomicU64::new(0),
            scoring: AtomicBool::new(false),
            state: Mutex::default(),
            telling: Mutex::default(),
        });
        let (hears, energy_counters) = (Arc::clone(&shared), readings.energy());
        let sampler = (!shared.spec.meter.no_samples)
            .then(|| Sampler::start(readings, interval, move |sample| hears.take(&sample)));
        Ok(Self {
            shared,
            energy_counters,
            _sampler: sampler,
            process: Process::look(),
            study: study.to_owned(),
            threads: machine.threads,
            device: machine.device.clone(),
            tokenizer: None,
            energy,
            idle_w,
            gpus,
            peaks: Mutex::default(),
        })
    }

    /// The same, with what the tokens of its runs are of.
    pub fn of_tokens(mut self, tokenizer: &TokenizerKind) -> Self {
        let words = match tokenizer {
            TokenizerKind::Bytes => "bytes".to_owned(),
            TokenizerKind::Gpt2 => "gpt2".to_owned(),
            TokenizerKind::Named { name, sha256: Some(sha256) } => format!("{name} sha256:{sha256}"),
            TokenizerKind::Named { name, sha256: None } => name.clone(),
            TokenizerKind::Unknown => "unknown".to_owned(),
        };
        self.tokenizer = Some(words);
        self
    }

    /// What the loop of a run needs.
    pub fn meters(&self, spec: &RunSpec) -> Meters {
        Meters { energy: Some(Arc::clone(&self.energy_counters)), peak_flops_per_s: self.peak(spec) }
    }

    /// Operations per second that the machine reaches at most in a run's precision; measured when first asked.
    fn peak(&self, spec: &RunSpec) -> Measured<f64> {
        let key = (spec.train.kernels.clone(), spec.train.precision.word());
        let mut peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, peak)) = peaks.iter().find(|(known, _)| *known == key) {
            return peak.clone();
        }
        let cards = Hardware::is_cards(&self.device).then(|| Hardware::cards(&self.device).ok()).flatten();
        let peak = match KernelSet::by_name(&spec.train.kernels) {
            _ if cards.is_some() => published(cards.as_ref(), spec.train.precision),
            Ok(set) => {
                let (precision, seconds) = (spec.train.precision, measure::PEAK_GLANCE_S);
                Measured::measured(measure::peak_flops_per_s(set, precision, self.threads, seconds))
            }
            Err(_) => Measured::missing(format!("the kernel set `{}` does not run here", spec.train.kernels)),
        };
        peaks.push((key, peak.clone()));
        peak
    }

    /// Notes in a run's store what it is run with, and watches it from now on, until [`Instruments::detach`].
    ///
    /// `planned` is the memory its engine was planned to take.
    pub fn attach(&self, run: &Run, spec: &RunSpec, planned: Measured<u64>) {
        let side = run.side_logs();
        let facts = MachineFacts {
            threads: self.threads,
            tokenizer: self.tokenizer.clone(),
            planned_memory: planned,
            energy: self.energy.clone(),
            idle_w: self.idle_w.clone(),
            peak_flops_per_s: self.peak(spec),
            gpus: self.gpus.clone(),
        };
        let environment = self.process.environment(&self.study, spec, &facts);
        if let Err(e) = side.append(SideLog::Environment, environment.unix_s, &environment) {
            (self.shared.voice)(&format!("{}: {e}", spec.id));
        }
        let now = Instant::now();
        self.shared.steps.store(0, Ordering::Relaxed);
        let attached = Attached {
            id: spec.id.clone(),
            side,
            began: now,
            noted: None,
            seen: (0, now, 0),
            raised: BTreeSet::new(),
        };
        self.shared.state().run = Some(attached);
        // A limit that was reached before is reached still: not a step more.
        if let Some(words) = care::spent(&self.shared.spec.limits, &self.shared.used(None)) {
            self.shared.stop.ask(StopReason::Limit(words));
        }
    }

    /// Watches no run any more.
    pub fn detach(&self) {
        let mut state = self.shared.state();
        state.run = None;
        state.held_since = None;
        self.shared.stop.release();
    }

    /// Notes, shows and tells an alarm of the current run.
    pub fn raise(&self, kind: AlarmKind, scope: &str, step: Option<u64>, words: &str) {
        self.shared.raise(&mut self.shared.state(), kind, scope, step, words);
    }
}

impl Drop for Instruments {
    fn drop(&mut self) {
        // Whoever is being told is told to the end; each has its own patience.
        let telling =
            std::mem::take(&mut *self.shared.telling.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in telling {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the study has used, this process's `joules` included.
    fn used(&self, joules: Option<f64>) -> Used {
        let joules = match joules {
            Some(now) => Some(self.before.joules.unwrap_or(0.0) + now),
            None => self.before.joules,
        };
        Used {
            joules,
            hours: self.before.hours + self.began.elapsed().as_secs_f64() / 3600.0,
            cost: joules.zip(self.spec.meter.cost_per_kwh).map(|(j, price)| j / 3.6e6 * price),
        }
    }

    /// Takes a sample, on the sampling thread.
    fn take(&self, sample: &Sample) {
        let mut state = self.state();
        let Some(run) = &mut state.run else { return };
        run.note(sample);
        let (steps, now) = (self.steps.load(Ordering::Relaxed), Instant::now());
        if steps != run.seen.0 || self.scoring.load(Ordering::Relaxed) {
            let first = if run.seen.2 == 0 { steps } else { run.seen.2 };
            run.seen = (steps, now, first);
        }
        let held_s = state.held_since.map(|since| (now - since).as_secs_f64());
        let used = self.used(sample.joules);
        match care::judge(&self.spec.limits, &used, sample, held_s, self.on_cards) {
            Verdict::Go => {
                if state.held_since.take().is_some() {
                    self.stop.release();
                    (self.voice)("going on");
                }
            }
            Verdict::Hold(words) => {
                if state.held_since.is_none() {
                    state.held_since = Some(now);
                    self.stop.hold();
                    (self.voice)(&format!("held: {words}"));
                }
            }
            Verdict::Stop(words) => self.stop.ask(StopReason::Limit(words)),
        }
        self.watch(&mut state, sample, now);
    }

    /// The rules that need no row: steps that do not come, heat, a full disk.
    fn watch(&self, state: &mut State, sample: &Sample, now: Instant) {
        let Some(run) = &state.run else { return };
        let (steps, since, first) = run.seen;
        if state.held_since.is_none() && steps > first {
            let usual = (since - run.began).as_secs_f64() / (steps - first) as f64;
            if let Some(words) = alarms::stalled((now - since).as_secs_f64(), usual) {
                self.raise(state, AlarmKind::Stalled, &steps.to_string(), Some(steps), &words);
            }
        }
        let reasons: Vec<(usize, &[String])> =
            sample.gpus.iter().enumerate().map(|(i, gpu)| (i, gpu.throttle.as_slice())).collect();
        if let Some(words) = alarms::throttled(sample.throttled.unwrap_or(0), &reasons) {
            let cooling = care::cooling(&self.cooling, sample.throttled.unwrap_or(0) > 0);
            let cooling = cooling.map(|command| format!("; to cool it: {command}")).unwrap_or_default();
            self.raise(state, AlarmKind::Throttled, "", Some(steps), &(words + &cooling));
        }
        if !state.disk_said
            && let Some(words) =
                disk::disk(&self.store_root).value().and_then(|d| alarms::disk_nearly_full(d.free))
        {
            state.disk_said = true;
            self.raise(state, AlarmKind::DiskNearlyFull, "", Some(steps), &words);
        }
    }

    /// Raises an alarm once for each run and `scope`, such as a segment.
    fn raise(&self, state: &mut State, kind: AlarmKind, scope: &str, step: Option<u64>, words: &str) {
        let Some(run) = &mut state.run else { return };
        if self.spec.alarms.off.contains(&kind) || !run.raised.insert((kind.word(), scope.to_owned())) {
            return;
        }
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let alarm = Alarm { run: run.id.clone(), alarm: kind, unix_s, step, words: words.to_owned() };
        let noted = run.side.append(SideLog::Alarms, unix_s, &alarm);
        (self.voice)(&format!("alarm: {}: {}: {words}", alarm.run, kind.word()));
        if let Err(e) = noted {
            (self.voice)(&format!("the alarm could not be noted: {e}"));
        }
        if self.spec.alarms.stop.contains(&kind) {
            self.stop.ask(StopReason::Alarm(format!("{}: {words}", kind.word())));
        }
        if !self.notify.is_empty() {
            let (notify, voice) = (self.notify.clone(), Arc::clone(&self.voice));
            let tell = move || notify.tell(&alarm).iter().for_each(|problem| voice(problem));
            if let Ok(thread) = std::thread::Builder::new().name("alarm".to_owned()).spawn(tell) {
                self.telling.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            }
        }
    }
}

impl Attached {
    /// Appends a sample to the run's log, at intervals that grow with the run. A log that cannot be written is no
    /// reason to end a run; a full disk is told by its own alarm.
    fn note(&mut self, sample: &Sample) {
        let now = Instant::now();
        let due = self.noted.is_none_or(|noted| {
            let elapsed = (now - self.began).as_secs_f64();
            (now - noted).as_secs_f64() >= NOTED_SHARE * elapsed
        });
        if due {
            self.noted = Some(now);
            let _ = self.side.append(SideLog::Machine, sample.unix_s as u64, sample);
        }
    }
}

/// What the runs of a study have cost before this process, as far as their store knows.
fn before(spec: &InstrumentSpec, runs: &[RunSpec], store: &Store) -> Used {
    let costs = runs.iter().filter_map(|run| store.read_run(&run.id).ok()?.cost().ok()?);
    let (mut joules, mut seconds) = (Some(0.0), 0.0);
    for cost in costs {
        joules = joules.zip(cost.joules).map(|(a, b)| a + b);
        seconds += cost.seconds;
    }
    let cost = joules.zip(spec.meter.cost_per_kwh).map(|(j, price)| j / 3.6e6 * price);
    Used { joules, hours: seconds / 3600.0, cost }
}

/// Where joules come from: the domains of the processors, and the cards that do the work.
fn energy_of(energy: &SharedEnergy, cards: Option<&Measured<Vec<String>>>) -> Measured<String> {
    let mut energy = energy.lock().unwrap_or_else(PoisonError::into_inner);
    let cards = cards.and_then(|cards| cards.value()).cloned().unwrap_or_default();
    match energy.joules() {
        Measured::Measured { .. } => {
            energy.counters().domains().map(|names| [names, cards].concat().join(" + "))
        }
        Measured::Estimated { how, .. } => Measured::estimated("estimated".to_owned(), how),
        Measured::Missing { reason } => Measured::missing(reason),
    }
}

/// A limit that nothing measures would never be reached, and nobody would know.
fn check_measurable(
    spec: &InstrumentSpec,
    energy: &Measured<String>,
    first: &Sample,
) -> Result<(), UserError> {
    let limits = &spec.limits;
    let refuse = |limit: &str, why: &str, hint: &str| {
        Err(UserError::new(format!("limits.{limit} cannot be kept: {why}")).hint(hint))
    };
    if let Measured::Missing { reason } = energy {
        let asked = [
            ("max_energy_kwh", limits.max_energy_kwh),
            ("max_cost", limits.max_cost),
            ("max_power_w", limits.max_power_w),
        ];
        if let Some((limit, _)) = asked.iter().find(|(_, value)| value.is_some()) {
            let hint = "isoflop doctor says how to make energy readable; with tdp_w = 65 under [meter] it is \
                        estimated; or limit max_hours";
            return refuse(limit, reason, hint);
        }
    }
    let warm = first.celsius.is_some() || first.gpus.iter().any(|gpu| gpu.celsius.is_some());
    if limits.max_temp_c.is_some() && !warm {
        let hint = "leave it out, or see isoflop doctor for what would make a sensor readable";
        return refuse("max_temp_c", "the kernel shows no temperature here", hint);
    }
    Ok(())
}

/// The power of the machine before anything runs.
fn idle(spec: &InstrumentSpec, energy: &SharedEnergy) -> Measured<f64> {
    if let Some(watts) = spec.meter.idle_w {
        return Measured::estimated(watts, "set in the study");
    }
    if !spec.meter.measure_idle {
        return Measured::missing("not asked for (meter.idle_w)");
    }
    let joules = || energy.lock().unwrap_or_else(PoisonError::into_inner).joules();
    let (start, before) = (Instant::now(), joules());
    std::thread::sleep(Duration::from_secs_f64(IDLE_S));
    match (before, joules()) {
        (Measured::Measured { value: before }, Measured::Measured { value: after }) => {
            Measured::measured((after - before) / start.elapsed().as_secs_f64())
        }
        (_, Measured::Missing { reason }) => Measured::missing(reason),
        _ => Measured::missing("an estimate has no idle power but the one it was made with"),
    }
}

#[cfg(test)]
mod tests;
