/* Blocks of cuda_host.h: one after another, or together as a cooperative launch has them.

Design: blocks that are launched together have fibres of their own, and shared memory that is
carried in and out when they take turns. They do at barriers and collectives, and where a thread
sleeps, which is how it waits for another block: __nanosleep lets everyone else go on first.
Whoever spins without it never ends here, nor does a block that waits for others where blocks run
one after another: that is reported as a deadlock. */
#pragma once
#include "cuda_host.h"

namespace cuda_host {

enum Order { FORWARD, REVERSE, SHUFFLED };

inline unsigned next_random(uint64_t* state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return unsigned(*state >> 33);
}

inline void arrange(unsigned* order, unsigned size, Order kind, uint64_t* random)
{
    for (unsigned i = 0; i < size; ++i) order[i] = kind == REVERSE ? size - 1 - i : i;
    if (kind != SHUFFLED) return;
    for (unsigned i = size; i > 1; --i) {
        unsigned j = next_random(random) % i, kept = order[i - 1];
        order[i - 1] = order[j], order[j] = kept;
    }
}

/* Of the first of some blocks that has not come to its end. */
inline void report_deadlock()
{
    // Only those that sleep can be ready.
    static const char* const where[] = {"asleep", "barrier", "warp", "asleep", "done"};
    size_t used = size_t(snprintf(error, sizeof error, "deadlock in block (%u, %u, %u):",
                                  block_index.x, block_index.y, block_index.z));
    int last = 0;
    for (unsigned i = 0; i < num_threads && used + 80 < sizeof error; ++i) {
        Thread& thread = threads[i];
        if (thread.state == DONE || thread.line == last) continue;
        last = thread.line;
        used += size_t(snprintf(error + used, sizeof error - used, " thread %u waits at line %d (%s);",
                                i, last, where[thread.state]));
    }
    failed = true;
}

/* A block that has begun, while another one runs. */
struct Block {
    uint3 index;
    Thread* threads;
    unsigned num_waiting, done;
    unsigned num_shared;   // static variables that are kept
    unsigned char* shared; // what they hold, behind what is dynamic
};

inline Block* running;
inline Block others[MAX_FIBRES];
inline size_t dynamic_size;

/* Copy shared memory to where a block keeps it, or back; what the block has not met is poison. */
inline void move_shared(Block* block, bool back)
{
    unsigned char* kept = block->shared;
    auto move = [&](void* memory, size_t size) {
        if (kept + size > block->shared + MAX_SHARED) abort();
        if (back) memcpy(memory, kept, size);
        else memcpy(kept, memory, size);
        kept += size;
    };
    move(dynamic_shared, dynamic_size);
    if (!back) block->num_shared = num_shared;
    for (unsigned i = 0; i < num_shared; ++i)
        if (i < block->num_shared) move(static_shared[i].begin, static_shared[i].size);
        else memset(static_shared[i].begin, shared_poison, static_shared[i].size);
}

inline void poison_shared()
{
    for (unsigned i = 0; i < num_shared; ++i)
        memset(static_shared[i].begin, shared_poison, static_shared[i].size);
    memset(dynamic_shared, shared_poison, dynamic_size);
}

/* Make a block the one that runs. */
inline void enter(Block* block)
{
    if (running == block) return;
    if (running != nullptr) {
        running->num_waiting = num_waiting;
        move_shared(running, false);
    }
    running = block;
    threads = block->threads, block_index = block->index, num_waiting = block->num_waiting;
    if (block->shared != nullptr) move_shared(block, true);
}

inline void begin(Block* block, uint3 index, Thread* own)
{
    *block = {index, own, 0, 0, 0, block->shared};
    for (unsigned i = 0; i < num_threads; ++i) {
        own[i].id = i;
        own[i].index = {i % block_dim.x, i / block_dim.x % block_dim.y,
                        i / block_dim.x / block_dim.y};
        own[i].state = READY;
        prepare(own + i);
    }
}

/* Let the ready ones of some threads run once each; return whether there were any. */
inline bool take_turns(const unsigned* order, unsigned size, bool* progress)
{
    bool some = false;
    for (unsigned i = 0; i < size && !failed; ++i) {
        Thread* thread = threads + order[i];
        if (thread->state != READY) continue;
        resume(thread);
        if (*canary_of(thread) != CANARY) abort();
        running->done += thread->state == DONE;
        *progress |= thread->state != ASLEEP;
        some = true;
    }
    current = nullptr;
    return some;
}

/* Let a block go on: to its end or until none of its threads can; at random all of them once, or, where
   it is not alone, some. Return whether any did more than look again at what it waits for. */
inline bool go_on(Block* block, bool alone, Order kind, uint64_t* random)
{
    static unsigned order[MAX_THREADS];
    // A warp runs ahead as far as it can, as warps do; at random all threads are interleaved.
    unsigned team = kind == SHUFFLED ? num_threads : WARP;
    unsigned at_most = num_threads;
    bool any = false, progress = true;
    if (kind == SHUFFLED && !alone) at_most = 1 + next_random(random) % num_threads;
    enter(block);
    for (unsigned i = 0; i < num_threads; ++i)
        if (threads[i].state == ASLEEP) threads[i].state = READY;
    while (progress && block->done < num_threads && !failed) {
        progress = false;
        arrange(order, num_threads, kind, random);
        for (unsigned first = 0; first < at_most; first += team) {
            unsigned size = at_most - first < team ? at_most - first : team;
            while (take_turns(order + first, size, &progress))
                if (kind == SHUFFLED) break;
        }
        any |= progress;
        if (kind == SHUFFLED) break;
    }
    return any;
}

/* Run some blocks to their ends. Where they are several, a block that is ahead of the others stays so
   as long as it can, or at random all of them take turns. */
inline void run_blocks(Block* blocks, unsigned number, Order kind, uint64_t* random)
{
    static unsigned order[MAX_FIBRES];
    constexpr int ENOUGH = 100; // rounds in which threads look in vain at what they wait for
    for (int vain = 0, left = int(number); left > 0 && !failed;) {
        bool progress = false;
        left = 0;
        arrange(order, number, kind, random);
        for (unsigned i = 0; i < number && !failed; ++i) {
            Block* block = blocks + order[i];
            if (block->done == num_threads) continue;
            progress |= go_on(block, number == 1, kind, random);
            left += block->done < num_threads;
        }
        vain = progress ? 0 : vain + 1;
        if (vain < ENOUGH || failed) continue;
        for (unsigned i = 0; i < number; ++i)
            if (blocks[i].done < num_threads) {
                enter(blocks + i);
                break;
            }
        report_deadlock();
    }
}

/* A kernel and how to call it with pointers to its arguments, as cuLaunchKernel is given them. */
struct Kernel {
    const char* name;
    void (*invoke)(void**);
    const char* (*signature)();
};

template <class... A, size_t... I>
inline void call(void (*kernel)(A...), void** values, std::index_sequence<I...>)
{
    kernel(*static_cast<std::remove_reference_t<A>*>(values[I])...);
}

/* One letter (p, i, f, s: pointer, integer, floating, struct) and the size of each parameter. */
template <class... A> inline const char* signature_of(void (*)(A...))
{
    static char text[16 * sizeof...(A) + 1];
    size_t used = 0;
    ((used += size_t(snprintf(text + used, 16, "%c%zu ",
                              std::is_pointer<A>::value          ? 'p'
                              : std::is_floating_point<A>::value ? 'f'
                              : std::is_integral<A>::value       ? 'i'
                                                                 : 's',
                              sizeof(A)))),
     ...);
    return text;
}

template <class... A> constexpr auto indices_of(void (*)(A...))
{
    return std::index_sequence_for<A...>();
}

/* Run every block of a launch, the last one first where the order is reversed; or all together. */
inline void launch(const Kernel& kernel, dim3 grid, dim3 block, size_t shared, Order order,
                   uint64_t seed, int poison, bool together, void** values)
{
    uint64_t random = seed;
    uint64_t num_blocks = uint64_t(grid.x) * grid.y * grid.z;
    num_threads = block.x * block.y * block.z;
    shared_poison = poison, dynamic_size = shared, running = nullptr;
    grid_dim = grid, block_dim = block, invoke = kernel.invoke, arguments = values;
    auto index_of = [&](uint64_t b) {
        return uint3{unsigned(b % grid.x), unsigned(b / grid.x % grid.y),
                     unsigned(b / grid.x / grid.y)};
    };
    if (together) {
        for (uint64_t b = 0; b < num_blocks; ++b) {
            if (others[b].shared == nullptr)
                others[b].shared = static_cast<unsigned char*>(malloc(MAX_SHARED));
            memset(others[b].shared, poison, shared);
            begin(others + b, index_of(b), fibres + b * num_threads);
        }
        run_blocks(others, unsigned(num_blocks), order, &random);
    } else {
        Block alone = {};
        for (uint64_t b = 0; b < num_blocks && !failed; ++b) {
            poison_shared();
            begin(&alone, index_of(order == REVERSE ? num_blocks - 1 - b : b), fibres);
            running = nullptr;
            run_blocks(&alone, 1, order, &random);
        }
    }
    if (failed) // fibres were left where they stood
        for (Thread& each : fibres) each.started = false;
}

} // namespace cuda_host
