struct Extrema { // of what is not NaN: comparisons with NaN are false
    double count, min, max;
};

__device__ inline Extrema merged(Extrema a, Extrema b)
{
    return {a.count + b.count, b.min < a.min ? b.min : a.min, b.max > a.max ? b.max : a.max};
}

// parts (ranges, 3, C)
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
extrema(View x, long long per_range, double* parts)
{
    Positions at(x, per_range);
    Extrema mine = {0.0, INF, -INF};
    walk(
        at, [&](const Positions& here) { return element<NC_T>(x, here); },
        [&](NC_T loaded, const Positions&) {
            double value = to_double(loaded);
            mine = merged(mine, {value == value ? 1.0 : 0.0, value, value});
        });
    mine = merged_block(mine);
    if (writes(x, at)) {
        double* part = part_of(parts, 3, x, at);
        part[0] = mine.count;
        part[x.c] = mine.min;
        part[2 * x.c] = mine.max;
    }
}

// To count, min and max (3, C); where fewer than `required` values are numbers they are NaN.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
merge_extrema(const double* parts, long long ranges, long long channels, double required,
              double* out)
{
    long long channel = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    Extrema mine = {0.0, INF, -INF};
    if (channel < channels)
        for (long long range = threadIdx.y; range < ranges; range += blockDim.y) {
            const double* part = parts + range * 3 * channels + channel;
            mine = merged(mine, {part[0], part[channels], part[2 * channels]});
        }
    mine = merged_block(mine);
    if (threadIdx.y == 0 && channel < channels) {
        bool broken = mine.count < required;
        out[channel] = broken ? required : mine.count;
        out[channels + channel] = broken ? INF - INF : mine.min + 0.0; // -0.0 becomes 0.0
        out[2 * channels + channel] = broken ? INF - INF : mine.max + 0.0;
    }
}
