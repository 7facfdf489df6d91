from .running cimport running_t

cdef void settle(running_t* s) noexcept nogil
cdef void finish(running_t* s, double* parts) noexcept nogil
