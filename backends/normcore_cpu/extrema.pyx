# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one comparison each way and one count of numbers (v == v) an element; comparisons with
# NaN are false, so NaN drops out by itself and shows only in the count. Adding 0.0 at the end
# makes -0.0 and 0.0 one value, whichever came first.

import numpy as np

from libc.math cimport INFINITY, NAN

from normcore_cpu.tasks cimport Task
from normcore_cpu.tiles cimport LANES, TILE, gather, tile_t

__all__ = ["extrema"]

cdef enum:
    COUNT, MIN, MAX


cdef void tile_extrema(
    const double* x, Py_ssize_t rows, double* count, double* least, double* largest
) noexcept nogil:
    cdef Py_ssize_t row, lane
    cdef double v
    for lane in range(LANES):
        count[lane], least[lane], largest[lane] = 0.0, INFINITY, -INFINITY
    for row in range(rows):
        for lane in range(LANES):
            v = x[row * LANES + lane]
            count[lane] += 1.0 if v == v else 0.0
            least[lane] = v if v < least[lane] else least[lane]
            largest[lane] = v if v > largest[lane] else largest[lane]


cdef class ExtremaTask(Task):
    cdef double[:, :, ::1] states

    def __init__(self, x):
        self.begin(x)
        states = np.zeros((self.plan.ranges, 3, self.plan.channels))
        states[:, MIN], states[:, MAX] = INFINITY, -INFINITY
        self.states = states

    cdef void visit(self, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double x[TILE]
        cdef double count[LANES]
        cdef double least[LANES]
        cdef double largest[LANES]
        cdef Py_ssize_t lane, last, channel
        gather(&self.x, &self.plan, at, x)
        if at.partial:  # comparisons pass over NaN
            last = (at.stop - at.start) % self.plan.fold * self.plan.group
            for lane in range(last, LANES):
                x[(at.rows - 1) * LANES + lane] = NAN
        tile_extrema(x, at.rows, count, least, largest)
        for lane in range(at.group * self.plan.fold):
            channel = at.channel + lane % at.group
            self.states[part, COUNT, channel] += count[lane]
            self.states[part, MIN, channel] = min(self.states[part, MIN, channel], least[lane])
            self.states[part, MAX, channel] = max(self.states[part, MAX, channel], largest[lane])


def extrema(x):
    """Return count, minimum and maximum of the numbers in each channel of an (N, C, S) array.

    NaN does not count; a channel without numbers has +inf and -inf.
    """
    cdef ExtremaTask task = ExtremaTask(x)
    task.spread()
    states = np.asarray(task.states)
    return states[:, COUNT].sum(0), states[:, MIN].min(0) + 0.0, states[:, MAX].max(0) + 0.0
