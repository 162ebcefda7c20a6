// The driver's interface on the emulator: what a program finds in libcuda.so.1. Work given to a stream is done as late
// as the rules allow: when somebody waits for it. What a missing wait would read has then not been written.
//
// Beside the driver's functions, for tests: isoflop_emulator_*.
#include "runtime.h"
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
#define API extern "C" __attribute__((visibility("default")))

namespace {
enum : CUresult {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    PEER_ACCESS_UNSUPPORTED = 217,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    PEER_ACCESS_ALREADY_ENABLED = 704,
};

struct Event;
struct Operation {
    std::function<CUresult()> run;
    Event *record = nullptr;  // this operation completes that recording
    uint64_t recording = 0;
};
struct Context;
struct Stream {
    Context *context;
    std::deque<Operation> queue;
};
struct Event {
    Stream *stream = nullptr;  // where it was recorded last
    uint64_t recorded = 0, done = 0;
    std::chrono::steady_clock::time_point time{};
};
struct Context {
    int device;
    CUresult sticky = SUCCESS;
    std::vector<std::unique_ptr<Stream>> streams;
    Stream *null_stream() { return streams.front().get(); }
    explicit Context(int d) : device(d) { streams.push_back(std::make_unique<Stream>(Stream{this, {}})); }
};
/// What an image says of itself. An empty one is taken as it comes, and has every kernel.
struct Module {
    std::string image;
};

std::recursive_mutex lock;
bool initialised = false;
int num_devices = 1;
size_t memory_bytes = size_t(1) << 30;
int capability = 89;
bool peers = false;
std::map<int, std::unique_ptr<Context>> primaries;
std::vector<std::unique_ptr<Context>> contexts;
thread_local Context *current = nullptr;
std::map<void *, size_t> host_memory;
struct Failure {
    long after;
    CUresult code;
};
std::map<std::string, Failure> failures;

/// What a test asked this call to answer.
CUresult injected(const char *name) {
    auto found = failures.find(name);
    if (found == failures.end()) return SUCCESS;
    if (found->second.after-- > 0) return SUCCESS;
    CUresult code = found->second.code;
    failures.erase(found);
    return code;
}

CUresult step(Stream *stream) {
    Operation op = std::move(stream->queue.front());
    stream->queue.pop_front();
    Context *context = stream->context;
    if (op.run && !context->sticky) {
        CUresult code = op.run();
        if (code && !context->sticky) context->sticky = code;
    }
    if (op.record) {
        op.record->done = op.recording;
        op.record->time = std::chrono::steady_clock::now();
    }
    return context->sticky;
}
/// Does a stream's work up to a recording of an event.
CUresult drain_to(Event *event, uint64_t recording) {
    CUresult code = SUCCESS;
    while (event->done < recording && event->stream && !event->stream->queue.empty()) code = step(event->stream);
    return code;
}
/// The driver runs other code than the image's: but it looks whether the image is for this card, and has the kernels.
CUresult load(void **module, const void *image) {
    if (!image) return INVALID_IMAGE;
    auto *bytes = static_cast<const unsigned char *>(image);
    size_t size = strlen(static_cast<const char *>(image));
    if (!memcmp(bytes,
                "\x7f"
                "ELF",
                std::min(size, size_t(4))) &&
        size >= 4) {
        // Elf64_Ehdr: the tables of segments and sections lie last; the flags' low byte is the architecture.
        auto at = [&](size_t offset, size_t width) {
            uint64_t value = 0;
            memcpy(&value, bytes + offset, width);
            return value;
        };
        size = std::max(at(32, 8) + at(54, 2) * at(56, 2), at(40, 8) + at(58, 2) * at(60, 2));
        int of = static_cast<int>(at(48, 4) & 0xff);
        if (of / 10 != capability / 10 || of > capability) return NO_BINARY_FOR_GPU;
    } else if (size) {
        const char *target = strstr(static_cast<const char *>(image), ".target sm_");
        if (!target) return INVALID_IMAGE;
        if (atoi(target + strlen(".target sm_")) > capability) return NO_BINARY_FOR_GPU;
    }
    *module = new Module{std::string(static_cast<const char *>(image), size)};
    return SUCCESS;
}
CUresult drain(Stream *stream) {
    while (!stream->queue.empty()) step(stream);
    return stream->context->sticky;
}
CUresult drain_all(Context *context) {
    for (size_t i = 0; i < context->streams.size(); i++) drain(context->streams[i].get());
    return context->sticky;
}
Stream *stream_of(void *handle) {
    return handle ? static_cast<Stream *>(handle) : current->null_stream();
}
CUresult give(void *handle, std::function<CUresult()> run) {
    if (current->sticky) return current->sticky;
    stream_of(handle)->queue.push_back({std::move(run), nullptr, 0});
    return SUCCESS;
}

/// A kernel's arguments, copied when it is launched.
struct Arguments {
    std::vector<std::vector<unsigned char>> values;
    std::vector<void *> pointers;
};
}  // namespace

#define BEGIN(name)                                    \
    std::lock_guard<std::recursive_mutex> guard(lock); \
    if (CUresult code = injected(#name)) return code;  \
    if (!initialised) return NOT_INITIALIZED
#define BEGIN_IN_CONTEXT(name) \
    BEGIN(name);               \
    if (!current) return INVALID_CONTEXT

// ---- for tests
/// Faults seen since the last reset; their texts, a line each, go to `text`.
API int isoflop_emulator_faults(char *text, size_t size) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return faults_text(text, size);
}
/// Forgets faults, failures asked for, errors that stick; a gigabyte on one device again. What is allocated stays.
API void isoflop_emulator_reset() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    faults_clear();
    failures.clear();
    device_forget_peaks();
    num_devices = 1;
    memory_bytes = size_t(1) << 30;
    capability = 89;
    peers = false;
    peers_forget();
    for (auto &[device, context] : primaries) context->sticky = SUCCESS;
    for (auto &context : contexts) context->sticky = SUCCESS;
}
/// The call of `name` after the next `after` ones answers `code`, once.
API void isoflop_emulator_fail(const char *name, int after, int code) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    failures[name] = {after, code};
}
API void isoflop_emulator_memory(unsigned long long bytes) {
    memory_bytes = bytes;
}
API void isoflop_emulator_devices(int devices) {
    num_devices = devices;
}
/// Whether devices may reach each other's memory.
API void isoflop_emulator_peers(int can) { peers = can; }
/// Compute capability of every device, 89 for 8.9.
API void isoflop_emulator_capability(int value) {
    capability = value;
}
/// Bytes allocated on a device now, and at most since the last reset.
API unsigned long long isoflop_emulator_allocated(int device) {
    return device_allocated(device);
}
API unsigned long long isoflop_emulator_peak(int device) {
    return device_peak(device);
}

// ---- the driver
API CUresult cuInit(unsigned) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (CUresult code = injected("cuInit")) return code;
    initialised = true;
    return SUCCESS;
}
API CUresult cuDriverGetVersion(int *version) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (CUresult code = injected("cuDriverGetVersion")) return code;
    *version = 12080;
    return SUCCESS;
}
API CUresult cuGetErrorName(CUresult code, const char **text) {
    static const std::map<int, const char *> names = {{SUCCESS, "CUDA_SUCCESS"},
                                                      {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
                                                      {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
                                                      {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
                                                      {100, "CUDA_ERROR_NO_DEVICE"},
                                                      {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
                                                      {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
                                                      {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
                                                      {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
                                                      {214, "CUDA_ERROR_ECC_UNCORRECTABLE"},
                                                      {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
                                                      {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
                                                      {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
                                                      {NOT_READY, "CUDA_ERROR_NOT_READY"},
                                                      {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
                                                      {MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS"},
                                                      {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
                                                      {999, "CUDA_ERROR_UNKNOWN"}};
    auto found = names.find(code);
    *text = found == names.end() ? "CUDA_ERROR_OF_THE_EMULATOR" : found->second;
    return SUCCESS;
}
API CUresult cuGetErrorString(CUresult code, const char **text) {
    return cuGetErrorName(code, text);
}

API CUresult cuDeviceGetCount(int *count) {
    BEGIN(cuDeviceGetCount);
    *count = num_devices;
    return SUCCESS;
}
API CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    BEGIN(cuDeviceGet);
    if (ordinal < 0 || ordinal >= num_devices) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}
API CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
    BEGIN(cuDeviceGetName);
    snprintf(name, size, "Emulated card %d", device);
    return SUCCESS;
}
static CUresult uuid(unsigned char *bytes, CUdevice device) {
    memset(bytes, 0, 16);
    memcpy(bytes, "emulated card", 13);
    bytes[15] = static_cast<unsigned char>(device);
    return SUCCESS;
}
API CUresult cuDeviceGetUuid(unsigned char *bytes, CUdevice device) {
    return uuid(bytes, device);
}
API CUresult cuDeviceGetUuid_v2(unsigned char *bytes, CUdevice device) {
    return uuid(bytes, device);
}
API CUresult cuDeviceGetPCIBusId(char *text, int size, CUdevice device) {
    snprintf(text, size, "0000:%02x:00.0", device + 1);
    return SUCCESS;
}
API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
    BEGIN(cuDeviceTotalMem_v2);
    *bytes = memory_bytes;
    return SUCCESS;
}
API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice) {
    BEGIN(cuDeviceGetAttribute);
    switch (attribute) {
        case 1:
            *value = MAX_THREADS;
            break;  // MAX_THREADS_PER_BLOCK
        case 8:
            *value = SHARED_BYTES;
            break;  // MAX_SHARED_MEMORY_PER_BLOCK
        case 10:
            *value = WARP;
            break;  // WARP_SIZE
        case 13:
            *value = 1000000;
            break;  // CLOCK_RATE, kHz
        case 16:
            *value = 4;
            break;  // MULTIPROCESSOR_COUNT
        case 36:
            *value = 1000000;
            break;  // MEMORY_CLOCK_RATE, kHz
        case 37:
            *value = 128;
            break;  // GLOBAL_MEMORY_BUS_WIDTH
        case 39:
            *value = 1536;
            break;  // MAX_THREADS_PER_MULTIPROCESSOR
        case 75:
            *value = capability / 10;
            break;  // COMPUTE_CAPABILITY_MAJOR
        case 76:
            *value = capability % 10;
            break;  // COMPUTE_CAPABILITY_MINOR
        case 97:
            *value = SHARED_BYTES;
            break;  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        default:
            *value = 0;
    }
    return SUCCESS;
}
API CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice other) {
    BEGIN(cuDeviceCanAccessPeer);
    *can = peers && device != other;
    return SUCCESS;
}
API CUresult cuCtxEnablePeerAccess(void *context, unsigned flags) {
    BEGIN_IN_CONTEXT(cuCtxEnablePeerAccess);
    int other = static_cast<Context *>(context)->device;
    if (flags || other == current->device) return INVALID_VALUE;
    if (!peers) return PEER_ACCESS_UNSUPPORTED;
    return peer_enable(current->device, other) ? SUCCESS : PEER_ACCESS_ALREADY_ENABLED;
}

API CUresult cuDevicePrimaryCtxRetain(void **context, CUdevice device) {
    BEGIN(cuDevicePrimaryCtxRetain);
    if (device < 0 || device >= num_devices) return INVALID_DEVICE;
    auto &primary = primaries[device];
    if (!primary) primary = std::make_unique<Context>(device);
    *context = primary.get();
    return SUCCESS;
}
API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
    return SUCCESS;
}
API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice, unsigned) {
    return SUCCESS;
}
API CUresult cuCtxCreate_v2(void **context, unsigned, CUdevice device) {
    BEGIN(cuCtxCreate_v2);
    if (device < 0 || device >= num_devices) return INVALID_DEVICE;
    contexts.push_back(std::make_unique<Context>(device));
    *context = current = contexts.back().get();
    return SUCCESS;
}
API CUresult cuCtxDestroy_v2(void *context) {
    BEGIN(cuCtxDestroy_v2);
    if (current == context) current = nullptr;
    return SUCCESS;
}
API CUresult cuCtxSetCurrent(void *context) {
    BEGIN(cuCtxSetCurrent);
    current = static_cast<Context *>(context);
    return SUCCESS;
}
API CUresult cuCtxGetCurrent(void **context) {
    *context = current;
    return SUCCESS;
}
API CUresult cuCtxGetDevice(CUdevice *device) {
    BEGIN_IN_CONTEXT(cuCtxGetDevice);
    *device = current->device;
    return SUCCESS;
}
API CUresult cuCtxSynchronize() {
    BEGIN_IN_CONTEXT(cuCtxSynchronize);
    return drain_all(current);
}

API CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
    BEGIN_IN_CONTEXT(cuMemGetInfo_v2);
    size_t held = device_allocated(current->device);
    *total = memory_bytes;
    *free = held < memory_bytes ? memory_bytes - held : 0;
    return SUCCESS;
}
API CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes) {
    BEGIN_IN_CONTEXT(cuMemAlloc_v2);
    if (!bytes) return INVALID_VALUE;
    if (device_allocated(current->device) + bytes > memory_bytes) return OUT_OF_MEMORY;
    *at = device_alloc(current->device, bytes);
    return *at ? SUCCESS : OUT_OF_MEMORY;
}
API CUresult cuMemFree_v2(CUdeviceptr at) {
    BEGIN_IN_CONTEXT(cuMemFree_v2);
    drain_all(current);
    return device_free(at) ? SUCCESS : INVALID_VALUE;
}
API CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned) {
    BEGIN_IN_CONTEXT(cuMemHostAlloc);
    *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    host_memory[*p] = bytes;
    return *p ? SUCCESS : OUT_OF_MEMORY;
}
API CUresult cuMemAllocHost_v2(void **p, size_t bytes) {
    return cuMemHostAlloc(p, bytes, 0);
}
API CUresult cuMemFreeHost(void *p) {
    BEGIN(cuMemFreeHost);
    if (!host_memory.erase(p)) return INVALID_VALUE;
    free(p);
    return SUCCESS;
}

static CUresult to_device(CUdeviceptr to, const void *from, size_t bytes) {
    if (!device_holds(to, bytes)) return INVALID_VALUE;
    memcpy(reinterpret_cast<void *>(to), from, bytes);
    device_written(to, bytes);
    return SUCCESS;
}
static CUresult to_host(void *to, CUdeviceptr from, size_t bytes) {
    if (!device_holds(from, bytes)) return INVALID_VALUE;
    device_read(from, bytes, "copy to the host");
    memcpy(to, reinterpret_cast<const void *>(from), bytes);
    return SUCCESS;
}
static CUresult on_device(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    if (!device_holds(to, bytes) || !device_holds(from, bytes)) return INVALID_VALUE;
    device_read(from, bytes, "copy");
    memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
    device_written(to, bytes);
    return SUCCESS;
}
static CUresult fill(CUdeviceptr to, unsigned value, size_t width, size_t count) {
    if (!device_holds(to, count * width) || to % width) return INVALID_VALUE;
    for (size_t i = 0; i < count; i++) memcpy(reinterpret_cast<char *>(to) + i * width, &value, width);
    device_written(to, count * width);
    return SUCCESS;
}
// Copies that wait: after what the null stream holds, as no stream of ours waits for it.
API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
    BEGIN_IN_CONTEXT(cuMemcpyHtoD_v2);
    if (CUresult code = drain(current->null_stream())) return code;
    return to_device(to, from, bytes);
}
API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
    BEGIN_IN_CONTEXT(cuMemcpyDtoH_v2);
    if (CUresult code = drain(current->null_stream())) return code;
    return to_host(to, from, bytes);
}
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, void *stream) {
    BEGIN_IN_CONTEXT(cuMemcpyHtoDAsync_v2);
    if (!device_holds(to, bytes)) return INVALID_VALUE;
    return give(stream, [=] { return to_device(to, from, bytes); });
}
API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, void *stream) {
    BEGIN_IN_CONTEXT(cuMemcpyDtoHAsync_v2);
    if (!device_holds(from, bytes)) return INVALID_VALUE;
    return give(stream, [=] { return to_host(to, from, bytes); });
}
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, void *stream) {
    BEGIN_IN_CONTEXT(cuMemcpyDtoDAsync_v2);
    if (!device_holds(to, bytes) || !device_holds(from, bytes)) return INVALID_VALUE;
    return give(stream, [=] { return on_device(to, from, bytes); });
}
API CUresult cuMemcpyPeerAsync(CUdeviceptr to, void *, CUdeviceptr from, void *, size_t bytes, void *stream) {
    BEGIN_IN_CONTEXT(cuMemcpyPeerAsync);
    if (!device_holds(to, bytes) || !device_holds(from, bytes)) return INVALID_VALUE;
    return give(stream, [=] { return on_device(to, from, bytes); });
}
API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, void *stream) {
    BEGIN_IN_CONTEXT(cuMemsetD8Async);
    if (!device_holds(to, count)) return INVALID_VALUE;
    return give(stream, [=] { return fill(to, value, 1, count); });
}
API CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, void *stream) {
    BEGIN_IN_CONTEXT(cuMemsetD16Async);
    if (!device_holds(to, 2 * count)) return INVALID_VALUE;
    return give(stream, [=] { return fill(to, value, 2, count); });
}
API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, void *stream) {
    BEGIN_IN_CONTEXT(cuMemsetD32Async);
    if (!device_holds(to, 4 * count)) return INVALID_VALUE;
    return give(stream, [=] { return fill(to, value, 4, count); });
}

API CUresult cuModuleLoadData(void **module, const void *image) {
    BEGIN_IN_CONTEXT(cuModuleLoadData);
    return load(module, image);
}
API CUresult cuModuleLoadDataEx(void **module, const void *image, unsigned, void *, void *) {
    BEGIN_IN_CONTEXT(cuModuleLoadDataEx);
    return load(module, image);
}
API CUresult cuModuleUnload(void *module) {
    BEGIN_IN_CONTEXT(cuModuleUnload);
    delete static_cast<Module *>(module);
    return SUCCESS;
}
API CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
    BEGIN_IN_CONTEXT(cuModuleGetFunction);
    // Names are whole in a table of strings, and in PTX.
    const std::string &image = module ? static_cast<Module *>(module)->image : std::string();
    const std::string whole = std::string(".entry ") + name + "(", entry = std::string("\0", 1) + name + '\0';
    if (!image.empty() && image.find(whole) == std::string::npos && image.find(entry) == std::string::npos)
        return NOT_FOUND;
    for (size_t i = 0; i < NUM_KERNELS; i++)
        if (!strcmp(KERNELS[i].name, name)) {
            *function = const_cast<Kernel *>(&KERNELS[i]);
            return SUCCESS;
        }
    return NOT_FOUND;
}
API CUresult cuFuncGetAttribute(int *value, int attribute, void *function) {
    BEGIN_IN_CONTEXT(cuFuncGetAttribute);
    *value = attribute == 0 ? static_cast<Kernel *>(function)->threads : 0;  // MAX_THREADS_PER_BLOCK
    return SUCCESS;
}
API CUresult cuFuncSetAttribute(void *, int, int) {
    BEGIN_IN_CONTEXT(cuFuncSetAttribute);
    return SUCCESS;
}
API CUresult cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                            unsigned bz, unsigned dynamic_shared, void *stream, void **args, void **extra) {
    BEGIN_IN_CONTEXT(cuLaunchKernel);
    if (!function) return INVALID_HANDLE;
    auto *kernel = static_cast<Kernel *>(function);
    if (!gx || !gy || !gz || gx > 0x7fffffffu || gy > 65535 || gz > 65535 || by != 1 || bz != 1 || extra)
        return INVALID_VALUE;
    if (bx != static_cast<unsigned>(kernel->threads) || dynamic_shared > SHARED_BYTES) return INVALID_VALUE;
    // The driver copies arguments when it is called, so whoever called may forget them.
    auto held = std::make_shared<Arguments>();
    for (size_t i = 0; i < kernel->num_arguments; i++) {
        auto *from = static_cast<unsigned char *>(args[i]);
        held->values.emplace_back(from, from + kernel->arguments[i]);
    }
    for (auto &value : held->values) held->pointers.push_back(value.data());
    int device = current->device;
    return give(stream, [=] {
        return run_grid({kernel, device, {gx, gy, gz}, {bx, 1, 1}, dynamic_shared, held->pointers.data()});
    });
}

API CUresult cuStreamCreate(void **stream, unsigned) {
    BEGIN_IN_CONTEXT(cuStreamCreate);
    current->streams.push_back(std::make_unique<Stream>(Stream{current, {}}));
    *stream = current->streams.back().get();
    return SUCCESS;
}
API CUresult cuStreamCreateWithPriority(void **stream, unsigned flags, int) {
    return cuStreamCreate(stream, flags);
}
API CUresult cuStreamDestroy_v2(void *stream) {
    BEGIN_IN_CONTEXT(cuStreamDestroy_v2);
    // Its handle stays, so that events recorded there are still known.
    return drain(stream_of(stream));
}
API CUresult cuStreamSynchronize(void *stream) {
    BEGIN_IN_CONTEXT(cuStreamSynchronize);
    return drain(stream_of(stream));
}
API CUresult cuStreamQuery(void *stream) {
    BEGIN_IN_CONTEXT(cuStreamQuery);
    Stream *s = stream_of(stream);
    if (s->queue.empty()) return s->context->sticky;
    step(s);
    return s->queue.empty() ? s->context->sticky : CUresult(NOT_READY);
}
API CUresult cuStreamWaitEvent(void *stream, void *event, unsigned) {
    BEGIN_IN_CONTEXT(cuStreamWaitEvent);
    auto *e = static_cast<Event *>(event);
    uint64_t recording = e->recorded;
    return give(stream, [=] { return drain_to(e, recording); });
}

API CUresult cuEventCreate(void **event, unsigned) {
    BEGIN_IN_CONTEXT(cuEventCreate);
    *event = new Event;
    return SUCCESS;
}
API CUresult cuEventDestroy_v2(void *event) {
    BEGIN_IN_CONTEXT(cuEventDestroy_v2);
    auto *e = static_cast<Event *>(event);
    // It is not given back: a stream may still be to wait for it.
    return drain_to(e, e->recorded);
}
API CUresult cuEventRecord(void *event, void *stream) {
    BEGIN_IN_CONTEXT(cuEventRecord);
    if (current->sticky) return current->sticky;
    auto *e = static_cast<Event *>(event);
    e->stream = stream_of(stream);
    e->recorded++;
    e->stream->queue.push_back({nullptr, e, e->recorded});
    return SUCCESS;
}
API CUresult cuEventSynchronize(void *event) {
    BEGIN_IN_CONTEXT(cuEventSynchronize);
    auto *e = static_cast<Event *>(event);
    if (CUresult code = drain_to(e, e->recorded)) {
        if (!current->sticky) current->sticky = code;
    }
    return current->sticky;
}
API CUresult cuEventQuery(void *event) {
    BEGIN_IN_CONTEXT(cuEventQuery);
    auto *e = static_cast<Event *>(event);
    if (e->done < e->recorded && e->stream && !e->stream->queue.empty()) step(e->stream);
    return e->done < e->recorded ? CUresult(NOT_READY) : current->sticky;
}
API CUresult cuEventElapsedTime(float *ms, void *from, void *to) {
    BEGIN_IN_CONTEXT(cuEventElapsedTime);
    auto *a = static_cast<Event *>(from), *b = static_cast<Event *>(to);
    if (a->done < a->recorded || b->done < b->recorded) return NOT_READY;
    *ms = std::chrono::duration<float, std::milli>(b->time - a->time).count();
    return SUCCESS;
}
