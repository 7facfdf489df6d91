# Design: one read and one write of memory. Every operation is rounded once in float64 and the
# result once more to its dtype, so all instruction sets, and all backends, give the same bits.
# Where input and output are contiguous rows of float32 or float64, these are read, mapped and
# written in the order of memory: groups side by side, or the runs of channels that follow each
# other; a large output by non-temporal stores, which spare reading it first. Anything else goes
# through a tile of float64. What is written has been read before, so the output may be the input.

# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t NONTEMPORAL_BYTES = 1 << 24

# Positions from which on bounds of the slopes are worth finding.
cdef Py_ssize_t MANY = 32

# Lanes whose coefficients are kept from call to call.
cdef Py_ssize_t KEPT = 4096

# Within these magnitudes no product or quotient of three coefficients leaves float64.
cdef double SMALL = ldexp(1.0, -200)
cdef double LARGE = ldexp(1.0, 200)

# More than the roundings of a quotient and a product move them.
cdef double NEAR = ldexp(1.0, -50)


cdef inline bint is_tame(double value) noexcept nogil:
    return (value == 0.0) | ((fabs(value) > SMALL) & (fabs(value) < LARGE))


cdef bint set_bounds(double* affine, Py_ssize_t lanes, Py_ssize_t ld) noexcept nogil:
    """Set what lies just below and above gamma / scale; return whether that bounds results."""
    cdef Py_ssize_t lane
    cdef double scale, gamma, slope
    cdef bint tame = True
    for lane in range(lanes):
        scale, gamma = affine[SCALE * ld + lane], affine[GAMMA * ld + lane]
        slope = gamma / scale
        affine[LEAST * ld + lane] = slope - NEAR * slope
        affine[MOST * ld + lane] = slope + NEAR * slope
        tame &= is_tame(affine[CENTER * ld + lane]) & is_tame(gamma) & is_tame(scale)
        tame &= (scale != 0.0) & (fabs(affine[BETA * ld + lane]) < INFINITY)
    return tame


cdef class LaneCoefficients:
    """The coefficients of a map and their bounds, laid out for one way to cover arrays."""

    cdef heap_t heap
    cdef double* rows                   # (BOUNDED, ld)
    cdef Py_ssize_t ld, channels, row_positions
    cdef bint along, has_bounds, tame

    def __dealloc__(self):
        free_all(&self.heap)

    cdef bint fit(self, const plan_t* plan, bint bounds) noexcept:
        """Whether they are for arrays that are covered so, with bounds where these are asked."""
        return (
            self.channels == plan.channels and self.row_positions == plan.row_positions
            and self.along == plan.along and (self.has_bounds or not bounds)
        )


cdef class RescaleTask(Task):
    cdef view_t out, mask
    cdef LaneCoefficients laid_out
    cdef double* affine                 # (BOUNDED, ld)
    cdef Py_ssize_t ld
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
        bounds = self.choose_way()
        if isinstance(laid_out, LaneCoefficients) and (
            <LaneCoefficients> laid_out
        ).fit(&self.plan, bounds):
            self.laid_out = laid_out
        else:
            self.laid_out = self.lay_out(affine, bounds)
        self.affine, self.ld = self.laid_out.rows, self.laid_out.ld
        self.options.bounded = bounds and self.laid_out.tame
        return 0

    cdef bint choose_way(self) noexcept nogil:
        """Decide how rows are mapped; return whether bounds of the slopes are worth finding."""
        self.whole_rows = (
            self.x.real == self.out.real and not self.masked
            and are_contiguous(&self.x, &self.plan) and are_contiguous(&self.out, &self.plan)
        )
        if (
            self.whole_rows and not self.plan.along
            and is_contiguous(&self.x) and is_contiguous(&self.out)
        ):
            lengthen_rows(&self.plan, &self.x)
        self.split_rows()
        self.options.nontemporal = (  # not a tile, which is read again at once
            self.whole_rows and bytes_of(&self.out) >= NONTEMPORAL_BYTES
            and self.x.data != self.out.data
        )
        self.infinite = False
        return self.whole_rows and self.x.real == FLOAT and self.x.positions >= MANY

    cdef bint map_for(
        self, const view_t* x, const double* affine, const view_t* out, int num_threads
    ) noexcept nogil:
        """Map an array without Python; return False where memory does not suffice."""
        cdef bint bounds
        self.x, self.out, self.num_threads = x[0], out[0], num_threads
        self.options.clipped = self.options.relu = self.options.refuse_infinite = False
        self.masked = False
        self.cover()
        bounds = self.choose_way()
        self.affine = self.lay_lanes(affine, COEFFICIENTS, BOUNDED, &self.ld)
        if self.out_of_memory:
            return False
        self.options.bounded = bounds and set_bounds(self.affine, self.num_lanes(), self.ld)
        self.visit_all()
        return True

    cdef Py_ssize_t num_lanes(self) noexcept nogil:
        """Return how many lanes have coefficients."""
        return self.plan.channels if self.plan.along else self.plan.width

    cdef LaneCoefficients lay_out(self, object affine, bint bounds):
        cdef LaneCoefficients coefficients = LaneCoefficients.__new__(LaneCoefficients)
        coefficients.rows = self.coefficients(affine, BOUNDED, &coefficients.ld)
        coefficients.heap, self.heap.count = self.heap, 0  # it outlives the task
        coefficients.channels = self.plan.channels
        coefficients.row_positions = self.plan.row_positions
        coefficients.along, coefficients.has_bounds = self.plan.along, bounds
        coefficients.tame = bounds and set_bounds(
            coefficients.rows, self.num_lanes(), coefficients.ld
        )
        return coefficients

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double tile[TILE]
        cdef block_t block
        cdef bint infinite
        block.rows, block.lanes, block.ld = at.rows, at.lanes, self.ld
        block.affine, block.step = self.affine + self.first_coefficient(at), 0
        if self.whole_rows:
            block.x = start_of(&self.x, &self.plan, at)
            block.y = start_of(&self.out, &self.plan, at)
            block.x_stride = contiguous_stride_of(&self.x, &self.plan)
            block.y_stride = contiguous_stride_of(&self.out, &self.plan)
            if self.plan.along:
                block.step = 1
        else:
            gather(&self.x, &self.plan, at, 0.0, tile)
            block.x, block.y, block.lanes = <char*> tile, <char*> tile, LANES
            block.x_stride = block.y_stride = LANES
        if self.whole_rows and self.x.real == FLOAT:
            infinite = map_as(<const float*> NULL, &block, &self.options, self.plan.along)
        else:
            infinite = map_as(<const double*> NULL, &block, &self.options, self.plan.along)
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
        What an earlier call with these coefficients returned as such.

    Returns
    -------
    out : array
    infinite : bool
        Whether ``refuse_infinite`` found an infinite input.
    laid_out : object or None
        The coefficients as the kernel needs them, where they are few enough to be kept.
    """
    if out is None:
        out = result_like(x)
    # Without a constructor's tuple of arguments: a row's time is made of such things.
    cdef RescaleTask task = RescaleTask.__new__(RescaleTask)
    task.describe(x, affine, out, clip, relu, mask, refuse_infinite, laid_out)
    task.spread()
    return out, task.infinite, task.laid_out if task.ld <= KEPT else None


cdef model_t rescale_model = model_of(RescaleTask.__new__(RescaleTask))


cdef bint map_channels(
    const view_t* x, const double* affine, const view_t* out, int num_threads
) noexcept nogil:
    """Map an array by coefficients (4, C), without Python; False without memory."""
    cdef void* task = copy_of(&rescale_model)
    cdef bint done
    if task == NULL:
        return False
    done = (<RescaleTask> task).map_for(x, affine, out, num_threads)
    free_all(&(<RescaleTask> task).heap)
    free(task)
    return done
