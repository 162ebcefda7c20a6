#include "test.h"
#include <chrono>

int main(int count, char **list) {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    void *context = nullptr;
    cuInit(0);
    cuDevicePrimaryCtxRetain(&context, 0);
    cuCtxSetCurrent(context);
    const std::pair<const char *, void (*)()> tests[] = {
        {"fragments", test_fragments}, {"planted", test_planted}, {"driver", test_driver}, {"gemm", test_gemm},
        {"attention", test_attention}, {"rows", test_rows},       {"update", test_update},
        {"conv", test_conv},
    };
    for (auto [name, test] : tests) {
        if (count > 1 && std::none_of(list + 1, list + count, [&](const char *asked) { return !strcmp(asked, name); }))
            continue;
        auto start = std::chrono::steady_clock::now();
        test();
        printf("%s: %.2f s\n", name, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    for (auto &[kernel, w] : worst())
        printf("%-34s %9ld values, worst difference %.2e of %.2e\n", kernel.c_str(), w.values, w.difference, w.bound);
    printf(failed ? "%d FAILED\n" : "all passed\n", failed);
    return failed != 0;
}
