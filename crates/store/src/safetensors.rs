//! The safetensors container: an 8-byte little-endian header length, a JSON header padded with spaces to eight bytes,
//! the tensors' bytes without holes. <https://github.com/huggingface/safetensors#format>
//!
//! Headers come from strangers: every length is checked against the file before anything is allocated or read.

use isoflop_base::tensor::{Dtype, TensorError, TensorSpec};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// The longest header the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes converted at a time.
const CHUNK: usize = 1 << 16;

/// The header of a file that will hold `specs` in this order, its 8-byte length in front.
pub(crate) fn header<'a>(specs: impl Iterator<Item = &'a TensorSpec>) -> Vec<u8> {
    let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut begin = 0;
    for spec in specs {
        let end = begin + spec.bytes();
        let name = serde_json::Value::from(spec.name.as_str());
        let dtype = match spec.dtype {
            Dtype::F32 => "F32",
            Dtype::U8 => "U8",
        };
        let shape = serde_json::Value::from(spec.shape.clone());
        let _ =
            write!(json, r#",{name}:{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#);
        begin = end;
    }
    json.push('}');
    while json.len() % 8 != 0 {
        json.push(' ');
    }
    [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat()
}

/// One tensor of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    begin: u64,
    end: u64,
}

/// A file whose header has been read and found consistent with its length.
#[derive(Debug)]
pub(crate) struct TensorFile {
    file: File,
    data_start: u64,
    pub(crate) tensors: BTreeMap<String, Entry>,
}

impl TensorFile {
    /// Reads and checks the header. Errors are in words, for the caller to say of which file.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let len = file.metadata().map_err(|e| e.to_string())?.len();
        let mut first = [0; 8];
        file.read_exact(&mut first).map_err(|_| format!("{len} bytes are too few for a safetensors file"))?;
        let header_len = u64::from_le_bytes(first);
        if header_len > MAX_HEADER || header_len > len.saturating_sub(8) {
            return Err(format!("its header says to be {header_len} bytes long, the file has {len}"));
        }
        let mut json = vec![0; header_len as usize];
        file.read_exact(&mut json).map_err(|e| format!("its header cannot be read: {e}"))?;
        let Header(tensors) =
            serde_json::from_slice(&json).map_err(|e| format!("its header does not parse: {e}"))?;
        let data_start = 8 + header_len;
        check_layout(&tensors, len - data_start)?;
        Ok(Self { file, data_start, tensors })
    }

    /// Fills `out` with a float tensor, widening F16 and BF16.
    pub(crate) fn read_f32(&mut self, name: &str, out: &mut [f32]) -> Result<(), TensorError> {
        let dtype = self.tensors[name].dtype.clone();
        let io_error = |source| TensorError::Io { name: name.to_owned(), source };
        match dtype.as_str() {
            "F32" => {
                self.read_bytes(name, bytemuck::cast_slice_mut(out)).map_err(io_error)?;
                if cfg!(target_endian = "big") {
                    out.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits().swap_bytes()));
                }
                Ok(())
            }
            "F16" => self.read_halves(name, out, f16_to_f32).map_err(io_error),
            "BF16" => self.read_halves(name, out, |h| f32::from_bits(u32::from(h) << 16)).map_err(io_error),
            _ => Err(TensorError::Dtype { name: name.to_owned(), found: dtype, needed: "F32, F16 or BF16" }),
        }
    }

    /// Fills `out` with a byte tensor.
    pub(crate) fn read_u8(&mut self, name: &str, out: &mut [u8]) -> Result<(), TensorError> {
        let dtype = &self.tensors[name].dtype;
        if dtype != "U8" {
            return Err(TensorError::Dtype { name: name.to_owned(), found: dtype.clone(), needed: "U8" });
        }
        self.read_bytes(name, out).map_err(|source| TensorError::Io { name: name.to_owned(), source })
    }

    fn seek(&mut self, name: &str, num_bytes: usize) -> io::Result<()> {
        let entry = &self.tensors[name];
        assert_eq!(entry.end - entry.begin, num_bytes as u64, "the caller has compared shapes");
        self.file.seek(SeekFrom::Start(self.data_start + entry.begin)).map(|_| ())
    }

    fn read_bytes(&mut self, name: &str, out: &mut [u8]) -> io::Result<()> {
        self.seek(name, out.len())?;
        self.file.read_exact(out)
    }

    fn read_halves(&mut self, name: &str, out: &mut [f32], widen: impl Fn(u16) -> f32) -> io::Result<()> {
        self.seek(name, out.len() * 2)?;
        let mut bytes = vec![0; CHUNK.min(out.len() * 2)];
        for piece in out.chunks_mut(CHUNK / 2) {
            let bytes = &mut bytes[..piece.len() * 2];
            self.file.read_exact(bytes)?;
            for (x, h) in piece.iter_mut().zip(bytes.chunks_exact(2)) {
                *x = widen(u16::from_le_bytes([h[0], h[1]]));
            }
        }
        Ok(())
    }
}

/// IEEE half to single precision; exact.
fn f16_to_f32(h: u16) -> f32 {
    let sign = u32::from(h >> 15) << 31;
    let exponent = u32::from(h >> 10 & 0x1f);
    let fraction = u32::from(h & 0x3ff);
    match (exponent, fraction) {
        // Subnormal: fraction · 2^-24.
        (0, _) => f32::from_bits((fraction as f32 * f32::from_bits(0x3380_0000)).to_bits() | sign),
        (0x1f, _) => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// Bytes of an element; `None` for types that pack several into a byte or that are unknown.
fn element_bytes(dtype: &str) -> Option<u64> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" | "C64" => Some(8),
        _ => None,
    }
}

/// The tensors must fill the data exactly, each as long as its shape says.
fn check_layout(tensors: &BTreeMap<String, Entry>, data_len: u64) -> Result<(), String> {
    let mut by_offset: Vec<(&String, &Entry)> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, e)| (e.begin, e.end));
    let mut end = 0;
    for (name, entry) in by_offset {
        if entry.begin != end || entry.end < entry.begin || entry.end > data_len {
            return Err(format!(
                "tensor `{name}` claims bytes {}..{} where {end}..{data_len} are left",
                entry.begin, entry.end
            ));
        }
        end = entry.end;
        let Some(size) = element_bytes(&entry.dtype) else { continue };
        let needed = entry.shape.iter().try_fold(size, |n, &d| n.checked_mul(d as u64));
        if needed != Some(entry.end - entry.begin) {
            return Err(format!(
                "tensor `{name}` of {:?} {} has {} bytes",
                entry.shape,
                entry.dtype,
                entry.end - entry.begin
            ));
        }
    }
    if end != data_len {
        return Err(format!("its header describes {end} bytes of tensors, the file holds {data_len}"));
    }
    Ok(())
}

/// The parsed header. Two tensors of one name are an error; the metadata is skipped.
struct Header(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Raw {
            dtype: String,
            shape: Vec<usize>,
            data_offsets: (u64, u64),
        }
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let Raw { dtype, shape, data_offsets: (begin, end) } = map.next_value()?;
                    let entry = Entry { dtype, shape, begin, end };
                    if tensors.insert(name.clone(), entry).is_some() {
                        return Err(de::Error::custom(format!("tensor `{name}` is there twice")));
                    }
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_base::tensor::TensorGroup;
    use proptest::prelude::*;

    fn open(bytes: &[u8]) -> Result<TensorFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        std::fs::write(&path, bytes).unwrap();
        TensorFile::open(&path)
    }

    fn with_header(json: &str, data: &[u8]) -> Vec<u8> {
        [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
    }

    #[test]
    fn halves_widen_exactly() {
        for (half, single) in [
            (0x0000, 0.0f32),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(f16_to_f32(half), single, "{half:#06x}");
        }
        assert!(f16_to_f32(0x8000).is_sign_negative());
        assert!(f16_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn halves_and_singles_are_read() {
        let json = concat!(
            r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"#,
            r#""b":{"dtype":"BF16","shape":[1,2],"data_offsets":[4,8]},"#,
            r#""f":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"u":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}}"#
        );
        let data =
            [&[0x00, 0x3c, 0x00, 0xc0][..], &[0x80, 0x3f, 0x00, 0xc0], &1.5f32.to_le_bytes(), &[7, 8, 9]];
        let mut file = open(&with_header(json, &data.concat())).unwrap();
        let mut two = [0.0; 2];
        file.read_f32("h", &mut two).unwrap();
        assert_eq!(two, [1.0, -2.0]);
        file.read_f32("b", &mut two).unwrap();
        assert_eq!(two, [1.0, -2.0]);
        let mut one = [0.0];
        file.read_f32("f", &mut one).unwrap();
        assert_eq!(one, [1.5]);
        let mut three = [0; 3];
        file.read_u8("u", &mut three).unwrap();
        assert_eq!(three, [7, 8, 9]);
        assert!(matches!(file.read_f32("u", &mut [0.0; 3]), Err(TensorError::Dtype { .. })));
        assert!(matches!(file.read_u8("f", &mut [0; 4]), Err(TensorError::Dtype { .. })));
    }

    #[test]
    fn hostile_headers_are_errors() {
        let deep = format!(r#"{{"__metadata__":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
        let entry = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        let headers = [
            String::new(),
            "[]".into(),
            "{".into(),
            deep,
            twice.into(),
            entry("F32", "[1]", "[0,8]"),
            entry("F32", "[18446744073709551615,18446744073709551615]", "[0,4]"),
            entry("F32", "[4611686018427387905]", "[0,4]"),
            entry("F32", "[-1]", "[0,4]"),
            entry("F32", "[1]", "[4,0]"),
            entry("F32", "[1]", "[0,18446744073709551615]"),
            entry("F32", "[0]", "[2,2]"),
            r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#.into(),
            "{\"\u{fffd}".into(),
        ];
        for json in &headers {
            assert!(open(&with_header(json, &[0; 4])).is_err(), "{json:.80}");
        }
        assert!(open(&with_header(&entry("F32", "[1]", "[0,4]"), &[0; 4])).is_ok());
        for len in [u64::MAX, MAX_HEADER + 1, 1000, 3] {
            let bytes = [&len.to_le_bytes()[..], b"{}"].concat();
            assert!(open(&bytes).is_err(), "{len}");
        }
        assert!(open(b"1234567").is_err());
        assert!(open(b"").is_err());
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        let specs: Vec<TensorSpec> = ["a", "b"]
            .iter()
            .map(|n| TensorSpec {
                name: n.to_string(),
                group: TensorGroup::Model,
                dtype: Dtype::F32,
                shape: vec![2, 3],
            })
            .collect();
        let mut bytes = header(specs.iter());
        assert_eq!(bytes.len() % 8, 0);
        bytes.extend([0; 48]);
        assert_eq!(open(&bytes).unwrap().tensors.len(), 2);
        for cut in 0..bytes.len() {
            assert!(open(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        bytes.push(0);
        assert!(open(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), len in 0u64..300) {
            let _ = open(&bytes);
            let _ = open(&[&len.to_le_bytes()[..], &bytes].concat());
        }

        #[test]
        fn an_altered_header_never_panics(at in 0usize..120, byte in any::<u8>()) {
            let json = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}}"#;
            let mut bytes = with_header(json, &[1; 12]);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(mut file) = open(&bytes) {
                for (name, entry) in file.tensors.clone() {
                    let n = entry.shape.iter().product();
                    let _ = file.read_f32(&name, &mut vec![0.0; n]);
                }
            }
        }
    }
}
