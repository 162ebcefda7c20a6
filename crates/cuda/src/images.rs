//! The kernels as the driver takes them, compiled in development and committed: a user needs no compiler.
//!
//! One program for each type of operands, as a cubin for each architecture known when it was compiled, and as PTX,
//! which the driver compiles for a card that came later. A cubin runs on its own and later minor versions of the same
//! major one.

use flate2::read::ZlibDecoder;
use isoflop_nn::Precision;
use std::io::Read as _;

/// A program: its PTX, and its cubins by compute capability, rising.
struct Program {
    ptx: &'static [u8],
    cubins: [((u32, u32), &'static [u8]); 4],
}

macro_rules! program {
    ($operands:literal) => {
        Program {
            ptx: include_bytes!(concat!("../images/", $operands, ".ptx.z")),
            cubins: [
                ((8, 0), include_bytes!(concat!("../images/", $operands, ".sm_80.cubin.z"))),
                ((8, 6), include_bytes!(concat!("../images/", $operands, ".sm_86.cubin.z"))),
                ((8, 9), include_bytes!(concat!("../images/", $operands, ".sm_89.cubin.z"))),
                ((9, 0), include_bytes!(concat!("../images/", $operands, ".sm_90.cubin.z"))),
            ],
        }
    };
}

static F32: Program = program!("f32");
static BF16: Program = program!("bf16");
static F16: Program = program!("f16");

impl Program {
    fn of(precision: Precision) -> &'static Self {
        match precision {
            Precision::F32 => &F32,
            Precision::Bf16 => &BF16,
            Precision::Fp16 => &F16,
        }
    }

    /// The image for a card, packed.
    fn packed(&self, (major, minor): (u32, u32)) -> &'static [u8] {
        let runs = |of: &(u32, u32)| of.0 == major && of.1 <= minor;
        let cubin = self.cubins.iter().rev().find(|(of, _)| runs(of));
        cubin.map_or(self.ptx, |(_, image)| image)
    }
}

/// The image that holds the kernels of a precision for a card of this compute capability.
pub(crate) fn image(precision: Precision, capability: (u32, u32)) -> Vec<u8> {
    let mut image = Vec::new();
    let packed = Program::of(precision).packed(capability);
    ZlibDecoder::new(packed)
        .read_to_end(&mut image)
        .expect("a committed image unpacks, as a test does with each");
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_card_gets_the_newest_image_that_runs_on_it() {
        let is_cubin = |image: &[u8]| image.starts_with(b"\x7fELF");
        for precision in [Precision::F32, Precision::Bf16, Precision::Fp16] {
            let program = Program::of(precision);
            for (capability, index) in [((8, 0), 0), ((8, 6), 1), ((8, 7), 1), ((8, 9), 2), ((9, 0), 3)] {
                assert_eq!(program.packed(capability), program.cubins[index].1, "{capability:?}");
                assert!(is_cubin(&image(precision, capability)));
            }
            for later in [(10, 0), (12, 0)] {
                let text = String::from_utf8(image(precision, later)).unwrap();
                assert!(text.contains(".target sm_80"), "PTX of the oldest card runs on every later one");
            }
        }
    }
}
