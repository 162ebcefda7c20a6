//! Which kernels run: chosen at run time from what the processor has.

/// A family of kernels. Results are reproducible bit for bit within one set, not between sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelSet {
    /// Plain loops: the oracle. Slow.
    Naive,
    /// Eight-lane arrays the compiler vectorises for the baseline processor.
    Portable,
    /// AVX2 and FMA, 8 lanes.
    Avx2,
    /// AVX-512F, 16 lanes.
    Avx512,
    /// The same; products of bf16 by AVX512-BF16.
    Avx512Bf16,
    /// The same; products of bf16 by the tiles of AMX.
    Amx,
    /// NEON, 4 lanes.
    Neon,
}

/// Why a kernel set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No set has this name.
    #[error("there is no kernel set `{name}`\nhint: one of {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The set exists but this machine cannot run it.
    #[error(
        "kernel set `{name}` cannot run here: {why}\nhint: leave ISOFLOP_KERNELS unset to choose automatically"
    )]
    Unsupported {
        /// The set's name.
        name: &'static str,
        /// What is missing.
        why: String,
    },
}

impl KernelSet {
    /// Every set, slowest first.
    pub const ALL: [KernelSet; 7] =
        [Self::Naive, Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx, Self::Neon];

    /// Its name, as `ISOFLOP_KERNELS` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
            Self::Neon => "neon",
        }
    }

    /// `Ok` if this processor can run the set, else what is missing.
    pub fn supported(self) -> Result<(), String> {
        match self {
            Self::Naive | Self::Portable => Ok(()),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    Ok(())
                } else {
                    Err("the processor has no AVX2 with FMA".to_owned())
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                if is_x86_feature_detected!("avx512f") && Self::Avx2.supported().is_ok() {
                    Ok(())
                } else {
                    Err("the processor has no AVX-512F".to_owned())
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                if is_x86_feature_detected!("avx512bf16")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Self::Avx512.supported().is_ok()
                {
                    Ok(())
                } else {
                    Err("the processor has no AVX512-BF16".to_owned())
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => crate::simd::request_amx().and_then(|()| Self::Avx512Bf16.supported()),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Ok(()),
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => Err("NEON is for aarch64".to_owned()),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Avx512Bf16 | Self::Amx => Err("AVX is for x86-64".to_owned()),
        }
    }

    /// The fastest set this processor can run.
    pub fn detect() -> KernelSet {
        *Self::ALL.iter().rev().find(|set| set.supported().is_ok()).unwrap_or(&Self::Portable)
    }

    /// Whether its products of bf16 are the processor's own, not widened to f32.
    pub fn computes_bf16(self) -> bool {
        matches!(self, Self::Avx512Bf16 | Self::Amx)
    }

    /// The set itself, or for the oracle, which has no vectors, the portable one: for entry points whose plain loops
    /// have another signature.
    pub(crate) fn with_vectors(self) -> Self {
        if self == Self::Naive { Self::Portable } else { self }
    }

    /// Every set with whether it can run here, and why not.
    pub fn available() -> Vec<(KernelSet, Result<(), String>)> {
        Self::ALL.iter().map(|&set| (set, set.supported())).collect()
    }

    /// The set of this name, if there is one and it can run here.
    pub fn by_name(name: &str) -> Result<KernelSet, KernelError> {
        let Some(&set) = Self::ALL.iter().find(|set| set.name() == name) else {
            let known = Self::ALL.map(KernelSet::name).join(", ");
            return Err(KernelError::Unknown { name: name.to_owned(), known });
        };
        set.supported().map_err(|why| KernelError::Unsupported { name: set.name(), why })?;
        Ok(set)
    }

    /// Every set the machine can run, for tests that must hold for each.
    pub fn runnable() -> impl Iterator<Item = KernelSet> {
        Self::ALL.into_iter().filter(|set| set.supported().is_ok())
    }
}

/// Runs `$function::<S>(args)` for the vector type of `$set`, inside a function compiled for its features.
///
/// A function of further types takes them in brackets behind its name: `f[A, B](…)` runs `f::<S, A, B>(…)`.
///
/// The generic function and all it calls are `#[inline(always)]`, so that the intrinsics end up in the wrapper
/// that enables their feature. `Naive` must have been handled before.
macro_rules! dispatch {
    ($set:expr, $function:ident $([$($of:ty),+])? ( $($arg:ident : $type:ty),* $(,)? ) $(-> $ret:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn amx($($arg: $type),*) $(-> $ret)? {
            // SAFETY: this wrapper enables the features `Amx` needs; the tiles were granted, or it would not be
            // supported.
            unsafe { $function::<$crate::simd::Amx $(, $($of),+)?>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn avx512bf16($($arg: $type),*) $(-> $ret)? {
            // SAFETY: this wrapper enables the features `Avx512Bf16` needs.
            unsafe { $function::<$crate::simd::Avx512Bf16 $(, $($of),+)?>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx2,fma")]
        unsafe fn avx512($($arg: $type),*) $(-> $ret)? {
            // SAFETY: this wrapper enables the features `Avx512` needs.
            unsafe { $function::<$crate::simd::Avx512 $(, $($of),+)?>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2($($arg: $type),*) $(-> $ret)? {
            // SAFETY: this wrapper enables the features `Avx2` needs.
            unsafe { $function::<$crate::simd::Avx2 $(, $($of),+)?>($($arg),*) }
        }
        let set: $crate::KernelSet = $set;
        // A few nanoseconds (the detection is cached) make the call below sound whoever built `set`.
        assert!(set.supported().is_ok(), "kernel set {} cannot run on this processor", set.name());
        match set {
            // SAFETY: `supported` was just asserted, so the processor has the features the wrapper enables.
            #[cfg(target_arch = "x86_64")]
            $crate::KernelSet::Amx => unsafe { amx($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::KernelSet::Avx512Bf16 => unsafe { avx512bf16($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::KernelSet::Avx512 => unsafe { avx512($($arg),*) },
            #[cfg(target_arch = "x86_64")]
            $crate::KernelSet::Avx2 => unsafe { avx2($($arg),*) },
            // SAFETY: NEON is part of every aarch64 processor.
            #[cfg(target_arch = "aarch64")]
            $crate::KernelSet::Neon => unsafe { $function::<$crate::simd::Neon $(, $($of),+)?>($($arg),*) },
            // SAFETY: the portable vector has no requirement.
            _ => unsafe { $function::<$crate::simd::Portable $(, $($of),+)?>($($arg),*) },
        }
    }};
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused() {
        for set in KernelSet::runnable() {
            assert_eq!(KernelSet::by_name(set.name()), Ok(set));
        }
        assert!(matches!(KernelSet::by_name("avx9"), Err(KernelError::Unknown { .. })));
        let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        assert!(matches!(KernelSet::by_name(foreign), Err(KernelError::Unsupported { .. })));
    }
    /// So that tests of every runnable set are tests of NEON there.
    #[cfg(target_arch = "aarch64")]
    #[test]
    fn neon_runs_on_every_aarch64_and_is_chosen() {
        assert!(KernelSet::runnable().any(|set| set == KernelSet::Neon));
        assert_eq!(KernelSet::detect(), KernelSet::Neon);
    }
}
