//! Where each tensor lies in a flat buffer, under PyTorch's name and shape; and how PyTorch's order becomes ours.
//!
//! Products read weights as `[in, out]`, windows as `[s,s,I,O]`; PyTorch keeps `[out, in]` and `[O,I,s,s]`.

use crate::init::{mix, normal};

/// Tensors start at multiples of this many elements: one cache line.
const ALIGN: usize = 16;

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// Zeros: biases.
    Zero,
    /// Ones: weights of norms.
    One,
    /// Normal with this standard deviation.
    Normal(f64),
}

/// How PyTorch's order lies in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As it is.
    AsIs,
    /// `[O,I,s,s]` as `[s,s,I,O]`.
    Window,
    /// `[out,in]` as `[in,out]`.
    Transposed,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// PyTorch's name.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// First element in a flat buffer.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
    /// How it starts.
    pub start: Start,
    /// How its elements lie in a flat buffer.
    pub order: Order,
}

impl Parameter {
    /// Its range in a flat buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }

    /// Where element `index` of PyTorch's tensor lies in ours.
    fn place(&self, index: usize) -> usize {
        match self.order {
            Order::AsIs => index,
            Order::Window => {
                let (o, taps) = (self.shape[0], self.shape[2] * self.shape[3]);
                let i = self.shape[1];
                let (out, rest) = (index / (i * taps), index % (i * taps));
                (rest % taps * i + rest / taps) * o + out
            }
            Order::Transposed => index % self.shape[1] * self.shape[0] + index / self.shape[1],
        }
    }

    /// From our order to PyTorch's.
    pub fn to_torch<T: Copy>(&self, ours: &[T], torch: &mut [T]) {
        assert!(ours.len() == self.len && torch.len() == self.len);
        torch.iter_mut().enumerate().for_each(|(index, out)| *out = ours[self.place(index)]);
    }

    /// From PyTorch's order to ours.
    pub fn from_torch<T: Copy>(&self, torch: &[T], ours: &mut [T]) {
        assert!(ours.len() == self.len && torch.len() == self.len);
        torch.iter().enumerate().for_each(|(index, &value)| ours[self.place(index)] = value);
    }
}

/// All tensors of a network or a head.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// In the order of the flat buffers.
    pub tensors: Vec<Parameter>,
    /// Elements of a flat buffer, padding included.
    pub len: usize,
}

impl Parameters {
    /// Appends a tensor and returns its number.
    pub(crate) fn add(&mut self, name: String, shape: &[usize], start: Start, order: Order) -> usize {
        let len = shape.iter().product();
        self.tensors.push(Parameter { name, shape: shape.to_vec(), offset: self.len, len, start, order });
        self.len = (self.len + len).next_multiple_of(ALIGN);
        self.tensors.len() - 1
    }

    /// Parameters, padding not counted.
    pub fn count(&self) -> u64 {
        self.tensors.iter().map(|t| t.len as u64).sum()
    }

    /// Tensor `index` inside a flat buffer.
    pub fn of<'a, T>(&self, buffer: &'a [T], index: usize) -> &'a [T] {
        &buffer[self.tensors[index].range()]
    }

    /// Tensor `index` inside a flat buffer.
    pub fn of_mut<'a, T>(&self, buffer: &'a mut [T], index: usize) -> &'a mut [T] {
        &mut buffer[self.tensors[index].range()]
    }

    /// Fills a flat buffer: a function of (seed, tensor, element).
    pub fn start(&self, seed: u64, buffer: &mut [f32]) {
        for (number, tensor) in self.tensors.iter().enumerate() {
            let key = mix(seed ^ mix(number as u64 + 1));
            let out = &mut buffer[tensor.range()];
            match tensor.start {
                Start::Zero => out.fill(0.0),
                Start::One => out.fill(1.0),
                Start::Normal(std) => {
                    for (i, w) in out.iter_mut().enumerate() {
                        *w = (std * normal(key, i as u64)) as f32;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_pytorchs_and_back() {
        let mut all = Parameters::default();
        all.add("w".into(), &[2, 3, 1, 2], Start::Zero, Order::Window);
        all.add("l".into(), &[2, 3], Start::Zero, Order::Transposed);
        assert_eq!((all.tensors[1].offset, all.len, all.count()), (16, 32, 18));
        // w[o,i,0,b] = 6o + 2i + b lies at [0,b,i,o] = 6b + 2i + o.
        let window: Vec<usize> = (0..12).collect();
        let mut ours = vec![99; 12];
        all.tensors[0].from_torch(&window, &mut ours);
        for (o, i, b) in (0..2).flat_map(|o| (0..3).flat_map(move |i| (0..2).map(move |b| (o, i, b)))) {
            assert_eq!(ours[6 * b + 2 * i + o], 6 * o + 2 * i + b);
        }
        let mut back = vec![99; 12];
        all.tensors[0].to_torch(&ours, &mut back);
        assert_eq!(back, window);
        let mut turned = vec![9; 6];
        all.tensors[1].from_torch(&[0, 1, 2, 3, 4, 5], &mut turned);
        assert_eq!(turned, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn starts_depend_on_seed_and_tensor() {
        let mut all = Parameters::default();
        for name in ["a", "b"] {
            all.add(name.into(), &[50, 40], Start::Normal(0.3), Order::Transposed);
        }
        let make = |seed| {
            let mut buffer = vec![0f32; all.len];
            all.start(seed, &mut buffer);
            buffer
        };
        let first = make(1);
        assert!(first == make(1) && first != make(2) && all.of(&first, 0) != all.of(&first, 1));
        let square = all.of(&first, 0).iter().map(|&x| f64::from(x * x)).sum::<f64>() / 2000.0;
        assert!((square.sqrt() / 0.3 - 1.0).abs() < 0.06);
    }
}
