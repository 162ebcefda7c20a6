// A grid, block after block: a block's threads are fibers; barriers and warp collectives are meetings of them.
#include "runtime.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

Running running;

namespace {
constexpr size_t STACK = 128 * 1024;
enum State : uint8_t { READY, AT_BARRIER, AT_COLLECTIVE, DONE };

struct Copy {
    void *to;
    const void *from;
    int bytes, group;
};
struct Thread {
    void *sp;
    State state;
    int arrays, next_array;
    int group;  // of the copies issued next
    std::vector<Copy> copies;
};
Thread threads[MAX_THREADS];
char *stacks = nullptr;
void *scheduler_sp;
int num_threads;
int failure;
std::vector<size_t> arrays;
size_t dynamic_at;

struct Meeting {
    int kind;
    unsigned mask, arrived;
    void *slots[WARP];
};
Meeting meetings[MAX_THREADS / WARP];
}  // namespace

// ---- the switch from one fiber to another: what a function must preserve, and the stack
extern "C" void emu_switch(void **save, void *load);
#if defined(__x86_64__)
asm(R"(.text
.globl emu_switch
.hidden emu_switch
.type emu_switch,@function
emu_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size emu_switch,.-emu_switch
)");
// A function begins with its return address on a stack that was a multiple of 16 before it.
constexpr size_t SAVED = 7, RETURN = 6, ABOVE = 1;
#elif defined(__aarch64__)
asm(R"(.text
.globl emu_switch
.hidden emu_switch
.type emu_switch,%function
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp d8, d9, [sp, #80]
    stp d10, d11, [sp, #96]
    stp d12, d13, [sp, #112]
    stp d14, d15, [sp, #128]
    stp x29, x30, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp d8, d9, [sp, #80]
    ldp d10, d11, [sp, #96]
    ldp d12, d13, [sp, #112]
    ldp d14, d15, [sp, #128]
    ldp x29, x30, [sp, #144]
    add sp, sp, #160
    ret
.size emu_switch,.-emu_switch
)");
constexpr size_t SAVED = 20, RETURN = 19, ABOVE = 2;
#else
#error "the emulator knows no context switch for this processor"
#endif

namespace {
void enter(int thread) {
    running.thread = static_cast<uint16_t>(thread);
    running.stack_low = reinterpret_cast<uintptr_t>(stacks) + thread * STACK;
    running.stack_high = running.stack_low + STACK;
}
/// From the running fiber to the next that can go on in its warp, or to the scheduler.
void leave() {
    int me = running.thread, end = (me / WARP + 1) * WARP;
    for (int next = me + 1; next < end; next++)
        if (threads[next].state == READY) {
            enter(next);
            emu_switch(&threads[me].sp, threads[next].sp);
            return;
        }
    emu_switch(&threads[me].sp, scheduler_sp);
}
void body() {
    running.launch->kernel->entry(running.launch->args);
    threads[running.thread].state = DONE;
    leave();
    abort();
}
void prepare(int thread) {
    auto *top = reinterpret_cast<void **>(stacks + (thread + 1) * STACK);
    void **sp = top - ABOVE - SAVED;
    memset(sp, 0, (ABOVE + SAVED) * sizeof(void *));
    sp[RETURN] = reinterpret_cast<void *>(body);
    Thread &t = threads[thread];
    t.sp = sp;
    t.state = READY;
    t.next_array = 0;
    t.group = 0;
    t.copies.clear();
}

const char *name_of(int kind) {
    static const char *const names[] = {"shuffle", "ldmatrix", "mma"};
    return names[kind];
}
/// Nobody can go on and not all are done: says who waits for whom.
void stuck() {
    int barrier = 0, done = 0, first = -1;
    for (int i = 0; i < num_threads; i++) {
        barrier += threads[i].state == AT_BARRIER;
        done += threads[i].state == DONE;
        if (threads[i].state == AT_COLLECTIVE && first < 0) first = i;
    }
    if (first >= 0) {
        running.thread = static_cast<uint16_t>(first);
        const Meeting &m = meetings[first / WARP];
        fault("a warp's collective that not all lanes of its mask reach", "%s with mask %#x, reached by %#x",
              name_of(m.kind), m.mask, m.arrived);
    } else {
        fault("a barrier not reached by all threads", "%d of %d threads wait, %d have left", barrier, num_threads,
              done);
    }
    failure = LAUNCH_FAILED;
}
void run_block() {
    shared_begin_block();
    arrays.clear();
    running.serial++;
    running.epoch = 0;
    if (running.launch->dynamic_shared) dynamic_at = shared_declare(running.launch->dynamic_shared);
    memset(meetings, 0, sizeof meetings);
    for (int i = 0; i < num_threads; i++) prepare(i);
    while (!failure) {
        bool ran = false;
        for (int i = 0; i < num_threads && !failure; i++)
            if (threads[i].state == READY) {
                enter(i);
                emu_switch(&scheduler_sp, threads[i].sp);
                ran = true;
            }
        if (ran) continue;
        int barrier = 0, done = 0;
        for (int i = 0; i < num_threads; i++) {
            barrier += threads[i].state == AT_BARRIER;
            done += threads[i].state == DONE;
        }
        if (done == num_threads) break;
        if (barrier != num_threads) return stuck();
        running.epoch++;
        for (int i = 0; i < num_threads; i++) threads[i].state = READY;
    }
    for (int i = 0; i < num_threads && !failure; i++)
        if (!threads[i].copies.empty()) fault("an asynchronous copy nobody waited for", "thread %d", i);
}
}  // namespace

void abandon(int code) {
    failure = code;
    void *unused;
    emu_switch(&unused, scheduler_sp);
    abort();
}

int run_grid(const Launch &launch) {
    if (!stacks) {
        void *p = mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return 2;
        stacks = static_cast<char *>(p);
    }
    running.launch = &launch;
    running.launch_number++;
    num_threads = static_cast<int>(launch.block.x);
    failure = 0;
    running.block_number = 0;
    for (unsigned z = 0; z < launch.grid.z; z++)
        for (unsigned y = 0; y < launch.grid.y; y++)
            for (unsigned x = 0; x < launch.grid.x && !failure; x++) {
                running.block = {x, y, z};
                run_block();
                running.block_number++;
            }
    running.launch = nullptr;
    return failure;
}

// ---- what kernels call
namespace {
/// Meets the other lanes of the warp; the last to come does `work` on what all brought.
template <class Work>
void meet(int kind, unsigned mask, void *mine, Work work) {
    int me = running.thread, lane = me % WARP;
    Meeting &m = meetings[me / WARP];
    if (!(mask >> lane & 1))
        fault("a warp's collective whose mask leaves its caller out", "mask %#x, lane %d", mask, lane);
    if (!m.arrived) {
        m.kind = kind;
        m.mask = mask;
    } else if (m.kind != kind || m.mask != mask) {
        fault("lanes of a warp at different collectives", "%s %#x and %s %#x", name_of(kind), mask, name_of(m.kind),
              m.mask);
        abandon(LAUNCH_FAILED);
    }
    m.slots[lane] = mine;
    m.arrived |= 1u << lane;
    if (m.arrived == m.mask) {
        work(m);
        m.arrived = 0;
        for (int i = 0; i < WARP; i++)
            if (m.mask >> i & 1) threads[me / WARP * WARP + i].state = READY;
        return;
    }
    threads[me].state = AT_COLLECTIVE;
    leave();
}
struct Shuffle {
    unsigned x, from, result;
};
struct Matrices {
    const unsigned char *row;
    unsigned *r;
};
struct Mma {
    float *d;
    const unsigned *a, *b;
};
}  // namespace

extern "C" {
uint3 emu_thread_idx() {
    return {running.thread, 0, 0};
}
uint3 emu_block_idx() {
    return running.block;
}
uint3 emu_grid_dim() {
    return running.launch->grid;
}
uint3 emu_block_dim() {
    return running.launch->block;
}

void emu_barrier() {
    threads[running.thread].state = AT_BARRIER;
    leave();
}
void *emu_shared(size_t bytes) {
    Thread &t = threads[running.thread];
    if (t.next_array == static_cast<int>(arrays.size())) arrays.push_back(shared_declare(bytes));
    return shared_array(arrays[t.next_array++]);
}
void *emu_dynamic_shared() {
    return shared_array(dynamic_at);
}

uint4 emu_load16(const void *p) {
    access(reinterpret_cast<uintptr_t>(p), 16, false, true);
    return *static_cast<const uint4 *>(p);
}
void emu_store16(void *p, uint4 x) {
    access(reinterpret_cast<uintptr_t>(p), 16, true, true);
    *static_cast<uint4 *>(p) = x;
}
void emu_store8(void *p, float x, float y) {
    access(reinterpret_cast<uintptr_t>(p), 8, true, true);
    static_cast<float *>(p)[0] = x;
    static_cast<float *>(p)[1] = y;
}
void emu_store4(void *p, unsigned x) {
    access(reinterpret_cast<uintptr_t>(p), 4, true, true);
    *static_cast<unsigned *>(p) = x;
}

void emu_cp_async(void *to, const void *from, int bytes) {
    Thread &t = threads[running.thread];
    if (bytes < 0 || bytes > 16 || reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16) {
        fault("misaligned access", "asynchronous copy of %d bytes", bytes);
        abandon(MISALIGNED_ADDRESS);
    }
    if (bytes) access(reinterpret_cast<uintptr_t>(from), bytes, false, false);
    async_begin(reinterpret_cast<uintptr_t>(to), 16);
    t.copies.push_back({to, from, bytes, t.group});
}
void emu_cp_async_commit() {
    threads[running.thread].group++;
}
void emu_cp_async_wait(int pending) {
    Thread &t = threads[running.thread];
    size_t kept = 0;
    for (const Copy &c : t.copies) {
        if (c.group >= t.group - pending) {
            t.copies[kept++] = c;
            continue;
        }
        memset(c.to, 0, 16);
        memcpy(c.to, c.from, c.bytes);
        async_land(reinterpret_cast<uintptr_t>(c.to), 16);
    }
    t.copies.resize(kept);
}

unsigned emu_shuffle(unsigned mask, unsigned x, int other, int by_xor) {
    unsigned lane = running.thread % WARP;
    Shuffle mine{x, (by_xor ? lane ^ unsigned(other) : unsigned(other)) % WARP, 0};
    meet(0, mask, &mine, [](Meeting &m) {
        for (int i = 0; i < WARP; i++) {
            if (!(m.mask >> i & 1)) continue;
            auto &s = *static_cast<Shuffle *>(m.slots[i]);
            if (!(m.mask >> s.from & 1)) {
                fault("a shuffle from a lane that does not take part", "lane %d from %u", i, s.from);
                continue;
            }
            s.result = static_cast<Shuffle *>(m.slots[s.from])->x;
        }
    });
    return mine.result;
}

// PTX ISA, ldmatrix .m8n8.x4.b16: lanes 8j … 8j+7 give the rows of matrix j; lane l receives of it row l/4, columns
// 2(l mod 4) and the next, or with .trans column l/4, those rows.
void emu_ldmatrix_x4(unsigned *r, const void *row, int transposed) {
    access(reinterpret_cast<uintptr_t>(row), 16, false, true);
    Matrices mine{static_cast<const unsigned char *>(row), r};
    auto work = [transposed](Meeting &m) {
        for (int l = 0; l < WARP; l++)
            for (int j = 0; j < 4; j++) {
                uint16_t pair[2];
                for (int h = 0; h < 2; h++) {
                    int i = l / 4, c = 2 * (l % 4) + h;
                    if (transposed) std::swap(i, c);
                    memcpy(&pair[h], static_cast<Matrices *>(m.slots[8 * j + i])->row + 2 * c, 2);
                }
                memcpy(&static_cast<Matrices *>(m.slots[l])->r[j], pair, 4);
            }
    };
    meet(1, ~0u, &mine, work);
}

// PTX ISA, mma.m16n8k16: with g = l/4 and q = 2(l mod 4), register a[i] holds A[g + 8(i mod 2)][q + 8(i/2) + {0,1}],
// b[i] holds B[q + 8i + {0,1}][g], d[i] is D[g + 8(i/2)][q + i mod 2]. Sums here are made in f64 and rounded once.
void emu_mma_m16n8k16(float *d, const unsigned *a, const unsigned *b, int half) {
    Mma mine{d, a, b};
    auto work = [half](Meeting &m) {
        float A[16][16], B[16][8];
        double D[16][8];
        auto value = [half](unsigned x) {
            return half ? f16_to_float(static_cast<uint16_t>(x)) : bf16_to_float(static_cast<uint16_t>(x));
        };
        for (int l = 0; l < WARP; l++) {
            const Mma &s = *static_cast<Mma *>(m.slots[l]);
            int g = l / 4, q = 2 * (l % 4);
            for (int h = 0; h < 2; h++) {
                for (int i = 0; i < 4; i++) A[g + 8 * (i % 2)][q + 8 * (i / 2) + h] = value(s.a[i] >> 16 * h);
                for (int i = 0; i < 2; i++) B[q + 8 * i + h][g] = value(s.b[i] >> 16 * h);
            }
            for (int i = 0; i < 4; i++) D[g + 8 * (i / 2)][q + i % 2] = s.d[i];
        }
        for (int i = 0; i < 16; i++)
            for (int k = 0; k < 16; k++)
                for (int j = 0; j < 8; j++) D[i][j] += double(A[i][k]) * double(B[k][j]);
        for (int l = 0; l < WARP; l++)
            for (int i = 0; i < 4; i++)
                static_cast<Mma *>(m.slots[l])->d[i] = static_cast<float>(D[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2]);
    };
    meet(2, ~0u, &mine, work);
}
}
