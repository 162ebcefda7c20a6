// Every detector finds its planted fault and says nothing of the same work done right; fragments are the document's.
#include "test.h"

namespace {
struct Expectation {
    const char *kind;  // in the report, perhaps beside what follows from it
    int code;          // what the launch answers
};
// In the order of `Plant`.
const Expectation EXPECTED[] = {
    {"read of shared memory nobody wrote", 0},
    {"race on shared memory", 0},
    {"race on shared memory", 0},
    {"access beyond an array in shared memory", 700},
    {"a barrier not reached by all threads", 719},
    {"a barrier not reached by all threads", 719},
    {"a warp's collective that not all lanes of its mask reach", 719},
    {"a warp's collective whose mask leaves its caller out", 719},
    {"a shuffle from a lane that does not take part", 0},
    {"lanes of a warp at different collectives", 719},
    {"access beyond a buffer", 700},
    {"access beyond a buffer", 700},
    {"access beyond a buffer", 700},
    {"read of memory nobody wrote", 0},
    {"race on global memory", 0},
    {"race on global memory", 0},
    {"race on global memory", 0},
    {"misaligned access", 716},
    {"use of shared memory while a copy to it is under way", 0},
    {"race on shared memory", 0},
    {"race on shared memory", 0},
    {"an asynchronous copy nobody waited for", 0},
    {"too much shared memory", 719},
};
}  // namespace

void test_planted() {
    const int plants = sizeof EXPECTED / sizeof *EXPECTED;
    for (int which = 0; which < plants; which++) {
        for (bool fault : {true, false}) {
            Buffer<f32> x(random_vector<f32>(128)), y(128);
            int code = launch(fault ? "planted_fault" : "planted_clean", {2}, which, x.p(), y.p()), count;
            std::string text = faults(&count);
            if (fault) {
                const Expectation &e = EXPECTED[which];
                CHECK(code == e.code, "planted %d: answered %d", which, code);
                CHECK(count > 0 && text.find(e.kind) != std::string::npos, "planted %d: %s", which, text.c_str());
            } else {
                CHECK(!code && !count, "clean %d: answered %d, %s", which, code, text.c_str());
            }
            isoflop_emulator_reset();
        }
    }
    // Freed memory is not there.
    unsigned long long gone;
    {
        Buffer<f32> x(random_vector<f32>(128));
        gone = x.at;
    }
    Buffer<f32> y(128);
    CHECK(launch("planted_clean", {2}, 10, reinterpret_cast<float *>(gone), y.p()) == 700, "memory given back");
    isoflop_emulator_reset();
}

void test_fragments() {
    // Which element each register half holds, by distinct values that bf16 has exactly.
    std::vector<bf16> x(256);
    for (int i = 0; i < 256; i++) put(x[i], i);
    Buffer<bf16> dx(x);
    for (int kind : {0, 1}) {
        Buffer<unsigned> y(128);
        CHECK(!launch("fragments", {1}, kind, dx.p(), y.p()), "fragments");
        auto got = y.get();
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++)
                for (int half = 0; half < 2; half++) {
                    int row = lane / 4, col = lane % 4 * 2 + half;
                    if (kind) std::swap(row, col);
                    bf16 element{static_cast<unsigned short>(got[4 * lane + i] >> 16 * half)};
                    CHECK(value(element) == i * 64 + row * 8 + col, "ldmatrix kind %d lane %d register %d", kind, lane,
                          i);
                }
        check_clean("fragments");
    }
    // Integers below 2^24: exact in any order.
    std::vector<bf16> ab(256 + 128);
    for (bf16 &v : ab) put(v, below(15) - 7);
    Buffer<bf16> dab(ab);
    Buffer<unsigned> y(128);
    CHECK(!launch("fragments", {1}, 2, dab.p(), y.p()), "fragments");
    auto got = y.get();
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + (i >= 2 ? 8 : 0), col = lane % 4 * 2 + (i & 1);
            double sum = 100.0 * (row * 8 + col);
            for (int k = 0; k < 16; k++) sum += value(ab[row * 16 + k]) * value(ab[256 + k * 8 + col]);
            CHECK(__uint_as_float(got[4 * lane + i]) == sum, "mma lane %d register %d", lane, i);
        }
    check_clean("fragments");
    // Rounding to bf16 and f16: to nearest even, against f64.
    for (int i = 0; i < 200000; i++) {
        float v = __uint_as_float((random_source()() & 0x807fffffu) | (80u + unsigned(below(80))) << 23);
        double b = bf16_to_float(float_to_bf16(v)), h = f16_to_float(float_to_f16(v));
        CHECK(std::fabs(b - v) <= std::fabs(v) * 0x1p-8, "bf16 of %g", v);
        double step = std::max(std::ldexp(1.0, std::ilogb(v) - 10), 0x1p-24);
        CHECK(std::fabs(v) >= 65520 ? std::isinf(h) : std::fabs(h - v) <= step / 2, "f16 of %g is %g", v, h);
    }
}
