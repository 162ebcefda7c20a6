// What the kernels stand on: operand types, instructions behind small functions, sums over a warp, tiles in shared
// memory. With ISOFLOP_EMULATOR the instructions are those of emulator/shim.h, and the same sources are C++.
#pragma once
#ifdef ISOFLOP_EMULATOR
#include "../emulator/shim.h"
#else
using uintptr_t = unsigned long long;
#define INFINITY __int_as_float(0x7f800000)
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

__device__ __forceinline__ float bf16_to_float(unsigned short x) {
    return __uint_as_float(unsigned(x) << 16);
}
__device__ __forceinline__ unsigned short float_to_bf16(float x) {
    unsigned short y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float f16_to_float(unsigned short x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
__device__ __forceinline__ unsigned short float_to_f16(float x) {
    unsigned short y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float add_rounded_down(float a, float b) {
    return __fadd_rd(a, b);
}

__device__ __forceinline__ uint4 load16(const void *p) {
    return *static_cast<const uint4 *>(p);
}
__device__ __forceinline__ void store16(void *p, uint4 x) {
    *static_cast<uint4 *>(p) = x;
}
__device__ __forceinline__ void store_pair(float *p, float x, float y) {
    *reinterpret_cast<float2 *>(p) = make_float2(x, y);
}
__device__ __forceinline__ void store_pair(void *p, unsigned x) {
    *static_cast<unsigned *>(p) = x;
}

/// Copies `bytes` ≤ 16 to shared memory and zeros the rest of the 16.
__device__ __forceinline__ void cp_async16(void *shared, const void *global, int bytes) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most PENDING of the committed groups are under way.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void *row) {
    unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void *row) {
    unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned *b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#include "abi.h"

// An image holds the kernels of one type of operands; the emulator has all.
#if !defined(ISOFLOP_F32) && !defined(ISOFLOP_BF16) && !defined(ISOFLOP_F16)
#define ISOFLOP_F32
#define ISOFLOP_BF16
#define ISOFLOP_F16
#endif
#ifdef ISOFLOP_F32
#define OF_F32(...) __VA_ARGS__
#else
#define OF_F32(...)
#endif
#ifdef ISOFLOP_BF16
#define OF_BF16(...) __VA_ARGS__
#else
#define OF_BF16(...)
#endif
#ifdef ISOFLOP_F16
#define OF_F16(...) __VA_ARGS__
#else
#define OF_F16(...)
#endif

using f32 = float;
struct bf16 {
    unsigned short bits;
};
struct f16 {
    unsigned short bits;
};

// ---- operands
__device__ __forceinline__ float to_float(float x) {
    return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
    return bf16_to_float(x.bits);
}
__device__ __forceinline__ float to_float(f16 x) {
    return f16_to_float(x.bits);
}
template <class E>
struct Operand;
template <>
struct Operand<float> {
    static __device__ __forceinline__ float round(float x) { return x; }
};
template <>
struct Operand<bf16> {
    static __device__ __forceinline__ bf16 round(float x) { return {float_to_bf16(x)}; }
    static __device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned *b) {
        mma_bf16(d, a, b);
    }
};
template <>
struct Operand<f16> {
    static __device__ __forceinline__ f16 round(float x) { return {float_to_f16(x)}; }
    static __device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned *b) {
        mma_f16(d, a, b);
    }
};
/// Two of them in a register, the first in its low half.
template <class E>
__device__ __forceinline__ unsigned pack(float x, float y) {
    return Operand<E>::round(x).bits | unsigned(Operand<E>::round(y).bits) << 16;
}
__device__ __forceinline__ void store_rounded(float *p, float x, float y) {
    store_pair(p, x, y);
}
__device__ __forceinline__ void store_rounded(bf16 *p, float x, float y) {
    store_pair(p, pack<bf16>(x, y));
}
__device__ __forceinline__ void store_rounded(f16 *p, float x, float y) {
    store_pair(p, pack<f16>(x, y));
}

// ---- numbers
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;
constexpr unsigned FULL = 0xffffffffu;
/// Sum over the lanes of a warp whose numbers differ below COUNT, the same bits in each.
template <int COUNT = 32>
__device__ __forceinline__ float sum_lanes(float x) {
    for (int by = COUNT / 2; by; by /= 2) x += __shfl_xor_sync(FULL, x, by);
    return x;
}
template <int COUNT = 32>
__device__ __forceinline__ float max_lanes(float x) {
    for (int by = COUNT / 2; by; by /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, by));
    return x;
}

// ---- tiles of 16-bit operands in shared memory: rows of CHUNKS times 16 bytes. The chunks of a row are permuted so
// that the eight rows of a matrix that ldmatrix reads lie in different banks.
template <int CHUNKS>
__device__ __forceinline__ int tile_offset(int row, int chunk) {
    int turn = CHUNKS >= 8 ? row & 7 : CHUNKS == 4 ? (row >> 1) & 3 : (row >> 2) & 1;
    return (row * CHUNKS + (chunk ^ turn)) * 8;
}

/// Loads rows [row0, row0 + ROWS) and columns [col0, col0 + COLS) of a matrix into a tile; what lies beyond `rows` and
/// `cols` becomes 0. With `whole` rows begin at multiples of 16 bytes and the copy is asynchronous.
template <int ROWS, int COLS, int THREADS, class E>
__device__ __forceinline__ void load_tile(E *tile, const E *from, int ld, int row0, int col0, int rows, int cols,
                                          bool whole) {
    constexpr int CHUNKS = COLS / 8;
    static_assert(ROWS * CHUNKS % THREADS == 0 || ROWS * CHUNKS < THREADS, "threads have equal shares");
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS, col = col0 + chunk * 8;
        int count = row0 + row < rows ? min(max(cols - col, 0), 8) : 0;
        E *to = tile + tile_offset<CHUNKS>(row, chunk);
        const E *p = from + static_cast<long long>(row0 + row) * ld + col;
        if (whole) {
            cp_async16(to, count ? p : from, count * 2);
        } else {
            unsigned w[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                unsigned low = 2 * j < count ? p[2 * j].bits : 0, high = 2 * j + 1 < count ? p[2 * j + 1].bits : 0;
                w[j] = low | high << 16;
            }
            store16(to, uint4{w[0], w[1], w[2], w[3]});
        }
    }
}
/// Whether rows of a matrix of 16-bit operands begin at multiples of 16 bytes.
__device__ __forceinline__ bool whole_rows(const void *p, int ld) {
    return ld % 8 == 0 && reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

// Fragments of mma.m16n8k16 out of a tile (PTX ISA, "Matrix fragments for mma.m16n8k16" and "ldmatrix").
/// A[16,16] from rows m, columns k of a tile.
template <int CHUNKS, class E>
__device__ __forceinline__ void load_a(unsigned (&a)[4], const E *tile, int m, int k) {
    int lane = threadIdx.x % 32;
    ldmatrix_x4(a, tile + tile_offset<CHUNKS>(m + lane % 16, k / 8 + lane / 16));
}
/// A[16,16] from a tile that holds it turned: rows k, columns m.
template <int CHUNKS, class E>
__device__ __forceinline__ void load_a_turned(unsigned (&a)[4], const E *tile, int m, int k) {
    int lane = threadIdx.x % 32;
    ldmatrix_x4_trans(a, tile + tile_offset<CHUNKS>(k + lane % 8 + lane / 16 * 8, m / 8 + lane / 8 % 2));
}
/// B[16,16] as two fragments of eight columns, b[0..2] and b[2..4], from a tile of rows k, columns n.
template <int CHUNKS, class E>
__device__ __forceinline__ void load_b(unsigned (&b)[4], const E *tile, int k, int n) {
    int lane = threadIdx.x % 32;
    ldmatrix_x4_trans(b, tile + tile_offset<CHUNKS>(k + lane % 16, n / 8 + lane / 16));
}
/// The same from a tile that holds it turned: rows n, columns k.
template <int CHUNKS, class E>
__device__ __forceinline__ void load_b_turned(unsigned (&b)[4], const E *tile, int k, int n) {
    int lane = threadIdx.x % 32;
    ldmatrix_x4(b, tile + tile_offset<CHUNKS>(n + lane % 8 + lane / 16 * 8, k / 8 + lane / 8 % 2));
}
