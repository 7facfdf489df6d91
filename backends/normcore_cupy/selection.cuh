// Design: values by rank, by their digits: keys are integers in the order of the values, NaN last
// and -0.0 before 0.0, and each read of the data finds 8 bits more of the keys at all ranks. What
// agrees with the digits found so far is counted by its next digit, in histograms of shared memory
// that blocks add to those of channels; then one warp for each channel finds the digits. Counts
// are integers, so the order of additions does not show. Nothing is kept, copied or sorted, and
// nothing waits for the host: reads are 1 to 8, as many as a value has bytes.
//
// Ranks of a channel whose digits agree share a histogram, a slot. A block has 32 histograms:
// those of some slots for each of its channels, or several for one channel, which threads share.

constexpr int BINS = 256, HISTOGRAMS = 32, MOST_SLOTS = 4;
constexpr int KEY_BITS = 8 * sizeof(NC_T);

template <int SIZE> struct Unsigned {
    using Type = unsigned;
};
template <> struct Unsigned<8> {
    using Type = unsigned long long;
};
using Key = Unsigned<sizeof(NC_T)>::Type;

constexpr Key SIGN_BIT = static_cast<Key>(1) << (KEY_BITS - 1);
constexpr Key ALL_BITS = SIGN_BIT | (SIGN_BIT - 1);

template <class T> struct Ordered { // an integer
    static constexpr Key INFINITE = ALL_BITS; // of the bits without the sign: none is
    static constexpr bool SIGNED = static_cast<T>(-1) < static_cast<T>(0);
    __device__ static Key bits(T v) { return static_cast<Key>(v) & ALL_BITS; }
    __device__ static T value(Key bits) { return static_cast<T>(bits); }
    __device__ static Key key(Key bits) { return SIGNED ? bits ^ SIGN_BIT : bits; }
    __device__ static Key from_key(Key key) { return Ordered::key(key); }
};

template <class T> struct OrderedFloat {
    __device__ static Key key(Key bits)
    {
        if ((bits & ~SIGN_BIT) > Ordered<T>::INFINITE) return ALL_BITS;
        return bits & SIGN_BIT ? ~bits & ALL_BITS : bits | SIGN_BIT;
    }
    __device__ static Key from_key(Key key)
    {
        return key & SIGN_BIT ? key & ~SIGN_BIT : ~key & ALL_BITS;
    }
};
template <> struct Ordered<double> : OrderedFloat<double> {
    static constexpr unsigned long long INFINITE = 0x7ff0000000000000ULL;
    __device__ static unsigned long long bits(double v) { return __double_as_longlong(v); }
    __device__ static double value(unsigned long long bits) { return __longlong_as_double(bits); }
};
template <> struct Ordered<float> : OrderedFloat<float> {
    static constexpr unsigned INFINITE = 0x7f800000U;
    __device__ static unsigned bits(float v) { return __float_as_uint(v); }
    __device__ static float value(unsigned bits) { return __uint_as_float(bits); }
};
template <> struct Ordered<__half> : OrderedFloat<__half> {
    static constexpr unsigned INFINITE = 0x7c00U;
    __device__ static unsigned bits(__half v) { return __half_as_ushort(v); }
    __device__ static __half value(unsigned bits) { return __ushort_as_half(bits); }
};
template <> struct Ordered<__nv_bfloat16> : OrderedFloat<__nv_bfloat16> {
    static constexpr unsigned INFINITE = 0x7f80U;
    __device__ static unsigned bits(__nv_bfloat16 v) { return __bfloat16_as_ushort(v); }
    __device__ static __nv_bfloat16 value(unsigned bits) { return __ushort_as_bfloat16(bits); }
};

// What is known of T ranks in each channel: rows of state (4 T + 1, C). Slots come first.
struct Ranks {
    unsigned long long* state;
    long long channels, channel;
    int number;

    __device__ unsigned long long& row(int row) const { return state[row * channels + channel]; }
    __device__ unsigned long long& digits_of_slot(int slot) const { return row(slot); }
    __device__ unsigned long long& left(int rank) const { return row(number + rank); }
    __device__ unsigned long long& digits(int rank) const { return row(2 * number + rank); }
    __device__ unsigned long long& slot(int rank) const { return row(3 * number + rank); }
    __device__ unsigned long long& num_slots() const { return row(4 * number); }
};

// Add to histograms (T, C, BINS) of slots, with the first digits also to totals (2, C): of NaN and
// of infinite values. The digit is that of the keys' bits from `shift` on; blockIdx.z counts slots.
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
count_digits(View x, int shift, int num_ranks, unsigned long long* state, long long per_range,
             unsigned long long* histograms, unsigned long long* totals)
{
    __shared__ unsigned bins[HISTOGRAMS * BINS];
    __shared__ int needed;
    Positions at(x, per_range);
    bool there = at.channel < x.c, starts = shift + 8 == KEY_BITS;
    int width = blockDim.x, thread = threadIdx.y * width + threadIdx.x;
    int together = width < 8 ? 8 : width; // histograms of one slot
    int num_slots = HISTOGRAMS / together, first_slot = blockIdx.z * num_slots;
    int mine = starts ? blockIdx.z == 0 : 0;
    Key digits[MOST_SLOTS];
    Ranks ranks = {state, x.c, at.channel, num_ranks};
    if (there && !starts) mine = static_cast<int>(ranks.num_slots()) - first_slot;
#pragma unroll
    for (int slot = 0; slot < MOST_SLOTS; ++slot) {
        digits[slot] = ~static_cast<Key>(0); // more bits than what is compared to it
        if (there && !starts && slot < mine && slot < num_slots)
            digits[slot] = static_cast<Key>(ranks.digits_of_slot(first_slot + slot));
    }
    if (thread == 0) needed = 0;
    for (int i = thread; i < HISTOGRAMS * BINS; i += MAX_THREADS) bins[i] = 0;
    __syncthreads();
    if (mine > 0) atomicOr(&needed, 1);
    __syncthreads();
    if (!needed) return;

    unsigned* own = bins + (thread % together) * BINS;
    unsigned nans = 0, infinite = 0;
    walk(
        at, [&](const Positions& here) { return element<NC_T>(x, here); },
        [&](NC_T loaded, const Positions&) {
            Key bits = Ordered<NC_T>::bits(loaded), key = Ordered<NC_T>::key(bits);
            unsigned digit = static_cast<unsigned>(key >> shift) % BINS;
            if (starts) {
                Key magnitude = bits & ~SIGN_BIT;
                nans += magnitude > Ordered<NC_T>::INFINITE;
                infinite += magnitude == Ordered<NC_T>::INFINITE;
                atomicAdd(own + digit, 1u);
                return;
            }
            Key before = key >> shift >> 8;
#pragma unroll
            for (int slot = 0; slot < MOST_SLOTS; ++slot)
                if (before == digits[slot]) atomicAdd(own + slot * together * BINS + digit, 1u);
        });
    if (nans > 0) atomicAdd(totals + at.channel, static_cast<unsigned long long>(nans));
    if (infinite > 0)
        atomicAdd(totals + x.c + at.channel, static_cast<unsigned long long>(infinite));
    __syncthreads();
    for (int i = thread; i < HISTOGRAMS * BINS; i += MAX_THREADS) {
        int histogram = i / BINS;
        long long slot = first_slot + histogram / together;
        long long channel = static_cast<long long>(blockIdx.x) * width + histogram % width;
        if (bins[i] > 0)
            atomicAdd(histograms + (slot * x.c + channel) * BINS + i % BINS,
                      static_cast<unsigned long long>(bins[i]));
    }
}

// The rank of the first, or of the second, value that a quantile is made of.
__device__ inline unsigned long long rank_of(double q, bool second, double count)
{
    double last = count > 1.0 ? count - 1.0 : 0.0, rank = floor((count - 1.0) * q);
    rank = rank < 0.0 ? 0.0 : rank > last ? last : rank;
    if (second) rank = rank + 1.0 < last ? rank + 1.0 : last;
    return static_cast<unsigned long long>(rank);
}

// Find the next digit of the values around each quantile q (T / 2), one warp for each channel, and
// clear the histograms; with the last digits write the values, and the totals, to out (T + 2, C).
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
choose_digits(unsigned long long* histograms, int shift, int num_ranks, const double* q,
              long long positions, long long channels, unsigned long long* state,
              const unsigned long long* totals, double* out)
{
    constexpr int EACH = BINS / 32; // bins of one lane
    long long channel = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (channel >= channels) return; // with its whole warp
    int lane = threadIdx.x;
    Ranks ranks = {state, channels, channel, num_ranks};
    bool starts = shift + 8 == KEY_BITS;
    double count = static_cast<double>(positions - static_cast<long long>(totals[channel]));
    int old_slots = starts ? 1 : static_cast<int>(ranks.num_slots()), num_slots = 0;
    unsigned long long of_slot = 0; // the digits of slot number `lane`
    for (int rank = 0; rank < num_ranks; ++rank) {
        long long slot = starts ? 0 : static_cast<long long>(ranks.slot(rank));
        unsigned long long left = starts ? rank_of(q[rank / 2], rank % 2, count) : ranks.left(rank);
        unsigned long long digits = starts ? 0 : ranks.digits(rank);
        const unsigned long long* bins =
            histograms + (slot * channels + channel) * BINS + lane * EACH;
        unsigned long long sum = 0;
        for (int i = 0; i < EACH; ++i) sum += bins[i];
        unsigned long long upto = sum;
        for (int distance = 1; distance < 32; distance *= 2) {
            unsigned long long lower = __shfl_up_sync(ALL_LANES, upto, distance);
            if (lane >= distance) upto += lower;
        }
        unsigned long long below = upto - sum;
        unsigned found = __ballot_sync(ALL_LANES, below <= left && left < upto);
        int digit = lane * EACH;
        for (int i = 0; i + 1 < EACH && left >= below + bins[i]; ++i, ++digit) below += bins[i];
        int source = found != 0 ? __ffs(static_cast<int>(found)) - 1 : 0; // 0: no numbers
        digit = __shfl_sync(ALL_LANES, digit, source);
        below = __shfl_sync(ALL_LANES, below, source);
        digits = digits * BINS + digit;
        unsigned same = __ballot_sync(ALL_LANES, lane < num_slots && of_slot == digits);
        if (same == 0 && lane == num_slots) of_slot = digits;
        int its_slot = same != 0 ? __ffs(static_cast<int>(same)) - 1 : num_slots++;
        if (lane != 0) continue;
        ranks.left(rank) = left - below;
        ranks.digits(rank) = digits;
        ranks.slot(rank) = its_slot;
        if (shift > 0) continue;
        NC_T value = Ordered<NC_T>::value(Ordered<NC_T>::from_key(static_cast<Key>(digits)));
        out[rank * channels + channel] = count > 0.0 ? to_double(value) : INF - INF;
    }
    __syncwarp();
    for (int slot = 0; slot < old_slots; ++slot)
        for (int bin = lane; bin < BINS; bin += 32)
            histograms[(slot * channels + channel) * BINS + bin] = 0;
    if (lane < num_slots) ranks.digits_of_slot(lane) = of_slot;
    if (lane != 0) return;
    ranks.num_slots() = num_slots;
    if (shift > 0) return;
    out[num_ranks * channels + channel] = static_cast<double>(totals[channel]);
    out[(num_ranks + 1) * channels + channel] = static_cast<double>(totals[channels + channel]);
}
