# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: what a walk over the data finds belongs to many lists, a few values each. Finding writes
# one stream, values and the numbers of their lists, whose end is all that is touched; how many
# values each list gets is counted on the way. So arrays of the right size can be allocated, and
# streams are dealt out to them at once, each to its own stretch, and freed.

import numpy as np

cimport numpy as cnp
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, realloc

from normcore.threads import run
from normcore.threads.pool cimport Work

from .lanes cimport real

__all__ = []  # for other kernels only, by cimport

cnp.import_array()


cdef class Kept:
    """Lists of values that are found in ranges, each in one of some groups."""

    def __cinit__(
        self, Py_ssize_t ranges, Py_ssize_t groups, Py_ssize_t lists, dtype, bint weighted
    ):
        self.ranges, self.groups, self.weighted = ranges, groups, weighted
        self.dtype = np.dtype(dtype)
        self.itemsize = self.dtype.itemsize
        self.counts = np.zeros((ranges, lists), np.uint32)
        self.streams = <stream_t*> calloc(max(ranges * groups, 1), sizeof(stream_t))
        if self.streams == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.streams != NULL:
            for i in range(self.ranges * self.groups):
                release(&self.streams[i])
        free(self.streams)

    cdef bint reserve(self, stream_t* stream, Py_ssize_t more) noexcept nogil:
        """Make room for more values; return whether there is."""
        cdef Py_ssize_t capacity
        cdef void* block
        if stream.size + more <= stream.capacity:
            return True
        capacity = max(2 * stream.capacity, stream.size + max(more, ROOM))
        block = realloc(stream.values, capacity * self.itemsize)
        if block == NULL:
            return False
        stream.values = <char*> block
        block = realloc(stream.lists, capacity * sizeof(uint32_t))
        if block == NULL:
            return False
        stream.lists = <uint32_t*> block
        if self.weighted:
            block = realloc(stream.weights, capacity * sizeof(double))
            if block == NULL:
                return False
            stream.weights = <double*> block
        stream.capacity = capacity
        return True

    cdef int join(self) except -1:
        """Deal the streams out to arrays, and free them."""
        counts = np.asarray(self.counts)
        sizes = counts.sum(0).tolist()
        self.arrays = [np.empty(size, self.dtype) for size in sizes]
        self.weight_arrays = [np.empty(size) for size in sizes] if self.weighted else None
        starts = np.cumsum(counts, 0) - counts
        run(Deal(self, starts), self.ranges)
        return 0


cdef void release(stream_t* stream) noexcept nogil:
    free(stream.values)
    free(stream.weights)
    free(stream.lists)
    stream.values, stream.weights, stream.lists = NULL, NULL, NULL
    stream.size = stream.capacity = 0


cdef class Deal(Work):
    """Deal the streams of ranges out."""

    cdef Kept kept
    # Addresses (range, list) of what comes next.
    cdef size_t[:, ::1] values
    cdef size_t[:, ::1] weights

    def __cinit__(self, Kept kept, starts):
        self.kept = kept
        self.values = addresses(kept.arrays) + starts.astype(np.uintp) * kept.itemsize
        if kept.weighted:
            self.weights = addresses(kept.weight_arrays) + starts.astype(np.uintp) * sizeof(double)

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t part, group
        cdef stream_t* stream
        for part in range(start, stop):
            for group in range(self.kept.groups):
                stream = self.kept.stream(part, group)
                if not stream.size:
                    continue
                if self.kept.itemsize == sizeof(float):
                    deal(<const float*> stream.values, stream, &self.values[part, 0])
                else:
                    deal(<const double*> stream.values, stream, &self.values[part, 0])
                    if self.kept.weighted:
                        deal(<const double*> stream.weights, stream, &self.weights[part, 0])
                release(stream)


cdef void deal(const real* values, const stream_t* stream, size_t* next) noexcept nogil:
    cdef Py_ssize_t i
    cdef real* target
    for i in range(stream.size):
        target = <real*> next[stream.lists[i]]
        target[0] = values[i]
        next[stream.lists[i]] = <size_t> (target + 1)


cdef object addresses(list arrays):
    cdef Py_ssize_t i
    cdef size_t[::1] found = np.empty(len(arrays), np.uintp)
    for i in range(len(arrays)):
        found[i] = <size_t> cnp.PyArray_DATA(arrays[i])
    return np.asarray(found)
