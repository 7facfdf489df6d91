# cython: boundscheck=False, wraparound=False, cdivision=True
"""Compactors: what a sketch of quantiles is made of, built and merged."""

# Design: values come in through a raw buffer, which is sorted in runs, and each run is compacted
# into the first of the levels that quantile_sketch_compaction.pxd describes. Coins follow from the
# seed and from all values seen, so that different data toss different coins in every run alike.
# Channels are independent: each thread has channels of its own.

import numpy as np

cimport numpy as cnp
from libc.math cimport INFINITY, ceil, ldexp
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from normcore.statistics.quantile_sketch_compaction cimport (
    NUM_LEVELS,
    capacities_t,
    capacity_of,
    channel_t,
    digest,
    mixed,
    promote,
    settle,
    weigh,
)
from normcore.statistics.quantile_sketch_sorting cimport merge, padded, sort_runs
from normcore.threads.pool cimport Work

from normcore.threads import run

__all__ = ["LEVELS", "exact_size", "merged", "observed", "values_at_ranks"]

cnp.import_array()

cdef enum:
    LEAST_CAPACITY = 64
    LEAST_RAW = 1024        # values that are sorted together
    # Values below which another thread costs more than it saves.
    MIN_VALUES = 1 << 13

LEVELS = NUM_LEVELS

# Rows of the sums of a sketch.
cdef enum:
    COUNT, INFINITE, LOW, HIGH, VARIANCE, NUM_SUMS

ctypedef enum step_t:
    ADDING, SEALING, JOINING

cdef inline Py_ssize_t multiple(Py_ssize_t size, Py_ssize_t unit) noexcept nogil:
    return (size + unit - 1) // unit * unit


cdef inline double* doubles_of(object array) noexcept:
    return <double*> cnp.PyArray_DATA(<cnp.ndarray> array)


cdef struct state_t:                    # of a sketch, as arrays of channels
    const double* values
    const int64_t* starts
    const int64_t* sizes
    const uint64_t* coins
    const double* sums


def exact_size(Py_ssize_t capacity):
    """Return how many values of a channel are kept before the first compaction."""
    return multiple(3 * capacity, LEAST_RAW)


cdef class Compactors(Work):
    """Sketches of channels under way; :func:`observed` and :func:`merged` work on them."""

    cdef Py_ssize_t num_channels, raw_room, spare_room
    cdef capacities_t capacities
    cdef channel_t* channels
    cdef object arrays
    cdef step_t step
    cdef bint out_of_memory
    cdef const double* values               # to add
    cdef Py_ssize_t num_values
    cdef state_t parts[2]                   # to merge

    def __cinit__(self, Py_ssize_t num_channels, *_):
        self.channels = <channel_t*> malloc(max(num_channels, 1) * sizeof(channel_t))
        if self.channels is NULL:
            raise MemoryError("not enough memory for the sketches")

    def __dealloc__(self):
        free(self.channels)

    def __init__(self, Py_ssize_t num_channels, Py_ssize_t capacity):
        cdef Py_ssize_t distance
        cdef double size = capacity
        self.num_channels = num_channels
        self.capacities.exact = exact_size(capacity)
        self.capacities.full = capacity
        for distance in range(NUM_LEVELS):
            self.capacities.below_top[distance] = max(
                multiple(<Py_ssize_t> ceil(size), 2), LEAST_CAPACITY
            )
            size = size * 2 / 3
        self.arrays = []

    cdef int begin(self, Py_ssize_t raw_room, object rooms) except -1:
        """Make all channels empty, with room for raw values and for those in levels."""
        cdef const int64_t* room = <const int64_t*> cnp.PyArray_DATA(rooms)
        memory = np.empty(self.num_channels * raw_room + int(rooms.sum()))
        cdef double* place = doubles_of(memory)
        cdef channel_t* channel
        cdef Py_ssize_t c
        self.arrays.append(memory)
        self.raw_room = raw_room
        self.spare_room = raw_room
        for c in range(self.num_channels):
            channel = &self.channels[c]
            memset(channel, 0, sizeof(channel_t))
            channel.raw = place
            place += raw_room + room[c]
            channel.first[0] = place
            channel.low, channel.high = INFINITY, -INFINITY
            self.spare_room = max(self.spare_room, <Py_ssize_t> room[c])
        return 0

    cdef int spread(self, Py_ssize_t num_values) except -1:
        """Visit all channels, with so many values to see to, in some threads."""
        cdef Py_ssize_t least = MIN_VALUES * self.num_channels // max(num_values, 1)
        run(self, self.num_channels, min_items=max(1, least))
        if self.out_of_memory:
            raise MemoryError("not enough memory for the sketches")
        return 0

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t c
        cdef double* spare = <double*> malloc(self.spare_room * sizeof(double))
        if spare is NULL:
            self.out_of_memory = True
            return
        for c in range(start, stop):
            if self.step == ADDING:
                self.add(c, spare)
            elif self.step == SEALING:
                self.seal(c, spare)
            else:
                self.join(c, spare)
        free(spare)

    # -- observing -------------------------------------------------------------------------

    cdef Py_ssize_t raw_limit(self, const channel_t* channel) noexcept nogil:
        cdef Py_ssize_t capacity = capacity_of(&self.capacities, channel, 0)
        return max(<Py_ssize_t> LEAST_RAW, multiple(capacity, LEAST_RAW))

    cdef void sort_raw(
        self, channel_t* channel, Py_ssize_t length, double* spare
    ) noexcept nogil:
        """Sort runs of the raw values, and note what is known of all values."""
        cdef Py_ssize_t start, last, i, size = channel.num_raw
        channel.coins = mixed(channel.coins + digest(channel.raw, size))
        channel.count += size
        sort_runs(channel.raw, size, length, spare)
        start = 0
        while start < size:
            last = min(start + length, size) - 1
            channel.low = min(channel.low, channel.raw[start])
            channel.high = max(channel.high, channel.raw[last])
            i = start
            while i <= last and channel.raw[i] == -INFINITY:
                channel.infinite += 1
                i += 1
            i = last
            while i >= start and channel.raw[i] == INFINITY:
                channel.infinite += 1
                i -= 1
            start += length

    cdef void compact_raw(self, channel_t* channel, double* spare) noexcept nogil:
        """Move half of the raw values, which are as many as they may be, into level 1."""
        cdef Py_ssize_t size = channel.num_raw, length = LEAST_CAPACITY, start = 0
        while length < min(size, capacity_of(&self.capacities, channel, 0)):
            length *= 2
        if length > LEAST_RAW:
            length = size
        self.sort_raw(channel, length, spare)
        while start < size:
            promote(channel, 0, channel.raw + start, length, spare)
            channel.first[0] = channel.first[1]
            settle(&self.capacities, channel, spare)
            start += length
        channel.num_raw = 0

    cdef void add(self, Py_ssize_t c, double* spare) noexcept nogil:
        """Observe values of a channel."""
        cdef channel_t* channel = &self.channels[c]
        cdef const double* values = self.values + c * self.num_values
        cdef double* raw
        cdef Py_ssize_t i = 0, stop, limit
        while i < self.num_values:
            limit = self.raw_limit(channel)
            stop = min(self.num_values, i + limit - channel.num_raw)
            raw = channel.raw + channel.num_raw
            channel.absent += stop - i
            while i < stop:
                raw[0] = values[i]
                raw += values[i] == values[i]
                i += 1
            channel.absent -= raw - channel.raw - channel.num_raw
            channel.num_raw = raw - channel.raw
            if channel.num_raw == limit:
                self.compact_raw(channel, spare)

    cdef void seal(self, Py_ssize_t c, double* spare) noexcept nogil:
        """Make a level of the raw values that are left."""
        cdef channel_t* channel = &self.channels[c]
        if channel.num_raw:
            self.sort_raw(channel, channel.num_raw, spare)
            channel.first[0] -= channel.num_raw
            memcpy(channel.first[0], channel.raw, channel.num_raw * sizeof(double))
            channel.sizes[0] = channel.num_raw
            channel.num_raw = 0
            settle(&self.capacities, channel, spare)

    # -- merging ---------------------------------------------------------------------------

    cdef void join(self, Py_ssize_t c, double* spare) noexcept nogil:
        """Merge two sketches of a channel."""
        cdef channel_t* channel = &self.channels[c]
        cdef const double* ends[2]
        cdef const int64_t* sizes[2]
        cdef Py_ssize_t i
        cdef int level
        cdef double* place = channel.first[0]
        for i in range(2):
            sizes[i] = self.parts[i].sizes + c * NUM_LEVELS
            ends[i] = self.parts[i].values + self.parts[i].starts[c]
            for level in range(NUM_LEVELS):
                if sizes[i][level]:
                    channel.top = max(channel.top, level)
                    ends[i] += sizes[i][level]
            self.add_sums(channel, &self.parts[i], c)
        for level in range(channel.top, -1, -1):
            for i in range(2):
                ends[i] -= sizes[i][level]
                channel.sizes[level] += sizes[i][level]
            place -= channel.sizes[level]
            channel.first[level] = place
            merge(ends[0], sizes[0][level], ends[1], sizes[1][level], place)
        weigh(&self.capacities, channel)
        settle(&self.capacities, channel, spare)

    cdef void add_sums(self, channel_t* channel, const state_t* part, Py_ssize_t c) noexcept nogil:
        cdef const double* sums = part.sums + c
        cdef Py_ssize_t ld = self.num_channels
        if sums[COUNT * ld] == 0:
            return
        # In either order the same.
        channel.coins = mixed(channel.coins + part.coins[c]) if channel.count else part.coins[c]
        channel.count += sums[COUNT * ld]
        channel.infinite += sums[INFINITE * ld]
        channel.low = min(channel.low, sums[LOW * ld])
        channel.high = max(channel.high, sums[HIGH * ld])
        channel.variance += sums[VARIANCE * ld]

    cdef tuple state(self):
        """Return values, sizes, coins and sums, and how many NaN each channel had."""
        cdef Py_ssize_t c, level, total = 0
        cdef channel_t* channel
        for c in range(self.num_channels):
            for level in range(self.channels[c].top + 1):
                total += self.channels[c].sizes[level]
        values = np.empty(total)
        sizes = np.zeros((self.num_channels, NUM_LEVELS), dtype=np.int64)
        coins = np.zeros(self.num_channels, dtype=np.uint64)
        sums, absent = np.zeros((NUM_SUMS, self.num_channels)), np.zeros(self.num_channels)
        cdef double* place = doubles_of(values)
        cdef int64_t* size = <int64_t*> cnp.PyArray_DATA(sizes)
        cdef uint64_t* coin = <uint64_t*> cnp.PyArray_DATA(coins)
        cdef double* sum_ = doubles_of(sums)
        cdef double* missing = doubles_of(absent)
        for c in range(self.num_channels):
            channel = &self.channels[c]
            missing[c] = channel.absent
            coin[c] = channel.coins if channel.count else 0  # as in the empty sketch
            sum_[COUNT * self.num_channels + c] = channel.count
            sum_[INFINITE * self.num_channels + c] = channel.infinite
            sum_[LOW * self.num_channels + c] = channel.low
            sum_[HIGH * self.num_channels + c] = channel.high
            sum_[VARIANCE * self.num_channels + c] = channel.variance
            total = 0
            for level in range(channel.top + 1):
                size[c * NUM_LEVELS + level] = channel.sizes[level]
                total += channel.sizes[level]
            memcpy(place, channel.first[0], total * sizeof(double))
            place += total
        return values, sizes, coins, sums, absent


def observed(blocks, Py_ssize_t num_channels, Py_ssize_t most, Py_ssize_t capacity, uint64_t seed):
    """Sketch the channels of data that comes in blocks.

    Parameters
    ----------
    blocks : iterable of float64 arrays of shape (C, P), in C order
        NaN is left out.
    num_channels : int
    most : int
        Values of a channel in all blocks.
    capacity : int
        Of the top level; that of each level below is two thirds of the one above.
    seed : int
        Of the coins.

    Returns
    -------
    values : float64 array
        Those of each channel, level by level, ascending in each.
    sizes : int64 array of shape (C, LEVELS)
    coins : uint64 array of shape (C,)
    sums : float64 array of shape (5, C)
        Number of values and of infinities, smallest and largest value, sum of squared weights of
        compactions.
    absent : float64 array of shape (C,)
        Number of NaN.
    """
    cdef Compactors work = Compactors(num_channels, capacity)
    cdef Py_ssize_t distance = 0, room = 0, exact = work.capacities.exact
    cdef Py_ssize_t raw_room = min(exact, padded(max(most, 1)))
    if raw_room < exact:
        room = raw_room
    else:
        # The survivors of the first compaction, or what is left at last, come beside full levels.
        room = exact
        while distance < NUM_LEVELS and (distance < 3 or ldexp(capacity, distance - 3) < most):
            room += work.capacities.below_top[distance]
            distance += 1
    work.begin(raw_room, np.full(num_channels, room, dtype=np.int64))
    for c in range(num_channels):
        work.channels[c].coins = mixed(seed)
    work.step = ADDING
    for block in blocks:
        work.values, work.num_values = doubles_of(block), cnp.PyArray_DIM(block, 1)
        work.spread(block.size)
    work.step = SEALING
    work.spread(num_channels * raw_room)
    return work.state()


def merged(parts, Py_ssize_t capacity):
    """Merge two sketches, each given as values, sizes, coins and sums; return such, too."""
    cdef Py_ssize_t num_channels = len(parts[0][1])
    cdef Compactors work = Compactors(num_channels, capacity)
    cdef Py_ssize_t i
    lengths = sum(sizes.sum(axis=1) for _, sizes, _, _ in parts)
    work.begin(0, lengths)
    work.step = JOINING
    for i, (values, sizes, coins, sums) in enumerate(parts):
        ends = np.cumsum(sizes.sum(axis=1))
        starts = np.concatenate([[0], ends[: len(ends) - 1]]).astype(np.int64)
        given = [
            np.ascontiguousarray(each, dtype=dtype)
            for each, dtype in ((values, np.float64), (starts, np.int64), (sizes, np.int64),
                                (coins, np.uint64), (sums, np.float64))
        ]
        work.arrays.append(given)
        work.parts[i].values = doubles_of(given[0])
        work.parts[i].starts = <const int64_t*> cnp.PyArray_DATA(given[1])
        work.parts[i].sizes = <const int64_t*> cnp.PyArray_DATA(given[2])
        work.parts[i].coins = <const uint64_t*> cnp.PyArray_DATA(given[3])
        work.parts[i].sums = doubles_of(given[4])
    work.spread(int(lengths.sum()))
    return work.state()[:4]


def values_at_ranks(values, sizes, ranks):
    """Return what has some ranks in each channel.

    Parameters
    ----------
    values, sizes : as :func:`observed` returns them
    ranks : float64 array of shape (R, C)
        From 0 to the number of values less one.

    Returns
    -------
    float64 array of shape (R, C)
        NaN in a channel without values.
    """
    found = np.full(ranks.shape, np.nan)
    starts = np.cumsum(sizes.sum(axis=1))
    for c, pieces in enumerate(np.split(values, starts[: len(starts) - 1])):
        if len(pieces):
            # Few enough values that NumPy's sort, which knows sorted runs, is quick.
            order = np.argsort(pieces, kind="stable")
            weights = np.repeat(np.ldexp(1.0, np.arange(NUM_LEVELS)), sizes[c])
            reached = np.cumsum(weights[order])
            found[:, c] = pieces[order[np.searchsorted(reached, ranks[:, c], side="right")]]
    return found
