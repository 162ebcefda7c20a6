//! The kernels' arguments as `kernels/abi.h` lays them out: the same fields in the same order, so that what is written
//! here is what a kernel reads. A test compiles that file and compares every offset.

use bytemuck::{Pod, Zeroable};

/// What a product does with its sums; the numbers of `enum Epilogue`.
pub(crate) mod epilogue {
    pub(crate) const STORE_F32: i32 = 0;
    pub(crate) const ADD_F32: i32 = 1;
    pub(crate) const STORE_E: i32 = 2;
    pub(crate) const RESIDUAL: i32 = 3;
    pub(crate) const ACTIVATION: i32 = 4;
    pub(crate) const SLOPE: i32 = 5;
    pub(crate) const LOGIT_STATS: i32 = 6;
    pub(crate) const LOGIT_GRADIENT: i32 = 7;
}

/// Arguments of a product.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct GemmArgs {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) out: u64,
    pub(crate) out_e: u64,
    pub(crate) slope: u64,
    pub(crate) bias: u64,
    pub(crate) residual: u64,
    pub(crate) targets: u64,
    pub(crate) stats: u64,
    pub(crate) target_logits: u64,
    pub(crate) lse: u64,
    pub(crate) m: i32,
    pub(crate) n: i32,
    pub(crate) k: i32,
    pub(crate) lda: i32,
    pub(crate) ldb: i32,
    pub(crate) ldo: i32,
    pub(crate) k_split: i32,
    pub(crate) epilogue: i32,
    pub(crate) activation: i32,
    pub(crate) column0: i32,
    pub(crate) stats_slices: i32,
    pub(crate) stats_slice0: i32,
    pub(crate) scale: f32,
    pub(crate) pad: u32,
}

/// Arguments of `layernorm_backward_E`.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LayerNormBackwardArgs {
    pub(crate) x: u64,
    pub(crate) stats: u64,
    pub(crate) w: u64,
    pub(crate) dy: u64,
    pub(crate) residual: u64,
    pub(crate) dx: u64,
    pub(crate) dx_e: u64,
    pub(crate) parts: u64,
    pub(crate) rows: i32,
    pub(crate) c: i32,
    pub(crate) rows_per_block: i32,
    pub(crate) pad: u32,
}

/// Arguments of the kernels of attention.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AttentionArgs {
    pub(crate) qkv: u64,
    pub(crate) out: u64,
    pub(crate) lse: u64,
    pub(crate) dout: u64,
    pub(crate) delta: u64,
    pub(crate) dqkv: u64,
    pub(crate) t: i32,
    pub(crate) heads: i32,
    pub(crate) width: i32,
    pub(crate) scale: f32,
}

/// What `norm` leaves on the card.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct StepNorm {
    pub(crate) squares: f64,
    pub(crate) norm: f64,
    pub(crate) factor: f32,
    pub(crate) finite: i32,
}

/// A run of a tensor that one thread block updates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct UpdateBlock {
    pub(crate) at: u64,
    pub(crate) moment: u64,
    pub(crate) scale: u64,
    pub(crate) len: i32,
    pub(crate) flags: i32,
}

/// Flags of an [`UpdateBlock`].
pub(crate) const DECAYS: i32 = 1;
pub(crate) const EIGHT_BIT: i32 = 2;

/// Arguments of `adamw_E`.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AdamWArgs {
    pub(crate) w: u64,
    pub(crate) g: u64,
    pub(crate) w_e: u64,
    pub(crate) m: u64,
    pub(crate) v: u64,
    pub(crate) m_codes: u64,
    pub(crate) v_codes: u64,
    pub(crate) m_scales: u64,
    pub(crate) v_scales: u64,
    pub(crate) maps: u64,
    pub(crate) blocks: u64,
    pub(crate) norm: u64,
    pub(crate) lr: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) eps: f32,
    pub(crate) weight_decay: f32,
    pub(crate) correction1: f32,
    pub(crate) correction2_root: f32,
    pub(crate) pad: u32,
}

impl AdamWArgs {
    /// Those of step `t` that say how far to go, and nowhere yet.
    pub(crate) fn rates(lr: f32, (beta1, beta2): (f64, f64), eps: f64, weight_decay: f64, t: u64) -> Self {
        let left = |beta: f64| 1.0 - libm::pow(beta, t as f64);
        Self {
            lr,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            weight_decay: weight_decay as f32,
            correction1: left(beta1) as f32,
            correction2_root: libm::sqrt(left(beta2)) as f32,
            ..Self::default()
        }
    }
}

/// Arguments of `patches` and `patches_backward`.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PatchArgs {
    pub(crate) x: u64,
    pub(crate) scale: u64,
    pub(crate) shift: u64,
    pub(crate) columns: u64,
    pub(crate) dx: u64,
    pub(crate) images: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) channels: i32,
    pub(crate) side: i32,
    pub(crate) accumulate: i32,
    pub(crate) slope: f32,
    pub(crate) pad: u32,
}

/// Arguments of `norm_factors` and `norm_gradients`.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct NormArgs {
    pub(crate) parts: u64,
    pub(crate) part_rows: u64,
    pub(crate) weight: u64,
    pub(crate) bias: u64,
    pub(crate) running_mean: u64,
    pub(crate) running_variance: u64,
    pub(crate) mean: u64,
    pub(crate) rstd: u64,
    pub(crate) scale: u64,
    pub(crate) shift: u64,
    pub(crate) by_x: u64,
    pub(crate) rest: u64,
    pub(crate) dweight: u64,
    pub(crate) dbias: u64,
    pub(crate) c: i32,
    pub(crate) parts_count: i32,
    pub(crate) own_first: i32,
    pub(crate) own_count: i32,
    pub(crate) fixed: i32,
    pub(crate) pad: u32,
}

/// Arguments of `pool_forward` and `pool_backward`.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PoolArgs {
    pub(crate) z: u64,
    pub(crate) scale: u64,
    pub(crate) shift: u64,
    pub(crate) round: u64,
    pub(crate) round_scale: u64,
    pub(crate) round_shift: u64,
    pub(crate) out: u64,
    pub(crate) dout: u64,
    pub(crate) d: u64,
    pub(crate) images: i32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) c: i32,
    pub(crate) slope: f32,
    pub(crate) pad: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::mem::offset_of;
    use std::process::Command;

    macro_rules! layout {
        ($($type:ident { $($field:ident),* })*) => {
            (
                // What a C++ compiler makes of abi.h, as a program that prints it.
                {
                    let mut text = String::new();
                    $(
                        let _ = writeln!(text, "  p(\"{0}\", sizeof({0}));", stringify!($type));
                        $(let _ = writeln!(text, "  p(\"{0}.{1}\", offsetof({0}, {1}));",
                            stringify!($type), stringify!($field));)*
                    )*
                    text
                },
                // What is written here.
                {
                    let mut text = String::new();
                    $(
                        let _ = writeln!(text, "{} {}", stringify!($type), size_of::<$type>());
                        $(let _ = writeln!(text, "{}.{} {}", stringify!($type), stringify!($field),
                            offset_of!($type, $field));)*
                    )*
                    text
                },
            )
        };
    }

    #[test]
    fn arguments_lie_where_the_kernels_read_them() {
        let (program, here) = layout! {
            GemmArgs { a, b, out, out_e, slope, bias, residual, targets, stats, target_logits, lse, m, n, k, lda, ldb,
                ldo, k_split, epilogue, activation, column0, stats_slices, stats_slice0, scale }
            LayerNormBackwardArgs { x, stats, w, dy, residual, dx, dx_e, parts, rows, c, rows_per_block }
            AttentionArgs { qkv, out, lse, dout, delta, dqkv, t, heads, width, scale }
            StepNorm { squares, norm, factor, finite }
            UpdateBlock { at, moment, scale, len, flags }
            AdamWArgs { w, g, w_e, m, v, m_codes, v_codes, m_scales, v_scales, maps, blocks, norm, lr, beta1, beta2,
                eps, weight_decay, correction1, correction2_root }
            PatchArgs { x, scale, shift, columns, dx, images, height, width, channels, side, accumulate, slope }
            NormArgs { parts, part_rows, weight, bias, running_mean, running_variance, mean, rstd, scale, shift, by_x,
                rest, dweight, dbias, c, parts_count, own_first, own_count, fixed }
            PoolArgs { z, scale, shift, round, round_scale, round_shift, out, dout, d, images, height, width, c, slope }
        };
        let enums = [
            ("STORE_F32", epilogue::STORE_F32),
            ("ADD_F32", epilogue::ADD_F32),
            ("STORE_E", epilogue::STORE_E),
            ("RESIDUAL", epilogue::RESIDUAL),
            ("ACTIVATION", epilogue::ACTIVATION),
            ("SLOPE", epilogue::SLOPE),
            ("LOGIT_STATS", epilogue::LOGIT_STATS),
            ("LOGIT_GRADIENT", epilogue::LOGIT_GRADIENT),
            ("GELU_TANH", 0),
            ("GELU_ERF", 1),
            ("RELU", 2),
        ];
        let (mut program, mut here) = (program, here);
        for (name, value) in enums {
            let _ = writeln!(program, "  p(\"{name}\", {name});");
            let _ = writeln!(here, "{name} {value}");
        }
        let dir = tempfile::tempdir().unwrap();
        let (source, binary) = (dir.path().join("layout.cpp"), dir.path().join("layout"));
        let text = format!(
            "#include <cstdio>\n#include <cstddef>\n#include \"{}/kernels/abi.h\"\n\
             static void p(const char* name, unsigned long value) {{ std::printf(\"%s %lu\\n\", name, value); }}\n\
             int main() {{\n{program}}}\n",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::write(&source, text).unwrap();
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        // Without a compiler there is nothing to compare with.
        let Ok(built) = Command::new(&compiler).arg("-o").arg(&binary).arg(&source).status() else { return };
        assert!(built.success(), "{compiler} does not understand abi.h");
        let there = Command::new(&binary).output().unwrap().stdout;
        assert_eq!(String::from_utf8(there).unwrap(), here);
    }
}
