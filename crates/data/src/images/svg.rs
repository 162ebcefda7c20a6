//! Drawings as rows of bytes, by the crate `resvg`.

use super::decode::Decoded;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{ImageHrefResolver, Options, Tree};

/// How drawings are read: nothing they point to, on disk or elsewhere, is opened, and no font is.
fn options() -> Options<'static> {
    let resolver =
        ImageHrefResolver { resolve_data: Box::new(|_, _, _| None), resolve_string: Box::new(|_, _| None) };
    Options { image_href_resolver: resolver, ..Options::default() }
}

/// The drawing of an SVG document laid whole and in the middle into `side × side` pixels, colour with alpha.
pub(super) fn render(document: &[u8], side: usize) -> Result<Decoded, String> {
    let tree = Tree::from_data(document, &options()).map_err(|e| e.to_string())?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let scale = side as f32 / width.max(height);
    let margin = |length: f32| (side as f32 - length * scale) / 2.0;
    let place = Transform::from_row(scale, 0.0, 0.0, scale, margin(width), margin(height));
    let pixels = u32::try_from(side).ok().and_then(|side| Pixmap::new(side, side));
    let mut pixels = pixels.ok_or_else(|| format!("{side} × {side} pixels cannot be drawn"))?;
    resvg::render(&tree, place, &mut pixels.as_mut());
    // Colours come multiplied by their alpha.
    let bytes = pixels.pixels().iter().flat_map(|pixel| {
        let pixel = pixel.demultiply();
        [pixel.red(), pixel.green(), pixel.blue(), pixel.alpha()]
    });
    Ok(Decoded { width: side, height: side, channels: 4, pixels: bytes.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_lies_whole_in_the_middle_and_opens_nothing() {
        let wide = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10">
            <rect width="20" height="10" fill="#f00"/>
            <image href="/etc/hostname" width="20" height="10"/></svg>"##;
        let drawn = render(wide.as_bytes(), 8).unwrap();
        assert_eq!((drawn.width, drawn.height, drawn.channels), (8, 8, 4));
        for (i, pixel) in drawn.pixels.chunks_exact(4).enumerate() {
            let expected = if (2..6).contains(&(i / 8)) { [255, 0, 0, 255] } else { [0; 4] };
            assert_eq!(pixel, expected, "pixel {i}");
        }
        for damaged in ["<svg", "<html/>", "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"0\"/>"] {
            assert!(render(damaged.as_bytes(), 8).is_err(), "{damaged}");
        }
        assert!(render(b"<svg xmlns=\"http://www.w3.org/2000/svg\">\xff</svg>", 8).is_err());
    }
}
