# Design: sum(dy) and sum(dy * (x - mean)), one read of dy and x: eight rows in pairs, then two_sum,
# each lane by itself; lanes and ranges are added up in order at the end. Across channels, groups
# side by side take eight rows in turn, and of each row a whole line at once, which may not stay in
# L1 for a second visit.

cdef enum:
    # Rows of the sums of a lane.
    DY_HI = 0, DY_LO = 1, DY_XMU_HI = 2, DY_XMU_LO = 3, SUMS = 4

# WIDTH terms of both sums.
cdef struct terms_t:
    lanes_t dy
    lanes_t dy_xmu


cdef inline terms_t terms_of(
    const real* dy, const real* x, const double* vectors, Py_ssize_t ld, Py_ssize_t lane,
    bint along, bint relu_mask,
) noexcept nogil:
    cdef terms_t terms
    cdef lanes_t v = load(x + lane)
    terms.dy = load(dy + lane)
    if relu_mask:
        terms.dy = through_relu(terms.dy, v, vectors, ld, lane, along)
    terms.dy_xmu = terms.dy * (v - lanes_of(vectors + MEAN * ld, lane, along))
    return terms


cdef inline void reduce_band(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, Py_ssize_t rows,
    const double* vectors, Py_ssize_t ld, double* sums, Py_ssize_t sums_ld, bint along,
    bint relu_mask,
) noexcept nogil:
    """Add up to eight rows of 16 lanes to the sums of their lanes."""
    cdef Py_ssize_t first = 0, lane, row, i
    cdef terms_t terms, more
    cdef terms_t total[ABREAST]
    while first < LANES:
        for i in range(ABREAST):
            total[i].dy = total[i].dy_xmu = splat(0.0)
        for row in range(0, rows, 2):
            for i in range(ABREAST):
                lane = first + i * WIDTH
                terms = terms_of(
                    dy + row * dy_stride, x + row * x_stride, vectors, ld, lane, along, relu_mask
                )
                if row + 1 < rows:
                    more = terms_of(
                        dy + (row + 1) * dy_stride, x + (row + 1) * x_stride, vectors, ld,
                        lane, along, relu_mask,
                    )
                    terms.dy = terms.dy + more.dy
                    terms.dy_xmu = terms.dy_xmu + more.dy_xmu
                total[i].dy = total[i].dy + terms.dy
                total[i].dy_xmu = total[i].dy_xmu + terms.dy_xmu
        for i in range(ABREAST):
            lane = first + i * WIDTH
            add_sum(
                sums + DY_HI * sums_ld + lane, sums + DY_LO * sums_ld + lane, total[i].dy
            )
            add_sum(
                sums + DY_XMU_HI * sums_ld + lane, sums + DY_XMU_LO * sums_ld + lane,
                total[i].dy_xmu,
            )
        first += ABREAST * WIDTH


cdef inline void sweep(
    const real* dy, Py_ssize_t dy_stride, Py_ssize_t dy_distance, const real* x,
    Py_ssize_t x_stride, Py_ssize_t x_distance, Py_ssize_t rows, Py_ssize_t groups,
    const double* vectors, Py_ssize_t ld, double* sums, Py_ssize_t sums_ld, bint along,
    bint relu_mask,
) noexcept nogil:
    """Add rows of groups side by side, and prefetch those at a distance."""
    cdef Py_ssize_t row = 0, group, step
    cdef const real* at_dy
    cdef const real* at_x
    while row < rows:
        step = min(rows - row, <Py_ssize_t> BAND)
        for group in range(groups):
            at_dy, at_x = dy + row * dy_stride + group * LANES, x + row * x_stride + group * LANES
            prefetch_band(
                at_dy, dy_stride * sizeof(real), sizeof(real), <Py_ssize_t> BAND, dy_distance,
                group, groups,
            )
            prefetch_band(
                at_x, x_stride * sizeof(real), sizeof(real), <Py_ssize_t> BAND, x_distance, group,
                groups,
            )
            if step == BAND:  # a constant number of rows becomes straight vector code
                reduce_band(
                    at_dy, dy_stride, at_x, x_stride, <Py_ssize_t> BAND, vectors + group * LANES,
                    ld, sums + group * LANES, sums_ld, along, relu_mask,
                )
            else:
                reduce_band(
                    at_dy, dy_stride, at_x, x_stride, step, vectors + group * LANES, ld,
                    sums + group * LANES, sums_ld, along, relu_mask,
                )
        row += step


cdef void sweep_as(
    const real* _, const rows_t* dy, const rows_t* x, Py_ssize_t rows, Py_ssize_t groups,
    const double* vectors, Py_ssize_t ld, double* sums, Py_ssize_t sums_ld, bint along,
    bint relu_mask,
) noexcept nogil:
    """Choose the loop."""
    if relu_mask:
        sweep(
            <const real*> dy.data, dy.stride, dy.distance, <const real*> x.data, x.stride,
            x.distance, rows, groups, vectors, ld, sums, sums_ld, along, True,
        )
    elif along:
        sweep(
            <const real*> dy.data, dy.stride, dy.distance, <const real*> x.data, x.stride,
            x.distance, rows, groups, vectors, ld, sums, sums_ld, True, False,
        )
    else:
        sweep(
            <const real*> dy.data, dy.stride, dy.distance, <const real*> x.data, x.stride,
            x.distance, rows, groups, vectors, ld, sums, sums_ld, False, False,
        )


cdef class BackwardReduceTask(BackwardTask):
    cdef double* sums               # (range, SUMS, width), of lanes or, along positions, channels
    cdef Py_ssize_t width

    def __init__(self, dy, x, vectors, bint relu_mask, mask):
        BackwardTask.__init__(self, dy, x, vectors, relu_mask, mask)
        self.choose_way()

    cdef void choose_way(self) noexcept nogil:
        self.whole_rows = (
            not self.masked and not self.plan.along and self.x.real == self.dy.real
            and self.direct and is_direct(&self.dy, &self.plan)
        )
        self.width = self.plan.channels if self.plan.along else self.plan.groups * LANES
        self.sums = self.scratch(self.plan.ranges * SUMS * self.width)

    cdef bint reduce_for(
        self, const view_t* dy, const view_t* x, const double* vectors, int num_threads,
        double* result,
    ) noexcept nogil:
        """Set the sums of all channels without Python; return False without memory."""
        self.begin_for(dy, x, vectors, num_threads)
        self.choose_way()
        self.visit_all()
        if not self.out_of_memory:
            self.add_ranges(result)
        return not self.out_of_memory

    cdef void* open(self, Py_ssize_t first, Py_ssize_t groups) noexcept nogil:
        """Along positions, the lanes of a channel have sums of their own, and its number."""
        cdef double* sums
        if not self.plan.along:
            return NULL
        sums = <double*> calloc(SUMS * LANES + 1, sizeof(double))
        if sums == NULL:
            self.out_of_memory = True
        else:
            sums[SUMS * LANES] = <double> first
        return sums

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        cdef double* lanes = <double*> state
        if lanes == NULL:
            return
        cdef Py_ssize_t channel = <Py_ssize_t> lanes[SUMS * LANES], which
        cdef double* sums = self.sums + part * SUMS * self.width + channel
        cdef dd total
        for which in range(2):
            total = added(lanes + 2 * which * LANES, LANES, LANES, 1)
            sums[2 * which * self.width] = total.hi
            sums[(2 * which + 1) * self.width] = total.lo
        free(state)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double* sums = self.sums + part * SUMS * self.width + at.group * LANES
        cdef tile_t rest = at[0]
        cdef Py_ssize_t full = at.lanes // LANES if self.whole_rows else 0
        cdef rows_t dy, x
        if self.plan.along:
            if state != NULL:
                self.take(at, <double*> state, LANES)
            return
        if full:
            dy.data, x.data = start_of(&self.dy, &self.plan, at), start_of(&self.x, &self.plan, at)
            dy.stride = row_stride_of(&self.dy, &self.plan)
            x.stride = row_stride_of(&self.x, &self.plan)
            dy.distance = contiguous_distance(&self.dy, &self.plan)
            x.distance = contiguous_distance(&self.x, &self.plan)
            dy.real = x.real = self.x.real
            self.add(&dy, &x, at, full, sums, self.width)
            rest.group += full
            rest.channel = rest.group * LANES % self.plan.channels
            rest.lanes -= full * LANES
        if rest.lanes:
            self.take(&rest, sums + full * LANES, self.width)

    cdef void take(self, const tile_t* at, double* sums, Py_ssize_t ld) noexcept nogil:
        """Add a tile of one group to the sums of its lanes."""
        cdef double dy_copy[TILE]
        cdef double x_copy[TILE]
        cdef double kept[SUMS * LANES]
        cdef Py_ssize_t i
        cdef rows_t dy, x
        cdef bint in_place = False
        if not self.masked and self.x.real == self.dy.real:
            dy = rows_of(&self.dy, &self.plan, at, 0.0, dy_copy)
            x = rows_of(&self.x, &self.plan, at, 0.0, x_copy)
            in_place = dy.real == x.real
        if not in_place:
            self.gather_both(at, dy_copy, x_copy)
            dy.real, dy.data, dy.stride, dy.distance = DOUBLE, <char*> dy_copy, LANES, 0
            x.data, x.stride, x.distance = <char*> x_copy, LANES, 0
        if at.lanes == LANES:
            self.add(&dy, &x, at, 1, sums, ld)
            return
        for i in range(SUMS):
            memcpy(kept + i * LANES, sums + i * ld, sizeof(double) * LANES)
        self.add(&dy, &x, at, 1, kept, LANES)
        for i in range(SUMS):  # lanes that are not there hold 0 * (0 - mean), maybe NaN
            memcpy(sums + i * ld, kept + i * LANES, sizeof(double) * at.lanes)

    cdef void add(
        self, const rows_t* dy, const rows_t* x, const tile_t* at, Py_ssize_t groups, double* sums,
        Py_ssize_t ld,
    ) noexcept nogil:
        """Add rows of groups side by side to the sums of their lanes."""
        cdef const double* vectors = self.vectors + self.first_coefficient(at)
        if dy.real == FLOAT:
            sweep_as(
                <const float*> NULL, dy, x, at.rows, groups, vectors, self.ld, sums, ld,
                self.plan.along, self.relu_mask,
            )
        else:
            sweep_as(
                <const double*> NULL, dy, x, at.rows, groups, vectors, self.ld, sums, ld,
                self.plan.along, self.relu_mask,
            )

    cdef void add_ranges(self, double* sums) noexcept nogil:
        """Add up the ranges and packed lanes of each channel: sum(dy), sum(dy * (x - mean))."""
        cdef Py_ssize_t c, part, which, lanes = 1 if self.plan.along else self.plan.row_positions
        cdef double hi, lo
        cdef dd total, more
        for which in range(2):
            for c in range(self.plan.channels):
                hi = lo = 0.0
                for part in range(self.plan.ranges):
                    more = added(
                        self.sums + (part * SUMS + 2 * which) * self.width + c, self.width, lanes,
                        self.plan.channels,
                    )
                    total = two_sum(hi, more.hi)
                    hi = total.hi
                    lo += total.lo + more.lo
                sums[which * self.plan.channels + c] = hi + lo if isfinite(hi) else hi


cdef dd added(
    const double* sums, Py_ssize_t ld, Py_ssize_t lanes, Py_ssize_t step
) noexcept nogil:
    """Add up the sums of some lanes, `step` apart: those in the first row, then what they lost."""
    cdef dd total, sum
    cdef Py_ssize_t lane
    total.hi, total.lo = sums[0], sums[ld]
    for lane in range(1, lanes):
        sum = two_sum(total.hi, sums[lane * step])
        total.hi = sum.hi
        total.lo += sum.lo + sums[ld + lane * step]
    return total


def backward_reduce(dy, x, vectors, bint relu_mask=False, mask=None):
    """Return ``sum(dy)`` and ``sum(dy * (x - mean))`` of each channel, of shape (2, C).

    Parameters
    ----------
    dy, x : arrays of shape (N, C, S), any strides
    vectors : C-contiguous float64 array of shape (8, C)
        The mean; a, b and d of :func:`backward_elemt`; and the forward map under a ReLU.
    relu_mask : bool
        Whether there is a ReLU.
    mask : array of shape (N, S), optional
        Positions where it is 0 do not count.
    """
    cdef BackwardReduceTask task = BackwardReduceTask(dy, x, vectors, relu_mask, mask)
    task.spread()
    sums = np.empty((2, task.plan.channels))
    task.add_ranges(doubles_of(sums))
    return sums


cdef model_t reduce_model = model_of(BackwardReduceTask.__new__(BackwardReduceTask))


cdef bint reduce_backward(
    const view_t* dy, const view_t* x, const double* vectors, int num_threads, double* sums
) noexcept nogil:
    """Do what `backward_reduce` does by vectors (4, C), without Python; False without memory."""
    cdef void* task = copy_of(&reduce_model)
    cdef bint done
    if task == NULL:
        return False
    done = (<BackwardReduceTask> task).reduce_for(dy, x, vectors, num_threads, sums)
    free_all(&(<BackwardReduceTask> task).heap)
    free(task)
    return done
