//! What trains a study, and in which precision: the processor's kernel set, or graphics cards.

use super::raw::RawStudy;
use super::resolve::{Machine, Notes};
use crate::error::UserError;
use crate::machine::Hardware;
use isoflop_base::Precision;
use isoflop_base::study::PROCESSOR;
use isoflop_base::units::parse_whole;

/// The device a study names, and its graphics cards if those are meant.
///
/// # Errors
/// A [`UserError`]: no such cards, or no driver.
pub fn device(raw: &RawStudy) -> Result<(String, Option<Hardware>), UserError> {
    let device = raw.text("train.device")?.unwrap_or_else(|| PROCESSOR.to_owned());
    if !Hardware::is_cards(&device) {
        return Ok((device, None));
    }
    let cards = Hardware::cards(&device)
        .map_err(|e| UserError::new(format!("{}: {e}", raw.place("train.device"))))?;
    Ok((device, Some(cards)))
}

/// What the machine offers when these cards train.
pub fn machine_of(cards: Option<&Hardware>, machine: &Machine) -> Machine {
    match cards {
        Some(cards) => {
            let kernels = cards.facts().kernels.to_owned();
            Machine { kernels, threads: machine.threads, bf16: true, bf16_loses: None }
        }
        None => machine.clone(),
    }
}

/// What a study's numbers are multiplied in.
///
/// # Errors
/// No such precision, or one that is not computed here.
pub fn precision(raw: &RawStudy, machine: &Machine, notes: &mut Notes) -> Result<Precision, UserError> {
    let text = raw.text("train.precision")?.unwrap_or_else(|| "auto".to_owned());
    match text.as_str() {
        "auto" => {
            let in_bf16 = || "the engine computes in bf16 under this kernel set".to_owned();
            let (value, reason) = match &machine.bf16_loses {
                _ if isoflop_cuda::cards_of(&machine.kernels).is_some() => {
                    (Precision::Bf16, "the cards' matrix units multiply bf16 and sum in f32".to_owned())
                }
                Some(why) if machine.bf16 => (Precision::F32, format!("faster under this kernel set: {why}")),
                _ if machine.bf16 => (Precision::Bf16, in_bf16()),
                _ => (Precision::F32, "the engine computes in f32 under this kernel set".to_owned()),
            };
            notes.add("train.precision", value.word(), &reason, false);
            Ok(value)
        }
        "f32" => Ok(Precision::F32),
        "bf16" if machine.bf16 => Ok(Precision::Bf16),
        "bf16" => Err(UserError::new(format!(
            "{}: bf16 is not computed under kernel set `{}`, and never emulated silently",
            raw.place("train.precision"),
            machine.kernels
        ))
        .hint(
            "write precision = \"auto\" or \"f32\"; `isoflop doctor` lists the kernel sets of this machine",
        )),
        "fp16" if isoflop_cuda::cards_of(&machine.kernels).is_some() => Ok(Precision::Fp16),
        "fp16" => Err(UserError::new(format!(
            "{}: fp16 is not computed on a processor, and never emulated silently",
            raw.place("train.precision")
        ))
        .hint("write precision = \"auto\", \"f32\" or \"bf16\", or device = \"cuda\"")),
        other => {
            Err(UserError::new(format!("{}: \"{other}\" is no precision", raw.place("train.precision")))
                .hint("write auto, f32, bf16 or fp16"))
        }
    }
}

/// Threads a study asks for.
///
/// # Errors
/// None or too many.
pub fn threads(raw: &RawStudy, machine: &Machine, notes: &mut Notes) -> Result<usize, UserError> {
    match raw.parsed("train.threads", parse_whole)? {
        Some(n) if (1..=1024).contains(&n) => Ok(n as usize),
        Some(n) => Err(UserError::new(format!("{}: {n} is out of range", raw.place("train.threads")))
            .hint("choose 1 to 1024")),
        None => {
            let reason = "one per processor core this process may use";
            notes.add("train.threads", machine.threads.to_string(), reason, true);
            Ok(machine.threads)
        }
    }
}
