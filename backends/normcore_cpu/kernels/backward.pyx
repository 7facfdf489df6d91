# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: the two passes of batch norm's backward, each one read of dy and x (and one write).
#
#   reduce: sum(dy) and sum(dy * (x - mean)): two chains of eight rows, then two_sum, each lane by
#           itself; lanes and ranges are added up in order at the end.
#   elemt:  dx = a * dy - (b + d * (x - mean)), in float64, rounded once to the result; whole rows
#           in the order of memory, a large result past the caches.
#
# A gate (the forward map under a ReLU) is computed again from x instead of being kept. Rows of
# float32 or float64 are read and written in place; other dtypes, and masks, go through tiles of
# float64.

import numpy as np

cimport numpy as cnp
from libc.math cimport isfinite
from libc.string cimport memcpy

from normcore._dd cimport dd, two_sum

from .affine_lanes cimport map_lanes
from .lanes cimport (
    WIDTH, choose, fence, lanes_t, less_equal, load, load_double, prefetch, real, splat, store,
    store_double, stream_to,
)
from .tasks cimport Task
from .tiles cimport (
    AHEAD, DOUBLE, FLOAT, LANES, TILE, gather, is_sheet, near_rows, result_like, rows_of, rows_t,
    scatter, sheet_stride_of, spread_rows, start_of, tile_t, view_t,
)

__all__ = ["backward_elemt", "backward_reduce"]

cnp.import_array()

cdef enum:
    CHAIN = 8
    # Rows of the vectors that a task spreads over lanes; those of the gate are the last four.
    MEAN = 0, A = 1, B = 2, D = 3, GATE = 4, VECTORS = 8
    # Rows of the sums of a lane.
    DY_HI = 0, DY_LO = 1, DY_XMU_HI = 2, DY_XMU_LO = 3, SUMS = 4

# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t STREAM = 1 << 25


cdef inline lanes_t gated(
    lanes_t dy, lanes_t x, const double* gate, Py_ssize_t stride
) noexcept nogil:
    """Return dy where the forward map of x is positive or NaN, and 0 elsewhere."""
    cdef lanes_t y = map_lanes(
        x, load_double(gate), load_double(gate + stride), load_double(gate + 2 * stride),
        load_double(gate + 3 * stride),
    )
    return choose(less_equal(y, splat(0.0)), splat(0.0), dy)


cdef inline void add_sum(double* hi, double* lo, lanes_t more) noexcept nogil:
    """Add to WIDTH double-double sums."""
    cdef lanes_t before = load_double(hi)
    cdef lanes_t total = before + more
    cdef lanes_t t = total - before
    store_double(lo, load_double(lo) + ((before - (total - t)) + (more - t)))
    store_double(hi, total)


cdef inline void reduce_rows(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, Py_ssize_t rows,
    Py_ssize_t dy_ahead, Py_ssize_t x_ahead, const double* vectors, Py_ssize_t across,
    double* sums, bint has_gate,
) noexcept nogil:
    """Add rows of 16 lanes to the sums of their lanes."""
    cdef Py_ssize_t row = 0, lane, k, half, step, near_dy_stride, near_x_stride
    cdef lanes_t mean, g, v
    cdef lanes_t sum_dy[2]
    cdef lanes_t sum_dy_xmu[2]
    cdef real dy_copy[2 * CHAIN * LANES]
    cdef real x_copy[2 * CHAIN * LANES]
    cdef const real* near_dy
    cdef const real* near_x
    while row < rows:
        step = min(rows - row, <Py_ssize_t> 2 * CHAIN)
        for k in range(step):
            prefetch(dy + (row + k + dy_ahead) * dy_stride)
            prefetch(x + (row + k + x_ahead) * x_stride)
            if real is double:
                prefetch(dy + (row + k + dy_ahead) * dy_stride + LANES // 2)
                prefetch(x + (row + k + x_ahead) * x_stride + LANES // 2)
        near_dy_stride, near_x_stride = dy_stride, x_stride
        near_dy = near_rows(dy + row * dy_stride, &near_dy_stride, step, dy_copy)
        near_x = near_rows(x + row * x_stride, &near_x_stride, step, x_copy)
        lane = 0
        while lane < LANES:
            mean = load_double(vectors + MEAN * across + lane)
            sum_dy[0] = sum_dy[1] = sum_dy_xmu[0] = sum_dy_xmu[1] = splat(0.0)
            for k in range(step):
                half = k & 1
                g = load(near_dy + k * near_dy_stride + lane)
                v = load(near_x + k * near_x_stride + lane)
                if has_gate:
                    g = gated(g, v, vectors + GATE * across + lane, across)
                sum_dy[half] = sum_dy[half] + g
                sum_dy_xmu[half] = sum_dy_xmu[half] + g * (v - mean)
            add_sum(
                sums + DY_HI * LANES + lane, sums + DY_LO * LANES + lane,
                sum_dy[0] + sum_dy[1],
            )
            add_sum(
                sums + DY_XMU_HI * LANES + lane, sums + DY_XMU_LO * LANES + lane,
                sum_dy_xmu[0] + sum_dy_xmu[1],
            )
            lane += WIDTH
        row += step


cdef void reduce_as(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, Py_ssize_t rows,
    Py_ssize_t dy_ahead, Py_ssize_t x_ahead, const double* vectors, Py_ssize_t across,
    double* sums, bint has_gate,
) noexcept nogil:
    """Choose the loop."""
    if has_gate:
        reduce_rows(
            dy, dy_stride, x, x_stride, rows, dy_ahead, x_ahead, vectors, across, sums, True
        )
    else:
        reduce_rows(
            dy, dy_stride, x, x_stride, rows, dy_ahead, x_ahead, vectors, across, sums, False
        )


cdef inline lanes_t gradient(
    lanes_t dy, lanes_t x, const double* vectors, Py_ssize_t across, bint has_gate
) noexcept nogil:
    if has_gate:
        dy = gated(dy, x, vectors + GATE * across, across)
    return load_double(vectors + A * across) * dy - (
        load_double(vectors + B * across)
        + load_double(vectors + D * across) * (x - load_double(vectors + MEAN * across))
    )


cdef inline void map_rows(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, real* out,
    Py_ssize_t out_stride, Py_ssize_t rows, Py_ssize_t lanes, const double* vectors,
    Py_ssize_t across, bint along, bint has_gate, bint stream,
) noexcept nogil:
    """Write dx of rows of lanes; along positions, each row has the vectors of its channel."""
    cdef Py_ssize_t row, lane, i, ahead = AHEAD // (lanes * <Py_ssize_t> sizeof(real)) + 1
    cdef lanes_t result
    cdef real rest_dy[WIDTH]
    cdef real rest_x[WIDTH]
    for row in range(rows):
        lane = 0
        while lane + WIDTH <= lanes:
            if lane * sizeof(real) % 64 == 0 and not along:
                prefetch(dy + (row + ahead) * dy_stride + lane)
                prefetch(x + (row + ahead) * x_stride + lane)
            result = gradient(
                load(dy + row * dy_stride + lane), load(x + row * x_stride + lane),
                vectors + (row * LANES if along else lane), across, has_gate,
            )
            if stream:
                stream_to(out + row * out_stride + lane, result)
            else:
                store(out + row * out_stride + lane, result)
            lane += WIDTH
        if lane < lanes:
            for i in range(WIDTH):
                rest_dy[i] = dy[row * dy_stride + lane + i] if lane + i < lanes else 0
                rest_x[i] = x[row * x_stride + lane + i] if lane + i < lanes else 0
            result = gradient(
                load(<const real*> rest_dy), load(<const real*> rest_x),
                vectors + (row * LANES if along else lane), across, has_gate,
            )
            store(<real*> rest_dy, result)
            for i in range(lanes - lane):
                out[row * out_stride + lane + i] = rest_dy[i]


cdef void map_as(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, real* out,
    Py_ssize_t out_stride, Py_ssize_t rows, Py_ssize_t lanes, const double* vectors,
    Py_ssize_t across, bint along, bint has_gate, bint stream,
) noexcept nogil:
    """Choose the loop."""
    stream = (
        stream and lanes % WIDTH == 0 and (<size_t> out | out_stride * sizeof(real)) % 16 == 0
    )
    if has_gate:
        map_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, across, along,
            True, False,
        )
    elif stream:
        map_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, across, along,
            False, True,
        )
    else:
        map_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, across, along,
            False, False,
        )


cdef class BackwardTask(Task):
    """What both passes share."""

    cdef view_t dy, mask
    cdef double* vectors            # (VECTORS, across): what each lane needs to know
    cdef Py_ssize_t across
    cdef bint masked, gated

    def __init__(self, dy, x, vectors, bint gated, mask):
        self.begin(x)
        self.dy = self.view(dy)
        self.gated = gated
        self.masked = mask is not None
        if self.masked:
            self.mask = self.view(mask, True)
        self.across = LANES * self.plan.groups
        self.vectors = self.scratch(VECTORS * self.across)
        spread_rows(
            <const double*> cnp.PyArray_DATA(vectors), VECTORS if gated else GATE,
            self.plan.channels, LANES if self.plan.along else 1,
            1 if self.plan.along else self.plan.fold, self.vectors, self.across,
        )

    cdef void gather_both(self, const tile_t* at, double* dy, double* x) noexcept nogil:
        """Gather dy and x; where the mask is 0, dy and x - mean are, whatever they hold."""
        cdef double mask[TILE]
        cdef const double* mean = self.vectors + MEAN * self.across + at.group * LANES
        cdef Py_ssize_t i
        gather(&self.dy, &self.plan, at, 0.0, dy)
        gather(&self.x, &self.plan, at, 0.0, x)
        if self.masked:
            gather(&self.mask, &self.plan, at, 0.0, mask)
            for i in range(at.rows * LANES):
                if mask[i] == 0.0:
                    dy[i], x[i] = 0.0, mean[i % LANES]


cdef class BackwardReduceTask(BackwardTask):
    cdef double* sums               # (range, SUMS, across)

    def __init__(self, dy, x, vectors, bint gated, mask):
        BackwardTask.__init__(self, dy, x, vectors, gated, mask)
        self.sums = self.scratch(self.plan.ranges * SUMS * self.across)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double dy_copy[TILE]
        cdef double x_copy[TILE]
        cdef double kept[SUMS * LANES]
        cdef Py_ssize_t i, across = self.across
        cdef double* sums = self.sums + part * SUMS * across + at.group * LANES
        cdef rows_t dy, x
        cdef bint in_place = False
        if not self.masked and self.x.real == self.dy.real:
            dy = rows_of(&self.dy, &self.plan, at, 0.0, dy_copy)
            x = rows_of(&self.x, &self.plan, at, 0.0, x_copy)
            in_place = dy.real == x.real
        if not in_place:
            self.gather_both(at, dy_copy, x_copy)
            dy.real, dy.data, dy.stride, dy.ahead = DOUBLE, <char*> dy_copy, LANES, 0
            x.data, x.stride, x.ahead = <char*> x_copy, LANES, 0
        for i in range(SUMS):
            memcpy(kept + i * LANES, sums + i * across, sizeof(double) * LANES)
        if dy.real == FLOAT:
            reduce_as(
                <const float*> dy.data, dy.stride, <const float*> x.data, x.stride, at.rows,
                dy.ahead, x.ahead, self.vectors + at.group * LANES, across, kept, self.gated,
            )
        else:
            reduce_as(
                <const double*> dy.data, dy.stride, <const double*> x.data, x.stride, at.rows,
                dy.ahead, x.ahead, self.vectors + at.group * LANES, across, kept, self.gated,
            )
        for i in range(SUMS):  # lanes that are not there hold 0 * (0 - mean), maybe NaN
            memcpy(sums + i * across, kept + i * LANES, sizeof(double) * at.lanes)

    cdef object channels(self):
        """Add up the lanes and ranges of each channel: sum(dy), sum(dy * (x - mean))."""
        cdef Py_ssize_t c, part, lane, which
        cdef Py_ssize_t first, step, lanes = self.plan.fold
        cdef const double* at
        cdef double hi, lo
        cdef dd total
        result = np.empty((2, self.plan.channels))
        cdef double[:, ::1] sums = result
        step = 1 if self.plan.along else self.plan.channels
        for which in range(2):
            for c in range(self.plan.channels):
                first = c * LANES if self.plan.along else c
                hi = lo = 0.0
                for part in range(self.plan.ranges):
                    at = self.sums + (part * SUMS + 2 * which) * self.across + first
                    for lane in range(lanes):
                        total = two_sum(hi, at[lane * step])
                        hi = total.hi
                        lo += total.lo + at[self.across + lane * step]
                sums[which, c] = hi + lo if isfinite(hi) else hi
        return result


cdef class BackwardElemtTask(BackwardTask):
    cdef view_t out
    cdef bint stream

    def __init__(self, dy, x, vectors, bint gated, mask, out):
        BackwardTask.__init__(self, dy, x, vectors, gated, mask)
        self.split_rows()
        self.out = self.view(out)
        self.whole_rows = (
            not self.masked and self.x.real == self.dy.real == self.out.real
            and is_sheet(&self.x, &self.plan) and is_sheet(&self.dy, &self.plan)
            and is_sheet(&self.out, &self.plan)
        )
        self.stream = (
            out.nbytes >= STREAM and self.out.data != self.x.data and self.out.data != self.dy.data
        )

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double dy[TILE]
        cdef double x[TILE]
        cdef Py_ssize_t across = self.across
        cdef const double* vectors = self.vectors + at.group * LANES
        if self.whole_rows:
            if self.x.real == FLOAT:
                map_as(
                    <const float*> start_of(&self.dy, &self.plan, at),
                    sheet_stride_of(&self.dy, &self.plan),
                    <const float*> start_of(&self.x, &self.plan, at),
                    sheet_stride_of(&self.x, &self.plan),
                    <float*> start_of(&self.out, &self.plan, at),
                    sheet_stride_of(&self.out, &self.plan), at.rows, at.lanes, vectors, across,
                    self.plan.along, self.gated, self.stream,
                )
            else:
                map_as(
                    <const double*> start_of(&self.dy, &self.plan, at),
                    sheet_stride_of(&self.dy, &self.plan),
                    <const double*> start_of(&self.x, &self.plan, at),
                    sheet_stride_of(&self.x, &self.plan),
                    <double*> start_of(&self.out, &self.plan, at),
                    sheet_stride_of(&self.out, &self.plan), at.rows, at.lanes, vectors, across,
                    self.plan.along, self.gated, self.stream,
                )
            return
        self.gather_both(at, dy, x)
        map_as(
            <const double*> dy, <Py_ssize_t> LANES, <const double*> x, <Py_ssize_t> LANES, dy,
            <Py_ssize_t> LANES, at.rows, <Py_ssize_t> LANES, vectors, across, False, self.gated,
            False,
        )
        if self.masked:
            self.zero_masked(at, dy)
        scatter(&self.out, &self.plan, at, dy)

    cdef void zero_masked(self, const tile_t* at, double* dx) noexcept nogil:
        cdef double mask[TILE]
        cdef Py_ssize_t i
        gather(&self.mask, &self.plan, at, 0.0, mask)
        for i in range(at.rows * LANES):
            dx[i] = 0.0 if mask[i] == 0.0 else dx[i]

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        fence()


def backward_reduce(dy, x, vectors, bint gated=False, mask=None):
    """Return ``sum(dy)`` and ``sum(dy * (x - mean))`` of each channel, of shape (2, C).

    Parameters
    ----------
    dy, x : arrays of shape (N, C, S), any strides
    vectors : C-contiguous float64 array of shape (8, C)
        The mean; a, b and d of :func:`backward_elemt`; and the forward map under a ReLU.
    gated : bool
        Whether there is a ReLU.
    mask : array of shape (N, S), optional
        Positions where it is 0 do not count.
    """
    cdef BackwardReduceTask task = BackwardReduceTask(dy, x, vectors, gated, mask)
    task.spread()
    return task.channels()


def backward_elemt(dy, x, vectors, bint gated=False, mask=None, out=None):
    """Return ``dx = a * dy - (b + d * (x - mean))``, and 0 where the mask is 0.

    Parameters are as in :func:`backward_reduce`.

    out : floating array of shape (N, C, S), any strides, optional
        May be ``dy`` or ``x`` itself; by default a fresh array in the memory order of ``x``.
    """
    if out is None:
        out = result_like(x)
    cdef BackwardElemtTask task = BackwardElemtTask(dy, x, vectors, gated, mask, out)
    task.spread()
    return out
