//! What trains a model: the processor, or graphics cards as a study names them.

use crate::error::UserError;
use isoflop_base::devices::{self, Device as Published};
use isoflop_base::study::PROCESSOR;
use isoflop_cuda::{AbsentCards, Cuda, Driver, DriverError, largest_micro_batch};
use isoflop_nn::conv::{ConvError, ConvOptions, FewShotConfig, FewShotEngine};
use isoflop_nn::engine::DeviceFacts;
use isoflop_nn::{Cpu, Device, EngineError, EngineOptions, GptConfig, LanguageModel, MemoryPlan, Precision};

/// Names a library to load instead of the machine's own CUDA driver.
const DRIVER_VARIABLE: &str = "ISOFLOP_CUDA_DRIVER";

/// The CUDA driver: the one `ISOFLOP_CUDA_DRIVER` names, else the machine's.
///
/// # Errors
/// There is none, or it does not start.
pub fn driver() -> Result<Driver, DriverError> {
    match std::env::var(DRIVER_VARIABLE) {
        Ok(path) if !path.is_empty() => Driver::open_at(&[path]),
        _ => Driver::open(),
    }
}

/// Where engines are made.
#[derive(Debug, Clone)]
pub enum Hardware {
    /// The processor.
    Cpu(Cpu),
    /// Graphics cards of this machine.
    Cards(Cuda),
    /// Graphics cards that are planned for and not here.
    Absent(AbsentCards),
}

/// How a study names devices.
const WORDS: &str = "write cpu, cuda (the first card), cuda:all, cuda:0,1, or a card to plan for such as \"RTX 4080\" or \
                     \"2x RTX 4080\"";

impl Hardware {
    /// The graphics cards of this name: `cuda`, `cuda:all`, `cuda:0,1` of this machine, else a kind of card that is
    /// planned for, `RTX 4080` or `2x RTX 4080`.
    ///
    /// # Errors
    /// A [`UserError`]: no such cards, or no driver.
    pub fn cards(name: &str) -> Result<Self, UserError> {
        let (kind, numbers) = name.split_once(':').unwrap_or((name, "0"));
        if kind.trim() != "cuda" {
            return Self::absent(name);
        }
        let driver = driver().map_err(UserError::from_error)?;
        let numbers: Vec<u32> = match numbers.trim() {
            "all" => (0..driver.cards().map_err(UserError::from_error)?.len() as u32).collect(),
            list => list
                .split(',')
                .map(|number| number.trim().parse())
                .collect::<Result<_, _>>()
                .map_err(|_| UserError::new(format!("\"{name}\" names no cards")).hint(WORDS))?,
        };
        Cuda::new(driver, &numbers).map(Self::Cards).map_err(UserError::from_error)
    }

    /// Cards known by their published figures.
    fn absent(name: &str) -> Result<Self, UserError> {
        let counted = name.split_once(['x', '×']).and_then(|(n, kind)| Some((n.trim().parse().ok()?, kind)));
        let (count, kind) = counted.unwrap_or((1, name));
        AbsentCards::of(kind, count).map(Self::Absent).ok_or_else(|| {
            let known = devices::trained_on();
            UserError::new(format!("\"{name}\" is no device"))
                .hint(format!("{WORDS}; cards whose memory is known: {known}"))
        })
    }

    /// Whether a study's device is graphics cards.
    pub fn is_cards(name: &str) -> bool {
        name != PROCESSOR
    }

    /// What it is.
    pub fn facts(&self) -> DeviceFacts {
        match self {
            Self::Cpu(cpu) => Device::<GptConfig>::facts(cpu),
            Self::Cards(cuda) => cuda.facts(),
            Self::Absent(cards) => cards.facts(),
        }
    }

    /// Bytes an engine will allocate, on each card.
    pub fn plan(&self, config: &GptConfig, options: &EngineOptions) -> MemoryPlan {
        match self {
            Self::Cpu(cpu) => cpu.plan(config, options),
            Self::Cards(cuda) => cuda.plan(config, options),
            Self::Absent(cards) => cards.plan(config, options),
        }
    }

    /// Bytes that may be taken now, on each card; `None` where the system does not say.
    pub fn available(&self) -> Option<u64> {
        match self {
            Self::Cpu(_) => crate::plan::memory::available(),
            Self::Cards(cuda) => cuda.free().ok(),
            Self::Absent(cards) => Some(cards.usable()),
        }
    }

    /// The micro-batch `auto` stands for on cards, and why: the largest divisor of the batch that their memory holds, a
    /// function of the card, so that a study resolves to the same whenever it is asked. `None` on a processor.
    pub fn auto_micro_batch(
        &self,
        config: &GptConfig,
        options: &EngineOptions,
        sequences: usize,
    ) -> Option<usize> {
        let (usable, cards) = match self {
            Self::Cpu(_) => return None,
            Self::Cards(cuda) => (cuda.usable(), cuda.cards().len()),
            Self::Absent(absent) => (absent.usable(), absent.count()),
        };
        // Where none fits, one sequence is what the refusal speaks of.
        Some(largest_micro_batch(config, options, cards, sequences, usable).unwrap_or(1))
    }

    /// An engine with fresh weights.
    ///
    /// # Errors
    /// The device's; cards that are not here.
    pub fn make(
        &self,
        config: &GptConfig,
        options: &EngineOptions,
        seed: u64,
    ) -> Result<Box<dyn LanguageModel>, EngineError> {
        Ok(match self {
            Self::Cpu(cpu) => Box::new(cpu.make(config, options, seed)?),
            Self::Cards(cuda) => Box::new(cuda.make(config, options, seed)?),
            Self::Absent(cards) => return Err(absent(cards)),
        })
    }

    /// Bytes an engine of a network of images will allocate, on each card.
    ///
    /// # Errors
    /// An impossible network or batch.
    pub fn few_shot_plan(
        &self,
        config: &FewShotConfig,
        options: &ConvOptions,
    ) -> Result<MemoryPlan, ConvError> {
        match self {
            Self::Cpu(_) => FewShotEngine::plan(config, options),
            Self::Cards(cuda) => cuda.few_shot_plan(config, options),
            Self::Absent(cards) => cards.few_shot_plan(config, options),
        }
    }

    /// An engine of a network of images with fresh weights.
    ///
    /// # Errors
    /// As [`Self::make`]; an impossible network or batch.
    pub fn few_shot(
        &self,
        config: &FewShotConfig,
        options: &ConvOptions,
    ) -> Result<FewShotEngine, EngineError> {
        match self {
            Self::Cpu(_) => {
                FewShotEngine::new(config, options).map_err(|e| EngineError::Device(e.to_string()))
            }
            Self::Cards(cuda) => cuda.few_shot(config, options),
            Self::Absent(cards) => Err(absent(cards)),
        }
    }

    /// Operations per second of its matrix units as the vendor publishes them, of all cards; `None` on a processor
    /// and for cards that are not in the table.
    pub fn published_flops_per_s(&self, precision: Precision) -> Option<f64> {
        let (published, cards): (&Published, usize) = match self {
            Self::Cpu(_) => return None,
            Self::Cards(cuda) => (cuda.published()?, cuda.cards().len()),
            Self::Absent(absent) => (absent.published(), absent.count()),
        };
        let one = match precision {
            Precision::F32 => published.peak_f32?,
            Precision::Bf16 | Precision::Fp16 => published.peak_16bit,
        };
        Some(one * cards as f64)
    }
}

/// That nothing can be trained on cards that are planned for.
fn absent(cards: &AbsentCards) -> EngineError {
    let name = cards.facts().name;
    EngineError::Device(format!(
        "{name} is planned for and not here\nhint: write device = \"cuda\" to train on this machine's card"
    ))
}

impl Device<GptConfig> for Hardware {
    type Engine = Box<dyn LanguageModel>;

    fn facts(&self) -> DeviceFacts {
        Self::facts(self)
    }

    fn plan(&self, config: &GptConfig, options: &EngineOptions) -> MemoryPlan {
        Self::plan(self, config, options)
    }

    fn make(
        &self,
        config: &GptConfig,
        options: &EngineOptions,
        seed: u64,
    ) -> Result<Self::Engine, EngineError> {
        Self::make(self, config, options, seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_that_are_not_here_are_known_by_name_and_number() {
        for (name, count) in [("RTX 4080", 1), ("2x RTX 4080", 2), ("4 × h100", 4), ("a100", 1)] {
            let Hardware::Absent(cards) = Hardware::cards(name).unwrap() else { panic!("{name}") };
            assert_eq!(cards.count(), count, "{name}");
        }
        for name in ["RTX 9999", "gpu", "0x RTX 4080", "99x RTX 4080", "M1"] {
            let error = Hardware::cards(name).unwrap_err().to_string();
            assert!(error.contains("is no device") && error.contains("cuda:all"), "{error}");
        }
    }

    #[test]
    fn a_card_that_is_not_here_is_planned_for_and_makes_no_engine() {
        let hardware = Hardware::cards("RTX 4080").unwrap();
        let config = crate::gpt::config(&isoflop_base::study::GptSpec {
            shape: "L2-d32-h2".parse().unwrap(),
            vocab: 61,
            context: 16,
            init: isoflop_base::Init::Scaled,
        });
        let options = EngineOptions::default();
        assert!(hardware.plan(&config, &options).total() < hardware.available().unwrap());
        let error = hardware.make(&config, &options, 1).err().unwrap().to_string();
        assert!(error.contains("not here"), "{error}");
        assert_eq!(hardware.published_flops_per_s(Precision::Bf16), Some(97.5e12));
    }
}
