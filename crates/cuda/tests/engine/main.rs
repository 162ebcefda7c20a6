//! The engine through the emulated driver: the kernels' own sources, compiled as C++, behind the same library interface
//! as a card's driver. Every race, unwritten read and access beyond a buffer it sees fails the test.

#[path = "../../../nn/tests/golden/mod.rs"]
mod golden;
#[path = "../../../nn/tests/memory/mod.rs"]
mod memory;
#[path = "../../../nn/tests/threads/mod.rs"]
mod threads;

mod cards;
mod emulated;
mod errors;
mod fewshot;
mod numbers;
mod pytorch;
mod scale;
mod state;

use emulated::Emulated;
