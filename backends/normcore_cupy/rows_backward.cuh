// Design: the backward pass of layer and RMS norm reads dy and x and writes dx once. With
// g = dy * gamma, dx = a * g - (b + d * (x - center)), where b and d come from the sums of g and
// of g * (x - center) over the row. A block takes a range of rows, one after another, or several
// at a time where rows are short. Threads share a row as in row_moments.cuh. It is read twice, the
// second time from the L1: registers hold the sums of columns, dgamma and dbeta, which go from
// float64 to two parts in memory after some rows. A second kernel adds up the ranges in order, so
// the bits are the same in every run.
//
// Of rows that registers do not hold, parts are summed first, and then mapped.

constexpr int PAIRS = sizeof(NC_T) < 8 ? 16 : 8; // of columns that one thread has
constexpr int PAIR_VECTOR = ROW_VECTOR < 4 ? ROW_VECTOR : 4; // for want of registers
constexpr int FEW_PAIRS = 8; // where rows are no whole vectors, and of a row in parts
constexpr int SUM_ROWS = 64; // of a column, before its sums go to two parts

struct RowSums { // of g and g * (x - center)
    double g, g_xmu;
};

__device__ inline RowSums merged(RowSums a, RowSums b) { return {a.g + b.g, a.g_xmu + b.g_xmu}; }
__device__ inline RowSums swapped(RowSums s, int distance)
{
    return {swapped(s.g, distance), swapped(s.g_xmu, distance)};
}

struct RowGradient { // what dx of one row is made from
    double center, factor, b, d;
};

template <int E> struct ColumnSums {
    double dgamma[E], dbeta[E];
};

// The sums of what this thread has of a row.
template <int W, int E>
__device__ inline RowSums row_sums(const View& dy, const View& x, const Columns& at, double center,
                                   const Given& gamma)
{
    const NC_T *upstream = at.begin<NC_T>(dy), *begin = at.begin<NC_T>(x);
    RowSums sums = {0.0, 0.0};
    at.each<W>([&](int, int column) {
        Pack<NC_T, W> above = load_pack<NC_T, W>(upstream, column, dy.ss);
        Pack<NC_T, W> values = load_pack<NC_T, W>(begin, column, x.ss);
        Pack<double, W> weights = load_along<W>(gamma, at.first + column);
#pragma unroll
        for (int k = 0; k < W; ++k) {
            double g = to_double(above.v[k]) * weights.v[k];
            sums.g += g;
            sums.g_xmu = fma(g, to_double(values.v[k]) - center, sums.g_xmu);
        }
    }, E);
    return sums;
}

__device__ inline RowGradient row_gradient(RowScale row, RowSums sums, double count, bool centered)
{
    double a = 1.0 / row.scale, per_value = a / count;
    return {row.center, a, centered ? per_value * sums.g : 0.0, per_value * sums.g_xmu * (a * a)};
}

// Write dx of a row, and add it to the sums of the columns.
template <int W, int E>
__device__ inline void differentiate(const View& dy, const View& x, const View& out,
                                     const Columns& at, RowGradient row, const Given& gamma,
                                     ColumnSums<E>& sums)
{
    const NC_T *upstream = at.begin<NC_T>(dy), *begin = at.begin<NC_T>(x);
    NC_OUT* target = at.begin<NC_OUT>(out);
    at.each<W>([&](int i, int column) {
        Pack<NC_T, W> above = load_pack<NC_T, W>(upstream, column, dy.ss);
        Pack<NC_T, W> values = load_pack<NC_T, W>(begin, column, x.ss);
        Pack<double, W> weights = load_along<W>(gamma, at.first + column);
        Pack<NC_OUT, W> dx;
#pragma unroll
        for (int k = 0; k < W; ++k) {
            double v = to_double(above.v[k]), xmu = to_double(values.v[k]) - row.center;
            sums.dbeta[i + k] += v;
            sums.dgamma[i + k] = fma(v, xmu * row.factor, sums.dgamma[i + k]);
            double rest = fma(row.d, xmu, row.b);
            dx.v[k] = Rounded<NC_OUT>::of(fma(row.factor, v * weights.v[k], -rest));
        }
        store_pack<NC_OUT, W>(target, out, column, dx);
    }, E);
}

// Return to every thread the sum of a column over the rows that the block works on at a time.
__device__ inline double merged_rows(double mine)
{
    __shared__ double lanes[2 * ROW_THREADS];
    if (blockDim.y == 1) return mine;
    int width = blockDim.x, thread = threadIdx.y * width + threadIdx.x;
    for (int distance = 16; distance >= width; distance /= 2) mine += swapped(mine, distance);
    lanes[thread] = mine;
    __syncthreads();
    double total = 0.0;
#pragma unroll 1
    for (int warp = 0; warp < width * blockDim.y / 32; ++warp)
        total += lanes[warp * 32 + threadIdx.x];
    __syncthreads(); // before lanes are written again
    return total;
}

// Move the sums of columns to memory: of dgamma to [column], of dbeta to [columns + column]. What
// sums lose goes to `lows`, which is null where they are moved once.
template <int W, int E>
__device__ inline void settle(const Columns& all, long long columns, ColumnSums<E>& sums,
                              bool first, double* highs, double* lows)
{
    int lane = not_ahead(threadIdx.x), count = not_ahead(all.count);
#pragma unroll
    for (int which = 0; which < 2; ++which) {
        double(&mine)[E] = which == 0 ? sums.dgamma : sums.dbeta;
#pragma unroll
        for (int i = 0; i < E; ++i) {
            double total = merged_rows(mine[i]);
            mine[i] = 0.0;
            int column = (i / W * blockDim.x + lane) * W + i % W;
            if (threadIdx.y != 0 || column >= count) continue;
            long long place = which * columns + (all.first + column);
            double low = 0.0;
            if (!first) {
                dd sum = two_sum(highs[place], total);
                total = sum.hi;
                low = lows[place] + sum.lo;
            }
            highs[place] = total;
            if (lows != nullptr) lows[place] = low;
        }
    }
}

// Go through the rows of a range: differentiate(columns of the row, turn, sums) each, and settle.
template <int W, int E, class Row>
__device__ inline void through_rows(long long range, int per_range, long long rows,
                                    const Columns& all, long long columns, double* highs,
                                    double* lows, const Row& differentiate_row)
{
    ColumnSums<E> sums = {};
    long long first = range * per_range;
    int end = rows - first < per_range ? static_cast<int>(rows - first) : per_range;
    int steps = (end + blockDim.y - 1) / blockDim.y;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        int mine = step * blockDim.y + threadIdx.y;
        Columns at = {range * not_ahead(per_range) + mine, all.first, mine < end ? all.count : 0};
        differentiate_row(at, step % 2, sums);
        if ((step + 1) % SUM_ROWS == 0 || step + 1 == steps)
            settle<W, E>(all, columns, sums, step < SUM_ROWS, highs, lows);
    }
}

template <int W, int E>
__device__ inline void differentiate_rows(const View& dy, const View& x, const View& out,
                                          const Given& gamma, const double* states, double eps,
                                          bool centered, int per_range, double* highs,
                                          double* lows)
{
    Columns all = {0, 0, static_cast<int>(x.s)};
    long long place = blockIdx.x * 2 * x.s;
    through_rows<W, E>(
        blockIdx.x, per_range, x.n, all, x.s, highs + place, lows == nullptr ? lows : lows + place,
        [&](const Columns& at, int turn, ColumnSums<E>& sums) {
            // Of integers, the count that is computed ahead is what spares registers.
            double count = HasNan<NC_T>::VALUE ? not_ahead(all.count) : all.count;
            RowScale scale = {0.0, 1.0};
            if (at.count > 0)
                scale = row_scale(load_row_state(states, x.n, at.row), count, eps, centered);
            RowSums mine = row_sums<W, E>(dy, x, at, scale.center, gamma);
            RowGradient row = row_gradient(scale, merged_row(mine, turn), count, centered);
            differentiate<W>(dy, x, out, at, row, gamma, sums);
        });
}

// Of whole vectors, as normalize_rows. highs and lows (ranges, 2, D), of dgamma and dbeta. out may
// be dy or x.
extern "C" __global__ void __launch_bounds__(2 * ROW_THREADS, 1)
normalize_rows_backward(View dy, View x, View out, Given gamma,
                        const double* states, double eps, int centered, int per_range,
                        double* highs, double* lows)
{
    differentiate_rows<PAIR_VECTOR, PAIRS>(dy, x, out, gamma, states, eps, centered,
                                          per_range, highs, lows);
}

// Of any length and strides.
extern "C" __global__ void __launch_bounds__(2 * ROW_THREADS, 1)
normalize_odd_rows_backward(View dy, View x, View out, Given gamma,
                            const double* states, double eps, int centered, int per_range,
                            double* highs, double* lows)
{
    differentiate_rows<1, FEW_PAIRS>(dy, x, out, gamma, states, eps, centered,
                                     per_range, highs, lows);
}

// Sum (ranges, 2, columns) over the ranges, each of the two to a vector; lows may be null.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
merge_row_sums(const double* highs, const double* lows, long long ranges, long long columns,
               Wanted first, Wanted second)
{
    long long column = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    bool some = column < 2 * columns;
    TwoSum mine = {0.0, 0.0};
    if (some) {
#pragma unroll 4
        for (long long range = threadIdx.y; range < ranges; range += blockDim.y) {
            long long place = range * 2 * columns + column;
            mine = merged(mine, {highs[place], lows == nullptr ? 0.0 : lows[place]});
        }
    }
    mine = merged_block(mine);
    if (threadIdx.y != 0 || !some) return;
    double sum = normalized({mine.hi, mine.lo}).hi;
    if (column < columns)
        first.put(column, sum);
    else
        second.put(column - columns, sum);
}

// -- rows in parts -------------------------------------------------------------------------------

template <int W>
__device__ inline void sum_part(const View& dy, const View& x, const Columns& at, double center,
                                const Given& gamma, double* sums)
{
    RowSums total = merged_row(row_sums<W, FEW_PAIRS>(dy, x, at, center, gamma), 0);
    if (threadIdx.x != 0) return;
    sums[at.row] = total.g;
    sums[x.n + at.row] = total.g_xmu;
}

// sums (parts, 2, N)
extern "C" __global__ void __launch_bounds__(ROW_THREADS, 2)
sum_row_parts(View dy, View x, Given gamma, const double* states,
              double eps, int centered, long long num_parts, int length,
              double* sums)
{
    Columns at = part_of_row(x, num_parts, length);
    double center = row_scale(load_row_state(states, x.n, at.row), x.s, eps, centered).center;
    double* part = sums + at.first / length * 2 * x.n;
    if (x.s % ROW_VECTOR == 0)
        sum_part<PAIR_VECTOR>(dy, x, at, center, gamma, part);
    else
        sum_part<1>(dy, x, at, center, gamma, part);
}

template <int W>
__device__ inline void differentiate_parts(const View& dy, const View& x, const View& out,
                                           const Given& gamma, const double* states,
                                           const double* g, const double* g_xmu, double eps,
                                           bool centered,
                                           long long num_parts, int length,
                                           int per_range, double* highs, double* lows)
{
    long long number = blockIdx.x / num_parts;
    Columns all = part_of_row(x, num_parts, length);
    long long place = number * 2 * x.s;
    through_rows<W, FEW_PAIRS>(
        number, per_range, x.n, all, x.s, highs + place, lows == nullptr ? lows : lows + place,
        [&](const Columns& at, int, ColumnSums<FEW_PAIRS>& columns) {
            RowScale scale = row_scale(load_row_state(states, x.n, at.row), x.s, eps, centered);
            RowSums total = {g[at.row], g_xmu[at.row]};
            RowGradient row = row_gradient(scale, total, x.s, centered);
            differentiate<W>(dy, x, out, at, row, gamma, columns);
        });
}

// g and g_xmu (N) are the sums of whole rows.
extern "C" __global__ void __launch_bounds__(ROW_THREADS, 2)
differentiate_row_parts(View dy, View x, View out, Given gamma,
                        const double* states, double eps, int centered, const double* g,
                        const double* g_xmu, long long num_parts, int length, int per_range,
                        double* highs, double* lows)
{
    if (x.s % ROW_VECTOR == 0)
        differentiate_parts<PAIR_VECTOR>(dy, x, out, gamma, states, g, g_xmu, eps, centered, num_parts,
                                        length, per_range, highs, lows);
    else
        differentiate_parts<1>(dy, x, out, gamma, states, g, g_xmu, eps, centered, num_parts, length,
                               per_range, highs, lows);
}
