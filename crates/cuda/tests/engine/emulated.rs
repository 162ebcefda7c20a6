//! The emulated driver: built once, and a copy of it for each test, so that none sees another's cards.

use isoflop_cuda::driver::Emulator;
use isoflop_cuda::{Cuda, Driver};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Builds the emulator, if there is a compiler; `ISOFLOP_EMULATOR` names one that was built before.
fn built() -> Option<&'static PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("ISOFLOP_EMULATOR") {
                return Some(PathBuf::from(path));
            }
            let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
            Command::new(compiler).arg("--version").output().ok()?;
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("emulator");
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/emulator/build.sh");
            let output = Command::new("sh").arg(script).arg(&folder).output().expect("a shell");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(folder.join("libcuda.so.1"))
        })
        .as_ref()
}

/// A driver of its own.
pub(crate) struct Emulated {
    pub(crate) driver: Driver,
    _folder: tempfile::TempDir,
}

impl Emulated {
    /// With so many cards; `None` where there is no C++ compiler to build it.
    pub(crate) fn with(cards: i32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libcuda.so.1");
        std::fs::copy(built()?, &library).unwrap();
        let driver = Driver::open_at(&[library.display().to_string()]).unwrap();
        driver.emulator().expect("it is the emulator").set_cards(cards);
        Some(Self { driver, _folder: folder })
    }

    pub(crate) fn emulator(&self) -> Emulator<'_> {
        self.driver.emulator().unwrap()
    }

    /// Its first cards.
    pub(crate) fn cards(&self, count: u32) -> Cuda {
        Cuda::new(self.driver.clone(), &(0..count).collect::<Vec<_>>()).unwrap()
    }

    /// Fails if a kernel did what it must not.
    pub(crate) fn check(&self) {
        if let Some(faults) = self.emulator().faults() {
            panic!("{faults}");
        }
    }
}
