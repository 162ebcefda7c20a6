//! Plain loops.

use super::Head;
use crate::Real;

/// Writes the head's columns of `out[T,C]` and `lse[T]`.
pub fn forward<T: Real>(head: Head, qkv: &[T], out: &mut [T], lse: &mut [T]) {
    let (c, s, scale) = (head.width, head.head_width, T::of(head.scale()));
    let mut p = vec![T::default(); head.length];
    for i in 0..head.length {
        let mut max = None;
        for j in 0..=i {
            let mut dot = T::default();
            for x in 0..s {
                dot += qkv[i * 3 * c + head.q() + x] * qkv[j * 3 * c + head.k() + x];
            }
            p[j] = dot * scale;
            max = Some(max.map_or(p[j], |m| if p[j] > m { p[j] } else { m }));
        }
        let max = max.unwrap_or_default();
        let mut sum = T::default();
        p[..=i].iter().for_each(|&p| sum += (p - max).exp());
        lse[i] = max + sum.ln();
        for x in 0..s {
            let mut o = T::default();
            for j in 0..=i {
                o += (p[j] - lse[i]).exp() * qkv[j * 3 * c + head.v() + x];
            }
            out[i * c + head.q() + x] = o;
        }
    }
}

/// Writes the head's columns of `dqkv[T,3C]` from `dout[T,C]`.
pub fn backward<T: Real>(head: Head, qkv: &[T], out: &[T], lse: &[T], dout: &[T], dqkv: &mut [T]) {
    let (c, s, scale) = (head.width, head.head_width, T::of(head.scale()));
    for i in 0..head.length {
        for x in 0..s {
            for part in [head.q(), head.k(), head.v()] {
                dqkv[i * 3 * c + part + x] = T::default();
            }
        }
    }
    for i in 0..head.length {
        let mut d = T::default();
        for x in 0..s {
            d += dout[i * c + head.q() + x] * out[i * c + head.q() + x];
        }
        for j in 0..=i {
            let (mut dot, mut dp) = (T::default(), T::default());
            for x in 0..s {
                dot += qkv[i * 3 * c + head.q() + x] * qkv[j * 3 * c + head.k() + x];
                dp += dout[i * c + head.q() + x] * qkv[j * 3 * c + head.v() + x];
            }
            let p = (dot * scale - lse[i]).exp();
            let ds = p * (dp - d) * scale;
            for x in 0..s {
                dqkv[j * 3 * c + head.v() + x] += p * dout[i * c + head.q() + x];
                dqkv[i * 3 * c + head.q() + x] += ds * qkv[j * 3 * c + head.k() + x];
                dqkv[j * 3 * c + head.k() + x] += ds * qkv[i * 3 * c + head.q() + x];
            }
        }
    }
}
