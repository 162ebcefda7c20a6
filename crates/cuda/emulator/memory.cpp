// Global and shared memory and their shadow: bounds, first writes, races. Called for each access of a kernel.
#include "runtime.h"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <sys/mman.h>

// ---- faults
namespace {
struct Fault {
    std::string kind, kernel, first;
    long count;
};
std::vector<Fault> faults;
}  // namespace

void fault(const char *kind, const char *format, ...) {
    const char *kernel = running.launch ? running.launch->kernel->name : "host";
    for (Fault &f : faults)
        if (f.kind == kind && f.kernel == kernel) {
            f.count++;
            return;
        }
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    faults.push_back({kind, kernel, place() + text, 1});
}
int faults_text(char *text, size_t size) {
    std::string all;
    long count = 0;
    for (const Fault &f : faults) {
        all += f.kind + " in " + f.kernel + " (" + std::to_string(f.count) + "): " + f.first + "\n";
        count += f.count;
    }
    if (size) snprintf(text, size, "%s", all.c_str());
    return static_cast<int>(std::min(count, 1L << 30));
}
void faults_clear() {
    faults.clear();
}
std::string place() {
    if (!running.launch) return "";
    char text[128];
    const uint3 &b = running.block;
    snprintf(text, sizeof text, "block (%u,%u,%u) thread %u: ", b.x, b.y, b.z, running.thread);
    return text;
}

// ---- global memory: allocations begin at multiples of a chunk, with at least a chunk of nothing behind each
namespace {
constexpr size_t CHUNK = size_t(1) << 20, SPACE = size_t(1) << 40;
uintptr_t space_begin = 0, space_next = 0;
std::vector<Allocation *> chunks;
std::map<uintptr_t, Allocation *> allocations;
std::map<int, size_t> held, peak;
std::set<std::pair<int, int>> peers;

size_t shadow_bytes(size_t bytes) {
    return (bytes + 1) / 2 * sizeof(Shadow);
}
}  // namespace

uintptr_t device_alloc(int device, size_t bytes) {
    if (!space_begin) {
        void *p = mmap(nullptr, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return 0;
        space_begin = space_next = (reinterpret_cast<uintptr_t>(p) + CHUNK - 1) / CHUNK * CHUNK;
    }
    size_t span = (bytes + CHUNK - 1) / CHUNK * CHUNK + CHUNK;
    if (space_next + span > space_begin + SPACE - CHUNK) return 0;
    auto *at = reinterpret_cast<void *>(space_next);
    if (mprotect(at, bytes, PROT_READ | PROT_WRITE)) return 0;
    void *shadow =
        mmap(nullptr, shadow_bytes(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shadow == MAP_FAILED) return 0;
    auto *a = new Allocation{space_next, bytes, device, static_cast<Shadow *>(shadow)};
    chunks.resize((space_next - space_begin + span) / CHUNK, nullptr);
    for (size_t i = 0; i < (bytes + CHUNK - 1) / CHUNK; i++) chunks[(space_next - space_begin) / CHUNK + i] = a;
    allocations[space_next] = a;
    space_next += span;
    peak[device] = std::max(peak[device], held[device] += bytes);
    // What is there before anybody wrote is no zero.
    memset(at, 0xff, std::min(bytes, size_t(16) << 20));
    return a->at;
}
bool device_free(uintptr_t at) {
    auto found = allocations.find(at);
    if (found == allocations.end()) return false;
    Allocation *a = found->second;
    for (size_t i = 0; i < (a->bytes + CHUNK - 1) / CHUNK; i++) chunks[(at - space_begin) / CHUNK + i] = nullptr;
    held[a->device] -= a->bytes;
    munmap(a->shadow, shadow_bytes(a->bytes));
    // The addresses are not used again.
    mmap(reinterpret_cast<void *>(at), a->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
    allocations.erase(found);
    delete a;
    return true;
}
const Allocation *device_find(uintptr_t at) {
    size_t chunk = (at - space_begin) / CHUNK;
    return space_begin && at >= space_begin && chunk < chunks.size() ? chunks[chunk] : nullptr;
}
bool device_holds(uintptr_t at, size_t bytes) {
    const Allocation *a = device_find(at);
    return a && at - a->at + bytes <= a->bytes;
}
void device_written(uintptr_t at, size_t bytes) {
    const Allocation *a = device_find(at);
    for (size_t i = (at - a->at) / 2; i < (at - a->at + bytes + 1) / 2; i++) a->shadow[i].written = 1;
}
void device_read(uintptr_t at, size_t bytes, const char *what) {
    const Allocation *a = device_find(at);
    for (size_t i = (at - a->at) / 2; i < (at - a->at + bytes + 1) / 2; i++)
        if (!a->shadow[i].written) {
            fault("read of memory nobody wrote", "%s of %zu bytes, at byte %zu", what, bytes, i * 2 - (at - a->at));
            return;
        }
}
size_t device_allocated(int device) {
    return held[device];
}
size_t device_peak(int device) {
    return peak[device];
}
void device_forget_peaks() {
    peak = held;
}
bool peer_enable(int device, int other) {
    return peers.insert({device, other}).second;
}
void peers_forget() {
    peers.clear();
}

// ---- shared memory: arrays with a gap between them
namespace {
constexpr size_t GAP = 256, SHARED_SPACE = 2 * SHARED_BYTES + 64 * GAP;
alignas(256) unsigned char shared[SHARED_SPACE];
struct SharedShadow {
    uint32_t serial = 0;  // of the block whose values these are
    uint16_t write_epoch, write_thread, read_epoch, read_thread;
    bool initialised, pending;
};
SharedShadow shared_shadow[SHARED_SPACE / 2];
struct Array {
    size_t at, bytes;
};
std::vector<Array> arrays;
std::vector<int8_t> in_array(SHARED_SPACE / 2, -1);

SharedShadow &shared_entry(size_t i) {
    SharedShadow &s = shared_shadow[i];
    if (s.serial != running.serial) s = {running.serial, 0, NO_THREAD, 0, NO_THREAD, false, false};
    return s;
}
std::string thread(uint16_t number) {
    return number == MANY_THREADS ? "(several)" : std::to_string(number);
}
std::string block_name(uint32_t number) {
    return number == MANY ? "(several)" : std::to_string(number);
}
const char *word(bool write) {
    return write ? "write" : "read";
}

void shared_bounds(size_t offset, size_t bytes, bool write) {
    int first = in_array[offset / 2];
    if (first >= 0 && offset + bytes <= arrays[first].at + arrays[first].bytes) return;
    fault("access beyond an array in shared memory", "%s of %zu bytes at offset %zu of shared memory", word(write),
          bytes, offset);
    abandon(ILLEGAL_ADDRESS);
}
void shared_access(size_t offset, size_t bytes, bool write) {
    shared_bounds(offset, bytes, write);
    const uint16_t me = running.thread, now = running.epoch;
    for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; i++) {
        SharedShadow &s = shared_entry(i);
        if (s.pending)
            fault("use of shared memory while a copy to it is under way", "%s at offset %zu", word(write), i * 2);
        bool wrote = s.write_thread != NO_THREAD && s.write_epoch == now && s.write_thread != me;
        if (write) {
            bool read = s.read_thread != NO_THREAD && s.read_epoch == now && s.read_thread != me;
            if (wrote || read)
                fault("race on shared memory", "write at offset %zu, which thread %s %s since the last barrier", i * 2,
                      thread(wrote ? s.write_thread : s.read_thread).c_str(), wrote ? "wrote" : "read");
            s.write_epoch = now;
            s.write_thread = me;
            s.initialised = true;
        } else {
            if (!s.initialised) fault("read of shared memory nobody wrote", "offset %zu", i * 2);
            if (wrote)
                fault("race on shared memory", "read at offset %zu, which thread %u wrote since the last barrier",
                      i * 2, s.write_thread);
            bool other = s.read_thread != NO_THREAD && s.read_epoch == now && s.read_thread != me;
            s.read_epoch = now;
            s.read_thread = other ? MANY_THREADS : me;
        }
    }
}
}  // namespace

void shared_begin_block() {
    for (const Array &a : arrays) std::fill_n(in_array.begin() + a.at / 2, (a.bytes + 1) / 2, -1);
    arrays.clear();
}
size_t shared_declared() {
    size_t sum = 0;
    for (const Array &a : arrays) sum += a.bytes;
    return sum;
}
size_t shared_declare(size_t bytes) {
    size_t at = arrays.empty() ? GAP : (arrays.back().at + arrays.back().bytes + 2 * GAP - 1) / GAP * GAP;
    if (shared_declared() + bytes > SHARED_BYTES) {
        fault("too much shared memory", "%zu bytes, the limit is %zu", shared_declared() + bytes, SHARED_BYTES);
        abandon(LAUNCH_FAILED);
    }
    std::fill_n(in_array.begin() + at / 2, (bytes + 1) / 2, static_cast<int8_t>(arrays.size()));
    arrays.push_back({at, bytes});
    return at;
}
void *shared_array(size_t offset) {
    return shared + offset;
}
void async_begin(uintptr_t at, size_t bytes) {
    size_t offset = at - reinterpret_cast<uintptr_t>(shared);
    if (offset >= SHARED_SPACE) {
        fault("asynchronous copy to what is no shared memory", "%zu bytes", bytes);
        abandon(ILLEGAL_ADDRESS);
    }
    shared_access(offset, bytes, true);
    for (size_t i = offset / 2; i < (offset + bytes) / 2; i++) shared_entry(i).pending = true;
}
void async_land(uintptr_t at, size_t bytes) {
    size_t offset = at - reinterpret_cast<uintptr_t>(shared);
    for (size_t i = offset / 2; i < (offset + bytes) / 2; i++) {
        SharedShadow &s = shared_entry(i);
        s.pending = false;
        s.write_epoch = running.epoch;
        s.write_thread = running.thread;
    }
}

// ---- each access of a kernel
namespace {
void global_access(const Allocation &a, size_t offset, size_t bytes, bool write) {
    if (a.device != running.launch->device && !peers.count({running.launch->device, a.device})) {
        fault("access to another device's memory", "%s of %zu bytes", word(write), bytes);
        abandon(ILLEGAL_ADDRESS);
    }
    if (offset + bytes > a.bytes) {
        fault("access beyond a buffer", "%s of %zu bytes at byte %zu of a buffer of %zu", word(write), bytes, offset,
              a.bytes);
        abandon(ILLEGAL_ADDRESS);
    }
    const uint32_t block = running.block_number;
    const uint16_t me = running.thread, now = running.epoch;
    for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; i++) {
        Shadow &s = a.shadow[i];
        if (s.launch != running.launch_number) {
            s.launch = running.launch_number;
            s.write_block = s.read_block = NONE;
        }
        // Barriers order the threads of a block; nothing orders blocks.
        bool wrote =
            s.write_block != NONE && (s.write_block != block || (s.write_epoch == now && s.write_thread != me));
        if (write) {
            bool read = s.read_block != NONE && (s.read_block != block || (s.read_epoch == now && s.read_thread != me));
            if (wrote || read)
                fault("race on global memory", "write at byte %zu of a buffer of %zu, which thread %s of block %s %s",
                      i * 2, a.bytes, thread(wrote ? s.write_thread : s.read_thread).c_str(),
                      block_name(wrote ? s.write_block : s.read_block).c_str(), wrote ? "wrote" : "read");
            s.write_block = block;
            s.write_epoch = now;
            s.write_thread = me;
            s.written = 1;
        } else {
            if (!s.written) fault("read of memory nobody wrote", "byte %zu of a buffer of %zu", i * 2, a.bytes);
            if (wrote)
                fault("race on global memory", "read at byte %zu of a buffer of %zu, which block %u thread %u wrote",
                      i * 2, a.bytes, s.write_block, s.write_thread);
            if (s.read_block != NONE && s.read_block != block) {
                s.read_block = MANY;
            } else {
                bool other = s.read_block == block && s.read_epoch == now && s.read_thread != me;
                s.read_block = block;
                s.read_epoch = now;
                s.read_thread = other ? MANY_THREADS : me;
            }
        }
    }
}
extern "C" char __ehdr_start[], _end[];
}  // namespace

void access(uintptr_t at, size_t bytes, bool write, bool aligned) {
    // Local variables first: they are the most.
    if (at - running.stack_low < running.stack_high - running.stack_low) return;
    if (aligned && at % bytes) {
        fault("misaligned access", "%s of %zu bytes at an address that is %zu beyond a multiple", word(write), bytes,
              at % bytes);
        abandon(MISALIGNED_ADDRESS);
    }
    size_t offset = at - reinterpret_cast<uintptr_t>(shared);
    if (offset < SHARED_SPACE) return shared_access(offset, bytes, write);
    if (const Allocation *a = device_find(at)) return global_access(*a, at - a->at, bytes, write);
    if (at >= reinterpret_cast<uintptr_t>(__ehdr_start) && at < reinterpret_cast<uintptr_t>(_end)) return;
    fault("access beyond a buffer", "%s of %zu bytes at %#zx, where nothing is", word(write), bytes, size_t(at));
    abandon(ILLEGAL_ADDRESS);
}

// ---- what -fsanitize=thread calls
#define ACCESSES(size)                                              \
    void __tsan_read##size(void *p) {                               \
        access(reinterpret_cast<uintptr_t>(p), size, false, true);  \
    }                                                               \
    void __tsan_write##size(void *p) {                              \
        access(reinterpret_cast<uintptr_t>(p), size, true, true);   \
    }                                                               \
    void __tsan_unaligned_read##size(void *p) {                     \
        access(reinterpret_cast<uintptr_t>(p), size, false, false); \
    }                                                               \
    void __tsan_unaligned_write##size(void *p) {                    \
        access(reinterpret_cast<uintptr_t>(p), size, true, false);  \
    }
extern "C" {
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void *p, unsigned long n) {
    access(reinterpret_cast<uintptr_t>(p), n, false, false);
}
void __tsan_write_range(void *p, unsigned long n) {
    access(reinterpret_cast<uintptr_t>(p), n, true, false);
}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
