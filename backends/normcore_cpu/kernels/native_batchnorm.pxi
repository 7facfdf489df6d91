# Design: batch norm and its parts: moments, the map, both in one go; the sums of the backward pass,
# the gradient, both in one go. What a channel's values decide is known as soon as they are summed,
# so that nothing is handed to threads twice.


cdef class ForwardTask(ChannelsTask):
    """Take moments and set the map, or have it; then write."""

    cdef double* parts              # (MOMENTS_ROWS, C)
    cdef double* map                # (COEFFICIENTS, C)
    cdef double eps

    def __init__(self, x, out, parts, map, double eps):
        self.begin(x, out, parts is not None)
        self.eps = eps
        self.arrays += [parts, map]
        self.parts = doubles_of(parts) if self.reduces else NULL
        self.map = doubles_of(map) if self.writes else NULL

    cdef void settle(self, Py_ssize_t channel, summary_t s) noexcept nogil:
        """Note the moments of a channel, and what maps it."""
        cdef double var = s.m2 / s.count
        store_summary(self.parts + channel, self.channels, s)
        if self.writes:
            self.map[CENTER * self.channels + channel] = s.mean
            self.map[SCALE * self.channels + channel] = sqrt(var + self.eps)

    cdef void slab(self, Py_ssize_t first, Py_ssize_t strips) noexcept nogil:
        cdef summary_t summaries[SLAB]
        cdef float_map_t maps[SLAB]
        cdef slab_map_t together
        cdef Py_ssize_t lane, lanes = strips * LANES
        cdef bint tame = True
        if self.reduces:
            self.observe_slab(first, strips, summaries)
            for lane in range(lanes):
                self.settle(first + lane, summaries[lane])
        if not self.writes:
            return
        for lane in range(lanes):
            maps[lane] = float_map_of(self.map + first + lane, self.channels)
            tame &= maps[lane].tame
            together.center[lane], together.a[lane] = maps[lane].center, maps[lane].a
            together.rest[lane], together.b[lane] = maps[lane].rest, maps[lane].b
        if tame:
            map_slab(
                position(&self.x, first, 0), self.x.stride, position(&self.out, first, 0),
                self.out.stride, self.positions, lanes, &together,
            )
            return
        for lane in range(lanes):
            self.write(first + lane, maps[lane])

    cdef void observe_slab(
        self, Py_ssize_t first, Py_ssize_t strips, summary_t* summaries
    ) noexcept nogil:
        cdef double sums[STRIPS * STRIP_SUMS]
        cdef double pivots[SLAB]
        cdef Py_ssize_t start = 0, number, lane
        cdef const char* rows
        cdef const double* found
        cdef summary_t more
        for lane in range(strips * LANES):
            summaries[lane].count = summaries[lane].mean = summaries[lane].m2 = 0.0
        while start < self.positions:
            number = min(self.positions - start, <Py_ssize_t> PART)
            rows = position(&self.x, first, start)
            for lane in range(strips * LANES):
                pivots[lane] = float_pivot((<const float*> rows)[lane])
            sum_slab(rows, self.x.stride, number, strips, pivots, sums)
            for lane in range(strips * LANES):
                found = sums + lane // LANES * STRIP_SUMS + lane % LANES
                more = summary_of(number, pivots[lane], found[0], found[CHAINS * LANES])
                summaries[lane] = joined(summaries[lane], more)
            start += number

    cdef void channel(self, Py_ssize_t channel) noexcept nogil:
        if self.reduces:
            self.settle(channel, self.observe(channel))
        if self.writes:
            self.write(channel, float_map_of(self.map + channel, self.channels))

    cdef summary_t observe(self, Py_ssize_t channel) noexcept nogil:
        cdef float buffer[RUN]
        cdef double sums[2 * CHAINS]
        cdef double pivot = 0.0
        cdef Py_ssize_t start = 0, last, p, number, lane
        cdef const float* x
        cdef summary_t total
        total.count = total.mean = total.m2 = 0.0
        while start < self.positions:
            last = min(self.positions, start + PART)
            for lane in range(2 * CHAINS):
                sums[lane] = 0.0
            p = start
            while p < last:
                number = min(last - p, <Py_ssize_t> RUN)
                x = gathered(&self.x, channel, p, number, buffer)
                if p == start:
                    pivot = float_pivot(x[0])
                add_run(x, number, pivot, sums)
                p += number
            total = joined(
                total, summary_of(last - start, pivot, sum_of(sums), sum_of(sums + CHAINS))
            )
            start = last
        return total

    cdef void write(self, Py_ssize_t channel, float_map_t map) noexcept nogil:
        cdef float buffer[RUN]
        cdef float result[RUN]
        cdef Py_ssize_t p = 0, number
        cdef const float* x
        cdef float* y
        while p < self.positions:
            number = min(self.positions - p, <Py_ssize_t> RUN)
            x = gathered(&self.x, channel, p, number, buffer)
            y = run_in_place(&self.out, channel, p, number)
            if y == NULL:
                map_run(x, result, number, map, self.map + channel, self.channels)
                scatter_floats(&self.out, channel, p, number, result)
            else:
                map_run(x, y, number, map, self.map + channel, self.channels)
            p += number


cdef class BackwardTask(ChannelsTask):
    """Take the sums of the backward pass and set the vectors, or have them; then write."""

    cdef view_t dy
    cdef double* sums               # (2, C): of dy and of dy * (x - mean)
    cdef const double* map          # (3, C): gamma, scale and count
    cdef double* vectors            # (MEAN .. D, C), of which the mean is set

    def __init__(self, dy, x, out, sums, map, vectors):
        self.begin(x, out, sums is not None)
        self.dy = self.view(dy)
        if not is_across(&self.dy):
            self.strips = 0
        self.arrays += [sums, map, vectors]
        self.sums = doubles_of(sums) if self.reduces else NULL
        self.map = doubles_of(map) if self.reduces and self.writes else NULL
        self.vectors = doubles_of(vectors)

    cdef void settle(self, Py_ssize_t channel, double sum_dy, double sum_dy_xmu) noexcept nogil:
        """Note the sums of a channel, and what makes its gradient."""
        self.sums[channel] = sum_dy
        self.sums[self.channels + channel] = sum_dy_xmu
        if self.writes:
            set_gradient(
                self.vectors + channel, self.channels, self.map[channel],
                self.map[self.channels + channel], sum_dy, sum_dy_xmu,
                self.map[2 * self.channels + channel],
            )

    cdef float_gradient_t gradient_map(self, Py_ssize_t channel) noexcept nogil:
        cdef const double* vectors = self.vectors + channel
        return float_gradient_of(
            vectors[MEAN * self.channels], vectors[A * self.channels], vectors[B * self.channels],
            vectors[D * self.channels],
        )

    cdef void slab(self, Py_ssize_t first, Py_ssize_t strips) noexcept nogil:
        cdef float_gradient_t maps[SLAB]
        cdef slab_gradient_t together
        cdef Py_ssize_t lane, lanes = strips * LANES
        cdef bint tame = True
        if self.reduces:
            self.observe_slab(first, strips)
        if not self.writes:
            return
        for lane in range(lanes):
            maps[lane] = self.gradient_map(first + lane)
            tame &= maps[lane].tame
            together.center[lane], together.a[lane] = maps[lane].center, maps[lane].a
            together.b[lane], together.d[lane] = maps[lane].b, maps[lane].d
        if tame:
            differentiate_slab(
                position(&self.dy, first, 0), self.dy.stride, position(&self.x, first, 0),
                self.x.stride, position(&self.out, first, 0), self.out.stride, self.positions,
                lanes, &together,
            )
            return
        for lane in range(lanes):
            self.write(first + lane, maps[lane])

    cdef void observe_slab(self, Py_ssize_t first, Py_ssize_t strips) noexcept nogil:
        cdef double sums[STRIPS * STRIP_SUMS]
        cdef const double* found
        cdef Py_ssize_t lane
        sum_slab_of_products(
            position(&self.dy, first, 0), self.dy.stride, position(&self.x, first, 0),
            self.x.stride, self.positions, strips, self.vectors + MEAN * self.channels + first,
            sums,
        )
        for lane in range(strips * LANES):
            found = sums + lane // LANES * STRIP_SUMS + lane % LANES
            self.settle(first + lane, found[0], found[CHAINS * LANES])

    cdef void channel(self, Py_ssize_t channel) noexcept nogil:
        cdef double sums[2 * CHAINS]
        cdef float dy[RUN]
        cdef float x[RUN]
        cdef Py_ssize_t p = 0, number, lane
        if self.reduces:
            for lane in range(2 * CHAINS):
                sums[lane] = 0.0
            while p < self.positions:
                number = min(self.positions - p, <Py_ssize_t> RUN)
                add_products(
                    gathered(&self.dy, channel, p, number, dy),
                    gathered(&self.x, channel, p, number, x),
                    number, self.vectors[MEAN * self.channels + channel], sums,
                )
                p += number
            self.settle(channel, sum_of(sums), sum_of(sums + CHAINS))
        if self.writes:
            self.write(channel, self.gradient_map(channel))

    cdef void write(self, Py_ssize_t channel, float_gradient_t map) noexcept nogil:
        cdef float dy[RUN]
        cdef float x[RUN]
        cdef float result[RUN]
        cdef Py_ssize_t p = 0, number
        cdef const float* upstream
        cdef const float* values
        cdef float* dx
        while p < self.positions:
            number = min(self.positions - p, <Py_ssize_t> RUN)
            upstream = gathered(&self.dy, channel, p, number, dy)
            values = gathered(&self.x, channel, p, number, x)
            dx = run_in_place(&self.out, channel, p, number)
            if dx == NULL:
                differentiate_run(
                    upstream, values, result, number, map, self.vectors + channel, self.channels
                )
                scatter_floats(&self.out, channel, p, number, result)
            else:
                differentiate_run(
                    upstream, values, dx, number, map, self.vectors + channel, self.channels
                )
            p += number


def native_moments(x):
    """Return the state (7, C) of the moments of each channel of a float32 array (N, C, S)."""
    parts = np.zeros((MOMENTS_ROWS, x.shape[1]))
    cdef ForwardTask task = ForwardTask(x, None, parts, None, 0.0)
    task.spread()
    return parts


def native_rescale(x, map, out=None):
    """Map channels of a float32 array (N, C, S) by coefficients (4, C) of float64.

    ``out`` is of float32 and the shape of ``x``, and may be ``x`` itself; by default it is fresh.
    """
    cdef ForwardTask task
    if out is None:
        out = result_like(x)
    task = ForwardTask(x, out, None, np.ascontiguousarray(map), 0.0)
    task.spread()
    return out


def native_normalize(x, gamma, beta, double eps, out=None):
    """Do what `normalize` does, of float32 arrays without a mask and a ReLU."""
    cdef ForwardTask task
    cdef Py_ssize_t channels = x.shape[1]
    parts = np.zeros((MOMENTS_ROWS, channels))
    map = np.empty((COEFFICIENTS, channels))
    set_row(doubles_of(map) + GAMMA * channels, channels, gamma, "gamma")
    set_row(doubles_of(map) + BETA * channels, channels, beta, "beta")
    if out is None:
        out = result_like(x)
    task = ForwardTask(x, out, parts, map, eps)
    task.spread()
    return out, parts


def native_backward_reduce(dy, x, mean):
    """Return sum(dy) and sum(dy * (x - mean)) of each channel, of shape (2, C)."""
    cdef Py_ssize_t channels = x.shape[1]
    sums = np.zeros((2, channels))
    vectors = np.empty((1, channels))
    vectors[MEAN] = mean
    cdef BackwardTask task = BackwardTask(dy, x, None, sums, None, vectors)
    task.spread()
    return sums


def native_backward_elemt(dy, x, vectors, out=None):
    """Return ``dx = a * dy - (b + d * (x - mean))``, the vectors being rows (4, C) in this order.

    ``out`` is of float32 and the shape of ``x``, and may be ``dy`` or ``x`` itself.
    """
    cdef BackwardTask task
    if out is None:
        out = result_like(dy)
    task = BackwardTask(dy, x, out, None, None, vectors)
    task.spread()
    return out


def native_normalize_backward(
    dy, x, parts, gamma, double eps, bint training=True, out=None
):
    """Do what `normalize_backward` does, of float32 arrays without a mask and a ReLU."""
    cdef BackwardTask task
    cdef Py_ssize_t c, channels = x.shape[1]
    cdef const double* scales
    cdef double* reduced
    parts = as_doubles(parts)
    if parts.shape[1] != channels:
        raise ValueError(f"the moments are of {parts.shape[1]} channels, but x has {channels}")
    if out is None:
        out = result_like(dy)
    affine = affine_of(parts, gamma, 0.0, eps)
    vectors = np.empty((FORWARD, channels))
    vectors[MEAN] = affine[CENTER]
    map = np.empty((3, channels))
    map[0], map[1] = affine[GAMMA], affine[SCALE]
    map[2] = parts[COUNT_HI] + parts[COUNT_LO] if training else INFINITY
    sums = np.zeros((2, channels))
    task = BackwardTask(dy, x, out, sums, map, vectors)
    task.spread()
    scales, reduced = doubles_of(map) + channels, doubles_of(sums)
    for c in range(channels):
        reduced[channels + c] /= scales[c]
    return out, sums[1], sums[0]
