# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: the two passes of batch norm's backward, each one read of dy and x (and one write).
#
#   reduce: sum(dy) and sum(dy * (x - mean)), each in double-double lanes; tiles merge in order
#           within a range, ranges in order at the end.
#   elemt:  dx = a * dy - (b + d * (x - mean)), in float64, rounded once to the result.
#
# A gate (the forward map under a ReLU) is computed again from x instead of being kept.

import numpy as np

from libc.math cimport isfinite

from normcore._dd cimport dd, two_sum
from .affine_lanes cimport affine_lanes_t, load_affine, map_lanes
from .lanes cimport WIDTH, load_double, store_double
from .tasks cimport Task
from .tiles cimport (
    LANES, TILE, channel_of, gather, lane_vector, scatter, tile_t, view_t,
)

__all__ = ["backward_elemt", "backward_reduce"]


cdef class BackwardTask(Task):
    """What both passes share: dy with the gate and the mask applied."""

    cdef view_t dy, mask
    cdef const double[:, ::1] gate
    cdef const double[::1] mean
    cdef bint masked, gated

    def __init__(self, dy, x, mean, gate, mask):
        self.begin(x)
        self.dy = self.view(dy)
        self.mean = mean
        self.gated = gate is not None
        if self.gated:
            self.gate = gate
        self.masked = mask is not None
        if self.masked:
            self.mask = self.view(mask, True)

    cdef void gather_both(self, const tile_t* at, double* dy, double* xmu) noexcept nogil:
        """Gather dy, gated, and x - mean."""
        cdef double y[TILE]
        cdef double mean[LANES]
        cdef affine_lanes_t gate
        cdef Py_ssize_t i, row, lane
        gather(&self.dy, &self.plan, at, 0.0, dy)
        gather(&self.x, &self.plan, at, 0.0, xmu)
        if self.gated:
            load_affine(&self.gate[0, 0], &self.plan, at, &gate)
            for row in range(at.rows):
                lane = 0
                while lane < LANES:
                    i = row * LANES + lane
                    store_double(
                        &y[i],
                        map_lanes(
                            load_double(&xmu[i]), load_double(&gate.center[lane]),
                            load_double(&gate.scale[lane]), load_double(&gate.gamma[lane]),
                            load_double(&gate.beta[lane]),
                        ),
                    )
                    lane += WIDTH
            for i in range(at.rows * LANES):
                dy[i] = 0.0 if y[i] <= 0.0 else dy[i]
        lane_vector(&self.mean[0], &self.plan, at, mean)
        for row in range(at.rows):
            for lane in range(LANES):
                xmu[row * LANES + lane] = xmu[row * LANES + lane] - mean[lane]

    cdef void zero_masked(self, const tile_t* at, double* values) noexcept nogil:
        cdef double mask[TILE]
        cdef Py_ssize_t i
        gather(&self.mask, &self.plan, at, 0.0, mask)
        for i in range(at.rows * LANES):
            values[i] = 0.0 if mask[i] == 0.0 else values[i]


cdef void sum_lanes(const double* values, Py_ssize_t rows, dd* sums) noexcept nogil:
    cdef double hi[LANES]
    cdef double lo[LANES]
    cdef double s, t, v
    cdef Py_ssize_t row, lane
    for lane in range(LANES):
        hi[lane] = lo[lane] = 0.0
    for row in range(rows):
        for lane in range(LANES):
            v = values[row * LANES + lane]
            s = hi[lane] + v
            t = s - hi[lane]
            lo[lane] += (hi[lane] - (s - t)) + (v - t)
            hi[lane] = s
    for lane in range(LANES):
        sums[lane].hi, sums[lane].lo = hi[lane], lo[lane]


cdef inline void accumulate(double* hi, double* lo, dd value) noexcept nogil:
    cdef dd total = two_sum(hi[0], value.hi)
    hi[0] = total.hi
    lo[0] += total.lo + value.lo


cdef class BackwardReduceTask(BackwardTask):
    cdef double[:, :, ::1] states  # sum_dy_hi, sum_dy_lo, sum_dy_xmu_hi, sum_dy_xmu_lo

    def __init__(self, dy, x, mean, gate, mask):
        BackwardTask.__init__(self, dy, x, mean, gate, mask)
        self.states = np.zeros((self.plan.ranges, 4, self.plan.channels))

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double dy[TILE]
        cdef double xmu[TILE]
        cdef dd sums[LANES]
        cdef Py_ssize_t i, lane, channel
        self.gather_both(at, dy, xmu)
        if self.masked:
            self.zero_masked(at, dy)
            self.zero_masked(at, xmu)
        for i in range(at.rows * LANES):
            xmu[i] = dy[i] * xmu[i]
        sum_lanes(dy, at.rows, sums)
        for lane in range(at.lanes):
            channel = channel_of(&self.plan, at, lane)
            accumulate(&self.states[part, 0, channel], &self.states[part, 1, channel], sums[lane])
        sum_lanes(xmu, at.rows, sums)
        for lane in range(at.lanes):
            channel = channel_of(&self.plan, at, lane)
            accumulate(&self.states[part, 2, channel], &self.states[part, 3, channel], sums[lane])


cdef class BackwardElemtTask(BackwardTask):
    cdef view_t out
    cdef const double[::1] a, b, d

    def __init__(self, dy, x, mean, a, b, d, gate, mask, out):
        BackwardTask.__init__(self, dy, x, mean, gate, mask)
        self.a, self.b, self.d = a, b, d
        self.out = self.view(out)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double dy[TILE]
        cdef double xmu[TILE]
        cdef double a[LANES]
        cdef double b[LANES]
        cdef double d[LANES]
        cdef Py_ssize_t i, row, lane
        self.gather_both(at, dy, xmu)
        lane_vector(&self.a[0], &self.plan, at, a)
        lane_vector(&self.b[0], &self.plan, at, b)
        lane_vector(&self.d[0], &self.plan, at, d)
        for row in range(at.rows):
            for lane in range(LANES):
                i = row * LANES + lane
                dy[i] = a[lane] * dy[i] - (b[lane] + d[lane] * xmu[i])
        if self.masked:
            self.zero_masked(at, dy)
        scatter(&self.out, &self.plan, at, dy)


def backward_reduce(dy, x, mean, gate=None, mask=None):
    """Return ``sum(dy)`` and ``sum(dy * (x - mean))`` of each channel.

    Parameters
    ----------
    dy, x : arrays of shape (N, C, S), any strides
    mean : float64 array of shape (C,)
    gate : C-contiguous float64 array of shape (4, C), optional
        The forward map under a ReLU.
    mask : array of shape (N, S), optional
        Positions where it is 0 do not count.
    """
    cdef BackwardReduceTask task = BackwardReduceTask(dy, x, mean, gate, mask)
    cdef Py_ssize_t part, c, which, num_channels = task.plan.channels
    result = np.zeros((2, num_channels))
    cdef double[:, ::1] sums = result
    cdef double hi, lo
    cdef dd state
    task.spread()
    for c in range(num_channels):
        for which in range(2):
            hi = lo = 0.0
            for part in range(task.plan.ranges):
                state.hi = task.states[part, 2 * which, c]
                state.lo = task.states[part, 2 * which + 1, c]
                accumulate(&hi, &lo, state)
            sums[which, c] = hi + lo if isfinite(hi) else hi
    return result[0], result[1]


def backward_elemt(dy, x, mean, a, b, d, out, gate=None, mask=None):
    """Write ``dx = a * dy - (b + d * (x - mean))`` to ``out``, and 0 where the mask is 0.

    Parameters are as in :func:`backward_reduce`; ``a``, ``b``, ``d`` are float64 of shape (C,),
    and ``out`` may be ``dy`` or ``x`` itself.
    """
    cdef BackwardElemtTask task = BackwardElemtTask(dy, x, mean, a, b, d, gate, mask, out)
    task.spread()
