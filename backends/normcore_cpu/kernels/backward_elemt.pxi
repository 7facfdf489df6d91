# Design: dx = a * dy - (b + d * (x - mean)), one read of dy and x and one write: in float64,
# rounded once to the result; whole rows in the order of memory, a large result past the caches.


# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t GRADIENT_STREAM = 1 << 25


cdef inline lanes_t gradient_at(
    lanes_t dy, lanes_t x, const double* vectors, Py_ssize_t across, Py_ssize_t lane, bint along,
    bint has_gate,
) noexcept nogil:
    if has_gate:
        dy = through_gate(dy, x, vectors, across, lane, along)
    return gradient(
        dy, x - lanes_of(vectors + MEAN * across, lane, along),
        lanes_of(vectors + A * across, lane, along), lanes_of(vectors + B * across, lane, along),
        lanes_of(vectors + D * across, lane, along),
    )


cdef inline void differentiate_rows(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, real* out,
    Py_ssize_t out_stride, Py_ssize_t rows, Py_ssize_t lanes, const double* vectors,
    Py_ssize_t across, Py_ssize_t step, bint along, bint has_gate, bint stream,
) noexcept nogil:
    """Write dx of rows of lanes; along positions, vectors of the next row's channel are `step`
    further.
    """
    cdef Py_ssize_t _row, lane, i, full = lanes // WIDTH * WIDTH
    cdef Py_ssize_t ahead = AHEAD // (lanes * <Py_ssize_t> sizeof(real)) + 1
    cdef lanes_t result, last
    cdef real rest_dy[WIDTH]
    cdef real rest_x[WIDTH]
    for _row in range(rows):
        # The last vector overlaps the one before; in place, what it reads must not be written yet.
        last = splat(0.0)
        if full < lanes:
            if full:
                last = gradient_at(
                    load(dy + lanes - WIDTH), load(x + lanes - WIDTH), vectors, across,
                    lanes - WIDTH, along, has_gate,
                )
            else:
                for i in range(WIDTH):
                    rest_dy[i] = dy[i] if i < lanes else 0
                    rest_x[i] = x[i] if i < lanes else 0
                last = gradient_at(
                    load(<const real*> rest_dy), load(<const real*> rest_x), vectors, across,
                    <Py_ssize_t> 0, along, has_gate,
                )
        lane = 0
        while lane < full:
            if lane * sizeof(real) % LINE == 0 and not along:
                prefetch(dy + ahead * dy_stride + lane)
                prefetch(x + ahead * x_stride + lane)
            result = gradient_at(
                load(dy + lane), load(x + lane), vectors, across, lane, along, has_gate
            )
            if stream:
                stream_to(out + lane, result)
            else:
                store(out + lane, result)
            lane += WIDTH
        if full < lanes:
            if full:
                store(out + lanes - WIDTH, last)
            else:
                store(<real*> rest_dy, last)
                for i in range(lanes):
                    out[i] = rest_dy[i]
        dy, x, out = dy + dy_stride, x + x_stride, out + out_stride
        vectors = vectors + step


cdef void differentiate_as(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, real* out,
    Py_ssize_t out_stride, Py_ssize_t rows, Py_ssize_t lanes, const double* vectors,
    Py_ssize_t across, Py_ssize_t step, bint along, bint has_gate, bint stream,
) noexcept nogil:
    """Choose the loop."""
    stream = (
        stream and lanes % WIDTH == 0 and (<size_t> out | out_stride * sizeof(real)) % 16 == 0
    )
    if has_gate:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, across,
            step if along else 0, along, True, False,
        )
    elif along and stream:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, across, step, True,
            False, True,
        )
    elif along:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, across, step, True,
            False, False,
        )
    elif stream:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, across, 0, False,
            False, True,
        )
    else:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, across, 0, False,
            False, False,
        )


cdef class BackwardElemtTask(BackwardTask):
    cdef view_t out
    cdef bint stream

    def __init__(self, dy, x, vectors, bint gated, mask, out):
        BackwardTask.__init__(self, dy, x, vectors, gated, mask)
        self.out = self.view(out)
        self.whole_rows = (
            not self.masked and self.x.real == self.dy.real == self.out.real
            and is_sheet(&self.x, &self.plan) and is_sheet(&self.dy, &self.plan)
            and is_sheet(&self.out, &self.plan)
        )
        self.split_rows()
        self.stream = (
            out.nbytes >= GRADIENT_STREAM and self.out.data != self.x.data and self.out.data != self.dy.data
        )

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double dy[TILE]
        cdef double x[TILE]
        cdef const double* vectors = self.vectors + self.first_number(at)
        if not self.whole_rows:
            self.gather_both(at, dy, x)
            differentiate_as(
                <const double*> dy, <Py_ssize_t> LANES, <const double*> x, <Py_ssize_t> LANES, dy,
                <Py_ssize_t> LANES, at.rows, <Py_ssize_t> LANES, vectors, self.across,
                <Py_ssize_t> 0, self.plan.along, self.gated, False,
            )
            if self.masked:
                zero_where(&self.mask, &self.plan, at, dy)
            scatter(&self.out, &self.plan, at, dy)
        elif self.x.real == FLOAT:
            self.map_whole_rows(<const float*> NULL, at, vectors)
        else:
            self.map_whole_rows(<const double*> NULL, at, vectors)

    cdef void map_whole_rows(
        self, const real* _, const tile_t* at, const double* vectors
    ) noexcept nogil:
        """Map rows in place: of groups side by side, or the run of one channel each."""
        differentiate_as(
            <const real*> start_of(&self.dy, &self.plan, at),
            sheet_stride_of(&self.dy, &self.plan), <const real*> start_of(&self.x, &self.plan, at),
            sheet_stride_of(&self.x, &self.plan), <real*> start_of(&self.out, &self.plan, at),
            sheet_stride_of(&self.out, &self.plan), at.rows, at.lanes, vectors, self.across,
            <Py_ssize_t> 1, self.plan.along, self.gated, self.stream,
        )

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        fence()


def backward_elemt(dy, x, vectors, bint gated=False, mask=None, out=None):
    """Return ``dx = a * dy - (b + d * (x - mean))``, and 0 where the mask is 0.

    Parameters are as in :func:`backward_reduce`.

    out : floating array of shape (N, C, S), any strides, optional
        May be ``dy`` or ``x`` itself; by default a fresh array in the memory order of ``x``.
    """
    if out is None:
        out = result_like(x)
    cdef BackwardElemtTask task = BackwardElemtTask(dy, x, vectors, gated, mask, out)
    task.spread()
    return out
