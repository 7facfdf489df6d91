/* What the shared object of one dtype shows to Python. KERNELS lists the kernels' names. */
#pragma once
#include "cuda_blocks.h"

#define CUDA_HOST_KERNEL(NAME)                                                                     \
    {#NAME, [](void** values) { cuda_host::call(NAME, values, cuda_host::indices_of(NAME)); },     \
     []() { return cuda_host::signature_of(NAME); }},

static const cuda_host::Kernel kernels[] = {KERNELS(CUDA_HOST_KERNEL)};

static const cuda_host::Kernel* find(const char* name)
{
    for (const cuda_host::Kernel& kernel : kernels)
        if (strcmp(kernel.name, name) == 0) return &kernel;
    return nullptr;
}

extern "C" __attribute__((visibility("default"))) const char*
cuda_host_signature(const char* name)
{
    const cuda_host::Kernel* kernel = find(name);
    return kernel == nullptr ? nullptr : kernel->signature();
}

/* Return null, or what went wrong. */
extern "C" __attribute__((visibility("default"))) const char*
cuda_host_launch(const char* name, const unsigned* grid, const unsigned* block, size_t shared,
                 int order, uint64_t seed, int poison, int together, void** values)
{
    cuda_host::failed = false;
    cuda_host::launch(*find(name), {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]},
                      shared, cuda_host::Order(order), seed, poison, together != 0, values);
    return cuda_host::failed ? cuda_host::error : nullptr;
}
