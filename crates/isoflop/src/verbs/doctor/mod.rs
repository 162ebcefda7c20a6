//! `isoflop doctor`: what this machine is, which kernels were chosen and why, what can be measured here.

mod cuda;
mod page;

use crate::cli::Context;
use isoflop_base::Measured;
use isoflop_base::units::{bytes, si};
use isoflop_kernels::KernelSet;
use isoflop_lab::machine::choice::precision_of;
use isoflop_lab::machine::{self, measure};
use isoflop_meter::{
    Cpu, Disk, EnergyMeter, Gpu, Gpus, Load, LoadMeter, Memory, Readable, System, Temperature, disk, energy,
};
use isoflop_nn::Precision;
use page::page;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Load and power are watched for this long.
const WATCHED: Duration = Duration::from_millis(600);
/// A share of the processors in others' hands that makes timings doubtful.
const BUSY: f64 = 0.15;
/// Free space below which a run may not finish writing.
const LITTLE_DISK: u64 = 1 << 30;

/// Degrees from which on processors slow down.
const HOT: f64 = 84.0;
/// Seconds of a measurement of the peak.
const PEAK_S: f64 = 0.1;
/// Bytes written to learn the disk's speed.
const WRITTEN: usize = 32 << 20;

/// Arguments of `isoflop doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {}

/// Runs the verb.
pub(crate) fn run(_args: DoctorArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let report = examine(&ctx.store);
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", page(&report));
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything the verb says.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    version: &'static str,
    built: Built,
    kernel: Measured<String>,
    cpu: Cpu,
    memory: Memory,
    kernels: Kernels,
    load: Load,
    energy: Energy,
    temperature: Measured<Temperature>,
    gpus: Measured<Vec<Gpu>>,
    /// The CUDA driver, and the cards it trains on.
    cuda: cuda::Cuda,
    /// Which instruments can be read, and what would make the others readable.
    instruments: Vec<Readable>,
    reaches: Reaches,
    store: Store,
    corpus: Corpus,
    advice: Vec<String>,
}

/// What the program was built for.
#[derive(Debug, Serialize)]
struct Built {
    os: &'static str,
    arch: &'static str,
    optimised: bool,
}

#[derive(Debug, Serialize)]
struct Kernels {
    /// The set that will run; missing if `ISOFLOP_KERNELS` names one that cannot.
    chosen: Measured<&'static str>,
    why: String,
    /// What `precision = "auto"` becomes under the chosen set.
    precision: Measured<&'static str>,
    precision_why: String,
    sets: Vec<KernelChoice>,
}

#[derive(Debug, Serialize)]
struct KernelChoice {
    name: &'static str,
    runs_here: bool,
    why_not: Option<String>,
}

#[derive(Debug, Serialize)]
struct Energy {
    domains: Measured<Vec<String>>,
    /// Domains that show another's counter again.
    left_out: Vec<String>,
    scope: &'static str,
    /// Over the time watched.
    watts: Measured<f64>,
}

/// What the machine was measured to reach at most, with all cores this process may use.
#[derive(Debug, Serialize)]
struct Reaches {
    threads: usize,
    f32_flops_per_s: Measured<f64>,
    bf16_flops_per_s: Measured<f64>,
    memory_bytes_per_s: Measured<f64>,
}

#[derive(Debug, Serialize)]
struct Store {
    path: String,
    exists: bool,
    disk: Measured<Disk>,
    /// What reaches the disk there.
    write_bytes_per_s: Measured<f64>,
}

#[derive(Debug, Serialize)]
struct Corpus {
    /// Whether the embedded text is intact.
    intact: bool,
    train_tokens: Measured<u64>,
    val_tokens: Measured<u64>,
    sha256: Measured<String>,
}

fn examine(store: &Path) -> Report {
    let system = System::real();
    let (load, mut energy) = (LoadMeter::start(&system), EnergyMeter::open(&system));
    let start = Instant::now();
    let (cpu, memory, gpus, corpus) = (system.cpu(), system.memory(), Gpus::open(&system).read(), corpus());
    std::thread::sleep(WATCHED.saturating_sub(start.elapsed()));
    let watts = energy.joules().map(|j| j / start.elapsed().as_secs_f64());
    let asked = std::env::var("ISOFLOP_KERNELS").ok().filter(|name| !name.is_empty());
    let mut report = Report {
        schema: "isoflop/doctor/1",
        version: env!("CARGO_PKG_VERSION"),
        built: Built {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            optimised: !cfg!(debug_assertions),
        },
        kernel: kernel_release(),
        cpu,
        memory,
        kernels: kernels(asked.as_deref()),
        load: load.read(),
        energy: Energy {
            domains: energy.domains(),
            left_out: energy.left_out(),
            scope: energy::SCOPE,
            watts,
        },
        instruments: system.readable(&gpus),
        // After load and power were watched, which it would spoil.
        reaches: reaches(),
        temperature: system.processor_temperature(),
        gpus,
        cuda: cuda::examine(),
        store: Store {
            path: store.display().to_string(),
            exists: store.is_dir(),
            disk: disk::disk(store),
            write_bytes_per_s: disk_speed(store),
        },
        corpus,
        advice: Vec::new(),
    };
    report.advice = advice(&report);
    report
}

fn reaches() -> Reaches {
    let Ok(cpu) = machine::processor() else {
        let none = || Measured::missing("no kernel set was chosen");
        return Reaches {
            threads: 0,
            f32_flops_per_s: none(),
            bf16_flops_per_s: none(),
            memory_bytes_per_s: none(),
        };
    };
    let (set, threads) = (cpu.kernels, cpu.threads);
    let peak = |precision| measure::peak_flops_per_s(set, precision, threads, PEAK_S);
    let free = isoflop_lab::plan::memory::available().unwrap_or(1 << 30);
    Reaches {
        threads,
        f32_flops_per_s: Measured::measured(peak(Precision::F32)),
        bf16_flops_per_s: match set.computes_bf16() {
            true => Measured::measured(peak(Precision::Bf16)),
            false => Measured::missing(format!("{} has no product of bf16", set.name())),
        },
        memory_bytes_per_s: Measured::measured(measure::memory_bytes_per_s(threads, free)),
    }
}

/// The speed of the disk under the nearest folder of `store` that is there.
fn disk_speed(store: &Path) -> Measured<f64> {
    let existing = store.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("."));
    match isoflop_store::disk_bytes_per_s(existing, WRITTEN) {
        Ok(speed) => Measured::measured(speed),
        Err(e) => Measured::missing(e.to_string().replace("\nhint: ", "; ")),
    }
}

fn kernel_release() -> Measured<String> {
    match std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(text) => Measured::measured(text.trim().to_owned()),
        Err(e) => Measured::missing(format!("/proc/sys/kernel/osrelease: {e}")),
    }
}

fn kernels(asked: Option<&str>) -> Kernels {
    let sets = KernelSet::available()
        .into_iter()
        .map(|(set, runs)| KernelChoice { name: set.name(), runs_here: runs.is_ok(), why_not: runs.err() })
        .collect();
    let (chosen, why) = match asked.map(KernelSet::by_name) {
        None => {
            let name = KernelSet::detect().name();
            (
                Measured::measured(name),
                "the fastest this processor runs; ISOFLOP_KERNELS is not set".to_owned(),
            )
        }
        Some(Ok(set)) => (Measured::measured(set.name()), "ISOFLOP_KERNELS asks for it".to_owned()),
        Some(Err(e)) => {
            let reason = e.to_string().replace("\nhint: ", "; ");
            (Measured::missing(reason), "what ISOFLOP_KERNELS asks for cannot run".to_owned())
        }
    };
    let (precision, precision_why) = precision(&chosen);
    Kernels { chosen, why, precision, precision_why, sets }
}

/// What the chosen set computes in when the study leaves it open, and why.
fn precision(chosen: &Measured<&'static str>) -> (Measured<&'static str>, String) {
    let Some(set) = chosen.value().and_then(|name| KernelSet::by_name(name).ok()) else {
        return (Measured::missing("no kernel set was chosen"), "no kernel set was chosen".to_owned());
    };
    let choice = precision_of(set);
    if let Some(products) = choice.products {
        let unit = if set == KernelSet::Amx { "by the tiles of AMX" } else { "by AVX512-BF16" };
        let [bf16, f32] = [products.bf16, products.f32].map(si);
        let kept = match &choice.kept_in {
            Some(file) => format!("kept for this processor model in {}", file.display()),
            None => "timed each time: there is no folder to keep it in".to_owned(),
        };
        let why = format!(
            "the faster: bf16 {unit} {bf16}FLOP/s a thread, f32 {f32}FLOP/s; {kept}; weights and moments stay f32"
        );
        return (Measured::measured(choice.precision.word()), why);
    }
    let faster = KernelSet::runnable().filter(|s| s.computes_bf16()).last();
    let why = match faster {
        Some(other) => {
            format!("{} has no product of bf16; {} has one on this processor", set.name(), other.name())
        }
        None => {
            "no kernel set of this processor multiplies bf16, and it is never emulated silently".to_owned()
        }
    };
    (Measured::measured("f32"), why)
}

fn corpus() -> Corpus {
    match isoflop_data::builtin() {
        Ok(corpus) => Corpus {
            intact: true,
            train_tokens: Measured::measured(corpus.info.train_tokens),
            val_tokens: Measured::measured(corpus.info.val_tokens),
            sha256: Measured::measured(corpus.info.sha256),
        },
        Err(e) => {
            let reason = e.to_string().replace("\nhint: ", "; ");
            let missing = || Measured::missing(reason.clone());
            Corpus {
                intact: false,
                train_tokens: missing(),
                val_tokens: missing(),
                sha256: Measured::missing(reason.clone()),
            }
        }
    }
}

/// What a person should know or change before a long run.
fn advice(report: &Report) -> Vec<String> {
    let mut advice = Vec::new();
    if !report.built.optimised {
        advice.push("this is a debug build, tens of times slower: use cargo run --release".to_owned());
    }
    if let Measured::Missing { reason } = &report.kernels.chosen {
        advice.push(format!("no kernel set was chosen: {reason}"));
    } else if report.kernels.chosen.value() != Some(&KernelSet::detect().name()) {
        advice.push(format!("ISOFLOP_KERNELS asks for a slower set than {}", KernelSet::detect().name()));
    }
    let share = |m: &Measured<f64>| m.value().copied().filter(|&s| s > BUSY).map(|s| (s * 100.0).round());
    if let Some(percent) = share(&report.load.others) {
        advice.push(format!(
            "other programs use {percent} % of the processors: speeds measured now are too low"
        ));
    }
    if let Some(percent) = share(&report.load.stolen) {
        advice.push(format!("the hypervisor takes {percent} % of the processors away: speeds will vary"));
    }
    if let (Some(usable), Some(logical)) = (report.cpu.usable.value(), report.cpu.logical.value())
        && usable < logical
    {
        advice.push(format!(
            "this process may use {usable} of {logical} processors; threads = \"auto\" follows that"
        ));
    }
    if let Some(disk) = report.store.disk.value().filter(|d| d.free < LITTLE_DISK) {
        advice.push(format!(
            "only {} are free where the store lies: give another place with --store",
            bytes(disk.free)
        ));
    }
    if report.energy.watts.value().is_none() {
        advice.push("energy is missing in every run made here; speeds and FLOPs are not affected".to_owned());
    }
    for Readable { instrument, fix, .. } in &report.instruments {
        advice.extend(fix.as_ref().map(|fix| format!("to read {instrument}: {fix}")));
    }
    let slowed = |gpu: &Gpu| gpu.throttle.value().is_some_and(|reasons| !reasons.is_empty());
    let hot = report.temperature.value().is_some_and(|t| t.celsius >= HOT);
    if hot || report.gpus.value().is_some_and(|gpus| gpus.iter().any(slowed)) {
        let cooling = System::real().cooling(&report.gpus);
        advice.extend(cooling.into_iter().map(|command| format!("it runs hot; to cool it: {command}")));
    }
    if !report.corpus.intact {
        advice.push("the built-in corpus is damaged: build or download the program again".to_owned());
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_every_reading_or_why_it_is_missing() {
        let report = examine(Path::new("not-there-yet"));
        let page = page(&report);
        for label in [
            "processor",
            "cores",
            "memory",
            "kernels",
            "precision",
            "energy",
            "temperature",
            "store",
            "corpus",
        ] {
            let line =
                page.lines().find(|l| l.starts_with(label)).unwrap_or_else(|| panic!("{label}:\n{page}"));
            assert!(line.len() > 16, "{line}");
        }
        let document = serde_json::to_value(&report).unwrap();
        assert!(
            ["measured", "missing"].map(Some).contains(&document["energy"]["watts"]["provenance"].as_str())
        );
        assert_eq!(document["corpus"]["intact"], true);
        assert_eq!(document["store"]["exists"], false);
    }

    #[test]
    fn the_kernel_set_is_chosen_for_a_stated_reason() {
        let free = kernels(None);
        assert_eq!(free.chosen.value(), Some(&KernelSet::detect().name()));
        assert!(free.why.contains("fastest"));
        let asked = kernels(Some("naive"));
        assert_eq!(
            (asked.chosen.value(), asked.why.as_str()),
            (Some(&"naive"), "ISOFLOP_KERNELS asks for it")
        );
        let wrong = kernels(Some("abacus"));
        assert!(matches!(wrong.chosen, Measured::Missing { reason } if reason.contains("abacus")));
        assert_eq!(free.sets.len(), KernelSet::ALL.len());
    }

    #[test]
    fn the_precision_is_what_a_study_would_resolve_to_and_says_why() {
        for set in KernelSet::runnable() {
            let found = kernels(Some(set.name()));
            let expected = precision_of(set).precision.word();
            assert_eq!(found.precision.value(), Some(&expected), "{}", set.name());
            assert!(found.precision_why.contains("bf16"), "{}", found.precision_why);
        }
        let none = kernels(Some("abacus"));
        assert!(none.precision.value().is_none());
    }

    #[test]
    fn names_of_kernel_sets_stand_in_one_column() {
        let page = page(&examine(Path::new("not-there-yet")));
        let column = |line: &str, what: &str| line.find(what).map(|at| line[..at].chars().count());
        let columns: Vec<usize> = KernelSet::available()
            .iter()
            .map(|(set, runs)| {
                let line = page.lines().find(|l| l.trim_start().starts_with(&format!("{} ", set.name())));
                let what = runs.as_ref().err().map_or("runs here", String::as_str);
                column(line.unwrap_or_else(|| panic!("{}:\n{page}", set.name())), what).unwrap()
            })
            .collect();
        assert!(columns.iter().all(|&c| c == columns[0]), "{columns:?}\n{page}");
    }
}
