// Design: values compare in a type that holds them exactly, mostly in one instruction.

template <class T> struct Compared { // of integers
    using Type = T;
    static constexpr bool SIGNED = static_cast<T>(-1) < static_cast<T>(0);
    __device__ static T least() { return SIGNED ? T(T(1) << (8 * sizeof(T) - 1)) : T(0); }
    __device__ static T most() { return static_cast<T>(~least()); }
};
template <> struct Compared<bool> {
    using Type = bool;
    __device__ static bool least() { return false; }
    __device__ static bool most() { return true; }
};
template <> struct Compared<float> {
    using Type = float;
    __device__ static float least() { return static_cast<float>(-INF); }
    __device__ static float most() { return static_cast<float>(INF); }
};
template <> struct Compared<double> {
    using Type = double;
    __device__ static double least() { return -INF; }
    __device__ static double most() { return INF; }
};
template <> struct Compared<__half> : Compared<float> {};
template <> struct Compared<__nv_bfloat16> : Compared<float> {};

__device__ inline float compared(__half v) { return __half2float(v); }
__device__ inline float compared(__nv_bfloat16 v) { return __bfloat162float(v); }
template <class T> __device__ inline T compared(T v) { return v; }

// Of a and b, or a where b is NaN; a never is.
__device__ inline float smaller(float a, float b) { return fminf(a, b); }
__device__ inline float larger(float a, float b) { return fmaxf(a, b); }
template <class T> __device__ inline T smaller(T a, T b) { return b < a ? b : a; }
template <class T> __device__ inline T larger(T a, T b) { return b > a ? b : a; }

struct Extrema { // of what is not NaN
    double count, min, max;
};

__device__ inline Extrema merged(Extrema a, Extrema b)
{
    return {a.count + b.count, smaller(a.min, b.min), larger(a.max, b.max)};
}

__device__ inline Extrema load_extrema(const double* parts, long long stride)
{
    return {__ldcg(parts), __ldcg(parts + stride), __ldcg(parts + 2 * stride)};
}

__device__ inline void store_extrema(double* parts, long long stride, const Extrema& m)
{
    parts[0] = m.count;
    parts[stride] = m.min;
    parts[2 * stride] = m.max;
}

// To count, min and max (3, C); where fewer than `required` values are numbers they are NaN.
template <int CHANNELS>
__device__ inline void finish_extrema(long long columns, Finish finish, double required,
                                      double* out)
{
    long long column = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    long long channels = columns * CHANNELS;
    bool some = column < columns;
    auto of_channel = [&](long long channel, long long first, long long number, long long to) {
        const double* parts = part_of(finish.parts, 3, channels, channel, first);
        Extrema all = {0.0, INF, -INF};
#pragma unroll 1
        for (long long i = threadIdx.y; some && i < number; i += blockDim.y)
            all = merged(all, load_extrema(parts + i * 3 * channels, channels));
        all = merged_block(all);
        if (!some || threadIdx.y != 0) return;
        if (to >= 0)
            store_extrema(part_of(finish.parts, 3, channels, channel, to), channels, all);
        else if (all.count < required)
            store_extrema(out + channel, channels, {required, INF - INF, INF - INF});
        else // -0.0 becomes 0.0
            store_extrema(out + channel, channels, {all.count, all.min + 0.0, all.max + 0.0});
    };
    finish_ranges(finish, Share(), [&](long long first, long long number, long long to) {
#pragma unroll 1
        for (int k = 0; k < CHANNELS; ++k) of_channel(column * CHANNELS + k, first, number, to);
    });
}

template <class W>
__device__ inline void observe_extrema(const View& x, long long per_range, const Finish& finish,
                                       double required, double* out)
{
    using Range = Compared<NC_T>;
    using Value = typename Range::Type;
    using Loaded = Vector<NC_T, W::VALUES>;
    using Place = typename Cursor<W, 1>::Place;
    constexpr int CHANNELS = W::CHANNELS;
    Positions first(x, per_range);
    const View* const arrays[] = {&x};
    Value min[CHANNELS], max[CHANNELS];
    int count[CHANNELS];
#pragma unroll
    for (int k = 0; k < CHANNELS; ++k) {
        min[k] = Range::most();
        max[k] = Range::least();
        count[k] = 0;
    }
    sweep(
        Cursor<W, 1>(first, arrays, View{}),
        [&](const Place& place) { return vector_at<NC_T, W>(x, place[0]); },
        [&](const Loaded (&loaded)[W::LOADS], const Place*, int number) {
#pragma unroll
            for (int i = 0; i < W::LOADS; ++i) {
                if (i >= number) break;
#pragma unroll
                for (int k = 0; k < W::VALUES; ++k) {
                    Value v = compared(loaded[i].at[k]);
                    min[k % CHANNELS] = smaller(min[k % CHANNELS], v);
                    max[k % CHANNELS] = larger(max[k % CHANNELS], v);
                    count[k % CHANNELS] += v == v;
                }
            }
        });
    Extrema mine[CHANNELS];
#pragma unroll
    for (int k = 0; k < CHANNELS; ++k) {
        bool none = count[k] == 0;
        mine[k] = {static_cast<double>(count[k]), none ? INF : to_double(min[k]),
                   none ? -INF : to_double(max[k])};
    }
    merge_block(mine);
    if (threadIdx.y == 0 && first.channel < x.c)
#pragma unroll
        for (int k = 0; k < CHANNELS; ++k) {
            long long channels = x.c * CHANNELS, channel = first.channel * CHANNELS + k;
            double* part = part_of(finish.parts, 3, channels, channel, blockIdx.y);
            store_extrema(part, channels, mine[k]);
        }
    finish_extrema<CHANNELS>(x.c, finish, required, out);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
extrema(View x, long long per_range, Finish finish, double required, double* out)
{
    observe_extrema<Strided>(x, per_range, finish, required, out);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
extrema_single(View x, long long per_range, Finish finish, double required, double* out)
{
    observe_extrema<Single>(x, per_range, finish, required, out);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
extrema_along(View x, long long per_range, Finish finish, double required, double* out)
{
    observe_extrema<Along<sizeof(NC_T)>>(x, per_range, finish, required, out);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
extrema_across(View x, long long per_range, Finish finish, double required, double* out)
{
    observe_extrema<Across<sizeof(NC_T), 4>>(x, per_range, finish, required, out);
}
