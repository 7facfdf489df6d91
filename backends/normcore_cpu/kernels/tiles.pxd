cimport cython

from .lanes cimport LANES
from .views cimport view_t

cdef enum:
    ROWS = 64           # of a tile that has others beside it
    MAX_ROWS = 256      # of one that has not
    TILE = LANES * MAX_ROWS
    CUT_RUNS = 512      # shorter runs of positions are joined
    MAX_FOLDED = 1024   # lanes of a folded array
    WIDE = 512          # lanes that are enough for a row
    MAX_LANES = 4096    # that keep a state, over all ranges
    AHEAD = 16384       # bytes
    NEAR = 8            # rows that are in work at once

# How tiles cover an array.
cdef struct plan_t:
    Py_ssize_t channels
    bint along              # lanes along positions, not across channels
    Py_ssize_t runs         # runs that rows do not cross ...
    Py_ssize_t length       # ... and their positions
    Py_ssize_t fold         # positions in a row of lanes
    Py_ssize_t width        # lanes side by side
    Py_ssize_t groups       # of 16 lanes
    Py_ssize_t rows         # of a full tile
    Py_ssize_t run_tiles    # tiles along a run
    Py_ssize_t tiles        # tiles along all positions
    Py_ssize_t ranges       # positions are reduced in this many ranges ...
    Py_ssize_t slabs        # ... of this many slabs of groups

# Rows of a group, or of some side by side; the first `lanes` lanes of each are there.
cdef struct tile_t:
    Py_ssize_t group
    Py_ssize_t channel      # of the first lane
    Py_ssize_t run
    Py_ssize_t start        # position of the first row in its run
    Py_ssize_t rows
    Py_ssize_t lanes
    Py_ssize_t rest         # positions after the last full row

cdef plan_t plan_of(const view_t* x) noexcept nogil
cdef void set_rows(plan_t* p, Py_ssize_t rows) noexcept nogil
cdef bint is_dense(const view_t* x) noexcept nogil
cdef void lengthen_rows(plan_t* p, const view_t* x) noexcept nogil
cdef bint is_direct(const view_t* x, const plan_t* plan) noexcept nogil
cdef tile_t tile_at(
    const plan_t* plan, Py_ssize_t tile, Py_ssize_t group, Py_ssize_t groups
) noexcept nogil
cdef tile_t rest_of(
    const plan_t* plan, const tile_t* full, Py_ssize_t groups
) noexcept nogil
cdef char* start_of(const view_t* x, const plan_t* plan, const tile_t* at) noexcept nogil
cdef Py_ssize_t row_stride_of(const view_t* x, const plan_t* plan) noexcept nogil
cdef Py_ssize_t sheet_stride_of(const view_t* x, const plan_t* plan) noexcept nogil
cdef bint is_sheet(const view_t* x, const plan_t* plan) noexcept nogil
cdef Py_ssize_t sheet_ahead(const view_t* x, const plan_t* plan) noexcept nogil
cdef Py_ssize_t rows_ahead(const view_t* x, const plan_t* plan) noexcept nogil


@cython.cdivision(True)
cdef inline Py_ssize_t channel_of(
    const plan_t* plan, const tile_t* at, Py_ssize_t lane
) noexcept nogil:
    return at.channel if plan.along else (at.channel + lane) % plan.channels
