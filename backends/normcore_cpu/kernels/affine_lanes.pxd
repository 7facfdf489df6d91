# Design: the four numbers of each lane of a tile, and the map that uses them, written once for
# the forward kernel and for the gate of the backward ones.

cimport cython

from .lanes cimport lanes_t
from .tiles cimport LANES, lane_vector, plan_t, tile_t

cdef struct affine_lanes_t:
    double center[LANES]
    double scale[LANES]
    double gamma[LANES]
    double beta[LANES]


cdef inline void load_affine(
    const double* vectors, const plan_t* plan, const tile_t* at, affine_lanes_t* affine
) noexcept nogil:
    """Spread the rows of a (4, C) array to lanes."""
    lane_vector(vectors, plan, at, affine.center)
    lane_vector(vectors + plan.channels, plan, at, affine.scale)
    lane_vector(vectors + 2 * plan.channels, plan, at, affine.gamma)
    lane_vector(vectors + 3 * plan.channels, plan, at, affine.beta)


@cython.cdivision(True)
cdef inline lanes_t map_lanes(
    lanes_t x, lanes_t center, lanes_t scale, lanes_t gamma, lanes_t beta
) noexcept nogil:
    return ((x - center) / scale) * gamma + beta
