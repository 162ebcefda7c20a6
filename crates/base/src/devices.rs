//! Published figures of accelerators: what a claim about one is held against, and what is planned for one that is not
//! here.
//!
//! Dense figures, never the doubled ones "with sparsity"; matrix units with 16-bit inputs and 32-bit accumulation, as
//! training uses them; at the boost clock the vendor quotes. Watts are the board's or module's power limit.

/// One device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Device {
    /// As the vendor writes it.
    pub name: &'static str,
    /// FLOP/s with bf16 (fp16 where there is no bf16) inputs and f32 accumulation, dense.
    pub peak_16bit: f64,
    /// FLOP/s in f32 outside the matrix units.
    pub peak_f32: Option<f64>,
    /// Watts of the whole board.
    pub board_w: Option<f64>,
    /// Its memory, where isoflop trains on it.
    pub memory: Option<Memory>,
    /// Where the figures stand.
    pub source: &'static str,
}

/// The memory of a card that isoflop trains on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Bytes: the vendor's gigabytes are 2^30 of them.
    pub bytes: u64,
    /// Bytes per second, as published.
    pub bytes_per_s: f64,
}

impl Device {
    const fn with_memory(mut self, gibibytes: u64, gb_per_s: f64) -> Self {
        self.memory = Some(Memory { bytes: gibibytes << 30, bytes_per_s: gb_per_s * 1e9 });
        self
    }
}

const fn device(
    name: &'static str,
    tflops_16bit: f64,
    tflops_f32: f64,
    board_w: f64,
    source: &'static str,
) -> Device {
    Device {
        name,
        peak_16bit: tflops_16bit * 1e12,
        peak_f32: Some(tflops_f32 * 1e12),
        board_w: if board_w > 0.0 { Some(board_w) } else { None },
        memory: None,
        source,
    }
}

const ADA: &str = "NVIDIA Ada GPU Architecture whitepaper, appendix A";
const GA102: &str = "NVIDIA Ampere GA102 GPU Architecture whitepaper, tables 2 and 3";
const APPLE: &str = "Apple's announcement of the chip (f32; its matrix rate is not published)";

/// The table. Apple publishes no board power.
pub const DEVICES: &[Device] = &[
    device("RTX 5090", 209.5, 104.8, 575.0, "NVIDIA RTX Blackwell GPU Architecture whitepaper, appendix")
        .with_memory(32, 1792.0),
    device("RTX 4090", 165.2, 82.6, 450.0, ADA).with_memory(24, 1008.0),
    device("RTX 4080", 97.5, 48.7, 320.0, ADA).with_memory(16, 716.8),
    device("RTX 3090", 71.0, 35.6, 350.0, GA102).with_memory(24, 936.0),
    device("RTX 3080", 59.5, 29.8, 320.0, GA102).with_memory(10, 760.0),
    device("RTX A6000", 154.8, 38.7, 300.0, GA102).with_memory(48, 768.0),
    device("A10", 125.0, 31.2, 150.0, "NVIDIA A10 datasheet").with_memory(24, 600.0),
    device("A40", 149.7, 37.4, 300.0, "NVIDIA A40 datasheet").with_memory(48, 696.0),
    device("L4", 121.0, 30.3, 72.0, "NVIDIA L4 datasheet (sparse figures halved)").with_memory(24, 300.0),
    device("L40S", 362.0, 91.6, 350.0, "NVIDIA L40S datasheet").with_memory(48, 864.0),
    device("T4", 65.0, 8.1, 70.0, "NVIDIA T4 datasheet (fp16)"),
    device("V100 SXM2", 125.0, 15.7, 300.0, "NVIDIA V100 datasheet (fp16)"),
    device("A100 PCIe", 312.0, 19.5, 300.0, "NVIDIA A100 datasheet, 80 GB").with_memory(80, 1935.0),
    device("A100 SXM", 312.0, 19.5, 400.0, "NVIDIA A100 datasheet").with_memory(80, 2039.0),
    device("H100 PCIe", 756.0, 51.0, 350.0, "NVIDIA H100 datasheet (sparse figures halved)")
        .with_memory(80, 2000.0),
    device("H100 SXM", 989.4, 66.9, 700.0, "NVIDIA H100 Tensor Core GPU Architecture whitepaper")
        .with_memory(80, 3350.0),
    device("H200", 989.4, 66.9, 700.0, "NVIDIA H200 datasheet (sparse figures halved)")
        .with_memory(141, 4800.0),
    device("MI300X", 1307.4, 163.4, 750.0, "AMD Instinct MI300X datasheet"),
    device("M1", 2.6, 2.6, 0.0, APPLE),
    device("M1 Pro", 5.2, 5.2, 0.0, APPLE),
    device("M1 Max", 10.4, 10.4, 0.0, APPLE),
    device("M1 Ultra", 21.0, 21.0, 0.0, APPLE),
    device("M2", 3.6, 3.6, 0.0, APPLE),
];

/// The device of this name, however it is spelt: `4080`, `rtx4080`, `NVIDIA GeForce RTX 4080`, `a100`.
pub fn find(name: &str) -> Option<&'static Device> {
    let asked = plain(name);
    let exact = DEVICES.iter().find(|d| plain(d.name) == asked);
    // `a100` alone is the SXM module, as the larger part of published runs used; it stands last of its kind.
    exact.or_else(|| {
        let family = |d: &&Device| {
            let first = d.name.split(' ').next().unwrap_or_default();
            matches!(first, "A100" | "H100" | "V100") && plain(first) == asked
        };
        DEVICES.iter().rev().find(family)
    })
}

/// Names of those isoflop trains on, for a hint.
pub fn trained_on() -> String {
    DEVICES.iter().filter(|d| d.memory.is_some()).map(|d| d.name).collect::<Vec<_>>().join(", ")
}

/// All names, for a hint.
pub fn names() -> String {
    DEVICES.iter().map(|d| d.name).collect::<Vec<_>>().join(", ")
}

fn plain(name: &str) -> String {
    let mut text: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    for word in ["nvidia", "geforce", "tesla", "instinct", "amd", "apple", "rtx", "gpu", "80gb", "hbm3"] {
        text = text.replace(word, "");
    }
    // The driver calls the module's socket by its number.
    text.replace("sxm4", "sxm").replace("sxm5", "sxm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_they_are_spelt() {
        for (asked, found) in [
            ("RTX 4080", "RTX 4080"),
            ("NVIDIA GeForce RTX 4080", "RTX 4080"),
            ("rtx4090", "RTX 4090"),
            ("a100", "A100 SXM"),
            ("h100-pcie", "H100 PCIe"),
            ("Tesla T4", "T4"),
            ("Apple M1 Max", "M1 Max"),
            ("l4", "L4"),
            ("NVIDIA H100 80GB HBM3", "H100 SXM"),
            ("NVIDIA A100-SXM4-80GB", "A100 SXM"),
            ("NVIDIA RTX A6000", "RTX A6000"),
        ] {
            assert_eq!(find(asked).map(|d| d.name), Some(found), "{asked}");
        }
        for unknown in ["", "4070", "nvidia", "pcie"] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_device_finds_itself_and_has_a_source() {
        for d in DEVICES {
            assert_eq!(find(d.name), Some(d));
            assert!(d.peak_16bit >= d.peak_f32.unwrap() && !d.source.is_empty(), "{}", d.name);
        }
    }
}
