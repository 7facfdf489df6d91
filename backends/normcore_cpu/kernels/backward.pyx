# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: as in backward.pxd. Rows of float32 or float64 are read and written in place; other
# dtypes, and masks, go through tiles of float64.

from .lanes cimport LANES
from .tasks cimport Task
from .tile_rows cimport gather
from .tiles cimport TILE, tile_t

__all__ = ["BackwardTask"]


cdef class BackwardTask(Task):
    """What both passes share."""

    def __init__(self, dy, x, vectors, bint gated, mask):
        self.begin(x)
        self.dy = self.view(dy)
        self.gated = gated
        self.masked = mask is not None
        if self.masked:
            self.mask = self.view(mask, True)
        self.vectors = self.numbers(vectors, VECTORS, &self.across)

    cdef void gather_both(self, const tile_t* at, double* dy, double* x) noexcept nogil:
        """Gather dy and x; where the mask is 0, dy and x - mean are, whatever they hold."""
        cdef double mask[TILE]
        cdef const double* mean = self.vectors + MEAN * self.across + self.first_number(at)
        cdef Py_ssize_t i
        gather(&self.dy, &self.plan, at, 0.0, dy)
        gather(&self.x, &self.plan, at, 0.0, x)
        if self.masked:
            gather(&self.mask, &self.plan, at, 0.0, mask)
            for i in range(at.rows * LANES):
                if mask[i] == 0.0:
                    dy[i], x[i] = 0.0, mean[0 if self.plan.along else i % LANES]
