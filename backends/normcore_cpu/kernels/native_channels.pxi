# Design: how a task over channels meets its arrays, (N, C, S) of float32. Where channels are next
# to each other in memory in all of them, some strips of 16 are an item, whose rows are read and
# written in place. Everything else is one channel an item, in tiles of positions: in place where
# they are contiguous and whole, or else gathered into a buffer and scattered from it. Position p
# has the same lane either way, and what becomes of a channel depends on nothing beside it.

cdef enum:
    RUN = 1024      # positions of a tile, whole rows of lanes
    STRIPS = 16     # of an item, at most: as many bytes of a row as are worth reading at once
    SLAB = STRIPS * LANES

# Elements below which another thread costs more than it saves.
cdef Py_ssize_t MIN_ELEMENTS = 1 << 15


cdef inline char* position(const view_t* v, Py_ssize_t channel, Py_ssize_t p) noexcept nogil:
    """Return the address of an element."""
    cdef char* start = v.data + channel * v.channel_stride
    if v.runs == 1:
        return start + p * v.stride
    return start + p // v.length * v.run_stride + p % v.length * v.stride


cdef inline float* run_in_place(
    const view_t* v, Py_ssize_t channel, Py_ssize_t p, Py_ssize_t number
) noexcept nogil:
    """Return where positions from p on lie one after the other, or NULL."""
    if v.stride != sizeof(float) or (v.runs != 1 and p % v.length + number > v.length):
        return NULL
    return <float*> position(v, channel, p)


cdef const float* gathered(
    const view_t* v, Py_ssize_t channel, Py_ssize_t p, Py_ssize_t number, float* buffer
) noexcept nogil:
    """Return positions from p on one after the other, in place or in the buffer."""
    cdef const float* found = run_in_place(v, channel, p, number)
    cdef const char* source
    cdef Py_ssize_t i = 0, j, more
    if found != NULL:
        return found
    while i < number:
        more = min(number - i, v.length - (p + i) % v.length)
        source = position(v, channel, p + i)
        if v.stride == sizeof(float):
            memcpy(buffer + i, source, more * sizeof(float))
        else:
            for j in range(more):
                buffer[i + j] = (<const float*> (source + j * v.stride))[0]
        i += more
    return buffer


cdef void scatter_floats(
    const view_t* v, Py_ssize_t channel, Py_ssize_t p, Py_ssize_t number, const float* buffer
) noexcept nogil:
    """Write positions from p on: the mirror of `gathered`."""
    cdef char* target
    cdef Py_ssize_t i = 0, j, more
    while i < number:
        more = min(number - i, v.length - (p + i) % v.length)
        target = position(v, channel, p + i)
        if v.stride == sizeof(float):
            memcpy(target, buffer + i, more * sizeof(float))
        else:
            for j in range(more):
                (<float*> (target + j * v.stride))[0] = buffer[i + j]
        i += more


cdef class ChannelsTask(Work):
    """Work on channels by themselves, in slabs of strips where they lie side by side."""

    cdef list arrays
    cdef view_t x, out
    cdef Py_ssize_t positions, channels, strips, slabs
    cdef bint reduces, writes

    cdef int begin(self, object x, object out, bint reduces) except -1:
        self.arrays = []
        self.x = self.view(x)
        self.positions, self.channels = self.x.positions, self.x.channels
        self.reduces, self.writes = reduces, out is not None
        self.strips = self.channels // LANES if is_across(&self.x) else 0
        if self.writes:
            self.out = self.view(out)
            if not is_across(&self.out):
                self.strips = 0
        return 0

    cdef view_t view(self, object array) except *:
        """Describe an array and keep it alive: an interrupted caller may leave before a worker."""
        cdef view_t v
        self.arrays.append(array)
        v = view_of(array)
        if v.real != FLOAT:
            raise TypeError(f"native precision takes arrays of float32, not {array.dtype}")
        if v.runs > 1 and v.run_stride == v.length * v.stride:
            v.length, v.runs, v.run_stride = v.positions, 1, 0
        return v

    cdef int spread(self) except -1:
        # As wide as can be, as rows are read in the order of memory, but one for each thread.
        cdef Py_ssize_t threads = get_num_threads()
        self.slabs = max(min(self.strips, threads), (self.strips + STRIPS - 1) // STRIPS)
        share(
            self, self.slabs + self.channels - self.strips * LANES,
            self.positions * self.channels, MIN_ELEMENTS,
        )
        return 0

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t item, first, last
        for item in range(start, stop):
            if item < self.slabs:
                first = self.strips * item // self.slabs
                last = self.strips * (item + 1) // self.slabs
                self.slab(first * LANES, last - first)
            else:
                self.channel(item - self.slabs + self.strips * LANES)

    cdef void slab(self, Py_ssize_t first, Py_ssize_t strips) noexcept nogil:
        """Work on strips of channels side by side."""

    cdef void channel(self, Py_ssize_t channel) noexcept nogil:
        """Work on one channel."""


cdef inline bint is_across(const view_t* v) noexcept nogil:
    """Whether channels lie side by side, in rows that are a fixed distance apart."""
    return v.channel_stride == sizeof(float) and v.runs == 1
