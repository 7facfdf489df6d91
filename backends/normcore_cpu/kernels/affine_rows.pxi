# Design: rows of float32 or float64 lanes are read, mapped and written; past the caches where the
# result is large, which spares reading it first. What is read is asked for 2 kB before: streamed
# stores keep some processors from seeing that a stream is read. Every operation is rounded once in
# float64, and the result once more. Two vectors go together, so that what is decided is decided
# once for both.
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

# Lanes of a row from which on its last, partial vector does not matter, and the first cache does
# not keep their numbers from row to row.
cdef Py_ssize_t LONG = 1024

# Rows that share the reading of their numbers, and lanes from which on that takes so long.
cdef enum:
    SIDE_BY_SIDE = 4
    LONGER = 1 << 12
    AHEAD_IN_ROW = 2048     # bytes that are asked for before they are read

# Bytes after which lines have the same place in the first cache.
cdef size_t PAGE = 4096

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


cdef inline words_t narrow_between(lanes_t v, bounds_t bounds, floats_t* y) noexcept nogil:
    """Set the result, if it has no bits that are doubtful: return these."""
    cdef lanes_t xmu = v - bounds.center
    y[0] = narrow(near_sum(xmu, bounds.least, bounds.beta))
    return differing_bits(y[0], narrow(near_sum(xmu, bounds.most, bounds.beta)))


cdef inline void put_floats(float* y, floats_t v, bint stream) noexcept nogil:
    if stream:
        stream_floats(y, v)
    else:
        store_floats(y, v)


cdef inline void put(real* y, lanes_t v, bint stream) noexcept nogil:
    if stream:
        stream_to(y, v)
    else:
        store(y, v)


cdef inline lanes_t map_line(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, const double* affine,
    Py_ssize_t across, bint refuse_infinite, bint stream, bint bounded, lanes_t greatest,
) noexcept nogil:
    """Map a line of each row of a band; return the greatest magnitudes, if these matter."""
    cdef bounds_t bounds[LANES]
    cdef numbers_t numbers[LANES]
    cdef lanes_t v[SIDE_BY_SIDE * LANES]
    cdef floats_t narrowed
    cdef int row, i, vectors = LANES // WIDTH
    for i in range(vectors):
        if bounded:
            bounds[i] = bounds_of(affine, across, i * WIDTH, False)
        else:
            numbers[i] = numbers_of(affine, across, i * WIDTH, False)
    for row in range(SIDE_BY_SIDE):  # read before one is written, which may be at the same place of a page
        for i in range(vectors):
            v[row * vectors + i] = load(x + row * x_stride + i * WIDTH)
            if refuse_infinite:
                greatest = greater(magnitude_of(v[row * vectors + i]), greatest)
        prefetch(<const char*> (x + row * x_stride) + AHEAD_IN_ROW)
        if LANES * sizeof(real) > LINE:
            prefetch(<const char*> (x + row * x_stride) + AHEAD_IN_ROW + LINE)
    for row in range(SIDE_BY_SIDE):
        for i in range(vectors):
            if real is float:
                if bounded:
                    if any_word(narrow_between(v[row * vectors + i], bounds[i], &narrowed)):
                        narrowed = narrow(mapped(
                            v[row * vectors + i], numbers_of(affine, across, i * WIDTH, False)
                        ))
                    put_floats(y + row * y_stride + i * WIDTH, narrowed, stream)
                    continue
            put(y + row * y_stride + i * WIDTH, mapped(v[row * vectors + i], numbers[i]), stream)
    return greatest


cdef inline lanes_t map_band(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t lanes,
    const double* affine, Py_ssize_t across, bint refuse_infinite, bint bounded, lanes_t greatest,
) noexcept nogil:
    """Map long rows side by side past the caches; the first and last lines overlap others."""
    cdef Py_ssize_t lane = <Py_ssize_t> (-<size_t> y % LINE) // <Py_ssize_t> sizeof(real)
    cdef Py_ssize_t last = lanes - LANES
    if lane:
        greatest = map_line(
            x, x_stride, y, y_stride, affine, across, refuse_infinite, False, bounded, greatest
        )
    while lane <= last:
        greatest = map_line(
            x + lane, x_stride, y + lane, y_stride, affine + lane, across, refuse_infinite, True,
            bounded, greatest,
        )
        lane += LANES
    if lane < lanes:
        greatest = map_line(
            x + last, x_stride, y + last, y_stride, affine + last, across, refuse_infinite, False,
            bounded, greatest,
        )
    return greatest


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
    cdef lanes_t v, w, last, greatest = splat(0.0)
    cdef floats_t y, z
    cdef real rest[WIDTH]
    cdef const real* source
    cdef real* target
    if stream and not along and go_side_by_side(_, strip):
        while row + SIDE_BY_SIDE <= strip.rows:
            greatest = map_band(
                <const real*> strip.x + row * strip.x_stride, strip.x_stride,
                <real*> strip.y + row * strip.y_stride, strip.y_stride, lanes, strip.affine,
                across, refuse_infinite, bounded, greatest,
            )
            row += SIDE_BY_SIDE
    for row in range(row, strip.rows):
        source = <const real*> strip.x + row * strip.x_stride
        target = <real*> strip.y + row * strip.y_stride
        affine = strip.affine + row * strip.step
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
        while lane + 2 * WIDTH <= full:
            v, w = load(source + lane), load(source + lane + WIDTH)
            prefetch(<const char*> (source + lane) + AHEAD_IN_ROW)
            if WIDTH * sizeof(real) >= LINE:
                prefetch(<const char*> (source + lane + WIDTH) + AHEAD_IN_ROW)
            if refuse_infinite:
                greatest = greater(magnitude_of(w), greater(magnitude_of(v), greatest))
            if real is float:
                if bounded:
                    if any_word(
                        narrow_between(v, bounds_of(affine, across, lane, along), &y)
                        | narrow_between(w, bounds_of(affine, across, lane + WIDTH, along), &z)
                    ):
                        y = narrow(mapped(v, numbers_of(affine, across, lane, along)))
                        z = narrow(mapped(w, numbers_of(affine, across, lane + WIDTH, along)))
                    put_floats(target + lane, y, stream)
                    put_floats(target + lane + WIDTH, z, stream)
                    lane += 2 * WIDTH
                    continue
            v = mapped(v, numbers_of(affine, across, lane, along))
            w = mapped(w, numbers_of(affine, across, lane + WIDTH, along))
            if not plain:
                v, w = finished(v, options), finished(w, options)
            put(target + lane, v, stream)
            put(target + lane + WIDTH, w, stream)
            lane += 2 * WIDTH
        if lane < full:
            v = load(source + lane)
            if refuse_infinite:
                greatest = greater(magnitude_of(v), greatest)
            v = mapped(v, numbers_of(affine, across, lane, along))
            put(target + lane, v if plain else finished(v, options), stream)
        if full < lanes:
            lane = lanes - WIDTH if full else 0
            if refuse_infinite:
                greatest = greater(magnitude_of(last), greatest)
            last = mapped(last, numbers_of(affine, across, lane, along))
            if not plain:
                last = finished(last, options)
            if full:
                store(target + lane, last)
            else:
                store(<real*> rest, last)
                for i in range(lanes):
                    target[i] = rest[i]
    return any_set(equal(greatest, splat(INFINITY)))


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
