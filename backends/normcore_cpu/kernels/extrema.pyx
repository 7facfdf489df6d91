# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one comparison each way and one count of numbers (v == v) an element; comparisons with
# NaN are false, so NaN drops out by itself and shows only in the count. The accumulators of a
# tile stay in registers, two rows apart so that neither waits for the other; those of a range
# are one row of lanes, folded to channels at the end. Adding 0.0 there makes -0.0 and 0.0 one
# value, whichever came first.

import numpy as np

from libc.math cimport INFINITY, NAN
from libc.stdint cimport uint64_t

from .lanes cimport (
    WIDTH, equal, greater, lanes_t, lesser, load, longs_t, prefetch, real, splat,
    splat_long, store_double, store_long,
)
from .tasks cimport Task
from .tiles cimport FLOAT, LANES, TILE, rows_of, rows_t, tile_t

__all__ = ["extrema"]

cdef enum:
    COUNT, MIN, MAX


cdef inline void see(
    const real* x, lanes_t* least, lanes_t* largest, longs_t* count
) noexcept nogil:
    cdef lanes_t v = load(x)
    least[0] = lesser(v, least[0])
    largest[0] = greater(v, largest[0])
    count[0] = count[0] - equal(v, v)


cdef void tile_extrema(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t ahead,
    double* states, Py_ssize_t state_stride,
) noexcept nogil:
    """Bring the states of 16 lanes up to date."""
    cdef double least[LANES]
    cdef double largest[LANES]
    cdef uint64_t count[LANES]
    cdef lanes_t least_even, least_odd, largest_even, largest_odd
    cdef longs_t count_even, count_odd
    cdef Py_ssize_t lane = 0, k
    cdef const real* p
    while lane < LANES:
        least_even = least_odd = splat(INFINITY)
        largest_even = largest_odd = splat(-INFINITY)
        count_even = count_odd = splat_long(0)
        for k in range(rows // 2):
            p = x + 2 * k * stride + lane
            if lane * sizeof(real) % 64 == 0:
                prefetch(p + ahead * stride)
                prefetch(p + (ahead + 1) * stride)
            see(p, &least_even, &largest_even, &count_even)
            see(p + stride, &least_odd, &largest_odd, &count_odd)
        if rows % 2:
            see(x + (rows - 1) * stride + lane, &least_even, &largest_even, &count_even)
        store_double(&least[lane], lesser(least_even, least_odd))
        store_double(&largest[lane], greater(largest_even, largest_odd))
        store_long(&count[lane], count_even + count_odd)
        lane += WIDTH
    for lane in range(LANES):
        states[COUNT * state_stride + lane] += <double> count[lane]
        states[MIN * state_stride + lane] = min(states[MIN * state_stride + lane], least[lane])
        states[MAX * state_stride + lane] = max(states[MAX * state_stride + lane], largest[lane])


cdef class ExtremaTask(Task):
    cdef double[:, :, ::1] states  # (range, COUNT MIN MAX, lane)

    def __init__(self, x):
        self.begin(x)
        lanes = LANES * (self.plan.groups)
        states = np.zeros((self.plan.ranges, 3, lanes))
        states[:, MIN], states[:, MAX] = INFINITY, -INFINITY
        self.states = states

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double copy[TILE]
        cdef double* lanes = &self.states[part, 0, at.group * LANES]
        cdef Py_ssize_t across = self.plan.groups * LANES
        cdef rows_t x = rows_of(&self.x, &self.plan, at, NAN, copy)
        if x.real == FLOAT:
            tile_extrema(<const float*> x.data, x.stride, at.rows, x.ahead, lanes, across)
        else:
            tile_extrema(<const double*> x.data, x.stride, at.rows, x.ahead, lanes, across)

    cdef tuple channels(self):
        """Fold ranges and lanes to channels."""
        states = np.asarray(self.states)
        if self.plan.along:
            states = states.reshape(self.plan.ranges, 3, self.plan.channels, LANES)
            states = states.transpose(0, 3, 1, 2)
        else:
            states = states[:, :, :self.plan.width]
            states = states.reshape(self.plan.ranges, 3, self.plan.fold, self.plan.channels)
            states = states.transpose(0, 2, 1, 3)
        count = states[:, :, COUNT].sum((0, 1))
        return count, states[:, :, MIN].min((0, 1)) + 0.0, states[:, :, MAX].max((0, 1)) + 0.0


def extrema(x):
    """Return count, minimum and maximum of the numbers in each channel of an (N, C, S) array.

    NaN does not count; a channel without numbers has +inf and -inf.
    """
    cdef ExtremaTask task = ExtremaTask(x)
    task.spread()
    return task.channels()
