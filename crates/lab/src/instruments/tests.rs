//! A machine of files: its counter and its sensor say what a test writes into them.

use super::*;
use crate::train::program::tests::small_run;
use isoflop_base::instruments::{AlarmSpec, Limits, MeterSpec};
use isoflop_base::{CurveRow, RunDocument};
use std::path::Path;
use tempfile::TempDir;

const COUNTER: &str = "sys/class/powercap/intel-rapl:0/energy_uj";
const SENSOR: &str = "sys/class/hwmon/hwmon0/temp1_input";

struct Bench {
    machine: TempDir,
    store: TempDir,
    stop: Stop,
    said: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    /// A machine at 50 °C whose counter stands at 1 kJ.
    fn new() -> Self {
        let new = || tempfile::tempdir().unwrap();
        let bench = Self { machine: new(), store: new(), stop: Stop::never(), said: Arc::default() };
        bench.set("sys/class/powercap/intel-rapl:0/name", "package-0");
        bench.set("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850");
        bench.set(COUNTER, "1000000000");
        bench.set("sys/class/hwmon/hwmon0/name", "k10temp");
        bench.set(SENSOR, "50000");
        bench
    }

    fn set(&self, path: &str, text: &str) {
        let path = self.machine.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn store(&self) -> Store {
        Store::open(self.store.path()).unwrap()
    }

    fn start_in(&self, root: &Path, spec: InstrumentSpec) -> Result<Instruments, UserError> {
        let said = Arc::clone(&self.said);
        let voice: Voice = Arc::new(move |words| said.lock().unwrap().push(words.to_owned()));
        let machine =
            MachineSpec { threads: 1, device: "cpu".to_owned(), checkpoint_every_s: 60.0, instruments: spec };
        let interval = Duration::from_millis(5);
        let runs = [small_run(&[30])];
        Instruments::start_on(
            &System::at(root),
            ("t", &machine),
            &runs,
            &self.store(),
            &self.stop,
            voice,
            interval,
        )
    }

    fn start(&self, spec: InstrumentSpec) -> Instruments {
        self.start_in(self.machine.path(), spec).unwrap()
    }

    fn run(&self) -> Run {
        self.store().open_run(&RunDocument::new("t", &small_run(&[30]))).unwrap()
    }

    fn said(&self, part: &str) -> bool {
        self.said.lock().unwrap().iter().any(|words| words.contains(part))
    }
}

fn wait(what: &str, until: impl Fn() -> bool) {
    let started = Instant::now();
    while !until() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn limits(limits: Limits) -> InstrumentSpec {
    InstrumentSpec { limits, ..InstrumentSpec::default() }
}

fn planned() -> Measured<u64> {
    Measured::measured(1 << 20)
}

#[test]
fn energy_that_reaches_its_limit_stops_the_study_with_the_reason() {
    let bench = Bench::new();
    let instruments = bench.start(limits(Limits { max_energy_kwh: Some(1e-5), ..Limits::default() }));
    let run = bench.run();
    instruments.attach(&run, &small_run(&[30]), planned());
    bench.set(COUNTER, "1030000000");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(bench.stop.reason(), None, "30 J of 36 J");
    bench.set(COUNTER, "1037000000");
    wait("37 J of 36 J", || bench.stop.reason().is_some());
    assert_eq!(bench.stop.reason(), Some(StopReason::Limit("0.000 kWh of 0.00001 kWh".into())));
}

#[test]
fn what_was_used_before_counts_and_nothing_is_stopped_between_runs() {
    let bench = Bench::new();
    {
        let mut run = bench.run();
        run.set_cost(isoflop_base::Cost { seconds: 7200.0, joules: Some(7.2e6), estimated: false }).unwrap();
    }
    let spec = limits(Limits { max_hours: Some(1.5), ..Limits::default() });
    let instruments = bench.start(spec);
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(bench.stop.reason(), None, "no run is in training");
    instruments.attach(&bench.run(), &small_run(&[30]), planned());
    assert_eq!(bench.stop.reason(), Some(StopReason::Limit("2.000 h of 1.5 h".into())));
}

#[test]
fn heat_holds_a_study_until_the_machine_is_cooler() {
    let bench = Bench::new();
    let instruments = bench.start(limits(Limits { max_temp_c: Some(84.0), ..Limits::default() }));
    let run = bench.run();
    instruments.attach(&run, &small_run(&[30]), planned());
    bench.set(SENSOR, "86000");
    wait("held at 86 °C", || bench.stop.is_held());
    bench.set(SENSOR, "83000");
    std::thread::sleep(Duration::from_millis(50));
    assert!(bench.stop.is_held(), "83 °C is not cool enough after 84 °C");
    bench.set(SENSOR, "79000");
    wait("released at 79 °C", || !bench.stop.is_held());
    assert!(bench.said("held: 86 °C of 84 °C") && bench.said("going on"));
    bench.set(SENSOR, "90000");
    wait("held again", || bench.stop.is_held());
    instruments.detach();
    assert!(!bench.stop.is_held(), "nobody waits when nothing is in training");
    assert_eq!(bench.stop.reason(), None);
}

#[test]
fn a_limit_that_nothing_measures_is_refused() {
    let bench = Bench::new();
    let nothing = tempfile::tempdir().unwrap();
    for (spec, words) in [
        (Limits { max_energy_kwh: Some(1.0), ..Limits::default() }, "limits.max_energy_kwh cannot be kept"),
        (Limits { max_power_w: Some(100.0), ..Limits::default() }, "limits.max_power_w cannot be kept"),
        (Limits { max_temp_c: Some(84.0), ..Limits::default() }, "limits.max_temp_c cannot be kept"),
    ] {
        let message = bench.start_in(nothing.path(), limits(spec)).err().unwrap().to_string();
        assert!(message.contains(words) && message.contains("hint: "), "{message}");
    }
    // An estimate is enough for energy.
    let meter = MeterSpec { tdp_w: Some(65.0), ..MeterSpec::default() };
    let spec = InstrumentSpec { meter, ..limits(Limits { max_energy_kwh: Some(1.0), ..Limits::default() }) };
    bench.set("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n");
    bench.set("proc/self/stat", "7 (a) R 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 2 0 1 1 1");
    std::fs::remove_dir_all(bench.machine.path().join("sys/class/powercap")).unwrap();
    assert!(bench.start_in(bench.machine.path(), spec).is_ok());
}

#[test]
fn samples_alarms_and_environment_are_noted_in_the_runs_store() {
    let bench = Bench::new();
    let alarms =
        AlarmSpec { off: vec![AlarmKind::Plateau], stop: vec![AlarmKind::LossSpike], ..AlarmSpec::default() };
    let instruments = bench.start(InstrumentSpec { alarms, ..InstrumentSpec::default() });
    let run = bench.run();
    instruments.attach(&run, &small_run(&[30]), planned());
    bench.set(SENSOR, "61000");
    instruments.raise(AlarmKind::Plateau, "trunk", Some(3), "it is off");
    instruments.raise(AlarmKind::GradientExplosion, "trunk", Some(4), "norm 90");
    instruments.raise(AlarmKind::GradientExplosion, "trunk", Some(5), "norm 91");
    assert_eq!(bench.stop.reason(), None);
    instruments.raise(AlarmKind::LossSpike, "trunk", Some(6), "loss 9");
    assert_eq!(bench.stop.reason(), Some(StopReason::Alarm("loss-spike: loss 9".into())));
    let samples = || run.side::<Sample>(SideLog::Machine).unwrap();
    wait("a sample at 61 °C", || samples().iter().any(|sample| sample.celsius == Some(61.0)));
    instruments.detach();
    let alarms: Vec<Alarm> = run.side(SideLog::Alarms).unwrap();
    let seen: Vec<(AlarmKind, Option<u64>)> = alarms.iter().map(|a| (a.alarm, a.step)).collect();
    assert_eq!(seen, [(AlarmKind::GradientExplosion, Some(4)), (AlarmKind::LossSpike, Some(6))]);
    let noted: Vec<crate::environment::Environment> = run.side(SideLog::Environment).unwrap();
    assert_eq!((noted[0].threads, noted[0].seed, noted[0].data.as_str()), (1, 1, "0"));
    assert_eq!(noted[0].planned_memory, planned());
    assert_eq!(noted[0].energy, Measured::measured("package-0".to_owned()));
    assert!(run.health().problems.is_empty(), "{:?}", run.health());
}

#[test]
fn rows_are_judged_by_segment_and_everything_is_passed_on() {
    use crate::record::{Event, Recorder, Silent};
    let bench = Bench::new();
    let instruments = bench.start(InstrumentSpec::default());
    let run = bench.run();
    instruments.attach(&run, &small_run(&[30]), planned());
    let mut world = Silent;
    let mut watch = Watch::new(&instruments, &mut world);
    let row = |segment: &str, step: u64, loss: f64| CurveRow {
        run: "t-L1-d8-h1-s1".into(),
        segment: segment.into(),
        step,
        tokens: step,
        flops: 1.0,
        train_loss: loss,
        val_loss: None,
        lr: 0.1,
        grad_norm: 1.0,
        decayed: false,
        tokens_per_s: None,
        data_wait: None,
        noise: None,
        skipped: None,
    };
    for step in 0..20 {
        watch.record(&Event::Row(step, &row("trunk", step, 2.0))).unwrap();
    }
    // A branch begins elsewhere: nothing before it is its window.
    watch.record(&Event::Row(20, &row("480", 20, 5.0))).unwrap();
    let alarms = || run.side::<Alarm>(SideLog::Alarms).unwrap();
    assert_eq!(alarms(), []);
    for step in 21..40 {
        watch.record(&Event::Row(step, &row("480", step, 2.0))).unwrap();
    }
    watch.record(&Event::Row(40, &row("480", 40, 5.0))).unwrap();
    watch.diverged(41, "480");
    let kinds: Vec<AlarmKind> = alarms().iter().map(|alarm| alarm.alarm).collect();
    assert_eq!(kinds, [AlarmKind::LossSpike, AlarmKind::NonFinite]);
    assert!(bench.said("alarm: t-L1-d8-h1-s1: loss-spike"));
}
