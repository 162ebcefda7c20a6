//! Smaller and larger pictures: the bilinear filter, widened when a picture shrinks so that no pixel is left out, as
//! Pillow and torchvision resize. Columns first, then rows, rounded to bytes between.

use super::decode::Decoded;
use std::ops::Range;

/// For one pixel out: which pixels in, and the weight of each.
struct Tap {
    from: Range<usize>,
    weights: Vec<f32>,
}

/// The taps of `size` pixels cut from `0..whole` after `length` pixels were brought to `whole`, the middle ones.
fn taps(length: usize, whole: usize, size: usize) -> Vec<Tap> {
    let scale = length as f64 / whole as f64;
    // A triangle of half-width 1 in pixels out, or in pixels in, whichever is wider.
    let radius = scale.max(1.0);
    // torchvision's centre crop.
    let first = ((whole - size) as f64 / 2.0).round_ties_even() as usize;
    let tap = |out: usize| {
        let centre = (out as f64 + 0.5) * scale;
        let start = ((centre - radius + 0.5).floor().max(0.0)) as usize;
        let end = ((centre + radius + 0.5).floor() as usize).min(length);
        let weight = |i: usize| (1.0 - ((i as f64 + 0.5 - centre) / radius).abs()).max(0.0);
        let sum: f64 = (start..end).map(weight).sum();
        Tap { from: start..end, weights: (start..end).map(|i| (weight(i) / sum) as f32).collect() }
    };
    (first..first + size).map(tap).collect()
}

/// The middle `size × size` pixels of the picture whose shorter side became `short`.
pub(super) fn resize_and_crop(picture: &Decoded, short: usize, size: usize, out: &mut Vec<u8>) {
    let (w, h, c) = (picture.width, picture.height, picture.channels);
    assert!(size > 0 && size <= short);
    // The longer side rounded down, as torchvision does.
    let long = |other: usize, shorter: usize| (short * other / shorter).max(short);
    let (whole_w, whole_h) = if w <= h { (short, long(h, w)) } else { (long(w, h), short) };
    let (columns, rows) = (taps(w, whole_w, size), taps(h, whole_h, size));
    let used = rows.iter().map(|t| t.from.start).min().unwrap_or(0)
        ..rows.iter().map(|t| t.from.end).max().unwrap_or(0);
    let round = |x: f32| (x + 0.5) as u8;
    let mut across = Vec::with_capacity(used.len() * size * c);
    for y in used.clone() {
        let row = &picture.pixels[y * w * c..(y + 1) * w * c];
        for (tap, channel) in columns.iter().flat_map(|tap| (0..c).map(move |channel| (tap, channel))) {
            let pixels = row[tap.from.start * c + channel..].iter().step_by(c);
            across.push(round(pixels.zip(&tap.weights).map(|(&x, w)| f32::from(x) * w).sum()));
        }
    }
    out.clear();
    for tap in &rows {
        for i in 0..size * c {
            let at = |y: usize| f32::from(across[(y - used.start) * size * c + i]);
            out.push(round(tap.from.clone().zip(&tap.weights).map(|(y, w)| at(y) * w).sum()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(
        width: usize,
        height: usize,
        channels: usize,
        f: impl Fn(usize, usize, usize) -> u8,
    ) -> Decoded {
        let at = |i: usize| f(i / channels % width, i / channels / width, i % channels);
        Decoded { width, height, channels, pixels: (0..width * height * channels).map(at).collect() }
    }

    fn resized(of: &Decoded, short: usize, size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        resize_and_crop(of, short, size, &mut out);
        out
    }

    proptest! {
        #[test]
        fn one_colour_stays_and_sizes_are_right(
            w in 1usize..60, h in 1usize..60, short in 1usize..40, cut in 0usize..40, colour in any::<[u8; 3]>(),
        ) {
            let size = short - cut.min(short - 1);
            let out = resized(&picture(w, h, 3, |_, _, channel| colour[channel]), short, size);
            prop_assert_eq!(out.len(), size * size * 3);
            prop_assert!(out.chunks_exact(3).all(|pixel| pixel == colour));
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let of = picture(7, 7, 1, |x, y, _| (x * 31 + y * 17) as u8);
        assert_eq!(resized(&of, 7, 7), of.pixels);
        // The middle of it.
        assert_eq!(resized(&of, 7, 3)[0], of.pixels[2 * 7 + 2]);
        // The middle of a wide one.
        let wide = picture(9, 5, 1, |x, y, _| (x * 20 + y) as u8);
        assert_eq!(resized(&wide, 5, 5)[0], wide.pixels[2]);
    }

    /// Halving weighs four pixels 1/8, 3/8, 3/8, 1/8.
    #[test]
    fn halving_weighs_four_pixels() {
        let of = picture(8, 8, 1, |x, _, _| if x == 3 { 160 } else { 0 });
        assert_eq!(resized(&of, 4, 4)[..4], [0, 60, 20, 0]);
    }
}
