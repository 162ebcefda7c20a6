//! The optimiser's moments, in f32 or in blocks of 8 bits, and how they travel to a checkpoint and back.
//!
//! `adamw8bit` keeps tensors below [`SMALL`] elements in f32 all the same: they are few bytes and move much.

use crate::Optimizer;
use crate::engine::EngineError;
use crate::layout::{FIRST_MOMENT, Layout, SECOND_MOMENT, Tensor};
use isoflop_base::tensor::{Dtype, TensorGroup, TensorSpec};
use isoflop_base::{TensorError, TensorSink, TensorSource};
use isoflop_kernels::AlignedBuffer;
use isoflop_kernels::adamw8bit::BLOCK;

/// Tensors with fewer elements keep f32 moments, as in the library bitsandbytes.
pub const SMALL: usize = 4096;

/// Where a tensor's moments lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// First element in the buffers of f32.
    F32(usize),
    /// First code, and first scale.
    Eight(usize, usize),
}

/// Lengths of the buffers, each of them twice: for first and second moments.
#[derive(Debug)]
pub struct MomentSizes {
    /// Of each tensor, in the layout's order.
    pub places: Vec<Place>,
    /// Elements in f32.
    pub wide: usize,
    /// Codes, a whole number of f32.
    pub codes: usize,
    /// Scales, one for each block of codes.
    pub scales: usize,
}

impl MomentSizes {
    /// Those of an optimiser of a model.
    pub fn new(layout: &Layout, optimizer: Optimizer) -> Self {
        let mut sizes = Self { places: Vec::new(), wide: 0, codes: 0, scales: 0 };
        if optimizer == Optimizer::AdamW {
            sizes.wide = layout.len;
            sizes.places = layout.tensors.iter().map(|t| Place::F32(t.offset)).collect();
            return sizes;
        }
        for tensor in &layout.tensors {
            if tensor.len < SMALL {
                sizes.places.push(Place::F32(sizes.wide));
                sizes.wide += tensor.len.next_multiple_of(16);
            } else {
                sizes.places.push(Place::Eight(sizes.codes, sizes.scales));
                sizes.codes += tensor.len.next_multiple_of(64);
                sizes.scales += tensor.len.div_ceil(BLOCK);
            }
        }
        sizes
    }

    /// The tensors of both moments as a checkpoint holds them.
    pub fn specs(&self, layout: &Layout) -> Vec<TensorSpec> {
        let each =
            |prefix| layout.tensors.iter().zip(&self.places).flat_map(move |(t, &p)| specs(prefix, t, p));
        [FIRST_MOMENT, SECOND_MOMENT].into_iter().flat_map(each).collect()
    }

    /// Bytes of both moments in the host's aligned buffers.
    pub fn bytes(&self) -> u64 {
        let bytes = |len: usize| AlignedBuffer::bytes(len) as u64;
        2 * (bytes(self.wide) + bytes(self.codes / 4) + bytes(self.scales))
    }
}

/// One of the two moments of every tensor.
#[derive(Debug)]
pub struct Moment {
    wide: AlignedBuffer,
    codes: AlignedBuffer,
    scales: AlignedBuffer,
    /// Begins the names of its tensors in a checkpoint.
    prefix: &'static str,
}

/// Its buffers.
#[derive(Debug)]
pub struct MomentMut<'a> {
    /// In f32.
    pub wide: &'a mut [f32],
    /// In 8 bits.
    pub codes: &'a mut [u8],
    /// What the codes of a block are multiplied with.
    pub scales: &'a mut [f32],
}

impl Moment {
    /// First and second moments, zero.
    pub fn pair(sizes: &MomentSizes) -> [Self; 2] {
        [FIRST_MOMENT, SECOND_MOMENT].map(|prefix| Self {
            wide: AlignedBuffer::zeroed(sizes.wide),
            codes: AlignedBuffer::zeroed(sizes.codes / 4),
            scales: AlignedBuffer::zeroed(sizes.scales),
            prefix,
        })
    }

    /// Its buffers.
    pub fn parts(&mut self) -> MomentMut<'_> {
        let codes = bytemuck::cast_slice_mut(&mut self.codes);
        MomentMut { wide: &mut self.wide, codes, scales: &mut self.scales }
    }

    /// Writes them in the order announced.
    ///
    /// # Errors
    /// The sink's.
    pub fn save(
        &self,
        layout: &Layout,
        sizes: &MomentSizes,
        sink: &mut dyn TensorSink,
    ) -> Result<(), EngineError> {
        let codes: &[u8] = bytemuck::cast_slice(&self.codes);
        for (tensor, &place) in layout.tensors.iter().zip(&sizes.places) {
            let name = |middle: &str| format!("{}{middle}{}", self.prefix, tensor.name);
            match place {
                Place::F32(at) => {
                    sink.write(&name(""), bytemuck::cast_slice(&self.wide[at..at + tensor.len]))?;
                }
                Place::Eight(at, scale) => {
                    sink.write(&name(CODES), &codes[at..at + tensor.len])?;
                    let scales = &self.scales[scale..scale + tensor.len.div_ceil(BLOCK)];
                    sink.write(&name(SCALES), bytemuck::cast_slice(scales))?;
                }
            }
        }
        Ok(())
    }

    /// Takes its tensors back.
    ///
    /// # Errors
    /// The source's. Moments of the other kind are one: they would not continue the same run.
    pub fn load(
        &mut self,
        layout: &Layout,
        sizes: &MomentSizes,
        source: &mut dyn TensorSource,
    ) -> Result<(), TensorError> {
        let group = TensorGroup::Optimizer;
        let codes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.codes);
        for (tensor, &place) in layout.tensors.iter().zip(&sizes.places) {
            let name = |middle: &str| format!("{}{middle}{}", self.prefix, tensor.name);
            match place {
                Place::F32(at) => {
                    source.read_f32(group, &name(""), &tensor.shape, &mut self.wide[at..at + tensor.len])?;
                }
                Place::Eight(at, scale) => {
                    source.read_u8(group, &name(CODES), &tensor.shape, &mut codes[at..at + tensor.len])?;
                    let blocks = tensor.len.div_ceil(BLOCK);
                    let scales = &mut self.scales[scale..scale + blocks];
                    source.read_f32(group, &name(SCALES), &[blocks], scales)?;
                }
            }
        }
        Ok(())
    }

    /// The state before the first step.
    pub fn clear(&mut self) {
        // A scale of zero makes every code mean zero.
        self.wide.fill(0.0);
        self.scales.fill(0.0);
    }
}

/// One moment of one tensor as a checkpoint holds it.
fn specs(prefix: &str, tensor: &Tensor, place: Place) -> Vec<TensorSpec> {
    let spec = |middle: &str, dtype, shape: Vec<usize>| TensorSpec {
        name: format!("{prefix}{middle}{}", tensor.name),
        group: TensorGroup::Optimizer,
        dtype,
        shape,
    };
    match place {
        Place::F32(_) => vec![spec("", Dtype::F32, tensor.shape.clone())],
        Place::Eight(..) => vec![
            spec(CODES, Dtype::U8, tensor.shape.clone()),
            spec(SCALES, Dtype::F32, vec![tensor.len.div_ceil(BLOCK)]),
        ],
    }
}

/// Whether a source holds moments of either kind.
pub fn saved(layout: &Layout, source: &dyn TensorSource) -> bool {
    let holds = |middle: &str, t: &Tensor| {
        source.has(TensorGroup::Optimizer, &format!("{FIRST_MOMENT}{middle}{}", t.name))
    };
    layout.tensors.iter().any(|t| holds(CODES, t) || holds("", t))
}

const CODES: &str = "codes.";
const SCALES: &str = "scales.";
