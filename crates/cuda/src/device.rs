//! Cards as a device that engines are made on, and cards that are planned for without being here.

use crate::driver::{Card, Driver, DriverError};
use crate::gpt::CudaGpt;
use crate::sizes::Sizes;
use isoflop_base::devices;
use isoflop_nn::engine::{Device, DeviceFacts, EngineError, MemoryPlan};
use isoflop_nn::{EngineOptions, GptConfig, Precision};

/// Bytes of a card that are no engine's: the driver's context, the kernels' code, a desktop. An assumption for cards
/// that are not here; of one that is here the driver says what is free.
pub const RESERVED: u64 = 768 << 20;
/// What the kernels can do: widths of a head and of the model.
const MOST_HEAD_WIDTH: usize = 128;
const MOST_WIDTH: usize = 5888;
/// The oldest compute capability with bf16 in its matrix units, for which the kernels are made.
const CAPABILITY: (u32, u32) = (8, 0);

/// Names of the kernel sets of 1, 2, … cards: with how many cards a batch is shared determines the order of sums, and
/// so a run's bits.
const KERNELS: [&str; 16] = [
    "cuda", "cuda-2", "cuda-3", "cuda-4", "cuda-5", "cuda-6", "cuda-7", "cuda-8", "cuda-9", "cuda-10",
    "cuda-11", "cuda-12", "cuda-13", "cuda-14", "cuda-15", "cuda-16",
];

/// The name of the kernel set of so many cards; `None` for none and for too many.
pub fn kernels_of(cards: usize) -> Option<&'static str> {
    KERNELS.get(cards.checked_sub(1)?).copied()
}

/// Whether a run's kernel set is that of graphics cards, and of how many. What stands behind a network of images is the
/// processor's, whose kernel set then follows: `cuda-2+avx512`.
pub fn cards_of(kernels: &str) -> Option<usize> {
    let kernels = kernels.split_once('+').map_or(kernels, |(cards, _)| cards);
    KERNELS.iter().position(|name| *name == kernels).map(|index| index + 1)
}

/// Precisions of the kernels, the preferred one first.
pub const PRECISIONS: [Precision; 3] = [Precision::Bf16, Precision::Fp16, Precision::F32];

/// Cards of this machine.
#[derive(Debug, Clone)]
pub struct Cuda {
    driver: Driver,
    cards: Vec<Card>,
}

/// Why these cards train nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// The driver's.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The driver lists no card.
    #[error(
        "the CUDA driver lists no card\nhint: is CUDA_VISIBLE_DEVICES set, and is the module `nvidia` loaded?"
    )]
    None,
    /// A number that no card has.
    #[error("there is no card {number}: the driver lists {}\nhint: cards are numbered from 0; `isoflop doctor` lists them",
        of(*count))]
    Number {
        /// The number asked for.
        number: u32,
        /// How many there are.
        count: usize,
    },
    /// A card asked for twice, or more of them than are used together.
    #[error("{0} cards cannot be used together\nhint: name each of at most {most} cards once", most = KERNELS.len())]
    Count(usize),
    /// One is older than the kernels.
    #[error("{name} has compute capability {}.{}; the kernels need {}.{}\nhint: train on the processor, or on a card of \
             the Ampere generation or newer", found.0, found.1, CAPABILITY.0, CAPABILITY.1)]
    Old {
        /// The card.
        name: String,
        /// What it can do.
        found: (u32, u32),
    },
    /// Cards that would not compute the same bits.
    #[error(
        "{first} and {other} cannot share a batch: their replicas would drift apart\nhint: name cards of one kind"
    )]
    Mixed {
        /// One.
        first: String,
        /// Another.
        other: String,
    },
}

fn of(count: usize) -> String {
    if count == 1 { "one".to_owned() } else { count.to_string() }
}

impl Cuda {
    /// These cards of a driver.
    ///
    /// # Errors
    /// There are no such cards, or the kernels do not run on them.
    pub fn new(driver: Driver, numbers: &[u32]) -> Result<Self, CardError> {
        let all = driver.cards()?;
        if all.is_empty() {
            return Err(CardError::None);
        }
        let repeated = numbers.iter().enumerate().any(|(i, n)| numbers[..i].contains(n));
        if repeated || kernels_of(numbers.len()).is_none() {
            return Err(CardError::Count(numbers.len()));
        }
        let mut cards = Vec::new();
        for &number in numbers {
            let card = all.get(number as usize).cloned();
            cards.push(card.ok_or(CardError::Number { number, count: all.len() })?);
        }
        if let Some(old) = cards.iter().find(|card| card.capability < CAPABILITY) {
            return Err(CardError::Old { name: old.name.clone(), found: old.capability });
        }
        let kind = |card: &Card| (card.capability, card.multiprocessors, card.memory);
        if let Some(other) = cards.iter().find(|card| kind(card) != kind(&cards[0])) {
            return Err(CardError::Mixed { first: cards[0].name.clone(), other: other.name.clone() });
        }
        Ok(Self { driver, cards })
    }

    /// Its cards.
    pub fn cards(&self) -> &[Card] {
        &self.cards
    }

    /// Its driver.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Bytes free now on the card that has least.
    ///
    /// # Errors
    /// The driver's.
    pub fn free(&self) -> Result<u64, DriverError> {
        let mut least = u64::MAX;
        for card in &self.cards {
            least = least.min(self.driver.context(card.number)?.memory()?.0);
        }
        Ok(least)
    }

    /// Bytes an engine may take of each card when nothing else uses it: a function of the card, so that what follows
    /// from it is the same whenever it is asked.
    pub fn usable(&self) -> u64 {
        self.cards.iter().map(|card| card.memory.saturating_sub(RESERVED)).min().unwrap_or(0)
    }

    /// The published figures of its kind of card.
    pub fn published(&self) -> Option<&'static devices::Device> {
        devices::find(&self.cards[0].name)
    }
}

impl Device<GptConfig> for Cuda {
    type Engine = CudaGpt;

    fn facts(&self) -> DeviceFacts {
        facts(&self.cards[0].name, self.cards.len())
    }

    /// Bytes of each card.
    fn plan(&self, config: &GptConfig, options: &EngineOptions) -> MemoryPlan {
        Sizes::new(config, options, self.cards.len()).plan()
    }

    fn make(&self, config: &GptConfig, options: &EngineOptions, seed: u64) -> Result<CudaGpt, EngineError> {
        check_model(config)?;
        CudaGpt::new(self, config, options, seed)
    }
}

/// Cards that are not here, known by their published figures.
#[derive(Debug, Clone, Copy)]
pub struct AbsentCards {
    device: &'static devices::Device,
    memory: devices::Memory,
    cards: usize,
}

impl AbsentCards {
    /// So many cards of this name, if their memory is known.
    pub fn of(name: &str, cards: usize) -> Option<Self> {
        let device = devices::find(name)?;
        kernels_of(cards)?;
        Some(Self { device, memory: device.memory?, cards })
    }

    /// The published figures.
    pub fn published(&self) -> &'static devices::Device {
        self.device
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.cards
    }

    /// Bytes an engine may take of each.
    pub fn usable(&self) -> u64 {
        self.memory.bytes - RESERVED
    }

    /// What they are.
    pub fn facts(&self) -> DeviceFacts {
        facts(self.device.name, self.cards)
    }

    /// Bytes of each card.
    pub fn plan(&self, config: &GptConfig, options: &EngineOptions) -> MemoryPlan {
        Sizes::new(config, options, self.cards).plan()
    }
}

fn facts(name: &str, cards: usize) -> DeviceFacts {
    let kernels = kernels_of(cards).expect("checked when the cards were chosen");
    DeviceFacts { name: name.to_owned(), kernels, precisions: PRECISIONS.to_vec() }
}

/// Refuses models the kernels do not compute.
///
/// # Errors
/// [`EngineError::Device`].
pub fn check_model(config: &GptConfig) -> Result<(), EngineError> {
    let shape = config.shape;
    if shape.head_width() > MOST_HEAD_WIDTH || shape.d_model > MOST_WIDTH {
        return Err(EngineError::Device(format!(
            "{shape}: the kernels for graphics cards have heads of at most {MOST_HEAD_WIDTH} and models of at most \
             {MOST_WIDTH} channels\nhint: give it more heads, or train it on the processor"
        )));
    }
    Ok(())
}

/// The largest divisor of `sequences` whose engine takes at most `usable` bytes of each card, if any does.
pub fn largest_micro_batch(
    config: &GptConfig,
    options: &EngineOptions,
    cards: usize,
    sequences: usize,
    usable: u64,
) -> Option<usize> {
    let fits = |micro_batch: usize| {
        let options = EngineOptions { micro_batch, ..*options };
        Sizes::new(config, &options, cards).total() <= usable
    };
    let divisors = (1..=sequences).rev().filter(|n| sequences.is_multiple_of(*n));
    // More rows than this at once make no product faster.
    let most = (MOST_ROWS / config.context).max(1) * cards;
    divisors.filter(|n| *n <= most).find(|n| fits(*n))
}

/// Rows of a micro-batch on each card from which on its products fill any card.
const MOST_ROWS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_nn::{Optimizer, Recompute};

    fn config(shape: &str, vocab: usize, context: usize) -> GptConfig {
        GptConfig::new(shape.parse().unwrap(), vocab, context)
    }

    #[test]
    fn a_model_of_150_m_with_a_context_of_2048_trains_on_16_gb() {
        let card = AbsentCards::of("RTX 4080", 1).unwrap();
        let config = config("L12-d1024-h16", 50_257, 2048);
        assert!((150e6..152e6).contains(&(config.shape.params() as f64)));
        let options = |precision, recompute, optimizer| EngineOptions {
            precision,
            recompute,
            optimizer,
            ..EngineOptions::default()
        };
        let most = |options: &EngineOptions| largest_micro_batch(&config, options, 1, 64, card.usable());
        let plain = options(Precision::Bf16, Recompute::None, Optimizer::AdamW);
        let found = most(&plain).unwrap();
        assert!(found >= 4, "{found} sequences of 2,048");
        let again = options(Precision::Bf16, Recompute::Block, Optimizer::AdamW8bit);
        assert!(most(&again).unwrap() >= 2 * found, "{:?} with recomputation and 8 bits", most(&again));
        let total = card.plan(&config, &EngineOptions { micro_batch: found, ..plain }).total();
        assert!(total <= card.usable() && card.usable() < 16 << 30, "{total} of {}", card.usable());
        assert_eq!(largest_micro_batch(&config, &plain, 1, 64, 1 << 30), None, "weights alone are more");
    }

    #[test]
    fn two_cards_take_twice_the_sequences() {
        let config = config("L12-d768-h12", 50_257, 1024);
        let options = EngineOptions { precision: Precision::Bf16, ..EngineOptions::default() };
        let most = |cards| largest_micro_batch(&config, &options, cards, 512, 15 << 30).unwrap();
        assert!(most(2) >= 2 * most(1) - 2 && most(2) <= 2 * most(1), "{} {}", most(1), most(2));
    }

    #[test]
    fn kernel_sets_name_the_number_of_cards() {
        assert_eq!((kernels_of(1), kernels_of(2)), (Some("cuda"), Some("cuda-2")));
        assert_eq!((kernels_of(0), kernels_of(17)), (None, None));
        for cards in 1..=16 {
            assert_eq!(cards_of(kernels_of(cards).unwrap()), Some(cards));
        }
        assert_eq!((cards_of("avx512"), cards_of("cuda-x")), (None, None));
        assert_eq!((cards_of("cuda-2+avx512"), cards_of("cuda+naive")), (Some(2), Some(1)));
    }

    #[test]
    fn models_beyond_the_kernels_are_refused_with_a_hint() {
        assert!(check_model(&config("L1-d256-h2", 100, 8)).is_ok());
        for shape in ["L1-d512-h2", "L1-d6144-h48"] {
            let error = check_model(&config(shape, 100, 8)).unwrap_err().to_string();
            assert!(error.contains("hint:"), "{error}");
        }
    }
}
