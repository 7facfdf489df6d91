# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one read and one write of memory. Every operation is rounded once in float64 and the
# result once more to its dtype, so all instruction sets, and all backends, give the same bits.
# Where input and output are float32 or float64 in rows, whole ones are read, mapped and written in
# the order of memory: groups side by side, or the runs of channels that follow each other; a
# large output is written past the caches, which spares reading it first. Anything else goes
# through a tile of float64. What is written has been read before, so the output may be the input.
#
# The division sets the pace of data in the caches. For float32 it is spared where its result is
# known: with slopes 2**-50 below and above gamma / scale, (x - center) * slope + beta lies below
# and above the specified float64, as rounding keeps the order; where both round to the same
# float32, that is the result. One of some 2**25 elements is divided after all.
#
# The numbers of a long row take more to read than its elements. Rows that go past the caches
# anyway are mapped side by side, a line of memory of each in turn, so that the numbers are read
# once. A part of a line would be written by itself, and rows a multiple of a page apart push each
# other out of the first cache: those go one after another.

from libc.math cimport INFINITY, fabs, ldexp

from .affine_map cimport (
    BETA, BOUNDED, CENTER, GAMMA, LEAST, MOST, SCALE, lanes_of, mapped, numbers_of, numbers_t,
)
from .lanes cimport (
    WIDTH, any_differs, any_set, choose, equal, fence, floats_t, lanes_t, less, less_equal, load,
    longs_t, magnitude_of, narrow, near_sum, real, splat, splat_long, store, store_floats,
    stream_floats, stream_to,
)
from .tasks cimport Task
from .tiles cimport (
    FLOAT, LANES, TILE, gather, is_dense, is_sheet, lengthen_rows, plan_t, result_like, scatter,
    sheet_stride_of, start_of, tile_t, view_t, zero_where,
)

__all__ = ["rescale"]

# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t STREAM = 1 << 24

# Lanes of a row from which on its last, partial vector does not matter, and the first cache does
# not keep their numbers from row to row.
cdef Py_ssize_t LONG = 1024

# Rows that share the reading of their numbers, and lanes from which on that takes so long.
cdef enum:
    BAND = 4
    LONGER = 1 << 12

# Bytes of a line of memory, and after which lines have the same place in the first cache.
cdef size_t LINE = 64
cdef size_t PAGE = 4096

# Positions from which on bounds of the slopes are worth finding.
cdef Py_ssize_t MANY = 32

# Lanes whose numbers are kept from call to call.
cdef Py_ssize_t KEPT = 4096

# Within these magnitudes no product or quotient of three numbers leaves float64.
cdef double SMALL = ldexp(1.0, -200)
cdef double LARGE = ldexp(1.0, 200)

# More than the roundings of a quotient and a product move them.
cdef double NEAR = ldexp(1.0, -50)

cdef struct options_t:
    bint clipped, relu, refuse_infinite, stream, bounded
    double low, high

# Rows of lanes. Along positions, each row has the numbers of a channel, `step` apart.
cdef struct strip_t:
    const char* x
    Py_ssize_t x_stride         # in elements
    char* y
    Py_ssize_t y_stride
    Py_ssize_t rows
    Py_ssize_t lanes
    const double* affine        # rows of numbers
    Py_ssize_t across
    Py_ssize_t step


# What bounds the results of some lanes; `least` and `most` are slopes.
cdef struct bounds_t:
    lanes_t center
    lanes_t least
    lanes_t most
    lanes_t beta


cdef inline bounds_t bounds_of(
    const double* affine, Py_ssize_t across, Py_ssize_t lane, bint along
) noexcept nogil:
    cdef bounds_t bounds
    bounds.center = lanes_of(affine + CENTER * across, lane, along)
    bounds.least = lanes_of(affine + LEAST * across, lane, along)
    bounds.most = lanes_of(affine + MOST * across, lane, along)
    bounds.beta = lanes_of(affine + BETA * across, lane, along)
    return bounds


cdef inline lanes_t finished(lanes_t v, const options_t* options) noexcept nogil:
    if options.clipped:
        v = choose(less(v, splat(options.low)), splat(options.low), v)
        v = choose(less(splat(options.high), v), splat(options.high), v)
    if options.relu:
        v = choose(less_equal(v, splat(0.0)), splat(0.0), v)
    return v


cdef inline floats_t between(
    lanes_t v, const double* affine, Py_ssize_t across, Py_ssize_t lane, bint along,
    bounds_t bounds,
) noexcept nogil:
    """Return the specified result as float32, by its bounds if they say enough."""
    cdef lanes_t xmu = v - bounds.center
    cdef floats_t y = narrow(near_sum(xmu, bounds.least, bounds.beta))
    if any_differs(y, narrow(near_sum(xmu, bounds.most, bounds.beta))):
        y = narrow(mapped(v, numbers_of(affine, across, lane, along)))
    return y


cdef inline longs_t map_line(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, const double* affine,
    Py_ssize_t across, bint refuse_infinite, bint stream, bint bounded,
) noexcept nogil:
    """Map a line of each row of a band; return where they are infinite, if that matters."""
    cdef bounds_t bounds[LANES]
    cdef numbers_t numbers[LANES]
    cdef lanes_t v[BAND * LANES]
    cdef floats_t narrowed
    cdef longs_t infinite = splat_long(0)
    cdef int row, i, vectors = LANES // WIDTH
    for i in range(vectors):
        if bounded:
            bounds[i] = bounds_of(affine, across, i * WIDTH, False)
        else:
            numbers[i] = numbers_of(affine, across, i * WIDTH, False)
    for row in range(BAND):  # read before one is written, which may be at the same place of a page
        for i in range(vectors):
            v[row * vectors + i] = load(x + row * x_stride + i * WIDTH)
            if refuse_infinite:
                infinite = infinite | equal(
                    magnitude_of(v[row * vectors + i]), splat(INFINITY)
                )
    for row in range(BAND):
        for i in range(vectors):
            if real is float:
                if bounded:
                    narrowed = between(
                        v[row * vectors + i], affine, across, i * WIDTH, False, bounds[i]
                    )
                    if stream:
                        stream_floats(y + row * y_stride + i * WIDTH, narrowed)
                    else:
                        store_floats(y + row * y_stride + i * WIDTH, narrowed)
                    continue
            if stream:
                stream_to(y + row * y_stride + i * WIDTH, mapped(v[row * vectors + i], numbers[i]))
            else:
                store(y + row * y_stride + i * WIDTH, mapped(v[row * vectors + i], numbers[i]))
    return infinite


cdef inline longs_t map_band(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t lanes,
    const double* affine, Py_ssize_t across, bint refuse_infinite, bint bounded,
) noexcept nogil:
    """Map long rows side by side past the caches; the first and last lines overlap others."""
    cdef Py_ssize_t lane = <Py_ssize_t> (-<size_t> y % LINE) // <Py_ssize_t> sizeof(real)
    cdef Py_ssize_t last = lanes - LANES
    cdef longs_t infinite = splat_long(0)
    if lane:
        infinite = map_line(
            x, x_stride, y, y_stride, affine, across, refuse_infinite, False, bounded
        )
    while lane <= last:
        infinite = infinite | map_line(
            x + lane, x_stride, y + lane, y_stride, affine + lane, across, refuse_infinite, True,
            bounded,
        )
        lane += LANES
    if lane < lanes:
        infinite = infinite | map_line(
            x + last, x_stride, y + last, y_stride, affine + last, across, refuse_infinite, False,
            bounded,
        )
    return infinite


cdef inline bint go_side_by_side(const real* _, const strip_t* strip) noexcept nogil:
    """Whether the lines of some rows can be read and written in turn."""
    cdef size_t x_stride = strip.x_stride * sizeof(real), y_stride = strip.y_stride * sizeof(real)
    return (
        strip.lanes >= LONGER and y_stride % LINE == 0
        and x_stride % PAGE != 0 and y_stride % PAGE != 0
    )


cdef inline bint map_rows(
    const real* _, const strip_t* strip, const options_t* options, bint along, bint plain,
    bint stream, bint bounded,
) noexcept nogil:
    """Map rows of lanes; return whether one was infinite, where that matters."""
    cdef Py_ssize_t row = 0, lane, i, lanes = strip.lanes, full = lanes // WIDTH * WIDTH
    cdef Py_ssize_t across = strip.across
    cdef bint refuse_infinite = options.refuse_infinite
    cdef const double* affine
    cdef lanes_t v, last
    cdef floats_t y
    cdef longs_t infinite = splat_long(0)
    cdef numbers_t numbers
    cdef bounds_t bounds
    cdef real rest[WIDTH]
    cdef const real* source
    cdef real* target
    if stream and not along and go_side_by_side(_, strip):
        while row + BAND <= strip.rows:
            infinite = infinite | map_band(
                <const real*> strip.x + row * strip.x_stride, strip.x_stride,
                <real*> strip.y + row * strip.y_stride, strip.y_stride, lanes, strip.affine,
                across, refuse_infinite, bounded,
            )
            row += BAND
    for row in range(row, strip.rows):
        source = <const real*> strip.x + row * strip.x_stride
        target = <real*> strip.y + row * strip.y_stride
        affine = strip.affine + row * strip.step
        numbers = numbers_of(affine, across, 0, along)
        if bounded:
            bounds = bounds_of(affine, across, 0, along)
        # The last vector overlaps the one before; in place, what it reads must not be mapped yet.
        last = splat(0.0)
        if full < lanes:
            if full:
                last = load(source + lanes - WIDTH)
            else:
                for i in range(WIDTH):
                    rest[i] = source[i] if i < lanes else 0
                last = load(<const real*> rest)
        lane = 0
        while lane < full:
            v = load(source + lane)
            if refuse_infinite:
                infinite = infinite | equal(magnitude_of(v), splat(INFINITY))
            if real is float:
                if bounded:
                    if not along:
                        bounds = bounds_of(affine, across, lane, False)
                    y = between(v, affine, across, lane, along, bounds)
                    if stream:
                        stream_floats(target + lane, y)
                    else:
                        store_floats(target + lane, y)
                    lane += WIDTH
                    continue
            if not along:
                numbers = numbers_of(affine, across, lane, False)
            v = mapped(v, numbers)
            if not plain:
                v = finished(v, options)
            if stream:
                stream_to(target + lane, v)
            else:
                store(target + lane, v)
            lane += WIDTH
        if full < lanes:
            lane = lanes - WIDTH if full else 0
            if refuse_infinite:
                infinite = infinite | equal(magnitude_of(last), splat(INFINITY))
            last = mapped(last, numbers_of(affine, across, lane, along))
            if not plain:
                last = finished(last, options)
            if full:
                store(target + lane, last)
            else:
                store(<real*> rest, last)
                for i in range(lanes):
                    target[i] = rest[i]
    return any_set(infinite)


cdef inline bint map_plain_rows(
    const real* _, const strip_t* strip, const options_t* options, bint along, bint stream
) noexcept nogil:
    if real is float:
        if options.bounded:
            return map_rows(_, strip, options, along, True, stream, True)
    return map_rows(_, strip, options, along, True, stream, False)


cdef inline bint map_lanes(
    const real* _, const strip_t* strip, const options_t* options, bint along
) noexcept nogil:
    # A line that is written partly around the caches and partly through them is written slowly.
    cdef bint stream = (
        options.stream and (strip.lanes % WIDTH == 0 or strip.lanes >= LONG)
        and (
            <size_t> strip.y | (0 if strip.rows == 1 else strip.y_stride * sizeof(real))
        ) % 16 == 0
    )
    if options.clipped or options.relu:
        return map_rows(_, strip, options, along, False, False, False)
    if stream:
        return map_plain_rows(_, strip, options, along, True)
    return map_plain_rows(_, strip, options, along, False)


cdef bint map_as(
    const real* _, const strip_t* strip, const options_t* options, bint along
) noexcept nogil:
    """Choose the loop."""
    if along:
        return map_lanes(_, strip, options, True)
    return map_lanes(_, strip, options, False)


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
