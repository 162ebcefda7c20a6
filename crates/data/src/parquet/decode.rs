//! Encodings of values inside of a page: plain, run lengths mixed with packed bits, deltas, split bytes. Each takes
//! what it is told to expect at most, so that a damaged length ends in an error and not in memory.

use super::Fault;

const SHORT: Fault = Fault::Damaged("a page holds fewer bytes than its values need");

/// The next `count` bytes of `at`.
pub(super) fn take<'a>(at: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    if count > at.len() {
        return Err(SHORT);
    }
    let (head, rest) = at.split_at(count);
    *at = rest;
    Ok(head)
}

pub(super) fn u32_le(at: &mut &[u8]) -> Result<usize, Fault> {
    let b = take(at, 4)?;
    Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
}

fn varint(at: &mut &[u8]) -> Result<u64, Fault> {
    let mut out = 0u64;
    for shift in (0..64).step_by(7) {
        let b = take(at, 1)?[0];
        out |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            return Ok(out);
        }
    }
    Err(Fault::Damaged("a number in a page does not end"))
}

fn zigzag(at: &mut &[u8]) -> Result<i64, Fault> {
    let v = varint(at)?;
    Ok((v >> 1) as i64 ^ -((v & 1) as i64))
}

/// Bits, lowest first; `width` of them as a number.
fn bits(bytes: &[u8], index: usize, width: u32) -> u64 {
    let mut out = 0u64;
    let start = index * width as usize;
    for k in 0..width as usize {
        let bit = start + k;
        let byte = bytes.get(bit / 8).copied().unwrap_or(0);
        out |= u64::from(byte >> (bit % 8) & 1) << k;
    }
    out
}

/// `count` numbers of `width` bits in runs of equal values and groups of eight packed ones.
pub(super) fn hybrid(at: &mut &[u8], width: u32, count: usize) -> Result<Vec<u64>, Fault> {
    if width > 32 {
        return Err(Fault::Damaged("an index is wider than 32 bits"));
    }
    let mut out = Vec::new();
    if width == 0 {
        out.resize(count, 0);
        return Ok(out);
    }
    while out.len() < count {
        let head = varint(at)?;
        let left = count - out.len();
        if head & 1 == 0 {
            let value = take(at, width.div_ceil(8) as usize)?;
            let value = value.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
            let run = usize::try_from(head >> 1).unwrap_or(usize::MAX).min(left);
            if run == 0 {
                return Err(Fault::Damaged("a run of no values"));
            }
            out.resize(out.len() + run, value);
        } else {
            let groups = usize::try_from(head >> 1).unwrap_or(usize::MAX);
            if groups == 0 {
                return Err(Fault::Damaged("a run of no values"));
            }
            let whole = groups.saturating_mul(width as usize);
            // The last group of a page may be cut after its last value.
            let wanted = left.min(groups.saturating_mul(8));
            let needed = (wanted * width as usize).div_ceil(8);
            if needed > at.len() {
                return Err(SHORT);
            }
            let packed = take(at, whole.min(at.len()))?;
            out.extend((0..wanted).map(|i| bits(packed, i, width)));
        }
    }
    Ok(out)
}

/// Numbers as differences in blocks of packed bits (`DELTA_BINARY_PACKED`).
pub(super) fn delta(at: &mut &[u8], most: usize) -> Result<Vec<i64>, Fault> {
    let block = varint(at)?;
    let minis = varint(at)?;
    let total = usize::try_from(varint(at)?).unwrap_or(usize::MAX);
    let first = zigzag(at)?;
    if total > most {
        return Err(Fault::Damaged("a page holds more values than it says"));
    }
    let mut out = Vec::new();
    if total == 0 {
        return Ok(out);
    }
    out.push(first);
    let per_mini = block.checked_div(minis).filter(|n| *n > 0 && n % 8 == 0 && *n <= 1 << 20 && minis <= 512);
    let Some(per_mini) = per_mini.map(|n| n as usize) else {
        return if total == 1 { Ok(out) } else { Err(Fault::Damaged("a block of differences has no size")) };
    };
    let mut last = first;
    while out.len() < total {
        let least = zigzag(at)?;
        let widths = take(at, minis as usize)?;
        for width in widths {
            if out.len() >= total {
                break;
            }
            let width = u32::from(*width);
            if width > 64 {
                return Err(Fault::Damaged("a difference is wider than 64 bits"));
            }
            let wanted = per_mini.min(total - out.len());
            let needed = (wanted * width as usize).div_ceil(8);
            let whole = per_mini * width as usize / 8;
            if needed > at.len() {
                return Err(SHORT);
            }
            let packed = take(at, whole.min(at.len()))?;
            for i in 0..wanted {
                last = last.wrapping_add(least).wrapping_add(bits(packed, i, width) as i64);
                out.push(last);
            }
        }
    }
    Ok(out)
}

/// Texts with a length each before them.
pub(super) fn plain_bytes<'a>(at: &mut &'a [u8], count: usize) -> Result<Vec<&'a [u8]>, Fault> {
    let mut out = Vec::new();
    for _ in 0..count {
        let length = u32_le(at)?;
        out.push(take(at, length)?);
    }
    Ok(out)
}

/// Texts after all their lengths (`DELTA_LENGTH_BYTE_ARRAY`).
pub(super) fn delta_length<'a>(at: &mut &'a [u8], count: usize) -> Result<Vec<&'a [u8]>, Fault> {
    let lengths = delta(at, count)?;
    lengths.into_iter().map(|n| take(at, usize::try_from(n).map_err(|_| SHORT)?)).collect()
}

/// Texts as what they share with the one before, and what follows (`DELTA_BYTE_ARRAY`).
pub(super) fn delta_bytes(at: &mut &[u8], count: usize) -> Result<Vec<Vec<u8>>, Fault> {
    /// Sharing makes long texts of few bytes: more than this is damage.
    const MOST: usize = 64 << 20;
    let shared = delta(at, count)?;
    let rest = delta_length(at, count)?;
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut total = 0;
    for (shared, rest) in shared.into_iter().zip(rest) {
        let before: &[u8] = out.last().map_or(&[], Vec::as_slice);
        let shared = usize::try_from(shared).ok().and_then(|n| before.get(..n)).ok_or(SHORT)?;
        total += shared.len() + rest.len();
        if total > MOST {
            return Err(Fault::TooLarge);
        }
        out.push([shared, rest].concat());
    }
    Ok(out)
}

/// Values of `width` bytes whose first bytes come first, then all second bytes (`BYTE_STREAM_SPLIT`): back in order.
pub(super) fn unsplit(at: &mut &[u8], width: usize, count: usize) -> Result<Vec<u8>, Fault> {
    let bytes = take(at, width.checked_mul(count).ok_or(SHORT)?)?;
    Ok((0..bytes.len()).map(|i| bytes[i % width * count + i / width]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_format_are_read() {
        // From the description of the encodings: 0 to 7 in three bits each.
        let packed = [0b0000_0011, 0x88, 0xc6, 0xfa];
        assert_eq!(hybrid(&mut &packed[..], 3, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(hybrid(&mut &[20, 7][..], 3, 10).unwrap(), [7; 10]);
        // 7, 5, 3, 1, 2, 3, 4, 5 as differences: −2 is the least, the rest packed in two bits.
        let deltas = [128, 1, 4, 8, 14, 3, 2, 0, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0, 0, 0];
        assert_eq!(delta(&mut &deltas[..], 8).unwrap(), [7, 5, 3, 1, 2, 3, 4, 5]);
        assert_eq!(unsplit(&mut &[1, 3, 5, 2, 4, 6][..], 2, 3).unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        assert!(hybrid(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..], 8, 100).is_err());
        assert!(hybrid(&mut &[0, 1][..], 8, 100).is_err());
        assert!(delta(&mut &[128, 1, 4, 0xff, 0xff, 0xff, 0xff, 0x0f, 0][..], 100).is_err());
        assert!(plain_bytes(&mut &[0xff, 0xff, 0xff, 0x7f, 1][..], 1).is_err());
    }
}
