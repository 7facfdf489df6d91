# Design: the moments of one tile of float64, whatever it holds.
#
#   a) The sum of each lane in double-double (two_sum an element) is good to about 2**-100 of the
#      sum of magnitudes, so cancellation in the mean costs no digits.
#   b) d = x - mean, and the sum of d*d in double-double; what the rounding of the mean left over
#      is taken off in closed form. Only d and d*d are rounded: 1.5 ulp each at most.
#   c) A lane whose sums left 2**-800 .. 2**800 is taken again, scaled by a power of two.
#
# Where positions are missing, weighted or NaN to be skipped, the weighted form of the same loops
# runs, with weight 0 where there is nothing.

# Beyond these the squares, or the products of a later merge, could leave float64.
cdef double LARGE_SUM = ldexp(1.0, 400)
cdef double LARGE_M2 = ldexp(1.0, 800)
cdef double SMALL_M2 = ldexp(1.0, -800)


cdef inline dd lane_mean(dd total, dd count) noexcept nogil:
    """Mean of a lane; of what is not finite, whatever the plain sum is."""
    cdef dd mean
    if isfinite(total.hi) and count.hi != 0.0:
        return dd_div(total, count)
    mean.hi, mean.lo = total.hi, 0.0
    return mean


cdef inline dd lane_sum(double hi, double lo) noexcept nogil:
    cdef dd total
    if isfinite(hi):
        return fast_two_sum(hi, lo)
    total.hi, total.lo = hi, 0.0
    return total


cdef inline moments_t lane_state(dd count, dd total, dd mean, dd q) noexcept nogil:
    """State of a lane from its sum and its sum of squares about the rounded mean."""
    cdef moments_t m
    cdef dd left_over
    m.count, m.sum, m.exponent = count, total, 0.0
    left_over.hi, left_over.lo = mean.lo * mean.lo, 0.0
    m.m2 = dd_sub(q, dd_mul(count, left_over))
    if m.m2.hi < 0.0:
        m.m2.hi = m.m2.lo = 0.0
    return m


cdef void unweighted(const double* x, Py_ssize_t rows, moments_t* states) noexcept nogil:
    cdef double hi[LANES]
    cdef double lo[LANES]
    cdef double center[LANES]
    cdef dd total[LANES]
    cdef dd mean[LANES]
    cdef double s, t, d
    cdef dd count
    cdef Py_ssize_t row, lane
    count.hi, count.lo = <double> rows, 0.0
    for lane in range(LANES):
        hi[lane] = lo[lane] = 0.0
    for row in range(rows):
        for lane in range(LANES):  # two_sum, spelled out for the vectorizer
            d = x[row * LANES + lane]
            s = hi[lane] + d
            t = s - hi[lane]
            lo[lane] += (hi[lane] - (s - t)) + (d - t)
            hi[lane] = s
    for lane in range(LANES):
        total[lane] = lane_sum(hi[lane], lo[lane])
        mean[lane] = lane_mean(total[lane], count)
        center[lane] = mean[lane].hi
        hi[lane] = lo[lane] = 0.0
    for row in range(rows):
        for lane in range(LANES):
            d = x[row * LANES + lane] - center[lane]
            d = d * d
            s = hi[lane] + d
            t = s - hi[lane]
            lo[lane] += (hi[lane] - (s - t)) + (d - t)
            hi[lane] = s
    for lane in range(LANES):
        states[lane] = lane_state(
            count, total[lane], mean[lane], fast_two_sum(hi[lane], lo[lane])
        )


cdef void weighted(
    const double* x, const double* w, Py_ssize_t rows, moments_t* states
) noexcept nogil:
    cdef dd count[LANES]
    cdef dd total[LANES]
    cdef dd mean[LANES]
    cdef dd q[LANES]
    cdef dd term
    cdef double d
    cdef Py_ssize_t row, lane
    memset(count, 0, sizeof(count))
    memset(total, 0, sizeof(total))
    for row in range(rows):
        for lane in range(LANES):
            term = two_sum(count[lane].hi, w[row * LANES + lane])
            count[lane].hi = term.hi
            count[lane].lo += term.lo
            term = two_prod(w[row * LANES + lane], x[row * LANES + lane])
            total[lane].lo += term.lo
            term = two_sum(total[lane].hi, term.hi)
            total[lane].hi = term.hi
            total[lane].lo += term.lo
    for lane in range(LANES):
        count[lane] = fast_two_sum(count[lane].hi, count[lane].lo)
        total[lane] = lane_sum(total[lane].hi, total[lane].lo)
        mean[lane] = lane_mean(total[lane], count[lane])
    memset(q, 0, sizeof(q))
    for row in range(rows):
        for lane in range(LANES):
            if w[row * LANES + lane] != 0.0:
                d = x[row * LANES + lane] - mean[lane].hi
                term = two_sum(q[lane].hi, w[row * LANES + lane] * (d * d))
                q[lane].hi = term.hi
                q[lane].lo += term.lo
    for lane in range(LANES):
        states[lane] = lane_state(
            count[lane], total[lane], mean[lane], fast_two_sum(q[lane].hi, q[lane].lo)
        )


cdef inline bint lane_in_range(const moments_t* m) noexcept nogil:
    return (
        fabs(m.sum.hi) < LARGE_SUM and SMALL_M2 < m.m2.hi < LARGE_M2
    ) or m.count.hi == 0.0


cdef void rescue(
    const double* x, const double* w, Py_ssize_t rows, moments_t* states
) noexcept nogil:
    """Take lanes whose weighted squares left float64 again, scaled by a power of two to about 1."""
    cdef double copy[TILE]
    cdef double largest[LANES]
    cdef double heaviest[LANES]
    cdef int exponent[LANES]
    cdef moments_t again[LANES]
    cdef bint needed = False
    cdef Py_ssize_t row, lane, i
    for lane in range(LANES):
        largest[lane], heaviest[lane] = 0.0, 1.0 if w == NULL else 0.0
    for row in range(rows):
        for lane in range(LANES):
            i = row * LANES + lane
            if not fabs(x[i]) <= largest[lane]:  # NaN stays
                largest[lane] = fabs(x[i]) if largest[lane] == largest[lane] else largest[lane]
            if w != NULL:
                heaviest[lane] = max(heaviest[lane], w[i])
    for lane in range(LANES):
        exponent[lane] = 0
        if isfinite(largest[lane]) and largest[lane] > 0.0 and not (
            1.0 / LARGE_SUM <= largest[lane] <= LARGE_SUM
            and SMALL_M2 <= heaviest[lane] * largest[lane] * largest[lane] <= LARGE_M2
        ):
            frexp(largest[lane], &exponent[lane])
            needed = True
    if not needed:
        return
    for row in range(rows):
        for lane in range(LANES):
            i = row * LANES + lane
            copy[i] = ldexp(x[i], -exponent[lane])
    if w == NULL:
        unweighted(copy, rows, again)
    else:
        weighted(copy, w, rows, again)
    for lane in range(LANES):
        if exponent[lane] != 0:
            states[lane] = again[lane]
            states[lane].exponent = exponent[lane]


cdef void exclude(double* x, double* w, Py_ssize_t rows, bint skipna) noexcept nogil:
    """Give weight 0 to NaN, and the value 0 to whatever has weight 0."""
    cdef Py_ssize_t i
    for i in range(rows * LANES):
        if w[i] == 0.0 or (skipna and x[i] != x[i]):
            x[i] = w[i] = 0.0


cdef void tile_moments(
    double* x, double* w, Py_ssize_t rows, Py_ssize_t lanes, bint skipna, moments_t* states
) noexcept nogil:
    """Find the states of the first lanes of a tile.

    `w` is NULL for a full tile without weights; where NaN is skipped or positions are missing,
    x and w are changed.
    """
    cdef Py_ssize_t lane
    cdef bint poor = False
    if w == NULL:
        unweighted(x, rows, states)
    else:
        exclude(x, w, rows, skipna)
        weighted(x, w, rows, states)
    for lane in range(lanes):
        poor = poor or not lane_in_range(&states[lane])
    if poor:
        rescue(x, w, rows, states)
