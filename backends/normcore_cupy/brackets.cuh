// Design: RANKS brackets at a time (blockIdx.z), one read each. The first kernel counts, also how
// many values each thread will keep; from their running sum the second one knows where each
// thread writes, so what is kept lies in the same order in every run, without atomics. Values
// compare in float where that holds them, and are kept as they are. Ends that it cannot hold are
// replaced by the nearest that it can, up or down, such that every comparison has the result that
// it has in float64. Where nothing weighs, counts are integers.

constexpr int RANKS = 3; // brackets in registers of one thread

template <bool FIRST, class A, class B> struct Either {
    using Type = A;
};
template <class A, class B> struct Either<false, A, B> {
    using Type = B;
};

template <class T> struct IsFloat {
    static constexpr bool VALUE = sizeof(T) <= 2; // and integers that it holds
};
template <> struct IsFloat<float> {
    static constexpr bool VALUE = true;
};
using Sifted = Either<IsFloat<NC_T>::VALUE, float, double>::Type;

__device__ inline Sifted sifted(NC_T v) { return static_cast<Sifted>(to_double(v)); } // exact

__device__ inline void enclose(double v, float& from, float& to)
{
    from = __double2float_rd(v);
    to = __double2float_ru(v);
}
__device__ inline void enclose(double v, double& from, double& to) { from = to = v; }

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

template <bool WEIGHTED> struct LoadValue {
    const View& x;
    const View& w;

    __device__ WeightedValue operator()(const Positions& at) const
    {
        return {element<NC_T>(x, at), WEIGHTED ? element<double>(w, at) : 1.0};
    }
};

// Two ends, each between the values below and above it, or equal to both.
struct Bracket {
    Sifted lower_from, lower_to, upper_from, upper_to;

    // ends (2, R, C); ranks beyond R get an empty bracket.
    __device__ void read(const double* ends, int i, long long ranks, const View& x,
                         const Positions& at)
    {
        long long rank = static_cast<long long>(blockIdx.z) * RANKS + i;
        bool used = rank < ranks && at.channel < x.c;
        double lower = used ? ends[rank * x.c + at.channel] : INF;
        double upper = used ? ends[(ranks + rank) * x.c + at.channel] : INF;
        enclose(lower, lower_from, lower_to);
        enclose(lower < upper ? upper : INF - INF, upper_from, upper_to); // no value is there
    }

    __device__ bool is_above(Sifted v) const { return v < lower_to; }
    __device__ bool starts_at(Sifted v) const { return v >= lower_to && v <= lower_from; }
    __device__ bool holds(Sifted v) const { return v > lower_from && v < upper_to; }
    __device__ bool ends_at(Sifted v) const { return v >= upper_to && v <= upper_from; }
};

// Where the count of what this thread keeps of a rank is in kept (R, C, ranges, blockDim.y).
__device__ inline long long slot(long long rank, const View& x, const Positions& at)
{
    long long list = rank * x.c + at.channel;
    return (list * gridDim.y + blockIdx.y) * blockDim.y + threadIdx.y;
}

// What one thread sees.
template <bool WEIGHTED>
__device__ inline void count_values(const Positions& at, const View& x, const View& w,
                                    const Bracket (&brackets)[RANKS], Counts (&counts)[RANKS],
                                    int (&keeps)[RANKS], Counts& totals)
{
    using Number = typename Either<WEIGHTED, double, int>::Type;
    Number sums[RANKS][4] = {}, count = 0;
    int infinite = 0, nans = 0;
    walk(at, LoadValue<WEIGHTED>{x, w}, [&](const WeightedValue& loaded, const Positions&) {
        Sifted value = sifted(loaded.x);
        Number weight = WEIGHTED ? static_cast<Number>(loaded.w) : 1;
        if (WEIGHTED && weight == 0) return;
        if (value != value) {
            ++nans;
            return;
        }
        count += weight;
        infinite += fabs(value) == static_cast<Sifted>(INF);
#pragma unroll
        for (int i = 0; i < RANKS; ++i) {
            bool inside = brackets[i].holds(value);
            sums[i][0] += brackets[i].is_above(value) ? weight : 0;
            sums[i][1] += brackets[i].starts_at(value) ? weight : 0;
            sums[i][2] += inside ? weight : 0;
            sums[i][3] += brackets[i].ends_at(value) ? weight : 0;
            if (WEIGHTED) keeps[i] += inside;
        }
    });
#pragma unroll
    for (int i = 0; i < RANKS; ++i) {
        for (int row = 0; row < 4; ++row) counts[i].rows[row] = sums[i][row];
        if (!WEIGHTED) keeps[i] = static_cast<int>(sums[i][2]);
    }
    totals = {{static_cast<double>(count), static_cast<double>(infinite),
               static_cast<double>(nans), 0.0}};
}

// parts (ranges, 4 R + 3, C): four rows of each rank, then count, infinite and nans; kept may be
// null
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
brackets(View x, View w, const double* ends, long long ranks, long long per_range, double* parts,
         long long* kept)
{
    Positions at(x, per_range);
    Bracket between[RANKS];
    for (int i = 0; i < RANKS; ++i) between[i].read(ends, i, ranks, x, at);
    Counts counts[RANKS] = {}, totals = {};
    int keeps[RANKS] = {};
    if (w.data != nullptr)
        count_values<true>(at, x, w, between, counts, keeps, totals);
    else
        count_values<false>(at, x, w, between, counts, keeps, totals);
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

template <bool WEIGHTED>
__device__ inline void keep_values(const Positions& at, const View& x, const View& w,
                                   const Bracket (&brackets)[RANKS], long long (&next)[RANKS],
                                   NC_T* values, double* weights)
{
    walk(at, LoadValue<WEIGHTED>{x, w}, [&](const WeightedValue& loaded, const Positions&) {
        Sifted value = sifted(loaded.x);
#pragma unroll
        for (int i = 0; i < RANKS; ++i) {
            if (!brackets[i].holds(value) || (WEIGHTED && loaded.w == 0.0)) continue;
            values[next[i]] = loaded.x;
            if (WEIGHTED) weights[next[i]] = loaded.w;
            ++next[i];
        }
    });
}

// Write what lies inside, each thread from its offset on; offsets as `kept` of `brackets`.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
brackets_keep(View x, View w, const double* ends, long long ranks, long long per_range,
              const long long* offsets, NC_T* values, double* weights)
{
    Positions at(x, per_range);
    Bracket between[RANKS];
    long long next[RANKS];
    for (int i = 0; i < RANKS; ++i) {
        long long rank = static_cast<long long>(blockIdx.z) * RANKS + i;
        between[i].read(ends, i, ranks, x, at);
        next[i] = rank < ranks && at.channel < x.c ? offsets[slot(rank, x, at)] : 0;
    }
    if (w.data != nullptr)
        keep_values<true>(at, x, w, between, next, values, weights);
    else
        keep_values<false>(at, x, w, between, next, values, weights);
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
