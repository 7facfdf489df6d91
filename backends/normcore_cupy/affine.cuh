struct Affine {
    double center, scale, gamma, beta;

    // Rows of a (4, C) array; null is the identity.
    __device__ Affine(const double* vectors, const View& x, const Positions& at)
        : center(0.0), scale(1.0), gamma(1.0), beta(0.0)
    {
        if (vectors == nullptr || at.left <= 0) return;
        center = vectors[at.channel];
        scale = vectors[x.c + at.channel];
        gamma = vectors[2 * x.c + at.channel];
        beta = vectors[3 * x.c + at.channel];
    }

    __device__ double operator()(double v) const { return ((v - center) / scale) * gamma + beta; }
};

__device__ inline bool is_masked(const View& mask, const Positions& at)
{
    return mask.data != nullptr && !element<bool>(mask, at);
}

// A thread reads its batch before it writes it, so out may be x.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
rescale(View x, View out, View mask, const double* affine, double low, double high, int relu,
        long long per_range)
{
    Positions at(x, per_range);
    Affine map(affine, x, at);
    walk(
        at, [&](const Positions& here) { return element<NC_T>(x, here); },
        [&](NC_T loaded, const Positions& here) {
            double y = map(to_double(loaded));
            y = y < low ? low : y > high ? high : y; // NaN stays
            if (relu && y <= 0.0) y = 0.0;
            if (is_masked(mask, here)) y = 0.0;
            element<NC_OUT>(out, here) = Rounded<NC_OUT>::of(y);
        });
}

// -- backward ----------------------------------------------------------------------------------

struct Gradient { // sum(dy), sum(dy * (x - mean))
    dd dy, dy_xmu;
};

__device__ inline Gradient merged(Gradient a, Gradient b)
{
    return {a.dy + b.dy, a.dy_xmu + b.dy_xmu};
}

struct Pair {
    NC_T dy, x;
    bool masked;
};

// Under a ReLU, dy counts as 0 where the forward map (relu_mask) was not positive.
__device__ inline double through_relu(const Pair& loaded, const Affine& relu_mask, bool has_relu)
{
    return has_relu && relu_mask(to_double(loaded.x)) <= 0.0 ? 0.0 : to_double(loaded.dy);
}

// parts (ranges, 4, C)
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
backward_reduce(View dy, View x, View mask, const double* mean, const double* relu_mask,
                long long per_range, double* parts)
{
    Positions at(x, per_range);
    Affine map(relu_mask, x, at);
    double center = at.left > 0 ? mean[at.channel] : 0.0;
    Gradient sums = {{0.0, 0.0}, {0.0, 0.0}};
    walk(
        at,
        [&](const Positions& here) {
            return Pair{element<NC_T>(dy, here), element<NC_T>(x, here), is_masked(mask, here)};
        },
        [&](const Pair& loaded, const Positions&) {
            if (loaded.masked) return;
            double gradient = through_relu(loaded, map, relu_mask != nullptr);
            accumulate(sums.dy, gradient);
            accumulate(sums.dy_xmu, gradient * (to_double(loaded.x) - center));
        });
    sums = merged_block(Gradient{normalized(sums.dy), normalized(sums.dy_xmu)});
    if (writes(x, at)) {
        double* part = part_of(parts, 4, x, at);
        part[0] = sums.dy.hi;
        part[x.c] = sums.dy.lo;
        part[2 * x.c] = sums.dy_xmu.hi;
        part[3 * x.c] = sums.dy_xmu.lo;
    }
}

// To sum_dy and sum_dy_xmu (2, C).
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
merge_backward(const double* parts, long long ranges, long long channels, double* out)
{
    long long channel = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    Gradient mine = {{0.0, 0.0}, {0.0, 0.0}};
    if (channel < channels)
        for (long long range = threadIdx.y; range < ranges; range += blockDim.y) {
            const double* part = parts + range * 4 * channels + channel;
            mine = merged(mine, {{part[0], part[channels]},
                                 {part[2 * channels], part[3 * channels]}});
        }
    mine = merged_block(mine);
    if (threadIdx.y == 0 && channel < channels) {
        out[channel] = mine.dy.hi;
        out[channels + channel] = mine.dy_xmu.hi;
    }
}

// dx = a * dy - (b + d * (x - mean)); vectors (4, C) are mean, a, b and d. out may be dy or x.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
backward_elemt(View dy, View x, View out, View mask, const double* vectors, const double* relu_mask,
               long long per_range)
{
    Positions at(x, per_range);
    if (at.left <= 0) return;
    Affine map(relu_mask, x, at);
    const double* own = vectors + at.channel;
    double mean = own[0], a = own[x.c], b = own[2 * x.c], d = own[3 * x.c];
    walk(
        at,
        [&](const Positions& here) {
            return Pair{element<NC_T>(dy, here), element<NC_T>(x, here), is_masked(mask, here)};
        },
        [&](const Pair& loaded, const Positions& here) {
            double gradient = through_relu(loaded, map, relu_mask != nullptr);
            double dx = a * gradient - (b + d * (to_double(loaded.x) - mean));
            element<NC_OUT>(out, here) = Rounded<NC_OUT>::of(loaded.masked ? 0.0 : dx);
        });
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
