cdef int num_threads_for(int asked) noexcept nogil
