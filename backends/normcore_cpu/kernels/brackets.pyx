# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: for each rank and lane one walk down the tile while it is in the cache: three counts and
# the values strictly inside, compacted without a branch into a small buffer and appended to the
# list of their range, rank and channel. Lists grow by doubling and hold only what is inside, a
# few percent of the data where the brackets are narrow.

import numpy as np

from libc.math cimport INFINITY, NAN, fabs
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from .tasks cimport Task
from .tiles cimport LANES, MAX_ROWS, TILE, channel_of, gather, tile_t, view_t

__all__ = ["brackets"]

cdef enum:
    BELOW, EQUAL_LOWER, INSIDE, EQUAL_UPPER, SUMS
    COUNT = 0, INFINITE = 1, NANS = 2


cdef struct list_t:
    double* data
    Py_ssize_t size
    Py_ssize_t capacity


cdef bint append(list_t* values, const double* more, Py_ssize_t count) noexcept nogil:
    """Append; return whether memory ran out."""
    cdef Py_ssize_t capacity = values.capacity
    cdef double* data
    if values.size + count > capacity:
        capacity = max(2 * capacity, values.size + count)
        data = <double*> realloc(values.data, capacity * sizeof(double))
        if data == NULL:
            return True
        values.data, values.capacity = data, capacity
    memcpy(values.data + values.size, more, count * sizeof(double))
    values.size += count
    return False


cdef class BracketsTask(Task):
    cdef view_t w
    cdef bint weighted, out_of_memory
    cdef const double[:, ::1] lower, upper
    cdef Py_ssize_t num_ranks
    cdef double[:, :, :, ::1] sums      # (range, SUMS, rank, channel)
    cdef double[:, :, ::1] totals       # (range, COUNT INFINITE NANS, channel)
    cdef list_t* values                 # (range, rank, channel)
    cdef list_t* value_weights

    def __cinit__(self):
        self.values = self.value_weights = NULL

    def __init__(self, x, lower, upper, weights):
        cdef Py_ssize_t lists
        self.begin(x)
        self.lower, self.upper = lower, upper
        self.num_ranks = self.lower.shape[0]
        self.weighted = weights is not None
        if self.weighted:
            self.w = self.view(weights, True)
        shape = (self.plan.ranges, SUMS, self.num_ranks, self.plan.channels)
        self.sums = np.zeros(shape)
        self.totals = np.zeros((self.plan.ranges, 3, self.plan.channels))
        self.out_of_memory = False
        lists = self.plan.ranges * self.num_ranks * self.plan.channels
        self.values = <list_t*> calloc(max(lists, 1), sizeof(list_t))
        self.value_weights = <list_t*> calloc(max(lists, 1), sizeof(list_t))
        if self.values == NULL or self.value_weights == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef Py_ssize_t i, lists = self.plan.ranges * self.num_ranks * self.plan.channels
        for i in range(lists):
            if self.values != NULL:
                free(self.values[i].data)
            if self.value_weights != NULL:
                free(self.value_weights[i].data)
        free(self.values)
        free(self.value_weights)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double x[TILE]
        cdef double w[TILE]
        cdef Py_ssize_t lane, rank
        gather(&self.x, &self.plan, at, 0.0, x)
        if self.weighted:
            gather(&self.w, &self.plan, at, 0.0, w)
        else:
            for lane in range(at.rows * LANES):
                w[lane] = 1.0
        for lane in range(at.lanes):
            self.count_lane(part, at, lane, x, w)
            for rank in range(self.num_ranks):
                self.visit_lane(part, at, lane, rank, x, w)

    cdef void count_lane(
        self, Py_ssize_t part, const tile_t* at, Py_ssize_t lane, const double* x, double* w
    ) noexcept nogil:
        """Count weights, infinities and NaN; NaN weighs nothing from here on."""
        cdef double* totals = &self.totals[part, 0, channel_of(&self.plan, at, lane)]
        cdef double count = 0.0, infinite = 0.0, nans = 0.0
        cdef Py_ssize_t row, i
        for row in range(at.rows):
            i = row * LANES + lane
            infinite += 1.0 if fabs(x[i]) == INFINITY else 0.0
            if x[i] != x[i]:
                nans += 1.0 if w[i] != 0.0 else 0.0
                w[i] = 0.0
            count += w[i]
        totals[COUNT * self.plan.channels] += count
        totals[INFINITE * self.plan.channels] += infinite
        totals[NANS * self.plan.channels] += nans

    cdef void visit_lane(
        self, Py_ssize_t part, const tile_t* at, Py_ssize_t lane, Py_ssize_t rank,
        const double* x, const double* w,
    ) noexcept nogil:
        cdef double kept[MAX_ROWS]
        cdef double kept_weights[MAX_ROWS]
        cdef Py_ssize_t channel = channel_of(&self.plan, at, lane)
        cdef Py_ssize_t row, size = 0, i
        cdef double low = self.lower[rank, channel], high = self.upper[rank, channel]
        cdef double below = 0.0, at_low = 0.0, within = 0.0, at_high = 0.0, v, weight
        cdef bint wide = high > low
        for row in range(at.rows):
            v, weight = x[row * LANES + lane], w[row * LANES + lane]
            below += weight if v < low else 0.0
            at_low += weight if v == low else 0.0
            at_high += weight if wide and v == high else 0.0
            within += weight if low < v < high else 0.0
            kept[size] = v
            kept_weights[size] = weight
            size += low < v < high and weight != 0.0
        self.sums[part, BELOW, rank, channel] += below
        self.sums[part, EQUAL_LOWER, rank, channel] += at_low
        self.sums[part, INSIDE, rank, channel] += within
        self.sums[part, EQUAL_UPPER, rank, channel] += at_high
        if size:
            i = (part * self.num_ranks + rank) * self.plan.channels + channel
            if append(&self.values[i], kept, size) or (
                self.weighted and append(&self.value_weights[i], kept_weights, size)
            ):
                self.out_of_memory = True

    cdef list collect(self, list_t* lists):
        """Join the ranges' lists, in order: R lists of C arrays."""
        cdef Py_ssize_t rank, channel, part, size, i, stride = self.num_ranks * self.plan.channels
        cdef double[::1] joined
        result = []
        for rank in range(self.num_ranks):
            row = []
            for channel in range(self.plan.channels):
                i = rank * self.plan.channels + channel
                size = 0
                for part in range(self.plan.ranges):
                    size += lists[part * stride + i].size
                array = np.empty(size)
                joined = array
                size = 0
                for part in range(self.plan.ranges):
                    if lists[part * stride + i].size:
                        memcpy(
                            &joined[size], lists[part * stride + i].data,
                            lists[part * stride + i].size * sizeof(double),
                        )
                        size += lists[part * stride + i].size
                row.append(array)
            result.append(row)
        return result


def brackets(x, lower, upper, weights=None, bint skipna=False):
    """Count what lies below, on and between two values of each channel, for R ranks.

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    lower, upper : C-contiguous float64 arrays of shape (R, C)
    weights : array of shape (N, S), optional
        Positions of weight 0 do not count, whatever their values.
    skipna : bool
        Without it, the count of a channel with NaN is NaN.

    Returns
    -------
    tuple
        below, equal_lower, inside_count, equal_upper of shape (R, C); count, infinite of shape
        (C,); inside, R lists of C arrays of the values strictly inside; their weights likewise,
        or None.

    Raises
    ------
    MemoryError
        If what lies inside does not fit in memory.
    """
    cdef BracketsTask task = BracketsTask(x, lower, upper, weights)
    task.spread()
    if task.out_of_memory:
        raise MemoryError("not enough memory for the values inside the brackets")
    below, equal_lower, inside_count, equal_upper = np.asarray(task.sums).sum(0)
    count, infinite, nans = np.asarray(task.totals).sum(0)
    if not skipna:
        count = np.where(nans > 0, NAN, count)
    inside = task.collect(task.values)
    inside_weights = task.collect(task.value_weights) if task.weighted else None
    return (
        below, equal_lower, inside_count, equal_upper, count, infinite, inside, inside_weights,
    )
