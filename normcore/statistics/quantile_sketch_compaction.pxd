# One compaction of a channel's levels, for the sketch of quantiles.
# Design: a level at h has sorted values that stand for 2**h values each. When it has reached its
# capacity it is compacted: of each two neighbours one survives, all the even ones or all the odd
# ones by a coin toss, and moves up a level. How many values count below x then changes by at most
# one weight, up or down with equal odds, so errors of different compactions cancel, and the sum of
# the squared weights of all compactions bounds them together (`variance`).
# Levels lie packed in one piece of memory that ends with the top one. Compacting one merges its
# survivors into the next in place and moves the lower ones, which are short, up into the gap.

from libc.math cimport ldexp
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memmove

from normcore.statistics.quantile_sketch_sorting cimport merge

cdef enum:
    NUM_LEVELS = 56         # 2**53 values fill no more


cdef struct capacities_t:
    Py_ssize_t below_top[NUM_LEVELS]    # of levels, by the distance from the top
    Py_ssize_t exact                    # of the only level, where nothing was compacted yet
    Py_ssize_t full                     # of the top one


cdef struct channel_t:
    double* raw                         # values that no level holds yet
    double* first[NUM_LEVELS]           # value of each level
    Py_ssize_t sizes[NUM_LEVELS]
    Py_ssize_t num_raw
    int top
    int heavy                           # levels at the top that only heavy values reach
    uint64_t coins
    double count, infinite, absent, low, high, variance


cdef inline uint64_t next_state(uint64_t coins) noexcept nogil:
    return coins + <uint64_t> 0x9E3779B97F4A7C15


cdef inline uint64_t mixed(uint64_t z) noexcept nogil:
    """Scramble 64 bits (SplitMix64: G. L. Steele et al., OOPSLA 2014)."""
    z = (z ^ (z >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t> 0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t digest(const double* values, Py_ssize_t size) noexcept nogil:
    """Return bits that depend on all of some values."""
    cdef uint64_t total = 0, bits
    cdef Py_ssize_t i
    for i in range(size):
        memcpy(&bits, values + i, sizeof(double))
        bits *= <uint64_t> 0x9E3779B97F4A7C15
        total += bits ^ (bits >> 32)
    return total


cdef inline Py_ssize_t capacity_of(
    const capacities_t* capacities, const channel_t* channel, int level
) noexcept nogil:
    if channel.top == 0:
        return capacities.exact
    return capacities.below_top[max(channel.top - channel.heavy - level, 0)]


cdef inline void weigh(const capacities_t* capacities, channel_t* channel) noexcept nogil:
    """Count the levels whose weights all values together do not warrant.

    Where values count once, the top level is at most log2(2 n / capacity). A few that weigh more
    may lie higher; they must not lessen the capacities of the levels below.
    """
    cdef int warranted = 0
    while ldexp(capacities.full, warranted) <= channel.count and warranted < channel.top:
        warranted += 1
    channel.heavy = channel.top - warranted


cdef inline void promote(
    channel_t* channel, int level, const double* values, Py_ssize_t size, double* spare
) noexcept nogil:
    """Merge every other one of an even number of sorted values into the level above."""
    cdef Py_ssize_t i, half = size // 2
    cdef double* place
    channel.coins = next_state(channel.coins)
    values += mixed(channel.coins) >> 63
    for i in range(half):
        spare[i] = values[2 * i]
    channel.variance += ldexp(1.0, 2 * level)
    if level == channel.top:
        channel.top += 1
        channel.first[channel.top] = channel.first[level] + channel.sizes[level]
        channel.sizes[channel.top] = 0
    level += 1
    place = channel.first[level] - half
    merge(spare, half, channel.first[level], channel.sizes[level], place)
    channel.first[level] = place
    channel.sizes[level] += half


cdef inline void compact(channel_t* channel, int level, double* spare) noexcept nogil:
    """Halve a level; of an odd number of values, the largest stays."""
    cdef double* values = channel.first[level]
    cdef Py_ssize_t odd = channel.sizes[level] & 1, size = channel.sizes[level] - odd
    cdef double largest = values[size] if odd else 0.0
    cdef int below
    promote(channel, level, values, size, spare)
    channel.sizes[level] = odd
    if odd:
        values[size // 2] = largest
    memmove(
        channel.first[0] + size // 2, channel.first[0],
        (values - channel.first[0]) * sizeof(double),
    )
    for below in range(level + 1):
        channel.first[below] += size // 2


cdef inline void settle(
    const capacities_t* capacities, channel_t* channel, double* spare
) noexcept nogil:
    """Compact what has reached its capacity, from below."""
    cdef int level = 0, top
    while level <= channel.top:
        top = channel.top
        if channel.sizes[level] >= capacity_of(capacities, channel, level):
            compact(channel, level, spare)
        level = level + 1 if channel.top == top else 0  # a new top lessens the capacities
