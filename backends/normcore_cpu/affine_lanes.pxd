# Design: the four numbers of each lane of a tile, and the map that uses them, written once for
# the forward kernel and for the gate of the backward ones.

cimport cython

from normcore_cpu.tiles cimport LANES, lane_vector, plan_t, tile_t

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
cdef inline void map_tile(
    const affine_lanes_t* affine, const double* x, Py_ssize_t rows, double* y
) noexcept nogil:
    cdef Py_ssize_t row, lane
    for row in range(rows):
        for lane in range(LANES):
            y[row * LANES + lane] = (
                (x[row * LANES + lane] - affine.center[lane]) / affine.scale[lane]
            ) * affine.gamma[lane] + affine.beta[lane]
