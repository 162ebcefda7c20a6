//! The text in a line of JSON.
//!
//! Half a surrogate pair (`"\ud83d"`), which Python's `json` writes and UTF-8 does not have, becomes U+FFFD: the text
//! is read as bytes, in which the parser spells such a half as three.

use super::ProblemKind;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Names of fields that a message lists.
const LISTED: usize = 12;

/// The text at a path (`text`, or `a.b`) of a JSON object, and how many halves of surrogate pairs were replaced in it.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn text_in<'b>(
    line: &'b [u8],
    path: &str,
) -> Result<(Cow<'b, str>, usize), (ProblemKind, String)> {
    let mut fields = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let found = Object { path, fields: &mut fields }
        .deserialize(&mut deserializer)
        .and_then(|found| deserializer.end().map(|()| found));
    match found {
        Err(e) => match std::str::from_utf8(line) {
            Err(not) => Err((ProblemKind::NotUtf8, super::not_utf8(line, not.valid_up_to()))),
            Ok(_) => {
                let words = e.to_string();
                let words = words.split(" at line ").next().unwrap_or_default();
                match words.strip_suffix(", expected text").and_then(|w| w.strip_prefix("invalid type: ")) {
                    Some(other) => {
                        Err((ProblemKind::NoText, format!("field `{path}` is no text but {other}")))
                    }
                    None => Err((ProblemKind::Malformed, format!("{words}, at byte {}", e.column()))),
                }
            }
        },
        Ok(Found::Text(text)) => repaired(text),
        Ok(Found::Other(what)) => Err((ProblemKind::NoText, format!("field `{path}` is no text but {what}"))),
        Ok(Found::Missing) => {
            let more = if fields.len() > LISTED { ", …" } else { "" };
            fields.truncate(LISTED);
            let there = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
            Err((ProblemKind::NoField, format!("no field `{path}`; there are: {there}{more}")))
        }
    }
}

/// UTF-8 of bytes in which surrogates may stand; other bytes that are no UTF-8 are an error.
fn repaired(bytes: Cow<'_, [u8]>) -> Result<(Cow<'_, str>, usize), (ProblemKind, String)> {
    let bytes = match bytes {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => return Ok((Cow::Borrowed(text), 0)),
            Err(_) => bytes.to_vec(),
        },
        Cow::Owned(bytes) => bytes,
    };
    let mut bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok((Cow::Owned(text), 0)),
        Err(e) => e.into_bytes(),
    };
    let mut halves = 0;
    let mut from = 0;
    while let Err(e) = std::str::from_utf8(&bytes[from..]) {
        let at = from + e.valid_up_to();
        match bytes[at..] {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => {
                bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
                halves += 1;
                from = at + 3;
            }
            _ => return Err((ProblemKind::NotUtf8, super::not_utf8(&bytes, at))),
        }
    }
    let text = String::from_utf8(bytes).map_err(|e| (ProblemKind::NotUtf8, e.to_string()))?;
    Ok((Cow::Owned(text), halves))
}

enum Found<'b> {
    Text(Cow<'b, [u8]>),
    Other(&'static str),
    Missing,
}

/// An object in which the field at `path` is looked for.
struct Object<'a> {
    path: &'a str,
    fields: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let mut found = Found::Missing;
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let key = String::from_utf8_lossy(&key.0);
            // The last of several wins, as everywhere; a field whose name has dots comes before a path.
            if key == self.path {
                found = map.next_value_seed(Text)?;
                continue;
            }
            let inner = self.path.strip_prefix(&*key).and_then(|rest| rest.strip_prefix('.'));
            match inner {
                Some(path) if matches!(found, Found::Missing) => {
                    let mut fields = Vec::new();
                    found = map.next_value_seed(Object { path, fields: &mut fields })?;
                    self.fields.extend(fields.into_iter().map(|field| format!("{key}.{field}")));
                }
                _ => {
                    if self.fields.len() <= LISTED {
                        self.fields.push(key.into_owned());
                    }
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    // Inside of a path, what is no object has no fields.
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Found<'de>, E> {
        Err(E::custom("text where an object should be"))
    }
    fn visit_unit<E>(self) -> Result<Found<'de>, E> {
        Ok(Found::Missing)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Found<'de>, A::Error> {
        Err(A::Error::custom("a list where an object should be"))
    }
}

/// A key, which may have halves of surrogates as well.
struct Key<'b>(Cow<'b, [u8]>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(v.as_bytes())))
            }
            fn visit_str<E>(self, v: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(v.as_bytes().to_vec())))
            }
        }
        from.deserialize_str(Bytes)
    }
}

/// A value that should be text.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found<'de>, D::Error> {
        // Text as bytes: surrogates are kept. Whatever else stands there is given to the visitor as what it is.
        from.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }
    fn visit_borrowed_bytes<E>(self, v: &'de [u8]) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Borrowed(v)))
    }
    fn visit_bytes<E>(self, v: &[u8]) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Owned(v.to_vec())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Other("a list"))
    }
}
