# Design: the moments of rows of float64 that lie in a cache, each row the values of one sample.
#
#   a) The sum. In float64, float32 values add up without any rounding as long as the sum of their
#      magnitudes is below 2**53 units in the last place of the least one. That unit is found
#      along with the sum, while a row is widened; the bound follows from the sum of squares,
#      which is needed anyway (Cauchy and Schwarz). Any other row is summed in two parts.
#   b) The squares about the mean, in a second pass over the cache: two chains of four steps of 16
#      lanes, then in two parts. What rounding the mean left over is taken off in closed form.
#   c) Values whose squares leave 2**-800 .. 2**800 go through tile_moments.
#
# Each of these is done for some rows before the next, so that what comes at the end of a row, one
# operation waiting for the other, overlaps with the next row. Rows in work are whole vectors of
# lanes; what is beyond the columns is 0 in sums and the mean among the squares. Lanes and chains
# are fixed, so the bits are too.

cdef enum:
    CHAIN = 4

# 2**53, less what the bound of a sum of magnitudes may be off.
cdef double EXACT_UNITS = ldexp(0.99, 53)


cdef inline void add_halves(double* hi, double* lo, Py_ssize_t lanes) noexcept nogil:
    """Add the second half of some lanes to the first."""
    cdef Py_ssize_t lane
    cdef double total, t
    for lane in range(lanes):
        total = hi[lane] + hi[lane + lanes]
        t = total - hi[lane]
        lo[lane] = (lo[lane] + lo[lane + lanes]) + (
            (hi[lane] - (total - t)) + (hi[lane + lanes] - t)
        )
        hi[lane] = total


cdef dd sum_lanes(double* hi, double* lo) noexcept nogil:
    """Add up 16 lanes in pairs; they are not kept."""
    cdef dd total
    add_halves(hi, lo, 8)
    add_halves(hi, lo, 4)
    add_halves(hi, lo, 2)
    add_halves(hi, lo, 1)
    if isfinite(hi[0]):
        return two_sum(hi[0], lo[0])
    total.hi, total.lo = hi[0], 0.0
    return total


cdef double widened_sum(
    const float* x, Py_ssize_t columns, Py_ssize_t distance, double* row, double* unit
) noexcept nogil:
    """Widen a row and return its sum, rounded as it comes; prefetch what comes at a distance.

    `unit` is the unit in the last place of the least magnitude that is not 0.
    """
    cdef lanes_t total[LANES]
    cdef packed_t least[LANES]
    cdef lanes_t wide
    cdef double sums[LANES]
    cdef uint32_t bits[LANES]
    cdef float rest[LANES]
    cdef const float* p
    cdef Py_ssize_t i = 0, k, lane
    memset(bits, 0xff, sizeof(bits))
    for k in range(LANES // WIDTH):
        total[k] = splat(0.0)
    for k in range(LANES // PACK):
        least[k] = load_packed(&bits[k * PACK])
    while i < columns:
        p = x + i
        prefetch(p + distance)
        if i + LANES > columns:
            for lane in range(LANES):
                rest[lane] = x[i + lane] if i + lane < columns else 0.0
            p = rest
        for k in range(LANES // PACK):
            least[k] = min_bits(least[k], p + k * PACK)
        for k in range(LANES // WIDTH):
            wide = load_float(p + k * WIDTH)
            store_double(row + i + k * WIDTH, wide)
            total[k] = total[k] + wide
        i += LANES
    for k in range(LANES // WIDTH):
        store_double(&sums[k * WIDTH], total[k])
    for k in range(LANES // PACK):
        store_packed(&bits[k * PACK], least[k])
    for lane in range(8):
        sums[lane] += sums[lane + 8]
        bits[lane] = min(bits[lane], bits[lane + 8])
    for lane in range(4):
        sums[lane] += sums[lane + 4]
        bits[lane] = min(bits[lane], bits[lane + 4])
    bits[0] = min(min(bits[0], bits[1]), min(bits[2], bits[3]))
    unit[0] = unit_of(bits[0])
    return (sums[0] + sums[2]) + (sums[1] + sums[3])


cdef inline double unit_of(uint32_t bits) noexcept nogil:
    """Return the unit in the last place of the float of which these are twice the bits, less 1."""
    cdef double unit
    cdef unsigned long long exponent = max(bits >> 24, <uint32_t> 1) + (1023 - 150)
    exponent = exponent << 52
    memcpy(&unit, &exponent, sizeof(unit))
    return unit


cdef dd careful_sum(double* x, Py_ssize_t columns) noexcept nogil:
    """Return the sum of a row in two parts."""
    cdef lanes_t hi[LANES]
    cdef lanes_t lo[LANES]
    cdef lanes_t v, s, t
    cdef double high[LANES]
    cdef double low[LANES]
    cdef Py_ssize_t i, k
    for i in range(columns, padded(columns)):
        x[i] = 0.0
    for k in range(LANES // WIDTH):
        hi[k] = lo[k] = splat(0.0)
    i = 0
    while i < columns:
        for k in range(LANES // WIDTH):
            v = load_double(x + i + k * WIDTH)
            s = hi[k] + v
            t = s - hi[k]
            lo[k] = lo[k] + ((hi[k] - (s - t)) + (v - t))
            hi[k] = s
        i += LANES
    for k in range(LANES // WIDTH):
        store_double(&high[k * WIDTH], hi[k])
        store_double(&low[k * WIDTH], lo[k])
    return sum_lanes(high, low)


cdef inline lanes_t add_square(lanes_t square, const double* x, lanes_t center) noexcept nogil:
    cdef lanes_t v = load_double(x) - center
    return square + v * v


cdef inline dd sum_squares(double* x, Py_ssize_t columns, double center) noexcept nogil:
    """Return the sum of (x - center)**2 of a row in two parts."""
    cdef double hi[LANES]
    cdef double lo[LANES]
    cdef lanes_t centers = splat(center), first, second, high, low
    cdef Py_ssize_t i, k, lane = 0, last = padded(columns)
    for i in range(columns, last):
        x[i] = center
    while lane < LANES:
        high, low = splat(0.0), splat(0.0)
        i = lane
        while i < last:
            first, second = splat(0.0), splat(0.0)
            if i + (2 * CHAIN - 1) * LANES < last:
                for k in range(CHAIN):
                    first = add_square(first, x + i + k * LANES, centers)
                    second = add_square(second, x + i + (k + CHAIN) * LANES, centers)
            else:
                for k in range(min((last - i + LANES - 1) // LANES, <Py_ssize_t> CHAIN)):
                    first = add_square(first, x + i + k * LANES, centers)
                for k in range(CHAIN, (last - i + LANES - 1) // LANES):
                    second = add_square(second, x + i + k * LANES, centers)
            first = first + second
            second = high + first  # fast_two_sum of the larger and the smaller
            low = low + (min_lanes(high, first) - (second - max_lanes(high, first)))
            high = second
            i += 2 * CHAIN * LANES
        store_double(&hi[lane], high)
        store_double(&lo[lane], low)
        lane += WIDTH
    return sum_lanes(hi, lo)


cdef inline bint is_exact(
    double unit, Py_ssize_t columns, double square, double center
) noexcept nogil:
    """Whether no sum of magnitudes can have needed more than 53 bits."""
    cdef double most = EXACT_UNITS * unit
    return columns * (square + columns * center * center) < most * most


cdef inline moments_t state_of(Py_ssize_t columns, dd total, dd mean, dd square) noexcept nogil:
    cdef moments_t m
    m.count.hi, m.count.lo, m.exponent = <double> columns, 0.0, 0.0
    m.sum = total
    m.m2 = fast_two_sum(square.hi, square.lo - columns * (mean.lo * mean.lo))
    if m.m2.hi < 0.0:
        m.m2.hi = m.m2.lo = 0.0
    return m


cdef inline bint row_in_range(const moments_t* m, double center) noexcept nogil:
    return fabs(m.sum.hi) < LARGE_SUM and (
        SMALL_M2 < m.m2.hi < LARGE_M2 or (m.m2.hi == 0.0 and fabs(center) > 1.0 / LARGE_SUM)
    )


cdef moments_t tiled_moments(const double* x, Py_ssize_t columns) noexcept nogil:
    """Find the state of a row, whatever it holds."""
    cdef double copy[BLOCK + LANES]
    cdef double there[LANES]
    cdef moments_t states[LANES]
    cdef moments_t total
    cdef Py_ssize_t lane, rows = columns // LANES, rest = columns % LANES
    for lane in range(LANES):
        there[lane] = 1.0 if lane < rest else 0.0
        copy[rows * LANES + lane] = 0.0
    memcpy(copy, x, columns * sizeof(double))
    total.count.hi = 0.0
    if rows:
        tile_moments(copy, NULL, rows, LANES, False, states)
        for lane in range(LANES):
            total = merged(total, states[lane])
    if rest:
        tile_moments(copy + rows * LANES, there, 1, rest, False, states)
        for lane in range(rest):
            total = merged(total, states[lane])
    return total


cdef void row_moments(
    double* x, Py_ssize_t rows, Py_ssize_t columns, const double* sums, const double* units,
    moments_t* states,
) noexcept nogil:
    """Find the states of rows in work, at most GROUP rows of at most BLOCK columns.

    `sums` and `units` are those of rows that `widened_sum` made, and NULL for other rows.
    """
    cdef dd total[GROUP]
    cdef dd mean[GROUP]
    cdef dd square[GROUP]
    cdef Py_ssize_t row, ld = padded(columns)
    cdef double* p
    for row in range(rows):
        if units == NULL:
            total[row] = careful_sum(x + row * ld, columns)
        else:
            total[row].hi, total[row].lo = sums[row], 0.0
        mean[row] = mean_of(total[row], columns)
    for row in range(rows):
        square[row] = sum_squares(x + row * ld, columns, mean[row].hi)
    for row in range(rows):
        p = x + row * ld
        if units != NULL and not is_exact(
            units[row], columns, square[row].hi, mean[row].hi
        ):
            total[row] = careful_sum(p, columns)
            mean[row] = mean_of(total[row], columns)
            square[row] = sum_squares(p, columns, mean[row].hi)
        states[row] = state_of(columns, total[row], mean[row], square[row])
        # Squares of float32 stay in range, unless the row is not finite.
        if units == NULL and not row_in_range(&states[row], mean[row].hi):
            states[row] = tiled_moments(p, columns)
