// The driver's own rules: what a missing wait leaves undone, failures asked for, memory, devices, errors that stick.
#include "test.h"

extern "C" {
int cuDeviceGetCount(int *);
int cuDeviceGet(int *, int);
int cuMemGetInfo_v2(size_t *, size_t *);
int cuMemHostAlloc(void **, size_t, unsigned);
int cuMemFreeHost(void *);
int cuMemcpyHtoDAsync_v2(unsigned long long, const void *, size_t, void *);
int cuMemcpyDtoHAsync_v2(void *, unsigned long long, size_t, void *);
int cuMemsetD32Async(unsigned long long, unsigned, size_t, void *);
int cuStreamCreate(void **, unsigned);
int cuStreamSynchronize(void *);
int cuStreamWaitEvent(void *, void *, unsigned);
int cuEventCreate(void **, unsigned);
int cuEventRecord(void *, void *);
int cuEventSynchronize(void *);
int cuEventQuery(void *);
int cuEventElapsedTime(float *, void *, void *);
void isoflop_emulator_fail(const char *, int, int);
void isoflop_emulator_memory(unsigned long long);
void isoflop_emulator_capability(int);
void isoflop_emulator_peers(int);
int cuCtxEnablePeerAccess(void *, unsigned);
int cuModuleLoadData(void **, const void *);
void isoflop_emulator_devices(int);
unsigned long long isoflop_emulator_allocated(int);
}

namespace {
/// Halves x on one stream, copies it back on another that waits for the first, or does not.
float across_streams(bool waits) {
    void *work, *copies, *event;
    cuStreamCreate(&work, 1), cuStreamCreate(&copies, 1), cuEventCreate(&event, 0);
    Buffer<f32> x(std::vector<f32>(64, 8.0f));
    float factor = 0.5f, back[64];
    long long n = 64;
    float *p = x.p();
    void *function, *args[] = {&p, &factor, &n};
    cuModuleGetFunction(&function, nullptr, "scale");
    CHECK(!cuLaunchKernel(function, 1, 1, 1, 256, 1, 1, 0, work, args, nullptr), "launch");
    // The driver has copied them.
    factor = 0, n = 0;
    CHECK(!cuEventRecord(event, work), "record");
    // Who asks makes it go on.
    if (waits) CHECK(cuEventQuery(event) == 600 && !cuStreamWaitEvent(copies, event, 0), "wait");
    CHECK(!cuMemcpyDtoHAsync_v2(back, x.at, sizeof back, copies), "copy");
    CHECK(!cuStreamSynchronize(copies), "synchronise");
    cuCtxSynchronize();
    return back[63];
}
}  // namespace

void test_driver() {
    CHECK(across_streams(true) == 4, "a stream that waits for another sees its work");
    CHECK(across_streams(false) == 8, "a stream that does not wait was given what it should have waited for");

    // A copy to the device reads the host's memory when it is done, not when it is asked for.
    void *host, *stream, *from, *to;
    CHECK(!cuMemHostAlloc(&host, 256, 0), "host memory");
    cuStreamCreate(&stream, 1), cuEventCreate(&from, 0), cuEventCreate(&to, 0);
    Buffer<f32> x(64);
    auto *values = static_cast<float *>(host);
    std::fill_n(values, 64, 1.0f);
    cuEventRecord(from, stream);
    CHECK(!cuMemcpyHtoDAsync_v2(x.at, host, 256, stream), "copy");
    cuEventRecord(to, stream);
    std::fill_n(values, 64, 2.0f);
    CHECK(!cuEventSynchronize(to), "synchronise");
    float ms;
    CHECK(!cuEventElapsedTime(&ms, from, to) && ms >= 0, "elapsed");
    CHECK(x.get()[5] == 2, "a buffer written over before its copy was done");
    CHECK(!cuMemsetD32Async(x.at, 0x40400000u, 64, stream) && !cuStreamSynchronize(stream) && x.get()[63] == 3,
          "memset");
    CHECK(cuMemcpyHtoDAsync_v2(x.at + 4, host, 256, stream) == 1, "a copy beyond a buffer is refused");
    CHECK(!cuMemFreeHost(host) && cuMemFreeHost(host) == 1, "host memory is given back once");
    check_clean("driver");

    // Failures when asked for: the second allocation from now.
    unsigned long long at[3] = {};
    isoflop_emulator_fail("cuMemAlloc_v2", 1, 2);
    CHECK(!cuMemAlloc_v2(&at[0], 64) && cuMemAlloc_v2(&at[1], 64) == 2 && !cuMemAlloc_v2(&at[2], 64),
          "a failure asked for");
    CHECK(!cuMemFree_v2(at[0]) && !cuMemFree_v2(at[2]) && cuMemFree_v2(at[0]) == 1, "memory is given back once");

    // Memory ends.
    const size_t held = isoflop_emulator_allocated(0);
    size_t free = 0, total = 0;
    isoflop_emulator_memory(held + 100);
    CHECK(!cuMemGetInfo_v2(&free, &total) && free == 100 && total == held + 100, "memory");
    CHECK(cuMemAlloc_v2(&at[0], 101) == 2 && !cuMemAlloc_v2(&at[0], 100), "memory ends");
    CHECK(cuMemAlloc_v2(&at[1], 1) == 2 && !cuMemFree_v2(at[0]), "memory ends");
    isoflop_emulator_reset();

    // Another device's memory.
    int devices = 0, device;
    isoflop_emulator_devices(2);
    void *first, *second;
    CHECK(!cuDeviceGetCount(&devices) && devices == 2 && !cuDeviceGet(&device, 1) && cuDeviceGet(&device, 2) == 101,
          "devices");
    CHECK(!cuDevicePrimaryCtxRetain(&first, 0) && !cuDevicePrimaryCtxRetain(&second, 1) && !cuCtxSetCurrent(second),
          "contexts");
    CHECK(launch("scale", {1}, x.p(), 0.5f, (long long)64) == 700, "another device's memory");
    isoflop_emulator_reset();
    isoflop_emulator_devices(2);
    CHECK(cuCtxEnablePeerAccess(first, 0) == 217, "devices that do not reach each other");
    isoflop_emulator_peers(1);
    CHECK(!cuCtxEnablePeerAccess(first, 0) && cuCtxEnablePeerAccess(first, 0) == 704, "devices that do");
    CHECK(!launch("scale", {1}, x.p(), 1.0f, (long long)64), "another device's memory, reached");
    isoflop_emulator_reset();
    CHECK(launch("scale", {1}, x.p(), 0.5f, (long long)64) == 700, "another device's memory");
    // An error sticks.
    CHECK(cuCtxSynchronize() == 700, "an error sticks");
    CHECK(faults().find("another device's memory") != std::string::npos, "%s", faults().c_str());
    isoflop_emulator_reset();
    CHECK(!cuCtxSynchronize() && !cuCtxSetCurrent(first), "reset");
    // Images: the card's own architecture, or PTX not above it, with the kernels asked for.
    isoflop_emulator_capability(86);
    void *module, *function;
    std::string ptx = ".version 8.7\n.target sm_80\n.visible .entry scale(\n", newer = ".target sm_90\n";
    CHECK(!cuModuleLoadData(&module, ptx.c_str()) && !cuModuleGetFunction(&function, module, "scale"), "PTX");
    CHECK(cuModuleGetFunction(&function, module, "add") == 500, "a kernel that the image has not");
    CHECK(cuModuleLoadData(&module, newer.c_str()) == 209 && cuModuleLoadData(&module, "text") == 200, "other images");
    for (int of : {80, 86, 89, 90}) {
        std::vector<char> cubin(256, 0);
        memcpy(cubin.data(),
               "\x7f"
               "ELF\2\1\1",
               7);
        cubin[41] = 0, cubin[40] = char(200);
        cubin[48] = static_cast<char>(of);
        memcpy(cubin.data() + 100, "\0scale", 7);
        int code = cuModuleLoadData(&module, cubin.data());
        CHECK(code == (of <= 86 ? 0 : 209), "a cubin of sm_%d on sm_86 answers %d", of, code);
        if (!code)
            CHECK(!cuModuleGetFunction(&function, module, "scale") &&
                      cuModuleGetFunction(&function, module, "add") == 500,
                  "names");
    }
    isoflop_emulator_reset();
    // Wrong launches.
    CHECK(launch("scale", {0}, x.p(), 0.5f, (long long)64) == 1, "an empty grid");
    CHECK(launch("scale", {1, 70000}, x.p(), 0.5f, (long long)64) == 1, "a grid too high");
    check_clean("driver");
}
