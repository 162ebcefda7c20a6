// Layer norm: y = (x − mean)·rstd·w + b over the C channels of a row, rstd = 1/√(variance + ε). Backward, with
// x̂ = (x − mean)·rstd and e = dy·w: dx = rstd·(e − mean(e) − x̂·mean(e·x̂)), dw = Σ dy·x̂, db = Σ dy over rows.
#include "device.h"

/// A warp a row. Variance by a second pass, as differences from the mean.
template <class E>
__device__ __forceinline__ void layernorm_forward(const float *x, const float *w, const float *b, E *y, float *stats,
                                                  int rows, int c, float epsilon) {
    int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += static_cast<long long>(row) * c;
    y += static_cast<long long>(row) * c;
    float sum = 0.0f, squares = 0.0f;
    for (int i = lane; i < c; i += 32) sum += x[i];
    float mean = sum_lanes(sum) / c;
    for (int i = lane; i < c; i += 32) squares += (x[i] - mean) * (x[i] - mean);
    float rstd = 1.0f / sqrtf(sum_lanes(squares) / c + epsilon);
    for (int i = lane; i < c; i += 32) y[i] = Operand<E>::round((x[i] - mean) * rstd * w[i] + b[i]);
    if (lane) return;
    stats[2 * row] = mean;
    stats[2 * row + 1] = rstd;
}

/// Eight rows at a time: a warp a row finds its means; then each thread has columns of its own, whose sums over the
/// block's rows stay in shared memory.
template <class E>
__device__ __forceinline__ void layernorm_backward(const LayerNormBackwardArgs &args) {
    SHARED(float, means, 8 * 4);
    DYNAMIC_SHARED(float, sums);
    const int c = args.c, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = threadIdx.x; i < c; i += 256) sums[i] = sums[c + i] = 0.0f;
    const int first = blockIdx.x * args.rows_per_block, end = min(args.rows, first + args.rows_per_block);
    for (int base = first; base < end; base += 8) {
        const int row = base + warp;
        if (row < end) {
            const float *x = args.x + static_cast<long long>(row) * c, *dy = args.dy + static_cast<long long>(row) * c;
            float mean = args.stats[2 * row], rstd = args.stats[2 * row + 1], sum = 0.0f, dot = 0.0f;
            for (int i = lane; i < c; i += 32) {
                float e = dy[i] * args.w[i];
                sum += e;
                dot += e * (x[i] - mean) * rstd;
            }
            sum = sum_lanes(sum) / c;
            dot = sum_lanes(dot) / c;
            if (lane < 4) means[4 * warp + lane] = lane == 0 ? mean : lane == 1 ? rstd : lane == 2 ? sum : dot;
        }
        __syncthreads();
        const int count = min(8, end - base);
        for (int i = threadIdx.x; i < c; i += 256) {
            float dw = sums[i], db = sums[c + i], w = args.w[i];
            for (int r = 0; r < count; r++) {
                long long at = static_cast<long long>(base + r) * c + i;
                float mean = means[4 * r], rstd = means[4 * r + 1], dy = args.dy[at];
                float hat = (args.x[at] - mean) * rstd;
                dw += dy * hat;
                db += dy;
                float dx = rstd * (dy * w - means[4 * r + 2] - hat * means[4 * r + 3]);
                if (args.residual) dx += args.residual[at];
                args.dx[at] = dx;
                if (args.dx_e) static_cast<E *>(args.dx_e)[at] = Operand<E>::round(dx);
            }
            sums[i] = dw;
            sums[c + i] = db;
        }
        __syncthreads();
    }
    float *parts = args.parts + static_cast<long long>(blockIdx.x) * 2 * c;
    for (int i = threadIdx.x; i < c; i += 256) {
        parts[i] = sums[i];
        parts[c + i] = sums[c + i];
    }
}

#define LAYERNORM(E)                                                                                             \
    extern "C" __global__ void __launch_bounds__(128) layernorm_forward_##E(                                     \
        const float *x, const float *w, const float *b, E *y, float *stats, int rows, int c, float epsilon) {    \
        layernorm_forward<E>(x, w, b, y, stats, rows, c, epsilon);                                               \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256) layernorm_backward_##E(const LayerNormBackwardArgs args) { \
        layernorm_backward<E>(args);                                                                             \
    }
OF_F32(LAYERNORM(f32))
OF_BF16(LAYERNORM(bf16))
OF_F16(LAYERNORM(f16))
