//! One whole training step of a GPT-2 in candle or in burn, on the CPU, timed when asked.
//!
//!     rust-peers candle --layers 4 --width 128 --heads 4 --vocab 4096 --context 256 --batch 16
//!
//! The protocol is that of `../torch_step.py --serve`: a JSON line when ready, then for each line `run STEPS UNTIMED`
//! on stdin a JSON line with the seconds, until stdin closes. Threads: `RAYON_NUM_THREADS`.
//!
//! Shapes: `B` sequences, `T` positions, `C` width, `H` heads, `V` vocabulary.

#[cfg(feature = "burn")]
mod burn_step;
#[cfg(feature = "candle")]
mod candle_step;

use serde_json::json;
use std::io::{BufRead, Write};
use std::time::Instant;

/// Dimensions of the model and of a step.
pub struct Shape {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub vocab: usize,
    pub context: usize,
    pub batch: usize,
}

impl Shape {
    fn parse(arguments: &[String]) -> Result<Shape, String> {
        let get = |name: &str| -> Result<usize, String> {
            let at = arguments.iter().position(|a| a == name).ok_or(format!("{name} is missing"))?;
            let value = arguments.get(at + 1).ok_or(format!("{name} has no value"))?;
            value.parse().map_err(|e| format!("{name} {value}: {e}"))
        };
        Ok(Shape {
            layers: get("--layers")?,
            width: get("--width")?,
            heads: get("--heads")?,
            vocab: get("--vocab")?,
            context: get("--context")?,
            batch: get("--batch")?,
        })
    }

    /// `B·(T+1)` tokens that follow no pattern, the same for both libraries.
    fn tokens(&self, seed: u64) -> Vec<u32> {
        let mut state = seed;
        let draw = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % self.vocab as u64) as u32
        };
        (0..self.batch * (self.context + 1)).map(draw).collect()
    }

    /// Inputs and targets, `[B·T]` each.
    pub fn batch(&self, seed: u64) -> (Vec<u32>, Vec<u32>) {
        let tokens = self.tokens(seed);
        let rows = || tokens.chunks(self.context + 1);
        (
            rows().flat_map(|r| &r[..self.context]).copied().collect(),
            rows().flat_map(|r| &r[1..]).copied().collect(),
        )
    }
}

/// A model, its optimizer and four batches.
pub trait Trainer {
    /// Forward, backward, clipping, AdamW; the loss in nats.
    fn step(&mut self) -> f32;
}

fn trainer(library: &str, shape: &Shape) -> Result<(Box<dyn Trainer>, &'static str), String> {
    match library {
        #[cfg(feature = "candle")]
        "candle" => Ok((
            Box::new(candle_step::CandleTrainer::new(shape).map_err(|e| e.to_string())?),
            "candle 0.11.1, CPU, f32, gemm with AVX-512",
        )),
        #[cfg(feature = "burn")]
        "burn" => {
            Ok((Box::new(burn_step::BurnTrainer::new(shape)), "burn 0.22.0, flex, f32, gemm with AVX-512"))
        }
        other => Err(format!("`{other}` is not one of the libraries built in\nhint: candle or burn")),
    }
}

/// Bytes of the high-water mark of this process.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
}

fn timed(trainer: &mut dyn Trainer, steps: usize) -> (f64, f32) {
    let start = Instant::now();
    let mut loss = 0.0;
    for _ in 0..steps {
        loss = trainer.step();
    }
    (start.elapsed().as_secs_f64(), loss)
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let library = arguments.first().ok_or("say which library: candle or burn")?;
    let shape = Shape::parse(&arguments)?;
    let before = peak_resident_bytes();
    let (mut trainer, version) = trainer(library, &shape)?;
    let say = |line: serde_json::Value| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| e.to_string())
    };
    let (first_step_s, first_loss) = timed(&mut *trainer, 1);
    let (step_s, _) = timed(&mut *trainer, 1);
    say(json!({
        "ready": true, "mode": format!("{library}-f32"), "versions": {library: version},
        "threads": std::env::var("RAYON_NUM_THREADS").ok(), "first_step_s": first_step_s, "step_s": step_s,
        "first_loss": first_loss, "resident_before_bytes": before,
    }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["run", steps, untimed] = words[..] else { break };
        let steps: usize = steps.parse().map_err(|e| format!("steps {steps}: {e}"))?;
        timed(&mut *trainer, untimed.parse().map_err(|e| format!("untimed {untimed}: {e}"))?);
        let (seconds, loss) = timed(&mut *trainer, steps);
        say(json!({
            "steps": steps, "seconds_per_step": seconds / steps as f64, "loss": loss,
            "tokens_per_s": (shape.batch * shape.context * steps) as f64 / seconds,
            "peak_resident_bytes": peak_resident_bytes(),
        }))?;
    }
    Ok(())
}
