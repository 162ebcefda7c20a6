// The kernels of networks of images against plain loops in f64, at odd sizes.
#include "test.h"

namespace {
struct Shape {
    int images, height, width, c;
    size_t size() const { return size_t(images) * height * width * c; }
    size_t at(int b, int y, int x, int i) const { return ((size_t(b) * height + y) * width + x) * c + i; }
};
double leaky(double x, double slope) {
    return x > 0 ? x : slope * x;
}

void check_patches(Shape s, bool with_norm, bool accumulate) {
    const int depth = 9 * s.c;
    const float slope = 0.1f;
    auto x = random_vector<f32>(s.size()), scale = random_vector<f32>(s.c), shift = random_vector<f32>(s.c);
    auto dcolumns = random_vector<f32>(s.size() * 9), before = random_vector<f32>(s.size());
    Buffer<f32> bx(x), bscale(scale), bshift(shift), columns(s.size() * 9), bcolumns(dcolumns), dx(before);
    PatchArgs args{bx.p(), nullptr, nullptr, columns.p(), nullptr, s.images, s.height, s.width, s.c, 3, 0, slope};
    if (with_norm) args.scale = bscale.p(), args.shift = bshift.p();
    CHECK(!launch("patches", {up(s.size() * 9, 256)}, args), "%s", faults().c_str());
    args.columns = bcolumns.p(), args.dx = dx.p(), args.accumulate = accumulate;
    CHECK(!launch("patches_backward", {up(s.size(), 256)}, args), "%s", faults().c_str());
    check_clean("patches");
    auto got = columns.get(), got_dx = dx.get();
    std::vector<double> want(s.size());
    for (int b = 0; b < s.images; b++)
        for (int y = 0; y < s.height; y++)
            for (int x0 = 0; x0 < s.width; x0++)
                for (int tap = 0; tap < 9; tap++)
                    for (int i = 0; i < s.c; i++) {
                        const int fy = y + tap / 3 - 1, fx = x0 + tap % 3 - 1;
                        const size_t column = (s.at(b, y, x0, 0) / s.c) * depth + tap * s.c + i;
                        double value = 0;
                        if (fy >= 0 && fy < s.height && fx >= 0 && fx < s.width) {
                            value = x[s.at(b, fy, fx, i)];
                            if (with_norm) value = leaky(value * scale[i] + shift[i], slope);
                            want[s.at(b, fy, fx, i)] += dcolumns[column];
                        }
                        compare("patches", got[column], value, 3e-7);
                    }
    for (size_t k = 0; k < s.size(); k++) {
        const int i = static_cast<int>(k % s.c);
        // Written as the kernel has it: which side of zero is not a question of rounding here.
        if (with_norm && !(std::fmaf(x[k], scale[i], shift[i]) > 0)) want[k] *= slope;
        compare("patches_backward", got_dx[k], want[k] + (accumulate ? before[k] : 0), 3e-6);
    }
}

/// Rows far from zero in the middle, as what a convolution gives may lie.
void check_norm(int rows, int c, int rows_per_block, bool fixed) {
    auto z = random_vector<f32>(size_t(rows) * c), d = random_vector<f32>(size_t(rows) * c);
    for (f32 &v : z) v = v * 2 + 7;
    auto weight = random_vector<f32>(c), bias = random_vector<f32>(c), mean0 = random_vector<f32>(c);
    std::vector<f32> variance0(c, 0.7f);
    const int blocks = up(rows, rows_per_block);
    std::vector<int> part_rows(blocks, rows_per_block);
    part_rows.back() = rows - (blocks - 1) * rows_per_block;
    Buffer<f32> bz(z), bd(d), bw(weight), bb(bias), running_mean(mean0), running_variance(variance0);
    Buffer<f32> parts(size_t(blocks) * 2 * c), mean(c), rstd(c), scale(c), shift(c), by_x(c), rest(c);
    Buffer<f32> dweight(std::vector<f32>(c, 1.0f)), dbias(std::vector<f32>(c, 2.0f)), e(z.size());
    Buffer<int> brows(part_rows);
    // All but the first block are another card's.
    NormArgs args{parts.p(), brows.p(), bw.p(),    bb.p(),   running_mean.p(), running_variance.p(), mean.p(),
                  rstd.p(),  scale.p(), shift.p(), by_x.p(), rest.p(),         dweight.p(),          dbias.p(),
                  c,         blocks,    0,         1,        fixed};
    const Grid grid{up(c, 64), blocks};
    CHECK(!launch("channel_moments", grid, bz.p(), parts.p(), rows, c, rows_per_block), "%s", faults().c_str());
    CHECK(!launch("norm_factors", {up(c, 64)}, args), "%s", faults().c_str());
    CHECK(!launch("channel_sums", grid, bz.p(), bd.p(), mean.p(), rstd.p(), parts.p(), rows, c, rows_per_block), "%s",
          faults().c_str());
    CHECK(!launch("norm_gradients", {up(c, 64)}, args), "%s", faults().c_str());
    CHECK(!launch("batchnorm_backward", {up(z.size(), 256)}, bz.p(), bd.p(), scale.p(), by_x.p(), rest.p(), e.p(),
                  (long long)z.size(), c),
          "%s", faults().c_str());
    check_clean("norms");
    auto got_mean = running_mean.get(), got_variance = running_variance.get(), got_scale = scale.get();
    auto got_shift = shift.get(), got_dw = dweight.get(), got_db = dbias.get(), got_e = e.get();
    for (int i = 0; i < c; i++) {
        double m = 0, v = 0, sum = 0, dot = 0, own_sum = 0, own_dot = 0;
        for (int r = 0; r < rows; r++) m += z[size_t(r) * c + i] / double(rows);
        for (int r = 0; r < rows; r++) v += std::pow(z[size_t(r) * c + i] - m, 2) / rows;
        if (fixed) m = mean0[i], v = variance0[i];
        const double r1 = 1 / std::sqrt(v + 1e-5), s = weight[i] * r1;
        for (int r = 0; r < rows; r++) {
            const double g = d[size_t(r) * c + i], hat = (z[size_t(r) * c + i] - m) * r1;
            sum += g, dot += g * hat;
            if (r < rows_per_block) own_sum += g, own_dot += g * hat;
        }
        compare("norm_factors", got_scale[i], s, 2e-6, "scale");
        compare("norm_factors", got_shift[i], bias[i] - m * s, 2e-5, "shift");
        const double moved = fixed ? 0 : 0.1, unbiased = v * rows / (rows - 1.0);
        compare("norm_factors", got_mean[i], mean0[i] + moved * (m - mean0[i]), 1e-6, "mean");
        compare("norm_factors", got_variance[i], variance0[i] + moved * (unbiased - variance0[i]), 1e-5, "variance");
        compare("norm_gradients", got_dw[i], 1 + own_dot, 2e-5 * rows, "weight");
        compare("norm_gradients", got_db[i], 2 + own_sum, 1e-6 * rows, "bias");
        for (int r = 0; r < rows; r++) {
            const size_t k = size_t(r) * c + i;
            const double hat = (z[k] - m) * r1, centre = fixed ? 0 : (sum + hat * dot) / rows;
            compare("batchnorm_backward", got_e[k], s * (d[k] - centre), 2e-5);
        }
    }
}

void check_pooling(Shape s, bool with_round, float slope) {
    const Shape pooled{s.images, s.height / 2, s.width / 2, s.c};
    auto z = random_vector<f32>(s.size()), round = random_vector<f32>(s.size());
    auto dout = random_vector<f32>(pooled.size());
    auto scale = random_vector<f32>(s.c), shift = random_vector<f32>(s.c), rscale = random_vector<f32>(s.c),
         rshift = random_vector<f32>(s.c);
    Buffer<f32> bz(z), bround(round), bdout(dout), bs(scale), bh(shift), brs(rscale), brh(rshift);
    Buffer<f32> out(pooled.size()), d(s.size());
    PoolArgs args{bz.p(), bs.p(), bh.p(), nullptr, nullptr, nullptr, out.p(), bdout.p(),
                  d.p(),  s.images, s.height, s.width, s.c, slope};
    if (with_round) args.round = bround.p(), args.round_scale = brs.p(), args.round_shift = brh.p();
    CHECK(!launch("pool_forward", {up(pooled.size(), 256)}, args), "%s", faults().c_str());
    const size_t cells = size_t(s.images) * up(s.height, 2) * up(s.width, 2) * s.c;
    CHECK(!launch("pool_backward", {up(cells, 256)}, args), "%s", faults().c_str());
    check_clean("pooling");
    auto got = out.get(), got_d = d.get();
    std::vector<double> want(s.size());
    for (int b = 0; b < s.images; b++)
        for (int y = 0; y < pooled.height; y++)
            for (int x = 0; x < pooled.width; x++)
                for (int i = 0; i < s.c; i++) {
                    double most = 0;
                    size_t best = 0;
                    for (int k = 0; k < 4; k++) {
                        const size_t at = s.at(b, 2 * y + k / 2, 2 * x + k % 2, i);
                        double value = double(z[at]) * scale[i] + shift[i];
                        if (with_round) value += double(round[at]) * rscale[i] + rshift[i];
                        value = leaky(value, slope);
                        if (k == 0 || value > most) most = value, best = at;
                    }
                    const size_t at = pooled.at(b, y, x, i);
                    compare("pool_forward", got[at], most, 5e-7);
                    want[best] = dout[at] * (most > 0 ? 1 : slope);
                }
    for (size_t k = 0; k < s.size(); k++) compare("pool_backward", got_d[k], want[k], 1e-7);
}

void check_features(int images, int pixels, int c, int mean) {
    const int d = mean ? c : pixels * c;
    const size_t size = size_t(images) * pixels * c;
    auto x = random_vector<f32>(size), df = random_vector<f32>(size_t(images) * d);
    Buffer<f32> bx(x), bdf(df), features(df.size()), dx(size);
    CHECK(!launch("features_forward", {up(df.size(), 256)}, bx.p(), features.p(), images, pixels, c, mean), "%s",
          faults().c_str());
    CHECK(!launch("features_backward", {up(size, 256)}, bdf.p(), dx.p(), images, pixels, c, mean), "%s",
          faults().c_str());
    check_clean("features");
    auto got = features.get(), got_dx = dx.get();
    std::vector<double> want(df.size());
    for (int b = 0; b < images; b++)
        for (int p = 0; p < pixels; p++)
            for (int i = 0; i < c; i++) {
                const size_t from = (size_t(b) * pixels + p) * c + i;
                const size_t to = size_t(b) * d + (mean ? i : i * pixels + p);
                want[to] += mean ? x[from] / double(pixels) : x[from];
                compare("features_backward", got_dx[from], mean ? df[to] / double(pixels) : df[to], 1e-7);
            }
    for (size_t k = 0; k < want.size(); k++) compare("features_forward", got[k], want[k], 3e-7);
}

void check_sgd(int n, int nesterov, int finite) {
    auto w = random_vector<f32>(n), g = random_vector<f32>(n), v = random_vector<f32>(n);
    g[0] = v[0] = 1e-35f, w[0] = 0;
    const float lr = 0.1f, momentum = 0.9f, decay = 0.05f;
    Buffer<f32> bw(w), bg(g), bv(v);
    Buffer<StepNorm> norm(std::vector<StepNorm>{{0, 0, 0.5f, finite}});
    CHECK(!launch("sgd", {up(n, 256)}, bw.p(), bg.p(), bv.p(), norm.p(), (long long)n, lr, momentum, decay, nesterov),
          "%s", faults().c_str());
    check_clean("sgd");
    auto got_w = bw.get(), got_v = bv.get();
    for (int i = 0; i < n; i++) {
        const double d = g[i] * 0.5 + double(decay) * w[i], velocity = double(momentum) * v[i] + d;
        const double way = nesterov ? d + momentum * velocity : velocity;
        compare("sgd", got_v[i], finite ? velocity : v[i], 2e-7, "velocity");
        compare("sgd", got_w[i], finite ? w[i] - lr * way : w[i], 2e-7, "weight");
    }
    CHECK(!finite || got_v[0] == 0, "a velocity that is next to nothing is nothing");
}
}  // namespace

void test_conv() {
    check_patches({2, 5, 4, 3}, false, false);
    check_patches({3, 3, 7, 5}, true, true);
    check_patches({1, 1, 1, 2}, true, false);
    for (bool fixed : {false, true}) {
        check_norm(37, 5, 16, fixed);
        check_norm(130, 67, 64, fixed);
    }
    check_norm(2, 1, 8, false);
    check_pooling({2, 5, 7, 3}, true, 0.1f);
    check_pooling({1, 4, 4, 9}, false, 0.0f);
    for (int mean : {0, 1}) check_features(3, 6, 5, mean);
    for (int nesterov : {0, 1}) check_sgd(300, nesterov, 1);
    check_sgd(10, 0, 0);
}
