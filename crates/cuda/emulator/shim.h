// What a kernel's source sees instead of CUDA when it is compiled as C++: built-in variables, qualifiers, vector types
// and the instructions of kernels/device.h. The compiler's instrumentation (-fsanitize=thread, without its library)
// reports each access to memory to memory.cpp; what is not a plain access reports itself.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __restrict__

struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

extern "C" {
// Constant for a thread, so its reads may be merged.
uint3 emu_thread_idx() __attribute__((const));
uint3 emu_block_idx() __attribute__((const));
uint3 emu_grid_dim() __attribute__((const));
uint3 emu_block_dim() __attribute__((const));

void emu_barrier();
/// The thread's next array in shared memory: all threads of a block ask for the same ones in the same order.
void *emu_shared(size_t bytes);
void *emu_dynamic_shared();

uint4 emu_load16(const void *p);
void emu_store16(void *p, uint4 x);
void emu_store8(void *p, float x, float y);
void emu_store4(void *p, unsigned x);

void emu_cp_async(void *shared, const void *global, int bytes);
void emu_cp_async_commit();
void emu_cp_async_wait(int pending);

void emu_ldmatrix_x4(unsigned *r, const void *row, int transposed);
void emu_mma_m16n8k16(float *d, const unsigned *a, const unsigned *b, int half);
unsigned emu_shuffle(unsigned mask, unsigned x, int lane_or_mask, int by_xor);
}

#define threadIdx (emu_thread_idx())
#define blockIdx (emu_block_idx())
#define gridDim (emu_grid_dim())
#define blockDim (emu_block_dim())

inline void __syncthreads() {
    emu_barrier();
}
#define SHARED(type, name, count) type *const name = static_cast<type *>(emu_shared(sizeof(type) * (count)))
#define DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(emu_dynamic_shared())

inline int min(int a, int b) {
    return a < b ? a : b;
}
inline int max(int a, int b) {
    return a > b ? a : b;
}
inline float __uint_as_float(unsigned x) {
    return __builtin_bit_cast(float, x);
}
inline unsigned __float_as_uint(float x) {
    return __builtin_bit_cast(unsigned, x);
}

// ---- numbers
inline float bf16_to_float(unsigned short x) {
    return __uint_as_float(unsigned(x) << 16);
}
inline unsigned short float_to_bf16(float x) {
    unsigned u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return static_cast<unsigned short>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
inline float f16_to_float(unsigned short x) {
    unsigned sign = unsigned(x & 0x8000) << 16, exponent = (x >> 10) & 31, mantissa = x & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
    float value =
        exponent ? __uint_as_float((exponent + 112) << 23 | mantissa << 13) : static_cast<float>(mantissa) * 0x1p-24f;
    return __uint_as_float(__float_as_uint(value) | sign);
}
inline unsigned short float_to_f16(float x) {
    unsigned u = __float_as_uint(x), sign = (u >> 16) & 0x8000;
    float magnitude = __uint_as_float(u & 0x7fffffffu);
    if (magnitude != magnitude) return 0x7fff;
    if (magnitude >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00);
    if (magnitude < 0x1p-14f) {
        // Adding ½ leaves the multiple of 2^-24 nearest to x in the low bits.
        return static_cast<unsigned short>(sign | (__float_as_uint(magnitude + 0.5f) - 0x3f000000u));
    }
    unsigned m = __float_as_uint(magnitude);
    m += 0xfffu + ((m >> 13) & 1);
    return static_cast<unsigned short>(sign | ((m >> 13) - (112u << 10)));
}
inline float fast_exp2(float x) {
    return exp2f(x);
}
/// (a + b) rounded down.
inline float add_rounded_down(float a, float b) {
    double exact = double(a) + double(b);
    float sum = static_cast<float>(exact);
    return sum > exact ? nextafterf(sum, -INFINITY) : sum;
}

// ---- memory
inline uint4 load16(const void *p) {
    return emu_load16(p);
}
inline void store16(void *p, uint4 x) {
    emu_store16(p, x);
}
inline void store_pair(float *p, float x, float y) {
    emu_store8(p, x, y);
}
inline void store_pair(void *p, unsigned x) {
    emu_store4(p, x);
}
inline void cp_async16(void *shared, const void *global, int bytes) {
    emu_cp_async(shared, global, bytes);
}
inline void cp_async_commit() {
    emu_cp_async_commit();
}
template <int PENDING>
inline void cp_async_wait() {
    emu_cp_async_wait(PENDING);
}

// ---- warps
inline void ldmatrix_x4(unsigned (&r)[4], const void *row) {
    emu_ldmatrix_x4(r, row, 0);
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void *row) {
    emu_ldmatrix_x4(r, row, 1);
}
inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned *b) {
    emu_mma_m16n8k16(d, a, b, 0);
}
inline void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned *b) {
    emu_mma_m16n8k16(d, a, b, 1);
}
inline float __shfl_xor_sync(unsigned mask, float x, int by) {
    return __uint_as_float(emu_shuffle(mask, __float_as_uint(x), by, 1));
}
inline float __shfl_sync(unsigned mask, float x, int lane) {
    return __uint_as_float(emu_shuffle(mask, __float_as_uint(x), lane, 0));
}
