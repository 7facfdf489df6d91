# Design: layer and RMS norm in native precision: a row is summed about its first value, in float64,
# and mapped in float32 while L1 holds it: y = ((x - c) * r + e) * gamma + beta, where c is the
# center rounded to float32 and e makes up for it. Every operation is rounded by itself; together
# they are within 4 units in the last place of |y - beta| + |beta|, in most arrays within 2. Rows
# that are not contiguous go through a copy, and one whose coefficients float32 cannot hold is
# mapped in float64.


cdef class RowsTask(Work):
    """Arrays of shape (N, D), spread over the pool by rows."""

    cdef list arrays
    cdef view_t x, out
    cdef Py_ssize_t num_rows, columns
    cdef const double* gamma
    cdef const float* narrow_gamma
    cdef double eps
    cdef bint centered, tame, out_of_memory     # tame: as far as vectors along rows are

    cdef int begin(self, object x, object gamma, object out, double eps, bint centered) except -1:
        self.arrays = [gamma]
        self.x, self.out = self.view(x), self.view(out)
        self.num_rows, self.columns = x.shape
        self.gamma, self.tame = doubles_of(gamma), True
        self.narrow_gamma = self.narrowed(self.gamma)
        self.eps, self.centered = eps, centered
        self.out_of_memory = False
        return 0

    cdef view_t view(self, object array) except *:
        """Describe an array and keep it alive: an interrupted caller may leave before a worker."""
        cdef view_t v
        self.arrays.append(array)
        v = view_of_rows(array)
        if v.real != FLOAT:
            raise TypeError(f"native precision takes arrays of float32, not {array.dtype}")
        return v

    cdef const float* narrowed(self, const double* vector) except NULL:
        """Return a vector along rows in float32, and note whether float32 can hold it."""
        cdef Py_ssize_t i
        array = np.empty(max(self.columns, 1), dtype=np.float32)
        cdef float* narrow = <float*> cnp.PyArray_DATA(array)
        self.arrays.append(array)
        for i in range(self.columns):
            narrow[i] = <float> vector[i]
            self.tame &= is_factor(vector[i])
        return narrow

    cdef int spread(self, Py_ssize_t items) except -1:
        """Work on all items on the shared pool."""
        share(self, items, self.num_rows * self.columns, MIN_ELEMENTS // 2)
        if self.out_of_memory:
            raise MemoryError("not enough memory for the rows in work")
        return 0

    cdef float* buffers(self, int number) noexcept nogil:
        """Return memory for copies of some rows, or NULL."""
        return <float*> malloc(max(number * self.columns, 1) * sizeof(float))

    cdef bint is_nontemporal(self) noexcept nogil:
        """Whether the output is large, and its rows are whole vectors that begin as those do."""
        return (
            self.num_rows * self.columns * sizeof(float) >= NONTEMPORAL_BYTES
            and self.columns % LANES == 0 and self.out.channel_stride == sizeof(float)
            and (<size_t> self.out.data | self.out.stride) % 16 == 0
        )


# Bytes of a result from which on it is stored past the caches.
cdef Py_ssize_t NONTEMPORAL_BYTES = 1 << 24


cdef inline char* row_of(const view_t* v, Py_ssize_t row) noexcept nogil:
    return v.data + row * v.stride


cdef inline bint has_rows(const view_t* v) noexcept nogil:
    """Whether the values of a row lie one after the other."""
    return v.channel_stride == sizeof(float) or v.channels == 1


cdef const float* gathered_row(
    const view_t* v, Py_ssize_t row, float* buffer
) noexcept nogil:
    """Return the values of a row one after the other, in place or in the buffer."""
    cdef const char* source = row_of(v, row)
    cdef Py_ssize_t i
    if has_rows(v):
        return <const float*> source
    for i in range(v.channels):
        buffer[i] = (<const float*> (source + i * v.channel_stride))[0]
    return buffer


cdef void scatter_row(const view_t* v, Py_ssize_t row, const float* buffer) noexcept nogil:
    """Write the values of a row: the mirror of `gathered_row`."""
    cdef char* target = row_of(v, row)
    cdef Py_ssize_t i
    for i in range(v.channels):
        (<float*> (target + i * v.channel_stride))[0] = buffer[i]


cdef summary_t summary_of_row(const float* x, Py_ssize_t columns) noexcept nogil:
    """Return the moments of a row."""
    cdef double sums[2 * CHAINS]
    cdef double pivot
    cdef Py_ssize_t start = 0, number, lane
    cdef summary_t total
    total.count = total.mean = total.m2 = 0.0
    while start < columns:
        number = min(columns - start, <Py_ssize_t> PART)
        for lane in range(2 * CHAINS):
            sums[lane] = 0.0
        pivot = float_pivot(x[start])
        add_run(x + start, number, pivot, sums)
        total = joined(total, summary_of(number, pivot, sum_of(sums), sum_of(sums + CHAINS)))
        start += number
    return total


cdef inline void normalize_row(
    const float* x, float* y, Py_ssize_t columns, float center, float factor, float shift,
    const float* gamma, const float* beta, bint nontemporal,
) noexcept nogil:
    """Map a row; y may be x itself."""
    cdef pack_t c = splat_pack(center), r = splat_pack(factor), e = splat_pack(shift), v
    cdef Py_ssize_t i = 0
    while i + PACK <= columns:
        v = ((load_pack(x + i) - c) * r + e) * load_pack(gamma + i) + load_pack(beta + i)
        if nontemporal:
            store_pack_nontemporal(y + i, v)
        else:
            store_pack(y + i, v)
        i += PACK
    for i in range(i, columns):
        y[i] = ((x[i] - center) * factor + shift) * gamma[i] + beta[i]


cdef class NormalizeRowsTask(RowsTask):
    cdef const double* beta
    cdef const float* narrow_beta
    cdef double* states             # (MOMENTS_ROWS, N)

    def __init__(self, x, gamma, beta, out, states, double eps, bint centered):
        self.begin(x, gamma, out, eps, centered)
        self.arrays += [beta, states]
        self.beta, self.states = doubles_of(beta), doubles_of(states)
        self.narrow_beta = self.narrowed(self.beta)

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef float* copies = self.buffers(2)
        cdef bint nontemporal = self.is_nontemporal() and self.x.data != self.out.data
        cdef Py_ssize_t row
        cdef row_scale_t scale
        cdef moments_t m
        cdef const float* x
        cdef float* y
        if copies == NULL:
            self.out_of_memory = True
            return
        for row in range(start, stop):
            x = gathered_row(&self.x, row, copies)
            store_summary(self.states + row, self.num_rows, summary_of_row(x, self.columns))
            m = load_moments(self.states + row, self.num_rows)
            scale = row_scale(&m, self.eps, self.centered)
            y = copies + self.columns
            if has_rows(&self.out):
                y = <float*> row_of(&self.out, row)
            self.map(x, y, scale.center, 1.0 / scale.scale, nontemporal)
            if not has_rows(&self.out):
                scatter_row(&self.out, row, y)
        fence()
        free(copies)

    cdef void map(
        self, const float* x, float* y, double center, double factor, bint nontemporal
    ) noexcept nogil:
        """Map a row, in float32 or, where that cannot hold what it needs, in float64."""
        cdef float c = <float> center, r = <float> factor, e = <float> ((c - center) * factor)
        cdef Py_ssize_t i
        if not (self.tame and is_factor(factor) and fabs(center) <= MOST_TAME):
            for i in range(self.columns):
                y[i] = <float> ((x[i] - center) * factor * self.gamma[i] + self.beta[i])
        elif nontemporal:
            normalize_row(
                x, y, self.columns, c, r, e, self.narrow_gamma, self.narrow_beta, True
            )
        else:
            normalize_row(
                x, y, self.columns, c, r, e, self.narrow_gamma, self.narrow_beta, False
            )


def native_normalize_rows(x, gamma, beta, out, double eps, bint centered=True):
    """Do what `normalize_rows` does, of float32 arrays."""
    states = np.zeros((MOMENTS_ROWS, x.shape[0]))
    cdef NormalizeRowsTask task = NormalizeRowsTask(
        x, as_doubles(gamma), as_doubles(beta), out, states, eps, centered
    )
    task.spread(task.num_rows)
    return states
