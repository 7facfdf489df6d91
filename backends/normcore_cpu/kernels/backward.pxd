# Design: what the passes of batch norm's backward share; the gradient is layer norm's, too. A gate
# (the forward map under a ReLU) is computed again from x instead of being kept.

from .affine_map cimport mapped, numbers_of
from .lanes cimport choose, lanes_t, less_equal, splat
from .tasks cimport Task
from .tiles cimport tile_t
from .views cimport view_t

cdef enum:
    MEAN, A, B, D, GATE, VECTORS = 8    # rows of what is known of a channel


cdef inline lanes_t through_gate(
    lanes_t dy, lanes_t x, const double* vectors, Py_ssize_t across, Py_ssize_t lane, bint along
) noexcept nogil:
    """Return dy where the forward map of x is positive or NaN, and 0 elsewhere."""
    cdef lanes_t y = mapped(x, numbers_of(vectors + GATE * across, across, lane, along))
    return choose(less_equal(y, splat(0.0)), splat(0.0), dy)


cdef inline lanes_t gradient(
    lanes_t g, lanes_t xmu, lanes_t a, lanes_t b, lanes_t d
) noexcept nogil:
    """Return dx of some lanes, of which xmu is x - mean."""
    return a * g - (b + d * xmu)


cdef class BackwardTask(Task):
    cdef view_t dy, mask
    cdef const double* vectors      # (VECTORS, across): what each channel or lane needs to know
    cdef Py_ssize_t across
    cdef bint masked, gated

    cdef void gather_both(self, const tile_t* at, double* dy, double* x) noexcept nogil
