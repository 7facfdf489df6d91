// Design: moments of ranges merge in two rounds: first the mean of them all, then their squares
// about it. States merge by adding, where Chan's law divides several times a range.

struct Totals {
    dd count, sum;
    double exponent, fixed; // the exponent is fixed once anything is not 0
};

__device__ inline Totals merged(Totals a, Totals b)
{
    if (IS_DOUBLE && a.exponent != b.exponent) {
        if (a.fixed == 0.0) a.exponent = b.exponent;
        if (b.fixed == 0.0) b.exponent = a.exponent;
        double exponent = fmax(a.exponent, b.exponent);
        a.sum = scaled(a.sum, static_cast<int>(a.exponent - exponent));
        b.sum = scaled(b.sum, static_cast<int>(b.exponent - exponent));
        a.exponent = exponent;
    }
    return {a.count + b.count, a.sum + b.sum, a.exponent, fmax(a.fixed, b.fixed)};
}

__device__ inline dd merged(dd a, dd b) { return a + b; }

// sum * sum / count, where sum is that of deviations.
__device__ inline dd square_over_count(dd sum, dd count)
{
    dd square = sum * sum;
    double quotient = square.hi / count.hi;
    double rest = fma(-quotient, count.hi, square.hi) + (square.lo - quotient * count.lo);
    return fast_two_sum(quotient, rest / count.hi);
}

__device__ inline dd squares_about(dd mean, double exponent, Moments m)
{
    if (m.count.hi == 0.0) return {0.0, 0.0};
    if (IS_DOUBLE && m.exponent != exponent) set_exponent(m, exponent);
    dd off = m.sum - m.count * mean;
    // Of constants these are equal; less than this is what rounding left of weighted sums.
    if (m.m2.hi == 0.0 && fabs(off.hi) < 1e-20 * fabs(m.sum.hi)) off = {0.0, 0.0};
    return m.m2 + square_over_count(off, m.count);
}

template <int CHANNELS>
__device__ inline bool finish_moments(long long columns, const Share& share, Finish finish,
                                      double* state, const Derived& derived)
{
    __shared__ Totals totals[32];
    long long column = static_cast<long long>(share.tile) * blockDim.x + threadIdx.x;
    long long channels = columns * CHANNELS;
    bool some = column < columns;
    auto of_channel = [&](long long channel, long long first, long long number, long long to) {
        const double* parts = part_of(finish.parts, 7, channels, channel, first);
        Totals all = {};
#pragma unroll 1
        for (long long i = threadIdx.y; some && i < number; i += blockDim.y) {
            Moments m = load_moments(parts + i * 7 * channels, channels);
            bool fixed = m.sum.hi != 0.0 || m.m2.hi != 0.0;
            all = merged(all, Totals{m.count, m.sum, m.exponent, fixed ? 1.0 : 0.0});
        }
        all = merged_block(all);
        if (threadIdx.y == 0) totals[threadIdx.x] = all;
        __syncthreads();
        all = totals[threadIdx.x];
        dd m2 = {0.0, 0.0}, mean = mean_of(all.sum, all.count);
#pragma unroll 1
        for (long long i = threadIdx.y; some && i < number; i += blockDim.y)
            m2 = m2 + squares_about(mean, all.exponent,
                                    load_moments(parts + i * 7 * channels, channels));
        m2 = merged_block(m2);
        if (some && threadIdx.y == 0) {
            Moments m = {all.count, all.sum, m2, all.exponent};
            if (!finite(m.sum.hi)) m.m2 = {m.sum.hi - m.sum.hi, 0.0}; // NaN
            double* target = to < 0 ? state + channel
                                    : part_of(finish.parts, 7, channels, channel, to);
            store_moments(target, channels, m);
            if (to < 0) derive(m, derived, channels, channel);
        }
        __syncthreads(); // before the next channel writes
    };
    return finish_ranges(finish, share, [&](long long first, long long number, long long to) {
#pragma unroll 1
        for (int k = 0; k < CHANNELS; ++k) of_channel(column * CHANNELS + k, first, number, to);
    });
}
