//! What the CUDA driver says: its version, its cards, and what is published of each. Without a driver that is one line.

use isoflop_base::units::{bytes, si};
use isoflop_base::{Measured, devices};
use isoflop_cuda::{Card, Cuda as Cards, Driver};
use isoflop_lab::machine;
use serde::Serialize;

/// The driver and its cards.
#[derive(Debug, Serialize)]
pub(super) struct Cuda {
    /// The library it was loaded from.
    driver: Measured<String>,
    /// The newest version of CUDA it serves.
    version: Measured<String>,
    cards: Measured<Vec<CudaCard>>,
}

/// A card to train on.
#[derive(Debug, Serialize)]
struct CudaCard {
    #[serde(flatten)]
    card: Card,
    memory_free: Measured<u64>,
    /// Why nothing can be trained on it; missing if it can.
    why_not: Option<String>,
    /// The vendor's figure for bf16 with sums in f32, dense.
    published_bf16_flops_per_s: Measured<f64>,
    published_bytes_per_s: Measured<f64>,
}

/// Asks the driver.
pub(super) fn examine() -> Cuda {
    match machine::driver() {
        Ok(driver) => Cuda {
            version: measured(driver.version().map(|(major, minor)| format!("{major}.{minor}"))),
            cards: measured(driver.cards())
                .map(|cards| cards.into_iter().map(|c| card(&driver, c)).collect()),
            driver: Measured::measured(driver.library().to_owned()),
        },
        Err(error) => {
            let reason = one_line(&error);
            Cuda {
                driver: Measured::missing(reason.clone()),
                version: Measured::missing(reason.clone()),
                cards: Measured::missing(reason),
            }
        }
    }
}

fn card(driver: &Driver, card: Card) -> CudaCard {
    let published = devices::find(&card.name);
    let unknown = "no published figures of this card are known here";
    let figure = |value: Option<f64>| {
        value.map_or_else(|| Measured::missing(unknown), |value| Measured::estimated(value, "published"))
    };
    CudaCard {
        memory_free: measured(driver.context(card.number).and_then(|c| c.memory())).map(|(free, _)| free),
        why_not: Cards::new(driver.clone(), &[card.number]).err().map(|error| one_line(&error)),
        published_bf16_flops_per_s: figure(published.map(|p| p.peak_16bit)),
        published_bytes_per_s: figure(published.and_then(|p| p.memory).map(|m| m.bytes_per_s)),
        card,
    }
}

fn measured<T>(result: Result<T, isoflop_cuda::DriverError>) -> Measured<T> {
    match result {
        Ok(value) => Measured::measured(value),
        Err(error) => Measured::missing(one_line(&error)),
    }
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().replace("\nhint: ", "; ")
}

/// The lines of the page.
pub(super) fn lines(cuda: &Cuda, line: &mut impl FnMut(&str, String)) {
    let cards = match (&cuda.driver, &cuda.cards) {
        (Measured::Missing { reason }, _) | (_, Measured::Missing { reason }) => {
            return line("cuda", format!("missing: {reason}"));
        }
        (driver, cards) => {
            let version = cuda.version.value().map_or("unknown", String::as_str);
            let library = driver.value().map_or("", String::as_str);
            line("cuda", format!("driver for CUDA {version} ({library})"));
            cards.value().map_or(&[][..], Vec::as_slice)
        }
    };
    if cards.is_empty() {
        line("", "  no card is visible; is CUDA_VISIBLE_DEVICES set?".to_owned());
    }
    for CudaCard { card, memory_free, why_not, published_bf16_flops_per_s, published_bytes_per_s } in cards {
        let (major, minor) = card.capability;
        let free = memory_free.value().map_or_else(|| "unknown".to_owned(), |&b| bytes(b));
        let mut text = format!(
            "  {} {}, compute capability {major}.{minor}, {} of memory, {free} free",
            card.number,
            card.name,
            bytes(card.memory)
        );
        if let (Some(flops), Some(speed)) =
            (published_bf16_flops_per_s.value(), published_bytes_per_s.value())
        {
            text += &format!("; published {}FLOP/s in bf16, {}B/s", si(*flops), si(*speed));
        }
        if let Some(why) = why_not {
            text += &format!("; not used: {why}");
        }
        line("", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_it_is_one_line_that_says_what_to_install() {
        let reason = one_line(&Driver::open_at(&["not-there.so".to_owned()]).unwrap_err());
        let missing = || Measured::missing(reason.clone());
        let cuda = Cuda { driver: missing(), version: missing(), cards: Measured::missing(reason.clone()) };
        let mut found = Vec::new();
        lines(&cuda, &mut |label, text| found.push(format!("{label} {text}")));
        assert_eq!(found.len(), 1, "{found:?}");
        for part in ["cuda missing: no CUDA driver", "not-there.so", "install NVIDIA's driver"] {
            assert!(found[0].contains(part), "`{part}` is not in {}", found[0]);
        }
    }
}
