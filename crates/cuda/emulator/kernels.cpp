// The kernels' sources, compiled as C++ with each access to memory reported, and the list by which the driver finds
// them.
#include "../kernels/embedding.cu"
#include "../kernels/gemm.cu"
#include "../kernels/layernorm.cu"
#include "../kernels/attention.cu"
#include "../kernels/sums.cu"
#include "../kernels/update.cu"
#include "../kernels/conv.cu"
#ifdef ISOFLOP_PLANTED
#include "planted.cu"
#endif
#include "runtime.h"
#include <utility>

namespace {
template <auto FUNCTION>
struct Call;
template <class... A, void (*FUNCTION)(A...)>
struct Call<FUNCTION> {
    // Not reported: arguments lie with the driver.
    __attribute__((no_sanitize("thread"))) static void enter(void **args) {
        with(args, std::index_sequence_for<A...>());
    }
    template <size_t... I>
    __attribute__((no_sanitize("thread"))) static void with(void **args, std::index_sequence<I...>) {
        FUNCTION(*static_cast<A *>(args[I])...);
    }
    static constexpr size_t COUNT = sizeof...(A), SIZES[COUNT] = {sizeof(A)...};
};
}  // namespace

#define KERNEL(name, threads) {#name, threads, Call<&name>::enter, Call<&name>::SIZES, Call<&name>::COUNT},
const Kernel KERNELS[] = {ISOFLOP_KERNELS(KERNEL)
#ifdef ISOFLOP_PLANTED
                              PLANTED_KERNELS(KERNEL)
#endif
};
const size_t NUM_KERNELS = sizeof KERNELS / sizeof *KERNELS;
