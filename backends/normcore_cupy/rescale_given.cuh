// Design: the map of rescale.cuh by coefficients that lie where the caller has them, each a vector
// of its own dtype or one number, instead of in rows that a launch before would have to fill.

struct Coefficients {
    Given center, scale, gamma, beta;
    double eps;              // of a variance
    long long var;           // whether that is given, and the scale is the root of it and eps
    long long group, number; // channels that share center and scale; after which gamma and beta recur

    __device__ Affine of(long long, long long channel) const
    {
        long long shared = group == 1 ? channel : channel / group;
        long long own = number == 0 ? channel : channel % number;
        Affine map;
        map.center = center[shared];
        map.scale = var != 0 ? sqrt(scale[shared] + eps) : scale[shared];
        map.reciprocal = 1.0 / map.scale;
        map.gamma = gamma[own];
        map.beta = beta[own];
        return map;
    }
};

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
rescale_given(View x, View out, View mask, Coefficients given, double low, double high,
              int relu, long long per_range)
{
    rescale_all<Strided>(x, out, mask, given, low, high, relu, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 3)
rescale_given_single(View x, View out, View mask, Coefficients given, double low, double high,
                     int relu, long long per_range)
{
    rescale_all<Single>(x, out, mask, given, low, high, relu, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
rescale_given_along(View x, View out, View mask, Coefficients given, double low, double high,
                    int relu, long long per_range)
{
    rescale_all<Along<LARGER>>(x, out, mask, given, low, high, relu, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
rescale_given_across(View x, View out, View mask, Coefficients given, double low, double high,
                     int relu, long long per_range)
{
    using W = Across<LARGER, LARGER == 1 ? 2 : 4>; // as rescale_across
    rescale_all<W>(x, out, mask, given, low, high, relu, per_range);
}
