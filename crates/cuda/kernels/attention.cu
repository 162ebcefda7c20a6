// Causal self-attention without a T×T matrix in memory (Dao et al. 2022, arXiv 2205.14135): scores are made by tiles,
// the forward keeps each row's log-sum-exp, and the backward makes them again.
//
//   s = q·kᵀ·scale    p = exp(s − lse)    o = p·v                              (j ≤ i only)
//   dv = pᵀ·do        ds = p∘(do·vᵀ − D)·scale, D = rowsum(do∘o)               dq = ds·k    dk = dsᵀ·q
//
// The backward is two passes, each with its own rows of the result (of dk and dv, of dq): five products become seven,
// and no sum depends on which block came first.
#include "device.h"

/// Where a block's head of a sequence lies.
struct HeadView {
    long long row0;  // first row of the sequence in [M,…]
    long long lse0;  // first element in [B,H,T]
    int c, column;   // channels, first column of the head
};
__device__ __forceinline__ HeadView head_view(const AttentionArgs &args) {
    HeadView h;
    h.row0 = static_cast<long long>(blockIdx.z) * args.t;
    h.lse0 = (static_cast<long long>(blockIdx.z) * args.heads + blockIdx.y) * args.t;
    h.c = args.heads * args.width;
    h.column = blockIdx.y * args.width;
    return h;
}

// ---------------------------------------------------------------- bf16 and f16
// Four warps, each with sixteen of the block's 64 rows. W is the head's width, filled up with zeros. A tile of scores
// stays in registers: what mma leaves is, rounded, what it takes as its left operand.
constexpr int ROWS = 64, ATTENTION_THREADS = 128;

/// acc[16, COLS] = X·Yᵀ: sixteen rows of the tile x, from row `row`, and COLS rows of the tile y.
template <class E, int W, int COLS>
__device__ __forceinline__ void scores(float (&acc)[COLS / 8][4], const E *x, int row, const E *y) {
#pragma unroll
    for (int j = 0; j < COLS / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) acc[j][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < W; k += 16) {
        unsigned a[4];
        load_a<W / 8>(a, x, row, k);
#pragma unroll
        for (int j = 0; j < COLS / 8; j += 2) {
            unsigned b[4];
            load_b_turned<W / 8>(b, y, k, 8 * j);
            Operand<E>::mma(acc[j], a, b);
            Operand<E>::mma(acc[j + 1], a, b + 2);
        }
    }
}
/// out[16, W] += P·Y: P as `scores` leaves it, Y the COLS rows of a tile.
template <class E, int W, int COLS>
__device__ __forceinline__ void weigh(float (&out)[W / 8][4], const float (&p)[COLS / 8][4], const E *y) {
#pragma unroll
    for (int k = 0; k < COLS; k += 16) {
        const float(&low)[4] = p[k / 8], (&high)[4] = p[k / 8 + 1];
        unsigned a[4] = {pack<E>(low[0], low[1]), pack<E>(low[2], low[3]), pack<E>(high[0], high[1]),
                         pack<E>(high[2], high[3])};
#pragma unroll
        for (int j = 0; j < W / 8; j += 2) {
            unsigned b[4];
            load_b<W / 8>(b, y, k, 8 * j);
            Operand<E>::mma(out[j], a, b);
            Operand<E>::mma(out[j + 1], a, b + 2);
        }
    }
}
/// Writes sixteen rows times `factor` of each half, those below T and the head's columns.
template <class E, int W>
__device__ __forceinline__ void store_rows(const AttentionArgs &args, E *to, int ld, int row,
                                           const float (&acc)[W / 8][4], const float (&factor)[2]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int r = row + lane / 4 + 8 * half;
        if (r >= args.t) continue;
        E *out = to + static_cast<long long>(r) * ld;
#pragma unroll
        for (int j = 0; j < W / 8; j++) {
            int col = 8 * j + lane % 4 * 2;
            float x = acc[j][2 * half] * factor[half], y = acc[j][2 * half + 1] * factor[half];
            if (col + 1 < args.width && reinterpret_cast<uintptr_t>(out + col) % 4 == 0) {
                store_rounded(out + col, x, y);
            } else {
                if (col < args.width) out[col] = Operand<E>::round(x);
                if (col + 1 < args.width) out[col + 1] = Operand<E>::round(y);
            }
        }
    }
}

/// Rows of queries; walks over the tiles of keys up to its own. The next keys are on their way while values are
/// weighed.
template <class E, int W>
__device__ __forceinline__ void attention_forward(const AttentionArgs &args) {
    SHARED(E, q_tile, ROWS * W);
    SHARED(E, k_tile, ROWS * W);
    SHARED(E, v_tile, ROWS * W);
    const HeadView h = head_view(args);
    // The longest walks begin first.
    const int own = gridDim.x - 1 - blockIdx.x;
    const int t = args.t, ld = 3 * h.c, tiles = own + 1;
    const E *q = static_cast<const E *>(args.qkv) + h.row0 * ld + h.column, *k = q + h.c, *v = k + h.c;
    const bool whole = whole_rows(q, ld) && h.c % 8 == 0;
    auto load = [&](E *to, const E *from, int tile) {
        load_tile<ROWS, W, ATTENTION_THREADS>(to, from, ld, tile * ROWS, 0, t, args.width, whole);
        cp_async_commit();
    };
    load(q_tile, q, own);
    load(k_tile, k, 0);
    load(v_tile, v, 0);
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16;
    const int query = own * ROWS + row + lane / 4;
    const float scale = args.scale * LOG2_E;
    float out[W / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (int tile = 0; tile < tiles; tile++) {
        cp_async_wait<1>();
        __syncthreads();
        float s[ROWS / 8][4];
        scores<E, W, ROWS>(s, q_tile, row, k_tile);
        __syncthreads();
        if (tile + 1 < tiles)
            load(k_tile, k, tile + 1);
        else
            cp_async_commit();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float now = most[half];
#pragma unroll
            for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    int key = tile * ROWS + 8 * j + lane % 4 * 2 + e % 2;
                    s[j][e] = key <= query + 8 * half ? s[j][e] * scale : -INFINITY;
                    now = fmaxf(now, s[j][e]);
                }
            now = max_lanes<4>(now);
            float fade = fast_exp2(most[half] - now);
            most[half] = now;
            sum[half] *= fade;
#pragma unroll
            for (int j = 0; j < W / 8; j++) {
                out[j][2 * half] *= fade;
                out[j][2 * half + 1] *= fade;
            }
#pragma unroll
            for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    s[j][e] = fast_exp2(s[j][e] - now);
                    sum[half] += s[j][e];
                }
        }
        cp_async_wait<1>();
        __syncthreads();
        weigh<E, W, ROWS>(out, s, v_tile);
        __syncthreads();
        if (tile + 1 < tiles)
            load(v_tile, v, tile + 1);
        else
            cp_async_commit();
    }
    cp_async_wait<0>();
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float total = sum_lanes<4>(sum[half]);
        inverse[half] = 1.0f / total;
        int r = query + 8 * half;
        if (lane % 4 == 0 && r < t) args.lse[h.lse0 + r] = most[half] * LN_2 + logf(total);
    }
    store_rows<E, W>(args, static_cast<E *>(args.out) + h.row0 * h.c + h.column, h.c, own * ROWS + row, out, inverse);
}

/// Either pass. Of keys (OF_KEYS): rows are keys, x and y are k and v, and the walk goes over queries from its own on:
/// first = q, second = do. Of queries: rows are queries, x and y are q and do, the walk goes over keys up to its own.
template <class E, int W, bool OF_KEYS>
__device__ __forceinline__ void attention_backward(const AttentionArgs &args) {
    // As much as 48 KiB hold.
    constexpr int COLS = W == 128 ? 32 : 64, STAGES = W == 128 ? 1 : 2;
    SHARED(E, x_tile, ROWS * W);
    SHARED(E, y_tile, ROWS * W);
    SHARED(E, first_tiles, STAGES * COLS * W);
    SHARED(E, second_tiles, STAGES * COLS * W);
    const HeadView h = head_view(args);
    const int t = args.t, ld = 3 * h.c;
    const E *q = static_cast<const E *>(args.qkv) + h.row0 * ld + h.column, *k = q + h.c, *v = k + h.c;
    const E *dout = static_cast<const E *>(args.dout) + h.row0 * h.c + h.column;
    const bool whole = whole_rows(q, ld) && h.c % 8 == 0, whole_dout = whole_rows(dout, h.c);
    const float *lse = args.lse + h.lse0, *delta = args.delta + h.lse0;
    // The longest walks begin first.
    const int row0 = (OF_KEYS ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * ROWS;
    const int begin = OF_KEYS ? row0 : 0, end = OF_KEYS ? t : min(t, row0 + ROWS);
    const int steps = (end - begin + COLS - 1) / COLS;
    auto load = [&](int step) {
        int from = begin + step * COLS, at = step % STAGES * COLS * W;
        load_tile<COLS, W, ATTENTION_THREADS>(first_tiles + at, OF_KEYS ? q : k, ld, from, 0, t, args.width, whole);
        load_tile<COLS, W, ATTENTION_THREADS>(second_tiles + at, OF_KEYS ? dout : v, OF_KEYS ? h.c : ld, from, 0, t,
                                              args.width, OF_KEYS ? whole_dout : whole);
    };
    load_tile<ROWS, W, ATTENTION_THREADS>(x_tile, OF_KEYS ? k : q, ld, row0, 0, t, args.width, whole);
    load_tile<ROWS, W, ATTENTION_THREADS>(y_tile, OF_KEYS ? v : dout, OF_KEYS ? ld : h.c, row0, 0, t, args.width,
                                          OF_KEYS ? whole : whole_dout);
    load(0);
    cp_async_commit();
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16;
    const float scale = args.scale * LOG2_E;
    // What belongs to queries: here to the two rows of this lane, or in the walk to columns.
    float row_lse[2] = {}, row_delta[2] = {};
    if (!OF_KEYS) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = row0 + row + lane / 4 + 8 * half;
            if (r >= t) continue;
            row_lse[half] = lse[r] * LOG2_E;
            row_delta[half] = delta[r];
        }
    }
    float dx[W / 8][4] = {}, dy[OF_KEYS ? W / 8 : 1][4] = {};
    for (int step = 0; step < steps; step++) {
        cp_async_wait<0>();
        __syncthreads();
        if (STAGES == 2) {
            // Into the buffers of the step before: all have left them.
            if (step + 1 < steps) load(step + 1);
            cp_async_commit();
        }
        const E *first = first_tiles + step % STAGES * COLS * W, *second = second_tiles + step % STAGES * COLS * W;
        float p[COLS / 8][4], ds[COLS / 8][4];
        scores<E, W, COLS>(p, x_tile, row, first);
        scores<E, W, COLS>(ds, y_tile, row, second);
#pragma unroll
        for (int j = 0; j < COLS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int r = row0 + row + lane / 4 + e / 2 * 8, col = begin + step * COLS + 8 * j + lane % 4 * 2 + e % 2;
                int query = OF_KEYS ? col : r, key = OF_KEYS ? r : col;
                bool inside = query < t && key <= query;
                float l = row_lse[e / 2], d = row_delta[e / 2];
                if (OF_KEYS) {
                    l = query < t ? lse[query] * LOG2_E : 0.0f;
                    d = query < t ? delta[query] : 0.0f;
                }
                p[j][e] = inside ? fast_exp2(p[j][e] * scale - l) : 0.0f;
                ds[j][e] = inside ? p[j][e] * (ds[j][e] - d) : 0.0f;
            }
        if constexpr (OF_KEYS) weigh<E, W, COLS>(dy, p, second);
        weigh<E, W, COLS>(dx, ds, first);
        if (STAGES == 1) {
            __syncthreads();
            if (step + 1 < steps) load(step + 1);
            cp_async_commit();
        }
    }
    cp_async_wait<0>();
    E *to = static_cast<E *>(args.dqkv) + h.row0 * ld + h.column;
    const float scaled[2] = {args.scale, args.scale}, plain[2] = {1.0f, 1.0f};
    store_rows<E, W>(args, OF_KEYS ? to + h.c : to, ld, row0 + row, dx, scaled);
    if constexpr (OF_KEYS) store_rows<E, W>(args, to + 2 * h.c, ld, row0 + row, dy, plain);
}

/// delta = Σ dout·out over a head's columns. A warp a row.
template <class E>
__device__ __forceinline__ void attention_delta(const AttentionArgs &args) {
    const HeadView h = head_view(args);
    const int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= args.t) return;
    const long long at = (h.row0 + row) * h.c + h.column;
    const E *out = static_cast<const E *>(args.out) + at, *dout = static_cast<const E *>(args.dout) + at;
    float sum = 0.0f;
    for (int i = lane; i < args.width; i += 32) sum += to_float(out[i]) * to_float(dout[i]);
    sum = sum_lanes(sum);
    if (lane == 0) args.delta[h.lse0 + row] = sum;
}

// ---------------------------------------------------------------- f32, for checking: a warp a row, a lane a column of
// scores
constexpr int PARTS = 4;  // of 32 columns of a head, at most 128

/// Σ x·y over a head's columns.
__device__ __forceinline__ float dot(const float *x, const float *y, int width) {
    float sum = 0.0f;
    for (int i = 0; i < width; i++) sum += x[i] * y[i];
    return sum;
}
/// sums[32] of a lane's own columns += Σ over lanes of their p times their row of `rows`; `count` rows there are.
__device__ __forceinline__ void weigh_rows(float (&sums)[PARTS], float p, const float *rows, int ld, int count,
                                           int width) {
    const int lane = threadIdx.x % 32;
    for (int j = 0; j < count; j++) {
        float of = __shfl_sync(FULL, p, j);
#pragma unroll
        for (int i = 0; i < PARTS; i++)
            if (lane + 32 * i < width) sums[i] += of * rows[static_cast<long long>(j) * ld + lane + 32 * i];
    }
}
__device__ __forceinline__ void store_row(float *to, const float (&sums)[PARTS], float factor, int width) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < PARTS; i++)
        if (lane + 32 * i < width) to[lane + 32 * i] = sums[i] * factor;
}

#ifdef ISOFLOP_F32
extern "C" __global__ void __launch_bounds__(128) attention_forward_f32(const AttentionArgs args) {
    const HeadView h = head_view(args);
    const int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, ld = 3 * h.c;
    if (row >= args.t) return;
    const float *q = static_cast<const float *>(args.qkv) + h.row0 * ld + h.column, *k = q + h.c, *v = k + h.c;
    float out[PARTS] = {}, most = -INFINITY, sum = 0.0f;
    for (int base = 0; base <= row; base += 32) {
        int key = base + lane;
        float s = -INFINITY;
        if (key <= row)
            s = dot(q + static_cast<long long>(row) * ld, k + static_cast<long long>(key) * ld, args.width) *
                args.scale;
        float now = fmaxf(most, max_lanes(s)), fade = expf(most - now);
        most = now;
        float p = expf(s - now);
        sum = sum * fade + sum_lanes(p);
#pragma unroll
        for (int i = 0; i < PARTS; i++) out[i] *= fade;
        weigh_rows(out, p, v + static_cast<long long>(base) * ld, ld, min(32, row + 1 - base), args.width);
    }
    store_row(static_cast<float *>(args.out) + (h.row0 + row) * h.c + h.column, out, 1.0f / sum, args.width);
    if (lane == 0) args.lse[h.lse0 + row] = most + logf(sum);
}

extern "C" __global__ void __launch_bounds__(128) attention_backward_q_f32(const AttentionArgs args) {
    const HeadView h = head_view(args);
    const int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, ld = 3 * h.c;
    if (row >= args.t) return;
    const float *q = static_cast<const float *>(args.qkv) + h.row0 * ld + h.column, *k = q + h.c, *v = k + h.c;
    const float *dout = static_cast<const float *>(args.dout) + (h.row0 + row) * h.c + h.column;
    const float lse = args.lse[h.lse0 + row], delta = args.delta[h.lse0 + row];
    float dq[PARTS] = {};
    for (int base = 0; base <= row; base += 32) {
        int key = base + lane;
        float ds = 0.0f;
        if (key <= row) {
            long long at = static_cast<long long>(key) * ld;
            float p = expf(dot(q + static_cast<long long>(row) * ld, k + at, args.width) * args.scale - lse);
            ds = p * (dot(dout, v + at, args.width) - delta);
        }
        weigh_rows(dq, ds, k + static_cast<long long>(base) * ld, ld, min(32, row + 1 - base), args.width);
    }
    store_row(static_cast<float *>(args.dqkv) + (h.row0 + row) * ld + h.column, dq, args.scale, args.width);
}

extern "C" __global__ void __launch_bounds__(128) attention_backward_kv_f32(const AttentionArgs args) {
    const HeadView h = head_view(args);
    const int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, ld = 3 * h.c;
    if (row >= args.t) return;
    const float *q = static_cast<const float *>(args.qkv) + h.row0 * ld + h.column, *k = q + h.c, *v = k + h.c;
    const float *dout = static_cast<const float *>(args.dout) + h.row0 * h.c + h.column;
    const long long own = static_cast<long long>(row) * ld;
    float dk[PARTS] = {}, dv[PARTS] = {};
    for (int base = row; base < args.t; base += 32) {
        int query = base + lane;
        float p = 0.0f, ds = 0.0f;
        if (query < args.t) {
            p = expf(dot(q + static_cast<long long>(query) * ld, k + own, args.width) * args.scale -
                     args.lse[h.lse0 + query]);
            ds =
                p * (dot(dout + static_cast<long long>(query) * h.c, v + own, args.width) - args.delta[h.lse0 + query]);
        }
        int count = min(32, args.t - base);
        weigh_rows(dv, p, dout + static_cast<long long>(base) * h.c, h.c, count, args.width);
        weigh_rows(dk, ds, q + static_cast<long long>(base) * ld, ld, count, args.width);
    }
    float *to = static_cast<float *>(args.dqkv) + (h.row0 + row) * ld + h.column;
    store_row(to + h.c, dk, args.scale, args.width);
    store_row(to + 2 * h.c, dv, 1.0f, args.width);
}
#endif

#define ATTENTION(E, W)                                                                                              \
    extern "C" __global__ void __launch_bounds__(128) attention_forward_##E##_##W(const AttentionArgs args) {        \
        attention_forward<E, W>(args);                                                                               \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_kv_##E##_##W(const AttentionArgs args) { \
        attention_backward<E, W, true>(args);                                                                        \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_q_##E##_##W(const AttentionArgs args) {  \
        attention_backward<E, W, false>(args);                                                                       \
    }
#define ATTENTIONS(E) ATTENTION(E, 16) ATTENTION(E, 32) ATTENTION(E, 64) ATTENTION(E, 128)
OF_BF16(ATTENTIONS(bf16))
OF_F16(ATTENTIONS(f16))
#define DELTA(E)                                                                                      \
    extern "C" __global__ void __launch_bounds__(128) attention_delta_##E(const AttentionArgs args) { \
        attention_delta<E>(args);                                                                     \
    }
OF_F32(DELTA(f32))
OF_BF16(DELTA(bf16))
OF_F16(DELTA(f16))
