# What the other units take of tiling.pyx.

cimport cython
cimport numpy as cnp
from libc.stdlib cimport calloc, free

from normcore.layout.memory cimport memory_t
from normcore.threads.pool cimport Work

from .lanes cimport LANES, LINE, aligned

# -- views.pxi -----------------------------------------------------------------------------

# The dtypes that kernels read and write directly; the others go through a tile of float64.
cdef enum:
    OTHER, FLOAT, DOUBLE

ctypedef void (*load_t)(
    const char* source, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, double* tile, Py_ssize_t row,
) noexcept nogil
ctypedef void (*store_t)(
    char* target, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, const double* tile, Py_ssize_t row,
) noexcept nogil

# An (N, C, S) array, or a plane (N, S) with a channel stride of 0. Strides are in bytes.
cdef struct view_t:
    char* data
    Py_ssize_t runs         # outer positions
    Py_ssize_t run_stride
    Py_ssize_t length       # inner positions: position p is (p // length, p % length)
    Py_ssize_t stride
    Py_ssize_t positions
    Py_ssize_t channels
    Py_ssize_t channel_stride
    Py_ssize_t itemsize
    int real
    load_t load
    store_t store

cdef view_t view_of(object array, bint plane=*) except *
cdef bint set_elements(view_t* v, char kind, Py_ssize_t itemsize) noexcept nogil
cdef view_t view_of_rows(object array) except *
cdef object result_like(object x)


cdef inline double* doubles_of(object array) noexcept:
    """Return the elements of a float64 array in C order."""
    return <double*> cnp.PyArray_DATA(array)


cdef inline Py_ssize_t magnitude(Py_ssize_t stride) noexcept nogil:
    return -stride if stride < 0 else stride


cdef inline Py_ssize_t bytes_of(const view_t* view) noexcept nogil:
    return view.positions * view.channels * view.itemsize


# -- memory_views.pxi ----------------------------------------------------------------------

cdef class View:
    cdef view_t view
    cdef object owner
    cdef int kind
    cdef bint are_rows

cdef View view_on(object array, const view_t* view, int kind, bint are_rows=*)
cdef bint set_dtype(const memory_t* memory, view_t* view) noexcept nogil
cdef bint have_one_shape(const memory_t* arrays, int number) noexcept nogil
cdef bint set_views(
    const memory_t* arrays, int number, int channel, view_t* views
) noexcept nogil


# -- tiles.pxi -----------------------------------------------------------------------------

cdef enum:
    ROWS = 64           # of a tile that has others beside it
    MAX_ROWS = 256      # of one that has not
    TILE = LANES * MAX_ROWS
    CUT_RUNS = 512      # shorter runs of positions are joined
    MAX_PACKED = 1024   # lanes of a row that positions are packed into
    WIDE = 512          # lanes that are enough for a row
    MAX_LANES = 4096    # that keep a state, over all ranges
    PREFETCH_BYTES = 16384      # that lie between what is read and what is prefetched
    BAND = 8            # rows in work at once

# How tiles cover an array.
cdef struct plan_t:
    Py_ssize_t channels
    bint along              # lanes along positions, not across channels
    Py_ssize_t runs         # runs that rows do not cross ...
    Py_ssize_t length       # ... and their positions
    Py_ssize_t row_positions    # packed into a row of lanes
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
cdef bint is_contiguous(const view_t* x) noexcept nogil
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
cdef Py_ssize_t contiguous_stride_of(const view_t* x, const plan_t* plan) noexcept nogil
cdef bint are_contiguous(const view_t* x, const plan_t* plan) noexcept nogil
cdef Py_ssize_t contiguous_distance(const view_t* x, const plan_t* plan) noexcept nogil
cdef Py_ssize_t tile_distance(const view_t* x, const plan_t* plan) noexcept nogil


@cython.cdivision(True)
cdef inline Py_ssize_t channel_of(
    const plan_t* plan, const tile_t* at, Py_ssize_t lane
) noexcept nogil:
    return at.channel if plan.along else (at.channel + lane) % plan.channels


# -- tile_rows.pxi -------------------------------------------------------------------------

# The rows of a tile, of float or double.
cdef struct rows_t:
    char* data
    Py_ssize_t stride       # in elements
    Py_ssize_t distance     # of the rows to prefetch while these are read
    int real
    const char* prefetch_start      # what to prefetch in the order of memory: as many rows ...
    Py_ssize_t prefetch_stride      # ... this many bytes from each other

cdef rows_t rows_of(
    const view_t* x, const plan_t* plan, const tile_t* at, double missing, double* copy
) noexcept nogil
cdef void gather(
    const view_t* x, const plan_t* plan, const tile_t* at, double missing, double* tile
) noexcept nogil
cdef void scatter(
    const view_t* out, const plan_t* plan, const tile_t* at, double* tile
) noexcept nogil
cdef void spread_rows(
    const double* rows, Py_ssize_t num_rows, Py_ssize_t channels, Py_ssize_t row_positions,
    double* lanes, Py_ssize_t ld,
) noexcept nogil
cdef void zero_where(
    const view_t* mask, const plan_t* plan, const tile_t* at, double* tile
) noexcept nogil


# -- tasks.pxi -----------------------------------------------------------------------------

# A task that is copied, and its size in bytes.
cdef struct model_t:
    const void* task
    Py_ssize_t size

# What a task allocates for itself.
cdef struct heap_t:
    void* blocks[4]
    int count


cdef inline double* take(heap_t* heap, Py_ssize_t count) noexcept nogil:
    """Return memory for some float64, all 0, aligned, until `free_all`; or NULL."""
    cdef void* block = calloc(count * sizeof(double) + LINE, 1)
    if block == NULL:
        return NULL
    heap.blocks[heap.count] = block
    heap.count += 1
    return aligned(block)


cdef inline void free_all(heap_t* heap) noexcept nogil:
    while heap.count:
        heap.count -= 1
        free(heap.blocks[heap.count])


cdef int share(
    Work kernel, Py_ssize_t items, Py_ssize_t elements, Py_ssize_t min_elements
) except -1
cdef int share_among(
    Work kernel, Py_ssize_t items, Py_ssize_t elements, Py_ssize_t min_elements, int num_threads
) except -1 nogil
cdef model_t model_of(Work task)
cdef void* copy_of(const model_t* model) noexcept nogil


cdef class Task(Work):
    cdef list arrays
    cdef heap_t heap
    cdef view_t x
    cdef plan_t plan
    cdef int num_threads        # of a caller without Python; else 0
    cdef bint direct, whole_rows, out_of_memory

    cdef int begin(self, object x) except -1
    cdef void cover(self) noexcept nogil
    cdef view_t view(self, object array, bint plane=*) except *
    cdef void split_rows(self) noexcept nogil
    cdef double* scratch(self, Py_ssize_t count) noexcept nogil
    cdef double* coefficients(self, object rows, Py_ssize_t room, Py_ssize_t* ld) except NULL
    cdef double* lay_lanes(
        self, const double* rows, Py_ssize_t num_rows, Py_ssize_t room, Py_ssize_t* ld
    ) noexcept nogil
    cdef Py_ssize_t first_coefficient(self, const tile_t* at) noexcept nogil
    cdef int spread(self) except -1
    cdef int visit_all(self) except -1 nogil
    cdef void walk(self, Py_ssize_t part, Py_ssize_t first, Py_ssize_t groups) noexcept nogil

    cdef void walk_runs(self, Py_ssize_t part, Py_ssize_t first, Py_ssize_t groups) noexcept nogil
    cdef void* open(self, Py_ssize_t first, Py_ssize_t groups) noexcept nogil
    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil
    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil
