// Design: the map of rescale.cuh by coefficients that lie where the caller has them, each a vector
// of its own dtype or one number, instead of in rows that a launch before would have to fill. A
// block brings those of its channels to shared memory, one after another: which dtypes they have
// would be branches upon branches in code that is unrolled.

struct Coefficients {
    Given center, scale, gamma, beta;
    double eps;    // of a variance
    long long var; // whether that is given, and the scale is the root of it and eps
    long long group, number; // channels that share center and scale; after which gamma and beta recur

    __device__ void store(long long channel, double* rows, int stride) const
    {
        unsigned shared = static_cast<unsigned>(channel) / static_cast<unsigned>(group);
        unsigned own = static_cast<unsigned>(channel) % static_cast<unsigned>(number);
        rows[0] = center[shared];
        rows[stride] = var != 0 ? sqrt(scale[shared] + eps) : scale[shared];
        rows[2 * stride] = gamma[own];
        rows[3 * stride] = beta[own];
    }
};

template <int CHANNELS> struct MapsOfBlock { // (4, CHANNELS, 32)
    const double* rows;

    __device__ Affine of(long long, long long channel) const
    {
        return Affine(rows + channel % CHANNELS * 32 + threadIdx.x, 32 * CHANNELS, 0);
    }
};

template <class W>
__device__ inline void rescale_by(const View& x, const View& out, const View& mask,
                                  const Coefficients& given, double low, double high, int relu,
                                  long long per_range)
{
    constexpr int CHANNELS = W::CHANNELS;
    __shared__ double rows[4][CHANNELS][32];
    long long tile = gridDim.x - 1 - blockIdx.x; // backwards, as rescale_all
#pragma unroll 1
    for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < 32 * CHANNELS;
         i += blockDim.x * blockDim.y) {
        int lane = i % 32;
        long long column = tile * blockDim.x + lane;
        if (lane < blockDim.x && column < x.c)
            given.store(column * CHANNELS + i / 32, &rows[0][i / 32][lane], 32 * CHANNELS);
    }
    __syncthreads();
    rescale_all<W>(x, out, mask, MapsOfBlock<CHANNELS>{&rows[0][0][0]}, low, high, relu, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
rescale_given(View x, View out, View mask, Coefficients given, double low, double high,
              int relu, long long per_range)
{
    rescale_by<Strided>(x, out, mask, given, low, high, relu, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 3)
rescale_given_single(View x, View out, View mask, Coefficients given, double low, double high,
                     int relu, long long per_range)
{
    rescale_by<Single>(x, out, mask, given, low, high, relu, per_range);
}

// Of halves, a thread holds as many doubles as only two blocks have registers for.
constexpr int BLOCKS_ALONG = sizeof(NC_T) == 2 ? 2 : 3;

extern "C" __global__ void __launch_bounds__(MAX_THREADS, BLOCKS_ALONG)
rescale_given_along(View x, View out, View mask, Coefficients given, double low, double high,
                    int relu, long long per_range)
{
    rescale_by<Along<LARGER>>(x, out, mask, given, low, high, relu, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
rescale_given_across(View x, View out, View mask, Coefficients given, double low, double high,
                     int relu, long long per_range)
{
    using W = Across<LARGER, LARGER == 1 ? 2 : 4>; // as rescale_across
    rescale_by<W>(x, out, mask, given, low, high, relu, per_range);
}
