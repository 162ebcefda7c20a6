//! What is seen of a store while it grows: a live page, and the same in a terminal.
//!
//! [`store::Seen`] reads the logs of a store as they are written; [`law`] fits what is finished with the code that
//! draws the report; [`message`] puts both into words for the page; [`server`] is the one part of the program that
//! listens, on this machine's own addresses; [`frame`] draws the terminal's picture as text.
//!
//! This room only reads. It takes no lock and writes no file, so whatever happens to it, nothing happens to a run.

pub mod frame;
pub mod law;
pub mod line;
pub mod message;
mod run;
pub mod server;
pub mod store;

/// Lets the calling thread stand back by so many degrees of niceness, 19 the farthest, where the system can.
pub(crate) fn step_back(by: i32) {
    // Of the thread alone: so Linux takes a priority without a process.
    #[cfg(target_os = "linux")]
    if let Ok(now) = rustix::process::getpriority_process(None) {
        let _ = rustix::process::setpriority_process(None, (now + by).min(19));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = by;
}
