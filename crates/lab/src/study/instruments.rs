//! The parts `[limits]`, `[alarms]` and `[meter]` of a study file, the same in every family of studies.

use super::raw::RawStudy;
use crate::error::UserError;
use crate::instruments::notify::Webhook;
use isoflop_base::instruments::{AlarmKind, AlarmSpec, InstrumentSpec, Limits, MeterSpec};

/// What `meter.idle_w` may be instead of a number.
const MEASURE: &str = "measure";

/// Reads them.
///
/// # Errors
/// A [`UserError`] for a value that is wrong, or does not go with the others.
pub fn instruments(raw: &RawStudy) -> Result<InstrumentSpec, UserError> {
    let idle = raw.quantity("meter.idle_w")?;
    let measure_idle = idle.as_deref() == Some(MEASURE);
    let meter = MeterSpec {
        no_samples: raw.flag("meter.sample")? == Some(false),
        tdp_w: positive(raw, "meter.tdp_w")?,
        idle_w: if measure_idle { None } else { positive(raw, "meter.idle_w")? },
        measure_idle,
        carbon_g_per_kwh: positive(raw, "meter.carbon_g_per_kwh")?,
        cost_per_kwh: positive(raw, "meter.cost_per_kwh")?,
        currency: raw.text("meter.currency")?,
    };
    if let (Some(tdp), Some(idle)) = (meter.tdp_w, meter.idle_w)
        && idle >= tdp
    {
        return Err(UserError::new(format!(
            "{}: {idle} W idle is not below the {tdp} W at full load",
            raw.place("meter.idle_w")
        ))
        .hint("tdp_w is what the processors may draw at most"));
    }
    let limits = Limits {
        max_temp_c: positive(raw, "limits.max_temp_c")?,
        max_power_w: positive(raw, "limits.max_power_w")?,
        max_energy_kwh: positive(raw, "limits.max_energy_kwh")?,
        max_hours: positive(raw, "limits.max_hours")?,
        max_cost: positive(raw, "limits.max_cost")?,
    };
    if limits.max_cost.is_some() && meter.cost_per_kwh.is_none() {
        return Err(UserError::new(format!("{}: no price is known", raw.place("limits.max_cost")))
            .hint("write cost_per_kwh = 0.3 under [meter]"));
    }
    if meter.no_samples && limits != Limits::default() {
        return Err(UserError::new(format!("{}: limits need samples", raw.place("meter.sample")))
            .hint("leave out sample = false, or [limits]"));
    }
    let webhook = raw.text("alarms.webhook")?;
    if let Some(address) = &webhook {
        Webhook::parse(address)
            .map_err(|e| UserError::new(format!("{}: {e}", raw.place("alarms.webhook"))))?;
    }
    let alarms = AlarmSpec {
        command: raw.text("alarms.command")?.filter(|command| !command.trim().is_empty()),
        webhook,
        stop: kinds(raw, "alarms.stop")?,
        off: kinds(raw, "alarms.off")?,
    };
    Ok(InstrumentSpec { limits, alarms, meter })
}

/// A number above zero, if the key is there.
fn positive(raw: &RawStudy, key: &str) -> Result<Option<f64>, UserError> {
    raw.parsed(key, |text| match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        Ok(value) => Err(format!("{value} is out of range\nhint: choose a number above 0, or leave it out")),
        Err(_) => Err(format!("`{text}` is not a number\nhint: write a number such as 84 or 0.3")),
    })
}

fn kinds(raw: &RawStudy, key: &str) -> Result<Vec<AlarmKind>, UserError> {
    let parse = |text: &str| {
        AlarmKind::from_word(text).ok_or_else(|| {
            format!("`{text}` is no alarm\nhint: write some of: {}", AlarmKind::WORDS.join(", "))
        })
    };
    Ok(raw.parsed_list(key, parse)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::raw::LANGUAGE;

    fn read(text: &str) -> Result<InstrumentSpec, UserError> {
        instruments(&RawStudy::parse_as(&LANGUAGE, "s.toml", text, &[])?)
    }

    #[test]
    fn limits_alarms_and_factors_are_read_and_nothing_is_the_default() {
        assert!(read("").unwrap().is_default());
        let text = "[limits]\nmax_temp_c = 84\nmax_hours = 1.5\nmax_cost = 2\n\
                    [alarms]\ncommand = 'notify-send \"$ISOFLOP_WORDS\"'\nwebhook = 'http://127.0.0.1:9/x'\n\
                    stop = ['loss-spike']\noff = ['plateau', 'stalled']\n\
                    [meter]\ntdp_w = 65\nidle_w = 'measure'\ncarbon_g_per_kwh = 380\ncost_per_kwh = 0.31\n\
                    currency = 'EUR'\n";
        let spec = read(text).unwrap();
        assert_eq!((spec.limits.max_temp_c, spec.limits.max_hours), (Some(84.0), Some(1.5)));
        assert_eq!(spec.alarms.stop, [AlarmKind::LossSpike]);
        assert_eq!(spec.alarms.off, [AlarmKind::Plateau, AlarmKind::Stalled]);
        assert!(spec.meter.measure_idle && spec.meter.idle_w.is_none());
        assert_eq!(spec.meter.currency.as_deref(), Some("EUR"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, words) in [
            ("[limits]\nmax_temp = 84", vec!["s.toml:2", "`limits.max_temp`", "`limits.max_temp_c`"]),
            ("[limits]\nmax_hours = 0", vec!["s.toml:2", "out of range"]),
            ("[limits]\nmax_hours = 'soon'", vec!["s.toml:2", "not a number"]),
            ("[limits]\nmax_cost = 3", vec!["s.toml:2", "cost_per_kwh"]),
            ("[alarms]\noff = ['plateu']", vec!["s.toml:2", "`plateu` is no alarm", "plateau"]),
            ("[alarms]\nwebhook = 'http://10.0.0.1:80/'", vec!["s.toml:2", "other machines"]),
            ("[meter]\ntdp_w = 65\nidle_w = 80", vec!["s.toml:3", "not below"]),
            ("[limits]\nmax_hours = 3\n[meter]\nsample = false", vec!["s.toml:4", "need samples"]),
            ("[meter]\nidle_w = 'cold'", vec!["s.toml:2", "not a number"]),
        ] {
            let message = read(text).unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "`{word}` is not in: {message}");
            }
            assert!(message.contains("hint: "), "{message}");
        }
    }
}
