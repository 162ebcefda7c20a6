//! Text from bytes as programs write it: UTF-8 with or without a mark, UTF-16 (Excel's "Unicode text", PowerShell's
//! `>`), and the Windows-1252 of Excel's plain "CSV" in western Europe.

use crate::LawError;
use std::borrow::Cow;

/// The text, and a remark where its encoding had to be recognised.
pub(super) fn text<'a>(bytes: &'a [u8], name: &str) -> Result<(Cow<'a, str>, Option<String>), LawError> {
    let bad = |what: String, hint: &str| LawError::BadTable { what, hint: hint.to_owned() };
    if bytes.starts_with(b"PAR1") {
        return Err(bad(
            format!("{name} is a Parquet file, not text"),
            "read its cells and give them to `table_of`",
        ));
    }
    if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(bad(format!("{name} is compressed"), "decompress it first (gunzip, unzstd)"));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(bad(
            format!("{name} is a ZIP file, perhaps an Excel workbook"),
            "save the sheet as CSV, or unzip the table first",
        ));
    }
    let read: (Cow<'a, str>, Option<String>) = match utf16(bytes) {
        Some(little) => (utf16_text(bytes, little, name)?.into(), Some(format!("{name} is UTF-16 text"))),
        None => {
            let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
            match std::str::from_utf8(bytes) {
                Ok(text) => (text.into(), None),
                Err(e) => {
                    let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
                    let text = windows_1252(bytes).ok_or_else(|| {
                        bad(format!("{name} is not UTF-8 text (line {line})"), "save it as UTF-8 CSV")
                    })?;
                    (
                        text.into(),
                        Some(format!("{name} is not UTF-8 (line {line}) and was read as Windows-1252")),
                    )
                }
            }
        }
    };
    if read.0.trim().is_empty() {
        return Err(bad(format!("{name} is empty"), "a table needs a header line and rows"));
    }
    Ok(read)
}

/// Whether these are UTF-16 bytes, little end first: by their mark, or because ASCII leaves every second byte zero.
fn utf16(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [0xff, 0xfe, ..] => return Some(true),
        [0xfe, 0xff, ..] => return Some(false),
        _ => {}
    }
    let start = &bytes[..bytes.len().min(256) & !1];
    let zeros = |from: usize| start.iter().skip(from).step_by(2).filter(|b| **b == 0).count();
    let most = start.len() / 2 * 9 / 10;
    match (zeros(0), zeros(1)) {
        _ if start.len() < 8 => None,
        (0, odd) if odd >= most => Some(true),
        (even, 0) if even >= most => Some(false),
        _ => None,
    }
}

fn utf16_text(bytes: &[u8], little: bool, name: &str) -> Result<String, LawError> {
    let pairs = bytes.chunks_exact(2).map(|b| {
        let pair = [b[0], b[1]];
        if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
    });
    let text: Result<String, _> = char::decode_utf16(pairs).collect();
    let whole = bytes.len().is_multiple_of(2);
    let text = text.ok().filter(|_| whole).ok_or_else(|| LawError::BadTable {
        what: format!("{name} begins as UTF-16 text but is damaged or cut short"),
        hint: "save it as UTF-8 CSV".to_owned(),
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Text in Windows-1252; `None` for bytes it does not define, and for control bytes, which no table has.
fn windows_1252(bytes: &[u8]) -> Option<String> {
    /// What 0x80 to 0x9f stand for.
    const HIGH: [char; 32] = [
        '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘', '’',
        '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
    ];
    bytes
        .iter()
        .map(|b| match b {
            0x80..=0x9f => Some(HIGH[usize::from(b - 0x80)]).filter(|c| *c != '\0'),
            0x00..=0x08 | 0x0e..=0x1f | 0x7f => None,
            _ => Some(char::from(*b)),
        })
        .collect()
}
