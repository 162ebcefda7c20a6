// The emulator's inside: memory with its shadow (memory.cpp), a block's threads as fibers (block.cpp), the driver's
// functions (driver.cpp). One thread of the host at a time is in here: driver.cpp holds a lock.
#pragma once
#include "shim.h"
#undef threadIdx
#undef blockIdx
#undef gridDim
#undef blockDim
#include <string>
#include <vector>

constexpr int MAX_THREADS = 1024, WARP = 32;
/// What every device allows a block without being asked for more.
constexpr size_t SHARED_BYTES = 48 * 1024;

// ---- faults
/// Counts a fault; the first of a kind in a kernel is kept with its place.
__attribute__((format(printf, 2, 3))) void fault(const char *kind, const char *format, ...);
int faults_text(char *text, size_t size);
void faults_clear();

// ---- memory
constexpr uint32_t NONE = ~0u, MANY = ~0u - 1;
constexpr uint16_t NO_THREAD = 0xffff, MANY_THREADS = 0xfffe;
/// Who touched two bytes of global memory in this launch, and what is known of them.
struct Shadow {
    uint32_t launch = 0;
    uint32_t write_block, read_block;
    uint16_t write_epoch, write_thread, read_epoch, read_thread;
    uint8_t written = 0;
};
struct Allocation {
    uintptr_t at;
    size_t bytes;
    int device;
    Shadow *shadow;  // one for each two bytes
};
/// 0 if there is no room.
uintptr_t device_alloc(int device, size_t bytes);
/// False if nothing was allocated there.
bool device_free(uintptr_t at);
const Allocation *device_find(uintptr_t at);
/// Whether [at, at + bytes) lies in one allocation.
bool device_holds(uintptr_t at, size_t bytes);
/// The host wrote there.
void device_written(uintptr_t at, size_t bytes);
/// Counts reads of what nobody wrote.
void device_read(uintptr_t at, size_t bytes, const char *what);
size_t device_allocated(int device);
size_t device_peak(int device);
void device_forget_peaks();
/// A device's kernels may reach another's memory; false if they might before.
bool peer_enable(int device, int other);
void peers_forget();

// ---- blocks
using Entry = void (*)(void **args);
struct Kernel {
    const char *name;
    int threads;
    Entry entry;
    const size_t *arguments;  // their sizes
    size_t num_arguments;
};
extern const Kernel KERNELS[];
extern const size_t NUM_KERNELS;

struct Launch {
    const Kernel *kernel;
    int device;
    uint3 grid, block;
    size_t dynamic_shared;
    void **args;
};
/// Runs a grid; 0 or a CUresult.
int run_grid(const Launch &launch);

/// The running block and thread, as memory.cpp needs to know them.
struct Running {
    const Launch *launch = nullptr;
    uint3 block{};
    uint32_t block_number = 0;  // in the grid
    uint32_t serial = 0;        // of all blocks that ever ran
    uint32_t launch_number = 0;
    uint16_t epoch = 0;  // barriers passed
    uint16_t thread = 0;
    uintptr_t stack_low = 0, stack_high = 0;
};
extern Running running;
/// Ends the launch with this CUresult; does not return.
[[noreturn]] void abandon(int code);
std::string place();

/// Shared memory of the running block.
void shared_begin_block();
void *shared_array(size_t offset);
/// Appends an array and says where it begins.
size_t shared_declare(size_t bytes);
size_t shared_declared();
void access(uintptr_t at, size_t bytes, bool write, bool aligned);
/// An asynchronous copy to shared memory begins, and lands.
void async_begin(uintptr_t at, size_t bytes);
void async_land(uintptr_t at, size_t bytes);

constexpr int ILLEGAL_ADDRESS = 700, MISALIGNED_ADDRESS = 716, LAUNCH_FAILED = 719;
