//! Random crops and flips, as pre-training sees its pictures: each a function of a key.

use isoflop_base::bits::mix;
use isoflop_base::fewshot::Augment;

/// Ratios of width to height of a crop, as torchvision's `RandomResizedCrop` has them.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// Draws after a key, evenly from 0 to 1.
struct Draws {
    key: u64,
    drawn: u64,
}

impl Draws {
    fn next(&mut self) -> f64 {
        self.drawn += 1;
        (mix(self.key ^ mix(self.drawn)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Replaces a picture `[side,side,channels]` by a crop of it, resized to the whole (bilinear), and perhaps its mirror
/// image. `spare` holds the picture meanwhile.
pub fn augment(
    picture: &mut [f32],
    (side, channels): (usize, usize),
    how: &Augment,
    key: u64,
    spare: &mut Vec<f32>,
) {
    let mut draws = Draws { key, drawn: 0 };
    let flipped = how.flip && draws.next() < 0.5;
    if how.crop >= 1.0 && !flipped {
        return;
    }
    let whole = side as f64;
    let (mut left, mut top, mut width, mut height) = (0.0, 0.0, whole, whole);
    if how.crop < 1.0 {
        let area = (how.crop + (1.0 - how.crop) * draws.next()) * whole * whole;
        let (low, high) = (libm::log(RATIO.0), libm::log(RATIO.1));
        let ratio = libm::exp(low + (high - low) * draws.next());
        width = libm::sqrt(area * ratio).min(whole);
        height = libm::sqrt(area / ratio).min(whole);
        left = (whole - width) * draws.next();
        top = (whole - height) * draws.next();
    }
    spare.clear();
    spare.extend_from_slice(picture);
    // Centres of pixels, as every resize in use has them; beyond the edge lies the edge.
    let place = |out: usize, from: f64, length: f64| {
        let at = (from + (out as f64 + 0.5) * length / whole - 0.5).clamp(0.0, whole - 1.0);
        let low = at as usize;
        (low, (low + 1).min(side - 1), (at - low as f64) as f32)
    };
    for y in 0..side {
        let (y0, y1, v) = place(y, top, height);
        for x in 0..side {
            let (x0, x1, u) = place(if flipped { side - 1 - x } else { x }, left, width);
            for c in 0..channels {
                let at = |y: usize, x: usize| spare[(y * side + x) * channels + c];
                let above = at(y0, x0) + u * (at(y0, x1) - at(y0, x0));
                let below = at(y1, x0) + u * (at(y1, x1) - at(y1, x0));
                picture[(y * side + x) * channels + c] = above + v * (below - above);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(side: usize) -> Vec<f32> {
        (0..side * side).map(|i| (i % side) as f32 / (side - 1) as f32).collect()
    }

    #[test]
    fn nothing_asked_for_changes_nothing_and_a_flip_is_a_mirror() {
        let (before, mut spare) = (ramp(8), Vec::new());
        let mut picture = before.clone();
        augment(&mut picture, (8, 1), &Augment::NONE, 3, &mut spare);
        assert_eq!(picture, before);
        let flip = Augment { crop: 1.0, flip: true };
        let mirrored: Vec<f32> = before.iter().map(|x| 1.0 - x).collect();
        let mut seen = [0, 0];
        for key in 0..64 {
            let mut picture = before.clone();
            augment(&mut picture, (8, 1), &flip, key, &mut spare);
            let turned = picture != before;
            assert!(!turned || picture.iter().zip(&mirrored).all(|(a, b)| (a - b).abs() < 1e-6));
            seen[usize::from(turned)] += 1;
        }
        assert!(seen.iter().all(|n| *n > 16), "{seen:?}");
    }

    #[test]
    fn a_crop_is_a_part_stretched_and_a_function_of_its_key() {
        let how = Augment { crop: 0.3, flip: false };
        let crop = |key| {
            let (mut picture, mut spare) = (ramp(28), Vec::new());
            augment(&mut picture, (28, 1), &how, key, &mut spare);
            picture
        };
        let mut spans = Vec::new();
        for key in 0..200 {
            let picture = crop(key);
            assert_eq!(picture, crop(key));
            let row = &picture[28 * 9..28 * 10];
            assert!(row.windows(2).all(|w| w[1] >= w[0]), "a ramp stays a ramp");
            assert!(row.iter().all(|x| (0.0..=1.0).contains(x)));
            spans.push(row[27] - row[0]);
        }
        let (least, most) = spans.iter().fold((1f32, 0f32), |(a, b), s| (a.min(*s), b.max(*s)));
        assert!(least < 0.6 && most > 0.9, "{least} to {most}");
    }
}
