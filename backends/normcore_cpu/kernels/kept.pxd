from libc.stdint cimport uint32_t

cdef enum:
    ROOM = 4096  # values

# Values as they are found, each with the number of its list.
cdef struct stream_t:
    char* values
    double* weights     # of them, or NULL
    uint32_t* lists
    Py_ssize_t size
    Py_ssize_t capacity


cdef class Kept:
    cdef stream_t* streams              # (range, group)
    cdef uint32_t[:, ::1] counts        # (range, list)
    cdef object dtype
    cdef Py_ssize_t ranges, groups, itemsize
    cdef bint weighted
    cdef list arrays, weight_arrays

    cdef inline stream_t* stream(self, Py_ssize_t part, Py_ssize_t group) noexcept nogil:
        return &self.streams[part * self.groups + group]

    cdef bint reserve(self, stream_t* stream, Py_ssize_t more) noexcept nogil
    cdef int join(self) except -1
