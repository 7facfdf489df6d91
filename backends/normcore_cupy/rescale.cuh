enum class After { NOTHING, LIMITS, LIMITS_AND_MASK }; // what follows the map

struct Limits { // the same for all threads
    double low, high; // infinite: none
    double positive_from; // what is not above becomes 0; NaN: nothing does

    template <int VALUES> __device__ void apply(double (&y)[VALUES]) const
    {
#pragma unroll
        for (int k = 0; k < VALUES; ++k) {
            y[k] = y[k] < low ? low : y[k]; // NaN stays
            y[k] = y[k] > high ? high : y[k];
            y[k] = y[k] <= positive_from ? 0.0 : y[k];
        }
    }
};

// A thread reads its loads before it writes them, so out may be x.
template <class W, bool ORDINARY, After AFTER>
__device__ inline void rescale_sweep(const Positions& first, const View& x, const View& out,
                                     const View& mask, const Affine (&maps)[W::CHANNELS],
                                     const Limits& limits)
{
    using Loaded = Vector<NC_T, W::VALUES>;
    using Place = typename Cursor<W, 2>::Place;
    constexpr bool MASKED = AFTER == After::LIMITS_AND_MASK;
    const View* const arrays[] = {&x, &out};
    sweep(
        Cursor<W, 2>(first, arrays, mask),
        [&](const Place& place) { return vector_at<NC_T, W>(x, place[0]); },
        [&](const Loaded* loaded, const Place* places, int number) {
            unsigned omitted[W::LOADS] = {};
            if (MASKED)
#pragma unroll
                for (int i = 0; i < W::LOADS; ++i)
                    if (i < number) omitted[i] = left_out<W>(mask, places[i].plane);
#pragma unroll
            for (int i = 0; i < W::LOADS; ++i) {
                if (i >= number) break;
                double y[W::VALUES];
                Vector<NC_OUT, W::VALUES> rounded;
#pragma unroll
                for (int k = 0; k < W::VALUES; ++k)
                    y[k] = maps[k % W::CHANNELS].template of<ORDINARY>(to_double(loaded[i].at[k]));
                if (AFTER != After::NOTHING) limits.apply(y);
#pragma unroll
                for (int k = 0; k < W::VALUES; ++k)
                    rounded.at[k] = Rounded<NC_OUT>::of(omitted[i] >> k & 1 ? 0.0 : y[k]);
                vector_at<NC_OUT, W>(out, places[i][1]) = rounded;
            }
        });
}

template <class W, bool ORDINARY>
__device__ inline void rescale_and_after(const Positions& first, const View& x, const View& out,
                                         const View& mask, const Affine (&maps)[W::CHANNELS],
                                         const Limits& limits)
{
    bool limited = limits.low > -INF || limits.high < INF || !is_nan(limits.positive_from);
    if (mask.data != nullptr)
        rescale_sweep<W, ORDINARY, After::LIMITS_AND_MASK>(first, x, out, mask, maps, limits);
    else if (limited || (!ORDINARY && !IS_DOUBLE)) // rare: code is not worth it
        rescale_sweep<W, ORDINARY, After::LIMITS>(first, x, out, mask, maps, limits);
    else
        rescale_sweep<W, ORDINARY, After::NOTHING>(first, x, out, mask, maps, limits);
}

struct RowsOfMaps { // (4, C)
    const double* rows;

    __device__ Affine of(long long channels, long long channel) const
    {
        return Affine(rows, channels, channel);
    }
};

template <class W, class Maps>
__device__ inline void rescale_all(const View& x, const View& out, const View& mask,
                                   const Maps& given, double low, double high, int relu,
                                   long long per_range, const Share& share = Share().backwards())
{
    Positions first(x, per_range, share);
    if (first.left <= 0) return;
    Affine maps[W::CHANNELS];
    bool ordinary = true;
#pragma unroll
    for (int k = 0; k < W::CHANNELS; ++k) {
        maps[k] = given.of(x.c * W::CHANNELS, first.channel * W::CHANNELS + k);
        ordinary = ordinary && maps[k].is_ordinary();
    }
    Limits limits = {low, high, relu ? 0.0 : INF - INF};
    if (ordinary)
        rescale_and_after<W, true>(first, x, out, mask, maps, limits);
    else
        rescale_and_after<Slowly<W>, false>(first, x, out, mask, maps, limits);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
rescale(View x, View out, View mask, const double* affine, double low, double high,
        int relu, long long per_range)
{
    rescale_all<Strided>(x, out, mask, RowsOfMaps{affine}, low, high, relu, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 3)
rescale_single(View x, View out, View mask, const double* affine, double low, double high,
               int relu, long long per_range)
{
    rescale_all<Single>(x, out, mask, RowsOfMaps{affine}, low, high, relu, per_range);
}

// Left to choose, the compiler spills where eight bytes become two; 0 leaves it.
constexpr int BLOCKS_RESCALE = sizeof(NC_T) == 8 && sizeof(NC_OUT) == 2 ? 3 : 0;

extern "C" __global__ void __launch_bounds__(MAX_THREADS, BLOCKS_RESCALE)
rescale_along(View x, View out, View mask, const double* affine, double low, double high,
              int relu, long long per_range)
{
    rescale_all<Along<LARGER>>(x, out, mask, RowsOfMaps{affine}, low, high, relu, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
rescale_across(View x, View out, View mask, const double* affine, double low, double high,
               int relu, long long per_range)
{
    // Of bytes, four vectors are more doubles than there are registers.
    using W = Across<LARGER, LARGER == 1 ? 2 : 4>;
    rescale_all<W>(x, out, mask, RowsOfMaps{affine}, low, high, relu, per_range);
}

// -- other dtypes --------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
convert(View x, View out, long long per_range)
{
    walk(
        Positions(x, per_range), [&](const Positions& here) { return element<NC_T>(x, here); },
        [&](NC_T loaded, const Positions& here) {
            element<NC_OUT>(out, here) = Rounded<NC_OUT>::of(to_double(loaded));
        });
}
