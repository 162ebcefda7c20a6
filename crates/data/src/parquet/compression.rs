//! Compressed pages, back to bytes: Snappy (what pandas and DuckDB write), Zstandard (Polars), gzip, LZ4 in both
//! framings, Brotli.

use super::Fault;
use std::io::Read as _;

/// Most bytes of one page.
pub(super) const MOST_PAGE: usize = 256 << 20;

/// The bytes of a page under codec number `codec` of the format; `size` is what they must come to.
pub(super) fn decompress(codec: i64, bytes: &[u8], size: usize) -> Result<Vec<u8>, Fault> {
    const BAD: Fault = Fault::Damaged("a page does not decompress");
    if size > MOST_PAGE {
        return Err(Fault::TooLarge);
    }
    let out = match codec {
        0 => bytes.to_vec(),
        1 => {
            if snap::raw::decompress_len(bytes).ok() != Some(size) {
                return Err(BAD);
            }
            snap::raw::Decoder::new().decompress_vec(bytes).map_err(|_| BAD)?
        }
        2 => read_to(flate2::read::MultiGzDecoder::new(bytes), size).ok_or(BAD)?,
        6 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|_| BAD)?;
            read_to(decoder, size).ok_or(BAD)?
        }
        7 => lz4_block(bytes, size).ok_or(BAD)?,
        3 => return Err(Fault::Unsupported("LZO compression".to_owned())),
        4 => read_to(brotli_decompressor::Decompressor::new(bytes, 4096), size).ok_or(BAD)?,
        5 => hadoop_lz4(bytes, size).or_else(|| lz4_block(bytes, size)).ok_or(BAD)?,
        other => return Err(Fault::Unsupported(format!("compression number {other}"))),
    };
    if out.len() == size { Ok(out) } else { Err(BAD) }
}

/// All of a stream, if it is not longer than `size`.
fn read_to(stream: impl std::io::Read, size: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    stream.take(size as u64 + 1).read_to_end(&mut out).ok()?;
    Some(out)
}

/// LZ4 as Hadoop frames it: the length of what follows unpacked, then blocks, each behind its packed length, until it
/// is reached. Spark packs a page over 256 KiB in several blocks, others each block in a frame of its own.
fn hadoop_lz4(mut bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let length = |bytes: &mut &[u8]| {
        let (length, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u32::from_be_bytes(*length) as usize)
    };
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let plain = length(&mut bytes)?;
        let end = out.len().checked_add(plain).filter(|end| *end <= size)?;
        while out.len() < end {
            let packed = length(&mut bytes)?;
            let (block, rest) = bytes.split_at_checked(packed)?;
            let block = lz4_block(block, end - out.len()).filter(|block| !block.is_empty())?;
            out.extend_from_slice(&block);
            bytes = rest;
        }
    }
    Some(out)
}

/// One LZ4 block: literals, then a copy of what came before, again and again.
fn lz4_block(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut at = bytes.iter().copied();
    let mut out: Vec<u8> = Vec::new();
    let more = |at: &mut dyn Iterator<Item = u8>, short: usize| -> Option<usize> {
        let mut length = short;
        if short == 15 {
            loop {
                let b = at.next()?;
                length = length.checked_add(usize::from(b))?;
                if b != 255 {
                    break;
                }
            }
        }
        Some(length)
    };
    while let Some(token) = at.next() {
        let literals = more(&mut at, usize::from(token >> 4))?;
        if out.len().checked_add(literals)? > size {
            return None;
        }
        for _ in 0..literals {
            out.push(at.next()?);
        }
        // The last sequence has literals only.
        let Some(low) = at.next() else { break };
        let offset = usize::from(u16::from_le_bytes([low, at.next()?]));
        let length = more(&mut at, usize::from(token & 15))?.checked_add(4)?;
        let from = out.len().checked_sub(offset).filter(|_| offset > 0)?;
        if out.len().checked_add(length)? > size {
            return None;
        }
        for i in 0..length {
            out.push(out[from + i]);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lz4_block_repeats_what_came_before() {
        // Three literals `abc`, a copy of nine bytes from three back, two literals.
        let block = [0x35, b'a', b'b', b'c', 3, 0, 0x20, b'x', b'y'];
        assert_eq!(decompress(7, &block, 14).unwrap(), b"abcabcabcabcxy");
        assert!(decompress(7, &block, 13).is_err());
        assert!(decompress(7, &[0x05, 1, 0], 5).is_err());
        assert!(decompress(3, &[], 0).unwrap_err().to_string().contains("LZO"));
        // The same behind Hadoop's lengths, and as old Arrow wrote it, without any.
        let framed = [&[0, 0, 0, 14, 0, 0, 0, 9][..], &block].concat();
        assert_eq!(decompress(5, &framed, 14).unwrap(), b"abcabcabcabcxy");
        assert_eq!(decompress(5, &block, 14).unwrap(), b"abcabcabcabcxy");
        // Two blocks in one frame, as Spark packs a large page, and one that is cut short.
        let framed = [&[0, 0, 0, 28, 0, 0, 0, 9][..], &block, &[0, 0, 0, 9], &block].concat();
        assert_eq!(decompress(5, &framed, 28).unwrap(), b"abcabcabcabcxyabcabcabcabcxy");
        assert!(decompress(5, &framed[..20], 28).is_err());
        // `echo -n abc | brotli`, in hexadecimal.
        assert_eq!(decompress(4, &[0x0b, 0x01, 0x80, b'a', b'b', b'c', 0x03], 3).unwrap(), b"abc");
        assert!(decompress(4, &[0x0b, 0x01, 0x80, b'a'], 3).is_err());
    }
}
