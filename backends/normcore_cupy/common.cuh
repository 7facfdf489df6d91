// Design: one source for NVRTC and, with a thin header, for host compilers. NC_T is the dtype of
// the inputs, NC_OUT that of the result; all arithmetic is in float64, every operation rounded
// once (compile with -fmad=false -ftz=false; fma is written where it is meant).
//
// A block is blockDim.x channels by blockDim.y positions (whole warps, powers of two, x <= 32):
// many channels across where channels are neighbours in memory, one where positions are. It walks
// the range blockIdx.y of positions for the tile blockIdx.x of channels; a thread stays with one
// channel, so what belongs to the channel sits in registers, and keeps several loads in flight.
// Threads of a channel merge by shuffles, then through shared memory; the ranges' states merge in
// a second kernel. Every tree is fixed by the shape alone: the same bits in every run and on
// every device. All indices are 64-bit.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define ALL_LANES 0xffffffffu
#define MAX_THREADS 256
#define INF __longlong_as_double(0x7ff0000000000000LL)

constexpr int BATCH = 4; // loads in flight of one thread
constexpr double LARGEST = 1.7976931348623157e308;

struct View { // (N, C, S) and strides, in elements; data == 0: absent
    char* data;
    long long n, c, s, sn, sc, ss;
};

__device__ inline double to_double(__half v) { return __half2float(v); }
__device__ inline double to_double(__nv_bfloat16 v) { return __bfloat162float(v); }
template <class T> __device__ inline double to_double(T v) { return static_cast<double>(v); }

template <class T> struct Rounded {
    __device__ static T of(double v) { return static_cast<T>(v); }
};
template <> struct Rounded<__half> {
    __device__ static __half of(double v) { return __double2half(v); }
};
template <> struct Rounded<__nv_bfloat16> {
    __device__ static __nv_bfloat16 of(double v) { return __double2bfloat16(v); }
};

__device__ inline bool finite(double v) { return fabs(v) <= LARGEST; }

// -- double-double -----------------------------------------------------------------------------

struct dd {
    double hi, lo;
};

__device__ inline dd two_sum(double a, double b)
{
    double hi = a + b, t = hi - a;
    return {hi, (a - (hi - t)) + (b - t)};
}

__device__ inline dd fast_two_sum(double a, double b) // |a| >= |b| or a == 0
{
    double hi = a + b;
    return {hi, b - (hi - a)};
}

__device__ inline dd two_product(double a, double b)
{
    double hi = a * b;
    return {hi, fma(a, b, -hi)};
}

// What is not finite propagates in hi as in plain sums.
__device__ inline dd operator+(dd a, dd b)
{
    dd s = two_sum(a.hi, b.hi), t = two_sum(a.lo, b.lo);
    if (!finite(s.hi)) return {s.hi, 0.0};
    s = fast_two_sum(s.hi, s.lo + t.hi);
    return fast_two_sum(s.hi, s.lo + t.lo);
}

__device__ inline dd operator-(dd a) { return {-a.hi, -a.lo}; }
__device__ inline dd operator-(dd a, dd b) { return a + -b; }

__device__ inline dd operator*(dd a, dd b)
{
    dd p = two_product(a.hi, b.hi);
    return fast_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

__device__ inline dd operator/(dd a, dd b)
{
    double first = a.hi / b.hi;
    dd rest = a - dd{first, 0.0} * b;
    dd q = fast_two_sum(first, rest.hi / b.hi);
    rest = a - q * b;
    return fast_two_sum(q.hi, q.lo + rest.hi / b.hi);
}

// Add to a running sum, whose lo is normalized at the end.
__device__ inline void accumulate(dd& total, double v)
{
    dd s = two_sum(total.hi, v);
    total = {s.hi, total.lo + s.lo};
}

__device__ inline dd normalized(dd total)
{
    if (!finite(total.hi)) return {total.hi, 0.0};
    return fast_two_sum(total.hi, total.lo);
}

// -- positions ---------------------------------------------------------------------------------

// The positions of one thread; divides once, then only adds.
struct Positions {
    long long channel, n, s, inner;
    int left, step_n, step_s; // of a thread: far below 2**31 for whatever memory holds

    __device__ Positions(const View& x, long long per_range)
    {
        long long first = blockIdx.y * per_range, end = x.n * x.s;
        if (end > first + per_range) end = first + per_range;
        first += threadIdx.y;
        channel = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
        inner = x.s;
        n = first / inner;
        s = first - n * inner;
        step_n = static_cast<int>(blockDim.y / inner);
        step_s = static_cast<int>(blockDim.y - step_n * inner);
        bool some = channel < x.c && first < end;
        left = some ? static_cast<int>((end - first - 1) / blockDim.y) + 1 : 0;
    }

    __device__ void advance()
    {
        n += step_n;
        s += step_s;
        if (s >= inner) {
            s -= inner;
            ++n;
        }
        --left;
    }
};

template <class T> __device__ inline T& element(const View& v, const Positions& at)
{
    return reinterpret_cast<T*>(v.data)[at.n * v.sn + at.channel * v.sc + at.s * v.ss];
}

// Call visit(load(at), at) at every position, with BATCH loads in flight.
template <class Load, class Visit>
__device__ inline void walk(Positions at, const Load& load, const Visit& visit)
{
    while (at.left > 0) {
        decltype(load(at)) loaded[BATCH];
        Positions ahead = at;
#pragma unroll
        for (int i = 0; i < BATCH; ++i, ahead.advance())
            if (ahead.left > 0) loaded[i] = load(ahead);
#pragma unroll
        for (int i = 0; i < BATCH; ++i, at.advance())
            if (at.left > 0) visit(loaded[i], at);
    }
}

// -- merging the threads of a block --------------------------------------------------------------

// States are structs of doubles with a function merged(a, b).
template <class S> __device__ inline S shuffled_down(S state, int distance)
{
    double* words = reinterpret_cast<double*>(&state);
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(S) / sizeof(double)); ++i)
        words[i] = __shfl_down_sync(ALL_LANES, words[i], distance);
    return state;
}

// Return to every thread the merged states of all threads of its channel.
template <class S> __device__ S merged_block(S mine)
{
    __shared__ S warps[MAX_THREADS / 32][32];
    int width = blockDim.x, thread = threadIdx.y * width + threadIdx.x;
    int lane = thread % 32, warp = thread / 32;
    for (int distance = 16; distance >= width; distance /= 2)
        mine = merged(mine, shuffled_down(mine, distance));
    if (lane < width) warps[warp][lane] = mine;
    for (int half = width * blockDim.y / 64; half > 0; half /= 2) {
        __syncthreads();
        if (warp < half && lane < width)
            warps[warp][lane] = merged(warps[warp][lane], warps[warp + half][lane]);
    }
    __syncthreads();
    mine = warps[0][threadIdx.x];
    __syncthreads(); // before the next call writes
    return mine;
}

// Where row 0 of the state of this block's range and channel is in parts (ranges, rows, C).
__device__ inline double* part_of(double* parts, int rows, const View& x, const Positions& at)
{
    return parts + static_cast<long long>(blockIdx.y) * rows * x.c + at.channel;
}

// The thread that writes what its channel's threads have merged.
__device__ inline bool writes(const View& x, const Positions& at)
{
    return threadIdx.y == 0 && at.channel < x.c;
}
