# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: a tile of input, the four numbers of its lanes, a tile of output: one read and one write
# of memory. Every operation is rounded once in float64 and the result once more to its dtype, so
# all instruction sets, and all backends, give the same bits. A tile is read whole before it is
# written, so the output may be the input.

from libc.math cimport INFINITY, fabs

from normcore_cpu.affine_lanes cimport affine_lanes_t, load_affine, map_tile
from normcore_cpu.tasks cimport Task
from normcore_cpu.tiles cimport LANES, TILE, gather, scatter, tile_t, view_t

__all__ = ["rescale"]


cdef bint holds_infinity(const double* x, Py_ssize_t rows) noexcept nogil:
    cdef double found[LANES]
    cdef double any_found = 0.0
    cdef Py_ssize_t row, lane
    for lane in range(LANES):
        found[lane] = 0.0
    for row in range(rows):
        for lane in range(LANES):
            found[lane] = 1.0 if fabs(x[row * LANES + lane]) == INFINITY else found[lane]
    for lane in range(LANES):
        any_found += found[lane]
    return any_found > 0.0


cdef class RescaleTask(Task):
    cdef view_t out, mask
    cdef const double[:, ::1] affine
    cdef bint masked, clipped, relu, refuse_infinite, infinite
    cdef double low, high

    def __init__(self, x, affine, out, clip, bint relu, mask, bint refuse_infinite):
        self.begin(x)
        self.out = self.view(out)
        self.affine = affine
        self.clipped = clip is not None
        if self.clipped:
            self.low, self.high = clip
        self.relu = relu
        self.masked = mask is not None
        if self.masked:
            self.mask = self.view(mask, True)
        self.refuse_infinite = refuse_infinite
        self.infinite = False

    cdef void visit(self, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double x[TILE]
        cdef affine_lanes_t affine
        cdef Py_ssize_t i, elements = at.rows * LANES
        cdef double low = self.low, high = self.high
        gather(&self.x, &self.plan, at, x)
        if self.refuse_infinite and holds_infinity(x, at.rows):
            self.infinite = True
        load_affine(&self.affine[0, 0], &self.plan, at, &affine)
        map_tile(&affine, x, at.rows, x)
        if self.clipped:
            for i in range(elements):
                x[i] = low if x[i] < low else (high if x[i] > high else x[i])
        if self.relu:
            for i in range(elements):
                x[i] = 0.0 if x[i] <= 0.0 else x[i]
        if self.masked:
            self.apply_mask(at, x)
        scatter(&self.out, &self.plan, at, x)

    cdef void apply_mask(self, const tile_t* at, double* x) noexcept nogil:
        cdef double mask[TILE]
        cdef Py_ssize_t i
        gather(&self.mask, &self.plan, at, mask)
        for i in range(at.rows * LANES):
            x[i] = 0.0 if mask[i] == 0.0 else x[i]


def rescale(x, affine, out, clip=None, bint relu=False, mask=None, bint refuse_infinite=False):
    """Write ``((x - center) / scale) * gamma + beta`` to ``out``.

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    affine : C-contiguous float64 array of shape (4, C)
        Center, scale, gamma and beta.
    out : floating array of shape (N, C, S), any strides
        May be ``x`` itself.
    clip : pair of floats, optional
    relu : bool
    mask : array of shape (N, S), optional
        The result is 0 where it is 0.
    refuse_infinite : bool

    Returns
    -------
    bool
        Whether ``refuse_infinite`` found an infinite input.
    """
    cdef RescaleTask task = RescaleTask(x, affine, out, clip, relu, mask, refuse_infinite)
    task.spread()
    return task.infinite
