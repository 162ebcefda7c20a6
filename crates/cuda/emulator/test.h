// The tests' side of the driver's interface: buffers, launches, and comparisons that remember the worst difference.
#pragma once
#include "shim.h"
#undef threadIdx
#undef blockIdx
#undef gridDim
#undef blockDim
#include "../kernels/abi.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void **, int);
int cuCtxSetCurrent(void *);
int cuMemAlloc_v2(unsigned long long *, size_t);
int cuMemFree_v2(unsigned long long);
int cuMemcpyHtoD_v2(unsigned long long, const void *, size_t);
int cuMemcpyDtoH_v2(void *, unsigned long long, size_t);
int cuModuleGetFunction(void **, void *, const char *);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                   void **);
int cuFuncGetAttribute(int *, int, void *);
int cuCtxSynchronize();
int isoflop_emulator_faults(char *, size_t);
void isoflop_emulator_reset();
}

inline int failed = 0;
#define CHECK(condition, ...)                             \
    do {                                                  \
        if (!(condition)) {                               \
            failed++;                                     \
            printf("FAILED %s:%d: ", __FILE__, __LINE__); \
            printf(__VA_ARGS__);                          \
            printf("\n");                                 \
        }                                                 \
    } while (0)

// ---- operand types
using f32 = float;
struct bf16 {
    unsigned short bits;
};
struct f16 {
    unsigned short bits;
};
inline double value(float x) {
    return x;
}
inline double value(bf16 x) {
    return bf16_to_float(x.bits);
}
inline double value(f16 x) {
    return f16_to_float(x.bits);
}
inline void put(float &to, double x) {
    to = static_cast<float>(x);
}
inline void put(bf16 &to, double x) {
    to.bits = float_to_bf16(static_cast<float>(x));
}
inline void put(f16 &to, double x) {
    to.bits = float_to_f16(static_cast<float>(x));
}
template <class E>
struct Type;
template <>
struct Type<float> {
    static constexpr const char *name = "f32";
    static constexpr double rounding = 0x1p-24;
};
template <>
struct Type<bf16> {
    static constexpr const char *name = "bf16";
    static constexpr double rounding = 0x1p-8;
};
template <>
struct Type<f16> {
    static constexpr const char *name = "f16";
    static constexpr double rounding = 0x1p-11;
};

inline std::mt19937 &random_source() {
    static std::mt19937 source(1);
    return source;
}
inline double uniform(double from = -1, double to = 1) {
    return from + (to - from) * (random_source()() / 4294967296.0);
}
inline int below(int n) {
    return static_cast<int>(random_source()() % unsigned(n));
}
template <class E>
std::vector<E> random_vector(size_t n, double size = 1) {
    std::vector<E> v(n);
    for (E &x : v) put(x, uniform(-size, size));
    return v;
}

// ---- the device
template <class T>
struct Buffer {
    unsigned long long at = 0;
    size_t size;
    explicit Buffer(size_t n) : size(n) { CHECK(!cuMemAlloc_v2(&at, n * sizeof(T)), "no memory for %zu", n); }
    explicit Buffer(const std::vector<T> &v) : Buffer(v.size()) { cuMemcpyHtoD_v2(at, v.data(), v.size() * sizeof(T)); }
    Buffer(const Buffer &) = delete;
    ~Buffer() { cuMemFree_v2(at); }
    std::vector<T> get() const {
        std::vector<T> v(size);
        cuCtxSynchronize();
        cuMemcpyDtoH_v2(v.data(), at, size * sizeof(T));
        return v;
    }
    T *p() const { return reinterpret_cast<T *>(at); }
};
struct Grid {
    int x, y = 1, z = 1;
    size_t shared = 0;
};
template <class... A>
int launch(const std::string &name, Grid grid, A... args) {
    void *function = nullptr, *list[] = {&args...};
    int threads = 0;
    if (int code = cuModuleGetFunction(&function, nullptr, name.c_str())) {
        CHECK(false, "no kernel %s", name.c_str());
        return code;
    }
    cuFuncGetAttribute(&threads, 0, function);
    int code = cuLaunchKernel(function, grid.x, grid.y, grid.z, threads, 1, 1, grid.shared, nullptr, list, nullptr);
    return code ? code : cuCtxSynchronize();
}
inline int up(long long n, int by) {
    return static_cast<int>((n + by - 1) / by);
}
inline std::string faults(int *count = nullptr) {
    char text[8192] = "";
    int n = isoflop_emulator_faults(text, sizeof text);
    if (count) *count = n;
    return text;
}
/// No fault since the last time.
inline void check_clean(const std::string &what) {
    int count;
    std::string text = faults(&count);
    CHECK(!count, "%s: %s", what.c_str(), text.c_str());
    isoflop_emulator_reset();
}

// ---- differences
struct Worst {
    double difference = 0, bound = 0;
    long values = 0;
};
inline std::map<std::string, Worst> &worst() {
    static std::map<std::string, Worst> all;
    return all;
}
/// |got − want| ≤ bound, absolutely.
inline void compare(const std::string &kernel, double got, double want, double bound, const char *what = "") {
    Worst &w = worst()[kernel];
    double difference = std::fabs(got - want);
    w.values++;
    if (difference / bound > w.difference / (w.bound ? w.bound : 1) || !w.bound)
        w.difference = difference, w.bound = bound;
    if (!(difference <= bound)) {
        static int printed = 0;
        failed++;
        if (printed++ < 40)
            printf("FAILED %s %s: %.9g, by plain loops %.9g, bound %.2e\n", kernel.c_str(), what, got, want, bound);
    }
}

void test_gemm();
void test_attention();
void test_rows();
void test_update();
void test_conv();
void test_planted();
void test_driver();
void test_fragments();
