# Design: layer and RMS norm, with one read and one write of memory. A few rows at a time are
# widened to float64 into a copy that fits into L1; there their moments are found,
# from there they are mapped into the result. Longer rows are swept twice, block by block. The map
# is ((x - center) * (1 / scale)) * gamma + beta, each operation rounded once in float64 and the
# result once more to its dtype; contiguous float32 and float64 are written directly, a large
# result by non-temporal stores. What is written has been read before, so the output may be the
# input.

cdef enum:
    GROUP_BYTES = 2 << 13   # of the copy
    # Elements below which another thread costs more than it saves.
    MIN_ELEMENTS = 1 << 14


cdef bint in_place(const view_t* array) noexcept nogil:
    """Whether rows can be read and written where they are."""
    return array.real != OTHER and (
        array.channel_stride == array.itemsize or array.channels == 1
    )


cdef void gather_block(
    const view_t* x, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns,
    double* copy, Py_ssize_t ld,
) noexcept nogil:
    """Convert some columns of rows to float64; rows of the copy are `ld` apart."""
    x.load(
        x.data + row * x.stride + column * x.channel_stride, x.stride, rows, x.channel_stride,
        columns, copy, ld,
    )


cdef void scatter_block(
    const view_t* out, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns,
    const double* copy, Py_ssize_t ld,
) noexcept nogil:
    """Round some columns of rows into an array: the mirror of `gather_block`."""
    out.store(
        out.data + row * out.stride + column * out.channel_stride, out.stride, rows,
        out.channel_stride, columns, copy, ld,
    )


cdef class RowsTask(Work):
    """What forward and backward share: arrays of shape (N, D), spread over the pool by rows."""

    cdef list arrays
    cdef heap_t heap
    cdef view_t x, out
    cdef Py_ssize_t num_rows, columns, group
    cdef double eps
    cdef int num_threads            # of a caller without Python; else 0
    cdef bint centered, nontemporal, out_of_memory

    def __dealloc__(self):
        free_all(&self.heap)

    cdef int describe(self, object x, object out) except -1:
        self.arrays = []
        self.x, self.out = self.view(x), self.view(out)
        return 0

    cdef void begin(self, double eps, bint centered) noexcept nogil:
        self.num_rows, self.columns = self.x.positions, self.x.channels
        self.eps, self.centered = eps, centered
        self.nontemporal = self.num_rows * self.columns * self.out.itemsize >= NONTEMPORAL_BYTES
        self.out_of_memory = False

    cdef view_t view(self, object array) except *:
        """Describe an array and keep it alive: an interrupted caller may leave before a worker."""
        self.arrays.append(array)
        return view_of_rows(array)

    cdef double* scratch(self, Py_ssize_t count) noexcept nogil:
        """Return memory for some float64, all 0, aligned, that lives as long as the task."""
        cdef double* memory = take(&self.heap, count)
        if memory == NULL:
            self.out_of_memory = True
        return memory

    cdef double* padded_vector(self, const view_t* vector) noexcept nogil:
        """Copy a vector over columns such that it can be read in whole vectors of lanes."""
        cdef double* copy = self.scratch(padded(self.columns))
        if copy != NULL:
            gather_block(vector, 0, 1, 0, self.columns, copy, 0)
        return copy

    cdef int spread(self, Py_ssize_t items) except -1 nogil:
        """Work on all items on the shared pool."""
        return share_among(
            self, items, self.num_rows * self.columns, MIN_ELEMENTS, self.num_threads
        )

    cdef int refuse_out_of_memory(self) except -1:
        if self.out_of_memory:
            raise MemoryError("not enough memory for the rows in work")
        return 0

    cdef bint writes_nontemporal(self, Py_ssize_t row) noexcept nogil:
        """Whether rows from this one on can be stored non-temporally."""
        return (
            self.nontemporal and self.columns % WIDTH == 0
            and (<size_t> (self.out.data + row * self.out.stride) | self.out.stride) % 16 == 0
        )


cdef inline void normalize_row(
    const double* x, real* y, Py_ssize_t columns, row_scale_t row, const double* gamma,
    const double* beta, bint nontemporal,
) noexcept nogil:
    cdef lanes_t v, center = splat(row.center), factor = splat(1.0 / row.scale)
    cdef real rest[WIDTH]
    cdef Py_ssize_t i = 0, k
    while i < columns:
        v = (load_double(x + i) - center) * factor * load_double(gamma + i) + load_double(beta + i)
        if nontemporal:
            store_nontemporal(y + i, v)
        elif i + WIDTH <= columns:
            store(y + i, v)
        else:
            store(<real*> rest, v)
            for k in range(columns - i):
                y[i + k] = rest[k]
        i += WIDTH


cdef class NormalizeRowsTask(RowsTask):
    cdef const double* gamma
    cdef const double* beta
    cdef object array
    cdef double* states             # (MOMENTS_ROWS, row)
    cdef Py_ssize_t ahead           # of a row in work, in elements: what is prefetched
    cdef bint float_input, in_place

    def __init__(self, x, gamma, beta, out, double eps, bint centered):
        self.describe(x, out)
        cdef view_t weight = self.view(gamma[None, :]), shift = self.view(beta[None, :])
        self.array = np.zeros((MOMENTS_ROWS, self.x.positions))
        self.states = doubles_of(self.array)
        self.set_up(&weight, &shift, eps, centered)
        self.refuse_out_of_memory()

    cdef void set_up(
        self, const view_t* gamma, const view_t* beta, double eps, bint centered
    ) noexcept nogil:
        self.begin(eps, centered)
        self.ahead = self.x.stride // self.x.itemsize
        self.float_input = self.x.real == FLOAT and in_place(&self.x)
        self.in_place = in_place(&self.out)
        self.nontemporal = self.nontemporal and self.in_place and self.x.data != self.out.data
        self.group = max(1, min(
            <Py_ssize_t> GROUP, GROUP_BYTES // <Py_ssize_t> sizeof(double) // max(self.columns, 1)
        ))
        self.set_vectors(gamma, beta)

    cdef void set_vectors(self, const view_t* gamma, const view_t* beta) noexcept nogil:
        self.gamma, self.beta = self.padded_vector(gamma), self.padded_vector(beta)

    cdef int run(self) except -1 nogil:
        return self.spread(self.num_rows)

    cdef bint run_for(
        self, const view_t* x, const view_t* gamma, const view_t* beta, const view_t* out,
        double eps, bint centered, int num_threads, double* states,
    ) noexcept nogil:
        """Normalize rows without Python; return False without memory."""
        self.x, self.out, self.num_threads, self.states = x[0], out[0], num_threads, states
        self.set_up(gamma, beta, eps, centered)
        if not self.out_of_memory:
            self.run()
        return not self.out_of_memory

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t block = min(self.columns, <Py_ssize_t> BLOCK), row = start, rows
        cdef void* memory = malloc(self.group * padded(block) * sizeof(double) + LINE)
        cdef bint nontemporal = self.writes_nontemporal(start)
        if memory == NULL:
            self.out_of_memory = True
            return
        while row < stop:
            rows = min(stop - row, self.group)
            self.normalize(row, rows, aligned(memory), nontemporal)
            row += rows
        fence()
        free(memory)

    cdef void normalize(
        self, Py_ssize_t first, Py_ssize_t rows, double* copy, bint nontemporal
    ) noexcept nogil:
        """Normalize some rows, or a single one of any length."""
        cdef moments_t states[GROUP]
        cdef moments_t more
        cdef row_scale_t scales[GROUP]
        cdef Py_ssize_t row, column = BLOCK
        self.observe(first, rows, 0, copy, states)
        while column < self.columns:
            self.observe(first, 1, column, copy, &more)
            states[0] = merged(states[0], more)
            column += BLOCK
        for row in range(rows):
            scales[row] = row_scale(&states[row], self.eps, self.centered)
            store_moments(self.states + first + row, self.num_rows, states[row])
        column = 0
        while column < self.columns:
            if self.columns > BLOCK:
                gather_block(&self.x, first, 1, column, self.block(column), copy, 0)
            self.map(
                first, rows, column, copy, scales, self.gamma + column, self.beta + column,
                nontemporal,
            )
            column += BLOCK

    cdef Py_ssize_t block(self, Py_ssize_t column) noexcept nogil:
        return min(self.columns - column, <Py_ssize_t> BLOCK)

    cdef void observe(
        self, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t column, double* copy, moments_t* states
    ) noexcept nogil:
        """Copy a block of rows and find its moments."""
        cdef double sums[GROUP]
        cdef double units[GROUP]
        cdef Py_ssize_t row, columns = self.block(column)
        if not self.float_input:
            gather_block(&self.x, first, rows, column, columns, copy, padded(columns))
            row_moments(copy, rows, columns, NULL, NULL, states)
            return
        for row in range(rows):
            sums[row] = widened_sum(
                <const float*> (self.x.data + (first + row) * self.x.stride) + column, columns,
                rows * self.ahead, copy + row * padded(columns), &units[row],
            )
        row_moments(copy, rows, columns, sums, units, states)

    cdef void map(
        self, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t column, double* copy,
        const row_scale_t* scales, const double* gamma, const double* beta, bint nontemporal,
    ) noexcept nogil:
        """Map a block of rows from the copy into the result."""
        cdef Py_ssize_t row, columns = self.block(column)
        cdef double* x = copy
        cdef char* y = self.out.data + first * self.out.stride + column * self.out.channel_stride
        for row in range(rows):
            if not self.in_place:
                normalize_row(x, x, columns, scales[row], gamma, beta, False)
            elif self.out.real == DOUBLE:
                normalize_row(x, <double*> y, columns, scales[row], gamma, beta, nontemporal)
            elif nontemporal:
                normalize_row(x, <float*> y, columns, scales[row], gamma, beta, True)
            else:
                normalize_row(x, <float*> y, columns, scales[row], gamma, beta, False)
            x += padded(columns)
            y += self.out.stride
        if not self.in_place:
            scatter_block(&self.out, first, rows, column, columns, copy, padded(columns))
