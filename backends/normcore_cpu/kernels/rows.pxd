from normcore.threads.pool cimport Work

from .views cimport view_t


cdef class RowsTask(Work):
    cdef list arrays
    cdef view_t x, out
    cdef Py_ssize_t num_rows, columns, group
    cdef double eps
    cdef bint centered, stream, out_of_memory

    cdef int begin(self, object x, object out, double eps, bint centered) except -1
    cdef view_t view(self, object array) except *
    cdef int spread(self, Py_ssize_t items) except -1
    cdef bint streams(self, Py_ssize_t row) noexcept nogil


cdef void gather_block(
    const view_t* x, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns,
    double* copy, Py_ssize_t across,
) noexcept nogil
cdef void scatter_block(
    const view_t* out, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns,
    const double* copy, Py_ssize_t across,
) noexcept nogil
cdef bint in_place(const view_t* array) noexcept nogil
cdef object aligned_zeros(Py_ssize_t size)
cdef object padded_vector(object vector)
