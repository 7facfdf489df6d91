# Design: what is taken from an array by position lies channel by channel, in the array's own
# dtype where that is float32 or float64 and in float64 otherwise. Blocks of positions are read row
# by row and written run by run, both from the cache. Ranks are found in whole lists, each by one
# thread, with room that is allocated once a range of lists.

cdef enum:
    BLOCK = 64          # positions, where channels are closest in memory
    LONG_BLOCK = 2048   # where positions are
    # Elements below which another thread costs more than it saves.
    MIN_ELEMENTS = 1 << 15


cdef object indices_of(object positions):
    """Return indices in C order; numbers that are none raise."""
    return cnp.PyArray_FROM_OTF(positions, cnp.NPY_INTP, cnp.NPY_ARRAY_CARRAY_RO)


# -- by position ---------------------------------------------------------------------------


cdef class Columns(Work):
    """Take positions of an array channel by channel."""

    cdef view_t x
    cdef object array, values, positions
    cdef const Py_ssize_t* taken    # or all
    cdef Py_ssize_t count, block
    cdef bint all
    cdef char* out

    def __init__(self, x, taken):
        cdef view_t* v = &self.x
        self.array, v[0] = x, view_of(x)
        self.all = taken is None
        if not self.all:
            self.positions = indices_of(taken)
            self.taken = <const Py_ssize_t*> cnp.PyArray_DATA(self.positions)
        self.count = v.positions if self.all else len(self.positions)
        self.block = BLOCK if v.channel_stride == v.itemsize else LONG_BLOCK
        dtype = np.float32 if v.real == FLOAT else np.float64
        self.values = np.empty((v.channels, self.count), dtype)
        self.out = <char*> cnp.PyArray_DATA(self.values)

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t block
        for block in range(start, stop):
            if self.x.real == FLOAT:
                self.take(block * self.block, <float*> self.out)
            else:
                self.take(block * self.block, <double*> self.out)

    cdef inline const char* address(self, Py_ssize_t i) noexcept nogil:
        cdef Py_ssize_t position = i if self.all else self.taken[i]
        return self.x.data + (
            position // self.x.length * self.x.run_stride + position % self.x.length * self.x.stride
        )

    cdef void take(self, Py_ssize_t first, real* out) noexcept nogil:
        cdef const char* source[LONG_BLOCK]
        cdef Py_ssize_t i, channel, count = min(self.block, self.count - first)
        cdef Py_ssize_t offset
        cdef double value
        for i in range(count):
            source[i] = self.address(first + i)
        if self.x.channel_stride == sizeof(real) and not self.all:
            for i in range(first + count, min(first + 2 * count, self.count)):
                offset = 0
                while offset < self.x.channels * <Py_ssize_t> sizeof(real):
                    prefetch(self.address(i) + offset)
                    offset += LINE
        out = out + first
        for channel in range(self.x.channels):
            offset = channel * self.x.channel_stride
            if self.all and self.block == BLOCK and offset % LINE == 0:
                for i in range(count):
                    prefetch(source[i] + offset + LINE)
            if self.x.real != OTHER:
                for i in range(count):
                    out[i] = (<const real*> (source[i] + offset))[0]
            else:
                for i in range(count):
                    self.x.load(source[i] + offset, 0, 1, 0, 1, &value, 0)
                    out[i] = <real> value
            out = out + self.count


def channel_values(x, taken=None):
    """Return the values at some positions of an (N, C, S) array, or at all, as (C, P).

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    taken : intp array of shape (P,), optional
        Positions n * S + s.
    """
    cdef Columns work = Columns(x, taken)
    cdef Py_ssize_t blocks = (work.count + work.block - 1) // work.block
    run(work, blocks, min_items=max(1, MIN_ELEMENTS // max(1, work.block * work.x.channels)))
    return work.values


cdef class Numbers(Work):
    """Move the numbers of each row to its front."""

    cdef object array
    cdef char* data
    cdef Py_ssize_t length
    cdef bint narrow
    cdef object counts_array
    cdef double* counts             # of numbers, then of infinities
    cdef Py_ssize_t num_rows

    def __init__(self, values):
        self.array, self.data = values, <char*> cnp.PyArray_DATA(values)
        self.length = values.shape[1]
        self.narrow = values.dtype == np.float32
        self.num_rows = values.shape[0]
        self.counts_array = np.zeros((2, self.num_rows))
        self.counts = doubles_of(self.counts_array)

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t row
        for row in range(start, stop):
            if self.narrow:
                self.compact(<float*> self.data + row * self.length, row)
            else:
                self.compact(<double*> self.data + row * self.length, row)

    cdef void compact(self, real* values, Py_ssize_t row) noexcept nogil:
        cdef Py_ssize_t i = 0, size = 0, infinite = 0, rows
        cdef real value
        while i + LANES <= self.length:  # nothing moves before the first NaN
            rows = min((self.length - i) // LANES, <Py_ssize_t> SIFT_ROWS)
            if not all_finite(
                values + i, <Py_ssize_t> LANES, rows, <const char*> (values + i + rows * LANES),
                LANES * <Py_ssize_t> sizeof(real), <real*> NULL,
            ):
                break
            i += rows * LANES
        size = i
        for i in range(size, self.length):
            value = values[i]
            values[size] = value
            size += value == value
            infinite += fabs(value) == INFINITY
        self.counts[row], self.counts[self.num_rows + row] = size, infinite


def count_numbers(values):
    """Move NaN to the end of each row of a (C, P) array; return the numbers and infinities left.

    Two float64 arrays of shape (C,).
    """
    cdef Numbers work = Numbers(values)
    run(work, len(values), min_items=max(1, MIN_ELEMENTS // max(1, values.shape[1])))
    return work.counts_array


# -- by rank ---------------------------------------------------------------------------


cdef class Selection(Work):
    """Find two ranks in each of some lists, which may lie in several pieces."""

    cdef list arrays
    cdef bint narrow
    cdef const char** pieces
    cdef Py_ssize_t* lengths
    cdef Py_ssize_t* starts         # of lists, in the pieces
    cdef Py_ssize_t num_lists, longest
    cdef const Py_ssize_t* first
    cdef const Py_ssize_t* second
    cdef object found_array
    cdef double* found              # at the first ranks, then at the second
    cdef bint out_of_memory

    def __cinit__(self, Py_ssize_t num_lists, Py_ssize_t num_pieces, dtype, first, second):
        self.num_lists, self.longest = num_lists, 0
        self.arrays = [
            np.ascontiguousarray(each, dtype=np.intp).reshape(-1) for each in (first, second)
        ]
        if len(self.arrays[0]) != num_lists or len(self.arrays[1]) != num_lists:
            raise ValueError("there must be as many ranks as lists")
        self.first = <const Py_ssize_t*> cnp.PyArray_DATA(self.arrays[0])
        self.second = <const Py_ssize_t*> cnp.PyArray_DATA(self.arrays[1])
        self.narrow = dtype == np.float32
        self.found_array = np.full((2, num_lists), NAN)
        self.found = doubles_of(self.found_array)
        self.out_of_memory = False
        self.pieces = <const char**> calloc(num_pieces + 1, sizeof(char*))
        self.lengths = <Py_ssize_t*> calloc(num_pieces + 1, sizeof(Py_ssize_t))
        self.starts = <Py_ssize_t*> calloc(num_lists + 1, sizeof(Py_ssize_t))
        if self.pieces == NULL or self.lengths == NULL or self.starts == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.pieces)
        free(self.lengths)
        free(self.starts)

    cdef inline Py_ssize_t length_of(self, Py_ssize_t i) noexcept nogil:
        cdef Py_ssize_t piece, length = 0
        for piece in range(self.starts[i], self.starts[i + 1]):
            length += self.lengths[piece]
        return length

    cdef object spread(self):
        cdef Py_ssize_t i, total = 0, length
        for i in range(self.num_lists):
            length = self.length_of(i)
            self.longest = max(self.longest, length)
            total += length
        run(self, self.num_lists, min_items=max(1, self.num_lists * MIN_ELEMENTS // max(1, total)))
        if self.out_of_memory:
            raise MemoryError("not enough memory to select values by rank")
        return self.found_array

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef size_t itemsize = sizeof(float) if self.narrow else sizeof(double)
        cdef void* room = malloc(max(4 * self.longest, 1) * itemsize)
        cdef Py_ssize_t i
        if room == NULL:
            self.out_of_memory = True
            return
        for i in range(start, stop):
            if self.narrow:
                self.find(i, <float*> room)
            else:
                self.find(i, <double*> room)
        free(room)

    cdef void find(self, Py_ssize_t i, real* room) noexcept nogil:
        cdef Py_ssize_t count = self.length_of(i), first = self.first[i], second = self.second[i]
        cdef Py_ssize_t piece, size = 0
        cdef const real* x = room
        cdef real a, b
        if count == 0:
            return
        if self.starts[i + 1] - self.starts[i] == 1:
            x = <const real*> self.pieces[self.starts[i]]
        else:
            for piece in range(self.starts[i], self.starts[i + 1]):
                memcpy(room + size, self.pieces[piece], self.lengths[piece] * sizeof(real))
                size += self.lengths[piece]
        first, second = max(0, min(first, count - 1)), max(0, min(second, count - 1))
        if second <= first + 1:
            select(x, count, first, second, room + self.longest, &a, &b)
        else:
            select_apart(x, count, first, second, room + self.longest, &a, &b)
        self.found[i], self.found[self.num_lists + i] = a, b


def values_at_ranks(values, counts, first, second):
    """Return the values of two ranks of each row of a (C, P) array.

    Parameters
    ----------
    values : C-contiguous float32 or float64 array of shape (C, P)
        Numbers come first.
    counts : array of shape (C,)
        How many they are; a row without any has NaN at every rank.
    first, second : arrays of shape (R, C)
        ``first <= second``; ranks beyond the numbers are those of the ends.
    """
    cdef Py_ssize_t i, row, num_ranks = first.shape[0], num_lists = first.size
    cdef Py_ssize_t stride = values.strides[0]
    cdef const char* data = <const char*> cnp.PyArray_DATA(values)
    counts = np.ascontiguousarray(counts, dtype=np.intp)
    cdef const Py_ssize_t* lengths = <const Py_ssize_t*> cnp.PyArray_DATA(counts)
    # All ranks of a row follow each other, while it is in the cache.
    cdef Selection work = Selection(num_lists, num_lists, values.dtype, first.T, second.T)
    for i in range(num_lists):
        row = i // num_ranks
        work.pieces[i], work.lengths[i] = data + row * stride, lengths[row]
        work.starts[i + 1] = i + 1
    return work.spread().reshape(2, -1, num_ranks).swapaxes(1, 2)


def values_at_ranks_of_lists(list lists, first, second):
    """Return the values of two ranks of each of some lists of numbers.

    Parameters
    ----------
    lists : list of lists of arrays of one dimension
        The pieces of each list.
    first, second : arrays of shape (number of lists,)
        As for `values_at_ranks`.
    """
    cdef Py_ssize_t i, piece = 0
    cdef Selection work
    dtype = np.dtype(np.float32)
    for pieces in lists:
        for each in pieces:
            if each.dtype != dtype:
                dtype = np.dtype(np.float64)
    work = Selection(len(lists), sum(map(len, lists)), dtype, first, second)
    for i, pieces in enumerate(lists):
        for each in pieces:
            each = np.ascontiguousarray(each, dtype=dtype)
            work.arrays.append(each)
            work.pieces[piece] = <const char*> cnp.PyArray_DATA(each)
            work.lengths[piece] = len(each)
            piece += 1
        work.starts[i + 1] = piece
    return work.spread()
