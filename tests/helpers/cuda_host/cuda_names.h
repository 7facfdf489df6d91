/* The names of CUDA C++ that kernels use, on the fibres of cuda_host.h. */
#pragma once
#include <math.h>

#include "cuda_blocks.h" // before kernels define names of their own

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
// __shared__ is no macro: build.py writes out what stands for it.

#define threadIdx (cuda_host::current->index)
#define blockIdx (cuda_host::block_index)
#define blockDim (cuda_host::block_dim)
#define gridDim (cuda_host::grid_dim)
#define warpSize 32

// The default arguments note the line of the caller.
inline void __syncthreads(int line = __builtin_LINE()) { cuda_host::barrier(line); }

inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE())
{
    cuda_host::collective(cuda_host::SYNCWARP, mask, 0, cuda_host::current->id % 32, line);
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, int line = __builtin_LINE())
{
    unsigned own = cuda_host::current->id % 32, segment = unsigned(width);
    unsigned source = own / segment * segment + unsigned(lane) % segment;
    return cuda_host::shuffle(mask, value, source, line);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32,
                          int line = __builtin_LINE())
{
    long long lane = (long long)(cuda_host::current->id % 32) + distance;
    return cuda_host::shuffle(mask, value, cuda_host::target(lane, width), line);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32,
                        int line = __builtin_LINE())
{
    long long lane = (long long)(cuda_host::current->id % 32) - distance;
    return cuda_host::shuffle(mask, value, cuda_host::target(lane, width), line);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                         int line = __builtin_LINE())
{
    unsigned own = cuda_host::current->id % 32, lane = own ^ unsigned(bits);
    unsigned end = (own / unsigned(width) + 1) * unsigned(width); // earlier segments may be read
    return cuda_host::shuffle(mask, value, lane < end ? lane : own, line);
}

inline unsigned __ballot_sync(unsigned mask, int vote, int line = __builtin_LINE())
{
    unsigned lane = cuda_host::current->id % 32;
    return unsigned(cuda_host::collective(cuda_host::BALLOT, mask, vote != 0, lane, line));
}

inline int __any_sync(unsigned mask, int vote, int line = __builtin_LINE())
{
    return __ballot_sync(mask, vote, line) != 0;
}

inline int __all_sync(unsigned mask, int vote, int line = __builtin_LINE())
{
    return __ballot_sync(mask, vote, line) == mask;
}

inline void __nanosleep(unsigned, int line = __builtin_LINE()) { cuda_host::sleep(line); }

// Blocks and threads take turns, so plain memory operations are atomic and ordered.
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T, class V> inline T atomicAdd(T* address, V value)
{
    T old = *address;
    *address = T(old + T(value));
    return old;
}

template <class T, class V> inline T atomicMin(T* address, V value)
{
    T old = *address;
    if (T(value) < old) *address = T(value);
    return old;
}

template <class T, class V> inline T atomicMax(T* address, V value)
{
    T old = *address;
    if (T(value) > old) *address = T(value);
    return old;
}

template <class T, class V> inline T atomicOr(T* address, V value)
{
    T old = *address;
    *address = T(old | T(value));
    return old;
}

template <class T, class V> inline T atomicSub(T* address, V value)
{
    T old = *address;
    *address = T(old - T(value));
    return old;
}

template <class T, class V> inline T atomicExch(T* address, V value)
{
    T old = *address;
    *address = T(value);
    return old;
}

template <class T, class C, class V> inline T atomicCAS(T* address, C compare, V value)
{
    T old = *address;
    if (old == T(compare)) *address = T(value);
    return old;
}

template <class T> inline T __ldg(const T* address) { return *address; }
template <class T> inline T __ldcg(const T* address) { return *address; }

inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
// The nearest float that is not above, and not below.
inline float __double2float_rd(double v)
{
    float nearest = float(v);
    return double(nearest) > v ? nextafterf(nearest, -HUGE_VALF) : nearest;
}
inline float __double2float_ru(double v) { return -__double2float_rd(-v); }

inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(unsigned(bits)); }
inline int __clzll(long long bits)
{
    return bits == 0 ? 64 : __builtin_clzll((unsigned long long)bits);
}
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }

template <class To, class From> inline To __bit_copy(From from)
{
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

inline long long __double_as_longlong(double v) { return __bit_copy<long long>(v); }
inline double __longlong_as_double(long long v) { return __bit_copy<double>(v); }
inline int __float_as_int(float v) { return __bit_copy<int>(v); }
inline unsigned __float_as_uint(float v) { return __bit_copy<unsigned>(v); }
inline float __int_as_float(int v) { return __bit_copy<float>(v); }
inline float __uint_as_float(unsigned v) { return __bit_copy<float>(v); }

template <class A, class B> inline std::common_type_t<A, B> min(A a, B b) { return b < a ? b : a; }
template <class A, class B> inline std::common_type_t<A, B> max(A a, B b) { return a < b ? b : a; }
