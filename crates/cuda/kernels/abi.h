// What the host may launch: every kernel, its arguments, its launch geometry, the layout of each buffer.
//
// Conventions
//   E        type of the operands of products: bf16, f16, or f32 (for checking). A kernel's suffix names it.
//   M        rows of a step: B sequences · T positions, row b·T + t. C channels, F inner width, H heads, S = C/H,
//            V vocabulary.
//   Matrices are row-major; `ld…` is the distance of rows in elements. Weights of blocks are [in, out], the head [V,C].
//   Sizes are `int`, offsets are computed in 64 bits. Each struct is one kernel argument by value (`#[repr(C)]`).
//   Any size is right. Products and attention read 16 bytes at once where every row starts at a multiple of 16 bytes
//   (ld and S multiples of 8 for bf16/f16), element by element where not.
//   No kernel adds floats atomically: the same launches give the same bits.
//   No kernel but `layernorm_backward_*` wants dynamic shared memory; none wants more than 48 KiB in all.
//
// The model (pre-norm GPT-2), one block, by kernel:
//   forward                                                         what it keeps for backward
//     x       = embed_forward(tokens, wte, wpe)                         x f32[M,C]
//     norm1   = layernorm_forward_E(x, ln1)                             norm1 E[M,C], stats1 f32[M,2]
//     qkv     = gemm_nn(norm1, Wqkv)           STORE_E  +bias           qkv E[M,3C]
//     attended= attention_forward(qkv)                                  attended E[M,C], lse f32[B,H,T]
//     mid     = gemm_nn(attended, Wproj)       RESIDUAL +bias, x        mid f32[M,C]
//     norm2   = layernorm_forward_E(mid, ln2)                           norm2 E[M,C], stats2 f32[M,2]
//     active  = gemm_nn(norm2, Wfc)            ACTIVATION +bias         active E[M,F], slope E[M,F] (f' of it)
//     x'      = gemm_nn(active, Wout)          RESIDUAL +bias, mid      next x
//   head
//     normed  = layernorm_forward_E(x, lnf)
//     gemm_nt(normed, head) LOGIT_STATS, then logit_losses              lse f32[M], losses f32[M]
//     per block of the vocabulary [v0, v0+n):
//       dlogits E[M,n] = gemm_nt(normed, head[v0..]) LOGIT_GRADIENT (column0 = v0)
//       dnormed  f32   = gemm_nn(dlogits, head[v0..])  STORE_F32 for the first block, ADD_F32 after
//       dhead[v0..]    = gemm_tn(dlogits, normed)      STORE_F32 or ADD_F32 (split over k: see there)
//   backward of a block, from dx f32 and dx_e (its copy in E, written by layernorm_backward; in f32 dx itself)
//     dhidden = gemm_nt(dx_e, Wout)            SLOPE                    E[M,F]
//     dWout   = gemm_tn(active, dx_e)          dbout = column_sums_f32(dx)
//     dnorm2  = gemm_nt(dhidden, Wfc)          STORE_F32
//     dWfc    = gemm_tn(norm2, dhidden)        dbfc  = column_sums_E(dhidden)
//     dmid    = layernorm_backward_E(mid, stats2, ln2, dnorm2, residual dx)  -> dmid f32, dmid_e, parts of dln2
//     dattended = gemm_nt(dmid_e, Wproj)       STORE_E
//     dWproj  = gemm_tn(attended, dmid_e)      dbproj = column_sums_f32(dmid)
//     delta   = attention_delta_E;  dqkv = attention_backward_kv_E + attention_backward_q_E (each its own columns)
//     dnorm1  = gemm_nt(dqkv, Wqkv)            STORE_F32
//     dWqkv   = gemm_tn(norm1, dqkv)           dbqkv = column_sums_E(dqkv)
//     dx'     = layernorm_backward_E(x, stats1, ln1, dnorm1, residual dmid)
//   end: embed_backward_tokens, embed_backward_positions
//   update: squares, step_norm, adamw_E (writes the E copy of the weights too)
#pragma once

// ---------------------------------------------------------------- products
// out[M,N] = A·B over K, accumulated in f32. A kernel is gemm_FORM_E_TILE:
//   nn: A[M,K], B[K,N]      nt: A[M,K], B[N,K]      tn: A[K,M], B[K,N]
// Grid (⌈N/TILE⌉, ⌈M/TILE⌉, splits), fewer than 2^31 tiles in all. Split z sums k in [z·k_split, min(K, (z+1)·k_split))
// and, with STORE_F32 only, writes to out + z·m·ldo: `reduce_parts` adds the splits (ldo = n then). k_split is a
// multiple of 32, or ≥ K with one split.
// Threads: 256 for TILE 128, 128 for TILE 64; gemm_FORM_f32_64 has 256.
enum Epilogue {
    STORE_F32 = 0,       // out = acc (+ bias)
    ADD_F32 = 1,         // out += acc
    STORE_E = 2,         // out_e = round(acc (+ bias))
    RESIDUAL = 3,        // out = acc + bias + residual          (residual has ldo; may be out itself)
    ACTIVATION = 4,      // h = acc + bias; out_e = round(f(h)); slope = round(f'(h)) unless slope is null
    SLOPE = 5,           // out_e = round(acc · slope)
    LOGIT_STATS = 6,     // stats[M, slices] = (max, Σ e^(l − max)) of each slice of columns of a row;
                         // target_logits[row] = l[targets[row]] if that column is among these
    LOGIT_GRADIENT = 7,  // out_e = round((e^(l − lse[row]) − [column0 + column = targets[row]]) · scale)
};
// f of ACTIVATION, numbered as here.
enum ActivationCode { GELU_TANH = 0, GELU_ERF = 1, RELU = 2 };

struct GemmArgs {
    const void *a;          // E
    const void *b;          // E
    float *out;             // f32 [M,ldo]
    void *out_e;            // E [M,ldo]
    void *slope;            // E [M,ldo]; written by ACTIVATION, read by SLOPE
    const float *bias;      // f32 [N] or null
    const float *residual;  // f32 [M,ldo]
    const int *targets;     // [M], column of the whole vocabulary
    float *stats;           // f32 [M, stats_slices, 2]
    float *target_logits;   // f32 [M]
    const float *lse;       // f32 [M]
    int m, n, k;
    int lda, ldb, ldo;
    int k_split;
    int epilogue;      // Epilogue
    int activation;    // ActivationCode
    int column0;       // of the first column in the vocabulary
    int stats_slices;  // distance of rows of stats, in slices
    int stats_slice0;  // where these columns' slices begin
    float scale;
};
// A slice has TILE/2 columns for bf16 and f16 (64 or 32), 64 for f32; N columns have 2·⌈N/TILE⌉ slices (f32: ⌈N/64⌉),
// all of which are written. A call for a part of the vocabulary writes at stats_slice0.

// logit_losses(const float* stats, int slices, const float* target_logits, float* lse, float* losses, int m)
//   lse[M] and losses[M] = lse − target logit, in nats. Grid ⌈M/8⌉, 256 threads (a warp a row).

// ---------------------------------------------------------------- embedding
// embed_forward(const int* tokens, const float* wte, const float* wpe, float* x, int m, int t, int c)
//   x[r] = wte[tokens[r]] + wpe[r mod t]. Grid m, 128 threads.
// embed_backward_tokens(const float* dx, const int* order, const int* starts, const int* ids, float* dwte, int c)
//   dwte[ids[u]] += Σ dx[order[i]], i in starts[u]..starts[u+1] in that order. Grid (U, ⌈c/128⌉), 128 threads. The host
//   sorts the M rows by token (stable): order[M], starts[U+1], ids[U].
// embed_backward_positions(const float* dx, float* dwpe, int sequences, int t, int c)
//   dwpe[p] += Σ_b dx[b·t + p]. Grid (t, ⌈c/128⌉), 128 threads.

// ---------------------------------------------------------------- layer norm
// layernorm_forward_E(const float* x, const float* w, const float* b, E* y, float* stats, int rows, int c,
//                     float epsilon)
//   y[R,C], stats[R,2] = (mean, rstd). Grid ⌈rows/4⌉, 128 threads (a warp a row).
struct LayerNormBackwardArgs {
    const float *x;         // [R,C]
    const float *stats;     // [R,2]
    const float *w;         // [C]
    const float *dy;        // [R,C]
    const float *residual;  // [R,C] or null; may be dx itself
    float *dx;              // [R,C] = residual + …
    void *dx_e;             // E [R,C], its copy, or null
    float *parts;           // [blocks, 2C]: a block's share of dw, then of db
    int rows, c;
    int rows_per_block;  // a multiple of 8
};
// layernorm_backward_E(LayerNormBackwardArgs): grid ⌈rows/rows_per_block⌉, 256 threads, dynamic shared memory 8·C bytes
//   (so C ≤ 5,888). Then reduce_parts(parts, dw, c, blocks, 2c, …), reduce_parts(parts + c, db, c, blocks, 2c, …).

// ---------------------------------------------------------------- attention
struct AttentionArgs {
    const void *qkv;      // E [M,3C]: q, k, v, each of H heads of S columns
    void *out;            // E [M,C]; written by forward, read by delta
    float *lse;           // f32 [B,H,T]; written by forward
    const void *dout;     // E [M,C]
    float *delta;         // f32 [B,H,T] = Σ dout·out; written by delta
    void *dqkv;           // E [M,3C]; kv writes the k and v columns, q the q columns: all of it is written
    int t, heads, width;  // T, H, S
    float scale;          // scores are multiplied by it: 1/√S for GPT-2
};
// attention_forward_E_W, attention_backward_kv_E_W, attention_backward_q_E_W (AttentionArgs), E in bf16, f16 and W the
//   least of 16, 32, 64, 128 that is ≥ S (S ≤ 128): grid (⌈T/64⌉, H, B), 128 threads.
// attention_forward_f32, attention_backward_kv_f32, attention_backward_q_f32: grid (⌈T/4⌉, H, B), 128 threads; S ≤ 128.
// attention_delta_E: grid (⌈T/4⌉, H, B), 128 threads.

// ---------------------------------------------------------------- sums
// column_sums_E(const E* x, float* parts, int rows, int n, int ld, int rows_per_block)
//   parts[⌈rows/rows_per_block⌉, n]. Grid (⌈n/64⌉, ⌈rows/rows_per_block⌉), 256 threads. Then reduce_parts.
// reduce_parts(const float* parts, float* out, long long n, int count, long long stride, int accumulate)
//   out[i] = Σ_p parts[p·stride + i], p rising, added to out if accumulate. Grid ⌈n/256⌉, 256 threads.
// add(float* x, const float* y, long long n)           x += y.        Grid ⌈n/256⌉, 256 threads.
// scale(float* x, float factor, long long n)           x *= factor.   Grid ⌈n/256⌉, 256 threads.
// cast_E(const float* x, E* y, long long n), E in bf16, f16. To nearest even. Grid ⌈n/256⌉, 256 threads.

// ---------------------------------------------------------------- update
// squares(const float* g, double* parts, long long n)
//   parts[b] = Σ g² over elements [b·16384, …). Grid ⌈n/16384⌉, 256 threads.
struct StepNorm {    // on the device, read back by the host after the step
    double squares;  // Σ (g·inverse_scale)²; not finite if any g is not
    double norm;     // its root
    float factor;    // inverse_scale · min(1, clip/(norm + 1e-6)): what adamw multiplies g with
    int finite;      // 0: adamw does nothing
};
// step_norm(const double* parts, int count, double inverse_scale, double clip, StepNorm* result)
//   clip 0: none. Grid 1, 256 threads.
struct UpdateBlock {            // a run of a tensor that one thread block moves
    unsigned long long at;      // first element in the flat buffers of weights, gradients (and of the E copy)
    unsigned long long moment;  // first element in the f32 moments, or first code
    unsigned long long scale;   // first scale (8-bit)
    int len;                    // 1 to 2,048; in 8 bits a run starts at a multiple of 256 elements of its tensor
    int flags;                  // 1: weight decay, 2: 8-bit moments
};
struct AdamWArgs {
    float *w;                          // weights f32
    const float *g;                    // gradients f32
    void *w_e;                         // the copy in E, or null
    float *m, *v;                      // moments f32
    unsigned char *m_codes, *v_codes;  // 8-bit moments
    float *m_scales, *v_scales;
    const float *maps;  // [2,256]: values of the signed, then of the unsigned dynamic map
    const UpdateBlock *blocks;
    const StepNorm *norm;
    float lr, beta1, beta2, eps, weight_decay, correction1, correction2_root;
};
// adamw_E(AdamWArgs): grid = number of UpdateBlocks, 256 threads.

// ---------------------------------------------------------------- networks of images (f32 only)
// Images x[B,H,W,C], channels last; pixels of a batch are rows R = B·H·W. A convolution of side s (3, or 1) from I to O
// channels with zeros around the image is z[R,O] = patches[R,s·s·I] · w[s,s,I,O]: gemm_nn; dw = gemm_tn(patches, e),
// dpatches = gemm_nt(e, w). With side 1 the patches are the input itself.
struct PatchArgs {
    const float *x;      // [B,H,W,C]; of patches_backward the output of the convolution before, to say where it was > 0
    const float *scale;  // [C], with shift and slope: what is read is leaky(x·scale + shift); null: x as it is
    const float *shift;  // [C]
    float *columns;      // [R, s·s·C]; taps in reading order, a tap's channels behind each other
    float *dx;           // [B,H,W,C], patches_backward
    int images, height, width, channels, side;
    int accumulate;  // patches_backward: dx += …
    float slope;
};
// patches(PatchArgs): columns. Grid ⌈R·s·s·C/256⌉, 256 threads.
// patches_backward(PatchArgs): dx = leaky' · Σ over taps of columns. Grid ⌈R·C/256⌉, 256 threads.

// channel_moments(const float* z, float* parts, int rows, int c, int rows_per_block)
//   parts[⌈rows/rows_per_block⌉, C, 2] = (mean, Σ (z − mean)²). Grid (⌈c/64⌉, ⌈rows/rows_per_block⌉), 256 threads.
// channel_sums(const float* z, const float* d, const float* mean, const float* rstd, float* parts, int rows, int c,
//              int rows_per_block)
//   parts[…, C, 2] = (Σ d, Σ d·x̂). Grid as channel_moments.
struct NormArgs {
    const float *parts;                      // [parts_count, C, 2], those of all cards in their order
    const int *part_rows;                    // [parts_count]
    const float *weight, *bias;              // [C]
    float *running_mean, *running_variance;  // [C]
    float *mean, *rstd, *scale, *shift;      // [C]; written by norm_factors
    float *by_x, *rest;                      // [C]; written by norm_gradients
    float *dweight, *dbias;                  // [C]; norm_gradients adds this card's own
    int c, parts_count;
    int own_first, own_count;  // this card's parts
    int fixed;                 // the running statistics are constants, and do not move
};
// norm_factors(NormArgs): y = z·scale + shift, by the batch's statistics or the running ones, which follow.
// norm_gradients(NormArgs): dz = scale·d + by_x·z + rest. Grid ⌈c/64⌉, 64 threads.
// batchnorm_backward(const float* z, const float* d, const float* scale, const float* by_x, const float* rest,
//                    float* e, long long n, int c): e[n]. Grid ⌈n/256⌉, 256 threads.
struct PoolArgs {
    const float *z, *scale, *shift;                    // [B,H,W,C], [C], [C]
    const float *round, *round_scale, *round_shift;    // the way round, or null
    float *out;         // [B,H/2,W/2,C]: the largest of each 2×2 window of leaky(norm(z) + norm(round))
    const float *dout;  // [B,H/2,W/2,C]
    float *d;           // [B,H,W,C], the gradient of the sum before the activation
    int images, height, width, c;
    float slope;
};
// pool_forward(PoolArgs): grid ⌈B·(H/2)·(W/2)·C/256⌉, 256 threads. pool_backward(PoolArgs): halves rounded up.
// features_forward(const float* x, float* features, int images, int pixels, int c, int mean)
//   x[B,P,C]; features[B,C] = mean over pixels, or [B,C·P] channel by channel. Grid ⌈B·d/256⌉, 256 threads.
// features_backward(const float* dfeatures, float* dx, int images, int pixels, int c, int mean)
//   Grid ⌈B·P·C/256⌉, 256 threads.
// sgd(float* w, const float* g, float* v, const StepNorm* norm, long long n, float lr, float momentum,
//     float weight_decay, int nesterov): torch.optim.SGD with the factor of norm. Grid ⌈n/256⌉, 256 threads.

// clang-format off
// ---------------------------------------------------------------- the list: X(name, threads)
#define ISOFLOP_GEMMS(X, E) \
    X(gemm_nn_##E##_128, 256) X(gemm_nt_##E##_128, 256) X(gemm_tn_##E##_128, 256) \
    X(gemm_nn_##E##_64, 128) X(gemm_nt_##E##_64, 128) X(gemm_tn_##E##_64, 128)
#define ISOFLOP_ATTENTIONS(X, E, W) \
    X(attention_forward_##E##_##W, 128) X(attention_backward_kv_##E##_##W, 128) X(attention_backward_q_##E##_##W, 128)
#define ISOFLOP_OPERANDS(X, E) \
    X(layernorm_forward_##E, 128) X(layernorm_backward_##E, 256) X(attention_delta_##E, 128) X(column_sums_##E, 256) \
    X(adamw_##E, 256)
#define ISOFLOP_HALVES(X, E) \
    ISOFLOP_GEMMS(X, E) ISOFLOP_ATTENTIONS(X, E, 16) ISOFLOP_ATTENTIONS(X, E, 32) ISOFLOP_ATTENTIONS(X, E, 64) \
    ISOFLOP_ATTENTIONS(X, E, 128) ISOFLOP_OPERANDS(X, E) X(cast_##E, 256)
#define ISOFLOP_PLAIN(X) \
    ISOFLOP_OPERANDS(X, f32) X(gemm_nn_f32_64, 256) X(gemm_nt_f32_64, 256) X(gemm_tn_f32_64, 256) \
    X(attention_forward_f32, 128) X(attention_backward_kv_f32, 128) X(attention_backward_q_f32, 128) \
    X(patches, 256) X(patches_backward, 256) X(channel_moments, 256) X(norm_factors, 64) X(channel_sums, 256) \
    X(norm_gradients, 64) X(batchnorm_backward, 256) X(pool_forward, 256) X(pool_backward, 256) \
    X(features_forward, 256) X(features_backward, 256) X(sgd, 256)
#define ISOFLOP_COMMON(X) \
    X(logit_losses, 256) X(embed_forward, 128) X(embed_backward_tokens, 128) X(embed_backward_positions, 128) \
    X(reduce_parts, 256) X(add, 256) X(scale, 256) X(squares, 256) X(step_norm, 256)
#define ISOFLOP_KERNELS(X) ISOFLOP_HALVES(X, bf16) ISOFLOP_HALVES(X, f16) ISOFLOP_PLAIN(X) ISOFLOP_COMMON(X)
