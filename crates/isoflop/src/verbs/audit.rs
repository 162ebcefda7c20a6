//! `isoflop audit`: checks the arithmetic of any reported run.

use crate::cli::Context;
use isoflop_base::Measured;
use isoflop_base::devices;
use isoflop_base::units::duration;
use isoflop_lab::UserError;
use isoflop_lab::audit::arithmetic::{Accelerator, Audit, Claim, Level, ModelClaim, Row, si};
use isoflop_lab::audit::{arithmetic, quantity};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Give what a report says; what follows from it is derived, and what cannot all be true is named.
///
/// Example, a home report: isoflop audit --flops 1.2e18 --hours 48 --kwh 35 --devices 2 --device "RTX 4080"
#[derive(Debug, Default, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AuditArgs {
    /// Parameters N, e.g. 150M.
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    params: Option<f64>,
    /// Training tokens D, e.g. 3B.
    #[arg(long, value_name = "D", value_parser = quantity::count)]
    tokens: Option<f64>,
    /// Training FLOPs C, e.g. 1.2e18.
    #[arg(long, value_name = "C", value_parser = quantity::count)]
    flops: Option<f64>,
    /// Wall-clock time: hours, or with a unit (48h, 3d, 90m).
    #[arg(long, value_name = "TIME", value_parser = quantity::seconds)]
    hours: Option<f64>,
    /// Energy: kWh, or with a unit (35kWh, 1.2MWh, 126MJ).
    #[arg(long, value_name = "ENERGY", value_parser = quantity::joules)]
    kwh: Option<f64>,
    /// Number of devices.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    devices: Option<u32>,
    /// A device whose published peak is known, e.g. "RTX 4080", A100, H100.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Peak of one device, e.g. 97.5T; wins over --device's.
    #[arg(long, value_name = "FLOP/S", value_parser = quantity::rate)]
    device_peak: Option<f64>,
    /// Board power of one device in watts; wins over --device's.
    #[arg(long, value_name = "W")]
    device_watts: Option<f64>,
    /// Layers, for the exact count of a GPT-2 (with --width, --context, --vocab).
    #[arg(long, requires_all = ["width", "context", "vocab"], value_parser = positive)]
    layers: Option<usize>,
    /// Width of the residual stream.
    #[arg(long, requires = "layers", value_parser = positive)]
    width: Option<usize>,
    /// Context length in tokens.
    #[arg(long, requires = "layers", value_parser = positive)]
    context: Option<usize>,
    /// Symbols in the vocabulary.
    #[arg(long, requires = "layers", value_parser = positive)]
    vocab: Option<usize>,
}

/// Runs the verb.
pub(crate) fn run(args: AuditArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let claim = claim(&args)?;
    let audit = arithmetic::audit(&claim);
    if audit.is_empty() {
        return Err(UserError::new("nothing follows from these figures")
            .hint("give at least two, e.g. --flops 1.2e18 --hours 48 --devices 2 --device \"RTX 4080\"")
            .into());
    }
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&document(&claim, &audit))?);
    } else {
        print!("{}", page(&claim, &audit));
    }
    Ok(ExitCode::SUCCESS)
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("not a whole number above zero".to_owned()),
        Ok(n) if n > 1 << 24 => Err("more than any model has".to_owned()),
        Ok(n) => Ok(n),
    }
}

fn claim(args: &AuditArgs) -> Result<Claim, UserError> {
    let known = match &args.device {
        None => None,
        Some(name) => Some(devices::find(name).ok_or_else(|| {
            UserError::new(format!("no published peak of `{name}` is known here"))
                .hint(format!("give its dense peak with --device-peak, or one of: {}", devices::names()))
        })?),
    };
    if args.device_watts.is_some_and(|w| !(w.is_finite() && w > 0.0)) {
        return Err(UserError::new("--device-watts must be above zero")
            .hint("give the board power in watts, e.g. 320"));
    }
    let peak = args.device_peak.or(known.map(|d| d.peak_16bit));
    if peak.is_none() && args.device_watts.is_some() {
        return Err(UserError::new("--device-watts without a device").hint("add --device or --device-peak"));
    }
    let device = peak.map(|peak_flops_per_s| Accelerator {
        name: known.map_or("the device", |d| d.name).to_owned(),
        peak_flops_per_s,
        // A peak given by hand replaces the table's, whatever precision it is for.
        peak_f32_flops_per_s: known.filter(|_| args.device_peak.is_none()).and_then(|d| d.peak_f32),
        board_w: args.device_watts.or(known.and_then(|d| d.board_w)),
        source: match (args.device_peak, known) {
            (None, Some(d)) => d.source.to_owned(),
            _ => "given".to_owned(),
        },
    });
    let model = match (args.layers, args.width, args.context, args.vocab) {
        (Some(layers), Some(width), Some(context), Some(vocab)) => {
            Some(ModelClaim { layers, width, context, vocab })
        }
        _ => None,
    };
    Ok(Claim {
        params: args.params,
        tokens: args.tokens,
        flops: args.flops,
        seconds: args.hours,
        joules: args.kwh,
        devices: args.devices,
        device,
        model,
    })
}

fn document(claim: &Claim, audit: &Audit) -> serde_json::Value {
    let derived: serde_json::Map<String, serde_json::Value> = audit
        .rows
        .iter()
        .map(|row| {
            let mut entry = json!(row.value);
            entry["unit"] = json!(row.unit);
            (row.key.to_owned(), entry)
        })
        .collect();
    json!({
        "schema": "isoflop/audit/1",
        "reported": {
            "params": claim.params,
            "tokens": claim.tokens,
            "flops": claim.flops,
            "seconds": claim.seconds,
            "energy_j": claim.joules,
            "devices": claim.devices,
            "device": claim.device,
            "model": claim.model,
        },
        "derived": derived,
        "findings": audit.findings,
        "adds_up": audit.findings.iter().all(|f| f.level != Level::Contradiction),
    })
}

fn page(claim: &Claim, audit: &Audit) -> String {
    let mut out = String::from("reported\n");
    let mut line = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(out, "  {label:<40} {value}");
        }
    };
    line("parameters", claim.params.map(|n| si(n).trim().to_owned()));
    line("tokens", claim.tokens.map(|d| si(d).trim().to_owned()));
    line("FLOPs", claim.flops.map(|c| format!("{c:.3e} FLOP")));
    line("time", claim.seconds.map(duration));
    line("energy", claim.joules.map(|j| format!("{} kWh", three(j / 3.6e6))));
    line("devices", claim.devices.map(|n| n.to_string()));
    line("device", claim.device.as_ref().map(describe));
    line(
        "model",
        claim.model.map(|m| {
            format!("{} layers, width {}, context {}, vocabulary {}", m.layers, m.width, m.context, m.vocab)
        }),
    );
    out.push_str("\nwhat follows (estimated from the reported figures)\n");
    for row in &audit.rows {
        if let Measured::Estimated { value, how } = &row.value {
            let _ = writeln!(out, "  {:<40} {:<18} {how}", row.label, shown(row, *value));
        }
    }
    let missing: Vec<String> = audit
        .rows
        .iter()
        .filter_map(|row| match &row.value {
            Measured::Missing { reason } => Some(format!("  {:<40} {reason}\n", row.label)),
            _ => None,
        })
        .collect();
    if !missing.is_empty() {
        let _ = write!(out, "\nmissing\n{}", missing.concat());
    }
    for (level, title) in [(Level::Contradiction, "what does not add up"), (Level::Note, "worth knowing")] {
        let texts: Vec<&str> =
            audit.findings.iter().filter(|f| f.level == level).map(|f| f.text.as_str()).collect();
        if level == Level::Contradiction && texts.is_empty() {
            out.push_str("\nno contradiction found\n");
        } else if !texts.is_empty() {
            let _ = writeln!(out, "\n{title}");
            texts.iter().for_each(|text| out.push_str(&wrapped(text)));
        }
    }
    out
}

fn describe(device: &Accelerator) -> String {
    let mut text = format!("{}, peak {}FLOP/s", device.name, si(device.peak_flops_per_s));
    if device.source != "given" {
        text += " dense 16-bit";
    }
    if let Some(w) = device.board_w {
        let _ = write!(text, ", board {w:.0} W");
    }
    format!("{text} ({})", device.source)
}

fn shown(row: &Row, value: f64) -> String {
    match row.unit {
        "share" => format!("{} %", three(value * 100.0)),
        "FLOP" => format!("{value:.3e} FLOP"),
        "J/FLOP" => format!("{value:.3e} J/FLOP"),
        "h" => format!("{} h", three(value)),
        "W" => format!("{value:.0} W"),
        "J/token" => format!("{} J/token", three(value)),
        "" if value < 1000.0 => three(value),
        "FLOP/s" => format!("{}FLOP/s", si(value)),
        unit => format!("{} {unit}", si(value).trim()).trim().to_owned(),
    }
}

/// Three significant digits.
fn three(value: f64) -> String {
    let digits = match value.abs() {
        x if x == 0.0 || !(1e-3..1e6).contains(&x) => return format!("{value:.2e}"),
        x => (2 - x.log10().floor() as i32).max(0) as usize,
    };
    format!("{value:.digits$}")
}

/// A list item, wrapped at 100 columns.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.chars().count() > 100 {
            out.push_str(if column == 0 { "  - " } else { "\n    " });
            column = 4;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.chars().count();
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: AuditArgs,
    }

    fn parse(line: &str) -> Result<AuditArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("audit").chain(line.split('|'))).map(|l| l.args)
    }

    const HOME: &str = "--flops=1.2e18|--hours=48h|--kwh=35kWh|--devices=2|--device=RTX 4080";

    #[test]
    fn the_home_reports_line_reads_as_it_should() {
        let claim = claim(&parse(HOME).unwrap()).unwrap();
        let audit = arithmetic::audit(&claim);
        let page = page(&claim, &audit);
        for part in
            ["6.94 TFLOP/s", "3.56 %", "729 W", "365 W", "2 × 320 W", "no contradiction found", "35.0 kWh"]
        {
            assert!(page.contains(part), "`{part}` is not in:\n{page}");
        }
        let document = document(&claim, &audit);
        assert_eq!(document["derived"]["watts"]["provenance"], "estimated");
        assert_eq!(document["derived"]["tokens_per_s"]["provenance"], "missing");
        assert_eq!(document["adds_up"], true);
    }

    #[test]
    fn bad_lines_are_refused() {
        for line in ["--flops=many", "--hours=0", "--devices=0", "--layers=2", "--width=32", "--kwh=3 apples"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        let unknown = claim(&parse("--device=Abacus").unwrap()).unwrap_err().to_string();
        assert!(unknown.contains("Abacus") && unknown.contains("hint:") && unknown.contains("RTX 4080"));
        assert!(claim(&parse("--device-watts=300").unwrap()).is_err());
        assert!(claim(&parse("--device-watts=-1|--device=T4").unwrap()).is_err());
    }

    #[test]
    fn a_peak_given_by_hand_wins() {
        let claim = claim(&parse("--device=A100|--device-peak=156T").unwrap()).unwrap();
        let device = claim.device.unwrap();
        assert_eq!(
            (device.peak_flops_per_s, device.peak_f32_flops_per_s, device.board_w),
            (156e12, None, Some(400.0))
        );
    }

    #[test]
    fn three_digits() {
        for (value, text) in
            [(35.0, "35.0"), (3.561, "3.56"), (729.2, "729"), (0.0712, "0.0712"), (0.0, "0.00e0")]
        {
            assert_eq!(three(value), text);
        }
    }
}
