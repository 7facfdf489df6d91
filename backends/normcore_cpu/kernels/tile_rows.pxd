from .tiles cimport plan_t, tile_t
from .views cimport view_t

# The rows of a tile, of float or double.
cdef struct rows_t:
    char* data
    Py_ssize_t stride       # in elements
    Py_ssize_t ahead        # the rows to ask for while these are read
    int real
    const char* next        # what to ask for in the order of memory: as many rows ...
    Py_ssize_t apart        # ... this many bytes from each other

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
    const double* rows, Py_ssize_t num_rows, Py_ssize_t channels, Py_ssize_t fold, double* lanes,
    Py_ssize_t across,
) noexcept nogil
cdef void zero_where(
    const view_t* mask, const plan_t* plan, const tile_t* at, double* tile
) noexcept nogil
