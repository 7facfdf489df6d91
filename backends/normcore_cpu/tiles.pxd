cdef enum:
    LANES = 16
    ROWS = 256
    TILE = LANES * ROWS


# An (N, C, S) array, or a plane (N, S) with a channel stride of 0.
ctypedef void (*load_t)(
    const char* source, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, double* tile, Py_ssize_t row,
) noexcept nogil
ctypedef void (*store_t)(
    char* target, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, const double* tile, Py_ssize_t row,
) noexcept nogil

cdef struct view_t:
    char* data
    Py_ssize_t runs         # outer positions
    Py_ssize_t run_stride
    Py_ssize_t length       # inner positions: position p is (p // length, p % length)
    Py_ssize_t stride
    Py_ssize_t channels
    Py_ssize_t channel_stride
    Py_ssize_t itemsize
    load_t load
    store_t store

# How tiles cover an array; a function of its shape and the order of its strides alone.
cdef struct plan_t:
    Py_ssize_t channels
    Py_ssize_t positions
    Py_ssize_t group        # channels in a tile
    Py_ssize_t fold         # positions in a row of a tile
    Py_ssize_t groups       # tiles across the channels
    Py_ssize_t tiles        # tiles along the positions
    Py_ssize_t ranges       # positions are reduced in this many ranges ...
    Py_ssize_t slabs        # ... of this many slabs of channel groups

# One tile: `group` channels from `channel` on, positions from `start` to `stop`.
cdef struct tile_t:
    Py_ssize_t channel
    Py_ssize_t group
    Py_ssize_t start
    Py_ssize_t stop
    Py_ssize_t rows         # rows in use; the last one may be in part
    bint partial

cdef view_t view_of(object array, bint plane=*) except *
cdef plan_t plan_of(const view_t* x) noexcept nogil
cdef tile_t tile_at(const plan_t* plan, Py_ssize_t tile, Py_ssize_t group) noexcept nogil
cdef void gather(
    const view_t* x, const plan_t* plan, const tile_t* at, double* tile
) noexcept nogil
cdef void scatter(
    const view_t* out, const plan_t* plan, const tile_t* at, const double* tile
) noexcept nogil
cdef void fill(
    const plan_t* plan, const tile_t* at, double value, double* tile
) noexcept nogil
cdef void lane_vector(
    const double* vector, const plan_t* plan, const tile_t* at, double* lanes
) noexcept nogil
