// Layer norm, embeddings and sums against plain loops in f64.
#include "test.h"

namespace {
template <class E>
void check_layernorm(int rows, int c, int rows_per_block, bool with_residual) {
    const std::string tail = Type<E>::name, forward = "layernorm_forward_" + tail,
                      backward = "layernorm_backward_" + tail;
    auto x = random_vector<f32>(size_t(rows) * c), w = random_vector<f32>(c), b = random_vector<f32>(c);
    auto dy = random_vector<f32>(size_t(rows) * c), residual = random_vector<f32>(size_t(rows) * c);
    for (f32 &v : x) v = v * 3 + 5;
    const float epsilon = 1e-5f;
    Buffer<f32> dx(x), dw(w), db(b), ddy(dy), dresidual(residual), stats(2 * rows), out(size_t(rows) * c);
    Buffer<E> y(size_t(rows) * c), out_e(size_t(rows) * c);
    CHECK(!launch(forward, {up(rows, 4)}, dx.p(), dw.p(), db.p(), y.p(), stats.p(), rows, c, epsilon), "%s",
          faults().c_str());
    const int blocks = up(rows, rows_per_block);
    Buffer<f32> parts(size_t(blocks) * 2 * c);
    LayerNormBackwardArgs args{dx.p(),
                               stats.p(),
                               dw.p(),
                               ddy.p(),
                               with_residual ? dresidual.p() : nullptr,
                               out.p(),
                               with_residual ? out_e.p() : nullptr,
                               parts.p(),
                               rows,
                               c,
                               rows_per_block};
    CHECK(!launch(backward, {blocks, 1, 1, size_t(8) * c}, args), "%s", faults().c_str());
    // Another's sums are there already.
    Buffer<f32> gradient(std::vector<f32>(2 * c, 1.0f));
    for (int half : {0, 1})
        CHECK(!launch("reduce_parts", {up(c, 256)}, parts.p() + half * c, gradient.p() + half * c, (long long)c, blocks,
                      (long long)2 * c, half),
              "reduce_parts");
    check_clean(backward);
    auto got_y = y.get(), got_e = with_residual ? out_e.get() : std::vector<E>();
    auto got = out.get(), got_gradient = gradient.get();
    std::vector<double> gw(c), gb(c);
    for (int r = 0; r < rows; r++) {
        double mean = 0, variance = 0, sum = 0, dot = 0;
        for (int i = 0; i < c; i++) mean += x[size_t(r) * c + i];
        mean /= c;
        for (int i = 0; i < c; i++) variance += std::pow(x[size_t(r) * c + i] - mean, 2);
        const double rstd = 1 / std::sqrt(variance / c + epsilon);
        auto hat = [&](int i) { return (x[size_t(r) * c + i] - mean) * rstd; };
        for (int i = 0; i < c; i++) {
            double e = double(dy[size_t(r) * c + i]) * w[i];
            sum += e / c, dot += e * hat(i) / c;
            gw[i] += dy[size_t(r) * c + i] * hat(i), gb[i] += dy[size_t(r) * c + i];
            double exact = hat(i) * w[i] + b[i];
            compare(forward, value(got_y[size_t(r) * c + i]), exact,
                    1e-4 * (c == 1 ? 50 : 1) + std::fabs(exact) * Type<E>::rounding * 1.01);
        }
        for (int i = 0; i < c; i++) {
            double exact = rstd * (double(dy[size_t(r) * c + i]) * w[i] - sum - hat(i) * dot);
            if (with_residual) exact += residual[size_t(r) * c + i];
            double bound = (1e-5 + 2e-6 * rstd) * (1 + std::fabs(exact));
            compare(backward, got[size_t(r) * c + i], exact, bound, "dx");
            if (with_residual)
                compare(backward, value(got_e[size_t(r) * c + i]), exact,
                        bound + std::fabs(exact) * Type<E>::rounding * 1.01, "dx_e");
        }
    }
    for (int i = 0; i < c; i++) {
        compare("reduce_parts", got_gradient[i], gw[i], 1e-4 * rows, "dw");
        compare("reduce_parts", got_gradient[c + i], gb[i] + 1, 1e-5 * rows, "db");
    }
}

template <class E>
void check_columns(int rows, int n, int ld, int rows_per_block) {
    const std::string name = std::string("column_sums_") + Type<E>::name;
    auto x = random_vector<E>(size_t(rows) * ld);
    Buffer<E> dx(x);
    const int blocks = up(rows, rows_per_block);
    Buffer<f32> parts(size_t(blocks) * n), sums(n);
    CHECK(!launch(name, {up(n, 64), blocks}, dx.p(), parts.p(), rows, n, ld, rows_per_block), "%s", faults().c_str());
    CHECK(!launch("reduce_parts", {up(n, 256)}, parts.p(), sums.p(), (long long)n, blocks, (long long)n, 0),
          "reduce_parts");
    check_clean(name);
    auto got = sums.get();
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int r = 0; r < rows; r++) sum += value(x[size_t(r) * ld + i]);
        compare(name, got[i], sum, rows * 0x1p-23);
    }
}

template <class E>
void check_cast(const char *name) {
    const int n = 1000;
    auto x = random_vector<f32>(n);
    x[0] = 1e-30f, x[1] = 65504, x[2] = 1e6f, x[3] = NAN, x[4] = -0.0f, x[5] = INFINITY;
    Buffer<f32> dx(x);
    Buffer<E> y(n);
    CHECK(!launch(name, {up(n, 256)}, dx.p(), y.p(), (long long)n), "%s", name);
    auto got = y.get();
    for (int i = 0; i < n; i++) {
        E want;
        put(want, x[i]);
        CHECK(got[i].bits == want.bits, "%s of %g", name, x[i]);
    }
    check_clean(name);
}

void check_embedding(int sequences, int t, int c, int vocab) {
    const int m = sequences * t;
    std::vector<int> tokens(m), order(m), starts, ids;
    for (int &x : tokens) x = below(vocab);
    auto wte = random_vector<f32>(size_t(vocab) * c), wpe = random_vector<f32>(size_t(t + 2) * c),
         dx = random_vector<f32>(size_t(m) * c);
    for (int i = 0; i < m; i++) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return tokens[a] < tokens[b]; });
    for (int i = 0; i < m; i++)
        if (!i || tokens[order[i]] != tokens[order[i - 1]]) starts.push_back(i), ids.push_back(tokens[order[i]]);
    starts.push_back(m);
    Buffer<int> dtokens(tokens), dorder(order), dstarts(starts), dids(ids);
    Buffer<f32> dwte(wte), dwpe(wpe), ddx(dx), x(size_t(m) * c);
    CHECK(!launch("embed_forward", {m}, dtokens.p(), dwte.p(), dwpe.p(), x.p(), m, t, c), "%s", faults().c_str());
    auto got = x.get();
    for (int i = 0; i < m * c; i++)
        compare("embed_forward", got[i], double(wte[size_t(tokens[i / c]) * c + i % c]) + wpe[i / c % t * c + i % c],
                2e-7);
    // Gradients are added to what is there: here to the weights.
    CHECK(!launch("embed_backward_tokens", {int(ids.size()), up(c, 128)}, ddx.p(), dorder.p(), dstarts.p(), dids.p(),
                  dwte.p(), c),
          "tokens");
    CHECK(!launch("embed_backward_positions", {t, up(c, 128)}, ddx.p(), dwpe.p(), sequences, t, c), "positions");
    check_clean("embed");
    std::vector<double> te(wte.begin(), wte.end()), pe(wpe.begin(), wpe.end());
    for (int i = 0; i < m * c; i++) te[size_t(tokens[i / c]) * c + i % c] += dx[i], pe[i / c % t * c + i % c] += dx[i];
    auto got_te = dwte.get(), got_pe = dwpe.get();
    for (size_t i = 0; i < te.size(); i++) compare("embed_backward_tokens", got_te[i], te[i], 1e-6 * m);
    for (size_t i = 0; i < pe.size(); i++) compare("embed_backward_positions", got_pe[i], pe[i], 1e-6 * m);
}
}  // namespace

void test_rows() {
    for (int c : {1, 24, 33, 300}) {
        check_layernorm<f32>(13, c, 8, true);
        check_layernorm<bf16>(21, c, 16, c % 2);
        check_layernorm<f16>(5, c, 8, true);
    }
    check_layernorm<f32>(2, 5888, 8, true);
    for (int n : {1, 64, 100}) {
        check_columns<f32>(37, n, n, 16);
        check_columns<bf16>(70, n, n + 3, 64);
        check_columns<f16>(3, n, n, 8);
    }
    check_cast<bf16>("cast_bf16");
    check_cast<f16>("cast_f16");
    check_embedding(3, 7, 24, 11);
    check_embedding(1, 5, 130, 50);

    const int n = 700;
    auto x = random_vector<f32>(n), y = random_vector<f32>(n);
    Buffer<f32> dx(x), dy(y);
    CHECK(!launch("add", {up(n, 256)}, dx.p(), dy.p(), (long long)n), "add");
    CHECK(!launch("scale", {up(n, 256)}, dx.p(), 0.3f, (long long)n), "scale");
    auto got = dx.get();
    for (int i = 0; i < n; i++) compare("add, scale", got[i], (double(x[i]) + y[i]) * 0.3f, 2e-7);
    check_clean("add, scale");
}
