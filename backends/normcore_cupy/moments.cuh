// Design: one pass, shifted by a pivot that all threads of a channel share: the mean of the first
// few values of each. The sum and the sum of squared deviations are double-double, so that the
// only errors are those of d = x - pivot and d * d, and threads merge by adding. Where the pivot
// was so far from the mean that these errors count, or squares left float64 (then everything is
// scaled by a power of two), the block reads its range again, about the mean.

struct Pivot { // plain: any value near the data will do, as long as all threads use it
    double count, sum;
};

__device__ inline Pivot merged(Pivot a, Pivot b) { return {a.count + b.count, a.sum + b.sum}; }

// Of the values, and of their squared deviations from the pivot.
template <class Count> struct Sums {
    Count count;
    dd sum, squares;
    double largest;
};

template <class Count> __device__ inline Sums<Count> merged(Sums<Count> a, Sums<Count> b)
{
    return {a.count + b.count, a.sum + b.sum, a.squares + b.squares, fmax(a.largest, b.largest)};
}

__device__ inline dd wide(double count) { return {count, 0.0}; }
__device__ inline dd wide(dd count) { return normalized(count); }

// Float64 alone has values whose squares leave it: these are scaled by `factor` first.
struct Shift {
    double pivot, factor;

    __device__ double operator()(NC_T v) const
    {
        return IS_DOUBLE ? to_double(v) * factor : to_double(v);
    }
};

// The values of a channel in some loads, in plain sums where those are good for 1/2**50.
template <class W> struct Unweighted {
    using Count = double;
    using Place = typename Cursor<W, 1>::Place;
    using Loaded = Vector<NC_T, W::VALUES>;
    const View& x;

    __device__ Loaded operator()(const Place& place) const
    {
        return vector_at<NC_T, W>(x, place[0]);
    }

    __device__ static NC_T value(const Loaded& loaded, int k) { return loaded.at[k]; }
    __device__ static double weight(const Loaded&) { return 1.0; }

    // Channel `lane` of CHANNELS. NaN is left out by selecting, as tables that have some have them
    // in most loads of a warp.
    template <bool SKIPNA>
    __device__ static void add(Sums<double>& sums, const Loaded (&loaded)[W::LOADS], int number,
                               int lane, const Shift& shift)
    {
        constexpr bool EXACT = HasExactSums<NC_T>::VALUE, SELECTS = SKIPNA && HasNan<NC_T>::VALUE;
        double exact = 0.0, squares[2] = {0.0, 0.0};
        int count = number * (W::VALUES / W::CHANNELS);
#pragma unroll
        for (int i = 0; i < W::LOADS; ++i) {
            if (i >= number) break;
#pragma unroll
            for (int k = lane; k < W::VALUES; k += W::CHANNELS) {
                double v = shift(loaded[i].at[k]), d = v - shift.pivot;
                if (SELECTS) {
                    bool omitted = is_nan(loaded[i].at[k]);
                    v = omitted ? 0.0 : v;
                    d = omitted ? 0.0 : d;
                    count -= omitted;
                }
                if (EXACT)
                    exact += v;
                else
                    accumulate(sums.sum, v);
                squares[(i + k) % 2] = fma(d, d, squares[(i + k) % 2]);
                if (IS_DOUBLE) sums.largest = fmax(sums.largest, fabs(to_double(loaded[i].at[k])));
            }
        }
        if (EXACT) accumulate(sums.sum, exact);
        accumulate(sums.squares, squares[0] + squares[1]);
        sums.count += count;
    }
};

struct Weighted {
    using Count = dd;
    using Place = typename Cursor<Strided, 1>::Place;
    struct Loaded {
        NC_T x;
        double w;
    };
    const View& x;
    const View& w;

    __device__ Loaded operator()(const Place& place) const
    {
        return {reinterpret_cast<NC_T*>(x.data)[place[0]],
                reinterpret_cast<double*>(w.data)[place.plane]};
    }

    __device__ static NC_T value(const Loaded& loaded, int) { return loaded.x; }
    __device__ static double weight(const Loaded& loaded) { return loaded.w; }

    template <bool SKIPNA>
    __device__ static void add(Sums<dd>& sums, const Loaded (&loaded)[Strided::LOADS], int number,
                               int, const Shift& shift)
    {
#pragma unroll
        for (int i = 0; i < Strided::LOADS; ++i) {
            if (i >= number) break;
            double v = shift(loaded[i].x), w = loaded[i].w, d = v - shift.pivot;
            if (w == 0.0 || (SKIPNA && v != v)) continue;
            dd product = two_product(w, v), square = two_product(d, d);
            accumulate(sums.count, w);
            accumulate(sums.sum, product.hi);
            sums.sum.lo += product.lo;
            product = two_product(w, square.hi);
            accumulate(sums.squares, product.hi);
            sums.squares.lo += product.lo + w * square.lo;
            if (IS_DOUBLE) sums.largest = fmax(sums.largest, fabs(to_double(loaded[i].x)));
        }
    }
};

// The power of two by which values are scaled so that their squares stay in float64.
__device__ inline int exponent_for(double largest)
{
    if (largest == 0.0 || !finite(largest)) return 0;
    int exponent = ilogb(largest) + 1;
    if (exponent >= -400 && exponent <= 400) return 0;
    return exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent;
}

// The moments that sums about a pivot make; or, and then true, another pivot or exponent.
template <class Count>
__device__ inline bool moments_of(const Sums<Count>& sums, double& pivot, int& exponent, Moments& m)
{
    dd count = wide(sums.count), mean = mean_of(sums.sum, count);
    dd rest = mean - dd{pivot, 0.0}, excess = count * (rest * rest);
    m = {count, sums.sum, sums.squares - excess, static_cast<double>(exponent)};
    if (m.m2.hi < 0.0) m.m2 = {0.0, 0.0};
    int needed = IS_DOUBLE ? exponent_for(sums.largest) : 0;
    if (needed != exponent) {
        pivot = 0.0; // the mean may have overflowed
        exponent = needed;
        return true;
    }
    if (2.0 * excess.hi > m.m2.hi && pivot != mean.hi) {
        pivot = mean.hi;
        return true;
    }
    if (!finite(m.sum.hi)) m.m2 = {m.sum.hi - m.sum.hi, 0.0}; // NaN
    if (m.count.hi == 0.0) m = {{0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}, 0.0};
    return false;
}

template <bool SKIPNA, class W, class Source>
__device__ inline void sum_values(const Cursor<W, 1>& at, const Source& source,
                                  const Shift (&shifts)[W::CHANNELS],
                                  Sums<typename Source::Count> (&sums)[W::CHANNELS])
{
    using Loaded = typename Source::Loaded;
    using Place = typename Source::Place;
    sweep(at, source, [&](const Loaded (&loaded)[W::LOADS], const Place*, int number) {
#pragma unroll
        for (int k = 0; k < W::CHANNELS; ++k)
            Source::template add<SKIPNA>(sums[k], loaded, number, k, shifts[k]);
    });
}

// Return whether this block has finished its tile.
template <class W, class Source>
__device__ inline bool observe_moments(const View& x, const View& plane, const Source& source,
                                       bool skipna, long long per_range, const Finish& finish,
                                       double* state, const Derived& derived,
                                       const Share& share = Share())
{
    using Loaded = typename Source::Loaded;
    using Place = typename Source::Place;
    using Total = Sums<typename Source::Count>;
    constexpr int CHANNELS = W::CHANNELS;
    __shared__ Total totals[CHANNELS][32];
    __shared__ double pivots[CHANNELS][32];
    __shared__ int exponents[CHANNELS][32];
    __shared__ int pending;
    int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    long long channels = x.c * CHANNELS;
    Positions first(x, per_range, share);
    const View* const arrays[] = {&x};
    Cursor<W, 1> at(first, arrays, plane), few = at;

    if (few.left > W::LOADS) few.left = W::LOADS;
    Pivot seen[CHANNELS];
#pragma unroll
    for (int k = 0; k < CHANNELS; ++k) seen[k] = {0.0, 0.0};
    sweep(few, source, [&](const Loaded (&loaded)[W::LOADS], const Place*, int number) {
#pragma unroll
        for (int i = 0; i < W::LOADS; ++i) {
            if (i >= number) break;
#pragma unroll
            for (int k = 0; k < W::VALUES; ++k) {
                double v = to_double(Source::value(loaded[i], k));
                if (!finite(v) || Source::weight(loaded[i]) == 0.0) continue;
                seen[k % CHANNELS].count += 1.0;
                seen[k % CHANNELS].sum += v;
            }
        }
    });
    merge_block(seen);
    if (threadIdx.y == 0)
#pragma unroll
        for (int k = 0; k < CHANNELS; ++k) {
            bool some = seen[k].count > 0.0 && finite(seen[k].sum);
            pivots[k][threadIdx.x] = some ? seen[k].sum / seen[k].count : 0.0;
            exponents[k][threadIdx.x] = 0;
        }

    for (int attempt = 0; attempt < 3; ++attempt) {
        Total sums[CHANNELS];
        Shift shifts[CHANNELS];
        __syncthreads();
        if (thread == 0) pending = 0;
#pragma unroll
        for (int k = 0; k < CHANNELS; ++k) {
            sums[k] = {};
            shifts[k].pivot = pivots[k][threadIdx.x];
            shifts[k].factor = IS_DOUBLE ? ldexp(1.0, -exponents[k][threadIdx.x]) : 1.0;
        }
        if (skipna)
            sum_values<true>(at, source, shifts, sums);
        else
            sum_values<false>(at, source, shifts, sums);
#pragma unroll
        for (int k = 0; k < CHANNELS; ++k) {
            sums[k].sum = normalized(sums[k].sum);
            sums[k].squares = normalized(sums[k].squares);
        }
        merge_block(sums);
        if (threadIdx.y == 0)
#pragma unroll
            for (int k = 0; k < CHANNELS; ++k) totals[k][threadIdx.x] = sums[k];
        __syncthreads();
        // A warp for each channel of a thread, and a thread for each of the block.
        for (int i = thread; i < CHANNELS * 32; i += threads) {
            int k = i / 32, lane = i % 32;
            long long column = static_cast<long long>(share.tile) * blockDim.x + lane;
            if (lane >= blockDim.x || column >= x.c) continue;
            long long channel = column * CHANNELS + k;
            Moments m;
            if (moments_of(totals[k][lane], pivots[k][lane], exponents[k][lane], m) && attempt < 2)
                pending = 1;
            else
                store_moments(part_of(finish.parts, 7, channels, channel, share.range), channels, m);
        }
        __syncthreads();
        if (!pending) break;
    }
    return finish_moments<CHANNELS>(x.c, share, finish, state, derived);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
moments(View x, int skipna, long long per_range, Finish finish, double* state,
        Derived derived)
{
    using W = Strided;
    observe_moments<W>(x, View{}, Unweighted<W>{x}, skipna, per_range, finish, state, derived);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
moments_single(View x, int skipna, long long per_range, Finish finish, double* state,
               Derived derived)
{
    using W = Single;
    observe_moments<W>(x, View{}, Unweighted<W>{x}, skipna, per_range, finish, state, derived);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
moments_along(View x, int skipna, long long per_range, Finish finish, double* state,
              Derived derived)
{
    using W = Along<sizeof(NC_T)>;
    observe_moments<W>(x, View{}, Unweighted<W>{x}, skipna, per_range, finish, state, derived);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
moments_across(View x, int skipna, long long per_range, Finish finish, double* state,
               Derived derived)
{
    using W = Across<sizeof(NC_T), 2>;
    observe_moments<W>(x, View{}, Unweighted<W>{x}, skipna, per_range, finish, state, derived);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
moments_weighted(View x, View w, int skipna, long long per_range, Finish finish, double* state,
                 Derived derived)
{
    observe_moments<Strided>(x, w, Weighted{x, w}, skipna, per_range, finish, state, derived);
}
