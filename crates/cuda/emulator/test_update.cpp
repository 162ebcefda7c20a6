// The gradient's norm and AdamW, in f32 and 8 bits, against plain loops in f64.
#include "test.h"

namespace {
/// The dynamic map as the CPU's kernels make it: bitsandbytes' `create_dynamic_map(signed, 7, 8)`.
std::vector<float> dynamic_maps() {
    std::vector<float> maps(512, 0.0f);
    auto fill = [&](int at, int first_cells) {
        for (int decade = 0; decade < 7; decade++) {
            int cells = first_cells << decade;
            float step = (1.0f - 0.1f) / cells, power = std::pow(10.0f, float(decade - 6));
            auto boundary = [&](int i) {
                return i < (cells + 1) / 2 ? float(double(0.1f) + double(step) * i)
                                           : float(1.0 - double(step) * (cells - i));
            };
            for (int i = 0; i < cells; i++) maps[at++] = power * ((boundary(i) + boundary(i + 1)) / 2.0f);
        }
    };
    fill(128, 1);
    for (int i = 0; i < 127; i++) maps[i] = -maps[254 - i];
    maps[255] = 1;
    fill(256 + 1, 2);
    maps[511] = 1;
    return maps;
}
int nearest(const float *values, double x) {
    int best = 0;
    for (int code = 1; code < 256; code++) {
        double a = std::fabs(x - values[code]), b = std::fabs(x - values[best]);
        if (a < b || (a == b && std::fabs(values[code]) < std::fabs(values[best]))) best = code;
    }
    return best;
}

struct Tensor {
    int len, flags;
};

template <class E>
void check_adamw(bool finite) {
    const std::string name = std::string("adamw_") + Type<E>::name;
    const std::vector<float> maps = dynamic_maps();
    const std::vector<Tensor> tensors = {{5, 0}, {2048, 1}, {4999, 3}, {300, 2}, {256, 3}, {1, 3}, {6000, 2}};
    std::vector<UpdateBlock> blocks;
    size_t len = 0, wide = 0, codes = 0, scales = 0;
    for (auto [n, flags] : tensors) {
        for (int from = 0; from < n; from += 2048)
            blocks.push_back({len + from, flags & 2 ? codes + from : wide + from, scales + from / 256,
                              std::min(2048, n - from), flags});
        len += up(n, 16) * 16;
        if (flags & 2)
            codes += up(n, 64) * 64, scales += up(n, 256);
        else
            wide += up(n, 16) * 16;
    }
    auto w = random_vector<f32>(len), g = random_vector<f32>(len);
    for (f32 &x : g) x *= static_cast<float>(std::pow(10.0, uniform(-4, 0)));
    for (size_t i = 2053; i < 2100; i++) g[i] = 0;
    const double clip = 0.5, inverse_scale = 1.0 / 1024;
    for (f32 &x : g) x *= 1024;
    if (!finite) g[777] = INFINITY;
    Buffer<f32> dw(w), dg(g), dmaps(maps), m(std::vector<f32>(wide, 0.0f)), v(std::vector<f32>(wide, 0.0f));
    Buffer<f32> m_scales(std::vector<f32>(scales, 0.0f)), v_scales(std::vector<f32>(scales, 0.0f));
    Buffer<unsigned char> m_codes(std::vector<unsigned char>(codes, 0)), v_codes(std::vector<unsigned char>(codes, 0));
    Buffer<UpdateBlock> dblocks(blocks);
    Buffer<StepNorm> result(1);
    Buffer<E> w_e(random_vector<E>(len));
    const bool copies = sizeof(E) == 2;
    std::vector<double> ew(w.begin(), w.end()), em(len), ev(len);
    std::vector<int> groups(len, -1);
    for (int t = 1; t <= 3; t++) {
        const int chunks = up(len, 16384);
        Buffer<double> parts(chunks);
        CHECK(!launch("squares", {chunks}, dg.p(), parts.p(), (long long)len), "%s", faults().c_str());
        CHECK(!launch("step_norm", {1}, parts.p(), chunks, inverse_scale, clip, result.p()), "%s", faults().c_str());
        AdamWArgs args{dw.p(),
                       dg.p(),
                       copies ? w_e.p() : nullptr,
                       m.p(),
                       v.p(),
                       m_codes.p(),
                       v_codes.p(),
                       m_scales.p(),
                       v_scales.p(),
                       dmaps.p(),
                       dblocks.p(),
                       result.p(),
                       3e-3f,
                       0.9f,
                       0.95f,
                       1e-8f,
                       0.1f,
                       static_cast<float>(1 - std::pow(0.9, t)),
                       static_cast<float>(std::sqrt(1 - std::pow(0.95, t)))};
        CHECK(!launch(name, {int(blocks.size())}, args), "%s", faults().c_str());
        check_clean(name);
        StepNorm got = result.get()[0];
        CHECK(got.finite == finite && std::isfinite(got.squares) == finite, "finite");
        auto gw = dw.get(), gm = m.get(), gv = v.get(), gms = m_scales.get(), gvs = v_scales.get();
        auto gmc = m_codes.get(), gvc = v_codes.get();
        if (!finite) {
            CHECK(gw == w && gms[0] == 0, "%s moves without a finite gradient", name.c_str());
            return;
        }
        double squares = 0;
        for (f32 x : g) squares += double(x) * x * inverse_scale * inverse_scale;
        compare("squares, step_norm", got.squares, squares, squares * 1e-6);
        compare("squares, step_norm", got.norm, std::sqrt(squares), std::sqrt(squares) * 1e-6);
        const double factor = std::min(1.0, clip / (std::sqrt(squares) + 1e-6)) * inverse_scale;
        compare("squares, step_norm", got.factor, factor, factor * 1e-6);
        auto ge = w_e.get();
        for (const UpdateBlock &block : blocks) {
            double m_most[8] = {}, v_most[8] = {};
            for (int i = 0; i < block.len; i++) {
                size_t at = block.at + i;
                double x = double(g[at]) * factor;
                em[at] = 0.9 * em[at] + 0.1 * x, ev[at] = 0.95 * ev[at] + 0.05 * x * x;
                double root = std::sqrt(ev[at]) / std::sqrt(1 - std::pow(0.95, t)) + 1e-8;
                ew[at] =
                    ew[at] * (1 - 3e-3 * (block.flags & 1 ? 0.1 : 0)) - 3e-3 / (1 - std::pow(0.9, t)) * em[at] / root;
                compare(name, gw[at], ew[at], 2e-6, "w");
                if (copies)
                    compare(name, value(ge[at]), ew[at], 2e-6 + std::fabs(ew[at]) * Type<E>::rounding * 1.01, "w_e");
                if (!(block.flags & 2)) {
                    compare(name, gm[block.moment + i], em[at], 1e-6 * std::fabs(em[at]) + 1e-9, "m");
                    compare(name, gv[block.moment + i], ev[at], 3e-6 * ev[at] + 1e-12, "v");
                }
                m_most[i / 256] = std::max(m_most[i / 256], std::fabs(em[at]));
                v_most[i / 256] = std::max(v_most[i / 256], ev[at]);
            }
            if (!(block.flags & 2)) continue;
            int off = 0;
            for (int i = 0; i < block.len; i++) {
                size_t at = block.at + i;
                float ms = gms[block.scale + i / 256], vs = gvs[block.scale + i / 256];
                compare(name, ms, m_most[i / 256], m_most[i / 256] * 1e-5, "scale of m");
                compare(name, vs, v_most[i / 256], v_most[i / 256] * 1e-5, "scale of v");
                int want_m = m_most[i / 256] ? nearest(&maps[0], em[at] / m_most[i / 256]) : 127;
                int want_v =
                    v_most[i / 256] ? std::max(nearest(&maps[256], ev[at] / v_most[i / 256]), ev[at] != 0 ? 1 : 0) : 0;
                int m_code = gmc[block.moment + i], v_code = gvc[block.moment + i];
                // Rounding in f32 may carry a number over a midpoint: to the next code, seldom.
                CHECK(std::abs(m_code - want_m) <= 1 && std::abs(v_code - want_v) <= 1, "%s codes %d %d, %d %d wanted",
                      name.c_str(), m_code, v_code, want_m, want_v);
                off += (m_code != want_m) + (v_code != want_v);
                // Go on from what is kept.
                em[at] = maps[m_code] * double(ms), ev[at] = maps[256 + v_code] * double(vs);
                ew[at] = gw[at];
            }
            CHECK(off <= 1 + block.len / 250, "%s: %d codes of %d differ", name.c_str(), off, block.len);
        }
    }
}
}  // namespace

void test_update() {
    for (bool finite : {true, false}) {
        check_adamw<f32>(finite);
        check_adamw<bf16>(finite);
        check_adamw<f16>(finite);
    }
}
