# Design: dx = a * dy - (b + d * (x - mean)), one read of dy and x and one write: in float64,
# rounded once to the result; contiguous rows in the order of memory, a large result by non-temporal
# stores.

# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t GRADIENT_NONTEMPORAL_BYTES = 1 << 25


cdef inline lanes_t gradient_at(
    lanes_t dy, lanes_t x, const double* vectors, Py_ssize_t ld, Py_ssize_t lane, bint along,
    bint relu_mask,
) noexcept nogil:
    if relu_mask:
        dy = through_relu(dy, x, vectors, ld, lane, along)
    return gradient(
        dy, x - lanes_of(vectors + MEAN * ld, lane, along),
        lanes_of(vectors + A * ld, lane, along), lanes_of(vectors + B * ld, lane, along),
        lanes_of(vectors + D * ld, lane, along),
    )


cdef inline void differentiate_rows(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, real* out,
    Py_ssize_t out_stride, Py_ssize_t rows, Py_ssize_t lanes, const double* vectors,
    Py_ssize_t ld, Py_ssize_t step, bint along, bint relu_mask, bint nontemporal,
) noexcept nogil:
    """Write dx of rows of lanes; along positions, vectors of the next row's channel are `step`
    further.
    """
    cdef Py_ssize_t _row, lane, i, full = lanes // WIDTH * WIDTH
    cdef Py_ssize_t distance = PREFETCH_BYTES // (lanes * <Py_ssize_t> sizeof(real)) + 1
    cdef lanes_t result, last
    cdef real rest_dy[WIDTH]
    cdef real rest_x[WIDTH]
    for _row in range(rows):
        # The last vector overlaps the one before; in place, what it reads must not be written yet.
        last = splat(0.0)
        if full < lanes:
            if full:
                last = gradient_at(
                    load(dy + lanes - WIDTH), load(x + lanes - WIDTH), vectors, ld,
                    lanes - WIDTH, along, relu_mask,
                )
            else:
                for i in range(WIDTH):
                    rest_dy[i] = dy[i] if i < lanes else 0
                    rest_x[i] = x[i] if i < lanes else 0
                last = gradient_at(
                    load(<const real*> rest_dy), load(<const real*> rest_x), vectors, ld,
                    <Py_ssize_t> 0, along, relu_mask,
                )
        lane = 0
        while lane < full:
            if lane * sizeof(real) % LINE == 0 and not along:
                prefetch(dy + distance * dy_stride + lane)
                prefetch(x + distance * x_stride + lane)
            result = gradient_at(
                load(dy + lane), load(x + lane), vectors, ld, lane, along, relu_mask
            )
            if nontemporal:
                store_nontemporal(out + lane, result)
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
    Py_ssize_t ld, Py_ssize_t step, bint along, bint relu_mask, bint nontemporal,
) noexcept nogil:
    """Choose the loop."""
    nontemporal = (
        nontemporal and lanes % WIDTH == 0 and (<size_t> out | out_stride * sizeof(real)) % 16 == 0
    )
    if relu_mask:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, ld,
            step if along else 0, along, True, False,
        )
    elif along and nontemporal:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, ld, step, True,
            False, True,
        )
    elif along:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, ld, step, True,
            False, False,
        )
    elif nontemporal:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, ld, 0, False,
            False, True,
        )
    else:
        differentiate_rows(
            dy, dy_stride, x, x_stride, out, out_stride, rows, lanes, vectors, ld, 0, False,
            False, False,
        )


cdef class BackwardElemtTask(BackwardTask):
    cdef view_t out
    cdef bint nontemporal

    def __init__(self, dy, x, vectors, bint relu_mask, mask, out):
        BackwardTask.__init__(self, dy, x, vectors, relu_mask, mask)
        self.out = self.view(out)
        self.choose_way()

    cdef void choose_way(self) noexcept nogil:
        self.whole_rows = (
            not self.masked and self.x.real == self.dy.real == self.out.real
            and are_contiguous(&self.x, &self.plan) and are_contiguous(&self.dy, &self.plan)
            and are_contiguous(&self.out, &self.plan)
        )
        self.split_rows()
        self.nontemporal = (
            bytes_of(&self.out) >= GRADIENT_NONTEMPORAL_BYTES
            and self.out.data != self.x.data and self.out.data != self.dy.data
        )

    cdef bint differentiate_for(
        self, const view_t* dy, const view_t* x, const double* vectors, const view_t* out,
        int num_threads,
    ) noexcept nogil:
        """Write dx without Python; return False without memory."""
        self.out = out[0]
        self.begin_for(dy, x, vectors, num_threads)
        self.choose_way()
        self.visit_all()
        return not self.out_of_memory

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double dy[TILE]
        cdef double x[TILE]
        cdef const double* vectors = self.vectors + self.first_coefficient(at)
        if not self.whole_rows:
            self.gather_both(at, dy, x)
            differentiate_as(
                <const double*> dy, <Py_ssize_t> LANES, <const double*> x, <Py_ssize_t> LANES, dy,
                <Py_ssize_t> LANES, at.rows, <Py_ssize_t> LANES, vectors, self.ld,
                <Py_ssize_t> 0, self.plan.along, self.relu_mask, False,
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
            contiguous_stride_of(&self.dy, &self.plan),
            <const real*> start_of(&self.x, &self.plan, at),
            contiguous_stride_of(&self.x, &self.plan),
            <real*> start_of(&self.out, &self.plan, at),
            contiguous_stride_of(&self.out, &self.plan), at.rows, at.lanes, vectors, self.ld,
            <Py_ssize_t> 1, self.plan.along, self.relu_mask, self.nontemporal,
        )

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        fence()


def backward_elemt(dy, x, vectors, bint relu_mask=False, mask=None, out=None):
    """Return ``dx = a * dy - (b + d * (x - mean))``, and 0 where the mask is 0.

    Parameters are as in :func:`backward_reduce`.

    out : floating array of shape (N, C, S), any strides, optional
        May be ``dy`` or ``x`` itself; by default a fresh array in the memory order of ``x``.
    """
    if out is None:
        out = result_like(x)
    cdef BackwardElemtTask task = BackwardElemtTask(dy, x, vectors, relu_mask, mask, out)
    task.spread()
    return out


cdef model_t elemt_model = model_of(BackwardElemtTask.__new__(BackwardElemtTask))


cdef bint differentiate_channels(
    const view_t* dy, const view_t* x, const double* vectors, const view_t* out, int num_threads
) noexcept nogil:
    """Do what `backward_elemt` does by vectors (4, C), without Python; False without memory."""
    cdef void* task = copy_of(&elemt_model)
    cdef bint done
    if task == NULL:
        return False
    done = (<BackwardElemtTask> task).differentiate_for(dy, x, vectors, out, num_threads)
    free_all(&(<BackwardElemtTask> task).heap)
    free(task)
    return done
