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

// Running averages that move towards a batch; `moved` may be where they are. A channel without a
// variance stays.
struct Running {
    Given mean, var;
    Wanted moved_mean, moved_var;
    double ddof, weight; // of the batch; a weight of NaN is the reciprocal of the number of batches
    long long* number;   // of batches so far, or null
    long long counts;    // 1 where this batch is still to be counted in it

    __device__ void move(const Moments& batch, long long channel) const
    {
        double share = weight != weight ? 1.0 / static_cast<double>(*number + counts) : weight;
        double m = mean[channel], v = var[channel];
        if ((batch.count.hi + batch.count.lo) - ddof > 0.0) {
            m = share * mean_of(batch) + (1.0 - share) * m;
            v = share * var_of(batch, ddof) + (1.0 - share) * v;
        }
        moved_mean.put(channel, m);
        moved_var.put(channel, v);
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
    if (to.running.moved_mean.kind != 0) to.running.move(m, channel);
    if (channel == 0) to.running.count();
}
