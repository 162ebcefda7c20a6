// The optimiser's step: the gradient's norm, then clipping, AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with
// moments in f32 or in blocks of 8 bits (Dettmers et al. 2021, arXiv 2110.02861), and the copy of the weights that
// products read.
#include "device.h"

// Gradients below the first count as zero and moments below the second become zero: their squares would be denormal.
constexpr float GRADIENT_FLOOR = 1e-18f, MOMENT_FLOOR = 1e-36f;
// A block whose largest moment is below this becomes zero.
constexpr float SCALE_FLOOR = 1e-29f;
constexpr int SQUARES_BLOCK = 16384, QUANT_BLOCK = 256, LARGEST_RUN = 2048;

/// The sum over a block of 256 threads, in thread 0.
__device__ __forceinline__ double sum_block(double x) {
    SHARED(double, sums, 256);
    sums[threadIdx.x] = x;
    __syncthreads();
    for (int half = 128; half; half /= 2) {
        if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

/// parts[b] = Σ g² over 16,384 elements; a thread adds its 64 in f32.
extern "C" __global__ void __launch_bounds__(256) squares(const float *g, double *parts, long long n) {
    long long first = static_cast<long long>(blockIdx.x) * SQUARES_BLOCK;
    float sum = 0.0f;
#pragma unroll 8
    for (int i = threadIdx.x; i < SQUARES_BLOCK; i += 256) {
        float x = first + i < n ? g[first + i] : 0.0f;
        // Written so that what is no number stays.
        sum += fabsf(x) < GRADIENT_FLOOR ? 0.0f : x * x;
    }
    double total = sum_block(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(256)
    step_norm(const double *parts, int count, double inverse_scale, double clip, StepNorm *result) {
    double sum = 0.0;
    for (int i = threadIdx.x; i < count; i += 256) sum += parts[i];
    sum = sum_block(sum);
    if (threadIdx.x) return;
    double total = sum * inverse_scale * inverse_scale, root = sqrt(total), factor = 1.0;
    // The constant is `torch.nn.utils.clip_grad_norm_`'s.
    if (clip > 0.0 && clip < root + 1e-6) factor = clip / (root + 1e-6);
    result->squares = total;
    result->norm = root;
    result->factor = static_cast<float>(factor * inverse_scale);
    result->finite = total <= 1.7976931348623157e308;
}

// ---- the dynamic 8-bit map: values of codes rise; of the signed map code 127 is 0, of the unsigned code 0
constexpr int SIGNED_ZERO = 127;

/// Steps from the code of zero to the value nearest to |x| ≤ 1, of two equally near the lower: how many of the
/// midpoints between neighbours lie below it. `midpoints[count]` rise.
__device__ __forceinline__ int steps_to(const float *midpoints, int count, float x) {
    int low = 0, high = count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (x > midpoints[middle])
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct Maps {
    float *values;     // [2,256]
    float *midpoints;  // [2,256]: 128 of the signed map's positive side, 255 of the unsigned one
};

__device__ __forceinline__ float step(const AdamWArgs &args, float factor, float decay, long long at, float &m,
                                      float &v) {
    float g = args.g[at] * factor;
    if (fabsf(g) < GRADIENT_FLOOR) g = 0.0f;
    m = args.beta1 * m + (1.0f - args.beta1) * g;
    v = args.beta2 * v + (1.0f - args.beta2) * g * g;
    if (fabsf(m) < MOMENT_FLOOR) m = 0.0f;
    if (v < MOMENT_FLOOR) v = 0.0f;
    float root = sqrtf(v) / args.correction2_root + args.eps;
    return args.w[at] * (1.0f - args.lr * decay) - args.lr / args.correction1 * m / root;
}

template <class E>
__device__ __forceinline__ void put(const AdamWArgs &args, long long at, float w) {
    args.w[at] = w;
    if (args.w_e) static_cast<E *>(args.w_e)[at] = Operand<E>::round(w);
}

template <class E>
__device__ __forceinline__ void adamw(const AdamWArgs &args) {
    SHARED(float, values, 512);
    SHARED(float, midpoints, 512);
    if (!args.norm->finite) return;
    const UpdateBlock block = args.blocks[blockIdx.x];
    const float factor = args.norm->factor, decay = block.flags & 1 ? args.weight_decay : 0.0f;
    if (!(block.flags & 2)) {
        for (int i = threadIdx.x; i < block.len; i += 256) {
            float m = args.m[block.moment + i], v = args.v[block.moment + i];
            float w = step(args, factor, decay, block.at + i, m, v);
            args.m[block.moment + i] = m;
            args.v[block.moment + i] = v;
            put<E>(args, block.at + i, w);
        }
        return;
    }
    for (int i = threadIdx.x; i < 512; i += 256) {
        values[i] = args.maps[i];
        int from = i < 256 ? SIGNED_ZERO + i : i;
        bool inside = i < 256 ? i < 128 : i < 511;
        // Halving is exact: the largest number not above the midpoint.
        midpoints[i] = inside ? 0.5f * add_rounded_down(args.maps[from], args.maps[from + 1]) : INFINITY;
    }
    __syncthreads();
    // A warp has the 256 elements that share a scale, a lane eight of them: two runs of four, so four codes are one
    // word.
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = warp * QUANT_BLOCK;
    if (first >= block.len) return;
    const unsigned long long code0 = block.moment + first, scale0 = block.scale + warp;
    // Read by the lane that will write it.
    const float m_scale = __shfl_sync(FULL, lane == 0 ? args.m_scales[scale0] : 0.0f, 0);
    const float v_scale = __shfl_sync(FULL, lane == 0 ? args.v_scales[scale0] : 0.0f, 0);
    float m[8], v[8], m_most = 0.0f, v_most = 0.0f;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        int i = j / 4 * 128 + lane * 4 + j % 4;
        m[j] = v[j] = 0.0f;
        if (first + i >= block.len) continue;
        m[j] = values[args.m_codes[code0 + i]] * m_scale;
        v[j] = values[256 + args.v_codes[code0 + i]] * v_scale;
        put<E>(args, block.at + first + i, step(args, factor, decay, block.at + first + i, m[j], v[j]));
        m_most = fmaxf(m_most, fabsf(m[j]));
        v_most = fmaxf(v_most, v[j]);
    }
    m_most = max_lanes(m_most);
    v_most = max_lanes(v_most);
    if (m_most < SCALE_FLOOR) m_most = 0.0f;
    if (v_most < SCALE_FLOOR) v_most = 0.0f;
    const float m_inverse = m_most == 0.0f ? 0.0f : 1.0f / m_most, v_inverse = v_most == 0.0f ? 0.0f : 1.0f / v_most;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        int i = j / 4 * 128 + lane * 4 + j % 4;
        if (first + i >= block.len) continue;
        float x = m[j] * m_inverse, y = v[j] * v_inverse;
        int up = steps_to(midpoints, 128, fabsf(x)), down = min(up, SIGNED_ZERO);
        args.m_codes[code0 + i] = static_cast<unsigned char>(x < 0.0f ? SIGNED_ZERO - down : SIGNED_ZERO + up);
        // Only 0 itself gets the code of 0: see the CPU's kernel.
        args.v_codes[code0 + i] = static_cast<unsigned char>(max(steps_to(midpoints + 256, 255, y), y != 0.0f ? 1 : 0));
    }
    if (lane) return;
    args.m_scales[scale0] = m_most;
    args.v_scales[scale0] = v_most;
}

#define ADAMW(E)                                                                        \
    extern "C" __global__ void __launch_bounds__(256) adamw_##E(const AdamWArgs args) { \
        adamw<E>(args);                                                                 \
    }
OF_F32(ADAMW(f32))
OF_BF16(ADAMW(bf16))
OF_F16(ADAMW(f16))
