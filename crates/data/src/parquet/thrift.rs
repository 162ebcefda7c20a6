//! Thrift's compact protocol, as much of it as Parquet's footers and page headers use. Structures are read into a
//! tree of [`Thrift`] values by field number, so that a field nobody asks for costs nothing, and no byte can make the
//! reader panic.

use super::Fault;

/// A value of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Thrift<'a> {
    Bool(bool),
    Int(i64),
    Double,
    Bytes(&'a [u8]),
    List(Vec<Thrift<'a>>),
    Struct(Vec<(i16, Thrift<'a>)>),
}

/// Deeper nesting than any footer has.
const MOST_DEPTH: usize = 16;

impl<'a> Thrift<'a> {
    /// Field `id` of a structure.
    pub(super) fn field(&self, id: i16) -> Option<&Thrift<'a>> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(f, _)| *f == id).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Field `id` as a number.
    pub(super) fn int(&self, id: i16) -> Option<i64> {
        match self.field(id)? {
            Thrift::Int(v) => Some(*v),
            _ => None,
        }
    }

    /// Field `id` as a truth value.
    pub(super) fn truth(&self, id: i16) -> Option<bool> {
        match self.field(id)? {
            Thrift::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// Field `id` as text.
    pub(super) fn text(&self, id: i16) -> Option<String> {
        match self.field(id)? {
            Thrift::Bytes(b) => Some(String::from_utf8_lossy(b).into_owned()),
            _ => None,
        }
    }

    /// Field `id` as a list, empty if absent.
    pub(super) fn list(&self, id: i16) -> &[Thrift<'a>] {
        match self.field(id) {
            Some(Thrift::List(items)) => items,
            _ => &[],
        }
    }
}

/// Bytes being read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let b = *self.bytes.get(self.at).ok_or(Fault::Damaged("a header is cut short"))?;
        self.at += 1;
        Ok(b)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.at..];
        let count = usize::try_from(count).ok().filter(|c| *c <= rest.len());
        let count = count.ok_or(Fault::Damaged("a header is cut short"))?;
        self.at += count;
        Ok(&rest[..count])
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut out = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            out |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(Fault::Damaged("a number in a header does not end"))
    }

    fn zigzag(&mut self) -> Result<i64, Fault> {
        let v = self.varint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// A structure up to its stop byte.
    pub(super) fn structure(&mut self) -> Result<Thrift<'a>, Fault> {
        self.fields(0)
    }

    fn fields(&mut self, depth: usize) -> Result<Thrift<'a>, Fault> {
        let mut fields = Vec::new();
        let mut id = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(Thrift::Struct(fields));
            }
            id = match head >> 4 {
                0 => i16::try_from(self.zigzag()?)
                    .map_err(|_| Fault::Damaged("a field number is out of range"))?,
                delta => id.wrapping_add(i16::from(delta)),
            };
            let value = match head & 0x0f {
                1 => Thrift::Bool(true),
                2 => Thrift::Bool(false),
                kind => self.value(kind, depth)?,
            };
            fields.push((id, value));
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<Thrift<'a>, Fault> {
        if depth > MOST_DEPTH {
            return Err(Fault::Damaged("a header is nested too deep"));
        }
        Ok(match kind {
            // In a list a truth value is a byte of its own.
            1 | 2 => Thrift::Bool(self.byte()? == 1),
            3 => Thrift::Int(i64::from(self.byte()? as i8)),
            4..=6 => Thrift::Int(self.zigzag()?),
            7 => {
                self.take(8)?;
                Thrift::Double
            }
            8 => {
                let count = self.varint()?;
                Thrift::Bytes(self.take(count)?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    short => u64::from(short),
                };
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(self.value(head & 0x0f, depth + 1)?);
                }
                Thrift::List(items)
            }
            12 => self.fields(depth + 1)?,
            _ => return Err(Fault::Damaged("a header holds an unknown type")),
        })
    }
}

/// Bytes being written; fields of one structure in ascending order.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    last: Vec<i16>,
}

impl Writer {
    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.bytes.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.bytes.push(v as u8);
    }

    fn head(&mut self, id: i16, kind: u8) {
        let last = self.last.last_mut().expect("a field is inside of a structure");
        let delta = u8::try_from(id - *last).ok().filter(|d| (1..16).contains(d)).expect("fields ascend");
        *last = id;
        self.bytes.push(delta << 4 | kind);
    }

    fn zigzag(&mut self, v: i64) {
        self.varint((v << 1 ^ v >> 63) as u64);
    }

    /// A structure that stands alone, or is an item of a list.
    pub(super) fn structure(&mut self, fill: impl FnOnce(&mut Self)) {
        self.last.push(0);
        fill(self);
        self.last.pop();
        self.bytes.push(0);
    }

    pub(super) fn nested(&mut self, id: i16, fill: impl FnOnce(&mut Self)) {
        self.head(id, 12);
        self.structure(fill);
    }

    pub(super) fn i32(&mut self, id: i16, v: i32) {
        self.head(id, 5);
        self.zigzag(i64::from(v));
    }

    pub(super) fn i64(&mut self, id: i16, v: i64) {
        self.head(id, 6);
        self.zigzag(v);
    }

    pub(super) fn text(&mut self, id: i16, v: &str) {
        self.head(id, 8);
        self.varint(v.len() as u64);
        self.bytes.extend_from_slice(v.as_bytes());
    }

    /// A list of structures.
    pub(super) fn structures<T>(&mut self, id: i16, items: &[T], mut fill: impl FnMut(&mut Self, &T)) {
        self.list(id, 12, items.len());
        for item in items {
            self.structure(|w| fill(w, item));
        }
    }

    /// A list of numbers (`i32`, enumerations).
    pub(super) fn i32s(&mut self, id: i16, items: &[i32]) {
        self.list(id, 5, items.len());
        for item in items {
            self.zigzag(i64::from(*item));
        }
    }

    /// A list with one text.
    pub(super) fn path(&mut self, id: i16, name: &str) {
        self.list(id, 8, 1);
        self.varint(name.len() as u64);
        self.bytes.extend_from_slice(name.as_bytes());
    }

    fn list(&mut self, id: i16, kind: u8, count: usize) {
        self.head(id, 9);
        if count < 15 {
            self.bytes.push((count as u8) << 4 | kind);
        } else {
            self.bytes.push(0xf0 | kind);
            self.varint(count as u64);
        }
    }
}
