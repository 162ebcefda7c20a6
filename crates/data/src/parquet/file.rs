//! A Parquet file: footer, schema, and the pages of each column chunk.

use super::compression::{MOST_PAGE, decompress};
use super::decode::{self, take, u32_le};
use super::thrift::{Reader, Thrift};
use super::{Column, Fault, MAGIC, ParquetTable, Value};

const MOST_ROWS: usize = 4_000_000;
const MOST_CELLS: usize = 40_000_000;
const MOST_TEXT: usize = 256 << 20;

/// Physical types by their number in the format.
pub(super) mod kind {
    pub(in crate::parquet) const BOOLEAN: i64 = 0;
    pub(in crate::parquet) const INT32: i64 = 1;
    pub(in crate::parquet) const INT64: i64 = 2;
    pub(in crate::parquet) const INT96: i64 = 3;
    pub(in crate::parquet) const FLOAT: i64 = 4;
    pub(in crate::parquet) const DOUBLE: i64 = 5;
    pub(in crate::parquet) const BYTES: i64 = 6;
    pub(in crate::parquet) const FIXED: i64 = 7;
}

/// A column as the schema describes it.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) kind: i64,
    /// Bytes of a value of fixed width.
    width: usize,
    /// How many of its ancestors and itself may be absent.
    pub(super) max_definition: u32,
    /// It or an ancestor is a list.
    pub(super) repeated: bool,
    /// Decimal places, if it is a decimal.
    pub(super) scale: Option<i32>,
    unsigned: bool,
    half: bool,
}

/// Reads all columns of a file.
pub(super) fn read(bytes: &[u8]) -> Result<ParquetTable, Fault> {
    let footer = footer(bytes)?;
    let meta = Reader::new(footer).structure()?;
    let leaves = leaves(&meta)?;
    let groups = meta.list(4);
    let mut rows = 0usize;
    for group in groups {
        let count = usize::try_from(group.int(3).unwrap_or(-1));
        rows = rows.saturating_add(count.map_err(|_| Fault::Damaged("a row group has no size"))?);
    }
    if rows > MOST_ROWS || rows.saturating_mul(leaves.len()) > MOST_CELLS {
        return Err(Fault::TooLarge);
    }
    let mut table = ParquetTable { rows, ..ParquetTable::default() };
    let mut text = MOST_TEXT;
    for (index, leaf) in leaves.iter().enumerate() {
        if leaf.repeated {
            table.notes.push(format!("column `{}` holds lists and was left out", leaf.name));
            continue;
        }
        let mut values = Vec::new();
        for group in groups {
            let chunk = group.list(1).get(index).and_then(|c| c.field(3));
            let chunk = chunk.ok_or(Fault::Damaged("a row group lacks a column"))?;
            let count = usize::try_from(group.int(3).unwrap_or(0)).unwrap_or(0);
            read_chunk(bytes, chunk, leaf, count, &mut values, &mut text)?;
        }
        table.columns.push(Column { name: leaf.name.clone(), values });
    }
    Ok(table)
}

fn footer(bytes: &[u8]) -> Result<&[u8], Fault> {
    if bytes.ends_with(b"PARE") {
        return Err(Fault::Unsupported("encryption".to_owned()));
    }
    if !bytes.starts_with(MAGIC) || !bytes.ends_with(MAGIC) || bytes.len() < 12 {
        return Err(Fault::NotParquet);
    }
    let body = &bytes[..bytes.len() - 8];
    let length = u32_le(&mut &bytes[bytes.len() - 8..])?;
    let start = body.len().checked_sub(length).filter(|s| *s >= 4);
    Ok(&body[start.ok_or(Fault::Damaged("its footer is longer than the file"))?..])
}

pub(super) fn leaves(meta: &Thrift<'_>) -> Result<Vec<Leaf>, Fault> {
    let mut elements = meta.list(2).iter();
    let root = elements.next().ok_or(Fault::Damaged("it has no schema"))?;
    // Open groups: (name so far, children left, definition level, list).
    let mut open = vec![(String::new(), root.int(5).unwrap_or(0), 0u32, false)];
    let mut out = Vec::new();
    for element in elements {
        while open.last().is_some_and(|g| g.1 <= 0) {
            open.pop();
        }
        let Some(parent) = open.last_mut() else { return Err(Fault::Damaged("its schema does not add up")) };
        parent.1 -= 1;
        let own = element.text(4).unwrap_or_default();
        let name = if parent.0.is_empty() { own } else { format!("{}.{own}", parent.0) };
        let repetition = element.int(3).unwrap_or(0);
        let definition = parent.2 + u32::from(repetition != 0);
        let repeated = parent.3 || repetition == 2;
        match element.int(5).filter(|n| *n > 0) {
            Some(children) => {
                if open.len() > 32 {
                    return Err(Fault::Damaged("its schema is nested too deep"));
                }
                open.push((name, children, definition, repeated));
            }
            None => out.push(leaf(element, name, definition, repeated)?),
        }
    }
    Ok(out)
}

fn leaf(element: &Thrift<'_>, name: String, max_definition: u32, repeated: bool) -> Result<Leaf, Fault> {
    let logical = element.field(10);
    let decimal = logical.and_then(|l| l.field(5)).and_then(|d| d.int(1));
    let decimal = decimal.or_else(|| {
        element
            .int(6)
            .filter(|c| *c == 5)
            .and(element.int(7))
            .or(Some(0).filter(|_| element.int(6) == Some(5)))
    });
    let signed = logical.and_then(|l| l.field(10)).and_then(|i| i.truth(2));
    Ok(Leaf {
        name,
        kind: element.int(1).ok_or(Fault::Damaged("a column has no type"))?,
        width: element.int(2).and_then(|w| usize::try_from(w).ok()).unwrap_or(0),
        max_definition,
        repeated,
        scale: decimal.and_then(|s| i32::try_from(s).ok()),
        unsigned: signed == Some(false) || element.int(6).is_some_and(|c| (11..=14).contains(&c)),
        half: logical.and_then(|l| l.field(15)).is_some(),
    })
}

/// Appends the `count` values of a column chunk.
fn read_chunk(
    bytes: &[u8],
    chunk: &Thrift<'_>,
    leaf: &Leaf,
    count: usize,
    out: &mut Vec<Value>,
    text: &mut usize,
) -> Result<(), Fault> {
    let codec = chunk.int(4).unwrap_or(0);
    let data = chunk.int(9).unwrap_or(0);
    let start = chunk.int(11).filter(|d| *d > 0 && *d < data).unwrap_or(data);
    let length = chunk.int(7).unwrap_or(0);
    let range = usize::try_from(start).ok().zip(usize::try_from(length).ok());
    let span = range.and_then(|(s, n)| bytes.get(s..s.checked_add(n)?));
    let mut at = span.ok_or(Fault::Damaged("a column lies outside of the file"))?;
    let end = out.len() + count;
    let mut dictionary: Vec<Value> = Vec::new();
    while out.len() < end {
        let mut reader = Reader::new(at);
        let header = reader.structure()?;
        at = &at[reader.position()..];
        let size = |id: i16| header.int(id).and_then(|v| usize::try_from(v).ok());
        let (Some(plain), Some(packed)) = (size(2), size(3)) else {
            return Err(Fault::Damaged("a page has no size"));
        };
        let page = take(&mut at, packed)?;
        let left = end - out.len();
        match header.int(1) {
            Some(0) => {
                let head = header.field(5).ok_or(Fault::Damaged("a page has no header"))?;
                let body = decompress(codec, page, plain)?;
                let mut body = body.as_slice();
                let values = rows_of(head.int(1), left)?;
                let present = if leaf.max_definition == 0 {
                    vec![true; values]
                } else if head.int(3) == Some(3) {
                    let length = u32_le(&mut body)?;
                    let mut levels = take(&mut body, length)?;
                    present(&mut levels, leaf, values)?
                } else {
                    return Err(Fault::Unsupported("bit-packed levels".to_owned()));
                };
                push(body, leaf, head.int(2), &dictionary, &present, out, text)?;
            }
            Some(3) => {
                let head = header.field(8).ok_or(Fault::Damaged("a page has no header"))?;
                let values = rows_of(head.int(1), left)?;
                let mut rest = page;
                let levels = |id: i16| head.int(id).and_then(|v| usize::try_from(v).ok()).unwrap_or(0);
                let (definition, repetition) = (levels(5), levels(6));
                take(&mut rest, repetition)?;
                let mut flags = take(&mut rest, definition)?;
                let present = if leaf.max_definition == 0 {
                    vec![true; values]
                } else {
                    present(&mut flags, leaf, values)?
                };
                let size =
                    plain.checked_sub(definition + repetition).ok_or(Fault::Damaged("a page has no size"))?;
                let codec = if head.truth(7) == Some(false) { 0 } else { codec };
                // A page of nulls has no bytes to decompress.
                let body = if size == 0 { Vec::new() } else { decompress(codec, rest, size)? };
                push(&body, leaf, head.int(4), &dictionary, &present, out, text)?;
            }
            Some(2) => {
                let head = header.field(7).ok_or(Fault::Damaged("a page has no header"))?;
                let body = decompress(codec, page, plain)?;
                let entries = rows_of(head.int(1), MOST_ROWS)?;
                dictionary = plain_values(&mut body.as_slice(), leaf, entries)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn rows_of(count: Option<i64>, left: usize) -> Result<usize, Fault> {
    let count = count.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= left);
    count.ok_or(Fault::Damaged("a page holds more values than its column"))
}

fn present(levels: &mut &[u8], leaf: &Leaf, values: usize) -> Result<Vec<bool>, Fault> {
    let width = 32 - leaf.max_definition.leading_zeros();
    let levels = decode::hybrid(levels, width, values)?;
    Ok(levels.into_iter().map(|d| d == u64::from(leaf.max_definition)).collect())
}

/// Decodes the values of a page and appends them, nulls between them.
fn push(
    body: &[u8],
    leaf: &Leaf,
    encoding: Option<i64>,
    dictionary: &[Value],
    present: &[bool],
    out: &mut Vec<Value>,
    text: &mut usize,
) -> Result<(), Fault> {
    let count = present.iter().filter(|p| **p).count();
    let mut at = body;
    let values = match encoding {
        // A page of nulls alone may have no width byte.
        _ if count == 0 => Vec::new(),
        Some(2 | 8) => {
            let width = u32::from(take(&mut at, 1)?[0]);
            let indices = decode::hybrid(&mut at, width, count)?;
            let mut values = Vec::new();
            for index in indices {
                let value = usize::try_from(index).ok().and_then(|i| dictionary.get(i));
                let value = value.ok_or(Fault::Damaged("a value is not in its dictionary"))?;
                spend(value, text)?;
                values.push(value.clone());
            }
            values
        }
        Some(0) => plain_values(&mut at, leaf, count)?,
        Some(3) if leaf.kind == kind::BOOLEAN => {
            let length = u32_le(&mut at)?;
            let mut inner = take(&mut at, length)?;
            decode::hybrid(&mut inner, 1, count)?.into_iter().map(|b| Value::Bool(b == 1)).collect()
        }
        Some(5) if matches!(leaf.kind, kind::INT32 | kind::INT64) => {
            decode::delta(&mut at, count)?.into_iter().map(|v| whole(v, leaf)).collect()
        }
        Some(6) => decode::delta_length(&mut at, count)?.into_iter().map(|b| of_bytes(b, leaf)).collect(),
        Some(7) => decode::delta_bytes(&mut at, count)?.iter().map(|b| of_bytes(b, leaf)).collect(),
        Some(9) => {
            let bytes = decode::unsplit(&mut at, width_of(leaf)?, count)?;
            plain_values(&mut bytes.as_slice(), leaf, count)?
        }
        other => return Err(Fault::Unsupported(format!("encoding {}", other.unwrap_or(-1)))),
    };
    if values.len() != count {
        return Err(Fault::Damaged("a page holds fewer values than it says"));
    }
    if !matches!(encoding, Some(2 | 8)) {
        values.iter().try_for_each(|v| spend(v, text))?;
    }
    let mut values = values.into_iter();
    out.extend(present.iter().map(|p| if *p { values.next().unwrap_or(Value::Null) } else { Value::Null }));
    Ok(())
}

fn spend(value: &Value, text: &mut usize) -> Result<(), Fault> {
    if let Value::Text(t) = value {
        *text = text.checked_sub(t.len()).ok_or(Fault::TooLarge)?;
    }
    Ok(())
}

/// Bytes of a value of fixed width.
fn width_of(leaf: &Leaf) -> Result<usize, Fault> {
    match leaf.kind {
        kind::INT32 | kind::FLOAT => Ok(4),
        kind::INT64 | kind::DOUBLE => Ok(8),
        kind::INT96 => Ok(12),
        kind::FIXED if (1..=MOST_PAGE).contains(&leaf.width) => Ok(leaf.width),
        _ => Err(Fault::Damaged("a column has no width")),
    }
}

fn plain_values(at: &mut &[u8], leaf: &Leaf, count: usize) -> Result<Vec<Value>, Fault> {
    if leaf.kind == kind::BOOLEAN {
        let packed = take(at, count.div_ceil(8))?;
        return Ok((0..count).map(|i| Value::Bool(packed[i / 8] >> (i % 8) & 1 == 1)).collect());
    }
    if leaf.kind == kind::BYTES {
        return Ok(decode::plain_bytes(at, count)?.into_iter().map(|b| of_bytes(b, leaf)).collect());
    }
    let width = width_of(leaf)?;
    let bytes = take(at, width.checked_mul(count).ok_or(Fault::TooLarge)?)?;
    Ok(bytes.chunks_exact(width).map(|b| of_fixed(b, leaf)).collect())
}

fn of_fixed(b: &[u8], leaf: &Leaf) -> Value {
    let four = || <[u8; 4]>::try_from(b).unwrap_or_default();
    let eight = || <[u8; 8]>::try_from(b).unwrap_or_default();
    match leaf.kind {
        kind::INT32 => whole(i64::from(i32::from_le_bytes(four())), leaf),
        kind::INT64 => whole(i64::from_le_bytes(eight()), leaf),
        kind::FLOAT => Value::Float(f64::from(f32::from_le_bytes(four()))),
        kind::DOUBLE => Value::Float(f64::from_le_bytes(eight())),
        // A point in time of the old kind is no number of a law.
        kind::INT96 => Value::Null,
        _ => of_bytes(b, leaf),
    }
}

fn whole(v: i64, leaf: &Leaf) -> Value {
    match leaf.scale {
        Some(scale) if scale != 0 => Value::Float(v as f64 / 10f64.powi(scale.clamp(-300, 300))),
        _ if leaf.unsigned && leaf.kind == kind::INT32 => Value::Int(i64::from(v as u32)),
        _ if leaf.unsigned && v < 0 => Value::Float(v as u64 as f64),
        _ => Value::Int(v),
    }
}

fn of_bytes(b: &[u8], leaf: &Leaf) -> Value {
    if let Some(scale) = leaf.scale {
        // Decimals are big-endian two's complement of any width.
        let start = if b.first().is_some_and(|f| f & 0x80 != 0) { -1.0 } else { 0.0 };
        let v = b.iter().fold(start, |v, byte| v * 256.0 + f64::from(*byte));
        return Value::Float(v / 10f64.powi(scale.clamp(-300, 300)));
    }
    if let (true, [low, high]) = (leaf.half, b) {
        return Value::Float(half(u16::from_le_bytes([*low, *high])));
    }
    Value::Text(String::from_utf8_lossy(b).into_owned())
}

/// An IEEE half.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
    }
}
