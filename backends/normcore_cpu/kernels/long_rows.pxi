# Design: layer and RMS norm of rows so long that one is work for many threads. A row is cut into
# pieces, at places that its length alone decides. Each piece is observed as a row is, pieces merge
# in order, then each is mapped: so the bits of a row depend on neither its neighbours nor threads.
#
#   a) Forward: the rows of a wave are observed, then mapped, while caches hold them.
#   b) Backward: a piece of all rows is reduced by one thread, block by block, so that the sums of
#      a column are complete where they are made: nothing as long as a row is kept. Then all
#      pieces of all rows are mapped.
#
# gamma and beta are widened block by block, for the same reason.

cdef enum:
    LONG_ROW = 1 << 18      # columns from which on, exclusive, a row is long
    PIECE = 1 << 14         # columns
    WAVE = 1 << 21          # elements


cdef inline Py_ssize_t number_of_pieces(Py_ssize_t columns) noexcept nogil:
    return (columns + PIECE - 1) // PIECE


cdef void load_vector(
    const view_t* vector, Py_ssize_t column, Py_ssize_t columns, double* copy
) noexcept nogil:
    """Widen a block of a vector over columns; beyond it are zeros."""
    gather_block(vector, 0, 1, column, columns, copy, 0)
    memset(copy + columns, 0, (padded(columns) - columns) * sizeof(double))


cdef class NormalizeLongRowsTask(NormalizeRowsTask):
    cdef view_t gamma_view, beta_view
    cdef Py_ssize_t pieces, first_row, wave
    cdef double* piece_states       # (MOMENTS_ROWS, row of the wave and piece)
    cdef bint observing

    cdef void set_vectors(self, const view_t* gamma, const view_t* beta) noexcept nogil:
        self.gamma_view, self.beta_view = gamma[0], beta[0]
        self.pieces = number_of_pieces(self.columns)
        self.wave = max(1, min(self.num_rows, WAVE // self.columns))
        self.piece_states = self.scratch(MOMENTS_ROWS * self.wave * self.pieces)
        self.ahead = BLOCK

    cdef int run(self) except -1 nogil:
        """Observe and map wave by wave."""
        cdef Py_ssize_t rows, row
        self.first_row = 0
        while self.first_row < self.num_rows:
            rows = min(self.wave, self.num_rows - self.first_row)
            self.observing = True
            self.spread_pieces(rows)
            if self.out_of_memory:
                return 0
            for row in range(rows):
                self.merge_pieces(row)
            self.observing = False
            self.spread_pieces(rows)
            self.first_row += rows
        return 0

    cdef int spread_pieces(self, Py_ssize_t rows) except -1 nogil:
        return share_among(
            self, rows * self.pieces, rows * self.columns, MIN_ELEMENTS, self.num_threads
        )

    cdef void merge_pieces(self, Py_ssize_t row) noexcept nogil:
        cdef Py_ssize_t piece, ld = self.wave * self.pieces
        cdef const double* states = self.piece_states + row * self.pieces
        cdef moments_t total = load_moments(states, ld)
        for piece in range(1, self.pieces):
            total = merged(total, load_moments(states + piece, ld))
        store_moments(self.states + self.first_row + row, self.num_rows, total)

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t item, row, column, last
        cdef void* memory = malloc(3 * BLOCK * sizeof(double) + LINE)
        if memory == NULL:
            self.out_of_memory = True
            return
        for item in range(start, stop):
            row, column = self.first_row + item // self.pieces, item % self.pieces * PIECE
            last = min(column + PIECE, self.columns)
            if self.observing:
                self.observe_piece(item, row, column, last, aligned(memory))
            else:
                self.map_piece(row, column, last, aligned(memory))
        fence()
        free(memory)

    cdef void observe_piece(
        self, Py_ssize_t item, Py_ssize_t row, Py_ssize_t column, Py_ssize_t last, double* copy
    ) noexcept nogil:
        cdef moments_t total, more
        self.observe(row, 1, column, copy, &total)
        column += BLOCK
        while column < last:
            self.observe(row, 1, column, copy, &more)
            total = merged(total, more)
            column += BLOCK
        store_moments(self.piece_states + item, self.wave * self.pieces, total)

    cdef void map_piece(
        self, Py_ssize_t row, Py_ssize_t column, Py_ssize_t last, double* copy
    ) noexcept nogil:
        cdef Py_ssize_t columns
        cdef double* gamma = copy + BLOCK
        cdef double* beta = gamma + BLOCK
        cdef moments_t state = load_moments(self.states + row, self.num_rows)
        cdef row_scale_t scale = row_scale(&state, self.eps, self.centered)
        cdef bint nontemporal = self.writes_nontemporal(row)
        while column < last:
            columns = self.block(column)
            gather_block(&self.x, row, 1, column, columns, copy, 0)
            load_vector(&self.gamma_view, column, columns, gamma)
            load_vector(&self.beta_view, column, columns, beta)
            self.map(row, 1, column, copy, &scale, gamma, beta, nontemporal)
            column += BLOCK


cdef inline void add_dd(double* sums, double hi, double lo) noexcept nogil:
    """Add to a sum in two parts."""
    cdef dd total = two_sum(sums[0], hi)
    sums[0] = total.hi
    sums[1] += total.lo + lo


cdef class NormalizeLongRowsBackwardTask(NormalizeRowsBackwardTask):
    cdef view_t gamma_view
    cdef Py_ssize_t pieces
    cdef double* piece_sums     # (row, piece): the sums of g and g * (x - center), in two parts
    cdef bint reducing

    cdef void set_vectors(self, const view_t* gamma) noexcept nogil:
        self.gamma_view = gamma[0]
        self.pieces = number_of_pieces(self.columns)
        self.piece_sums = self.scratch(self.num_rows * self.pieces * 4)

    cdef int run(self) except -1 nogil:
        """Reduce all pieces, then map them."""
        cdef Py_ssize_t row
        self.reducing = True
        self.spread(self.pieces)
        if self.out_of_memory:
            return 0
        for row in range(self.num_rows):
            self.add_up(self.piece_sums + row * self.pieces * 4)
        self.reducing = False
        return self.spread(self.num_rows * self.pieces)

    cdef void add_up(self, double* sums) noexcept nogil:
        """Add the sums of a row's pieces to the first one's, and round them."""
        cdef Py_ssize_t piece, which
        for piece in range(1, self.pieces):
            for which in range(0, 4, 2):
                add_dd(sums + which, sums[piece * 4 + which], sums[piece * 4 + which + 1])
        for which in range(0, 4, 2):
            if isfinite(sums[which]):
                sums[which] += sums[which + 1]

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t item, row, ld = BLOCK + LANES
        cdef void* memory = malloc((2 * PAIR + 1 + COLUMN_SUMS) * ld * sizeof(double) + LINE)
        if memory == NULL:
            self.out_of_memory = True
            return
        for item in range(start, stop):
            if self.reducing:
                self.reduce_piece(item, aligned(memory), ld)
            else:
                self.map_piece(item // self.pieces, item % self.pieces, aligned(memory), ld)
        fence()
        free(memory)

    cdef void reduce_piece(self, Py_ssize_t piece, double* g, Py_ssize_t ld) noexcept nogil:
        cdef row_t at[PAIR]
        cdef Py_ssize_t column = piece * PIECE, last, row, rows, i
        cdef double* gamma = g + 2 * PAIR * ld
        cdef double* sums = gamma + ld
        last = min(column + PIECE, self.columns)
        while column < last:
            load_vector(&self.gamma_view, column, self.block(column), gamma)
            memset(sums, 0, COLUMN_SUMS * ld * sizeof(double))
            row = 0
            while row < self.num_rows:
                rows = min(self.num_rows - row, <Py_ssize_t> PAIR)
                for i in range(rows):
                    self.begin_row(&at[i], row + i)
                self.reduce(row, rows, column, gamma, sums, ld, g, g + PAIR * ld, ld, at)
                for i in range(rows):
                    self.add_to_piece(row + i, piece, &at[i])
                row += rows
                if row % SUM_ROWS == 0 or row == self.num_rows:
                    settle_columns(sums, ld)
            self.round_columns(column, sums, ld)
            column += BLOCK

    cdef void add_to_piece(self, Py_ssize_t row, Py_ssize_t piece, row_t* at) noexcept nogil:
        cdef double* sums = self.piece_sums + (row * self.pieces + piece) * 4
        cdef dd more = sum_lanes(at.sum_hi, at.sum_lo)
        add_dd(sums, more.hi, more.lo)
        more = sum_lanes(at.sum_xmu_hi, at.sum_xmu_lo)
        add_dd(sums + 2, more.hi, more.lo)

    cdef void round_columns(
        self, Py_ssize_t column, const double* sums, Py_ssize_t ld
    ) noexcept nogil:
        """Put the sums of a block of columns where they belong."""
        cdef Py_ssize_t i, which
        cdef const double* hi
        for which in range(2):
            hi = sums + (DGAMMA_HI + 2 * which) * ld
            for i in range(self.block(column)):
                self.gradients[which * self.columns + column + i] = (
                    hi[i] + hi[ld + i] if isfinite(hi[i]) else hi[i]
                )

    cdef void map_piece(
        self, Py_ssize_t row, Py_ssize_t piece, double* g, Py_ssize_t ld
    ) noexcept nogil:
        cdef row_t at
        cdef dd sum_g, sum_g_xmu
        cdef Py_ssize_t column = piece * PIECE, last
        cdef double* xmu = g + PAIR * ld
        cdef double* gamma = g + 2 * PAIR * ld
        cdef const double* sums = self.piece_sums + row * self.pieces * 4
        sum_g.hi, sum_g.lo, sum_g_xmu.hi, sum_g_xmu.lo = sums[0], 0.0, sums[2], 0.0
        self.begin_row(&at, row)
        last = min(column + PIECE, self.columns)
        while column < last:
            load_vector(&self.gamma_view, column, self.block(column), gamma)
            if not self.again:
                self.widen(row, 1, column, gamma, g, xmu, ld, &at)
            self.map(row, 1, column, gamma, g, xmu, ld, &at, &sum_g, &sum_g_xmu)
            column += BLOCK


def normalize_rows(x, gamma, beta, out, double eps, bint centered=True):
    """Normalize each row by its own statistics into ``out``, and return the (7, N) moments.

    Parameters
    ----------
    x : array of shape (N, D), any strides
    gamma, beta : float64 arrays of shape (D,), any strides
    out : floating array of shape (N, D), any strides
        May be ``x`` itself.
    eps : float
    centered : bool
        Subtract the mean; otherwise divide by the root mean square alone.
    """
    cdef NormalizeRowsTask task
    if x.shape[1] > LONG_ROW:
        task = NormalizeLongRowsTask(x, gamma, beta, out, eps, centered)
    else:
        task = NormalizeRowsTask(x, gamma, beta, out, eps, centered)
    with nogil:
        task.run()
    task.refuse_out_of_memory()
    return task.array


def normalize_rows_backward(dy, x, states, gamma, out, double eps, bint centered=True):
    """Write dx of :func:`normalize_rows` to ``out``, and return dgamma and dbeta.

    Parameters
    ----------
    dy, x : arrays of shape (N, D), any strides
    states : C-contiguous float64 array of shape (7, N)
        The moments that the forward pass returned.
    gamma : float64 array of shape (D,), any strides
    out : floating array of shape (N, D), any strides
        May be ``dy`` or ``x`` itself.
    """
    cdef NormalizeRowsBackwardTask task
    if x.shape[1] > LONG_ROW:
        task = NormalizeLongRowsBackwardTask(dy, x, states, gamma, out, eps, centered)
    else:
        task = NormalizeRowsBackwardTask(dy, x, states, gamma, out, eps, centered)
    with nogil:
        task.run()
    task.refuse_out_of_memory()
    return task.result[0], task.result[1]
