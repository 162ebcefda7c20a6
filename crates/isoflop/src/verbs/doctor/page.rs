//! The answer in words.

use super::{Report, cuda};
use isoflop_base::Measured;
use isoflop_base::units::{bytes, si};
use isoflop_meter::{Cpu, Gpu};
use std::fmt::Write as _;

/// A line per fact; what is missing says why.
pub(super) fn page(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: String| {
        let _ = writeln!(out, "{}", format!("{label:<14} {text}").trim_end());
    };
    let Report { cpu, memory, load, energy, .. } = report;
    let build = if report.built.optimised { "optimised" } else { "debug" };
    line(
        "isoflop",
        format!("{}, {build} build for {} {}", report.version, report.built.os, report.built.arch),
    );
    line("system", say(&report.kernel, Clone::clone));
    line("processor", say(&cpu.model, Clone::clone));
    line("cores", cores(cpu));
    line("features", say(&cpu.features, |f| f.join(" ")));
    line(
        "caches",
        say(&cpu.caches, |caches| {
            let each = caches.iter().map(|c| format!("L{} {} for {}", c.level, bytes(c.bytes), c.shared_by));
            each.collect::<Vec<_>>().join(", ")
        }),
    );
    line("throttled", say(&cpu.throttled, |n| format!("{n} times since boot")));
    line(
        "memory",
        say(&memory.total, |&total| {
            let available = say(&memory.available, |&b| bytes(b));
            let limit = memory.limit.value().map(|&b| format!(", this process may use {}", bytes(b)));
            format!("{}, {available} available{}", bytes(total), limit.unwrap_or_default())
        }),
    );
    line("kernels", format!("{} ({})", say(&report.kernels.chosen, |n| (*n).to_owned()), report.kernels.why));
    let longest = report.kernels.sets.iter().map(|set| set.name.len()).max().unwrap_or(0);
    for set in &report.kernels.sets {
        line("", format!("  {:<longest$}  {}", set.name, set.why_not.as_deref().unwrap_or("runs here")));
    }
    line(
        "precision",
        format!("{} ({})", say(&report.kernels.precision, |p| (*p).to_owned()), report.kernels.precision_why),
    );
    let percent = |m: &Measured<f64>| say(m, |s| format!("{:.0} %", s * 100.0));
    line(
        "load",
        match load.others.value() {
            Some(_) => format!(
                "others {}, stolen {}, idle {}",
                percent(&load.others),
                percent(&load.stolen),
                percent(&load.idle)
            ),
            None => percent(&load.others),
        },
    );
    let reaches = &report.reaches;
    line(
        "peak f32",
        say(&reaches.f32_flops_per_s, |f| format!("{}FLOP/s with {} threads", si(*f), reaches.threads)),
    );
    line("peak bf16", say(&reaches.bf16_flops_per_s, |f| format!("{}FLOP/s", si(*f))));
    line("bandwidth", say(&reaches.memory_bytes_per_s, |b| format!("{}B/s from memory (triad)", si(*b))));
    line("energy", say(&energy.watts, |w| format!("{w:.1} W now; {}", energy.scope)));
    for left_out in &energy.left_out {
        line("", format!("  {left_out}"));
    }
    line("temperature", say(&report.temperature, |t| format!("{:.0} °C ({})", t.celsius, t.sensor)));
    line("cards", say(&report.gpus, |gpus| gpus.iter().map(device).collect::<Vec<_>>().join("; ")));
    cuda::lines(&report.cuda, &mut line);
    let longest = report.instruments.iter().map(|i| i.instrument.len()).max().unwrap_or(0);
    line("instruments", String::new());
    for instrument in &report.instruments {
        line("", format!("  {:<longest$}  {}", instrument.instrument, say(&instrument.now, Clone::clone)));
        if let Some(fix) = &instrument.fix {
            line("", format!("  {:<longest$}  → {fix}", ""));
        }
    }
    let exists = if report.store.exists { "" } else { " (not there yet)" };
    let space = say(&report.store.disk, |d| format!("{} free of {}", bytes(d.free), bytes(d.total)));
    let speed = say(&report.store.write_bytes_per_s, |b| format!("{}B/s written", si(*b)));
    line("store", format!("{}{exists}, {space}, {speed}", report.store.path));
    line(
        "corpus",
        say(&report.corpus.train_tokens, |train| {
            let val = say(&report.corpus.val_tokens, u64::to_string);
            format!("built-in, intact: {train} bytes to train on, {val} held out")
        }),
    );
    for text in &report.advice {
        line("note", text.clone());
    }
    out
}

fn cores(cpu: &Cpu) -> String {
    let mut text = format!("{} usable", say(&cpu.usable, usize::to_string));
    for (label, value) in
        [("logical", &cpu.logical), ("physical", &cpu.physical), ("in the affinity mask", &cpu.affinity)]
    {
        if let Some(n) = value.value() {
            let _ = write!(text, ", {n} {label}");
        }
    }
    if let (Some(logical), Some(physical)) = (cpu.logical.value(), cpu.physical.value())
        && logical > physical
    {
        text += " (hyper-threads)";
    }
    if let Some(quota) = cpu.quota.value() {
        let _ = write!(text, ", limited to {quota:.1} by the control group");
    }
    text
}

fn device(gpu: &Gpu) -> String {
    let power = say(&gpu.power_limit_w, |w| format!("{w:.0} W limit"));
    format!("{}, {}, {power}", gpu.name, say(&gpu.memory_total, |&b| bytes(b)))
}

/// A reading in words, with its provenance unless it was simply measured.
fn say<T>(value: &Measured<T>, text: impl FnOnce(&T) -> String) -> String {
    match value {
        Measured::Measured { value } => text(value),
        Measured::Estimated { value, how } => format!("{} (estimated: {how})", text(value)),
        Measured::Missing { reason } => format!("missing: {reason}"),
    }
}
