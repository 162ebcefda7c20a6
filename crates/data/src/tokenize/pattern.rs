//! The patterns that cut a text into pieces before merging, by name and as regular expressions.

/// Which pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pattern {
    /// GPT-2's, which `r50k_base` and `p50k_base` have too.
    Gpt2,
    /// `cl100k_base`, as tiktoken 0.14 has it.
    Cl100k,
    /// Llama 3's: cl100k without its rule for white space that ends the text.
    Llama3,
    /// Qwen 2's: as Llama 3's, with digits one by one.
    Qwen2,
    /// `o200k_base`.
    O200k,
    /// None: the text is one piece.
    Whole,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
// tiktoken writes `{1,3}+`, which is possessive there and means the same; to Oniguruma, which `tokenizers` uses, it is
// (…{1,3})+, any number of digits. A file that has it gives other ids in `tokenizers`, and is not recognised.
const CL100K: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+",
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
);
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

impl Pattern {
    /// Names that [`Self::named`] knows.
    pub const NAMES: &str = "gpt2, cl100k_base, o200k_base, llama3, qwen2";

    /// A pattern by name; the names of OpenAI's encodings are those of their patterns.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "gpt2" | "r50k_base" | "p50k_base" => Some(Self::Gpt2),
            "cl100k" | "cl100k_base" => Some(Self::Cl100k),
            "o200k" | "o200k_base" | "o200k_harmony" => Some(Self::O200k),
            "llama3" => Some(Self::Llama3),
            "qwen2" => Some(Self::Qwen2),
            _ => None,
        }
    }

    /// The pattern of a regular expression, if it is one of those we know. They are told by their text: an expression
    /// that only means the same is not recognised.
    pub fn of_regex(regex: &str) -> Option<Self> {
        const SAME: [(&str, Pattern); 3] = [
            (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Pattern::Gpt2),
            (
                r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
                Pattern::Gpt2,
            ),
            (
                concat!(
                    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}",
                    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
                ),
                Pattern::Llama3,
            ),
        ];
        let known = [Self::Gpt2, Self::Cl100k, Self::Llama3, Self::Qwen2, Self::O200k];
        let same = SAME.iter().find(|(text, _)| *text == regex).map(|&(_, pattern)| pattern);
        known.into_iter().find(|pattern| pattern.regex() == Some(regex)).or(same)
    }

    /// The regular expression.
    pub fn regex(self) -> Option<&'static str> {
        match self {
            Self::Gpt2 => Some(GPT2),
            Self::Cl100k => Some(CL100K),
            Self::Llama3 => Some(LLAMA3),
            Self::Qwen2 => Some(QWEN2),
            Self::O200k => Some(O200K),
            Self::Whole => None,
        }
    }

    /// The name, one that [`Self::named`] knows unless there is no pattern.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Cl100k => "cl100k_base",
            Self::Llama3 => "llama3",
            Self::Qwen2 => "qwen2",
            Self::O200k => "o200k_base",
            Self::Whole => "none",
        }
    }
}
