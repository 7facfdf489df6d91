// Design: what is made of moments that are known: one state of several by Chan's law, summaries,
// and running averages that move towards a batch.

// -- merging states ------------------------------------------------------------------------------

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

// -- what moments give ---------------------------------------------------------------------------

// Mean, variance and standard deviation (3, C) of a state (7, C).
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
summarize_moments(const double* state, double ddof, long long channels, double* out)
{
    long long channel = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    summarize(load_moments(state + channel, channels), ddof, channels, out + channel);
}

// The batch is counted once all blocks have read the number, by the last one to be done.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
update_running(const double* state, Running running, int* counter, long long channels)
{
    long long channel = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (channel < channels) running.move(load_moments(state + channel, channels), channel);
    if (running.counts != 0 && is_last(counter, gridDim.x) && threadIdx.x == 0) running.count();
}
