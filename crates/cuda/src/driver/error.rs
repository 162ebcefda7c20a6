//! What can go wrong between this program and the driver: the call, the driver's own word for it, and what to do.

/// Why the driver could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// There is no driver here.
    #[error("no CUDA driver: {} could not be loaded\nhint: {GET_ONE}", .tried.join(", "))]
    NotHere {
        /// Where it was looked for.
        tried: Vec<String>,
    },
    /// It lacks a function this program calls.
    #[error("the CUDA driver {library} has no function `{function}`\nhint: {UPDATE}")]
    Function {
        /// The library.
        library: String,
        /// What it lacks.
        function: &'static str,
    },
    /// A call failed.
    #[error("{call} failed: {name} ({code}): {text}{}", hint_line(*code))]
    Call {
        /// The function of the driver API.
        call: &'static str,
        /// Its answer.
        code: i32,
        /// The answer's name, e.g. `CUDA_ERROR_OUT_OF_MEMORY`.
        name: String,
        /// The driver's words for it.
        text: String,
    },
    /// Host memory cannot be used any more: a copy of it could not be waited for.
    #[error(
        "card {card} does not say that a copy is done\nhint: the card is lost to this process; start it again"
    )]
    Stuck {
        /// The card.
        card: u32,
    },
    /// The same, of one card among several.
    #[error("card {card}: {error}")]
    Card {
        /// Its number among those the process sees.
        card: u32,
        /// What happened there.
        error: Box<DriverError>,
    },
}

/// What a person without a driver is told.
pub const GET_ONE: &str =
    "install NVIDIA's driver (nothing else of CUDA is needed), or train on the processor";
const UPDATE: &str = "update NVIDIA's driver to a version for CUDA 12 or newer (525 or later)";

impl DriverError {
    /// The driver's code, if a call failed.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Call { code, .. } => Some(*code),
            Self::Card { error, .. } => error.code(),
            Self::NotHere { .. } | Self::Function { .. } | Self::Stuck { .. } => None,
        }
    }

    /// Whether nothing can be done on that card any more by this process: its context is gone, or the card itself.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Stuck { .. })
            || self
                .code()
                .is_some_and(|code| matches!(code, 46 | 214 | 220 | 700 | 702 | 709..=719 | 721 | 999))
    }

    /// The same, of card `card`.
    #[must_use]
    pub fn of_card(self, card: u32) -> Self {
        match self {
            Self::Call { .. } => Self::Card { card, error: Box::new(self) },
            other => other,
        }
    }
}

fn hint_line(code: i32) -> String {
    hint(code).map_or_else(String::new, |hint| format!("\nhint: {hint}"))
}

/// What to do about an answer of the driver; `None` where nobody could know.
fn hint(code: i32) -> Option<&'static str> {
    Some(match code {
        2 => {
            "another program takes the card's memory; `nvidia-smi` lists them, `isoflop doctor` what is free"
        }
        3 | 4 => "the driver was shut down under this program; run it again",
        34 | 36 => "this is the stub of a toolkit and no driver: take its folder out of LD_LIBRARY_PATH",
        35 | 803 => "the driver's library and its kernel module differ: restart the machine after an update",
        46 => "another process uses the card exclusively, or it was shut down",
        100 => "no card is visible: is CUDA_VISIBLE_DEVICES set, and is the module `nvidia` loaded?",
        101 => "the process sees fewer cards than were asked for; `isoflop doctor` lists them",
        200 | 218 | 222 => UPDATE,
        209 => "the card is older than the kernels: compute capability 8.0 (Ampere) or newer is needed",
        214 | 220 => "the card reports a fault of its memory or links; `nvidia-smi -q` says which",
        304 => "the driver could not reach the system: are the files /dev/nvidia* there and readable?",
        700 | 709..=719 | 999 => {
            "the card or its context is lost; the last checkpoint is intact and the same command goes on from it"
        }
        702 => "the system stops kernels that hold a display's card too long; use a card without a display",
        802 => "the system is still bringing the cards up (fabric manager); try again shortly",
        804 => "the forward-compatibility package does not go with this card: use the driver's own library",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(code: i32) -> DriverError {
        let (name, text) = ("CUDA_ERROR_X".to_owned(), "it did not work".to_owned());
        DriverError::Call { call: "cuMemAlloc_v2", code, name, text }
    }

    #[test]
    fn a_failed_call_names_itself_the_answer_and_what_to_do() {
        let text = call(2).of_card(1).to_string();
        for part in
            ["card 1: cuMemAlloc_v2 failed", "CUDA_ERROR_X (2)", "it did not work", "\nhint: another program"]
        {
            assert!(text.contains(part), "`{part}` is not in {text}");
        }
        assert!(!call(1).to_string().contains("hint"), "nothing is made up");
    }

    #[test]
    fn a_card_is_lost_where_its_context_is() {
        for (code, lost) in [(700, true), (719, true), (46, true), (2, false), (100, false)] {
            assert_eq!(call(code).is_lost(), lost, "{code}");
            assert_eq!(call(code).of_card(3).is_lost(), lost, "{code}");
        }
        assert!(!DriverError::NotHere { tried: Vec::new() }.is_lost());
    }
}
