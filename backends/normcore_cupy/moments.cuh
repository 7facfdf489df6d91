// Design: one pass, shifted by a pivot that all threads of a channel share: the mean of the first
// few values of each. The sum and the sum of squared deviations are double-double, so that the
// only errors are those of d = x - pivot and d * d, and threads merge by adding. Where the pivot
// was so far from the mean that these errors count, or squares left float64 (then everything is
// scaled by a power of two), the block reads its range again, about the mean.

constexpr int SAMPLES = 16; // values of each thread that make the pivot

struct Moments { // rows of the (7, C) state, as normcore/statistics.pxd has them
    dd count, sum, m2;
    double exponent;
};

__device__ inline Moments load_moments(const double* parts, long long stride)
{
    return {{parts[0], parts[stride]},
            {parts[2 * stride], parts[3 * stride]},
            {parts[4 * stride], parts[5 * stride]},
            parts[6 * stride]};
}

__device__ inline void store_moments(double* parts, long long stride, const Moments& m)
{
    const double rows[] = {m.count.hi, m.count.lo, m.sum.hi, m.sum.lo,
                           m.m2.hi,    m.m2.lo,    m.exponent};
    for (int i = 0; i < 7; ++i) parts[i * stride] = rows[i];
}

__device__ inline dd mean_of(dd sum, dd count)
{
    return finite(sum.hi) ? sum / count : dd{sum.hi, 0.0};
}

__device__ inline dd scaled(dd v, int exponent)
{
    return {ldexp(v.hi, exponent), ldexp(v.lo, exponent)};
}

__device__ inline void set_exponent(Moments& m, double exponent)
{
    int shift = static_cast<int>(m.exponent - exponent);
    m.sum = scaled(m.sum, shift);
    m.m2 = scaled(m.m2, 2 * shift);
    m.exponent = exponent;
}

// Chan, Golub and LeVeque's law (1979), as normcore/statistics.pxd has it.
__device__ inline Moments merged(Moments a, Moments b)
{
    if (b.count.hi == 0.0) return a;
    if (a.count.hi == 0.0) return b;
    if (a.exponent != b.exponent) {
        bool a_is_zero = a.sum.hi == 0.0 && a.m2.hi == 0.0; // fits every exponent
        bool b_is_zero = b.sum.hi == 0.0 && b.m2.hi == 0.0;
        bool take_b = a_is_zero || (!b_is_zero && a.exponent < b.exponent);
        double exponent = take_b ? b.exponent : a.exponent;
        set_exponent(a, exponent);
        set_exponent(b, exponent);
    }
    Moments m = {a.count + b.count, a.sum + b.sum, {0.0, 0.0}, a.exponent};
    if (!finite(m.sum.hi)) {
        m.m2.hi = m.sum.hi - m.sum.hi; // NaN
        return m;
    }
    dd mean = a.sum / a.count, delta = b.sum / b.count - mean;
    // Two constants are equal or an ulp apart; less is what rounding left of weighted sums.
    if (a.m2.hi == 0.0 && b.m2.hi == 0.0 && fabs(delta.hi) < 1e-20 * fabs(mean.hi))
        delta = {0.0, 0.0};
    m.m2 = (a.m2 + b.m2) + delta * delta * (a.count * (b.count / m.count));
    return m;
}

struct Pivot { // plain: any value near the data will do, as long as all threads use it
    double count, sum;
};

__device__ inline Pivot merged(Pivot a, Pivot b) { return {a.count + b.count, a.sum + b.sum}; }

struct Sums { // of the values, and of their squared deviations from the pivot
    dd count, sum, squares;
    double largest;
};

__device__ inline Sums merged(Sums a, Sums b)
{
    return {a.count + b.count, a.sum + b.sum, a.squares + b.squares, fmax(a.largest, b.largest)};
}

struct Unweighted {
    const View& x;
    struct Loaded {
        NC_T x;
    };
    __device__ Loaded operator()(const Positions& at) const { return {element<NC_T>(x, at)}; }
    __device__ static double weight(const Loaded&) { return 1.0; }
    __device__ static void add(Sums& sums, double x, double d, double)
    {
        sums.count.hi += 1.0;
        accumulate(sums.sum, x);
        accumulate(sums.squares, d * d);
    }
};

struct Weighted {
    const View& x;
    const View& w;
    struct Loaded {
        NC_T x;
        double w;
    };
    __device__ Loaded operator()(const Positions& at) const
    {
        return {element<NC_T>(x, at), element<double>(w, at)};
    }
    __device__ static double weight(const Loaded& loaded) { return loaded.w; }
    __device__ static void add(Sums& sums, double x, double d, double w)
    {
        dd product = two_product(w, x), square = two_product(d, d);
        accumulate(sums.count, w);
        accumulate(sums.sum, product.hi);
        sums.sum.lo += product.lo;
        product = two_product(w, square.hi);
        accumulate(sums.squares, product.hi);
        sums.squares.lo += product.lo + w * square.lo;
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

template <class Source>
__device__ void observe_moments(const View& x, const Source& source, bool skipna,
                                long long per_range, double* parts)
{
    constexpr bool WIDE = sizeof(NC_T) == 8; // float64 alone has values whose squares leave it
    using Loaded = typename Source::Loaded;
    Positions at(x, per_range), few = at;
    if (few.left > SAMPLES) few.left = SAMPLES;
    Pivot seen = {0.0, 0.0};
    walk(few, source, [&](const Loaded& loaded, const Positions&) {
        double value = to_double(loaded.x);
        if (finite(value) && Source::weight(loaded) != 0.0) seen = merged(seen, {1.0, value});
    });
    seen = merged_block(seen);
    double pivot = seen.count > 0.0 && finite(seen.sum) ? seen.sum / seen.count : 0.0;

    int exponent = 0;
    Moments result;
    for (int attempt = 0; attempt < 3; ++attempt) {
        double factor = ldexp(1.0, -exponent);
        Sums sums = {{0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}, 0.0};
        walk(at, source, [&](const Loaded& loaded, const Positions&) {
            double value = to_double(loaded.x), weight = Source::weight(loaded);
            if (weight == 0.0 || (skipna && value != value)) return;
            if (WIDE) {
                sums.largest = fmax(sums.largest, fabs(value));
                value *= factor;
            }
            Source::add(sums, value, value - pivot, weight);
        });
        sums.count = normalized(sums.count);
        sums.sum = normalized(sums.sum);
        sums.squares = normalized(sums.squares);
        sums = merged_block(sums);

        dd mean = mean_of(sums.sum, sums.count), rest = mean - dd{pivot, 0.0};
        dd excess = sums.count * (rest * rest);
        result = {sums.count, sums.sum, sums.squares - excess, static_cast<double>(exponent)};
        if (result.m2.hi < 0.0) result.m2 = {0.0, 0.0};
        bool again = false;
        int needed = WIDE ? exponent_for(sums.largest) : 0;
        if (needed != exponent) {
            again = true;
            pivot = 0.0; // the mean may have overflowed
            exponent = needed;
        } else if (8.0 * excess.hi > result.m2.hi && pivot != mean.hi) {
            again = true;
            pivot = mean.hi;
        }
        if (!__any_sync(ALL_LANES, again)) break; // every warp holds all channels of the block
    }
    if (!finite(result.sum.hi)) result.m2 = {result.sum.hi - result.sum.hi, 0.0}; // NaN
    if (result.count.hi == 0.0) result = {{0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}, 0.0};
    if (writes(x, at)) store_moments(part_of(parts, 7, x, at), x.c, result);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
moments(View x, int skipna, long long per_range, double* parts)
{
    observe_moments(x, Unweighted{x}, skipna, per_range, parts);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
moments_weighted(View x, View w, int skipna, long long per_range, double* parts)
{
    observe_moments(x, Weighted{x, w}, skipna, per_range, parts);
}

// Merge (ranges, 7, C) states, in order, after the state `first` (7, C) where there is one.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
merge_moments(const double* first, const double* parts, long long ranges, long long channels,
              double* out)
{
    long long channel = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    Moments mine = {{0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}, 0.0};
    if (channel < channels) {
        if (first != nullptr && threadIdx.y == 0) mine = load_moments(first + channel, channels);
        for (long long range = threadIdx.y; range < ranges; range += blockDim.y)
            mine = merged(mine, load_moments(parts + range * 7 * channels + channel, channels));
    }
    mine = merged_block(mine);
    if (threadIdx.y == 0 && channel < channels) store_moments(out + channel, channels, mine);
}

// -- between the passes of batch norm ------------------------------------------------------------

// The map of a batch by its own moments (7, C): center, scale, gamma and beta (4, C).
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
batch_affine(const double* state, const double* gamma_beta, double eps, long long channels,
             double* affine)
{
    long long channel = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    Moments m = load_moments(state + channel, channels);
    int exponent = static_cast<int>(m.exponent);
    bool valid = m.count.hi > 0.0;
    double unit = m.m2.hi / (m.count.hi + m.count.lo), var = ldexp(unit, 2 * exponent);
    double scale = finite(var) ? sqrt(var + eps) : ldexp(sqrt(unit), exponent);
    affine[channel] = valid ? ldexp(mean_of(m.sum, m.count).hi, exponent) : INF - INF;
    affine[channels + channel] = valid ? scale : INF - INF;
    affine[2 * channels + channel] = gamma_beta[channel];
    affine[3 * channels + channel] = gamma_beta[channels + channel];
}

// The vectors of backward_elemt, and dgamma: mean, a, b, d, dgamma (5, C).
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
gradient_vectors(const double* state, const double* affine, const double* sums, int training,
                 long long channels, double* out)
{
    long long channel = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    double count = training ? state[channel] + state[channels + channel] : INF;
    double scale = affine[channels + channel], a = affine[2 * channels + channel] / scale;
    double sum_dy = sums[channel], sum_dy_xmu = sums[channels + channel];
    out[channel] = affine[channel];
    out[channels + channel] = a;
    out[2 * channels + channel] = a * (sum_dy / count);
    out[3 * channels + channel] = a * (sum_dy_xmu / count) / (scale * scale);
    out[4 * channels + channel] = sum_dy_xmu / scale;
}
