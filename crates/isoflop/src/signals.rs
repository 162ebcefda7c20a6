//! SIGINT and SIGTERM: the first asks every loop to save and leave, a second stops at once.

use isoflop_lab::Stop;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Listens for both signals from now on.
pub(crate) fn listen() -> anyhow::Result<Stop> {
    let stop = Stop::never();
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second signal finds `again` set by the first and ends the process then and there.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        signal_hook::flag::register(signal, Arc::clone(&again))?;
        signal_hook::flag::register_usize(signal, stop.signal_cell(), signal as usize)?;
    }
    Ok(stop)
}
