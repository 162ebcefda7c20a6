//! tiktoken's rank files: a token a line, its bytes in base64 and its rank, which is its id. Merges are not in them;
//! they follow from the ranks.

use crate::error::DataError;
use crate::tokenize::bpe::{Bpe, Vocabulary};
use crate::tokenize::merge::MAX_IDS;
use crate::tokenize::naive;
use crate::tokenize::pattern::Pattern;
use crate::tokenize::{END_OF_TEXT, Special};
use std::collections::HashMap;

/// A BPE from a rank file; `stem` is the file's name without extension, by which OpenAI's encodings are known.
pub(crate) fn read(name: &str, stem: &str, file: &[u8], pattern: Option<Pattern>) -> Result<Bpe, DataError> {
    let error = |what: String, hint: String| DataError::Tokenizer { name: name.to_owned(), what, hint };
    let pattern = pattern.or_else(|| Pattern::named(stem)).ok_or_else(|| {
        let hint = format!("name the pattern with --pattern: {}", Pattern::NAMES);
        error("holds ranks and no pattern, and its name does not tell which".to_owned(), hint)
    })?;
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    for (line, number) in file.split(|&byte| byte == b'\n').zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let fields = line.iter().position(|&byte| byte == b' ').and_then(|space| {
            let rank = std::str::from_utf8(&line[space + 1..]).ok()?.parse::<usize>().ok()?;
            Some((base64(&line[..space])?, rank)).filter(|(token, rank)| !token.is_empty() && *rank < MAX_IDS)
        });
        let Some((token, rank)) = fields else {
            let hint =
                format!("a line is a token in base64, a space, and its rank, which is below {MAX_IDS}");
            return Err(error(format!("is no rank file: line {number} is something else"), hint));
        };
        if tokens.len() <= rank {
            tokens.resize(rank + 1, Vec::new());
        }
        if !tokens[rank].is_empty() {
            let hint = "the file is damaged; fetch it again".to_owned();
            return Err(error(format!("gives rank {rank} twice, the second time in line {number}"), hint));
        }
        tokens[rank] = token;
    }
    let merges = merges(&tokens);
    let special = special(stem, tokens.len());
    Bpe::new(name, Vocabulary { tokens, merges, special, pattern, whole_first: true })
}

/// The merges that ranks stand for: a token is made of the two that its bytes become when only lower ranks are merged.
///
/// tiktoken merges any two neighbours that make a token. Two others than these never come to stand side by side: what
/// happens inside a token's bytes is the same wherever they stand, and alone they come down to these two. A token that
/// does not come down to two is only found as a whole piece.
fn merges(tokens: &[Vec<u8>]) -> Vec<[u32; 3]> {
    let mut byte_ids = [0; 256];
    for (token, id) in tokens.iter().zip(0..) {
        if let [byte] = token[..] {
            byte_ids[usize::from(byte)] = id;
        }
    }
    let (mut merges, mut known, mut ids) = (Vec::new(), HashMap::new(), Vec::new());
    for (token, id) in tokens.iter().zip(0..).filter(|(token, _)| token.len() > 1) {
        ids.clear();
        ids.extend(token.iter().map(|&byte| byte_ids[usize::from(byte)]));
        naive::merge(&mut ids, &known);
        if let [left, right] = ids[..] {
            known.insert((left, right), (id, id));
            merges.push([left, right, id]);
        }
    }
    merges
}

/// The special tokens of OpenAI's encodings, which their rank files do not hold.
fn special(stem: &str, vocab: usize) -> Vec<Special> {
    let known: &[(&str, u32)] = match stem {
        "gpt2" | "r50k_base" | "p50k_base" => &[(END_OF_TEXT, 50_256)],
        "cl100k_base" => &[
            (END_OF_TEXT, 100_257),
            ("<|fim_prefix|>", 100_258),
            ("<|fim_middle|>", 100_259),
            ("<|fim_suffix|>", 100_260),
            ("<|endofprompt|>", 100_276),
        ],
        "o200k_base" => &[(END_OF_TEXT, 199_999), ("<|endofprompt|>", 200_018)],
        _ => &[],
    };
    let fits = vocab > 50_000;
    let special = known.iter().filter(|_| fits).map(|&(text, id)| Special { text: text.to_owned(), id });
    special.collect()
}

/// The bytes of base64 with `=` at the end.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.iter().take_while(|&&byte| byte != b'=');
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let (mut bytes, mut bits, mut held, mut count) = (Vec::with_capacity(text.len() * 3 / 4), 0u32, 0, 0);
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        count += 1;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    ((count + padding) == text.len() && text.len().is_multiple_of(4) && padding < 3).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_and_what_is_not_is_refused() {
        for (text, expected) in
            [("", ""), ("QQ==", "A"), ("QUI=", "AB"), ("QUJD", "ABC"), ("IHRoZQ==", " the")]
        {
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(expected.as_bytes()), "{text}");
        }
        for text in ["Q", "QQ", "QQ=", "Q===", "QQ==QQ==", "Q*==", "QU-_"] {
            assert_eq!(base64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_rank_file_is_refused_with_its_line() {
        let error =
            |file: &str, stem| read("x.tiktoken", stem, file.as_bytes(), None).unwrap_err().to_string();
        assert!(error("QQ== 0\n", "mine").contains("--pattern"));
        assert!(error("QQ== 0\nhello\n", "gpt2").contains("line 2"));
        assert!(error("QQ== 0\nQg== 0\n", "gpt2").contains("rank 0 twice"));
        assert!(error("QQ== 0\n", "gpt2").contains("no token for 255 of the 256 bytes"));
    }
}
