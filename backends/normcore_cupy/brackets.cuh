// Design: RANKS brackets at a time (blockIdx.z), one read each. The first kernel counts, also how
// many values each thread will keep; from their running sum the second one knows where each
// thread writes, so what is kept lies in the same order in every run, without atomics.

constexpr int RANKS = 3; // brackets in registers of one thread

struct Counts {
    double rows[4]; // below, equal_lower, inside, equal_upper; or count, infinite, nans
};

__device__ inline Counts merged(Counts a, Counts b)
{
    for (int i = 0; i < 4; ++i) a.rows[i] += b.rows[i];
    return a;
}

struct WeightedValue {
    NC_T x;
    double w;
};

struct Ends {
    double lower[RANKS], upper[RANKS];

    // ends (2, R, C); ranks beyond R get an empty bracket.
    __device__ Ends(const double* ends, long long ranks, const View& x, const Positions& at)
    {
        for (int i = 0; i < RANKS; ++i) {
            long long rank = static_cast<long long>(blockIdx.z) * RANKS + i;
            bool used = rank < ranks && at.channel < x.c;
            lower[i] = used ? ends[rank * x.c + at.channel] : INF;
            upper[i] = used ? ends[(ranks + rank) * x.c + at.channel] : INF;
        }
    }
};

// Where the count of what this thread keeps of a rank is in kept (R, C, ranges, blockDim.y).
__device__ inline long long slot(long long rank, const View& x, const Positions& at)
{
    long long list = rank * x.c + at.channel;
    return (list * gridDim.y + blockIdx.y) * blockDim.y + threadIdx.y;
}

// parts (ranges, 4 R + 3, C): four rows of each rank, then count, infinite and nans; kept may be
// null
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
brackets(View x, View w, const double* ends, long long ranks, long long per_range, double* parts,
         long long* kept)
{
    Positions at(x, per_range);
    Ends between(ends, ranks, x, at);
    Counts counts[RANKS] = {}, totals = {};
    int keeps[RANKS] = {};
    bool weighted = w.data != nullptr;
    walk(
        at,
        [&](const Positions& here) {
            return WeightedValue{element<NC_T>(x, here), weighted ? element<double>(w, here) : 1.0};
        },
        [&](const WeightedValue& loaded, const Positions&) {
            double value = to_double(loaded.x), weight = loaded.w;
            if (weight == 0.0) return;
            if (value != value) {
                totals.rows[2] += 1.0;
                return;
            }
            totals.rows[0] += weight;
            totals.rows[1] += fabs(value) == INF ? 1.0 : 0.0;
#pragma unroll
            for (int i = 0; i < RANKS; ++i) {
                double low = between.lower[i], high = between.upper[i];
                bool inside = low < value && value < high;
                counts[i].rows[0] += value < low ? weight : 0.0;
                counts[i].rows[1] += value == low ? weight : 0.0;
                counts[i].rows[2] += inside ? weight : 0.0;
                counts[i].rows[3] += low < high && value == high ? weight : 0.0;
                keeps[i] += inside;
            }
        });
    int rows = static_cast<int>(4 * ranks + 3);
    double* part = part_of(parts, rows, x, at);
#pragma unroll
    for (int i = 0; i < RANKS; ++i) {
        long long rank = static_cast<long long>(blockIdx.z) * RANKS + i;
        Counts all = merged_block(counts[i]);
        if (rank >= ranks || at.channel >= x.c) continue;
        if (kept != nullptr) kept[slot(rank, x, at)] = keeps[i];
        if (threadIdx.y == 0)
            for (int row = 0; row < 4; ++row) part[(4 * rank + row) * x.c] = all.rows[row];
    }
    totals = merged_block(totals);
    if (blockIdx.z == 0 && writes(x, at))
        for (int row = 0; row < 3; ++row) part[(4 * ranks + row) * x.c] = totals.rows[row];
}

// Write what lies inside, each thread from its offset on; offsets as `kept` of `brackets`.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
brackets_keep(View x, View w, const double* ends, long long ranks, long long per_range,
              const long long* offsets, double* values, double* weights)
{
    Positions at(x, per_range);
    Ends between(ends, ranks, x, at);
    bool weighted = w.data != nullptr;
    long long next[RANKS];
    for (int i = 0; i < RANKS; ++i) {
        long long rank = static_cast<long long>(blockIdx.z) * RANKS + i;
        next[i] = rank < ranks && at.channel < x.c ? offsets[slot(rank, x, at)] : 0;
    }
    walk(
        at,
        [&](const Positions& here) {
            return WeightedValue{element<NC_T>(x, here), weighted ? element<double>(w, here) : 1.0};
        },
        [&](const WeightedValue& loaded, const Positions&) {
            double value = to_double(loaded.x);
#pragma unroll
            for (int i = 0; i < RANKS; ++i) {
                if (loaded.w == 0.0 || !(between.lower[i] < value && value < between.upper[i]))
                    continue;
                values[next[i]] = value;
                if (weighted) weights[next[i]] = loaded.w;
                ++next[i];
            }
        });
}

struct Sum {
    double value;
};

__device__ inline Sum merged(Sum a, Sum b) { return {a.value + b.value}; }

// Sum (ranges, columns) over the ranges.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
merge_sums(const double* parts, long long ranges, long long columns, double* out)
{
    long long column = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    Sum mine = {0.0};
    if (column < columns)
        for (long long range = threadIdx.y; range < ranges; range += blockDim.y)
            mine.value += parts[range * columns + column];
    mine = merged_block(mine);
    if (threadIdx.y == 0 && column < columns) out[column] = mine.value;
}
