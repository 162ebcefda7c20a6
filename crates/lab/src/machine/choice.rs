//! What `precision = "auto"` computes in: what is fast on this processor, not what its flags promise.
//!
//! A processor may multiply bf16 more slowly than f32: `vdpbf16ps` has half the rate of f32 on one and twice on
//! another. So where a set has a product of bf16, both are timed for some milliseconds, once per processor model: the
//! figures are kept in the user's cache, since a choice that changed from run to run would change studies with it.

use super::measure;
use isoflop_base::Precision;
use isoflop_base::units::si;
use isoflop_kernels::KernelSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Operations a second of one thread in products as training has them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Products {
    /// Operands in bf16, sums in f32.
    pub bf16: f64,
    /// All in f32.
    pub f32: f64,
}

/// What a kernel set computes in when nobody says.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The precision.
    pub precision: Precision,
    /// What it was chosen by; nothing where a set has one precision only.
    pub products: Option<Products>,
    /// Where those figures are kept, if they could be.
    pub kept_in: Option<PathBuf>,
}

impl Choice {
    /// Why f32 was chosen by a set that has a product of bf16.
    pub fn loses(&self) -> Option<String> {
        let products = self.products.filter(|_| self.precision == Precision::F32)?;
        let [bf16, f32] = [products.bf16, products.f32].map(si);
        Some(format!("its products of bf16 reach {bf16}FLOP/s a thread, those of f32 {f32}FLOP/s"))
    }
}

/// The choice for a set on this processor; timed once a process at most.
pub fn precision_of(set: KernelSet) -> Choice {
    static CHOSEN: Mutex<Vec<(KernelSet, Choice)>> = Mutex::new(Vec::new());
    // A panic while it was held left the list as it was.
    let mut chosen = CHOSEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, choice)) = chosen.iter().find(|(of, _)| *of == set) {
        return choice.clone();
    }
    let model = isoflop_meter::System::real().cpu().model.value().cloned();
    let choice = choose(set, model.as_deref(), cache_file().as_deref(), || measure::products(set));
    chosen.push((set, choice.clone()));
    choice
}

/// `$XDG_CACHE_HOME/isoflop/products.json`, else `~/.cache/…`; nothing without a home.
fn cache_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("isoflop/products.json"))
}

fn choose(set: KernelSet, model: Option<&str>, file: Option<&Path>, time: impl Fn() -> Products) -> Choice {
    if !set.computes_bf16() {
        return Choice { precision: Precision::F32, products: None, kept_in: None };
    }
    // A file nobody can read, or that is none of ours, is as good as none.
    let mut known: BTreeMap<String, Products> =
        file.and_then(|file| serde_json::from_slice(&std::fs::read(file).ok()?).ok()).unwrap_or_default();
    let key = model.map(|model| format!("{model}, {}", set.name()));
    let found = key.as_ref().and_then(|key| known.get(key)).copied();
    let (products, kept) = match found.filter(|p| p.bf16 > 0.0 && p.f32 > 0.0) {
        Some(products) => (products, true),
        None => {
            let products = time();
            let kept = key.zip(file).is_some_and(|(key, file)| {
                known.insert(key, products);
                let text = serde_json::to_vec_pretty(&known).expect("numbers and names are JSON");
                isoflop_store::write_artifact(file, &text).is_ok()
            });
            (products, kept)
        }
    };
    let precision = if products.bf16 > products.f32 { Precision::Bf16 } else { Precision::F32 };
    Choice { precision, products: Some(products), kept_in: file.filter(|_| kept).map(Path::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_faster_is_chosen_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/products.json");
        let (fast, slow) = (Products { bf16: 2e12, f32: 2e11 }, Products { bf16: 1.2e11, f32: 2.4e11 });
        let of = |model, products| choose(KernelSet::Avx512Bf16, Some(model), Some(&file), move || products);
        assert_eq!(of("Zen", fast).precision, Precision::Bf16);
        let intel = of("Intel", slow);
        assert_eq!((intel.precision, intel.kept_in.as_deref()), (Precision::F32, Some(&*file)));
        // Kept: nothing is timed again, and one model's figures are not another's.
        let again = choose(KernelSet::Avx512Bf16, Some("Zen"), Some(&file), || panic!("timed again"));
        assert_eq!(again.products, Some(fast));
        assert_eq!(of("Intel", fast).products, Some(slow));
        // Another set of the same processor is timed for itself.
        let amx = choose(KernelSet::Amx, Some("Intel"), Some(&file), || fast);
        assert_eq!(amx.precision, Precision::Bf16);
    }

    #[test]
    fn what_cannot_be_kept_is_timed_and_what_is_broken_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let fast = Products { bf16: 2.0, f32: 1.0 };
        let blocked = dir.path().join("file");
        std::fs::write(&blocked, "[1, 2").unwrap();
        let choice = choose(KernelSet::Amx, Some("X"), Some(&blocked.join("products.json")), || fast);
        assert_eq!((choice.precision, choice.kept_in), (Precision::Bf16, None));
        let choice = choose(KernelSet::Amx, Some("X"), Some(&blocked), || fast);
        assert_eq!(choice.kept_in.as_deref(), Some(&*blocked));
        assert!(std::fs::read_to_string(&blocked).unwrap().contains("X, amx"));
        for (model, file) in [(None, Some(&*blocked)), (Some("Y"), None)] {
            let choice = choose(KernelSet::Amx, model, file, || fast);
            assert_eq!((choice.products, choice.kept_in), (Some(fast), None));
        }
        assert_eq!(
            choose(KernelSet::Avx2, Some("X"), None, || panic!("nothing to choose")).precision,
            Precision::F32
        );
    }
}
