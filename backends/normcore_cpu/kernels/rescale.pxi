# Design: one read and one write of memory. Every operation is rounded once in float64 and the
# result once more to its dtype, so all instruction sets, and all backends, give the same bits.
# Where input and output are float32 or float64 in rows, whole ones are read, mapped and written in
# the order of memory: groups side by side, or the runs of channels that follow each other; a
# large output is written past the caches, which spares reading it first. Anything else goes
# through a tile of float64. What is written has been read before, so the output may be the input.


# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t STREAM = 1 << 24

# Positions from which on bounds of the slopes are worth finding.
cdef Py_ssize_t MANY = 32

# Lanes whose numbers are kept from call to call.
cdef Py_ssize_t KEPT = 4096

# Within these magnitudes no product or quotient of three numbers leaves float64.
cdef double SMALL = ldexp(1.0, -200)
cdef double LARGE = ldexp(1.0, 200)

# More than the roundings of a quotient and a product move them.
cdef double NEAR = ldexp(1.0, -50)


cdef inline bint is_tame(double value) noexcept nogil:
    return (value == 0.0) | ((fabs(value) > SMALL) & (fabs(value) < LARGE))


cdef bint set_bounds(double* affine, Py_ssize_t lanes, Py_ssize_t across) noexcept nogil:
    """Set what lies just below and above gamma / scale; return whether that bounds results."""
    cdef Py_ssize_t lane
    cdef double scale, gamma, slope
    cdef bint tame = True
    for lane in range(lanes):
        scale, gamma = affine[SCALE * across + lane], affine[GAMMA * across + lane]
        slope = gamma / scale
        affine[LEAST * across + lane] = slope - NEAR * slope
        affine[MOST * across + lane] = slope + NEAR * slope
        tame &= is_tame(affine[CENTER * across + lane]) & is_tame(gamma) & is_tame(scale)
        tame &= (scale != 0.0) & (fabs(affine[BETA * across + lane]) < INFINITY)
    return tame


cdef class LaneNumbers:
    """The numbers of a map and their bounds, laid out for one way to cover arrays."""

    cdef object memory
    cdef double* rows                   # (BOUNDED, across)
    cdef Py_ssize_t across, channels, fold
    cdef bint along, has_bounds, tame

    cdef bint fit(self, const plan_t* plan, bint bounds) noexcept:
        """Whether they are for arrays that are covered so, with bounds where these are asked."""
        return (
            self.channels == plan.channels and self.fold == plan.fold
            and self.along == plan.along and (self.has_bounds or not bounds)
        )


cdef class RescaleTask(Task):
    cdef view_t out, mask
    cdef LaneNumbers laid_out
    cdef double* affine                 # (BOUNDED, across)
    cdef Py_ssize_t across
    cdef bint masked, infinite
    cdef options_t options

    cdef int describe(
        self, object x, object affine, object out, object clip, bint relu, object mask,
        bint refuse_infinite, object laid_out,
    ) except -1:
        cdef bint bounds
        self.begin(x)
        self.out = self.view(out)
        self.options.clipped = clip is not None
        if self.options.clipped:
            self.options.low, self.options.high = clip
        self.options.relu = relu
        self.options.refuse_infinite = refuse_infinite
        self.masked = mask is not None
        if self.masked:
            self.mask = self.view(mask, True)
        self.whole_rows = (
            self.x.real == self.out.real and not self.masked
            and is_sheet(&self.x, &self.plan) and is_sheet(&self.out, &self.plan)
        )
        if self.whole_rows and not self.plan.along and is_dense(&self.x) and is_dense(&self.out):
            lengthen_rows(&self.plan, &self.x)
        self.split_rows()
        self.options.stream = (  # a tile, which is read again at once, belongs into the caches
            self.whole_rows and out.nbytes >= STREAM and self.x.data != self.out.data
        )
        self.infinite = False
        bounds = self.whole_rows and self.x.real == FLOAT and self.x.positions >= MANY
        if isinstance(laid_out, LaneNumbers) and (<LaneNumbers> laid_out).fit(&self.plan, bounds):
            self.laid_out = laid_out
        else:
            self.laid_out = self.lay_out(affine, bounds)
        self.affine, self.across = self.laid_out.rows, self.laid_out.across
        self.options.bounded = bounds and self.laid_out.tame
        return 0

    cdef LaneNumbers lay_out(self, object affine, bint bounds):
        cdef LaneNumbers numbers = LaneNumbers.__new__(LaneNumbers)
        numbers.rows = self.numbers(affine, BOUNDED, &numbers.across)
        numbers.memory = self.arrays.pop()  # that outlives the task
        numbers.channels, numbers.fold = self.plan.channels, self.plan.fold
        numbers.along, numbers.has_bounds = self.plan.along, bounds
        numbers.tame = bounds and set_bounds(
            numbers.rows, self.plan.channels if self.plan.along else self.plan.width,
            numbers.across,
        )
        return numbers

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double tile[TILE]
        cdef strip_t strip
        cdef bint infinite
        strip.rows, strip.lanes, strip.across = at.rows, at.lanes, self.across
        strip.affine, strip.step = self.affine + self.first_number(at), 0
        if self.whole_rows:
            strip.x = start_of(&self.x, &self.plan, at)
            strip.y = start_of(&self.out, &self.plan, at)
            strip.x_stride = sheet_stride_of(&self.x, &self.plan)
            strip.y_stride = sheet_stride_of(&self.out, &self.plan)
            if self.plan.along:
                strip.step = 1
        else:
            gather(&self.x, &self.plan, at, 0.0, tile)
            strip.x, strip.y, strip.lanes = <char*> tile, <char*> tile, LANES
            strip.x_stride = strip.y_stride = LANES
        if self.whole_rows and self.x.real == FLOAT:
            infinite = map_as(<const float*> NULL, &strip, &self.options, self.plan.along)
        else:
            infinite = map_as(<const double*> NULL, &strip, &self.options, self.plan.along)
        if infinite:
            self.infinite = True
        if not self.whole_rows:
            if self.masked:
                zero_where(&self.mask, &self.plan, at, tile)
            scatter(&self.out, &self.plan, at, tile)

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        fence()


def rescale(
    x, affine, out=None, clip=None, bint relu=False, mask=None, bint refuse_infinite=False,
    laid_out=None,
):
    """Return ``((x - center) / scale) * gamma + beta``.

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    affine : C-contiguous float64 array of shape (4, C)
        Center, scale, gamma and beta.
    out : floating array of shape (N, C, S), any strides, optional
        May be ``x`` itself; by default a fresh array in the memory order of ``x``.
    clip : pair of floats, optional
    relu : bool
    mask : array of shape (N, S), optional
        The result is 0 where it is 0.
    refuse_infinite : bool
    laid_out : object, optional
        What an earlier call with these numbers returned as such.

    Returns
    -------
    out : array
    infinite : bool
        Whether ``refuse_infinite`` found an infinite input.
    laid_out : object or None
        The numbers as the kernel needs them, where they are few enough to be kept.
    """
    if out is None:
        out = result_like(x)
    # Without a constructor's tuple of arguments: a row's time is made of such things.
    cdef RescaleTask task = RescaleTask.__new__(RescaleTask)
    task.describe(x, affine, out, clip, relu, mask, refuse_infinite, laid_out)
    task.spread()
    return out, task.infinite, task.laid_out if task.across <= KEPT else None
