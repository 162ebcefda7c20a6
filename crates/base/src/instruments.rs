//! What a study asks of the instruments: limits, alarms, and what a meter cannot know. Nothing here changes a bit of a
//! run, so none of it is in a run's identity.

use crate::recipe::{Word, choice};
use serde::{Deserialize, Serialize};

/// Limits, alarms and factors of a study.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstrumentSpec {
    /// Where it is slowed down or stopped.
    pub limits: Limits,
    /// What is done when something looks wrong.
    pub alarms: AlarmSpec,
    /// What a meter cannot know.
    pub meter: MeterSpec,
}

impl InstrumentSpec {
    /// Whether nothing was asked.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a study is slowed down (temperature, power) or stopped (the others, and what slowing down does not help).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Degrees Celsius of the hottest processor sensor or graphics card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_temp_c: Option<f64>,
    /// Watts of the processors; of processors and cards together where cards do the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_power_w: Option<f64>,
    /// Energy of the whole study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_energy_kwh: Option<f64>,
    /// Hours of the whole study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_hours: Option<f64>,
    /// What its energy may cost, in the currency of the meter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
}

/// What is done when something looks wrong, beside noting and showing it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlarmSpec {
    /// A command for the shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// An address on this machine that is sent the alarm as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Alarms that stop the study.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<AlarmKind>,
    /// Alarms that are not raised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<AlarmKind>,
}

/// What a meter cannot know.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MeterSpec {
    /// No thread samples the machine, and nothing is watched; energy is still read where activities change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_samples: bool,
    /// What the processors may draw at full load, watts: for an estimate where nothing can be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tdp_w: Option<f64>,
    /// What the machine draws when idle, watts: subtracted for the net energy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_w: Option<f64>,
    /// Measure the idle power before the first run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub measure_idle: bool,
    /// Grams of CO₂ a kilowatt-hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon_g_per_kwh: Option<f64>,
    /// Price of a kilowatt-hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_kwh: Option<f64>,
    /// What prices are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

choice! {
    /// What looks wrong.
    AlarmKind {
        /// Loss or gradient is no number.
        NonFinite = "non-finite",
        /// The loss jumped.
        LossSpike = "loss-spike",
        /// The gradient grew many times over.
        GradientExplosion = "gradient-explosion",
        /// Training became much slower.
        ThroughputDrop = "throughput-drop",
        /// The loss does not fall any more.
        Plateau = "plateau",
        /// The disk of the store is nearly full.
        DiskNearlyFull = "disk-nearly-full",
        /// No step was finished for long.
        Stalled = "stalled",
        /// Processor or card slow down for heat or power.
        Throttled = "throttled",
    }
}

/// Something that looked wrong, as it is noted in the run's store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The run it was seen in.
    pub run: String,
    /// Which.
    pub alarm: AlarmKind,
    /// Seconds since 1970 UTC.
    pub unix_s: u64,
    /// Optimiser steps of the run at that time, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// What was seen, with its figures.
    pub words: String,
}
