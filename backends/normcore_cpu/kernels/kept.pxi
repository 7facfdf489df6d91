# Design: what a walk over the data finds belongs to many lists, a few values each. Finding writes
# one stream, values and the numbers of their lists, whose end is all that is touched; how many
# values each list gets is counted on the way. So arrays of the right size can be allocated, and
# streams are dealt out to them at once, each to its own stretch, and freed.


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
    """Lists of values that are found in ranges, each in one of some groups."""

    cdef stream_t* streams              # (range, group)
    cdef object array
    cdef uint32_t* counts               # (range, list)
    cdef object dtype
    cdef Py_ssize_t ranges, groups, lists, itemsize
    cdef bint weighted
    cdef list arrays, weight_arrays

    def __cinit__(
        self, Py_ssize_t ranges, Py_ssize_t groups, Py_ssize_t lists, dtype, bint weighted
    ):
        self.ranges, self.groups, self.weighted = ranges, groups, weighted
        self.dtype = np.dtype(dtype)
        self.itemsize = self.dtype.itemsize
        self.array, self.lists = np.zeros((ranges, lists), np.uint32), lists
        self.counts = <uint32_t*> cnp.PyArray_DATA(self.array)
        self.streams = <stream_t*> calloc(max(ranges * groups, 1), sizeof(stream_t))
        if self.streams == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.streams != NULL:
            for i in range(self.ranges * self.groups):
                release(&self.streams[i])
        free(self.streams)

    cdef inline stream_t* stream(self, Py_ssize_t part, Py_ssize_t group) noexcept nogil:
        return &self.streams[part * self.groups + group]

    cdef inline uint32_t* counts_of(self, Py_ssize_t part) noexcept nogil:
        return self.counts + part * self.lists

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
        sizes = self.array.sum(0).tolist()
        self.arrays = [np.empty(size, self.dtype) for size in sizes]
        self.weight_arrays = [np.empty(size) for size in sizes] if self.weighted else None
        starts = np.cumsum(self.array, 0) - self.array
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
    cdef object value_array, weight_array
    cdef size_t* values
    cdef size_t* weights

    def __cinit__(self, Kept kept, starts):
        self.kept = kept
        starts = starts.astype(np.uintp)
        self.value_array = addresses(kept.arrays) + starts * kept.itemsize
        self.values = <size_t*> cnp.PyArray_DATA(self.value_array)
        if kept.weighted:
            self.weight_array = addresses(kept.weight_arrays) + starts * sizeof(double)
            self.weights = <size_t*> cnp.PyArray_DATA(self.weight_array)

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t part, group, lists = self.kept.lists
        cdef stream_t* stream
        for part in range(start, stop):
            for group in range(self.kept.groups):
                stream = self.kept.stream(part, group)
                if not stream.size:
                    continue
                if self.kept.itemsize == sizeof(float):
                    deal(<const float*> stream.values, stream, self.values + part * lists)
                else:
                    deal(<const double*> stream.values, stream, self.values + part * lists)
                    if self.kept.weighted:
                        deal(<const double*> stream.weights, stream, self.weights + part * lists)
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
    result = np.empty(len(arrays), np.uintp)
    cdef size_t* found = <size_t*> cnp.PyArray_DATA(result)
    for i in range(len(arrays)):
        found[i] = <size_t> cnp.PyArray_DATA(arrays[i])
    return result
