//! PNG, JPEG and SVG as rows of bytes. For photographs the crates are `png` and `zune-jpeg`, which the `image` crate
//! itself decodes with: these two alone, since nothing else of it is wanted.

use crate::DataError;
use std::io::Cursor;
use std::path::Path;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Most pixels of a picture: what claims to be larger is no photograph, and would exhaust memory.
const MOST_PIXELS: usize = 1 << 28;

/// A picture as it was stored: `pixels[height,width,channels]`, 1 grey, 2 with alpha, 3 colour, 4 with alpha.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) pixels: Vec<u8>,
}

/// What `bytes`, the content of `path`, show; which of the formats the content says, not the name. A drawing has no
/// size of its own: it is laid whole into a square of `side` pixels.
pub(super) fn decode(path: &Path, bytes: &[u8], side: usize) -> Result<Decoded, DataError> {
    let unreadable =
        |what: String, hint: &str| DataError::Image { path: path.to_owned(), what, hint: hint.to_owned() };
    let damaged = "the file is damaged or was not copied whole; replace it or take it out";
    let decoded = match bytes {
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes),
        [0xff, 0xd8, ..] => decode_jpeg(bytes),
        [] => return Err(unreadable("the file is empty".into(), damaged)),
        _ if is_markup(bytes) => super::svg::render(bytes, side),
        _ => return Err(unreadable("neither PNG, JPEG nor SVG".into(), "convert it to one of them")),
    };
    decoded.map_err(|what| unreadable(what, damaged))
}

/// Whether text begins as XML does, after what may stand before it.
fn is_markup(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    text.trim_ascii_start().starts_with(b"<")
}

fn checked(width: usize, height: usize) -> Result<(), String> {
    if width == 0 || height == 0 || width.saturating_mul(height) > MOST_PIXELS {
        return Err(format!("it claims to have {width} × {height} pixels"));
    }
    Ok(())
}

fn decode_png(bytes: &[u8]) -> Result<Decoded, String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // 16 bits and palettes to 8 bits a channel.
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    checked(width, height)?;
    let size = reader.output_buffer_size().ok_or("it is too large")?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(|e| e.to_string())?;
    pixels.truncate(frame.buffer_size());
    Ok(Decoded { width, height, channels: frame.color_type.samples(), pixels })
}

fn decode_jpeg(bytes: &[u8]) -> Result<Decoded, String> {
    let mut decoder = zune_jpeg::JpegDecoder::new(ZCursor::new(bytes));
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let info = decoder.info().ok_or("it has no header")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    checked(width, height)?;
    let grey = info.components == 1;
    let space = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(DecoderOptions::default().jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    let channels = if grey { 1 } else { 3 };
    if pixels.len() != width * height * channels {
        return Err(format!("{} bytes of pixels for {width} × {height}", pixels.len()));
    }
    Ok(Decoded { width, height, channels, pixels })
}

impl Decoded {
    /// The picture in `channels` channels: alpha laid over white, colour to grey as ITU-R 601 weighs it, grey to
    /// colour by repeating.
    pub(super) fn convert(self, channels: usize) -> Self {
        if self.channels == channels {
            return self;
        }
        let alpha = self.channels.is_multiple_of(2);
        let colours = self.channels - usize::from(alpha);
        let mut pixels = Vec::with_capacity(self.width * self.height * channels);
        for pixel in self.pixels.chunks_exact(self.channels) {
            let opaque = if alpha { u32::from(pixel[colours]) } else { 255 };
            let over = |x: u8| (u32::from(x) * opaque + 255 * (255 - opaque) + 127) / 255;
            let mut rgb = [0; 3];
            for (i, out) in rgb.iter_mut().enumerate() {
                *out = over(pixel[i.min(colours - 1)]);
            }
            match channels {
                // Pillow's integers.
                1 => pixels.push(((rgb[0] * 19_595 + rgb[1] * 38_470 + rgb[2] * 7_471 + 0x8000) >> 16) as u8),
                _ => pixels.extend(rgb.map(|x| x as u8)),
            }
        }
        Self { channels, pixels, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_converted() {
        let of = |channels: usize, pixels: &[u8]| Decoded {
            width: 1,
            height: 1,
            channels,
            pixels: pixels.to_vec(),
        };
        assert_eq!(of(1, &[7]).convert(3).pixels, [7, 7, 7]);
        assert_eq!(of(3, &[255, 255, 255]).convert(1).pixels, [255]);
        assert_eq!(of(3, &[255, 0, 0]).convert(1).pixels, [76]);
        assert_eq!(of(4, &[10, 20, 30, 0]).convert(3).pixels, [255, 255, 255]);
        assert_eq!(of(4, &[10, 20, 30, 255]).convert(3).pixels, [10, 20, 30]);
        assert_eq!(of(2, &[0, 127]).convert(1).pixels, [128]);
    }
}
