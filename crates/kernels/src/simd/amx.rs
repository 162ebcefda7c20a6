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

use super::{BlockSize, Segment};
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

/// Walks the segments and, in each, the cells: `$step` is one cell's products.
macro_rules! walk {
    (
        $segments:ident, $cells:ident, $c:ident,
        zero: [$($zero:literal),*], step: [$($step:literal),*], store: [$($store:literal),*]
    ) => {
        // SAFETY: each segment points to `cells` cells of 2,048 bytes on either side, `c` to 4,096 bytes; tiles are
        // configured, and nothing else of this process uses them.
        unsafe {
            asm!(
                $($zero,)*
                "2:",
                "mov {a}, [{s}]",
                "mov {b}, [{s} + 8]",
                "mov {k}, {cells}",
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
                row = in(reg) 64usize,
                out = in(reg) 128usize,
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

/// See [`super::Simd::block`]; whole tiles, so up to 15 rows or columns more than asked are computed.
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
    match (size.rows > 16, size.cols > 16) {
        (true, true) => walk!(segments, cells, c,
        zero: ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"],
        step: [
            "tileloadd tmm6, [{b} + {row}*1]", "tileloadd tmm4, [{a} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row}*1 + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {row}*1 + 1024]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7"
        ],
        store: [
            "tilestored [{c} + {out}*1], tmm0", "tilestored [{c} + {out}*1 + 64], tmm1",
            "tilestored [{c} + {out}*1 + 2048], tmm2", "tilestored [{c} + {out}*1 + 2112], tmm3"
        ]),
        (true, false) => walk!(segments, cells, c,
            zero: ["tilezero tmm0", "tilezero tmm2"],
            step: [
                "tileloadd tmm6, [{b} + {row}*1]", "tileloadd tmm4, [{a} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a} + {row}*1 + 1024]", "tdpbf16ps tmm2, tmm5, tmm6"
            ],
            store: ["tilestored [{c} + {out}*1], tmm0", "tilestored [{c} + {out}*1 + 2048], tmm2"]),
        (false, true) => walk!(segments, cells, c,
            zero: ["tilezero tmm0", "tilezero tmm1"],
            step: [
                "tileloadd tmm4, [{a} + {row}*1]", "tileloadd tmm6, [{b} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {row}*1 + 1024]", "tdpbf16ps tmm1, tmm4, tmm7"
            ],
            store: ["tilestored [{c} + {out}*1], tmm0", "tilestored [{c} + {out}*1 + 64], tmm1"]),
        (false, false) => walk!(segments, cells, c,
            zero: ["tilezero tmm0"],
            step: ["tileloadd tmm4, [{a} + {row}*1]", "tileloadd tmm6, [{b} + {row}*1]", "tdpbf16ps tmm0, tmm4, tmm6"],
            store: ["tilestored [{c} + {out}*1], tmm0"]),
    }
}
