# Design: what the passes of batch norm's backward share; the gradient is layer norm's, too. The
# mask of a ReLU, where its forward map is positive, is computed again from x instead of being kept.
# Rows of float32 or float64 are read and written in place; other dtypes, and masks, go through
# tiles of float64.

cdef inline lanes_t through_relu(
    lanes_t dy, lanes_t x, const double* vectors, Py_ssize_t ld, Py_ssize_t lane, bint along
) noexcept nogil:
    """Return dy where the forward map of x is positive or NaN, and 0 elsewhere."""
    cdef lanes_t y = mapped(x, coefficients_of(vectors + FORWARD * ld, ld, lane, along))
    return blend(less_equal(y, splat(0.0)), splat(0.0), dy)


cdef inline lanes_t gradient(
    lanes_t g, lanes_t xmu, lanes_t a, lanes_t b, lanes_t d
) noexcept nogil:
    """Return dx of some lanes, of which xmu is x - mean."""
    return a * g - (b + d * xmu)


cdef class BackwardTask(Task):
    """What both passes share."""

    cdef view_t dy, mask
    cdef const double* vectors      # (VECTORS, ld): what each channel or lane needs to know
    cdef Py_ssize_t ld
    cdef bint masked, relu_mask

    def __init__(self, dy, x, vectors, bint relu_mask, mask):
        self.begin(x)
        self.dy = self.view(dy)
        self.relu_mask = relu_mask
        self.masked = mask is not None
        if self.masked:
            self.mask = self.view(mask, True)
        self.vectors = self.coefficients(vectors, VECTORS, &self.ld)

    cdef void begin_for(
        self, const view_t* dy, const view_t* x, const double* vectors, int num_threads
    ) noexcept nogil:
        """Begin without Python."""
        self.dy, self.x, self.num_threads = dy[0], x[0], num_threads
        self.masked = self.relu_mask = False
        self.cover()
        self.vectors = self.lay_lanes(vectors, FORWARD, VECTORS, &self.ld)

    cdef void gather_both(self, const tile_t* at, double* dy, double* x) noexcept nogil:
        """Gather dy and x; where the mask is 0, dy and x - mean are, whatever they hold."""
        cdef double mask[TILE]
        cdef const double* mean = self.vectors + MEAN * self.ld + self.first_coefficient(at)
        cdef Py_ssize_t i
        gather(&self.dy, &self.plan, at, 0.0, dy)
        gather(&self.x, &self.plan, at, 0.0, x)
        if self.masked:
            gather(&self.mask, &self.plan, at, 0.0, mask)
            for i in range(at.rows * LANES):
                if mask[i] == 0.0:
                    dy[i], x[i] = 0.0, mean[0 if self.plan.along else i % LANES]
