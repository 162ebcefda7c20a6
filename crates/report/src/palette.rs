//! Ordered colours that stay apart for colour-blind readers, in light and dark.
//!
//! Sizes run along viridis (van der Walt and Smith, CC0), token counts along a stretch of plasma. The bright ends are
//! left out on white, the dark ends on black, so that every line keeps a contrast of about 3 to its ground.

/// Which ground the colours lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    Light,
    Dark,
}

const VIRIDIS: [[u8; 3]; 11] = [
    [68, 1, 84],
    [72, 36, 117],
    [65, 68, 135],
    [53, 95, 141],
    [42, 120, 142],
    [33, 145, 140],
    [34, 168, 132],
    [68, 191, 112],
    [122, 209, 81],
    [189, 223, 38],
    [253, 231, 37],
];

const PLASMA: [[u8; 3]; 11] = [
    [13, 8, 135],
    [65, 4, 157],
    [106, 0, 168],
    [143, 13, 164],
    [177, 42, 144],
    [204, 71, 120],
    [225, 100, 98],
    [242, 132, 75],
    [252, 166, 54],
    [252, 206, 37],
    [240, 249, 33],
];

fn along(map: &[[u8; 3]; 11], t: f64) -> String {
    let x = t.clamp(0.0, 1.0) * 10.0;
    let i = (x as usize).min(9);
    let f = x - i as f64;
    let channel = |k: usize| (f64::from(map[i][k]) * (1.0 - f) + f64::from(map[i + 1][k]) * f).round() as u8;
    format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
}

fn share(index: usize, num_colours: usize) -> f64 {
    if num_colours < 2 { 0.5 } else { index as f64 / (num_colours - 1) as f64 }
}

/// Colour of size `index` of `num_sizes`, smallest first.
pub(crate) fn size(index: usize, num_sizes: usize, ground: Ground) -> String {
    let t = share(index, num_sizes);
    match ground {
        Ground::Light => along(&VIRIDIS, 0.02 + 0.78 * t),
        Ground::Dark => along(&VIRIDIS, 0.34 + 0.62 * t),
    }
}

/// Colour of token count `index` of `num_tokens`, fewest first.
pub(crate) fn tokens(index: usize, num_tokens: usize, ground: Ground) -> String {
    let t = share(index, num_tokens);
    match ground {
        Ground::Light => along(&PLASMA, 0.10 + 0.56 * t),
        Ground::Dark => along(&PLASMA, 0.42 + 0.44 * t),
    }
}

/// CSS that sets `--c` for classes `s0…` and `d0…` on the ground.
pub(crate) fn css(num_sizes: usize, num_tokens: usize, ground: Ground, scope: &str) -> String {
    let mut out = String::new();
    for i in 0..num_sizes {
        out.push_str(&format!("{scope}.s{i}{{--c:{}}}", size(i, num_sizes, ground)));
    }
    for i in 0..num_tokens {
        out.push_str(&format!("{scope}.d{i}{{--c:{}}}", tokens(i, num_tokens, ground)));
    }
    out
}
