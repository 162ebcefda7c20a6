// Sums in a fixed order, and passes over flat buffers.
#include "device.h"

/// parts[chunk, n] = Σ of the chunk's rows. Four groups of threads take every fourth row; their sums are added in
/// order.
template <class E>
__device__ __forceinline__ void column_sums(const E *x, float *parts, int rows, int n, int ld, int rows_per_block) {
    SHARED(float, sums, 256);
    int col = blockIdx.x * 64 + threadIdx.x % 64, group = threadIdx.x / 64;
    int first = blockIdx.y * rows_per_block, end = min(rows, first + rows_per_block);
    float sum = 0.0f;
    if (col < n) {
#pragma unroll 4
        for (int row = first + group; row < end; row += 4) sum += to_float(x[static_cast<long long>(row) * ld + col]);
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (group || col >= n) return;
    float *to = parts + static_cast<long long>(blockIdx.y) * n + col;
    *to = sums[threadIdx.x] + sums[threadIdx.x + 64] + sums[threadIdx.x + 128] + sums[threadIdx.x + 192];
}
#define COLUMN_SUMS(E)                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                            \
        column_sums_##E(const E *x, float *parts, int rows, int n, int ld, int rows_per_block) { \
        column_sums<E>(x, parts, rows, n, ld, rows_per_block);                                   \
    }
COLUMN_SUMS(f32)
OF_BF16(COLUMN_SUMS(bf16))
OF_F16(COLUMN_SUMS(f16))

__device__ __forceinline__ long long element() {
    return static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
}

/// out[i] = Σ_p parts[p·stride + i], p rising; added to out if `accumulate`.
extern "C" __global__ void __launch_bounds__(256)
    reduce_parts(const float *parts, float *out, long long n, int count, long long stride, int accumulate) {
    long long i = element();
    if (i >= n) return;
    float sum = 0.0f;
#pragma unroll 4
    for (int p = 0; p < count; p++) sum += parts[p * stride + i];
    out[i] = accumulate ? out[i] + sum : sum;
}

extern "C" __global__ void __launch_bounds__(256) add(float *x, const float *y, long long n) {
    if (element() < n) x[element()] += y[element()];
}

extern "C" __global__ void __launch_bounds__(256) scale(float *x, float factor, long long n) {
    if (element() < n) x[element()] *= factor;
}

#ifdef ISOFLOP_BF16
extern "C" __global__ void __launch_bounds__(256) cast_bf16(const float *x, bf16 *y, long long n) {
    if (element() < n) y[element()] = Operand<bf16>::round(x[element()]);
}
#endif

#ifdef ISOFLOP_F16
extern "C" __global__ void __launch_bounds__(256) cast_f16(const float *x, f16 *y, long long n) {
    if (element() < n) y[element()] = Operand<f16>::round(x[element()]);
}
#endif
