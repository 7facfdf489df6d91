from normcore.threads.pool cimport Work

from .tiles cimport plan_t, tile_t
from .views cimport view_t

cdef int share(
    Work kernel, Py_ssize_t items, Py_ssize_t elements, Py_ssize_t min_elements
) except -1


cdef class Task(Work):
    cdef list arrays
    cdef view_t x
    cdef plan_t plan
    cdef bint direct, whole_rows, out_of_memory

    cdef int begin(self, object x) except -1
    cdef view_t view(self, object array, bint plane=*) except *
    cdef void split_rows(self) noexcept
    cdef double* scratch(self, Py_ssize_t count) except NULL
    cdef double* numbers(self, object rows, Py_ssize_t room, Py_ssize_t* across) except NULL
    cdef Py_ssize_t first_number(self, const tile_t* at) noexcept nogil
    cdef int spread(self) except -1
    cdef void walk(self, Py_ssize_t part, Py_ssize_t first, Py_ssize_t groups) noexcept nogil

    cdef void walk_runs(self, Py_ssize_t part, Py_ssize_t first, Py_ssize_t groups) noexcept nogil
    cdef void* open(self, Py_ssize_t first, Py_ssize_t groups) noexcept nogil
    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil
    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil
