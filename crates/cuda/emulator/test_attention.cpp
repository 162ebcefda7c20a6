// Attention, forward and backward, against plain loops in f64 on the operands as they are rounded.
#include "test.h"

namespace {
template <class E>
void check_case(int b, int t, int heads, int width) {
    const bool tiled = std::string(Type<E>::name) != "f32";
    const int padded = width <= 16 ? 16 : width <= 32 ? 32 : width <= 64 ? 64 : 128;
    const std::string tail = std::string("_") + Type<E>::name + (tiled ? "_" + std::to_string(padded) : "");
    const int c = heads * width, m = b * t;
    const float scale = static_cast<float>(1 / std::sqrt(double(width)));
    auto qkv = random_vector<E>(size_t(m) * 3 * c, 2), dout = random_vector<E>(size_t(m) * c);
    Buffer<E> dqkv(qkv), ddout(dout), out(size_t(m) * c), grads(size_t(m) * 3 * c);
    Buffer<f32> lse(size_t(b) * heads * t), delta(size_t(b) * heads * t);
    AttentionArgs args{dqkv.p(), out.p(), lse.p(), ddout.p(), delta.p(), grads.p(), t, heads, width, scale};
    const Grid grid{up(t, tiled ? 64 : 4), heads, b};
    for (std::string name : {"attention_forward" + tail, std::string("attention_delta_") + Type<E>::name,
                             "attention_backward_kv" + tail, "attention_backward_q" + tail}) {
        Grid g = grid;
        if (name.find("delta") != std::string::npos) g.x = up(t, 4);
        CHECK(!launch(name, g, args), "%s: %s", name.c_str(), faults().c_str());
    }
    check_clean("attention" + tail);
    const auto got_out = out.get(), got = grads.get();
    const auto got_lse = lse.get();
    // What rounding p and ds to operands may do: each result is a mean of up to t values, rounded independently.
    const double rounding = Type<E>::rounding, base = 1e-5;
    for (int s = 0; s < b; s++)
        for (int h = 0; h < heads; h++) {
            auto at = [&](int part, int i, int x) {
                return value(qkv[size_t(s * t + i) * 3 * c + part * c + h * width + x]);
            };
            auto go = [&](int i, int x) { return value(dout[size_t(s * t + i) * c + h * width + x]); };
            std::vector<double> p(size_t(t) * t), dq(t * width), dk(t * width), dv(t * width);
            std::vector<double> aq(t * width), ak(t * width),
                av(t * width);  // Σ |…|: what rounding errors are relative to
            for (int i = 0; i < t; i++) {
                double most = -1e300, sum = 0, d = 0;
                for (int j = 0; j <= i; j++) {
                    double dot = 0;
                    for (int x = 0; x < width; x++) dot += at(0, i, x) * at(1, j, x);
                    p[size_t(i) * t + j] = dot * scale;
                    most = std::max(most, dot * scale);
                }
                for (int j = 0; j <= i; j++) sum += std::exp(p[size_t(i) * t + j] - most);
                const double log_sum = most + std::log(sum);
                compare("attention_forward" + tail, got_lse[(size_t(s) * heads + h) * t + i], log_sum,
                        base * (1 + std::fabs(log_sum)), "lse");
                for (int j = 0; j <= i; j++) p[size_t(i) * t + j] = std::exp(p[size_t(i) * t + j] - log_sum);
                for (int x = 0; x < width; x++) {
                    double o = 0, size = 0;
                    for (int j = 0; j <= i; j++) {
                        o += p[size_t(i) * t + j] * at(2, j, x);
                        size += p[size_t(i) * t + j] * std::fabs(at(2, j, x));
                    }
                    compare("attention_forward" + tail, value(got_out[size_t(s * t + i) * c + h * width + x]), o,
                            base + 2.1 * rounding * size, "out");
                    // The backward is given the rounded output, as the kernel is.
                    d += go(i, x) * value(got_out[size_t(s * t + i) * c + h * width + x]);
                }
                for (int j = 0; j <= i; j++) {
                    double dp = 0, pij = p[size_t(i) * t + j];
                    for (int x = 0; x < width; x++) dp += go(i, x) * at(2, j, x);
                    const double ds = pij * (dp - d) * scale;
                    for (int x = 0; x < width; x++) {
                        dv[j * width + x] += pij * go(i, x), av[j * width + x] += std::fabs(pij * go(i, x));
                        dq[i * width + x] += ds * at(1, j, x), aq[i * width + x] += std::fabs(ds * at(1, j, x));
                        dk[j * width + x] += ds * at(0, i, x), ak[j * width + x] += std::fabs(ds * at(0, i, x));
                    }
                }
            }
            for (int i = 0; i < t; i++)
                for (int x = 0; x < width; x++) {
                    const size_t row = size_t(s * t + i) * 3 * c + h * width + x;
                    const int k = i * width + x;
                    compare("attention_backward_q" + tail, value(got[row]), dq[k], 4 * base + 2.1 * rounding * aq[k],
                            "dq");
                    compare("attention_backward_kv" + tail, value(got[row + c]), dk[k],
                            4 * base + 2.1 * rounding * ak[k], "dk");
                    compare("attention_backward_kv" + tail, value(got[row + 2 * c]), dv[k],
                            4 * base + 2.1 * rounding * av[k], "dv");
                }
        }
}
}  // namespace

void test_attention() {
    for (int width : {1, 12, 16, 20, 32, 48, 64, 100, 128}) {
        const int t = width == 16 ? 200 : width % 8 ? 37 : 130;
        check_case<bf16>(1, t, 2, width);
        check_case<f16>(1, t, 1, width);
        check_case<f32>(1, width % 8 ? 37 : 66, 1, width);
    }
    for (int t : {1, 2, 63, 64, 65}) {
        check_case<bf16>(2, t, 3, 16);
        check_case<f32>(2, t, 3, 16);
    }
    check_case<bf16>(2, 5, 3, 5);
}
