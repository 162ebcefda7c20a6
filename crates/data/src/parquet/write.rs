//! A table as Parquet: one row group, a dictionary nowhere, plain values under Snappy, every column nullable.

use super::thrift::Writer;
use super::{Column, MAGIC, Value};

/// How a column is stored: numbers of the format's types.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bool = 0,
    Int = 2,
    Float = 5,
    Text = 6,
}

fn kind_of(column: &Column) -> Kind {
    let mut kinds = column.values.iter().filter_map(|v| match v {
        Value::Null => None,
        Value::Int(_) => Some(Kind::Int),
        Value::Float(_) => Some(Kind::Float),
        Value::Bool(_) => Some(Kind::Bool),
        Value::Text(_) => Some(Kind::Text),
    });
    // Nothing but nulls is most likely a quantity nobody measured.
    let Some(first) = kinds.next() else { return Kind::Float };
    kinds.fold(first, |kind, next| match (kind, next) {
        (a, b) if a == b => a,
        (Kind::Int | Kind::Float, Kind::Int | Kind::Float) => Kind::Float,
        _ => Kind::Text,
    })
}

/// The bytes of a file with these columns.
///
/// # Panics
/// Columns of different lengths.
pub fn write(columns: &[Column]) -> Vec<u8> {
    let rows = columns.first().map_or(0, |c| c.values.len());
    assert!(columns.iter().all(|c| c.values.len() == rows), "columns of one length");
    let mut out = MAGIC.to_vec();
    let mut chunks: Vec<(&Column, Kind, Chunk)> = Vec::new();
    for column in columns {
        let kind = kind_of(column);
        let chunk = chunk(column, kind, &mut out);
        chunks.push((column, kind, chunk));
    }
    let total: i64 = chunks.iter().map(|(_, _, c)| c.plain).sum();
    let mut footer = Writer::default();
    footer.structure(|w| {
        w.i32(1, 1);
        let mut schema: Vec<Option<(&Column, Kind)>> = vec![None];
        schema.extend(chunks.iter().map(|(column, kind, _)| Some((*column, *kind))));
        w.structures(2, &schema, |w, element| match element {
            None => {
                w.text(4, "schema");
                w.i32(5, columns.len() as i32);
            }
            Some((column, kind)) => {
                w.i32(1, *kind as i32);
                w.i32(3, 1);
                w.text(4, &column.name);
                if *kind == Kind::Text {
                    w.i32(6, 0);
                }
            }
        });
        w.i64(3, rows as i64);
        let groups: &[()] = if rows == 0 { &[] } else { &[()] };
        w.structures(4, groups, |w, ()| {
            w.structures(1, &chunks, |w, (column, kind, chunk)| {
                w.i64(2, 0);
                w.nested(3, |w| {
                    w.i32(1, *kind as i32);
                    w.i32s(2, &[0, 3]);
                    w.path(3, &column.name);
                    w.i32(4, 1);
                    w.i64(5, rows as i64);
                    w.i64(6, chunk.plain);
                    w.i64(7, chunk.packed);
                    w.i64(9, chunk.start);
                });
            });
            w.i64(2, total);
            w.i64(3, rows as i64);
        });
        w.text(6, concat!("isoflop ", env!("CARGO_PKG_VERSION")));
    });
    out.extend_from_slice(&footer.bytes);
    out.extend_from_slice(&(footer.bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(MAGIC);
    out
}

/// Where a column's page lies, and its bytes with header before and after compression.
struct Chunk {
    start: i64,
    plain: i64,
    packed: i64,
}

/// Appends a column's only page.
fn chunk(column: &Column, kind: Kind, out: &mut Vec<u8>) -> Chunk {
    let body = body(column, kind);
    let packed = snap::raw::Encoder::new().compress_vec(&body).expect("a page of points is below 4 GiB");
    let mut header = Writer::default();
    header.structure(|w| {
        w.i32(1, 0);
        w.i32(2, body.len() as i32);
        w.i32(3, packed.len() as i32);
        w.nested(5, |w| {
            w.i32(1, column.values.len() as i32);
            w.i32(2, 0);
            w.i32(3, 3);
            w.i32(4, 3);
        });
    });
    let start = out.len() as i64;
    out.extend_from_slice(&header.bytes);
    out.extend_from_slice(&packed);
    Chunk {
        start,
        plain: (header.bytes.len() + body.len()) as i64,
        packed: (header.bytes.len() + packed.len()) as i64,
    }
}

fn body(column: &Column, kind: Kind) -> Vec<u8> {
    let mut levels = Vec::new();
    let present: Vec<bool> = column.values.iter().map(|v| *v != Value::Null).collect();
    for run in present.chunk_by(|a, b| a == b) {
        // A run: twice its length as a varint, then the level.
        let mut head = (run.len() as u64) << 1;
        while head >= 0x80 {
            levels.push(head as u8 | 0x80);
            head >>= 7;
        }
        levels.extend([head as u8, u8::from(run[0])]);
    }
    let mut out = (levels.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&levels);
    let mut bits: Vec<bool> = Vec::new();
    for value in &column.values {
        match (kind, value) {
            (_, Value::Null) => {}
            (Kind::Int, Value::Int(v)) => out.extend_from_slice(&v.to_le_bytes()),
            (Kind::Float, Value::Int(v)) => out.extend_from_slice(&(*v as f64).to_le_bytes()),
            (Kind::Float, Value::Float(v)) => out.extend_from_slice(&v.to_le_bytes()),
            (Kind::Bool, Value::Bool(v)) => bits.push(*v),
            (_, other) => {
                let text = text_of(other);
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    for eight in bits.chunks(8) {
        out.push(eight.iter().enumerate().map(|(i, b)| u8::from(*b) << i).sum());
    }
    out
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Int(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Text(v) => v.clone(),
    }
}
