//! Compressed files, recognised by their first bytes: gzip and Zstandard are read, others named.

use crate::DataError;
use std::io::Read;

/// Most bytes that come out: no table or text that is read into memory is larger, and a few kilobytes can claim to be.
const MOST: u64 = 8 << 30;

/// Formats by their first bytes that are not read, and what turns them into one that is.
const NAMED: [(&[u8], &str, &str); 3] = [
    (b"BZh", "bzip2", "decompress it first: bunzip2"),
    (b"\xfd7zXZ\0", "xz", "decompress it first: unxz"),
    (b"\x04\x22\x4d\x18", "LZ4", "decompress it first: unlz4"),
];

/// What is in a file that may be compressed; `name` is for messages.
///
/// # Errors
/// Compressed in a way that is not read here, or damaged.
pub fn unpacked(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, DataError> {
    let fail =
        |what: String, hint: &'static str| DataError::Compressed { source_name: name.to_owned(), what, hint };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let damaged =
            |e: std::io::Error| fail(e.to_string(), "the file is damaged or not gzip; test it with gzip -t");
        return read_all(flate2::read::MultiGzDecoder::new(&bytes[..])).map_err(damaged);
    }
    if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return unzstd(&bytes).map_err(|what| damaged_zstd(name, what));
    }
    match NAMED.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        Some((_, format, hint)) => Err(fail(format!("is compressed with {format}"), hint)),
        None => Ok(bytes),
    }
}

/// The error of a file that calls itself Zstandard and is not, or not whole.
pub(crate) fn damaged_zstd(name: &str, what: String) -> DataError {
    let hint = "the file is damaged or not Zstandard; test it with zstd -t";
    DataError::Compressed { source_name: name.to_owned(), what, hint }
}

/// What Zstandard frames hold: one may be followed by others (`cat a.zst b.zst`).
pub(crate) fn unzstd(compressed: &[u8]) -> Result<Vec<u8>, String> {
    let (mut out, mut rest) = (Vec::new(), compressed);
    while !rest.is_empty() {
        let decoder = ruzstd::decoding::StreamingDecoder::new(&mut rest).map_err(|e| e.to_string())?;
        out.extend(read_all(decoder).map_err(|e| e.to_string())?);
    }
    Ok(out)
}

fn read_all(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(MOST + 1).read_to_end(&mut out)?;
    if out.len() as u64 > MOST {
        return Err(std::io::Error::other("more than 8 GiB come out of it"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn compressed_files_are_read_or_named() {
        let text = b"n,loss\n1e6,3\n".to_vec();
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpacked("a", text.clone()).unwrap(), text);
        assert_eq!(unpacked("a", gzip(&text)).unwrap(), text);
        // Members one after another, as `cat a.gz b.gz` makes.
        assert_eq!(unpacked("a", [gzip(b"n,loss\n"), gzip(b"1e6,3\n")].concat()).unwrap(), text);
        let cut = &gzip(&text)[..15];
        for (bytes, word) in [
            (cut, "gzip -t"),
            (b"BZh91AY", "bunzip2"),
            (b"\xfd7zXZ\0..", "unxz"),
            (b"\x28\xb5\x2f\xfd..", "zstd -t"),
        ] {
            let error = unpacked("a", bytes.to_vec()).unwrap_err().to_string();
            assert!(error.contains("a: ") && error.contains("hint: ") && error.contains(word), "{error}");
        }
    }
}
