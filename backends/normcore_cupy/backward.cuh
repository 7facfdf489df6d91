// Design: a thread loads dy and x of the same place, and knows of its channels two to four vectors
// and, under a ReLU, the forward map: dy counts as 0 where that of x was not positive. Where such a
// map is out of the ordinary, a thread takes one load at a time.

template <class W> struct Pair {
    Vector<NC_T, W::VALUES> dy, x;
};

template <int CHANNELS> struct Gate { // the forward maps of a thread's channels
    Affine maps[CHANNELS];
    bool ordinary;

    __device__ Gate() : ordinary(true) {}

    __device__ void set(int k, const Affine& map)
    {
        maps[k] = map;
        ordinary = ordinary && map.is_ordinary();
    }
};

template <bool MASKED, class W, int ARRAYS, class Visit>
__device__ inline void sweep_some(const Positions& first, const View* const (&arrays)[ARRAYS],
                                  const View& mask, const Visit& visit)
{
    using Place = typename Cursor<W, ARRAYS>::Place;
    sweep(
        Cursor<W, ARRAYS>(first, arrays, mask),
        [&](const Place& place) {
            return Pair<W>{vector_at<NC_T, W>(*arrays[0], place[0]),
                           vector_at<NC_T, W>(*arrays[1], place[1])};
        },
        [&](const Pair<W>* pairs, const Place* places, int number) {
            unsigned omitted[W::LOADS] = {};
            if (MASKED)
#pragma unroll
                for (int i = 0; i < W::LOADS; ++i)
                    if (i < number) omitted[i] = left_out<W>(mask, places[i].plane);
            visit(pairs, places, number, omitted);
        });
}

// Call visit(pairs, places, number, omitted), omitted[i] being what the mask leaves out of pair i.
template <class W, int ARRAYS, class Visit>
__device__ inline void sweep_pairs(const Positions& first, const View* const (&arrays)[ARRAYS],
                                   const View& mask, const Visit& visit)
{
    if (mask.data != nullptr)
        sweep_some<true, W>(first, arrays, mask, visit);
    else
        sweep_some<false, W>(first, arrays, mask, visit);
}

template <bool RELU, bool ORDINARY>
__device__ inline double gradient(NC_T dy, double x, const Affine& map)
{
    return RELU && map.of<ORDINARY>(x) <= 0.0 ? 0.0 : to_double(dy);
}

// -- the sums ------------------------------------------------------------------------------------

struct Gradient { // sum(dy), sum(dy * (x - mean))
    dd dy, dy_xmu;
};

__device__ inline Gradient merged(Gradient a, Gradient b)
{
    return {a.dy + b.dy, a.dy_xmu + b.dy_xmu};
}

__device__ inline Gradient load_gradient(const double* parts, long long stride)
{
    return {{__ldcg(parts), __ldcg(parts + stride)},
            {__ldcg(parts + 2 * stride), __ldcg(parts + 3 * stride)}};
}

__device__ inline void store_gradient(double* parts, long long stride, const Gradient& g)
{
    const double rows[] = {g.dy.hi, g.dy.lo, g.dy_xmu.hi, g.dy_xmu.lo};
    for (int i = 0; i < 4; ++i) parts[i * stride] = rows[i];
}

// The values of some loads are summed in plain float64 first.
template <class W, bool RELU, bool ORDINARY>
__device__ inline void sum_gradients(const Positions& first, const View& dy, const View& x,
                                     const View& mask, const double (&means)[W::CHANNELS],
                                     const Gate<W::CHANNELS>& gate, Gradient (&sums)[W::CHANNELS])
{
    constexpr int CHANNELS = W::CHANNELS;
    using Place = typename Cursor<W, 2>::Place;
    const View* const arrays[] = {&dy, &x};
    sweep_pairs<W>(
        first, arrays, mask,
        [&](const Pair<W>* pairs, const Place*, int number, const unsigned* omitted) {
            double of_dy[CHANNELS] = {}, of_dy_xmu[CHANNELS] = {};
#pragma unroll
            for (int i = 0; i < W::LOADS; ++i) {
                if (i >= number) break;
#pragma unroll
                for (int k = 0; k < W::VALUES; ++k) {
                    const Affine& map = gate.maps[k % CHANNELS];
                    double v = to_double(pairs[i].x.at[k]);
                    double g = gradient<RELU, ORDINARY>(pairs[i].dy.at[k], v, map);
                    double d = v - means[k % CHANNELS];
                    if (omitted[i] >> k & 1) g = d = 0.0;
                    of_dy[k % CHANNELS] += g;
                    of_dy_xmu[k % CHANNELS] = fma(g, d, of_dy_xmu[k % CHANNELS]);
                }
            }
#pragma unroll
            for (int k = 0; k < CHANNELS; ++k) {
                accumulate(sums[k].dy, of_dy[k]);
                accumulate(sums[k].dy_xmu, of_dy_xmu[k]);
            }
        });
}

// The forward maps (4, C) of backward passes, or what they are made from: the moments of the batch.
struct Forward {
    const double* mean; // (C), given with `maps`, or both derived from `state`
    const double* maps; // (4, C), or null without a ReLU
    const double* state;
    Given gamma, beta;
    double eps;
    int relu, training; // with `state`: whether the batch's statistics flow through, too
    Wanted dgamma, dbeta; // with `state`
};

// What a batch's gradients are mapped by, in rows (11, C): mean, a, b and d of backward_elemt,
// dgamma, the forward map (4), and the sums, which are all there is where `state` is not given.
__device__ inline void derive(const Gradient& sums, const Forward& forward, long long channels,
                              long long channel, double* row)
{
    double sum_dy = sums.dy.hi, sum_dy_xmu = sums.dy_xmu.hi;
    if (forward.state != nullptr) {
        Moments m = load_moments(forward.state + channel, channels);
        double count = forward.training ? m.count.hi + m.count.lo : INF;
        double mean = mean_of(m), scale = scale_of(m, forward.eps);
        double gamma = forward.gamma[channel], a = gamma / scale;
        row[0] = row[5 * channels] = mean;
        row[channels] = a;
        row[2 * channels] = a * (sum_dy / count);
        row[3 * channels] = a * (sum_dy_xmu / count) / (scale * scale);
        row[4 * channels] = sum_dy_xmu / scale;
        row[6 * channels] = scale;
        row[7 * channels] = gamma;
        row[8 * channels] = forward.beta[channel];
        forward.dgamma.put(channel, row[4 * channels]);
        forward.dbeta.put(channel, sum_dy);
        row += 9 * channels;
    }
    row[0] = sum_dy;
    row[channels] = sum_dy_xmu;
}

template <int CHANNELS>
__device__ inline bool finish_gradients(long long columns, const Share& share, Finish finish,
                                        const Forward& forward, double* out)
{
    long long column = static_cast<long long>(share.tile) * blockDim.x + threadIdx.x;
    long long channels = columns * CHANNELS;
    bool some = column < columns;
    auto of_channel = [&](long long channel, long long first, long long number, long long to) {
        const double* parts = part_of(finish.parts, 4, channels, channel, first);
        Gradient all = {};
#pragma unroll 1
        for (long long i = threadIdx.y; some && i < number; i += blockDim.y)
            all = merged(all, load_gradient(parts + i * 4 * channels, channels));
        all = merged_block(all);
        if (!some || threadIdx.y != 0) return;
        if (to >= 0)
            store_gradient(part_of(finish.parts, 4, channels, channel, to), channels, all);
        else
            derive(all, forward, channels, channel, out + channel);
    };
    return finish_ranges(finish, share, [&](long long first, long long number, long long to) {
#pragma unroll 1
        for (int k = 0; k < CHANNELS; ++k) of_channel(column * CHANNELS + k, first, number, to);
    });
}

// Return whether this block has finished its tile.
template <class W>
__device__ inline bool reduce_backward(const View& dy, const View& x, const View& mask,
                                       const Forward& forward, long long per_range,
                                       const Finish& finish, double* out,
                                       const Share& share = Share())
{
    constexpr int CHANNELS = W::CHANNELS;
    __shared__ double derived[4][CHANNELS][32];
    long long channels = x.c * CHANNELS;
    Positions first(x, per_range, share);
    Gate<CHANNELS> gate;
    double means[CHANNELS];
    bool relu = forward.state != nullptr ? forward.relu != 0 : forward.maps != nullptr;
    if (forward.state != nullptr) {
        int threads = blockDim.x * blockDim.y;
        for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < 32 * CHANNELS; i += threads) {
            int k = i / 32, lane = i % 32;
            long long column = static_cast<long long>(share.tile) * blockDim.x + lane;
            if (lane >= blockDim.x || column >= x.c) continue;
            long long channel = column * CHANNELS + k;
            Moments m = load_moments(forward.state + channel, channels);
            derived[0][k][lane] = mean_of(m);
            derived[1][k][lane] = scale_of(m, forward.eps);
            derived[2][k][lane] = forward.gamma[channel];
            derived[3][k][lane] = forward.beta[channel];
        }
        __syncthreads();
    }
    Gradient sums[CHANNELS];
#pragma unroll
    for (int k = 0; k < CHANNELS; ++k) {
        long long channel = first.channel * CHANNELS + k;
        bool some = first.left > 0;
        means[k] = 0.0;
        if (some && forward.state != nullptr) {
            means[k] = derived[0][k][threadIdx.x];
            if (relu) gate.set(k, Affine(&derived[0][k][threadIdx.x], 32 * CHANNELS, 0));
        } else if (some) {
            means[k] = forward.mean[channel];
            if (relu) gate.set(k, Affine(forward.maps, channels, channel));
        }
        sums[k] = {};
    }
    if (!relu)
        sum_gradients<W, false, false>(first, dy, x, mask, means, gate, sums);
    else if (gate.ordinary)
        sum_gradients<W, true, true>(first, dy, x, mask, means, gate, sums);
    else
        sum_gradients<Slowly<W>, true, false>(first, dy, x, mask, means, gate, sums);
#pragma unroll
    for (int k = 0; k < CHANNELS; ++k)
        sums[k] = {normalized(sums[k].dy), normalized(sums[k].dy_xmu)};
    merge_block(sums);
    if (threadIdx.y == 0 && first.channel < x.c)
#pragma unroll
        for (int k = 0; k < CHANNELS; ++k) {
            long long channel = first.channel * CHANNELS + k;
            store_gradient(part_of(finish.parts, 4, channels, channel, share.range), channels,
                           sums[k]);
        }
    return finish_gradients<CHANNELS>(x.c, share, finish, forward, out);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
backward_reduce(View dy, View x, View mask, Forward forward, long long per_range,
                Finish finish, double* out)
{
    reduce_backward<Strided>(dy, x, mask, forward, per_range, finish, out);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
backward_reduce_single(View dy, View x, View mask, Forward forward, long long per_range,
                       Finish finish, double* out)
{
    reduce_backward<Single>(dy, x, mask, forward, per_range, finish, out);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
backward_reduce_along(View dy, View x, View mask, Forward forward, long long per_range,
                      Finish finish, double* out)
{
    reduce_backward<Along<sizeof(NC_T)>>(dy, x, mask, forward, per_range, finish, out);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
backward_reduce_across(View dy, View x, View mask, Forward forward, long long per_range,
                       Finish finish, double* out)
{
    reduce_backward<Across<sizeof(NC_T), 2>>(dy, x, mask, forward, per_range, finish, out);
}

// -- the elements --------------------------------------------------------------------------------

struct Slope { // dx = a * dy - (b + d * (x - mean)), every operation rounded once
    double mean, a, b, d;
};

template <class W, bool RELU, bool ORDINARY>
__device__ inline void sweep_gradients(const Positions& first, const View& dy, const View& x,
                                       const View& out, const View& mask,
                                       const Slope (&slopes)[W::CHANNELS],
                                       const Gate<W::CHANNELS>& gate)
{
    constexpr int CHANNELS = W::CHANNELS;
    using Place = typename Cursor<W, 3>::Place;
    const View* const arrays[] = {&dy, &x, &out};
    sweep_pairs<W>(
        first, arrays, mask,
        [&](const Pair<W>* pairs, const Place* places, int number, const unsigned* omitted) {
#pragma unroll
            for (int i = 0; i < W::LOADS; ++i) {
                if (i >= number) break;
                Vector<NC_OUT, W::VALUES> rounded;
#pragma unroll
                for (int k = 0; k < W::VALUES; ++k) {
                    const Slope& s = slopes[k % CHANNELS];
                    const Affine& map = gate.maps[k % CHANNELS];
                    double v = to_double(pairs[i].x.at[k]);
                    double g = gradient<RELU, ORDINARY>(pairs[i].dy.at[k], v, map);
                    double dx = s.a * g - (s.b + s.d * (v - s.mean));
                    rounded.at[k] = Rounded<NC_OUT>::of(omitted[i] >> k & 1 ? 0.0 : dx);
                }
                vector_at<NC_OUT, W>(out, places[i][2]) = rounded;
            }
        });
}

// vectors (4, C) are mean, a, b and d; out may be dy or x.
template <class W>
__device__ inline void map_backward(const View& dy, const View& x, const View& out,
                                    const View& mask, const double* vectors,
                                    const double* relu_mask, long long per_range,
                                    const Share& share = Share().backwards())
{
    Positions first(x, per_range, share);
    if (first.left <= 0) return;
    Gate<W::CHANNELS> gate;
    Slope slopes[W::CHANNELS];
#pragma unroll
    for (int k = 0; k < W::CHANNELS; ++k) {
        long long channels = x.c * W::CHANNELS, channel = first.channel * W::CHANNELS + k;
        if (relu_mask != nullptr) gate.set(k, Affine(relu_mask, channels, channel));
        const double* own = vectors + channel;
        slopes[k] = {own[0], own[channels], own[2 * channels], own[3 * channels]};
    }
    if (relu_mask == nullptr)
        sweep_gradients<W, false, false>(first, dy, x, out, mask, slopes, gate);
    else if (gate.ordinary)
        sweep_gradients<W, true, true>(first, dy, x, out, mask, slopes, gate);
    else
        sweep_gradients<Slowly<W>, true, false>(first, dy, x, out, mask, slopes, gate);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
backward_elemt(View dy, View x, View out, View mask, const double* vectors, const double* relu_mask,
               long long per_range)
{
    map_backward<Strided>(dy, x, out, mask, vectors, relu_mask, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
backward_elemt_single(View dy, View x, View out, View mask, const double* vectors,
                      const double* relu_mask, long long per_range)
{
    map_backward<Single>(dy, x, out, mask, vectors, relu_mask, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
backward_elemt_along(View dy, View x, View out, View mask, const double* vectors,
                     const double* relu_mask, long long per_range)
{
    map_backward<Along<LARGER>>(dy, x, out, mask, vectors, relu_mask, per_range);
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
backward_elemt_across(View dy, View x, View out, View mask, const double* vectors,
                      const double* relu_mask, long long per_range)
{
    map_backward<Across<LARGER, 2>>(dy, x, out, mask, vectors, relu_mask, per_range);
}
