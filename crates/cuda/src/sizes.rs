//! How many bytes each buffer of an engine has, and where it lies in the one piece of memory that is allocated: what is
//! planned is what is held, because both are this.
//!
//! Letters: M rows of a micro-batch (B sequences of T positions), C channels, F inner width, H heads, V vocabulary, L
//! layers; E the operands' type.

use crate::driver::Span;
use isoflop_nn::engine::MemoryPlan;
use isoflop_nn::gpt::moments::{MomentSizes, Place};
use isoflop_nn::layout::Layout;
use isoflop_nn::{EngineOptions, GptConfig, Precision, Recompute};

/// Buffers begin at multiples of this: what the driver's own allocations do.
const ALIGN: u64 = 256;
/// Most bytes of the gradients of logits that exist at once.
const LOGIT_BYTES: u64 = 64 << 20;
/// Rows of which one block sums columns, or makes its share of a norm's gradients: fixed, so that sums are the same
/// whatever the card.
pub(crate) const ROWS_PER_BLOCK: usize = 128;
/// Elements of a flat buffer whose squares one block sums.
pub(crate) const SQUARES: usize = 16 * 1024;
/// Elements of a tensor that one block updates; a whole number of blocks of 8-bit moments.
pub(crate) const UPDATE: usize = 2048;
/// Bytes of one `UpdateBlock`, of one `StepNorm`, of the two 8-bit maps.
pub(crate) const UPDATE_BLOCK_BYTES: u64 = 32;
pub(crate) const NORM_BYTES: u64 = 24;
const MAPS_BYTES: u64 = 2 * 256 * 4;
/// Elements of gradients that one exchange between cards carries at most, but for a layer larger than it: 32 MiB, of a
/// small model an eighth of it.
fn bucket_len(layout: &Layout) -> usize {
    (layout.len / 8).clamp(1024, 8 << 20)
}

/// Bytes of an operand of a product.
pub(crate) fn operand_bytes(precision: Precision) -> u64 {
    match precision {
        Precision::F32 => 4,
        Precision::Bf16 | Precision::Fp16 => 2,
    }
}

/// The tile of a product's kernel, chosen by its shape alone, so that no sum depends on the card: the larger one where
/// it makes enough blocks for a large card.
pub(crate) fn tile(precision: Precision, m: usize, n: usize) -> usize {
    match precision {
        Precision::F32 => 64,
        Precision::Bf16 | Precision::Fp16 => {
            if m.div_ceil(128) * n.div_ceil(128) >= 96 {
                128
            } else {
                64
            }
        }
    }
}

/// Into how many parts the sum over k rows of a weight gradient `[m,n]` is divided: enough blocks for a large card,
/// none shorter than 512 rows. Returns the rows of a part, a multiple of 32, and the number of parts.
pub(crate) fn splits(precision: Precision, m: usize, n: usize, k: usize) -> (usize, usize) {
    let tile = tile(precision, m, n);
    let blocks = m.div_ceil(tile) * n.div_ceil(tile);
    let wanted = 128usize.div_ceil(blocks).min(k / 512).max(1);
    let rows = k.div_ceil(wanted).next_multiple_of(32);
    (rows, k.div_ceil(rows).max(1))
}

/// A buffer: where it begins in the arena, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Buffer {
    offset: u64,
    pub(crate) bytes: u64,
}

impl Buffer {
    /// It in memory that begins at `base`.
    pub(crate) fn of(self, base: Span) -> Span {
        base.part(self.offset, self.bytes)
    }
}

/// What the forward pass of a block leaves for its backward.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept {
    /// E `[M,C]`, the first norm's output.
    pub(crate) norm1: Buffer,
    /// f32 `[M,2]`.
    pub(crate) stats1: Buffer,
    /// E `[M,3C]`.
    pub(crate) qkv: Buffer,
    /// E `[M,C]`.
    pub(crate) attended: Buffer,
    /// f32 `[B,H,T]`.
    pub(crate) lse: Buffer,
    /// f32 `[M,C]`, the stream between the two branches.
    pub(crate) mid: Buffer,
    /// E `[M,C]`.
    pub(crate) norm2: Buffer,
    /// f32 `[M,2]`.
    pub(crate) stats2: Buffer,
    /// E `[M,F]`, the activation function's output.
    pub(crate) active: Buffer,
    /// E `[M,F]`, its slope.
    pub(crate) slope: Buffer,
}

/// Every buffer of one card's engine.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    pub(crate) config: GptConfig,
    pub(crate) options: EngineOptions,
    pub(crate) layout: Layout,
    /// Most rows.
    pub(crate) rows: usize,
    /// Columns of the vocabulary whose gradients of logits exist at once.
    pub(crate) logit_columns: usize,
    /// Rows whose statistics of logits exist at once.
    pub(crate) logit_rows: usize,
    /// Slices of the statistics of a row.
    pub(crate) slices: usize,
    pub(crate) weights: Buffer,
    /// E, at the same offsets as the weights; nothing in f32.
    pub(crate) weights_e: Buffer,
    pub(crate) gradients: Buffer,
    /// First and second.
    pub(crate) moments: [Buffer; 2],
    pub(crate) codes: [Buffer; 2],
    pub(crate) scales: [Buffer; 2],
    /// f32 `[M,C]`: the input of each layer, and of the head.
    pub(crate) streams: Vec<Buffer>,
    /// One for each layer, or one for all.
    pub(crate) kept: Vec<Kept>,
    pub(crate) normed: Buffer,
    pub(crate) stats: Buffer,
    /// f32 `[M,C]`: the gradient of the stream.
    pub(crate) dx: Buffer,
    /// E `[M,C]`: its copy; nothing in f32.
    pub(crate) dx_e: Buffer,
    /// f32 `[M,C]`: the gradient of a norm's output.
    pub(crate) dnorm: Buffer,
    /// E `[M, max(F, 3C)]`: the gradient of the hidden layer, then of q, k and v.
    pub(crate) dwide: Buffer,
    /// E `[M,C]`.
    pub(crate) dattended: Buffer,
    /// f32 `[B,H,T]`.
    pub(crate) delta: Buffer,
    /// Parts of sums, until they are added.
    pub(crate) parts: Buffer,
    /// E `[M, logit_columns]`, and before it the statistics f32 `[logit_rows, slices, 2]`.
    pub(crate) logits: Buffer,
    pub(crate) target_logits: Buffer,
    pub(crate) lse: Buffer,
    pub(crate) losses: Buffer,
    /// i32 `[M]` each, and what sorts the rows by token: order `[M]`, starts `[M+1]`, ids `[M]`.
    pub(crate) tokens: Buffer,
    pub(crate) squares: Buffer,
    /// The step's, then the small batch's.
    pub(crate) norms: Buffer,
    pub(crate) maps: Buffer,
    pub(crate) update_blocks: Buffer,
    /// What comes from other cards.
    pub(crate) exchange: Buffer,
    pub(crate) moment_sizes: MomentPlaces,
    arena: Arena,
}

/// Where moments lie, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MomentPlaces {
    pub(crate) places: Vec<Place>,
}

/// Lays buffers one behind the other, by group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arena {
    pub(crate) end: u64,
    groups: Vec<(&'static str, u64)>,
}

impl Arena {
    pub(crate) fn put(&mut self, group: &'static str, bytes: u64) -> Buffer {
        let offset = self.end;
        let padded = bytes.next_multiple_of(ALIGN);
        self.end += padded;
        match self.groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, sum)) => *sum += padded,
            None => self.groups.push((group, padded)),
        }
        Buffer { offset, bytes }
    }

    /// Its bytes by what they hold.
    pub(crate) fn plan(&self) -> MemoryPlan {
        MemoryPlan { groups: self.groups.iter().copied().filter(|(_, bytes)| *bytes > 0).collect() }
    }
}

/// Groups of a plan.
const ACTIVATIONS: &str = "activations";
const BACKWARD: &str = "backward";
const LOGITS: &str = "logits";
const UPDATES: &str = "update";

impl Sizes {
    /// The buffers of one of `cards` cards that share each micro-batch.
    pub(crate) fn new(config: &GptConfig, options: &EngineOptions, cards: usize) -> Self {
        let layout = Layout::new(config);
        let shape = config.shape;
        let (c, f, h, v) = (shape.d_model, config.inner(), shape.n_head, config.vocab);
        let sequences = options.micro_batch.div_ceil(cards.max(1)).max(1);
        let rows = sequences * config.context;
        let e = operand_bytes(options.precision);
        let low = |len: usize| len as u64 * e;
        let copy = |len: usize| if e < 4 { len as u64 * e } else { 0 };
        let wide = |len: usize| len as u64 * 4;
        let moment_sizes = MomentSizes::new(&layout, options.optimizer);
        let mut arena = Arena::default();
        let weights = arena.put("weights", wide(layout.len));
        let weights_e = arena.put("operand weights", copy(layout.len));
        let gradients = arena.put("gradients", wide(layout.len));
        let moments = [(); 2].map(|()| arena.put("moments", wide(moment_sizes.wide)));
        let codes = [(); 2].map(|()| arena.put("moments", moment_sizes.codes as u64));
        let scales = [(); 2].map(|()| arena.put("moments", wide(moment_sizes.scales)));
        let streams = (0..=shape.n_layer).map(|_| arena.put(ACTIVATIONS, wide(rows * c))).collect();
        let places = match options.recompute {
            Recompute::None => shape.n_layer,
            Recompute::Block => 1,
        };
        let mut keep = |bytes| arena.put(ACTIVATIONS, bytes);
        let kept = (0..places)
            .map(|_| Kept {
                norm1: keep(low(rows * c)),
                stats1: keep(wide(rows * 2)),
                qkv: keep(low(rows * 3 * c)),
                attended: keep(low(rows * c)),
                lse: keep(wide(rows * h)),
                mid: keep(wide(rows * c)),
                norm2: keep(low(rows * c)),
                stats2: keep(wide(rows * 2)),
                active: keep(low(rows * f)),
                slope: keep(low(rows * f)),
            })
            .collect();
        let (normed, stats) = (keep(low(rows * c)), keep(wide(rows * 2)));
        let logit_columns = logit_columns(v, rows, e);
        let parts = parts(config, options.precision, rows, logit_columns);
        let mut work = |bytes| arena.put(BACKWARD, bytes);
        let (dx, dx_e, dnorm) = (work(wide(rows * c)), work(copy(rows * c)), work(wide(rows * c)));
        let (dwide, dattended) = (work(low(rows * f.max(3 * c))), work(low(rows * c)));
        let (delta, parts) = (work(wide(rows * h)), work(wide(parts)));
        let slices = slices(options.precision, logits_tile(options.precision, rows, v), v);
        let logit_rows = logit_rows(rows, slices);
        let logits =
            arena.put(LOGITS, low(rows * logit_columns).max(wide(logit_rows * slices * 2)).max(wide(v)));
        let [target_logits, lse, losses] = [(); 3].map(|()| arena.put(LOGITS, wide(rows)));
        let tokens = arena.put("tokens", wide(5 * rows + 1));
        let blocks: usize = layout.tensors.iter().map(|t| t.len.div_ceil(UPDATE)).sum();
        let squares = arena.put(UPDATES, 8 * layout.len.div_ceil(SQUARES) as u64);
        let (norms, maps) = (arena.put(UPDATES, 2 * NORM_BYTES), arena.put(UPDATES, MAPS_BYTES));
        let update_blocks = arena.put(UPDATES, UPDATE_BLOCK_BYTES * blocks as u64);
        let exchange = arena.put("exchange", exchange(&layout, cards));
        Self {
            config: *config,
            options: *options,
            rows,
            logit_columns,
            logit_rows,
            slices,
            weights,
            weights_e,
            gradients,
            moments,
            codes,
            scales,
            streams,
            kept,
            normed,
            stats,
            dx,
            dx_e,
            dnorm,
            dwide,
            dattended,
            delta,
            parts,
            logits,
            target_logits,
            lse,
            losses,
            tokens,
            squares,
            norms,
            maps,
            update_blocks,
            exchange,
            moment_sizes: MomentPlaces { places: moment_sizes.places },
            layout,
            arena,
        }
    }

    /// Bytes of the one allocation.
    pub(crate) fn total(&self) -> u64 {
        self.arena.end
    }

    /// They by what they hold.
    pub(crate) fn plan(&self) -> MemoryPlan {
        self.arena.plan()
    }

    /// What block `layer` keeps.
    pub(crate) fn kept(&self, layer: usize) -> &Kept {
        &self.kept[layer.min(self.kept.len() - 1)]
    }

    /// Whether a layer's place is used again by the next, so that its backward must fill it anew.
    pub(crate) fn blocks_share(&self) -> bool {
        self.kept.len() < self.config.shape.n_layer
    }
}

/// The tile of the logits' statistics: that of the largest batch, so that their number is known.
pub(crate) fn logits_tile(precision: Precision, most_rows: usize, vocab: usize) -> usize {
    tile(precision, most_rows, vocab)
}

/// Slices of the statistics of a row of logits.
fn slices(precision: Precision, tile: usize, columns: usize) -> usize {
    match precision {
        Precision::F32 => columns.div_ceil(tile),
        Precision::Bf16 | Precision::Fp16 => 2 * columns.div_ceil(tile),
    }
}

/// Rows at once: a multiple of 128, as many as whose statistics stay within [`LOGIT_BYTES`].
fn logit_rows(rows: usize, slices: usize) -> usize {
    let fit = (LOGIT_BYTES / (slices as u64 * 8)) as usize / 128 * 128;
    fit.max(128).min(rows)
}

/// Columns of the vocabulary at once: a multiple of 128, as many as stay within [`LOGIT_BYTES`].
fn logit_columns(vocab: usize, rows: usize, operand: u64) -> usize {
    let fit = (LOGIT_BYTES / (rows as u64 * operand)) as usize / 128 * 128;
    fit.clamp(128, vocab.next_multiple_of(128)).min(vocab)
}

/// Most f32 that parts of any one sum take.
fn parts(config: &GptConfig, precision: Precision, rows: usize, logit_columns: usize) -> usize {
    let (c, f) = (config.shape.d_model, config.inner());
    let blocks = rows.div_ceil(ROWS_PER_BLOCK);
    let sums = blocks * (2 * c).max(3 * c).max(f);
    // A shorter batch may be divided into fewer parts, never into more.
    let product = |(m, n): (usize, usize)| match splits(precision, m, n, rows).1 {
        1 => 0,
        count => count * m * n,
    };
    let last = config.vocab % logit_columns;
    let matrices = [(c, 3 * c), (c, c), (c, f), (f, c), (logit_columns, c), (last, c)];
    matrices.into_iter().filter(|(m, _)| *m > 0).map(product).max().unwrap_or(0).max(sums)
}

/// Bytes a card needs for what comes from `cards − 1` others: its share of a bucket from each.
fn exchange(layout: &Layout, cards: usize) -> u64 {
    if cards < 2 {
        return 0;
    }
    let largest = buckets(layout).into_iter().map(|(_, len)| len).max().unwrap_or(0);
    let share = largest.div_ceil(cards).next_multiple_of(16);
    ((cards - 1) * share * 4) as u64
}

/// The gradients as they become ready in the backward, from the last layer to the embeddings, in runs of whole layers:
/// first element and length of each.
pub(crate) fn buckets(layout: &Layout) -> Vec<(usize, usize)> {
    let step = bucket_len(layout);
    // Layout: wte, wpe, blocks, last norm, head. Blocks are ready from the last to the first.
    let first_of = |layer: usize| layout.tensors[layout.blocks[layer].ln1_w].offset;
    let end_of_blocks = layout.tensors[layout.lnf_w].offset;
    let mut buckets = vec![(end_of_blocks, layout.len - end_of_blocks)];
    let mut end = end_of_blocks;
    for layer in (0..layout.blocks.len()).rev() {
        let start = first_of(layer);
        if end - start >= step || layer == 0 {
            buckets.push((start, end - start));
            end = start;
        }
    }
    // The embeddings are ready last; theirs is cut into buckets of the usual size.
    let mut at = 0;
    while at < end {
        let len = step.min(end - at);
        buckets.push((at, len));
        at += len;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_nn::Optimizer;

    fn config(shape: &str, vocab: usize, context: usize) -> GptConfig {
        GptConfig::new(shape.parse().unwrap(), vocab, context)
    }

    fn options(precision: Precision, micro_batch: usize) -> EngineOptions {
        EngineOptions { precision, micro_batch, ..EngineOptions::default() }
    }

    #[test]
    fn buffers_lie_one_behind_the_other_and_add_up_to_the_plan() {
        for precision in [Precision::F32, Precision::Bf16] {
            for cards in [1, 2, 3] {
                let sizes = Sizes::new(&config("L3-d48-h3", 131, 50), &options(precision, 4), cards);
                assert_eq!(sizes.plan().total(), sizes.total());
                let mut all: Vec<Buffer> = vec![
                    sizes.weights,
                    sizes.weights_e,
                    sizes.gradients,
                    sizes.dx,
                    sizes.dx_e,
                    sizes.dnorm,
                    sizes.parts,
                    sizes.logits,
                    sizes.tokens,
                    sizes.exchange,
                ];
                all.extend(sizes.moments.iter().chain(&sizes.streams));
                all.extend(sizes.kept.iter().flat_map(|k| [k.norm1, k.qkv, k.mid, k.slope]));
                all.retain(|b| b.bytes > 0);
                all.sort_by_key(|b| b.offset);
                for pair in all.windows(2) {
                    assert!(pair[0].offset + pair[0].bytes <= pair[1].offset, "{pair:?}");
                }
                let last = all.last().unwrap();
                assert!(last.offset + last.bytes <= sizes.total());
                assert!(all.iter().all(|b| b.offset % ALIGN == 0));
            }
        }
    }

    #[test]
    fn recomputation_keeps_one_block_and_eight_bits_a_quarter_of_the_moments() {
        let config = config("L12-d768-h12", 50_257, 1024);
        let whole = options(Precision::Bf16, 8);
        let group = |options: &EngineOptions, name: &str| {
            let plan = Sizes::new(&config, options, 1).plan();
            plan.groups.iter().find(|(n, _)| *n == name).unwrap().1 as f64
        };
        let block = EngineOptions { recompute: Recompute::Block, ..whole };
        let eight = EngineOptions { optimizer: Optimizer::AdamW8bit, ..whole };
        assert!(group(&block, ACTIVATIONS) * 3.0 < group(&whole, ACTIVATIONS));
        let ratio = group(&eight, "moments") / group(&whole, "moments");
        assert!((0.25..0.27).contains(&ratio), "{ratio}");
        assert!(group(&whole, LOGITS) < 1.1 * LOGIT_BYTES as f64, "no full logits: they would be 823 MB");
    }

    #[test]
    fn every_gradient_is_in_one_bucket() {
        for (shape, vocab) in [("L2-d24-h2", 61), ("L12-d768-h12", 50_257), ("L1-d8-h1", 300_000)] {
            let layout = Layout::new(&config(shape, vocab, 32));
            let mut buckets = buckets(&layout);
            buckets.sort_unstable();
            let mut end = 0;
            for (at, len) in buckets {
                assert_eq!(at, end, "{shape}");
                assert!(len > 0);
                end += len;
            }
            assert_eq!(end, layout.len);
        }
    }

    #[test]
    fn sums_are_divided_into_parts_of_whole_rows() {
        for (m, n, k) in [(64, 64, 8192), (768, 2304, 8192), (768, 768, 40), (768, 768, 1), (48, 48, 1500)] {
            let (rows, parts) = splits(Precision::Bf16, m, n, k);
            assert!(
                rows % 32 == 0 && rows * parts >= k && rows * (parts - 1) < k,
                "{m} {n} {k}: {rows} {parts}"
            );
        }
    }
}
