// Products and what follows them, against plain loops in f64.
#include "test.h"

namespace {
struct Case {
    int m, n, k, pad;  // pad: elements between rows, so that rows begin anywhere
};
double gelu(double x) {
    return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
double f(int code, double x) {
    return code == GELU_TANH  ? gelu(x)
           : code == GELU_ERF ? 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)))
           : x > 0            ? x
                              : 0;
}
double slope_of(int code, double x) {
    if (code == RELU) return x > 0;
    return (f(code, x + 1e-5) - f(code, x - 1e-5)) / 2e-5;
}

template <class E>
void check_case(const std::string &form, int tile, Case c) {
    const auto [m, n, k, pad] = c;
    const std::string name = "gemm_" + form + "_" + Type<E>::name + "_" + std::to_string(tile);
    const bool a_turned = form == "tn", b_turned = form == "nt";
    const int lda = (a_turned ? m : k) + pad, ldb = (b_turned ? k : n) + pad, ldo = n + pad;
    auto a = random_vector<E>(size_t(a_turned ? k : m) * lda), b = random_vector<E>(size_t(b_turned ? n : k) * ldb);
    std::vector<double> exact(size_t(m) * n);
    double size = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int x = 0; x < k; x++)
                sum += value(a[a_turned ? size_t(x) * lda + i : size_t(i) * lda + x]) *
                       value(b[b_turned ? size_t(j) * ldb + x : size_t(x) * ldb + j]);
            exact[size_t(i) * n + j] = sum;
            size = std::max(size, std::fabs(sum));
        }
    // Sums of k products of numbers up to 1, each rounded to f32; then the result's own rounding.
    const double sums = k * 0x1p-23 * 2, rounding = Type<E>::rounding;
    auto bias = random_vector<f32>(n), residual = random_vector<f32>(size_t(m) * ldo),
         before = random_vector<f32>(size_t(m) * ldo);
    auto slope = random_vector<E>(size_t(m) * ldo);
    std::vector<int> targets(m);
    const int column0 = 7;
    for (int &t : targets) t = below(n + 14);
    auto lse = random_vector<f32>(m);
    for (f32 &x : lse) x += 3;
    Buffer<E> da(a), db(b), dslope(slope);
    Buffer<f32> dbias(bias), dresidual(residual), dlse(lse);
    Buffer<int> dtargets(targets);
    const int slices = std::string(Type<E>::name) == "f32" ? up(n, 64) : 2 * up(n, tile);
    GemmArgs args{};
    args.a = da.p(), args.b = db.p(), args.m = m, args.n = n, args.k = k, args.lda = lda, args.ldb = ldb,
    args.ldo = ldo;
    args.k_split = k, args.residual = dresidual.p(), args.targets = dtargets.p(), args.lse = dlse.p();
    args.column0 = column0, args.stats_slices = slices + 3, args.stats_slice0 = 2, args.scale = 0.25f;
    const Grid grid{up(n, tile), up(m, tile)};
    auto run = [&](int epilogue, auto check) {
        Buffer<f32> out(before), stats(std::vector<f32>(size_t(m) * (slices + 3) * 2, -7.0f)),
            logits(std::vector<f32>(m, -7.0f));
        Buffer<E> out_e(random_vector<E>(size_t(m) * ldo)), kept(slope);
        args.out = out.p(), args.out_e = out_e.p(), args.epilogue = epilogue, args.stats = stats.p();
        args.target_logits = logits.p();
        args.slope = kept.p();
        CHECK(!launch(name, grid, args), "%s: %s", name.c_str(), faults().c_str());
        check(out.get(), out_e.get(), kept.get(), stats.get(), logits.get());
        check_clean(name);
    };
    auto each = [&](auto body) {
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) body(i, j, size_t(i) * ldo + j, exact[size_t(i) * n + j]);
    };
    auto untouched = [&](const auto &got, const auto &was) {
        for (int i = 0; i < m; i++)
            for (int j = n; j < ldo; j++)
                CHECK(value(got[size_t(i) * ldo + j]) == value(was[size_t(i) * ldo + j]), "%s writes between rows",
                      name.c_str());
    };
    for (bool with_bias : {false, true}) {
        args.bias = with_bias ? dbias.p() : nullptr;
        run(STORE_F32, [&](auto out, auto, auto, auto, auto) {
            each([&](int, int j, size_t at, double x) {
                compare(name, out[at], x + (with_bias ? bias[j] : 0), sums + size * 0x1p-23, "STORE_F32");
            });
            untouched(out, before);
        });
        run(STORE_E, [&](auto, auto out, auto, auto, auto) {
            each([&](int, int j, size_t at, double x) {
                x += with_bias ? bias[j] : 0;
                compare(name, value(out[at]), x, sums + std::fabs(x) * rounding * 1.01 + 1e-7, "STORE_E");
            });
        });
    }
    run(RESIDUAL, [&](auto out, auto, auto, auto, auto) {
        each([&](int, int j, size_t at, double x) {
            compare(name, out[at], x + bias[j] + residual[at], sums + size * 0x1p-22, "RESIDUAL");
        });
    });
    for (int code : {GELU_TANH, GELU_ERF, RELU}) {
        args.activation = code;
        run(ACTIVATION, [&](auto, auto out, auto kept, auto, auto) {
            each([&](int, int j, size_t at, double x) {
                x += bias[j];
                if (code == RELU && std::fabs(x) < 1e-3) return;
                compare(name, value(out[at]), f(code, x), 2 * sums + std::fabs(x) * rounding * 1.01 + 2e-6,
                        "ACTIVATION");
                compare(name, value(kept[at]), slope_of(code, x), 2 * sums + 1.2 * rounding + 4e-6, "slope");
            });
            untouched(kept, slope);
        });
    }
    args.bias = nullptr;
    run(ADD_F32, [&](auto out, auto, auto, auto, auto) {
        each([&](int, int, size_t at, double x) {
            compare(name, out[at], x + before[at], sums + size * 0x1p-23, "ADD_F32");
        });
    });
    run(SLOPE, [&](auto, auto out, auto, auto, auto) {
        each([&](int, int, size_t at, double x) {
            x *= value(slope[at]);
            compare(name, value(out[at]), x, sums + std::fabs(x) * rounding * 1.01 + 1e-7, "SLOPE");
        });
    });
    run(LOGIT_GRADIENT, [&](auto, auto out, auto, auto, auto) {
        each([&](int i, int j, size_t at, double x) {
            x = (std::exp(x - lse[i]) - (targets[i] == column0 + j)) * 0.25;
            compare(name, value(out[at]), x,
                    (std::fabs(x) + 0.25) * (2 * sums + 1e-6) + std::fabs(x) * rounding * 1.01 + 1e-7,
                    "LOGIT_GRADIENT");
        });
    });
    run(LOGIT_STATS, [&](auto, auto, auto, auto stats, auto logits) {
        for (int i = 0; i < m; i++) {
            double sum = 0, got = 0;
            for (int j = 0; j < n; j++) sum += std::exp(exact[size_t(i) * n + j]);
            for (int s = 0; s < slices + 3; s++) {
                const f32 *at = &stats[2 * (size_t(i) * (slices + 3) + s)];
                if (s < 2 || s >= slices + 2)
                    CHECK(at[0] == -7 && at[1] == -7, "%s writes beside its slices", name.c_str());
                else if (at[1] != 0)
                    got += at[1] * std::exp(double(at[0]));
            }
            compare(name, std::log(got), std::log(sum), 2 * sums + 1e-6, "LOGIT_STATS");
            int t = targets[i] - column0;
            bool inside = t >= 0 && t < n;
            compare(name, logits[i], inside ? exact[size_t(i) * n + t] : -7, sums + size * 0x1p-23, "target logit");
        }
    });
    // Split over k: each part to its own place, then added in order.
    const int k_split = up(up(k, 3), 32) * 32, splits = up(k, k_split);
    args.ldo = n, args.k_split = k_split, args.epilogue = STORE_F32;
    Buffer<f32> parts(size_t(m) * n * splits);
    args.out = parts.p();
    CHECK(!launch(name, {grid.x, grid.y, splits}, args), "%s: %s", name.c_str(), faults().c_str());
    auto got = parts.get();
    for (size_t i = 0; i < exact.size(); i++) {
        double sum = 0;
        for (int s = 0; s < splits; s++) sum += got[s * exact.size() + i];
        compare(name, sum, exact[i], sums + size * 0x1p-22, "split");
    }
    check_clean(name);
}
template <class E>
void check_type(std::vector<int> tiles, std::vector<Case> cases) {
    for (int tile : tiles)
        for (const char *form : {"nn", "nt", "tn"})
            for (Case c : cases) check_case<E>(form, tile, c);
}
}  // namespace

void test_gemm() {
    const std::vector<Case> cases = {
        {64, 64, 64, 0}, {1, 1, 1, 0}, {37, 53, 41, 0}, {40, 136, 96, 8}, {130, 72, 33, 3}};
    check_type<f32>({64}, cases);
    check_type<bf16>({64, 128}, cases);
    check_type<f16>({64, 128}, cases);
    // More rows of tiles than a group has.
    check_case<bf16>("nt", 64, {64 * 10 + 1, 130, 32, 0});

    // Losses of slices, some empty.
    const int m = 11, slices = 37;
    auto stats = random_vector<f32>(m * slices * 2, 5), logits = random_vector<f32>(m);
    for (int i = 0; i < m * slices; i++) {
        bool empty = i % slices && i % 5 == 0;
        stats[2 * i + 1] = empty ? 0.0f : std::fabs(stats[2 * i + 1]) + 1;
        if (empty) stats[2 * i] = -INFINITY;
    }
    Buffer<f32> dstats(stats), dlogits(logits), lse(m), losses(m);
    CHECK(!launch("logit_losses", {up(m, 8)}, dstats.p(), slices, dlogits.p(), lse.p(), losses.p(), m), "logit_losses");
    auto got_lse = lse.get(), got = losses.get();
    for (int i = 0; i < m; i++) {
        double sum = 0;
        for (int s = 0; s < slices; s++)
            if (stats[2 * (i * slices + s) + 1] != 0)
                sum += stats[2 * (i * slices + s) + 1] * std::exp(double(stats[2 * (i * slices + s)]));
        compare("logit_losses", got_lse[i], std::log(sum), 2e-6);
        compare("logit_losses", got[i], std::log(sum) - logits[i], 3e-6);
    }
    check_clean("logit_losses");
}
