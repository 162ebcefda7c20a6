//! The matrix unit of AMX: eight tile registers of 16 rows by 64 bytes, `tdpbf16ps` between them.
//!
//! Rust has no stable intrinsics for it, so the instructions stand in assembly, tile registers named in the text.
//! A block of 32×32 sums lives in four tiles while k runs:
//!
//! ```text
//!              tmm6   tmm7      right operand: 16 pairs of k × 16 columns
//!      tmm4    tmm0   tmm1
//!      tmm5    tmm2   tmm3      left operand: 16 rows × 32 k
//! ```

use super::{Ahead, BlockSize, Segment};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Linux's number of the tile data among the extended states of a process.
const TILE_DATA: u64 = 18;
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;

/// `Ok` once Linux lets this process use the tiles; else what is missing. Asked once, for all threads started later.
pub(crate) fn request() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), &'static str>> = OnceLock::new();
    ANSWER.get_or_init(ask).map_err(str::to_owned)
}

fn ask() -> Result<(), &'static str> {
    if __cpuid(0).eax < 7 {
        return Err("the processor has no AMX");
    }
    let leaf = __cpuid_count(7, 0);
    let (bf16, tile) = (leaf.edx >> 22 & 1, leaf.edx >> 24 & 1);
    if bf16 == 0 || tile == 0 {
        return Err("the processor has no AMX with bf16");
    }
    // OSXSAVE: without it xgetbv may not be executed.
    if __cpuid(1).ecx >> 27 & 1 == 0 {
        return Err("the operating system does not save extended registers");
    }
    // SAFETY: OSXSAVE was just seen.
    let enabled = unsafe { xcr0() };
    if enabled >> 17 & 3 != 3 {
        return Err("the operating system does not save AMX tiles");
    }
    permission()
}

#[target_feature(enable = "xsave")]
unsafe fn xcr0() -> u64 {
    // SAFETY: register 0 exists wherever xgetbv does.
    unsafe { _xgetbv(0) }
}

#[cfg(target_os = "linux")]
fn permission() -> Result<(), &'static str> {
    let result: i64;
    // SAFETY: arch_prctl with a request for permission reads and writes no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") 158i64 => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    if result == 0 {
        Ok(())
    } else {
        Err("Linux refuses this process the AMX tiles (sandbox, or a small signal stack)")
    }
}

#[cfg(not(target_os = "linux"))]
fn permission() -> Result<(), &'static str> {
    Err("AMX is used on Linux only")
}

/// Palette 1, every tile 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig([u8; 64]);

static CONFIG: TileConfig = {
    let mut config = [0u8; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = 16;
        tile += 1;
    }
    TileConfig(config)
};

/// # Safety
/// [`request`] said `Ok`.
#[inline(always)]
pub(super) unsafe fn configure() {
    // SAFETY: the configuration is 64 readable bytes; it zeroes the tiles, which only `block` uses.
    unsafe {
        asm!(
            "ldtilecfg [{}]", in(reg) CONFIG.0.as_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        );
    }
}

/// # Safety
/// After [`configure`] on the same thread.
#[inline(always)]
pub(super) unsafe fn release() {
    // SAFETY: gives back what `configure` took.
    unsafe {
        asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        );
    }
}

/// Lines of `$p` from the cell after next on, eight at a time: what two steps later will load. Asking for one cell
/// further on gained nothing more, for one operand only less.
macro_rules! lines {
    ($p:literal: $($at:literal)*) => {
        concat!($("prefetcht0 [", $p, " + ", $at, "]\n",)*)
    };
}

/// Lines of what the next panel begins with, into L2, and a step on.
macro_rules! panel {
    ($($at:literal)*) => {
        concat!($("prefetcht1 [{far} + ", $at, "]\n",)* "add {far}, {apart}")
    };
}

/// Walks the segments and, in each, the cells: `$step` is one cell's products.
macro_rules! walk {
    (
        $segments:ident, $cells:ident, $c:ident, $stride:expr, $ahead:expr,
        begin: [$($begin:expr),*], step: [$($step:expr),*], store: [$($store:expr),*]
    ) => {
        // SAFETY: each segment points to `cells` cells of 2,048 bytes on either side, `c` to 32 rows of 128 bytes,
        // `stride` apart; prefetches never fault; tiles are configured, and nothing else of this process uses them.
        unsafe {
            asm!(
                // Operands that only some sizes name.
                "/* {below} {far} {apart} {offset} */",
                $($begin,)*
                "2:",
                "mov {a}, [{s}]",
                "mov {b}, [{s} + 8]",
                "mov {k}, {cells}",
                "lea {far}, [{b} + {offset}]",
                "3:",
                $($step,)*
                "add {a}, 2048",
                "add {b}, 2048",
                "dec {k}",
                "jnz 3b",
                "add {s}, 16",
                "dec {n}",
                "jnz 2b",
                $($store,)*
                s = inout(reg) $segments.as_ptr() => _,
                n = inout(reg) $segments.len() => _,
                cells = in(reg) $cells,
                c = in(reg) $c,
                below = in(reg) $c.cast::<u8>().wrapping_add(16 * $stride),
                row = in(reg) 64usize,
                out = in(reg) $stride,
                offset = in(reg) $ahead.offset,
                apart = in(reg) $ahead.apart,
                far = out(reg) _,
                a = out(reg) _,
                b = out(reg) _,
                k = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    };
}

/// [`walk!`] for a block of this size, from zero or from what `c` holds.
macro_rules! sized {
    (
        $segments:ident, $cells:ident, $size:ident, $c:ident, $stride:expr, $ahead:expr, $begin:ident,
        whole: $step:tt
    ) => {
        match ($size.rows > 16, $size.cols > 16) {
            (true, true) => walk!($segments, $cells, $c, $stride, $ahead,
                begin: [
                    $begin!(0, "{c}", "0"), $begin!(1, "{c}", "64"),
                    $begin!(2, "{below}", "0"), $begin!(3, "{below}", "64")
                ],
                step: $step,
                store: [
                    "tilestored [{c} + {out}*1], tmm0", "tilestored [{c} + {out}*1 + 64], tmm1",
                    "tilestored [{below} + {out}*1], tmm2", "tilestored [{below} + {out}*1 + 64], tmm3"
                ]),
            (true, false) => walk!($segments, $cells, $c, $stride, $ahead,
                begin: [$begin!(0, "{c}", "0"), $begin!(2, "{below}", "0")],
                step: [
                    "tileloadd tmm6, [{b} + {row}*1]", "tileloadd tmm4, [{a} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm5, [{a} + {row}*1 + 1024]", "tdpbf16ps tmm2, tmm5, tmm6"
                ],
                store: ["tilestored [{c} + {out}*1], tmm0", "tilestored [{below} + {out}*1], tmm2"]),
            (false, true) => walk!($segments, $cells, $c, $stride, $ahead,
                begin: [$begin!(0, "{c}", "0"), $begin!(1, "{c}", "64")],
                step: [
                    "tileloadd tmm4, [{a} + {row}*1]", "tileloadd tmm6, [{b} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {row}*1 + 1024]", "tdpbf16ps tmm1, tmm4, tmm7"
                ],
                store: ["tilestored [{c} + {out}*1], tmm0", "tilestored [{c} + {out}*1 + 64], tmm1"]),
            (false, false) => walk!($segments, $cells, $c, $stride, $ahead,
                begin: [$begin!(0, "{c}", "0")],
                step: [
                    "tileloadd tmm4, [{a} + {row}*1]", "tileloadd tmm6, [{b} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6"
                ],
                store: ["tilestored [{c} + {out}*1], tmm0"]),
        }
    };
}

/// [`sized!`] of operands that lie in L1, into rows of 32 floats one behind the other.
macro_rules! near {
    ($segments:ident, $cells:ident, $size:ident, $c:ident, $begin:ident) => {
        sized!($segments, $cells, $size, $c, 128usize, Ahead::default(), $begin, whole: [
            "tileloadd tmm6, [{b} + {row}*1]", "tileloadd tmm4, [{a} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row}*1 + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {row}*1 + 1024]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7"
        ])
    };
}

macro_rules! zero {
    ($tile:literal, $base:literal, $at:literal) => {
        concat!("tilezero tmm", $tile)
    };
}

macro_rules! load {
    ($tile:literal, $base:literal, $at:literal) => {
        concat!("tileloadd tmm", $tile, ", [", $base, " + {out}*1 + ", $at, "]")
    };
}

/// See [`super::Simd::block`]; whole tiles, so up to 15 rows or columns more than asked are computed. Asks for nothing:
/// operands of a cell or two, as attention has them, lie in L1.
///
/// # Safety
/// As there; between [`configure`] and [`release`].
#[inline(always)]
pub(super) unsafe fn block(segments: &[Segment], size: BlockSize, c: *mut f32) {
    let cells = size.depth.div_ceil(32);
    if segments.is_empty() || cells == 0 {
        // SAFETY: `c` has 1,024 floats.
        unsafe { c.write_bytes(0, 1024) }
        return;
    }
    near!(segments, cells, size, c, zero);
}

/// [`block`] added to what `c` holds: the sums are loaded into the tiles and stay there.
///
/// # Safety
/// As [`block`].
#[inline(always)]
pub(super) unsafe fn block_add(segments: &[Segment], size: BlockSize, c: *mut f32) {
    let cells = size.depth.div_ceil(32);
    if segments.is_empty() || cells == 0 {
        return;
    }
    near!(segments, cells, size, c, load);
}

/// [`block`] of long operands, which come from L2 or farther: whole blocks ask for what comes two cells later, and for
/// what `ahead` names. Rows of `c` are `stride` floats apart.
///
/// # Safety
/// As [`block`], with 32 rows of `c`.
#[inline(always)]
pub(super) unsafe fn block_ahead(
    segments: &[Segment],
    size: BlockSize,
    c: *mut f32,
    stride: usize,
    ahead: Ahead,
) {
    let cells = size.depth.div_ceil(32);
    if segments.is_empty() || cells == 0 {
        for row in 0..32 {
            // SAFETY: `c` has 32 rows of 32 floats.
            unsafe { c.add(row * stride).write_bytes(0, 32) }
        }
        return;
    }
    let stride = 4 * stride;
    sized!(segments, cells, size, c, stride, ahead, zero, whole: [
        "tileloadd tmm6, [{b} + {row}*1]",
        lines!("{a}": "4096" "4160" "4224" "4288" "4352" "4416" "4480" "4544"),
        lines!("{b}": "4096" "4160" "4224" "4288" "4352" "4416" "4480" "4544"),
        "tileloadd tmm4, [{a} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
        lines!("{a}": "4608" "4672" "4736" "4800" "4864" "4928" "4992" "5056"),
        lines!("{b}": "4608" "4672" "4736" "4800" "4864" "4928" "4992" "5056"),
        "tileloadd tmm7, [{b} + {row}*1 + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
        lines!("{a}": "5120" "5184" "5248" "5312" "5376" "5440" "5504" "5568"),
        lines!("{b}": "5120" "5184" "5248" "5312" "5376" "5440" "5504" "5568"),
        "tileloadd tmm5, [{a} + {row}*1 + 1024]", "tdpbf16ps tmm2, tmm5, tmm6",
        lines!("{a}": "5632" "5696" "5760" "5824" "5888" "5952" "6016" "6080"),
        lines!("{b}": "5632" "5696" "5760" "5824" "5888" "5952" "6016" "6080"),
        "tdpbf16ps tmm3, tmm5, tmm7",
        panel!("0" "64" "128" "192" "256" "320" "384" "448")
    ]);
}
