# Design: the backward pass of layer and RMS norm, with one read of dy and x and one write of dx.
#
#   a) Two rows at a time, g = dy * gamma and x - center are kept in a copy, if that fits into the
#      L1, while sum(g) and sum(g * (x - center)) of each row are taken, and dy and
#      dy * (x - center) / scale are added to the sums of the columns.
#   b) From the copy, dx = a * g - (b + d * (x - center)) as in batch norm's backward, in float64
#      and rounded once to the result. Longer rows of float32, of whole lanes, are not copied but
#      read again from the caches. All others are copied, beyond a block once more block by block.
#
# The sums of a row are taken in 16 lanes, 32 steps at most before they go to a sum in two parts;
# those of a column row by row, 64 rows before they do. A range of rows has column sums of its
# own, and ranges are added up in order: they depend on the shape alone, so the bits do too. Rows
# of the copy and of the sums are a little further sums_ld than they are long, lest a power of two
# pushes them out of L1.

cdef enum:
    SUM_COLUMNS = 512   # of a row, before its sums go to two parts
    SUM_ROWS = 64       # of a column
    FEW_COLUMNS = 512   # whose copy fits into L1 beside all else
    MAX_RANGES = 64
    SUMS_BYTES = 1 << 22    # of column sums, unless one for each thread is more
    # Rows of the column sums of a range: as they grow, and in two parts.
    DGAMMA = 0, DBETA = 1, DGAMMA_HI = 2, DGAMMA_LO = 3, DBETA_HI = 4, DBETA_LO = 5, COLUMN_SUMS = 6


cdef void settle_columns(double* sums, Py_ssize_t ld) noexcept nogil:
    """Move the column sums of some rows to those in two parts."""
    cdef Py_ssize_t i = 0
    while i < ld:
        add_sum(
            sums + DGAMMA_HI * ld + i, sums + DGAMMA_LO * ld + i,
            load_double(sums + DGAMMA * ld + i),
        )
        add_sum(
            sums + DBETA_HI * ld + i, sums + DBETA_LO * ld + i,
            load_double(sums + DBETA * ld + i),
        )
        i += WIDTH
    memset(sums, 0, 2 * ld * sizeof(double))


cdef int threads_as_set() noexcept with gil:
    return get_num_threads()


cdef class NormalizeRowsBackwardTask(RowsTask):
    cdef view_t dy
    cdef const double* gamma
    cdef const double* states       # (MOMENTS_ROWS, row)
    cdef double* sums               # (range at once, COLUMN_SUMS, sums_ld)
    cdef double* gradients          # (dgamma and dbeta, column) ...
    cdef double* low                # ... and what rounding took from them
    cdef Py_ssize_t ranges, first_range, at_once, sums_ld
    cdef object result              # what holds the gradients
    cdef bint direct, in_place, again

    def __init__(self, dy, x, states, gamma, out, double eps, bint centered):
        self.describe(x, out)
        self.dy = self.view(dy)
        cdef view_t weight = self.view(gamma[None, :])
        if states.shape[1] != self.x.positions:
            raise ValueError(
                f"the moments are of {states.shape[1]} rows, but x has {self.x.positions}"
            )
        self.states = doubles_of(states)
        result = np.zeros((2, self.x.channels))
        self.arrays += [states, result]
        self.gradients = doubles_of(result)
        self.set_up(&weight, eps, centered)
        self.refuse_out_of_memory()
        self.result = result

    cdef void set_up(self, const view_t* gamma, double eps, bint centered) noexcept nogil:
        self.begin(eps, centered)
        self.direct = self.x.real == self.dy.real and in_place(&self.x) and in_place(&self.dy)
        self.in_place = in_place(&self.out)
        self.again = (
            self.direct and self.in_place and self.x.real == self.out.real == FLOAT
            and self.columns > FEW_COLUMNS and self.columns % LANES == 0
        )
        self.nontemporal = (
            self.nontemporal and self.in_place and self.out.data != self.x.data
            and self.out.data != self.dy.data
        )
        self.set_vectors(gamma)

    cdef void set_vectors(self, const view_t* gamma) noexcept nogil:
        self.gamma = self.padded_vector(gamma)
        self.ranges = max(1, min(self.num_rows // SUM_ROWS, <Py_ssize_t> MAX_RANGES))
        self.sums_ld = padded(self.columns) + LANES
        self.at_once = max(1, SUMS_BYTES // (
            COLUMN_SUMS * self.sums_ld * <Py_ssize_t> sizeof(double)
        ))
        if self.at_once < self.ranges:
            self.at_once = max(
                self.at_once, <Py_ssize_t> (self.num_threads or threads_as_set())
            )
        self.at_once = min(self.at_once, self.ranges)
        self.sums = self.scratch(self.at_once * COLUMN_SUMS * self.sums_ld)
        self.low = self.scratch(2 * self.columns)

    cdef bint run_for(
        self, const view_t* dy, const view_t* x, const double* states, const view_t* gamma,
        const view_t* out, double eps, bint centered, int num_threads, double* gradients,
    ) noexcept nogil:
        """Differentiate rows without Python; return False without memory."""
        self.dy, self.x, self.out, self.num_threads = dy[0], x[0], out[0], num_threads
        self.states, self.gradients = states, gradients
        memset(gradients, 0, 2 * x.channels * sizeof(double))
        self.set_up(gamma, eps, centered)
        if not self.out_of_memory:
            self.run()
        return not self.out_of_memory

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t ld = padded(min(self.columns, <Py_ssize_t> BLOCK)) + LANES
        cdef Py_ssize_t part, row, last, first, rows
        cdef void* memory = malloc(2 * PAIR * ld * sizeof(double) + LINE)
        cdef double* copy = aligned(memory)
        if memory == NULL:
            self.out_of_memory = True
            return
        for part in range(start, stop):
            row = first = self.num_rows * (self.first_range + part) // self.ranges
            last = self.num_rows * (self.first_range + part + 1) // self.ranges
            while row < last:
                rows = min(last - row, <Py_ssize_t> PAIR)
                self.differentiate(part, row, rows, copy, copy + PAIR * ld, ld)
                row += rows
                if (row - first) % SUM_ROWS == 0 or row == last:
                    settle_columns(self.sums_of(part), self.sums_ld)
        fence()
        free(memory)

    cdef inline double* sums_of(self, Py_ssize_t part) noexcept nogil:
        return self.sums + part * COLUMN_SUMS * self.sums_ld

    cdef void differentiate(
        self, Py_ssize_t part, Py_ssize_t first, Py_ssize_t rows, double* g, double* xmu,
        Py_ssize_t ld,
    ) noexcept nogil:
        """Find dx of one or two rows, and add to the column sums."""
        cdef row_t at[PAIR]
        cdef dd sum_g[PAIR]
        cdef dd sum_g_xmu[PAIR]
        cdef Py_ssize_t row, column = 0
        for row in range(rows):
            self.begin_row(&at[row], first + row)
        while column < self.columns:
            self.reduce(
                first, rows, column, self.gamma + column, self.sums_of(part) + column,
                self.sums_ld, g, xmu, ld, at,
            )
            column += BLOCK
        for row in range(rows):
            sum_g[row] = sum_lanes(at[row].sum_hi, at[row].sum_lo)
            sum_g_xmu[row] = sum_lanes(at[row].sum_xmu_hi, at[row].sum_xmu_lo)
        column = 0
        while column < self.columns:
            if self.columns > BLOCK and not self.again:
                self.widen(first, rows, column, self.gamma + column, g, xmu, ld, at)
            self.map(
                first, rows, column, self.gamma + column, g, xmu, ld, at, sum_g, sum_g_xmu
            )
            column += BLOCK

    cdef void begin_row(self, row_t* at, Py_ssize_t row) noexcept nogil:
        """Set what is known of a row before it is read."""
        cdef moments_t state = load_moments(self.states + row, self.num_rows)
        memset(at, 0, sizeof(row_t))
        at.scale = row_scale(&state, self.eps, self.centered)
        at.factor = 1.0 / at.scale.scale

    cdef Py_ssize_t block(self, Py_ssize_t column) noexcept nogil:
        return min(self.columns - column, <Py_ssize_t> BLOCK)

    cdef void reduce(
        self, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t column, const double* gamma,
        double* sums, Py_ssize_t sums_ld, double* g, double* xmu, Py_ssize_t ld, row_t* at,
    ) noexcept nogil:
        """Add a block of rows to all sums; gamma and those of columns are those of the block."""
        cdef Py_ssize_t done = 0, step, columns = self.block(column)
        while done < columns:
            step = min(columns - done, <Py_ssize_t> SUM_COLUMNS)
            if step > LANES:  # lanes that are not all there are a step of their own
                step -= step % LANES
            if self.direct and step % LANES == 0 and self.x.real == FLOAT:
                reduce_as(
                    <const float*> self.address(&self.dy, first, column + done),
                    self.dy.stride // self.dy.itemsize,
                    <const float*> self.address(&self.x, first, column + done),
                    self.x.stride // self.x.itemsize, rows, step, gamma + done, g + done,
                    xmu + done, ld, sums + DGAMMA * sums_ld + done, sums + DBETA * sums_ld + done,
                    at, not self.again,
                )
            else:
                self.gather(first, rows, column + done, step, g + done, xmu + done, ld, at)
                reduce_as(
                    <const double*> g + done, ld, <const double*> xmu + done, ld, rows,
                    padded(step), gamma + done, g + done, xmu + done, ld,
                    sums + DGAMMA * sums_ld + done, sums + DBETA * sums_ld + done, at, True,
                )
            done += step

    cdef char* address(
        self, const view_t* array, Py_ssize_t row, Py_ssize_t column
    ) noexcept nogil:
        return array.data + row * array.stride + column * array.channel_stride

    cdef void gather(
        self, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns, double* dy,
        double* x, Py_ssize_t ld, const row_t* at,
    ) noexcept nogil:
        """Copy some columns of dy and x; beyond them dy and x - center are 0."""
        cdef Py_ssize_t row, i
        gather_block(&self.dy, first, rows, column, columns, dy, ld)
        gather_block(&self.x, first, rows, column, columns, x, ld)
        for row in range(rows):
            for i in range(columns, padded(columns)):
                dy[row * ld + i], x[row * ld + i] = 0.0, at[row].scale.center

    cdef void widen(
        self, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t column, const double* gamma, double* g,
        double* xmu, Py_ssize_t ld, const row_t* at,
    ) noexcept nogil:
        """Copy a block of rows once more."""
        cdef Py_ssize_t row, i, columns = self.block(column)
        self.gather(first, rows, column, columns, g, xmu, ld, at)
        for row in range(rows):
            for i in range(columns):
                g[row * ld + i] *= gamma[i]
                xmu[row * ld + i] -= at[row].scale.center

    cdef void map(
        self, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t column, const double* gamma, double* g,
        double* xmu, Py_ssize_t ld, const row_t* at, const dd* sum_g, const dd* sum_g_xmu,
    ) noexcept nogil:
        """Write dx of a block of rows."""
        cdef Py_ssize_t row, columns = self.block(column)
        cdef double a, b, d
        cdef double* target
        cdef char* dx
        cdef bint nontemporal
        for row in range(rows):
            a = at[row].factor
            b = a * (sum_g[row].hi / self.columns) if self.centered else 0.0
            d = a * (sum_g_xmu[row].hi / self.columns) / (
                at[row].scale.scale * at[row].scale.scale
            )
            dx = self.address(&self.out, first + row, column)
            target = g + row * ld
            nontemporal = self.writes_nontemporal(first + row)
            if self.again and nontemporal:
                self.map_again(first + row, column, columns, gamma, &at[row], a, b, d, True)
            elif self.again:
                self.map_again(first + row, column, columns, gamma, &at[row], a, b, d, False)
            elif not self.in_place:
                differentiate_row(target, xmu + row * ld, target, columns, a, b, d, False)
            elif self.out.real == DOUBLE:
                differentiate_row(target, xmu + row * ld, <double*> dx, columns, a, b, d, False)
            elif nontemporal:
                differentiate_row(target, xmu + row * ld, <float*> dx, columns, a, b, d, True)
            else:
                differentiate_row(target, xmu + row * ld, <float*> dx, columns, a, b, d, False)
        if not self.in_place:
            scatter_block(&self.out, first, rows, column, columns, g, ld)

    cdef inline void map_again(
        self, Py_ssize_t row, Py_ssize_t column, Py_ssize_t columns, const double* gamma,
        const row_t* at, double a, double b, double d, bint nontemporal,
    ) noexcept nogil:
        differentiate_row_again(
            <const float*> self.address(&self.dy, row, column),
            <const float*> self.address(&self.x, row, column), gamma,
            <float*> self.address(&self.out, row, column), columns, at.scale.center, a, b, d,
            nontemporal,
        )

    cdef int run(self) except -1 nogil:
        """Work on all ranges, and add their sums up in order."""
        cdef Py_ssize_t part, i, which, parts
        cdef dd total
        cdef const double* more
        cdef double* hi = self.gradients
        cdef double* lo = self.low
        self.first_range = 0
        while self.first_range < self.ranges:
            parts = min(self.at_once, self.ranges - self.first_range)
            if self.first_range:
                memset(self.sums, 0, parts * COLUMN_SUMS * self.sums_ld * sizeof(double))
            share_among(
                self, parts, self.num_rows * self.columns // self.ranges * parts, MIN_ELEMENTS,
                self.num_threads,
            )
            if self.out_of_memory:
                return 0
            for which in range(2):
                for part in range(parts):
                    more = self.sums_of(part) + (DGAMMA_HI + 2 * which) * self.sums_ld
                    for i in range(which * self.columns, (which + 1) * self.columns):
                        total = two_sum(hi[i], more[i - which * self.columns])
                        hi[i] = total.hi
                        lo[i] += total.lo + more[self.sums_ld + i - which * self.columns]
            self.first_range += parts
        for i in range(2 * self.columns):
            if isfinite(hi[i]):
                hi[i] += lo[i]
        return 0
