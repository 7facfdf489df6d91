// Design: the moments of rows that registers hold. A row has blockDim.x threads, a power of two:
// some lanes of a warp, or a whole block. Each keeps up to HELD values as they are, in vectors of
// 16 bytes that neighbouring threads have side by side. How a row is cut depends on its length
// alone, so its bits do not depend on the other rows, nor on strides.
//
//   a) The sum. Values of float32 and narrower add up in float64 without any rounding as long as
//      the sum of their magnitudes is below 2**53 units in the last place of the least one; the
//      sum of squares, which is needed anyway, bounds it (Cauchy and Schwarz). Any other row is
//      summed in two parts.
//   b) The squares about the mean: tiles of 16 in chains of four, then in two parts. What rounding
//      the mean left over is taken off in closed form.
//   c) Where squares of float64 leave 2**-800 .. 2**800, again with values scaled by a power of
//      two.

constexpr int HELD = sizeof(NC_T) < 8 ? 32 : 16; // values of one thread
constexpr int FEW_HELD = 16;          // where rows are no whole vectors, and of a row in parts
constexpr int ROW_THREADS = 256;      // of one row; twice as many in the backward pass
constexpr int SQUARE_TILE = 16;
constexpr int ROW_VECTOR = sizeof(NC_T) > 2 ? 16 / sizeof(NC_T) : 8;

template <class T, int W> struct alignas(sizeof(T) * W < 16 ? sizeof(T) * W : 16) Pack {
    T v[W];
};

// -- which columns a thread has ------------------------------------------------------------------

// The same number, but not one that the compiler can compute with ahead of a loop, where what it
// makes from it would fill registers.
__device__ inline int not_ahead(int number)
{
    asm volatile("" : "+r"(number));
    return number;
}

// Some columns of a row, from `first` on: vectors of W values, side by side by thread.
struct Columns {
    long long row, first;
    int count;

    // Call visit(i, column) for the first of each W columns of this thread, i in steps of W.
    template <int W, class Visit>
    __device__ inline void each(const Visit& visit, int stop, int start = 0) const
    {
#pragma unroll
        for (int i = start; i < stop; i += W) {
            int column = (i / W * blockDim.x + not_ahead(threadIdx.x)) * W;
            if (column < count) visit(i, column);
        }
    }

    template <class T> __device__ inline T* begin(const View& v) const
    {
        return reinterpret_cast<T*>(v.data) + (row * v.sn + first * v.ss);
    }
};

template <class T, int W>
__device__ inline Pack<T, W> load_pack(const T* begin, int column, long long stride = 1)
{
    if (W > 1) return *reinterpret_cast<const Pack<T, W>*>(begin + column);
    return {{begin[column * stride]}};
}

template <class T, int W>
__device__ inline void store_pack(T* begin, const View& v, int column, const Pack<T, W>& pack)
{
    if (W > 1)
        *reinterpret_cast<Pack<T, W>*>(begin + column) = pack;
    else
        begin[column * v.ss] = pack.v[0];
}

template <class T, int W>
__device__ inline Pack<double, W> load_widened(const char* data, long long column)
{
    Pack<T, W> loaded = load_pack<T, W>(reinterpret_cast<const T*>(data) + column, 0);
    Pack<double, W> pack;
#pragma unroll
    for (int k = 0; k < W; ++k) pack.v[k] = to_double(loaded.v[k]);
    return pack;
}

// Gamma or beta of some columns; a vector is aligned as the rows are.
template <int W>
__device__ inline Pack<double, W> load_along(const Given& along, long long column)
{
    if (along.kind == 1) return load_widened<double, W>(along.data, column);
    if (along.kind == 2) return load_widened<float, W>(along.data, column);
    if (along.kind == 3) return load_widened<__half, W>(along.data, column);
    if (along.kind == 4) return load_widened<__nv_bfloat16, W>(along.data, column);
    Pack<double, W> pack;
#pragma unroll
    for (int k = 0; k < W; ++k) pack.v[k] = along.value;
    return pack;
}

// -- merging the threads of a row ----------------------------------------------------------------

struct TwoSum { // a sum in two parts, which are normalized at the end
    double hi, lo;
};

__device__ inline TwoSum merged(TwoSum a, TwoSum b)
{
    dd s = two_sum(a.hi, b.hi);
    return {s.hi, (a.lo + b.lo) + s.lo};
}

struct PlainSum { // and twice the bits, less 1, of the least magnitude that is not 0
    double value;
    unsigned least;
};

__device__ inline PlainSum merged(PlainSum a, PlainSum b)
{
    return {a.value + b.value, a.least < b.least ? a.least : b.least};
}

struct Largest {
    double value;
};

__device__ inline Largest merged(Largest a, Largest b) { return {fmax(a.value, b.value)}; }

__device__ inline double swapped(double v, int distance)
{
    return __shfl_xor_sync(ALL_LANES, v, distance);
}
__device__ inline TwoSum swapped(TwoSum s, int distance)
{
    return {swapped(s.hi, distance), swapped(s.lo, distance)};
}
__device__ inline PlainSum swapped(PlainSum s, int distance)
{
    return {swapped(s.value, distance), __shfl_xor_sync(ALL_LANES, s.least, distance)};
}
__device__ inline Largest swapped(Largest s, int distance) { return {swapped(s.value, distance)}; }

template <class S> __device__ inline S merged_lanes(S mine, int lanes)
{
    for (int distance = lanes / 2; distance > 0; distance /= 2)
        mine = merged(mine, swapped(mine, distance));
    return mine;
}

// Return to every thread of a row the merged states of all. Two calls in a row with one type of
// state need two turns, 0 and 1, since threads may read the first while others write the second.
template <class S> __device__ S merged_row(S mine, int turn)
{
    __shared__ S warps[2][2 * ROW_THREADS / 32];
    int threads = blockDim.x;
    mine = merged_lanes(mine, threads < 32 ? threads : 32);
    if (threads <= 32) return mine;
    if (threadIdx.x % 32 == 0) warps[turn][threadIdx.x / 32] = mine;
    __syncthreads();
    return merged_lanes(warps[turn][threadIdx.x % (threads / 32)], threads / 32);
}

// -- the moments of a row ------------------------------------------------------------------------

struct RowState { // rows sum to exponent of the (7, N) state; of the values times 2**-exponent
    dd sum, m2;
    double exponent;
};

// What is known of the unit in the last place of values that add up exactly; see a).
template <class T> struct Unit {
    static constexpr bool KNOWN = false;
    __device__ static unsigned bits(T) { return 0; }
    __device__ static double of(unsigned) { return 0.0; }
};
__device__ inline double power_of_two(int exponent) // a normal number
{
    return __longlong_as_double(static_cast<long long>(exponent + 1023) << 52);
}
__device__ inline int exponent_of(unsigned least) // of the unit of a float
{
    int biased = static_cast<int>(least >> 24);
    return (biased > 1 ? biased : 1) - 150;
}
template <> struct Unit<float> {
    static constexpr bool KNOWN = true;
    __device__ static unsigned bits(float v) { return __float_as_uint(v) * 2 - 1; }
    __device__ static double of(unsigned least) { return power_of_two(exponent_of(least)); }
};
template <> struct Unit<__nv_bfloat16> {
    static constexpr bool KNOWN = true;
    __device__ static unsigned bits(__nv_bfloat16 v)
    {
        return __float_as_uint(__bfloat162float(v)) * 2 - 1;
    }
    __device__ static double of(unsigned least) { return power_of_two(exponent_of(least) + 16); }
};
template <> struct Unit<__half> { // all are multiples of the least one
    static constexpr bool KNOWN = true;
    __device__ static unsigned bits(__half) { return 0; }
    __device__ static double of(unsigned) { return power_of_two(-24); }
};

// At a time, so that loads overlap; of bfloat16, three would not have the registers.
constexpr bool IS_BFLOAT16 = sizeof(NC_T) == 2 && !HasExactSums<NC_T>::VALUE;
constexpr int ROW_BLOCKS = Unit<NC_T>::KNOWN && !IS_BFLOAT16 ? 3 : 2;

// Read a row into registers.
template <int W, int E> __device__ inline void load_row(const View& x, const Columns& at,
                                                 NC_T (&held)[E])
{
    const NC_T* begin = at.begin<NC_T>(x);
    at.each<W>([&](int i, int column) {
        Pack<NC_T, W> pack = load_pack<NC_T, W>(begin, column, x.ss);
#pragma unroll
        for (int k = 0; k < W; ++k) held[i + k] = pack.v[k];
    }, E);
}

template <int W, int E> __device__ inline PlainSum plain_sum(const Columns& at, const NC_T (&x)[E])
{
    double sums[4] = {};
    unsigned least = ~0u;
    at.each<W>([&](int i, int) {
#pragma unroll
        for (int k = i; k < i + W; ++k) {
            unsigned bits = Unit<NC_T>::bits(x[k]);
            least = bits < least ? bits : least;
            sums[k % 4] += to_double(x[k]);
        }
    }, E);
    return merged_row(PlainSum{(sums[0] + sums[1]) + (sums[2] + sums[3]), least}, 0);
}

template <int W, int E> __device__ inline TwoSum careful_sum(const Columns& at, const NC_T (&x)[E],
                                                      double factor)
{
    TwoSum sums[2] = {};
    at.each<W>([&](int i, int) {
#pragma unroll
        for (int k = i; k < i + W; ++k)
            sums[k % 2] = merged(sums[k % 2], {to_double(x[k]) * factor, 0.0});
    }, E);
    return merged_row(merged(sums[0], sums[1]), 0);
}

template <int W, int E> __device__ inline TwoSum sum_squares(const Columns& at, const NC_T (&x)[E],
                                                      double center, double factor)
{
    TwoSum total = {0.0, 0.0};
#pragma unroll
    for (int tile = 0; tile < E; tile += SQUARE_TILE) {
        double sums[4] = {};
        at.each<W>(
            [&](int i, int) {
#pragma unroll
                for (int k = i; k < i + W; ++k) {
                    double v = to_double(x[k]) * factor - center;
                    sums[k / 4 % 4] = fma(v, v, sums[k / 4 % 4]);
                }
            },
            tile + SQUARE_TILE, tile);
        total = merged(total, {(sums[0] + sums[1]) + (sums[2] + sums[3]), 0.0});
    }
    return merged_row(total, 1);
}

// The mean in two parts; of what is not finite, whatever the sum is.
__device__ inline dd row_mean(dd sum, double count, double reciprocal)
{
    double first = sum.hi * reciprocal;
    if (!finite(sum.hi)) return {first, 0.0};
    double second = (fma(-first, count, sum.hi) + sum.lo) * reciprocal;
    return fast_two_sum(first, second);
}

__device__ inline RowState state_of(dd sum, dd mean, TwoSum square, double count)
{
    double left = count * (mean.lo * mean.lo);
    RowState state = {sum, fast_two_sum(square.hi, square.lo - left), 0.0};
    if (!(state.m2.hi >= 0.0)) state.m2 = {0.0, 0.0};
    if (!finite(sum.hi)) state.m2 = {INF - INF, 0.0};
    return state;
}

template <int W, int E>
__device__ inline RowState careful_state(const Columns& at, const NC_T (&x)[E],
                                         double reciprocal, double factor)
{
    TwoSum total = careful_sum<W>(at, x, factor);
    dd sum = normalized({total.hi, total.lo}), mean = row_mean(sum, at.count, reciprocal);
    return state_of(sum, mean, sum_squares<W>(at, x, mean.hi, factor), at.count);
}

// Whether squares have stayed in float64.
__device__ inline bool is_in_range(const RowState& s, double reciprocal)
{
    const double large_sum = power_of_two(400);
    bool some = power_of_two(-800) < s.m2.hi && s.m2.hi < power_of_two(800);
    bool none = s.m2.hi == 0.0 && fabs(s.sum.hi * reciprocal) > 1.0 / large_sum;
    return fabs(s.sum.hi) < large_sum && (some || none);
}

// The power of two by which values are scaled so that their squares stay in float64.
__device__ inline int scaling_exponent(double largest)
{
    if (largest == 0.0 || !finite(largest)) return 0;
    int exponent = ilogb(largest) + 1;
    return exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent;
}

template <int W, int E> __device__ RowState scaled_state(const Columns& at, const NC_T (&x)[E],
                                                  double reciprocal)
{
    Largest largest = {0.0};
    at.each<W>([&](int i, int) {
#pragma unroll
        for (int k = i; k < i + W; ++k) largest.value = fmax(largest.value, fabs(to_double(x[k])));
    }, E);
    int exponent = scaling_exponent(merged_row(largest, 0).value);
    RowState state = careful_state<W>(at, x, reciprocal, ldexp(1.0, -exponent));
    state.exponent = exponent;
    return state;
}

// The state of the values that the threads of a row hold. What one row of a warp needs done again,
// all of them do.
template <int W, int E> __device__ inline RowState row_state(const Columns& at, const NC_T (&x)[E])
{
    double count = at.count, reciprocal = 1.0 / count;
    if (!Unit<NC_T>::KNOWN) {
        RowState state = careful_state<W>(at, x, reciprocal, 1.0);
        if (!IS_DOUBLE) return state;
        bool again = at.count > 0 && !is_in_range(state, reciprocal);
        if (!__any_sync(ALL_LANES, again)) return state;
        RowState other = scaled_state<W>(at, x, reciprocal);
        return again ? other : state;
    }
    PlainSum total = plain_sum<W>(at, x);
    dd sum = {total.value, 0.0}, mean = row_mean(sum, count, reciprocal);
    TwoSum square = sum_squares<W>(at, x, mean.hi, 1.0);
    RowState state = state_of(sum, mean, square, count);
    double most = 0.99 * 9007199254740992.0 * Unit<NC_T>::of(total.least);
    bool again = at.count > 0 && !(count * (square.hi + count * mean.hi * mean.hi) < most * most);
    if (!__any_sync(ALL_LANES, again)) return state;
    RowState other = careful_state<W>(at, x, reciprocal, 1.0);
    return again ? other : state;
}
