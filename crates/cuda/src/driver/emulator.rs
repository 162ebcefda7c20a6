//! What a driver offers that is no card's but the emulator of `emulator/`: failures on demand, and what went wrong in a
//! kernel. A real driver has none of it.

#![expect(unsafe_code, reason = "a C library is called; each call is argued where it is made")]

use super::Driver;
use super::sys::Symbol;
use std::ffi::{CString, c_char, c_int};

/// The emulator behind a driver.
#[derive(Debug, Clone, Copy)]
pub struct Emulator<'a>(&'a Driver);

type Fail = unsafe extern "system" fn(*const c_char, c_int, c_int);
type Set = unsafe extern "system" fn(c_int);
type SetBytes = unsafe extern "system" fn(u64);
type Bytes = unsafe extern "system" fn(c_int) -> u64;
type Faults = unsafe extern "system" fn(*mut c_char, usize) -> c_int;

impl Driver {
    /// The emulator, if that is what was loaded.
    pub fn emulator(&self) -> Option<Emulator<'_>> {
        // SAFETY: only whether it is there is asked.
        let found: Option<Symbol<'_, Set>> = unsafe { self.api.symbol("isoflop_emulator_devices") };
        found.map(|_| Emulator(self))
    }
}

impl<'a> Emulator<'a> {
    fn symbol<T>(self, name: &str) -> Symbol<'a, T> {
        // SAFETY: the types are those of the emulator's sources, which lie beside these.
        unsafe { self.0.api.symbol(name) }.unwrap_or_else(|| panic!("the emulator has no {name}"))
    }

    /// The call of this name answers `code`, once, after as many that succeed.
    pub fn fail(self, call: &str, after: i32, code: i32) {
        let call = CString::new(call).expect("a name has no zero in it");
        // SAFETY: a string that outlives the call.
        unsafe { self.symbol::<Fail>("isoflop_emulator_fail")(call.as_ptr(), after, code) }
    }

    /// From now on it has so many cards.
    pub fn set_cards(self, cards: i32) {
        // SAFETY: no pointer.
        unsafe { self.symbol::<Set>("isoflop_emulator_devices")(cards) }
    }

    /// From now on its cards copy to each other, or do not.
    pub fn set_peers(self, can: bool) {
        // SAFETY: no pointer.
        unsafe { self.symbol::<Set>("isoflop_emulator_peers")(i32::from(can)) }
    }

    /// From now on each card has so many bytes.
    pub fn set_memory(self, bytes: u64) {
        // SAFETY: no pointer.
        unsafe { self.symbol::<SetBytes>("isoflop_emulator_memory")(bytes) }
    }

    /// From now on its cards are of this compute capability, 89 for 8.9.
    pub fn set_capability(self, capability: i32) {
        // SAFETY: no pointer.
        unsafe { self.symbol::<Set>("isoflop_emulator_capability")(capability) }
    }

    /// Bytes that are allocated on a card now.
    pub fn allocated(self, card: i32) -> u64 {
        // SAFETY: no pointer.
        unsafe { self.symbol::<Bytes>("isoflop_emulator_allocated")(card) }
    }

    /// Most bytes that were allocated on a card at once.
    pub fn peak(self, card: i32) -> u64 {
        // SAFETY: no pointer.
        unsafe { self.symbol::<Bytes>("isoflop_emulator_peak")(card) }
    }

    /// What went wrong in kernels and copies: races, reads of what nobody wrote, what lies beyond a buffer.
    pub fn faults(self) -> Option<String> {
        let mut text = [0u8; 4096];
        // SAFETY: the emulator writes at most the length it is given, and a zero at the end.
        let count =
            unsafe { self.symbol::<Faults>("isoflop_emulator_faults")(text.as_mut_ptr().cast(), text.len()) };
        let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
        (count > 0).then(|| format!("{count} faults: {}", String::from_utf8_lossy(&text[..end])))
    }
}
