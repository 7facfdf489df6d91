// Design: layer and RMS norm, a row read once and written once: its moments are found in registers
// (row_moments.cuh), and from there it is mapped by ((x - center) * (1 / scale)) * gamma + beta,
// each operation rounded once in float64 and the result once more to its dtype. Rows that
// registers do not hold are cut into parts, each found as a row; their states are merged in a
// second kernel, and a third one maps.

// -- the map -------------------------------------------------------------------------------------

struct RowScale {
    double center, scale;
};

// The mean and sqrt(var + eps), or 0 and the root of the mean square and eps.
__device__ inline RowScale row_scale(const RowState& s, double count, double eps, bool centered)
{
    double reciprocal = 1.0 / count, scaled = s.m2.hi / count, var = scaled;
    double center = row_mean(s.sum, count, reciprocal).hi;
    int exponent = static_cast<int>(s.exponent);
    if (IS_DOUBLE && exponent != 0) {
        center = ldexp(center, exponent);
        var = ldexp(scaled, 2 * exponent);
    }
    if (!centered) return {0.0, sqrt(var + center * center + eps)};
    if (IS_DOUBLE && !finite(var)) return {center, ldexp(sqrt(scaled), exponent)};
    return {center, sqrt(var + eps)};
}

template <int W, int E>
__device__ inline void map_row(const View& out, const Columns& at, const NC_T (&x)[E],
                               RowScale row, const Given& gamma, const Given& beta)
{
    NC_OUT* begin = at.begin<NC_OUT>(out);
    double factor = 1.0 / row.scale;
    at.each<W>([&](int i, int column) {
        Pack<double, W> scale = load_along<W>(gamma, at.first + column);
        Pack<double, W> shift = load_along<W>(beta, at.first + column);
        Pack<NC_OUT, W> y;
#pragma unroll
        for (int k = 0; k < W; ++k) {
            double v = (to_double(x[i + k]) - row.center) * factor * scale.v[k] + shift.v[k];
            y.v[k] = Rounded<NC_OUT>::of(v);
        }
        store_pack<NC_OUT, W>(begin, out, column, y);
    }, E);
}

__device__ inline void store_row(double* states, long long rows, long long row, double count,
                                 const RowState& s)
{
    const double values[] = {count, 0.0, s.sum.hi, s.sum.lo, s.m2.hi, s.m2.lo, s.exponent};
    for (int i = 0; i < 7; ++i) states[i * rows + row] = values[i];
}

__device__ inline RowState load_row_state(const double* states, long long rows, long long row)
{
    const double* s = states + row;
    return {{s[2 * rows], s[3 * rows]}, {s[4 * rows], s[5 * rows]}, s[6 * rows]};
}

template <int W, int E>
__device__ inline void normalize_row(const View& x, const View& out, const Given& gamma,
                                     const Given& beta, double eps, bool centered,
                                     double* states)
{
    long long row = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
    Columns at = {row, 0, row < x.n ? static_cast<int>(x.s) : 0};
    NC_T held[E];
    load_row<W>(x, at, held);
    RowState state = row_state<W>(at, held);
    if (at.count == 0) return;
    if (threadIdx.x == 0) store_row(states, x.n, row, at.count, state);
    map_row<W>(out, at, held, row_scale(state, at.count, eps, centered), gamma, beta);
}

// Of whole vectors, aligned, in x, out, gamma and beta. states (7, N). A thread reads what it
// writes before, so out may be x.
extern "C" __global__ void __launch_bounds__(ROW_THREADS, ROW_BLOCKS)
normalize_rows(View x, View out, Given gamma, Given beta, double eps, int centered, double* states)
{
    normalize_row<ROW_VECTOR, HELD>(x, out, gamma, beta, eps, centered, states);
}

// Of any length and strides.
extern "C" __global__ void __launch_bounds__(ROW_THREADS, 2)
normalize_odd_rows(View x, View out, Given gamma, Given beta, double eps, int centered, double* states)
{
    normalize_row<1, FEW_HELD>(x, out, gamma, beta, eps, centered, states);
}

// -- rows in parts -------------------------------------------------------------------------------

// Which part of which row a block has; parts are of `length` columns, but for the last of a row.
__device__ inline Columns part_of_row(const View& x, long long num_parts, int length)
{
    long long row = blockIdx.x / num_parts, part = blockIdx.x - row * num_parts;
    long long first = part * length, left = x.s - first;
    return {row, first, left < length ? static_cast<int>(left) : length};
}

template <int W> __device__ inline void observe_part(const View& x, const Columns& at, double* part)
{
    NC_T held[FEW_HELD];
    load_row<W>(x, at, held);
    RowState s = row_state<W>(at, held);
    if (threadIdx.x != 0) return;
    const double values[] = {s.sum.hi, s.sum.lo, s.m2.hi, s.m2.lo, s.exponent};
    for (int i = 0; i < 5; ++i) part[i] = values[i];
}

// parts (N, parts, 5)
extern "C" __global__ void __launch_bounds__(ROW_THREADS, 2)
observe_row_parts(View x, long long num_parts, int length, double* parts)
{
    Columns at = part_of_row(x, num_parts, length);
    double* part = parts + 5LL * blockIdx.x;
    if (x.s % ROW_VECTOR == 0)
        observe_part<ROW_VECTOR>(x, at, part);
    else
        observe_part<1>(x, at, part);
}

struct RowPart {
    dd sum, m2;
    double count;

    __device__ RowPart(const double* part, double count, double exponent)
        : sum{part[0], part[1]}, m2{part[2], part[3]}, count(count)
    {
        int shift = static_cast<int>(part[4] - exponent);
        if (!IS_DOUBLE || shift == 0) return;
        sum = {ldexp(sum.hi, shift), ldexp(sum.lo, shift)};
        m2 = {ldexp(m2.hi, 2 * shift), ldexp(m2.lo, 2 * shift)};
    }
};

// Merge the parts of rows to states (7, N): the mean of all, then the squares of parts about it.
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
merge_row_parts(const double* parts, long long num_parts, int length, long long columns,
                long long rows, double* states)
{
    long long row = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
    const double* mine = parts + row * num_parts * 5;
    long long end = row < rows ? num_parts : 0;
    Largest exponent = {-INF};
    if (IS_DOUBLE)
        for (long long p = threadIdx.x; p < end; p += blockDim.x)
            if (mine[5 * p] != 0.0 || mine[5 * p + 2] != 0.0) // zeros fit every exponent
                exponent.value = fmax(exponent.value, mine[5 * p + 4]);
    exponent = merged_row(exponent, 0);
    if (exponent.value == -INF) exponent.value = 0.0;
    auto part = [&](long long p) {
        long long left = columns - p * length;
        double count = static_cast<double>(left < length ? left : length);
        return RowPart(mine + 5 * p, count, exponent.value);
    };
    TwoSum sum = {0.0, 0.0}, squares = {0.0, 0.0};
    for (long long p = threadIdx.x; p < end; p += blockDim.x) {
        dd more = part(p).sum;
        sum = merged(sum, {more.hi, more.lo});
    }
    sum = merged_row(sum, 0);
    dd total = normalized({sum.hi, sum.lo}), mean = row_mean(total, columns, 1.0 / columns);
    for (long long p = threadIdx.x; p < end; p += blockDim.x) {
        RowPart more = part(p);
        dd delta = row_mean(more.sum, more.count, 1.0 / more.count) - mean;
        // Constant parts are equal or an ulp apart.
        if (more.m2.hi == 0.0 && fabs(delta.hi) < 1e-20 * fabs(mean.hi)) delta = {0.0, 0.0};
        dd square = delta * delta * dd{more.count, 0.0};
        squares = merged(squares, {more.m2.hi, more.m2.lo});
        squares = merged(squares, {square.hi, square.lo});
    }
    squares = merged_row(squares, 1);
    if (row >= rows || threadIdx.x != 0) return;
    RowState state = {total, normalized({squares.hi, squares.lo}), exponent.value};
    if (!finite(total.hi)) state = {total, {INF - INF, 0.0}, 0.0};
    store_row(states, rows, row, columns, state);
}

template <int W>
__device__ inline void map_part(const View& x, const View& out, const Columns& at, RowScale scale,
                                const Given& gamma, const Given& beta)
{
    NC_T held[FEW_HELD];
    load_row<W>(x, at, held);
    map_row<W>(out, at, held, scale, gamma, beta);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS, 2)
map_row_parts(View x, View out, Given gamma, Given beta, double eps, int centered, const double* states,
              long long num_parts, int length)
{
    Columns at = part_of_row(x, num_parts, length);
    RowScale row = row_scale(load_row_state(states, x.n, at.row), x.s, eps, centered);
    if (x.s % ROW_VECTOR == 0)
        map_part<ROW_VECTOR>(x, out, at, row, gamma, beta);
    else
        map_part<1>(x, out, at, row, gamma, beta);
}
