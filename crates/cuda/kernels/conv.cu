// Convolutional networks in f32: patches for products, batch norm over all pixels of a batch, leaky ReLU, pooling 2x2,
// and the optimiser step with Nesterov's momentum. Layouts are those of abi.h, "networks of images".
#include "device.h"

#ifdef ISOFLOP_F32
__device__ __forceinline__ long long thread_of_grid() {
    return static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
}

/// x·scale + shift of a channel, or x where there is no norm.
__device__ __forceinline__ float normed(const float *x, const float *scale, const float *shift, long long at, int c) {
    return scale ? fmaf(x[at], scale[c], shift[c]) : x[at];
}
__device__ __forceinline__ float leaky(float x, float slope) {
    return x > 0.0f ? x : slope * x;
}

// ---------------------------------------------------------------- patches
/// A thread an element of the patches: neighbouring threads read neighbouring channels.
extern "C" __global__ void __launch_bounds__(256) patches(const PatchArgs args) {
    const long long at = thread_of_grid();
    const int c = args.channels, depth = args.side * args.side * c;
    if (at >= static_cast<long long>(args.images) * args.height * args.width * depth) return;
    const long long row = at / depth;
    const int column = static_cast<int>(at % depth), tap = column / c, channel = column % c;
    const int pixel = static_cast<int>(row % (args.height * args.width));
    const long long image = row / (args.height * args.width);
    const int y = pixel / args.width + tap / args.side - args.side / 2;
    const int x = pixel % args.width + tap % args.side - args.side / 2;
    float value = 0.0f;
    if (y >= 0 && y < args.height && x >= 0 && x < args.width) {
        const long long from = ((image * args.height + y) * args.width + x) * c + channel;
        value = normed(args.x, args.scale, args.shift, from, channel);
        if (args.scale) value = leaky(value, args.slope);
    }
    args.columns[at] = value;
}

/// A thread an element of the input: the sum over the patches that hold it, taps rising.
extern "C" __global__ void __launch_bounds__(256) patches_backward(const PatchArgs args) {
    const long long at = thread_of_grid();
    const int c = args.channels, depth = args.side * args.side * c;
    if (at >= static_cast<long long>(args.images) * args.height * args.width * c) return;
    const int channel = static_cast<int>(at % c);
    const long long place = at / c;
    const int pixel = static_cast<int>(place % (args.height * args.width));
    const long long image = place / (args.height * args.width);
    float sum = 0.0f;
    for (int tap = 0; tap < args.side * args.side; tap++) {
        const int y = pixel / args.width - tap / args.side + args.side / 2;
        const int x = pixel % args.width - tap % args.side + args.side / 2;
        if (y < 0 || y >= args.height || x < 0 || x >= args.width) continue;
        sum += args.columns[((image * args.height + y) * args.width + x) * depth + tap * c + channel];
    }
    if (args.scale && !(normed(args.x, args.scale, args.shift, at, channel) > 0.0f)) sum *= args.slope;
    args.dx[at] = args.accumulate ? args.dx[at] + sum : sum;
}

// ---------------------------------------------------------------- batch norm
/// Of 64 channels, each added up by four threads of every fourth row: their two sums joined in f64. `deviations` from a
/// mean: what is stored is what they leave of it, and their squares from the mean that is right.
__device__ __forceinline__ void store_shares(double first, double second, float *parts, int c, bool deviations,
                                             int rows) {
    SHARED(double, sums, 512);
    const int lane = threadIdx.x % 64, channel = blockIdx.x * 64 + lane;
    sums[threadIdx.x] = first;
    sums[256 + threadIdx.x] = second;
    __syncthreads();
    if (threadIdx.x >= 64 || channel >= c) return;
    double a = 0.0, b = 0.0;
    for (int group = 0; group < 4; group++) {
        a += sums[64 * group + lane];
        b += sums[256 + 64 * group + lane];
    }
    if (deviations) {
        // Deviations were taken from a mean in f32: what that leaves out is put right.
        const double apart = a / rows;
        b -= rows * apart * apart;
        if (b < 0.0) b = 0.0;
        a = apart;
    }
    float *to = parts + 2 * (static_cast<long long>(blockIdx.y) * c + channel);
    to[0] = static_cast<float>(a);
    to[1] = static_cast<float>(b);
}

/// parts[block, C] = (mean, Σ (z − mean)²) of a block's rows.
extern "C" __global__ void __launch_bounds__(256)
    channel_moments(const float *z, float *parts, int rows, int c, int rows_per_block) {
    SHARED(float, sums, 256);
    const int lane = threadIdx.x % 64, group = threadIdx.x / 64, channel = blockIdx.x * 64 + lane;
    const int first = blockIdx.y * rows_per_block, end = min(rows, first + rows_per_block);
    float sum = 0.0f;
    if (channel < c)
        for (int row = first + group; row < end; row += 4) sum += z[static_cast<long long>(row) * c + channel];
    sums[threadIdx.x] = sum;
    __syncthreads();
    const float mean = (sums[lane] + sums[64 + lane] + sums[128 + lane] + sums[192 + lane]) / (end - first);
    float apart = 0.0f, squares = 0.0f;
    if (channel < c)
        for (int row = first + group; row < end; row += 4) {
            const float d = z[static_cast<long long>(row) * c + channel] - mean;
            apart += d;
            squares = fmaf(d, d, squares);
        }
    store_shares(apart, squares, parts, c, true, end - first);
    // By the thread that stored what the deviations leave of it.
    if (group == 0 && channel < c) parts[2 * (static_cast<long long>(blockIdx.y) * c + channel)] += mean;
}

/// A thread a channel: the shares joined in order, in f64 (Chan, Golub & LeVeque 1979).
extern "C" __global__ void __launch_bounds__(64) norm_factors(const NormArgs args) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i >= args.c) return;
    double mean = args.running_mean[i], variance = args.running_variance[i];
    if (!args.fixed) {
        double rows = 0.0, squares = 0.0;
        mean = 0.0;
        for (int p = 0; p < args.parts_count; p++) {
            const float *part = args.parts + 2 * (static_cast<long long>(p) * args.c + i);
            const double own = args.part_rows[p], all = rows + own, apart = part[0] - mean;
            mean += apart * own / all;
            squares += part[1] + apart * apart * rows * own / all;
            rows = all;
        }
        variance = squares / rows;
        const double unbiased = squares / (rows - 1.0);
        const double old_mean = args.running_mean[i], old_variance = args.running_variance[i];
        args.running_mean[i] = static_cast<float>(old_mean + 0.1 * (mean - old_mean));
        args.running_variance[i] = static_cast<float>(old_variance + 0.1 * (unbiased - old_variance));
    }
    const double rstd = 1.0 / sqrt(variance + 1e-5), scale = args.weight[i] * rstd;
    args.mean[i] = static_cast<float>(mean);
    args.rstd[i] = static_cast<float>(rstd);
    args.scale[i] = static_cast<float>(scale);
    args.shift[i] = static_cast<float>(args.bias[i] - mean * scale);
}

/// parts[block, C] = (Σ d, Σ d·x̂) of a block's rows.
extern "C" __global__ void __launch_bounds__(256)
    channel_sums(const float *z, const float *d, const float *mean, const float *rstd, float *parts, int rows, int c,
                 int rows_per_block) {
    const int channel = blockIdx.x * 64 + threadIdx.x % 64, group = threadIdx.x / 64;
    const int first = blockIdx.y * rows_per_block, end = min(rows, first + rows_per_block);
    float sum = 0.0f, dot = 0.0f;
    if (channel < c) {
        const float m = mean[channel], r = rstd[channel];
        for (int row = first + group; row < end; row += 4) {
            const long long at = static_cast<long long>(row) * c + channel;
            sum += d[at];
            dot = fmaf(d[at], (z[at] - m) * r, dot);
        }
    }
    store_shares(sum, dot, parts, c, false, end - first);
}

/// A thread a channel: gradients of weight and bias from this card's own shares, the centring from those of all.
extern "C" __global__ void __launch_bounds__(64) norm_gradients(const NormArgs args) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i >= args.c) return;
    double sum = 0.0, dot = 0.0, own_sum = 0.0, own_dot = 0.0, rows = 0.0;
    for (int p = 0; p < args.parts_count; p++) {
        const float *part = args.parts + 2 * (static_cast<long long>(p) * args.c + i);
        sum += part[0];
        dot += part[1];
        rows += args.part_rows[p];
        if (p < args.own_first || p >= args.own_first + args.own_count) continue;
        own_sum += part[0];
        own_dot += part[1];
    }
    args.dweight[i] += static_cast<float>(own_dot);
    args.dbias[i] += static_cast<float>(own_sum);
    const double scale = args.scale[i], by_x = args.fixed ? 0.0 : -scale * (dot / rows) * args.rstd[i];
    args.by_x[i] = static_cast<float>(by_x);
    args.rest[i] = static_cast<float>(args.fixed ? 0.0 : -scale * (sum / rows) - by_x * args.mean[i]);
}

/// e = scale·d + by_x·z + rest, a thread an element.
extern "C" __global__ void __launch_bounds__(256)
    batchnorm_backward(const float *z, const float *d, const float *scale, const float *by_x, const float *rest,
                       float *e, long long n, int c) {
    const long long at = thread_of_grid();
    if (at >= n) return;
    const int i = static_cast<int>(at % c);
    e[at] = fmaf(d[at], scale[i], fmaf(z[at], by_x[i], rest[i]));
}

// ---------------------------------------------------------------- the end of a block
/// leaky(norm(z) + norm(round)) of an element.
__device__ __forceinline__ float activated(const PoolArgs &args, long long at, int channel) {
    float sum = 0.0f;
    if (args.round) sum = fmaf(args.round[at], args.round_scale[channel], args.round_shift[channel]);
    return leaky(fmaf(args.z[at], args.scale[channel], sum + args.shift[channel]), args.slope);
}

/// out[B,H/2,W/2,C]: the largest of each window of the activation. A thread an element.
extern "C" __global__ void __launch_bounds__(256) pool_forward(const PoolArgs args) {
    const long long at = thread_of_grid();
    const int c = args.c, h = args.height / 2, w = args.width / 2;
    if (at >= static_cast<long long>(args.images) * h * w * c) return;
    const int channel = static_cast<int>(at % c);
    const long long place = at / c, image = place / (h * w);
    const int y = static_cast<int>(place % (h * w)) / w, x = static_cast<int>(place % (h * w)) % w;
    float most = -INFINITY;
    for (int k = 0; k < 4; k++) {
        const long long from = ((image * args.height + 2 * y + k / 2) * args.width + 2 * x + k % 2) * c + channel;
        const float value = activated(args, from, channel);
        if (k == 0 || value > most) most = value;
    }
    args.out[at] = most;
}

/// d[B,H,W,C], the gradient of the sum before the activation: a thread a window, or what an odd last row or column
/// leaves of one. Of equal elements the first has the gradient.
extern "C" __global__ void __launch_bounds__(256) pool_backward(const PoolArgs args) {
    const long long at = thread_of_grid();
    const int c = args.c, h = (args.height + 1) / 2, w = (args.width + 1) / 2;
    if (at >= static_cast<long long>(args.images) * h * w * c) return;
    const int channel = static_cast<int>(at % c);
    const long long place = at / c, image = place / (h * w);
    const int y = static_cast<int>(place % (h * w)) / w, x = static_cast<int>(place % (h * w)) % w;
    const bool whole = y < args.height / 2 && x < args.width / 2;
    int best = 0;
    float most = 0.0f;
    for (int k = 0; whole && k < 4; k++) {
        const long long from = ((image * args.height + 2 * y + k / 2) * args.width + 2 * x + k % 2) * c + channel;
        const float value = activated(args, from, channel);
        if (k == 0 || value > most) {
            most = value;
            best = k;
        }
    }
    const int pooled_w = args.width / 2, pooled_h = args.height / 2;
    for (int k = 0; k < 4; k++) {
        const int row = 2 * y + k / 2, column = 2 * x + k % 2;
        if (row >= args.height || column >= args.width) continue;
        float value = 0.0f;
        if (whole && k == best) {
            value = args.dout[((image * pooled_h + y) * pooled_w + x) * c + channel];
            if (!(most > 0.0f)) value *= args.slope;
        }
        args.d[((image * args.height + row) * args.width + column) * c + channel] = value;
    }
}

/// features[B,d] of x[B,P,C]: the mean over pixels, or all of them channel by channel. A thread a feature.
extern "C" __global__ void __launch_bounds__(256)
    features_forward(const float *x, float *features, int images, int pixels, int c, int mean) {
    const long long at = thread_of_grid();
    const int d = mean ? c : pixels * c;
    if (at >= static_cast<long long>(images) * d) return;
    const long long image = at / d;
    const int feature = static_cast<int>(at % d);
    const float *from = x + image * pixels * c;
    if (!mean) {
        features[at] = from[static_cast<long long>(feature % pixels) * c + feature / pixels];
        return;
    }
    float sum = 0.0f;
    for (int p = 0; p < pixels; p++) sum += from[static_cast<long long>(p) * c + feature];
    features[at] = sum / pixels;
}

/// The gradient of x[B,P,C] from that of the features. A thread an element.
extern "C" __global__ void __launch_bounds__(256)
    features_backward(const float *dfeatures, float *dx, int images, int pixels, int c, int mean) {
    const long long at = thread_of_grid();
    if (at >= static_cast<long long>(images) * pixels * c) return;
    const int channel = static_cast<int>(at % c), pixel = static_cast<int>(at / c % pixels);
    const long long image = at / c / pixels;
    dx[at] = mean ? dfeatures[image * c + channel] / pixels
                  : dfeatures[image * pixels * c + static_cast<long long>(channel) * pixels + pixel];
}

// ---------------------------------------------------------------- update
/// One step of SGD (torch.optim.SGD) with the factor of `norm`. A thread a weight.
extern "C" __global__ void __launch_bounds__(256)
    sgd(float *w, const float *g, float *v, const StepNorm *norm, long long n, float lr, float momentum,
        float weight_decay, int nesterov) {
    const long long i = thread_of_grid();
    if (i >= n || !norm->finite) return;
    const float d = fmaf(weight_decay, w[i], g[i] * norm->factor);
    float velocity = fmaf(momentum, v[i], d);
    // Lest it decays into denormals, as on the CPU.
    if (fabsf(velocity) < 1e-30f) velocity = 0.0f;
    v[i] = velocity;
    w[i] -= lr * (nesterov ? fmaf(momentum, velocity, d) : velocity);
}
#endif
