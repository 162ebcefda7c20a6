// Faults planted for the detectors to find, each beside the same work done right, of which they must say nothing.
#include "../kernels/device.h"

enum Plant {
    UNINITIALISED_SHARED,
    MISSING_BARRIER,
    MISSING_SECOND_BARRIER,
    BEYOND_SHARED,
    DIVERGENT_BARRIER,
    EXIT_BEFORE_BARRIER,
    LANES_MISSING,
    CALLER_NOT_IN_MASK,
    SHUFFLE_FROM_OUTSIDE,
    DIFFERENT_COLLECTIVES,
    BEYOND_BUFFER_READ,
    BEYOND_BUFFER_WRITE,
    NULL_POINTER,
    UNINITIALISED_GLOBAL,
    BLOCKS_WRITE_ONE_WORD,
    BLOCK_READS_ANOTHERS,
    THREADS_WRITE_ONE_WORD,
    MISALIGNED_VECTOR,
    COPY_NOT_WAITED_FOR,
    COPY_WITHOUT_BARRIER,
    COPY_OVER_WHAT_IS_READ,
    COPY_LEFT_UNDER_WAY,
    TOO_MUCH_SHARED,
    NUM_PLANTS
};

/// x[128] has been written, y[128] not; two blocks of 64 threads.
template <bool FAULT>
__device__ void planted(int which, float *x, float *y) {
    const int i = threadIdx.x, block = blockIdx.x, at = block * 64 + i;
    SHARED(float, s, 64);
    switch (which) {
        case UNINITIALISED_SHARED:
            if (!FAULT) s[i] = 1.0f;
            y[at] = s[i];
            break;
        case MISSING_BARRIER:
            s[i] = x[i];
            if (!FAULT) __syncthreads();
            y[at] = s[63 - i];
            break;
        case MISSING_SECOND_BARRIER:
            for (int k = 0; k < 2; k++) {
                s[i] = x[i] + k;
                __syncthreads();
                y[at] = s[63 - i];
                if (!FAULT) __syncthreads();
            }
            break;
        case BEYOND_SHARED:
            s[i + (FAULT ? 1 : 0)] = 1.0f;
            break;
        case DIVERGENT_BARRIER:
            if (!FAULT || i < 32) __syncthreads();
            break;
        case EXIT_BEFORE_BARRIER:
            if (FAULT && i == 63) return;
            __syncthreads();
            break;
        case LANES_MISSING:
            if (FAULT && i % 32 >= 16) break;
            y[at] = __shfl_xor_sync(FULL, x[i], 1);
            break;
        case CALLER_NOT_IN_MASK:
            y[at] = __shfl_xor_sync(FAULT ? 0xffff : FULL, x[i], 1);
            break;
        case SHUFFLE_FROM_OUTSIDE:
            if (i < 16) y[at] = __shfl_sync(0xffff, x[i], FAULT ? 16 : 15);
            break;
        case DIFFERENT_COLLECTIVES: {
            SHARED(bf16, tile, 64 * 8);
            store16(tile + i * 8, uint4{0, 0, 0, 0});
            __syncthreads();
            unsigned r[4];
            if (FAULT && i % 2)
                __shfl_xor_sync(FULL, x[i], 1);
            else
                ldmatrix_x4(r, tile + i * 8);
            break;
        }
        case BEYOND_BUFFER_READ:
            y[at] = x[at + (FAULT ? 1 : 0)];
            break;
        case BEYOND_BUFFER_WRITE:
            y[FAULT ? at + 1 : at] = 1.0f;
            break;
        case NULL_POINTER:
            y[at] = FAULT ? static_cast<float *>(nullptr)[i] : 0.0f;
            break;
        case UNINITIALISED_GLOBAL:
            x[at] = FAULT ? y[at] : x[at];
            break;
        case BLOCKS_WRITE_ONE_WORD:
            if (i == 0) y[FAULT ? 0 : block] = 1.0f;
            break;
        case BLOCK_READS_ANOTHERS:
            if (i == 0) y[block] = 1.0f;
            if (i == 0 && FAULT && block) x[0] = y[0];
            break;
        case THREADS_WRITE_ONE_WORD:
            y[FAULT ? at / 2 : at] = 1.0f;
            break;
        case MISALIGNED_VECTOR: {
            uint4 v = load16(x + (FAULT ? 1 : 4));
            if (i == 0) y[block] = __uint_as_float(v.x);
            break;
        }
        case COPY_NOT_WAITED_FOR:
        case COPY_WITHOUT_BARRIER:
            if (i < 16) cp_async16(s + 4 * i, x + 4 * i, 16);
            cp_async_commit();
            if (!(FAULT && which == COPY_NOT_WAITED_FOR)) cp_async_wait<0>();
            if (!(FAULT && which == COPY_WITHOUT_BARRIER)) __syncthreads();
            y[at] = s[63 - i];
            if (FAULT && which == COPY_NOT_WAITED_FOR) cp_async_wait<0>();
            break;
        case COPY_OVER_WHAT_IS_READ:
            s[i] = x[i];
            __syncthreads();
            if (i >= 32) y[at] = s[63 - i];
            if (!FAULT) __syncthreads();
            if (i < 8) cp_async16(s + 4 * i, x + 4 * i, 16);
            cp_async_commit();
            cp_async_wait<0>();
            break;
        case COPY_LEFT_UNDER_WAY:
            if (i < 16) cp_async16(s + 4 * i, x + 4 * i, 16);
            cp_async_commit();
            if (!FAULT) cp_async_wait<0>();
            break;
        case TOO_MUCH_SHARED: {
            SHARED(float, large, 48 * 256 - 64);
            large[i] = 0.0f;
            if (!FAULT) break;
            SHARED(float, more, 4);
            more[i % 4] = 0.0f;
            break;
        }
    }
}
extern "C" __global__ void planted_fault(int which, float *x, float *y) {
    planted<true>(which, x, y);
}
extern "C" __global__ void planted_clean(int which, float *x, float *y) {
    planted<false>(which, x, y);
}

/// The fragments as the instructions deal them: `kind` 0 ldmatrix, 1 with .trans of the 32 x 8 matrix x; 2 mma of A =
/// x[16,16], B = x[16,8] behind it, taken by the document's formulas. Lane l writes its registers to y[l].
extern "C" __global__ void fragments(int kind, const bf16 *x, unsigned *y) {
    SHARED(bf16, tile, 32 * 8);
    const int lane = threadIdx.x;
    if (kind < 2) {
        for (int i = 0; i < 8; i++) tile[8 * lane + i] = x[8 * lane + i];
        __syncthreads();
        unsigned r[4];
        if (kind == 0)
            ldmatrix_x4(r, tile + 8 * lane);
        else
            ldmatrix_x4_trans(r, tile + 8 * lane);
        for (int i = 0; i < 4; i++) y[4 * lane + i] = r[i];
        return;
    }
    unsigned a[4], b[2];
    float d[4];
    const int group = lane >> 2, in_group = lane & 3;
    // PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type": element a_i, i = 0…7, lies in row `group`
    // for i = 0, 1, 4, 5, else group + 8, and in column in_group·2 + (i & 1), + 8 for i ≥ 4; b_i, i = 0…3, in row
    // in_group·2 + (i & 1), + 8 for i ≥ 2, and column `group`; c_i in row `group`, + 8 for i ≥ 2, column in_group·2 +
    // (i & 1).
    for (int i = 0; i < 8; i += 2) {
        int row = i == 0 || i == 4 ? group : group + 8, col = in_group * 2 + (i >= 4 ? 8 : 0);
        a[i / 2] = x[row * 16 + col].bits | unsigned(x[row * 16 + col + 1].bits) << 16;
    }
    for (int i = 0; i < 4; i += 2) {
        int row = in_group * 2 + (i >= 2 ? 8 : 0);
        b[i / 2] = x[256 + row * 8 + group].bits | unsigned(x[256 + (row + 1) * 8 + group].bits) << 16;
    }
    for (int i = 0; i < 4; i++) d[i] = 100.0f * ((i >= 2 ? group + 8 : group) * 8 + in_group * 2 + (i & 1));
    mma_bf16(d, a, b);
    for (int i = 0; i < 4; i++) y[4 * lane + i] = __float_as_uint(d[i]);
}

#define PLANTED_KERNELS(X) X(planted_fault, 64) X(planted_clean, 64) X(fragments, 32)
