# Design: sums of one channel, in the same order whichever way it lies in memory: lane p % 8 takes
# position p, and lanes are added up in pairs at the end. Along positions a vector has some lanes of
# one channel; across channels a lane is a walk over every eighth row, whose vectors have that lane
# of some channels, so that sums stay in registers and a line of memory is read once. The walks of
# all channels of a slab stay together, band of rows by band of rows: rows may lie in pages of
# their own, whose addresses are not to be looked up once a line.
#
# Moments are summed about the first value of a block of positions. As that is one of the values,
# its distance from the mean is at most their deviation times the root of their number, so that at
# most a factor of as many as the block has is lost of 2**-53. Blocks are merged in order (Chan,
# Golub and LeVeque 1979), which constants leave constant.

cdef enum:
    PART = 4096     # positions of a block, whole rows of lanes
    CHAINS = 8      # lanes of a sum: enough for additions not to wait for each other
    # Rows of two arrays that are read, while as many are fetched: where rows are a power of two
    # apart, few lines have a place in the caches.
    BAND_ROWS = 32
    STRIP_SUMS = 2 * CHAINS * LANES     # numbers of two sums of 16 channels side by side

# Moments of some values of a channel.
cdef struct summary_t:
    double count
    double mean
    double m2


cdef inline double float_pivot(float first) noexcept nogil:
    """Return what to sum about: 0 instead of what is not finite, so that it propagates."""
    return first if fabsf(first) < INFINITY else 0.0


cdef void add_run(const float* x, Py_ssize_t number, double pivot, double* sums) noexcept nogil:
    """Add values less the pivot, and their squares, to the lanes of two sums."""
    cdef lanes_t total[CHAINS]
    cdef lanes_t squares[CHAINS]
    cdef lanes_t d, center = splat(pivot)
    cdef double rest
    cdef Py_ssize_t i, k, full = number // CHAINS * CHAINS
    for k in range(CHAINS // WIDTH):
        total[k] = load_double(sums + k * WIDTH)
        squares[k] = load_double(sums + CHAINS + k * WIDTH)
    i = 0
    while i < full:
        for k in range(CHAINS // WIDTH):
            d = load_float(x + i + k * WIDTH) - center
            total[k] = total[k] + d
            squares[k] = squares[k] + d * d
        i += CHAINS
    for k in range(CHAINS // WIDTH):
        store_double(sums + k * WIDTH, total[k])
        store_double(sums + CHAINS + k * WIDTH, squares[k])
    for k in range(number - full):
        rest = x[full + k] - pivot
        sums[k] += rest
        sums[CHAINS + k] += rest * rest


cdef void add_products(
    const float* dy, const float* x, Py_ssize_t number, double mean, double* sums
) noexcept nogil:
    """Add dy, and dy * (x - mean), to the lanes of two sums."""
    cdef lanes_t total[CHAINS]
    cdef lanes_t products[CHAINS]
    cdef lanes_t g, center = splat(mean)
    cdef double rest
    cdef Py_ssize_t i, k, full = number // CHAINS * CHAINS
    for k in range(CHAINS // WIDTH):
        total[k] = load_double(sums + k * WIDTH)
        products[k] = load_double(sums + CHAINS + k * WIDTH)
    i = 0
    while i < full:
        for k in range(CHAINS // WIDTH):
            g = load_float(dy + i + k * WIDTH)
            total[k] = total[k] + g
            products[k] = products[k] + g * (load_float(x + i + k * WIDTH) - center)
        i += CHAINS
    for k in range(CHAINS // WIDTH):
        store_double(sums + k * WIDTH, total[k])
        store_double(sums + CHAINS + k * WIDTH, products[k])
    for k in range(number - full):
        rest = dy[full + k]
        sums[k] += rest
        sums[CHAINS + k] += rest * (x[full + k] - mean)


cdef inline double sum_of(double* lanes) noexcept nogil:
    """Add up lanes in pairs; they are not kept."""
    cdef Py_ssize_t half = CHAINS // 2, k
    while half:
        for k in range(half):
            lanes[k] += lanes[k + half]
        half //= 2
    return lanes[0]


cdef void add_rows(double* lanes) noexcept nogil:
    """Add up rows, each one lane of 16 channels, as `sum_of` does, into the first."""
    cdef Py_ssize_t half = CHAINS // 2, k
    while half:
        for k in range(half * LANES):
            lanes[k] += lanes[k + half * LANES]
        half //= 2


cdef void add_band(
    const char* x, Py_ssize_t stride, Py_ssize_t rows, const double* pivots, double* sums
) noexcept nogil:
    """Add some rows of 16 channels side by side, less their pivots, and squares."""
    cdef double* more = sums + CHAINS * LANES
    cdef lanes_t total[LANES]
    cdef lanes_t squares[LANES]
    cdef lanes_t center[LANES]
    cdef lanes_t d
    cdef Py_ssize_t lane, p, k
    cdef const float* row
    for k in range(LANES // WIDTH):
        center[k] = load_double(pivots + k * WIDTH)
    for lane in range(min(rows, <Py_ssize_t> CHAINS)):
        for k in range(LANES // WIDTH):
            total[k] = load_double(sums + lane * LANES + k * WIDTH)
            squares[k] = load_double(more + lane * LANES + k * WIDTH)
        p = lane
        while p < rows:
            row = <const float*> (x + p * stride)
            prefetch(x + (p + rows) * stride)
            for k in range(LANES // WIDTH):
                d = load_float(row + k * WIDTH) - center[k]
                total[k] = total[k] + d
                squares[k] = squares[k] + d * d
            p += CHAINS
        for k in range(LANES // WIDTH):
            store_double(sums + lane * LANES + k * WIDTH, total[k])
            store_double(more + lane * LANES + k * WIDTH, squares[k])


cdef void add_band_of_products(
    const char* dy, Py_ssize_t dy_stride, const char* x, Py_ssize_t x_stride, Py_ssize_t rows,
    const double* means, double* sums,
) noexcept nogil:
    """Add dy and dy * (x - mean) of some rows of 16 channels side by side."""
    cdef double* more = sums + CHAINS * LANES
    cdef lanes_t total[LANES]
    cdef lanes_t products[LANES]
    cdef lanes_t center[LANES]
    cdef lanes_t g
    cdef Py_ssize_t lane, p, k
    for k in range(LANES // WIDTH):
        center[k] = load_double(means + k * WIDTH)
    for lane in range(min(rows, <Py_ssize_t> CHAINS)):
        for k in range(LANES // WIDTH):
            total[k] = load_double(sums + lane * LANES + k * WIDTH)
            products[k] = load_double(more + lane * LANES + k * WIDTH)
        p = lane
        while p < rows:
            prefetch(dy + (p + rows) * dy_stride)
            prefetch(x + (p + rows) * x_stride)
            for k in range(LANES // WIDTH):
                g = load_float(<const float*> (dy + p * dy_stride) + k * WIDTH)
                total[k] = total[k] + g
                products[k] = products[k] + g * (
                    load_float(<const float*> (x + p * x_stride) + k * WIDTH) - center[k]
                )
            p += CHAINS
        for k in range(LANES // WIDTH):
            store_double(sums + lane * LANES + k * WIDTH, total[k])
            store_double(more + lane * LANES + k * WIDTH, products[k])


cdef void sum_slab(
    const char* x, Py_ssize_t stride, Py_ssize_t number, Py_ssize_t strips, const double* pivots,
    double* sums,
) noexcept nogil:
    """Sum strips side by side about their pivots, and squares, as `add_run` and `sum_of`.

    `sums` has STRIP_SUMS numbers for each strip, of which the first 16 of each half are the result.
    """
    cdef Py_ssize_t start = 0, rows, strip
    memset(sums, 0, strips * STRIP_SUMS * sizeof(double))
    while start < number:
        rows = min(number - start, <Py_ssize_t> 2 * BAND_ROWS)
        for strip in range(strips):
            add_band(
                x + start * stride + strip * LANES * sizeof(float), stride, rows,
                pivots + strip * LANES, sums + strip * STRIP_SUMS,
            )
        start += rows
    for strip in range(2 * strips):
        add_rows(sums + strip * CHAINS * LANES)


cdef void sum_slab_of_products(
    const char* dy, Py_ssize_t dy_stride, const char* x, Py_ssize_t x_stride, Py_ssize_t number,
    Py_ssize_t strips, const double* means, double* sums,
) noexcept nogil:
    """Sum dy and dy * (x - mean) of strips side by side, as `sum_slab`."""
    cdef Py_ssize_t start = 0, rows, strip, offset
    memset(sums, 0, strips * STRIP_SUMS * sizeof(double))
    while start < number:
        rows = min(number - start, <Py_ssize_t> BAND_ROWS)
        for strip in range(strips):
            offset = strip * LANES * sizeof(float)
            add_band_of_products(
                dy + start * dy_stride + offset, dy_stride, x + start * x_stride + offset, x_stride,
                rows, means + strip * LANES, sums + strip * STRIP_SUMS,
            )
        start += rows
    for strip in range(2 * strips):
        add_rows(sums + strip * CHAINS * LANES)


cdef inline summary_t summary_of(
    double count, double pivot, double total, double squares
) noexcept nogil:
    """Return moments of sums about a pivot."""
    cdef summary_t s
    cdef double shift = total / count
    s.count, s.mean, s.m2 = count, pivot + shift, squares - total * shift
    if s.m2 < 0.0:
        s.m2 = 0.0
    return s


cdef inline summary_t joined(summary_t a, summary_t b) noexcept nogil:
    """Return moments of both."""
    cdef summary_t s
    cdef double delta = b.mean - a.mean, part
    if a.count == 0.0:
        return b
    s.count = a.count + b.count
    part = b.count / s.count
    s.mean = a.mean + delta * part
    s.m2 = a.m2 + b.m2 + delta * delta * (a.count * part)
    if not isfinite(delta):
        s.mean = a.mean + b.mean
    return s


cdef inline void store_summary(double* parts, Py_ssize_t ld, summary_t s) noexcept nogil:
    """Store the state of moments that `normcore.statistics` merges, whose numbers are `ld` apart.

    Its sum has two parts, so that the mean comes out of it as it went in.
    """
    cdef moments_t m
    m.count.hi, m.count.lo = s.count, 0.0
    m.sum = two_prod(s.mean, s.count)
    if not isfinite(m.sum.hi):
        m.sum.lo = 0.0
    m.m2.hi, m.m2.lo = s.m2, 0.0
    m.exponent = 0.0
    store_moments(parts, ld, m)
