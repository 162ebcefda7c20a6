//! The engine through the emulated driver: the kernels' own sources, compiled as C++, behind the same library interface
//! as a card's driver. Every race, unwritten read and access beyond a buffer it sees fails the test.

mod emulated;
mod numbers;

use emulated::Emulated;
