//! NVIDIA's driver, found at run time: cards, their memory, streams and kernels, with what each call answered.
//!
//! `unsafe` is confined to this folder: `sys.rs` has the functions of the driver's library, `handles.rs` and
//! `queue.rs` make of them objects that own what they name and end it when they go. What stays out of reach of any
//! check is what a kernel does with the addresses it is given: that is held by the tests that run every kernel under
//! an emulator with bounds.

mod emulator;
mod error;
mod handles;
mod queue;
mod sys;

pub use emulator::Emulator;
pub use error::{DriverError, GET_ONE};
pub use handles::{Context, DeviceMemory, Function, Module, Span};
pub use queue::{Arg, Event, Grid, Pinned, Stream};

use std::sync::Arc;

/// Where the driver is looked for: where the loader finds it, where Windows puts it, and where it puts it for Linux.
pub fn library_names() -> Vec<String> {
    let names: &[&str] = match cfg!(windows) {
        true => &["nvcuda.dll"],
        false => &["libcuda.so.1", "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1"],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// The driver, initialised.
#[derive(Debug, Clone)]
pub struct Driver {
    api: Arc<sys::Api>,
}

/// A card as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Card {
    /// Its number among those this process sees.
    pub number: u32,
    /// Its name, e.g. `NVIDIA GeForce RTX 4080`.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Highest clock of its processors, kHz.
    pub clock_khz: u32,
    /// Bytes of shared memory one block may ask for.
    pub shared_memory: u32,
}

/// Attributes of a device, by their numbers in `cuda.h`.
mod attribute {
    pub(super) const CLOCK_KHZ: i32 = 13;
    pub(super) const MULTIPROCESSORS: i32 = 16;
    pub(super) const CAPABILITY_MAJOR: i32 = 75;
    pub(super) const CAPABILITY_MINOR: i32 = 76;
    pub(super) const SHARED_MEMORY_OPT_IN: i32 = 97;
}

impl Driver {
    /// Loads the machine's driver.
    ///
    /// # Errors
    /// None is here, it lacks a function, or it does not start.
    pub fn open() -> Result<Self, DriverError> {
        Self::open_at(&library_names())
    }

    /// Loads the first of these libraries that is there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(paths: &[String]) -> Result<Self, DriverError> {
        let driver = Self { api: Arc::new(sys::Api::load(paths)?) };
        driver.initialise()?;
        Ok(driver)
    }

    /// The library it was loaded from.
    pub fn library(&self) -> &str {
        self.api.path()
    }

    /// The newest version of CUDA it serves: major and minor.
    ///
    /// # Errors
    /// The driver's.
    pub fn version(&self) -> Result<(u32, u32), DriverError> {
        let version = self.version_number()? as u32;
        Ok((version / 1000, version % 1000 / 10))
    }

    /// All cards this process sees.
    ///
    /// # Errors
    /// The driver's. No card at all is an empty list.
    pub fn cards(&self) -> Result<Vec<Card>, DriverError> {
        (0..self.count()?).map(|number| self.card(number)).collect()
    }

    /// One card.
    ///
    /// # Errors
    /// There is no card of this number; the driver's.
    pub fn card(&self, number: u32) -> Result<Card, DriverError> {
        let read = || {
            let device = self.device(number)?;
            let attribute = |which| self.attribute(device, which).map(|value| value.max(0) as u32);
            Ok(Card {
                number,
                name: self.device_name(device)?,
                capability: (
                    attribute(attribute::CAPABILITY_MAJOR)?,
                    attribute(attribute::CAPABILITY_MINOR)?,
                ),
                memory: self.device_memory(device)?,
                multiprocessors: attribute(attribute::MULTIPROCESSORS)?,
                clock_khz: attribute(attribute::CLOCK_KHZ)?,
                shared_memory: attribute(attribute::SHARED_MEMORY_OPT_IN)?,
            })
        };
        read().map_err(|error: DriverError| error.of_card(number))
    }
}
