from .pool_state cimport job_t, pool_t

cdef pool_t pool

cdef class Work:
    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

cdef void run_in_pool(job_t* job) noexcept nogil
