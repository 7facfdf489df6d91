from normcore_cpu.tiles cimport plan_t, tile_t, view_t


cdef class Task:
    cdef list arrays
    cdef view_t x
    cdef plan_t plan

    cdef void visit(self, Py_ssize_t part, const tile_t* at) noexcept nogil
    cdef int begin(self, object x) except -1
    cdef view_t view(self, object array, bint plane=*) except *
    cdef int spread(self) except -1
