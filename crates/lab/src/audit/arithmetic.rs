//! What follows from the figures of a reported run, and which of them contradict each other.
//!
//! Every derived figure is an estimate that names its formula; what cannot be derived is missing and names what it
//! needs.

use isoflop_base::{Measured, ModelShape};
use isoflop_nn::GptConfig;
use isoflop_nn::ledger::{Convention, training_flops_per_token};
use serde::Serialize;

/// Chinchilla's rule of thumb (Hoffmann et al. 2022, arXiv:2203.15556).
const CHINCHILLA_TOKENS_PER_PARAM: f64 = 20.0;
/// Best shares of peak that large training runs report: 0.40 to 0.60 (PaLM, arXiv:2204.02311, table 3; MLPerf).
const HIGH_SHARE: f64 = 0.65;
/// Below this share of peak something other than arithmetic took the time.
const LOW_SHARE: f64 = 0.10;
/// Compute or parameters that differ by more than this do not agree.
const TOLERANCE: f64 = 0.10;

/// What a report says. Units in the names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claim {
    pub params: Option<f64>,
    pub tokens: Option<f64>,
    pub flops: Option<f64>,
    pub seconds: Option<f64>,
    pub joules: Option<f64>,
    pub devices: Option<u32>,
    pub device: Option<Accelerator>,
    pub model: Option<ModelClaim>,
}

/// What one device can do at most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accelerator {
    pub name: String,
    pub peak_flops_per_s: f64,
    pub peak_f32_flops_per_s: Option<f64>,
    pub board_w: Option<f64>,
    pub source: String,
}

/// The shape of a GPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ModelClaim {
    pub layers: usize,
    pub width: usize,
    pub context: usize,
    pub vocab: usize,
}

/// One derived figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Key in the JSON document; the unit stands last.
    pub key: &'static str,
    /// In words.
    pub label: &'static str,
    /// Unit of `value`.
    pub unit: &'static str,
    /// The figure.
    pub value: Measured<f64>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The figures cannot all be true.
    Contradiction,
    /// Possible, but worth knowing.
    Note,
}

/// Something that does not add up, or is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// A short name for programs.
    pub id: &'static str,
    pub text: String,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audit {
    pub rows: Vec<Row>,
    pub findings: Vec<Finding>,
}

impl Audit {
    /// The value of a row, if it could be derived.
    pub fn value(&self, key: &str) -> Option<f64> {
        self.rows.iter().find(|r| r.key == key)?.value.value().copied()
    }

    /// Whether anything followed from what was given.
    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(|r| r.value.value().is_none())
    }

    fn push(&mut self, key: &'static str, label: &'static str, unit: &'static str, value: Measured<f64>) {
        self.rows.push(Row { key, label, unit, value });
    }

    fn find(&mut self, level: Level, id: &'static str, text: String) {
        self.findings.push(Finding { level, id, text });
    }
}

/// Derives what follows and judges it.
pub fn audit(claim: &Claim) -> Audit {
    let mut audit = Audit { rows: Vec::new(), findings: Vec::new() };
    compute(claim, &mut audit);
    speed(claim, &mut audit);
    power(claim, &mut audit);
    judge_compute(claim, &mut audit);
    judge_speed(claim, &mut audit);
    judge_power(claim, &mut audit);
    audit
}

/// `value` from a formula, or missing with what it needs.
fn derived(value: Option<f64>, how: &str, needs: &str) -> Measured<f64> {
    match value {
        Some(v) if v.is_finite() => Measured::estimated(v, how),
        Some(_) => Measured::missing("the figures given are out of range"),
        None => Measured::missing(format!("needs {needs}")),
    }
}

/// N, D and C: what is missing of three, and their ratios.
fn compute(claim: &Claim, audit: &mut Audit) {
    let (n, d, c) = (claim.params, claim.tokens, claim.flops);
    let six = n.zip(d).map(|(n, d)| 6.0 * n * d);
    let ratio = c.zip(six).map(|(c, six)| c / six);
    audit.push("flops_6nd", "6·N·D", "FLOP", derived(six, "6·params·tokens", "--params and --tokens"));
    audit.push(
        "flops_over_6nd",
        "reported FLOPs over 6ND",
        "",
        derived(ratio, "flops/6ND", "--flops, --params, --tokens"),
    );
    if d.is_none() {
        let implied = c.zip(n).map(|(c, n)| c / (6.0 * n));
        audit.push(
            "implied_tokens",
            "implied tokens",
            "tokens",
            derived(implied, "flops/(6·params)", "--flops and --params"),
        );
    }
    if n.is_none() {
        let implied = c.zip(d).map(|(c, d)| c / (6.0 * d));
        audit.push(
            "implied_params",
            "implied parameters",
            "",
            derived(implied, "flops/(6·tokens)", "--flops and --tokens"),
        );
    }
    let tokens = d.or_else(|| audit.value("implied_tokens"));
    let params = n.or_else(|| audit.value("implied_params"));
    let per_param = tokens.zip(params).map(|(d, n)| d / n);
    let needs = "two of --params, --tokens, --flops";
    audit.push("tokens_per_param", "tokens per parameter", "", derived(per_param, "tokens/params", needs));
    if let Some(model) = claim.model {
        shape(claim, model, audit);
    }
}

/// What a GPT-2 of the reported shape has and costs.
fn shape(claim: &Claim, model: ModelClaim, audit: &mut Audit) {
    let shape = ModelShape { n_layer: model.layers, d_model: model.width, n_head: 1 };
    let (n, total) = (shape.params() as f64, shape.params_total(model.vocab, model.context) as f64);
    let config = GptConfig::new(shape, model.vocab, model.context);
    let exact = training_flops_per_token(&config, Convention::Exact);
    let how = "this program's ledger: causal attention halved, head included, no recomputation";
    audit.push(
        "shape_params",
        "parameters of the shape, non-embedding",
        "",
        Measured::estimated(n, "12·layers·width²"),
    );
    audit.push(
        "shape_params_total",
        "parameters of the shape, all",
        "",
        Measured::estimated(total, "GPT-2 as Hugging Face builds it"),
    );
    audit.push(
        "exact_flops_per_token",
        "exact training FLOPs per token",
        "FLOP",
        Measured::estimated(exact, how),
    );
    audit.push(
        "exact_over_6n",
        "exact over 6N (non-embedding)",
        "",
        Measured::estimated(exact / (6.0 * n), "ledger/(6·12·layers·width²)"),
    );
    if let Some(d) = claim.tokens {
        audit.push(
            "exact_flops",
            "exact training FLOPs",
            "FLOP",
            Measured::estimated(exact * d, "ledger·tokens"),
        );
    }
}

/// FLOP/s, share of peak, tokens/s.
fn speed(claim: &Claim, audit: &mut Audit) {
    let c = claim.flops.or_else(|| audit.value("exact_flops")).or_else(|| audit.value("flops_6nd"));
    let source = match (claim.flops, audit.value("exact_flops")) {
        (Some(_), _) => "flops",
        (None, Some(_)) => "exact flops",
        (None, None) => "6ND",
    };
    let tokens = claim.tokens.or_else(|| audit.value("implied_tokens"));
    let devices = claim.devices.map(f64::from);
    let rate = c.zip(claim.seconds).map(|(c, s)| c / s);
    let each = rate.zip(devices).map(|(r, n)| r / n);
    let (work, time) = ("--flops (or --params and --tokens)", "--hours");
    audit.push(
        "flops_per_s",
        "FLOP/s, total",
        "FLOP/s",
        derived(rate, &format!("{source}/time"), &format!("{work} and {time}")),
    );
    let needs = format!("{work}, {time} and --devices");
    audit.push(
        "flops_per_s_device",
        "FLOP/s, per device",
        "FLOP/s",
        derived(each, &format!("{source}/time/devices"), &needs),
    );
    let share = |peak: Option<f64>| each.zip(peak).map(|(r, p)| r / p);
    let device = claim.device.as_ref();
    let needs = format!("{work}, {time}, --devices and --device or --device-peak");
    let peak = device.map(|d| d.peak_flops_per_s);
    let how = device.map_or(String::new(), |d| format!("per device/peak; peak: {}", d.source));
    audit.push("share_of_peak", "share of peak", "share", derived(share(peak), &how, &needs));
    if let Some(f32_peak) = device.and_then(|d| d.peak_f32_flops_per_s) {
        audit.push(
            "share_of_f32_peak",
            "share of the f32 peak",
            "share",
            derived(share(Some(f32_peak)), &how, &needs),
        );
    }
    let shortest = c.zip(peak).zip(devices).map(|((c, p), n)| c / (p * n) / 3600.0);
    audit.push(
        "hours_at_peak",
        "hours at full peak",
        "h",
        derived(shortest, &format!("{source}/(peak·devices)"), &needs),
    );
    let per_s = tokens.zip(claim.seconds).map(|(d, s)| d / s);
    audit.push(
        "tokens_per_s",
        "tokens/s",
        "tokens/s",
        derived(per_s, "tokens/time", "--tokens (or --flops and --params) and --hours"),
    );
    let hours = claim.seconds.zip(devices).map(|(s, n)| s * n / 3600.0);
    audit.push("device_hours", "device-hours", "h", derived(hours, "time·devices", "--hours and --devices"));
}

/// Watts, joules per FLOP and per token.
fn power(claim: &Claim, audit: &mut Audit) {
    let (j, devices) = (claim.joules, claim.devices.map(f64::from));
    let watts = j.zip(claim.seconds).map(|(j, s)| j / s);
    let each = watts.zip(devices).map(|(w, n)| w / n);
    audit.push("watts", "watts, total", "W", derived(watts, "energy/time", "--kwh and --hours"));
    audit.push(
        "watts_device",
        "watts, per device",
        "W",
        derived(each, "energy/time/devices", "--kwh, --hours and --devices"),
    );
    let c = claim.flops.or_else(|| audit.value("exact_flops")).or_else(|| audit.value("flops_6nd"));
    let tokens = claim.tokens.or_else(|| audit.value("implied_tokens"));
    let per_flop = j.zip(c).map(|(j, c)| j / c);
    let per_token = j.zip(tokens).map(|(j, d)| j / d);
    audit.push(
        "j_per_flop",
        "joules per FLOP",
        "J/FLOP",
        derived(per_flop, "energy/flops", "--kwh and --flops"),
    );
    audit.push(
        "j_per_token",
        "joules per token",
        "J/token",
        derived(per_token, "energy/tokens", "--kwh and --tokens"),
    );
    let nameplate = claim.device.as_ref().and_then(|d| Some(d.board_w? / d.peak_flops_per_s));
    let efficiency = per_flop.zip(nameplate).map(|(j, best)| best / j);
    let needs = "--kwh, --flops and a --device with a board power";
    audit.push(
        "share_of_nameplate_efficiency",
        "efficiency, share of the device's best",
        "share",
        derived(efficiency, "(board power/peak)/(energy/flops)", needs),
    );
}

fn judge_compute(claim: &Claim, audit: &mut Audit) {
    let exact = audit.value("exact_flops");
    if let (Some(c), Some(exact)) = (claim.flops, exact)
        && (c / exact - 1.0).abs() > TOLERANCE
    {
        if audit.value("flops_over_6nd").is_some_and(|ratio| (ratio - 1.0).abs() <= TOLERANCE) {
            let text = format!(
                "the reported FLOPs are 6·N·D, which leaves out attention and head: this shape takes {:.2} \
                 times as many",
                exact / c
            );
            audit.find(Level::Note, "flops_are_6nd", text);
        } else {
            let text = format!(
                "the reported FLOPs are {:.2} times those of this shape over these tokens",
                c / exact
            );
            audit.find(Level::Contradiction, "flops_against_exact", text);
        }
    } else if let (Some(ratio), None) = (audit.value("flops_over_6nd"), exact)
        && (ratio - 1.0).abs() > TOLERANCE
    {
        let text = format!(
            "the reported FLOPs are {ratio:.2} times 6·N·D: another N (with or without embeddings), attention counted, \
             recomputation, several runs in one figure, or an error; --layers --width --context --vocab give the exact count"
        );
        audit.find(Level::Contradiction, "flops_against_6nd", text);
    }
    if let (Some(n), Some(shape), Some(total)) =
        (claim.params, audit.value("shape_params"), audit.value("shape_params_total"))
    {
        let off = |x: f64| (n / x - 1.0).abs();
        if off(shape) > TOLERANCE && off(total) > TOLERANCE {
            let text = format!(
                "{} parameters are neither the shape's {} without embeddings nor its {} with them",
                short(n),
                short(shape),
                short(total)
            );
            audit.find(Level::Contradiction, "params_against_shape", text);
        }
    }
    if let Some(ratio) = audit.value("tokens_per_param")
        && ratio < CHINCHILLA_TOKENS_PER_PARAM / 4.0
    {
        let text = format!(
            "{ratio:.2} tokens per parameter, against Chinchilla's 20: far from converged, so size laws \
             measured there are laws of undertrained models"
        );
        audit.find(Level::Note, "few_tokens", text);
    }
}

fn judge_speed(claim: &Claim, audit: &mut Audit) {
    let (Some(share), Some(device)) = (audit.value("share_of_peak"), claim.device.as_ref()) else { return };
    let percent = share * 100.0;
    let name = &device.name;
    if share > 1.0 {
        let text = format!(
            "{percent:.0} % of the peak of {name} ({}FLOP/s): impossible in this time on these devices",
            si(device.peak_flops_per_s)
        );
        audit.find(Level::Contradiction, "share_above_peak", text);
    } else if share > HIGH_SHARE {
        let text = format!("{percent:.0} % of peak is above what the best published runs reach (40 to 60 %)");
        audit.find(Level::Note, "share_high", text);
    } else if share < LOW_SHARE {
        let hours = audit.value("hours_at_peak").unwrap_or(f64::NAN);
        let text = format!(
            "{percent:.1} % of peak: the arithmetic alone needs {hours:.1} h at full rate and about {:.1} h at the 40 % that \
             good code reaches; small matrices, input, evaluation, idle time or uncounted runs took the rest",
            hours / 0.4
        );
        audit.find(Level::Note, "share_low", text);
    }
}

fn judge_power(claim: &Claim, audit: &mut Audit) {
    if let Some(efficiency) = audit.value("share_of_nameplate_efficiency")
        && efficiency > 1.0
    {
        let text = format!(
            "{efficiency:.1} times as many FLOPs per joule as the device at its peak: the energy is too \
             small, or the FLOPs too many"
        );
        audit.find(Level::Contradiction, "efficiency_above_best", text);
    }
    let board = claim.device.as_ref().and_then(|d| d.board_w);
    let (Some(watts), Some(board), Some(devices)) = (audit.value("watts"), board, claim.devices) else {
        return;
    };
    let all = board * f64::from(devices);
    let busy = match audit.value("share_of_peak") {
        Some(share) if share < LOW_SHARE => {
            format!(
                "; full power beside {:.1} % of peak means devices that wait on memory or small kernels",
                share * 100.0
            )
        }
        _ => String::new(),
    };
    if watts > 2.0 * all {
        let text = format!(
            "{watts:.0} W is more than twice the boards' limit ({devices} × {board:.0} W): not this time, \
             these devices or this energy"
        );
        audit.find(Level::Contradiction, "watts_above_boards", text);
    } else if watts > all {
        let text = format!(
            "{watts:.0} W is above the boards' limit of {devices} × {board:.0} W = {all:.0} W: the {:.0} W beyond it would be the \
             host (measured at the wall), with every card at its limit throughout; the cards alone cannot draw it{busy}",
            watts - all
        );
        audit.find(Level::Note, "watts_include_host", text);
    } else if watts < 0.1 * all {
        let text = format!(
            "{watts:.0} W is under a tenth of the boards' {all:.0} W: cards that were idle most of the time, \
             or energy not counted in full"
        );
        audit.find(Level::Note, "watts_low", text);
    } else if watts > 0.6 * all && !busy.is_empty() {
        let text = format!("{watts:.0} W of at most {all:.0} W{busy}");
        audit.find(Level::Note, "power_without_work", text);
    }
}

/// `1.54M` for a sentence.
fn short(value: f64) -> String {
    isoflop_base::units::si(value).replace(' ', "")
}

/// `97.5 T` before a unit, or `8 ` where there is no multiple.
pub fn si(value: f64) -> String {
    let text = isoflop_base::units::si(value);
    if text.contains(' ') { text } else { text + " " }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtx4080() -> Accelerator {
        Accelerator {
            name: "RTX 4080".into(),
            peak_flops_per_s: 97.5e12,
            peak_f32_flops_per_s: Some(48.7e12),
            board_w: Some(320.0),
            source: "whitepaper".into(),
        }
    }

    fn home() -> Claim {
        Claim {
            flops: Some(1.2e18),
            seconds: Some(48.0 * 3600.0),
            joules: Some(35.0 * 3.6e6),
            devices: Some(2),
            device: Some(rtx4080()),
            ..Claim::default()
        }
    }

    fn check(audit: &Audit, key: &str, expected: f64, tolerance: f64) {
        let value = audit.value(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert!((value - expected).abs() <= tolerance, "{key}: {value}, not {expected}");
    }

    fn ids(audit: &Audit) -> Vec<(Level, &'static str)> {
        audit.findings.iter().map(|f| (f.level, f.id)).collect()
    }

    #[test]
    fn the_home_reports_figures() {
        let a = audit(&home());
        check(&a, "flops_per_s", 6.944e12, 1e9);
        check(&a, "flops_per_s_device", 3.472e12, 1e9);
        check(&a, "share_of_peak", 0.0356, 1e-4);
        check(&a, "share_of_f32_peak", 0.0713, 1e-4);
        check(&a, "watts", 729.17, 0.01);
        check(&a, "watts_device", 364.58, 0.01);
        check(&a, "j_per_flop", 1.05e-10, 1e-13);
        check(&a, "hours_at_peak", 1.709, 1e-3);
        check(&a, "device_hours", 96.0, 0.0);
        assert_eq!(ids(&a), [(Level::Note, "share_low"), (Level::Note, "watts_include_host")]);
        assert!(a.findings[1].text.contains("89 W beyond"), "{}", a.findings[1].text);
        // No tokens and no parameters were given, so nothing is said of them.
        assert!(a.value("tokens_per_s").is_none() && a.value("j_per_token").is_none());
    }

    #[test]
    fn what_is_missing_of_three_is_implied() {
        let claim = Claim { params: Some(150e6), flops: Some(1.2e18), ..Claim::default() };
        check(&audit(&claim), "implied_tokens", 1.333e9, 1e6);
        check(&audit(&claim), "tokens_per_param", 8.889, 1e-3);
        let claim = Claim { tokens: Some(3e9), flops: Some(1.8e18), ..Claim::default() };
        check(&audit(&claim), "implied_params", 1e8, 1.0);
        let a = audit(&Claim::default());
        assert!(a.is_empty() && a.findings.is_empty());
        assert!(a.rows.iter().all(|r| matches!(&r.value, Measured::Missing { reason } if reason.starts_with("needs --") || reason.starts_with("needs two"))));
    }

    #[test]
    fn flops_that_are_not_6nd_are_a_contradiction() {
        let claim =
            |flops| Claim { params: Some(1e8), tokens: Some(2e9), flops: Some(flops), ..Claim::default() };
        assert_eq!(ids(&audit(&claim(1.25e18))), []);
        assert_eq!(ids(&audit(&claim(2.4e18))), [(Level::Contradiction, "flops_against_6nd")]);
        assert_eq!(ids(&audit(&claim(0.9e18))), [(Level::Contradiction, "flops_against_6nd")]);
    }

    #[test]
    fn the_shape_explains_flops_beyond_6nd() {
        // A small model: the head and attention cost as much as the blocks.
        let model = ModelClaim { layers: 2, width: 32, context: 256, vocab: 256 };
        let mut claim =
            Claim { params: Some(24_576.0), tokens: Some(12e6), model: Some(model), ..Claim::default() };
        let exact = audit(&claim).value("exact_flops").unwrap();
        let ratio = audit(&claim).value("exact_over_6n").unwrap();
        assert!((1.5..2.5).contains(&ratio), "{ratio}");
        claim.flops = Some(exact);
        assert_eq!(ids(&audit(&claim)), []);
        claim.flops = Some(exact / ratio);
        assert_eq!(ids(&audit(&claim)), [(Level::Note, "flops_are_6nd")]);
        claim.flops = Some(exact * 1.2);
        assert_eq!(ids(&audit(&claim)), [(Level::Contradiction, "flops_against_exact")]);
        claim.flops = None;
        claim.params = Some(60_000.0);
        assert_eq!(ids(&audit(&claim)), [(Level::Contradiction, "params_against_shape")]);
    }

    #[test]
    fn impossible_speed_power_and_efficiency_are_contradictions() {
        let impossible = Claim { seconds: Some(3600.0), ..home() };
        let found = ids(&audit(&impossible));
        assert!(found.contains(&(Level::Contradiction, "share_above_peak")), "{found:?}");
        assert!(found.contains(&(Level::Contradiction, "watts_above_boards")), "{found:?}");
        let frugal = Claim { joules: Some(1e6), ..home() };
        let found = ids(&audit(&frugal));
        assert!(found.contains(&(Level::Contradiction, "efficiency_above_best")), "{found:?}");
        assert!(found.contains(&(Level::Note, "watts_low")), "{found:?}");
    }

    #[test]
    fn power_without_work_and_high_shares_are_noted() {
        let below_limit = Claim { joules: Some(28.0 * 3.6e6), ..home() };
        assert_eq!(ids(&audit(&below_limit))[1], (Level::Note, "power_without_work"));
        let fast = Claim { flops: Some(2.4e19), joules: None, ..home() };
        assert_eq!(ids(&audit(&fast)), [(Level::Note, "share_high")]);
    }
}
