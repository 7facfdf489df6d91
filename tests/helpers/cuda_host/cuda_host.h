/* Runs CUDA kernels on the CPU, to test their logic where there is no device.

Design: every CUDA thread of a block is a fibre with a stack of its own. A fibre runs until it
meets a barrier or a warp collective (shuffle, ballot, __syncwarp); there it waits until every
thread that must take part has arrived at the same line. Between such points threads run one
after another, in an order that the launch chooses, so that a warp overtakes others wherever no
barrier holds it back. Shared memory is poisoned before each block. When no fibre can
go on, the launch fails and says who waits where.

Blocks run one after another, or (cuda_blocks.h) take turns where they are launched together. Weak
memory and flushed subnormals are not modelled. Fibres start through ucontext; later switches are _setjmp and
_longjmp, which make no system call. */
#pragma once

#ifdef _FORTIFY_SOURCE
#error "fibres jump between stacks, which _FORTIFY_SOURCE takes for an attack: compile with -U_FORTIFY_SOURCE"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <type_traits>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };

namespace cuda_host {

constexpr unsigned WARP = 32, MAX_THREADS = 1024, MAX_FIBRES = 4096;
constexpr size_t STACK = 128 * 1024, GUARD = 4096, MAX_SHARED = 232448;

enum State { READY, AT_BARRIER, IN_COLLECTIVE, ASLEEP, DONE };
enum Collective { SHUFFLE, BALLOT, SYNCWARP };

struct Thread {
    jmp_buf registers;
    ucontext_t start;
    char* stack;
    bool started;
    State state;
    uint3 index;
    unsigned id;
    int line;            // where it waits
    Collective kind;     // what it takes part in, and with whom
    unsigned mask;
    uint64_t value;      // what it gives
    unsigned source;     // the lane whose value it takes
    uint64_t result;
};

constexpr uint64_t CANARY = 0x5afe57ac4d00b1e5;

inline Thread fibres[MAX_FIBRES];
inline Thread* threads = fibres; // of the block that runs
inline char* stacks[MAX_FIBRES / MAX_THREADS];
inline Thread* current;
inline unsigned num_threads, num_waiting;
inline dim3 block_dim, grid_dim;
inline uint3 block_index;
inline jmp_buf scheduler;
inline void (*invoke)(void**);
inline void** arguments;
inline char error[512];
inline bool failed;
alignas(16) inline unsigned char dynamic_shared[MAX_SHARED];

struct Shared {
    void* begin;
    size_t size;
};
inline Shared static_shared[64];
inline unsigned num_shared;
inline int shared_poison;

/* Have a static variable poisoned before each block; build.py calls this at its declaration. */
inline void register_shared(void* begin, size_t size)
{
    for (unsigned i = 0; i < num_shared; ++i)
        if (static_shared[i].begin == begin) return;
    if (num_shared == sizeof static_shared / sizeof *static_shared) abort();
    static_shared[num_shared++] = {begin, size};
    memset(begin, shared_poison, size);
}

// -- switching stacks ------------------------------------------------------------------------

#if defined(__SANITIZE_ADDRESS__)
inline const void* scheduler_stack;
inline size_t scheduler_size;
inline void* scheduler_fake;
inline void leave(void** fake, const void* stack, size_t size)
{
    __sanitizer_start_switch_fiber(fake, stack, size);
}
inline void arrive(void* fake, const void** stack, size_t* size)
{
    __sanitizer_finish_switch_fiber(fake, stack, size);
}
#endif

[[gnu::noinline]] inline void yield()
{
    Thread* self = current;
#if defined(__SANITIZE_ADDRESS__)
    void* fake;
    leave(&fake, scheduler_stack, scheduler_size);
#endif
    if (_setjmp(self->registers) == 0) _longjmp(scheduler, 1);
#if defined(__SANITIZE_ADDRESS__)
    arrive(fake, &scheduler_stack, &scheduler_size);
#endif
}

[[noreturn]] inline void fibre()
{
#if defined(__SANITIZE_ADDRESS__)
    arrive(nullptr, &scheduler_stack, &scheduler_size);
#endif
    for (;;) { // once a block
        invoke(arguments);
        current->state = DONE;
        yield();
    }
}

[[gnu::noinline]] inline void resume(Thread* thread)
{
    current = thread;
#if defined(__SANITIZE_ADDRESS__)
    leave(&scheduler_fake, thread->stack + GUARD, STACK - GUARD);
#endif
    if (_setjmp(scheduler) == 0) {
        if (thread->started) _longjmp(thread->registers, 1);
        thread->started = true;
        setcontext(&thread->start);
    }
#if defined(__SANITIZE_ADDRESS__)
    arrive(scheduler_fake, nullptr, nullptr);
#endif
}

/* The last word of a stack; another value says that the thread has run out of it. */
inline uint64_t* canary_of(const Thread* thread)
{
    return reinterpret_cast<uint64_t*>(thread->stack + GUARD);
}

inline void prepare(Thread* thread)
{
    size_t number = size_t(thread - fibres);
    char*& all = stacks[number / MAX_THREADS];
    if (all == nullptr) { // of so many at once, as a process may have so many mappings only
        void* made = mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (made == MAP_FAILED || mprotect(made, GUARD, PROT_NONE) != 0) abort();
        all = static_cast<char*>(made);
    }
    if (thread->stack == nullptr) {
        thread->stack = all + number % MAX_THREADS * STACK;
        *canary_of(thread) = CANARY;
    }
    if (thread->started) return;
    getcontext(&thread->start);
    thread->start.uc_stack.ss_sp = thread->stack + GUARD;
    thread->start.uc_stack.ss_size = STACK - GUARD;
    thread->start.uc_link = nullptr;
    makecontext(&thread->start, fibre, 0);
}

/* End the launch; from a fibre this does not return, and its stack is started anew later. */
[[gnu::format(printf, 1, 2)]] inline void fail(const char* format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(error, sizeof error, format, list);
    va_end(list);
    failed = true;
    if (current != nullptr) for (;;) yield();
}

// -- barriers and warp collectives -------------------------------------------------------------

inline void barrier(int line)
{
    Thread* self = current;
    self->state = AT_BARRIER;
    self->line = line;
    if (++num_waiting == num_threads) {
        for (unsigned i = 0; i < num_threads; ++i)
            if (threads[i].line != line)
                fail("__syncthreads diverges: thread %u waits at line %d, thread %u at line %d",
                     self->id, line, i, threads[i].line);
        num_waiting = 0;
        for (unsigned i = 0; i < num_threads; ++i) threads[i].state = READY;
    } else {
        yield();
    }
}

/* Let everyone else go on before this thread does; a loop of it waits for another block. */
inline void sleep(int line)
{
    current->state = ASLEEP;
    current->line = line;
    yield();
}

inline uint64_t collective(Collective kind, unsigned mask, uint64_t value, unsigned source, int line)
{
    Thread* self = current;
    unsigned lane = self->id % WARP;
    Thread* warp = threads + (self->id - lane);
    if (!(mask >> lane & 1))
        fail("line %d: lane %u is not in its own mask %08x", line, lane, mask);
    self->state = IN_COLLECTIVE;
    self->kind = kind, self->mask = mask, self->line = line;
    self->value = value, self->source = source;
    unsigned votes = 0;
    for (unsigned i = 0; i < WARP; ++i) {
        if (!(mask >> i & 1)) continue;
        if (self->id - lane + i >= num_threads)
            fail("line %d: mask %08x names lane %u, which the block does not have", line, mask, i);
        if (warp[i].state != IN_COLLECTIVE || warp[i].mask != mask || warp[i].kind != kind ||
            warp[i].line != line) {
            yield();
            return self->result;
        }
        votes |= unsigned(warp[i].value != 0) << i;
    }
    for (unsigned i = 0; i < WARP; ++i) {
        if (!(mask >> i & 1)) continue;
        if (kind == SHUFFLE && !(mask >> warp[i].source & 1))
            fail("line %d: lane %u reads from lane %u, which is not in the mask %08x", line, i,
                 warp[i].source, mask);
        warp[i].result = kind == BALLOT ? votes : warp[warp[i].source].value;
        warp[i].state = READY;
    }
    return self->result;
}

template <class T> inline T shuffle(unsigned mask, T value, unsigned source, int line)
{
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                  "CUDA shuffles 32- and 64-bit numbers");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = collective(SHUFFLE, mask, bits, source, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The lane to read from: the own one where the target leaves the segment of `width` lanes. */
inline unsigned target(long long lane, int width)
{
    unsigned own = current->id % WARP, first = own / unsigned(width) * unsigned(width);
    return lane >= first && lane < first + width ? unsigned(lane) : own;
}

} // namespace cuda_host
