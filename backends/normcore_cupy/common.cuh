// Design: one source for NVRTC and, with a thin header, for host compilers. NC_T is the dtype of
// the inputs, NC_OUT that of the result; all arithmetic is in float64, every operation rounded
// once (compile with -fmad=false -ftz=false; fma is written where it is meant).
//
// A block is blockDim.x channels by blockDim.y positions (whole warps, powers of two, x <= 32):
// many channels across where channels are neighbours in memory, one where positions are. It walks
// the range blockIdx.y of positions for the tile blockIdx.x of channels; a thread stays with its
// channels, so what belongs to them sits in registers, and keeps several loads in flight. Where
// memory allows it a load is a vector: of positions of one channel (Along), or of one position of
// several channels (Across); their views count in vectors. Threads of a channel merge by shuffles,
// then through shared memory; the ranges' states merge in a second kernel. Every tree is fixed by
// the shape and the walk alone: the same bits in every run and on every device.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define ALL_LANES 0xffffffffu
#define MAX_THREADS 256
#define INF __longlong_as_double(0x7ff0000000000000LL)

constexpr int BATCH = 4; // loads in flight of one thread
constexpr double LARGEST = 1.7976931348623157e308;

struct View { // (N, C, S) and strides, in elements; data == 0: absent
    char* data;
    long long n, c, s, sn, sc, ss;
};

__device__ inline double to_double(__half v) { return __half2float(v); }
__device__ inline double to_double(__nv_bfloat16 v) { return __bfloat162float(v); }
template <class T> __device__ inline double to_double(T v) { return static_cast<double>(v); }

template <class T> struct IsDouble {
    static constexpr bool VALUE = false;
};
template <> struct IsDouble<double> {
    static constexpr bool VALUE = true;
};
constexpr bool IS_DOUBLE = IsDouble<NC_T>::VALUE;

// Whether float64 sums of some hundred values are exact: those of 32 bits without an exponent of
// 8, or of 16 with one of 5.
template <class T> struct HasExactSums {
    static constexpr bool VALUE = sizeof(T) <= 4;
};
template <> struct HasExactSums<float> {
    static constexpr bool VALUE = false;
};
template <> struct HasExactSums<__nv_bfloat16> {
    static constexpr bool VALUE = false;
};

template <class T> struct HasNan { // no integer has
    static constexpr bool VALUE = static_cast<T>(1.5f) != static_cast<T>(1.0f);
};
template <> struct HasNan<__half> {
    static constexpr bool VALUE = true;
};
template <> struct HasNan<__nv_bfloat16> {
    static constexpr bool VALUE = true;
};

template <class T> __device__ inline bool is_nan(T v) { return v != v; }
__device__ inline bool is_nan(__half v) { return is_nan(__half2float(v)); }
__device__ inline bool is_nan(__nv_bfloat16 v) { return is_nan(__bfloat162float(v)); }

template <class T> struct Rounded {
    __device__ static T of(double v) { return static_cast<T>(v); }
};
template <> struct Rounded<__half> {
    __device__ static __half of(double v) { return __double2half(v); }
};
template <> struct Rounded<__nv_bfloat16> {
    __device__ static __nv_bfloat16 of(double v) { return __double2bfloat16(v); }
};

__device__ inline bool finite(double v) { return fabs(v) <= LARGEST; }

// -- double-double -----------------------------------------------------------------------------

struct dd {
    double hi, lo;
};

__device__ inline dd two_sum(double a, double b)
{
    double hi = a + b, t = hi - a;
    return {hi, (a - (hi - t)) + (b - t)};
}

__device__ inline dd fast_two_sum(double a, double b) // |a| >= |b| or a == 0
{
    double hi = a + b;
    return {hi, b - (hi - a)};
}

__device__ inline dd two_product(double a, double b)
{
    double hi = a * b;
    return {hi, fma(a, b, -hi)};
}

// What is not finite propagates in hi as in plain sums.
__device__ inline dd operator+(dd a, dd b)
{
    dd s = two_sum(a.hi, b.hi), t = two_sum(a.lo, b.lo);
    if (!finite(s.hi)) return {s.hi, 0.0};
    s = fast_two_sum(s.hi, s.lo + t.hi);
    return fast_two_sum(s.hi, s.lo + t.lo);
}

__device__ inline dd operator-(dd a) { return {-a.hi, -a.lo}; }
__device__ inline dd operator-(dd a, dd b) { return a + -b; }

__device__ inline dd operator*(dd a, dd b)
{
    dd p = two_product(a.hi, b.hi);
    return fast_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

__device__ inline dd operator/(dd a, dd b)
{
    double first = a.hi / b.hi;
    dd rest = a - dd{first, 0.0} * b;
    dd q = fast_two_sum(first, rest.hi / b.hi);
    rest = a - q * b;
    return fast_two_sum(q.hi, q.lo + rest.hi / b.hi);
}

// Add to a running sum, whose lo is normalized at the end.
__device__ inline void accumulate(dd& total, double v)
{
    dd s = two_sum(total.hi, v);
    total = {s.hi, total.lo + s.lo};
}

__device__ inline dd normalized(dd total)
{
    if (!finite(total.hi)) return {total.hi, 0.0};
    return fast_two_sum(total.hi, total.lo);
}

// -- positions ---------------------------------------------------------------------------------

// Which tile of channels a block works on, and which range of positions, of how many.
struct Share {
    unsigned tile, range, tiles, ranges;

    __device__ Share()
        : tile(blockIdx.x), range(blockIdx.y), tiles(gridDim.x), ranges(gridDim.y) {}
    __device__ Share(unsigned number, unsigned tiles, unsigned ranges)
        : tile(number % tiles), range(number / tiles), tiles(tiles), ranges(ranges) {}

    // That of the block at the other end, where what a pass before read last, and the cache still
    // holds, shall come first.
    __device__ Share backwards() const
    {
        Share other = *this;
        other.tile = tiles - 1 - tile;
        other.range = ranges - 1 - range;
        return other;
    }
};

// The positions of one thread; divides once, then only adds.
struct Positions {
    long long channel, n, s, inner;
    int left, step_n, step_s; // of a thread: far below 2**31 for whatever memory holds

    __device__ Positions(const View& x, long long per_range, const Share& share = Share())
    {
        long long first = share.range * per_range, end = x.n * x.s;
        if (end > first + per_range) end = first + per_range;
        first += threadIdx.y;
        channel = static_cast<long long>(share.tile) * blockDim.x + threadIdx.x;
        inner = x.s;
        n = first / inner;
        s = first - n * inner;
        step_n = static_cast<int>(blockDim.y / inner);
        step_s = static_cast<int>(blockDim.y - step_n * inner);
        bool some = channel < x.c && first < end;
        left = some ? static_cast<int>((end - first - 1) / blockDim.y) + 1 : 0;
    }

    __device__ void advance()
    {
        n += step_n;
        s += step_s;
        if (s >= inner) {
            s -= inner;
            ++n;
        }
        --left;
    }
};

template <class T> __device__ inline T& element(const View& v, const Positions& at)
{
    return reinterpret_cast<T*>(v.data)[at.n * v.sn + at.channel * v.sc + at.s * v.ss];
}

// Call visit(load(at), at) at every position, with BATCH loads in flight.
template <class Load, class Visit>
__device__ inline void walk(Positions at, const Load& load, const Visit& visit)
{
    while (at.left > 0) {
        decltype(load(at)) loaded[BATCH];
        Positions ahead = at;
#pragma unroll
        for (int i = 0; i < BATCH; ++i, ahead.advance())
            if (ahead.left > 0) loaded[i] = load(ahead);
#pragma unroll
        for (int i = 0; i < BATCH; ++i, at.advance())
            if (at.left > 0) visit(loaded[i], at);
    }
}

// -- walks ---------------------------------------------------------------------------------------

// Any strides, each array its own.
struct Strided {
    static constexpr int VALUES = 1, CHANNELS = 1, LOADS = 8; // of a load; loads in flight
    static constexpr bool SHARED = false;                     // one offset for all arrays
    using Offset = long long;
};

constexpr int LARGER = sizeof(NC_T) > sizeof(NC_OUT) ? sizeof(NC_T) : sizeof(NC_OUT);

// One stride or another, the same for all arrays.
struct Single {
    static constexpr int VALUES = 1, CHANNELS = 1, LOADS = 8;
    static constexpr bool SHARED = true;
    using Offset = int;
};

// SIZE is that of the largest element; the host (plan.py) knows these numbers too.
template <int SIZE> struct Along {
    static constexpr int VALUES = SIZE > 4 ? 16 / SIZE : 4, CHANNELS = 1, LOADS = SIZE == 2 ? 6 : 4;
    static constexpr bool SHARED = true;
    using Offset = int;
};

template <int SIZE, int MOST> struct Across {
    static constexpr int VALUES = 16 / SIZE < MOST ? 16 / SIZE : MOST, CHANNELS = VALUES;
    static constexpr int BYTES = VALUES * SIZE;
    static constexpr int LOADS = SIZE > 2 ? 64 / BYTES : VALUES > 2 ? 6 : 8; // no spills
    static constexpr bool SHARED = true;
    using Offset = int;
};

// For true divisions: one load at a time, to keep code small where they are rare.
template <class W> struct Slowly : W {
    static constexpr int LOADS = IS_DOUBLE ? W::LOADS : 1;
};

template <class T, int VALUES> struct alignas(sizeof(T) * VALUES) Vector {
    T at[VALUES];
};

// Where a thread is in ARRAYS arrays and a plane (N, S), as offsets that are moved by adding.
template <class W, int ARRAYS> struct Cursor {
    static constexpr int OFFSETS = W::SHARED ? 1 : ARRAYS;
    using Offset = typename W::Offset;
    struct Place {
        Offset array[OFFSETS], plane;
        __device__ Offset operator[](int i) const { return array[W::SHARED ? 0 : i]; }
    };
    Place here, step, at_end; // what a step adds, and the end of an inner row
    Offset s, inner;
    int step_s, left;

    __device__ Cursor(const Positions& at, const View* const (&arrays)[ARRAYS], const View& plane)
        : s(static_cast<Offset>(at.s)), inner(static_cast<Offset>(at.inner)),
          step_s(at.step_s), left(at.left)
    {
#pragma unroll
        for (int i = 0; i < OFFSETS; ++i) {
            const View& v = *arrays[i];
            here.array[i] = static_cast<Offset>(at.n * v.sn + at.channel * v.sc + at.s * v.ss);
            step.array[i] = static_cast<Offset>(at.step_n * v.sn + at.step_s * v.ss);
            at_end.array[i] = static_cast<Offset>(v.sn - at.inner * v.ss);
        }
        long long ss = plane.ss * (W::VALUES / W::CHANNELS); // planes count in elements
        here.plane = static_cast<Offset>(at.n * plane.sn + at.s * ss);
        step.plane = static_cast<Offset>(at.step_n * plane.sn + at.step_s * ss);
        at_end.plane = static_cast<Offset>(plane.sn - at.inner * ss);
    }

    __device__ Place next()
    {
        Place place = here;
        s += step_s;
        bool ends = s >= inner;
        if (ends) s -= inner;
#pragma unroll
        for (int i = 0; i < OFFSETS; ++i) {
            here.array[i] += step.array[i];
            if (ends) here.array[i] += at_end.array[i];
        }
        here.plane += step.plane;
        if (ends) here.plane += at_end.plane;
        return place;
    }
};

template <class T, class W>
__device__ inline Vector<T, W::VALUES>& vector_at(const View& v, typename W::Offset offset)
{
    return reinterpret_cast<Vector<T, W::VALUES>*>(v.data)[offset];
}

// Bit i says that the mask leaves value i of a load out.
template <class W> __device__ inline unsigned left_out(const View& mask, typename W::Offset plane)
{
    constexpr int POSITIONS = W::VALUES / W::CHANNELS;
    const bool* first = reinterpret_cast<const bool*>(mask.data) + plane;
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < POSITIONS; ++i) bits |= first[i * mask.ss] ? 0u : 1u << i;
    return POSITIONS == 1 && bits ? ~0u : bits;
}

// Call visit(loaded, places, number) for `number` loads, made before, at a time.
template <class W, int ARRAYS, class Load, class Visit>
__device__ inline void sweep(Cursor<W, ARRAYS> at, const Load& load, const Visit& visit)
{
    using Place = typename Cursor<W, ARRAYS>::Place;
    Place places[W::LOADS];
    decltype(load(places[0])) loaded[W::LOADS];
#pragma unroll 1
    for (; at.left >= W::LOADS; at.left -= W::LOADS) {
#pragma unroll
        for (int i = 0; i < W::LOADS; ++i) places[i] = at.next();
#pragma unroll
        for (int i = 0; i < W::LOADS; ++i) loaded[i] = load(places[i]);
        visit(loaded, places, W::LOADS);
    }
    if (at.left <= 0) return;
#pragma unroll
    for (int i = 0; i < W::LOADS; ++i) places[i] = at.next();
#pragma unroll
    for (int i = 0; i < W::LOADS; ++i)
        if (i < at.left) loaded[i] = load(places[i]);
    visit(loaded, places, at.left);
}

// -- the affine map ------------------------------------------------------------------------------

// ((v - center) / scale) * gamma + beta, every operation rounded once.
struct Affine {
    double center, scale, reciprocal, gamma, beta;

    // Of a channel in rows (4, channels); null is the identity.
    __device__ Affine(const double* rows = nullptr, long long channels = 0, long long channel = 0)
        : center(0.0), scale(1.0), gamma(1.0), beta(0.0)
    {
        if (rows != nullptr) {
            center = rows[channel];
            scale = rows[channels + channel];
            gamma = rows[2 * channels + channel];
            beta = rows[3 * channels + channel];
        }
        reciprocal = 1.0 / scale;
    }

    // Whether values of NC_T can be divided by the reciprocal: no step leaves the normal numbers.
    __device__ bool is_ordinary() const
    {
        constexpr bool BOUNDED = !IS_DOUBLE; // below 2**128, and 0 or above 2**-150
        constexpr double LEAST = 0x1p-200, MOST = 0x1p200;
        double s = fabs(scale), c = fabs(center);
        return BOUNDED && s >= LEAST && s <= MOST && (c == 0.0 || (c >= LEAST && c <= MOST));
    }

    // Markstein's division: the quotient by the reciprocal, corrected by its exact remainder, is
    // that of IEEE. What is 0 or not finite needs no correction, and would lose its sign.
    template <bool ORDINARY> __device__ double of(double v) const
    {
        double d = v - center, quotient;
        if (ORDINARY) {
            quotient = d * reciprocal;
            double remainder = fma(-scale, quotient, d);
            if (fabs(remainder) > 0.0) quotient = fma(remainder, reciprocal, quotient);
        } else {
            quotient = d / scale;
        }
        return quotient * gamma + beta;
    }
};
