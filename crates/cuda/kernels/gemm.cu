// Products out[M,N] = A·B with what follows them (see abi.h): on tensor cores for bf16 and f16, by plain multiplication
// and addition for f32.
#include "device.h"

enum Form { NN, NT, TN };

// ---------------------------------------------------------------- what follows a product
/// f(x) and f'(x).
__device__ __forceinline__ void activation(int code, float x, float &value, float &slope) {
    if (code == GELU_TANH) {
        // ½(1 + tanh u) = σ(2u), u = √(2/π)(x + 0.044715 x³); beyond 80 the exponential is as good as infinite.
        float u2 = x * (1.5957691216057308f + 0.07135481282553393f * x * x);
        float gate = 1.0f / (1.0f + expf(fminf(-u2, 80.0f)));
        value = x * gate;
        slope = gate + value * (1.0f - gate) * (1.5957691216057308f + 0.2140644384766018f * x * x);
    } else if (code == GELU_ERF) {
        float below = 0.5f * (1.0f + erff(x * 0.7071067811865476f));
        value = x * below;
        slope = below + x * 0.3989422804014327f * expf(-0.5f * x * x);
    } else {
        value = fmaxf(x, 0.0f);
        slope = x > 0.0f ? 1.0f : 0.0f;
    }
}

__device__ __forceinline__ float load_float(const float *p) {
    return *p;
}
template <class E>
__device__ __forceinline__ float load_float(const E *p) {
    return to_float(*p);
}

/// Finishes two neighbouring elements of a row, the first in an even column; `parts` only for a split product.
template <class E>
__device__ __forceinline__ void finish(const GemmArgs &args, int row, int col, float x, float y) {
    if (row >= args.m || col >= args.n) return;
    bool two = col + 1 < args.n;
    long long at = static_cast<long long>(row) * args.ldo + col;
    float v[2] = {x, y};
    if (args.bias) {
        v[0] += args.bias[col];
        if (two) v[1] += args.bias[col + 1];
    }
    bool as_f32 = args.epilogue == STORE_F32 || args.epilogue == ADD_F32 || args.epilogue == RESIDUAL;
    if (as_f32) {
        float *out = args.out + static_cast<long long>(blockIdx.z) * args.m * args.ldo + at;
        const float *other = args.epilogue == RESIDUAL ? args.residual + at : out;
        if (args.epilogue != STORE_F32) {
            v[0] += other[0];
            if (two) v[1] += other[1];
        }
        if (two && reinterpret_cast<uintptr_t>(out) % 8 == 0) {
            store_pair(out, v[0], v[1]);
        } else {
            out[0] = v[0];
            if (two) out[1] = v[1];
        }
        return;
    }
    float slope[2] = {0.0f, 0.0f};
    E *s = static_cast<E *>(args.slope) + at;
    if (args.epilogue == ACTIVATION) {
        for (int i = 0; i < 2; i++) activation(args.activation, v[i], v[i], slope[i]);
    } else if (args.epilogue == SLOPE) {
        v[0] *= load_float(s);
        if (two) v[1] *= load_float(s + 1);
    } else if (args.epilogue == LOGIT_GRADIENT) {
        float lse = args.lse[row];
        int target = args.targets[row] - args.column0;
        for (int i = 0; i < 2; i++) v[i] = (expf(v[i] - lse) - (col + i == target ? 1.0f : 0.0f)) * args.scale;
    }
    E *out = static_cast<E *>(args.out_e) + at;
    bool keeps_slope = args.epilogue == ACTIVATION && args.slope;
    if (two && reinterpret_cast<uintptr_t>(out) % (2 * sizeof(E)) == 0 &&
        (!keeps_slope || reinterpret_cast<uintptr_t>(s) % (2 * sizeof(E)) == 0)) {
        store_rounded(out, v[0], v[1]);
        if (keeps_slope) store_rounded(s, slope[0], slope[1]);
        return;
    }
    out[0] = Operand<E>::round(v[0]);
    if (keeps_slope) s[0] = Operand<E>::round(slope[0]);
    if (!two) return;
    out[1] = Operand<E>::round(v[1]);
    if (keeps_slope) s[1] = Operand<E>::round(slope[1]);
}

/// One row's share of its log-sum-exp: COUNT neighbouring logits a lane, LANES neighbouring lanes a slice.
template <int COUNT, int LANES>
__device__ __forceinline__ void logit_stats(const GemmArgs &args, int row, int col, int slice,
                                            const float (&x)[COUNT]) {
    float most = -INFINITY, sum = 0.0f;
    int target = row < args.m ? args.targets[row] - args.column0 : -1;
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        if (col + i >= args.n) continue;
        most = fmaxf(most, x[i]);
        if (col + i == target) args.target_logits[row] = x[i];
    }
    most = max_lanes<LANES>(most);
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        if (col + i < args.n) sum += expf(x[i] - most);
    sum = sum_lanes<LANES>(sum);
    if (threadIdx.x % LANES || row >= args.m) return;
    float *to = args.stats + 2 * (static_cast<long long>(row) * args.stats_slices + args.stats_slice0 + slice);
    to[0] = most;
    to[1] = sum;
}

/// Which tile of the result a block makes: eight rows of tiles side by side, so that what blocks of one time read of A
/// and of B stays in L2.
struct Tile {
    int m, n;
};
__device__ __forceinline__ Tile tile_of_block() {
    constexpr int GROUP = 8;
    const int at = blockIdx.y * gridDim.x + blockIdx.x, in_group = GROUP * gridDim.x;
    const int first = at / in_group * GROUP, rows = min(GROUP, static_cast<int>(gridDim.y) - first);
    return {first + at % in_group % rows, at % in_group / rows};
}

// ---------------------------------------------------------------- bf16 and f16
// A block makes TILE x TILE elements: 128 by eight warps of 32 x 64, 64 by four of 32 x 32. Steps of 32 in k go through
// a ring of STAGES buffers filled by asynchronous copies; one barrier a step. At the end each warp lays sixteen rows of
// its sums into the same memory and takes them up row by row, so that neighbouring lanes write neighbouring elements.
constexpr int STEP = 32;

template <class E, int FORM, int TILE>
__device__ __forceinline__ void gemm(const GemmArgs &args) {
    constexpr int THREADS = TILE == 128 ? 256 : 128, WARP_COLS = TILE / 2, STAGES = TILE == 128 ? 3 : 4;
    constexpr int FRAGMENTS = WARP_COLS / 8, ELEMENTS = TILE * STEP;
    SHARED(E, tiles, 2 * STAGES * ELEMENTS);
    E *a_tiles = tiles, *b_tiles = tiles + STAGES * ELEMENTS;
    const E *a = static_cast<const E *>(args.a), *b = static_cast<const E *>(args.b);
    const bool whole_a = whole_rows(a, args.lda), whole_b = whole_rows(b, args.ldb);
    const Tile tile = tile_of_block();
    const int m0 = tile.m * TILE, n0 = tile.n * TILE;
    const int k0 = blockIdx.z * args.k_split, k1 = min(args.k, k0 + args.k_split);
    const int steps = max(0, (k1 - k0 + STEP - 1) / STEP);

    auto load = [&](int step) {
        E *to_a = a_tiles + step % STAGES * ELEMENTS, *to_b = b_tiles + step % STAGES * ELEMENTS;
        int k = k0 + step * STEP;
        if (FORM == TN)
            load_tile<STEP, TILE, THREADS>(to_a, a, args.lda, k, m0, k1, args.m, whole_a);
        else
            load_tile<TILE, STEP, THREADS>(to_a, a, args.lda, m0, k, args.m, k1, whole_a);
        if (FORM == NT)
            load_tile<TILE, STEP, THREADS>(to_b, b, args.ldb, n0, k, args.n, k1, whole_b);
        else
            load_tile<STEP, TILE, THREADS>(to_b, b, args.ldb, k, n0, k1, args.n, whole_b);
    };
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int m = warp / 2 * 32, n = warp % 2 * WARP_COLS;
    float acc[2][FRAGMENTS][4] = {};
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < steps) load(step);
        cp_async_commit();
    }
    for (int step = 0; step < steps; step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        // The buffer of the step before: all have left it.
        if (step + STAGES - 1 < steps) load(step + STAGES - 1);
        cp_async_commit();
        const E *from_a = a_tiles + step % STAGES * ELEMENTS, *from_b = b_tiles + step % STAGES * ELEMENTS;
#pragma unroll
        for (int k = 0; k < STEP; k += 16) {
            unsigned fa[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (FORM == TN)
                    load_a_turned<TILE / 8>(fa[i], from_a, m + 16 * i, k);
                else
                    load_a<STEP / 8>(fa[i], from_a, m + 16 * i, k);
            }
#pragma unroll
            for (int j = 0; j < FRAGMENTS; j += 2) {
                unsigned fb[4];
                if (FORM == NT)
                    load_b_turned<STEP / 8>(fb, from_b, k, n + 8 * j);
                else
                    load_b<TILE / 8>(fb, from_b, k, n + 8 * j);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    Operand<E>::mma(acc[i][j], fa[i], fb);
                    Operand<E>::mma(acc[i][j + 1], fa[i], fb + 2);
                }
            }
        }
    }
    cp_async_wait<0>();

    // Rows are padded by 8: the eight rows that lanes write at once lie in different banks.
    constexpr int STRIDE = WARP_COLS + 8, PAIRS = WARP_COLS / 2;
    static_assert(THREADS / 32 * 16 * STRIDE * sizeof(float) <= 2 * STAGES * ELEMENTS * sizeof(E),
                  "sums fit where tiles were");
    float *sums = reinterpret_cast<float *>(tiles) + warp * 16 * STRIDE;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        __syncthreads();
#pragma unroll
        for (int j = 0; j < FRAGMENTS; j++) {
            store_pair(sums + lane / 4 * STRIDE + 8 * j + lane % 4 * 2, acc[i][j][0], acc[i][j][1]);
            store_pair(sums + (lane / 4 + 8) * STRIDE + 8 * j + lane % 4 * 2, acc[i][j][2], acc[i][j][3]);
        }
        __syncthreads();
#pragma unroll 1
        for (int r = lane / PAIRS; r < 16; r += 32 / PAIRS) {
            int row = m0 + m + 16 * i + r, col = n0 + n + lane % PAIRS * 2;
            const float *from = sums + r * STRIDE + lane % PAIRS * 2;
            float x[2] = {from[0], from[1]};
            if (args.epilogue == LOGIT_STATS)
                logit_stats<2, PAIRS>(args, row, col, tile.n * 2 + warp % 2, x);
            else
                finish<E>(args, row, col, x[0], x[1]);
        }
    }
}

// ---------------------------------------------------------------- f32
/// 64 x 64 elements by 256 threads of 4 x 4, in steps of 16.
template <int FORM>
__device__ __forceinline__ void gemm_f32(const GemmArgs &args) {
    constexpr int TILE = 64, SHORT_STEP = 16, STRIDE = TILE + 4;
    SHARED(float, a_tile, SHORT_STEP *STRIDE);
    SHARED(float, b_tile, SHORT_STEP *STRIDE);
    const float *a = static_cast<const float *>(args.a), *b = static_cast<const float *>(args.b);
    const int m0 = blockIdx.y * TILE, n0 = blockIdx.x * TILE;
    const int k0 = blockIdx.z * args.k_split, k1 = min(args.k, k0 + args.k_split);
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float acc[4][4] = {};
    for (int base = k0; base < k1; base += SHORT_STEP) {
        for (int i = threadIdx.x; i < TILE * SHORT_STEP; i += 256) {
            // Neighbouring threads read neighbouring elements.
            int ka = FORM == TN ? i / TILE : i % SHORT_STEP, ma = FORM == TN ? i % TILE : i / SHORT_STEP;
            int kb = FORM == NT ? i % SHORT_STEP : i / TILE, nb = FORM == NT ? i / SHORT_STEP : i % TILE;
            long long ra = FORM == TN ? base + ka : m0 + ma, ca = FORM == TN ? m0 + ma : base + ka;
            long long rb = FORM == NT ? n0 + nb : base + kb, cb = FORM == NT ? base + kb : n0 + nb;
            a_tile[ka * STRIDE + ma] = base + ka < k1 && m0 + ma < args.m ? a[ra * args.lda + ca] : 0.0f;
            b_tile[kb * STRIDE + nb] = base + kb < k1 && n0 + nb < args.n ? b[rb * args.ldb + cb] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < SHORT_STEP; k++) {
            float x[4], y[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x[i] = a_tile[k * STRIDE + ty * 4 + i];
                y[i] = b_tile[k * STRIDE + tx * 4 + i];
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] += x[i] * y[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = m0 + ty * 4 + i, col = n0 + tx * 4;
        if (args.epilogue == LOGIT_STATS) {
            logit_stats<4, 16>(args, row, col, blockIdx.x, acc[i]);
            continue;
        }
        finish<float>(args, row, col, acc[i][0], acc[i][1]);
        finish<float>(args, row, col + 2, acc[i][2], acc[i][3]);
    }
}

// ---------------------------------------------------------------- the head's losses
/// lse[M] out of the slices' statistics, and losses[M] in nats. A warp a row.
extern "C" __global__ void __launch_bounds__(256)
    logit_losses(const float *stats, int slices, const float *target_logits, float *lse, float *losses, int m) {
    int row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= m) return;
    const float *from = stats + 2 * static_cast<long long>(row) * slices;
    float most = -INFINITY, sum = 0.0f;
    for (int i = lane; i < slices; i += 32) most = fmaxf(most, from[2 * i]);
    most = max_lanes(most);
    for (int i = lane; i < slices; i += 32) {
        // A slice beyond the vocabulary is empty.
        if (from[2 * i + 1] != 0.0f) sum += from[2 * i + 1] * expf(from[2 * i] - most);
    }
    sum = sum_lanes(sum);
    if (lane) return;
    float total = most + logf(sum);
    lse[row] = total;
    losses[row] = total - target_logits[row];
}

#define GEMM(name, E, FORM, TILE, THREADS)                                            \
    extern "C" __global__ void __launch_bounds__(THREADS) name(const GemmArgs args) { \
        gemm<E, FORM, TILE>(args);                                                    \
    }
#define GEMMS(E)                                                                      \
    GEMM(gemm_nn_##E##_128, E, NN, 128, 256)                                          \
    GEMM(gemm_nt_##E##_128, E, NT, 128, 256) GEMM(gemm_tn_##E##_128, E, TN, 128, 256) \
        GEMM(gemm_nn_##E##_64, E, NN, 64, 128) GEMM(gemm_nt_##E##_64, E, NT, 64, 128) \
            GEMM(gemm_tn_##E##_64, E, TN, 64, 128)
OF_BF16(GEMMS(bf16))
OF_F16(GEMMS(f16))
#define GEMM_F32(name, FORM)                                                      \
    extern "C" __global__ void __launch_bounds__(256) name(const GemmArgs args) { \
        gemm_f32<FORM>(args);                                                     \
    }
OF_F32(GEMM_F32(gemm_nn_f32_64, NN) GEMM_F32(gemm_nt_f32_64, NT) GEMM_F32(gemm_tn_f32_64, TN))
