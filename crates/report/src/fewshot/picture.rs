//! A picture as PNG in a data URI, so that the page fetches nothing.
//!
//! The PNG holds its pixels uncompressed (stored blocks of RFC 1951 in the zlib stream of RFC 1950): pictures of
//! few-shot learning are small, and a page stays under its size by drawing them no larger than their share of it.

use super::input::Drawing;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Pixels of a picture, row by row, channels together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) side: usize,
    pub(super) channels: usize,
    pub(super) bytes: Vec<u8>,
}

/// The pixels of a drawing, or `None` when its text is not what it should be.
pub(super) fn pixels(drawing: &Drawing) -> Option<Pixels> {
    let Drawing { side, channels, hex } = drawing;
    let expected = side.checked_mul(*side)?.checked_mul(*channels)?;
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|d| expected > 0 && *channels <= 4 && d.len() == 2 * expected)?;
    let bytes = digits.chunks_exact(2).map(|pair| 16 * pair[0] + pair[1]).collect();
    Some(Pixels { side: *side, channels: *channels, bytes })
}

impl Pixels {
    /// At most `side` pixels a side, each the mean of those it stands for.
    pub(super) fn within(self, side: usize) -> Self {
        let (from, to, channels) = (self.side, side.max(1), self.channels);
        if from <= to {
            return self;
        }
        let edge = |i: usize| i * from / to;
        let mut bytes = Vec::with_capacity(to * to * channels);
        for row in 0..to {
            for column in 0..to {
                for channel in 0..channels {
                    let (rows, columns) = (edge(row)..edge(row + 1), edge(column)..edge(column + 1));
                    let count = (rows.len() * columns.len()) as u64;
                    let cells =
                        rows.flat_map(|y| columns.clone().map(move |x| (y * from + x) * channels + channel));
                    let sum: u64 = cells.map(|at| u64::from(self.bytes[at])).sum();
                    bytes.push(((sum + count / 2) / count) as u8);
                }
            }
        }
        Self { side: to, channels, bytes }
    }

    /// Whether it is ink of one channel on an empty ground: its outermost pixels are nearly all 0.
    pub(super) fn is_ink(&self) -> bool {
        let last = self.side - 1;
        let border = (0..self.side).flat_map(|i| [(0, i), (last, i), (i, 0), (i, last)]);
        let lit = border.filter(|(y, x)| self.channels == 1 && self.bytes[y * self.side + x] > 8).count();
        self.channels == 1 && lit * 4 < self.side * 4
    }

    /// `data:image/png;base64,…`
    pub(super) fn data_uri(&self) -> String {
        format!("data:image/png;base64,{}", base64(&self.png()))
    }

    /// The file: 8 bits a channel; grey, grey and alpha, RGB or RGBA.
    pub(super) fn png(&self) -> Vec<u8> {
        let colour = [0, 4, 2, 6][self.channels - 1];
        let side = (self.side as u32).to_be_bytes();
        let header = [&side[..], &side[..], &[8, colour, 0, 0, 0]].concat();
        let stride = self.side * self.channels;
        // Each row begins with its filter: none.
        let rows: Vec<u8> = self
            .bytes
            .chunks_exact(stride)
            .flat_map(|row| std::iter::once(0).chain(row.iter().copied()))
            .collect();
        let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut out, b"IHDR", &header);
        chunk(&mut out, b"IDAT", &stored(&rows));
        chunk(&mut out, b"IEND", &[]);
        out
    }
}

fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], body: &[u8]) {
    out.extend((body.len() as u32).to_be_bytes());
    let start = out.len();
    out.extend(kind);
    out.extend(body);
    let sum = crc32(&out[start..]);
    out.extend(sum.to_be_bytes());
}

/// A zlib stream of stored blocks.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = bytes.chunks(65_535);
    let count = blocks.len();
    for (i, block) in blocks.enumerate() {
        out.push(u8::from(i + 1 == count));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(block);
    }
    out.extend(adler32(bytes).to_be_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |s, _| (s >> 1) ^ if s & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |w, i| w << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(side: usize, channels: usize, hex: &str) -> Drawing {
        Drawing { side, channels, hex: hex.to_owned() }
    }

    #[test]
    fn sums_and_base64_are_those_of_their_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        for (text, want) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), want);
        }
    }

    #[test]
    fn a_picture_keeps_its_pixels_and_a_large_one_is_averaged() {
        let four = pixels(&drawing(2, 1, "00ff8040")).unwrap();
        assert_eq!(four.bytes, [0, 255, 128, 64]);
        assert_eq!(four.clone().within(1).bytes, [112]);
        let png = four.png();
        let data = png.windows(4).position(|w| w == b"IDAT").unwrap() + 4;
        // Two bytes of zlib, five of the block, then filter and pixels of both rows.
        assert_eq!(&png[data + 7..data + 13], [0, 0, 255, 0, 128, 64]);
        let colour = pixels(&drawing(2, 3, "ff0000ff0000ff0000ff0000")).unwrap().within(1);
        assert_eq!((colour.side, colour.channels, colour.bytes), (1, 3, vec![255, 0, 0]));
    }

    #[test]
    fn what_is_no_picture_is_none() {
        for bad in [
            drawing(2, 1, "00ff80"),
            drawing(2, 1, "00ff80zz"),
            drawing(0, 1, ""),
            drawing(usize::MAX, 3, "00"),
            drawing(1, 5, "0000000000"),
            drawing(1, 1, "é"),
        ] {
            assert_eq!(pixels(&bad), None, "{bad:?}");
        }
    }
}
