// The moments of a channel as kernels of several files know them, and what they give.

struct Moments { // rows of the (7, C) state, as normcore/statistics.pxd has them
    dd count, sum, m2;
    double exponent;
};

__device__ inline Moments load_moments(const double* parts, long long stride)
{
    return {{__ldcg(parts), __ldcg(parts + stride)},
            {__ldcg(parts + 2 * stride), __ldcg(parts + 3 * stride)},
            {__ldcg(parts + 4 * stride), __ldcg(parts + 5 * stride)},
            __ldcg(parts + 6 * stride)};
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

__device__ inline double var_of(const Moments& m, double ddof)
{
    double divisor = (m.count.hi + m.count.lo) - ddof;
    if (!(divisor > 0.0)) return INF - INF;
    return ldexp(m.m2.hi / divisor, 2 * static_cast<int>(m.exponent));
}

__device__ inline double mean_of(const Moments& m)
{
    if (!(m.count.hi > 0.0)) return INF - INF;
    return ldexp(mean_of(m.sum, m.count).hi, static_cast<int>(m.exponent));
}

// The root of var + eps, also where the variance leaves float64.
__device__ inline double scale_of(const Moments& m, double eps)
{
    double var = var_of(m, 0.0);
    if (var != var || finite(var)) return sqrt(var + eps);
    return ldexp(sqrt(m.m2.hi / (m.count.hi + m.count.lo)), static_cast<int>(m.exponent));
}

// Mean, variance and standard deviation, in rows (3, C); NaN where there are no values, or not
// more than ddof. The deviation has a value also where the variance leaves float64.
__device__ inline void summarize(const Moments& m, double ddof, long long channels, double* row)
{
    double divisor = (m.count.hi + m.count.lo) - ddof, unit = m.m2.hi / divisor;
    bool varied = divisor > 0.0;
    row[0] = mean_of(m);
    row[channels] = var_of(m, ddof);
    row[2 * channels] = varied ? ldexp(sqrt(unit), static_cast<int>(m.exponent)) : INF - INF;
}

// Move an average, or copy it. Not inlined: kernels that do so at
// their end shall have the registers for what comes before.
__device__ __attribute__((noinline)) void move_average(const char* from, long long kind, char* to,
                                                       long long kind_of_result, long long channel,
                                                       bool moves, double share, double value)
{
    double v = Given{const_cast<char*>(from), kind, 0.0}[channel];
    Wanted{to, kind_of_result}.put(channel, moves ? share * value + (1.0 - share) * v : v);
}

// Running averages that move towards a batch; `moved` may be where they are. A channel without a
// variance stays.
struct Running {
    Given mean, var;
    Wanted moved_mean, moved_var;
    double ddof, weight; // of the batch; a weight of NaN is the reciprocal of the number of batches
    long long* number;   // of batches so far, or null
    long long counts;    // 1 where this batch is still to be counted in it

    // Towards the mean and the variance of a batch; one that is not `varied` has none.
    __device__ void move(double share, double batch_mean, double batch_var, bool varied,
                         long long channel) const
    {
        move_average(mean.data, mean.kind, moved_mean.data, moved_mean.kind, channel, varied,
                     share, batch_mean);
        move_average(var.data, var.kind, moved_var.data, moved_var.kind, channel, varied, share,
                     batch_var);
    }

    __device__ void count() const
    {
        if (number != nullptr) *number += counts;
    }
};

// What else a launch that observes moments writes, in rows (10, C): center, scale, gamma and beta
// of the map of batch norm, then the summaries of ddof 0 and 1; and running averages, if there are
// any. Their weight is given here, as tiles of channels are done at different times.
struct Derived {
    double* rows;
    Given gamma, beta;
    double eps;
    Running running;
};

__device__ inline void derive(const Moments& m, const Derived& to, long long channels,
                              long long channel)
{
    double* row = to.rows + channel;
    row[0] = mean_of(m);
    row[channels] = scale_of(m, to.eps);
    row[2 * channels] = to.gamma[channel];
    row[3 * channels] = to.beta[channel];
    summarize(m, 0.0, channels, row + 4 * channels);
    summarize(m, 1.0, channels, row + 7 * channels);
    if (to.running.moved_mean.kind != 0)
        to.running.move(to.running.weight, row[7 * channels], row[8 * channels],
                        (m.count.hi + m.count.lo) - 1.0 > 0.0, channel);
    if (channel == 0) to.running.count();
}
