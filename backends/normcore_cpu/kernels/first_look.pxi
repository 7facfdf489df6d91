# Design: where running sums begin. Some rows of the first tile show about where each lane's mean is
# and how large its values are; the center and the quantum of its fixed point follow. Whether they
# were chosen well is seen from the sums themselves, so that the sample may be small.


# Of what is summed; where a sample holds nothing but 0, any will do at first.
cdef double LEAST_MAGNITUDE = ldexp(1.0, -308)
cdef double LARGEST_MAGNITUDE = ldexp(1.0, 293)
cdef double NO_MAGNITUDE = ldexp(1.0, -8)


cdef inline void sample(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t step, const double* pivot,
    double* total, double* count, double* largest, bint skipna,
) noexcept nogil:
    """Sum up every `step`-th row about a pivot, and find the largest magnitudes."""
    cdef lanes_t pivots[LANES]
    cdef lanes_t totals[LANES]
    cdef lanes_t counts[LANES]
    cdef lanes_t magnitudes[LANES]
    cdef lanes_t v
    cdef Py_ssize_t row = 0, k
    for k in range(LANES // WIDTH):
        pivots[k] = load_double(pivot + k * WIDTH)
        totals[k] = counts[k] = magnitudes[k] = splat(0.0)
    while row < rows:
        for k in range(LANES // WIDTH):
            v = load(x + row * stride + k * WIDTH)
            magnitudes[k] = greater(magnitude_of(v), magnitudes[k])
            if skipna:
                counts[k] = counts[k] + keep(equal(v, v), splat(1.0))
                v = choose(equal(v, v), v, pivots[k])
            totals[k] = totals[k] + (v - pivots[k])
        row += step
    for k in range(LANES // WIDTH):
        store_double(total + k * WIDTH, totals[k])
        store_double(largest + k * WIDTH, magnitudes[k])
        if skipna:
            store_double(count + k * WIDTH, counts[k])


cdef inline double power_of_two(int64_t exponent) noexcept nogil:
    cdef int64_t bits = (exponent + 1023) << 52
    cdef double value
    memcpy(&value, &bits, sizeof(value))
    return value


cdef inline int64_t exponent_of(double largest) noexcept nogil:
    """Return the exponent of a power of two that is 2**7 times as large, or up to twice that."""
    cdef int64_t bits
    memcpy(&bits, &largest, sizeof(bits))
    return (bits >> 52) - 1015


cdef bint look(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t step, running_t* s
) noexcept nogil:
    """Choose center and quantum by every `step`-th row of a tile; return whether they fit."""
    cdef double pivot[LANES]
    cdef double total[LANES]
    cdef double count[LANES]
    cdef double largest[LANES]
    cdef double value, seen = 0.0, all_totals = 0.0, sampled = <double> ((rows - 1) // step + 1)
    cdef Py_ssize_t lane
    cdef int64_t exponent
    cdef bint fits = True
    for lane in range(LANES):
        value = <double> x[0 if s.one_channel else lane]
        pivot[lane] = value if isfinite(value) else 0.0
        count[lane] = sampled
    sample(x, stride, rows, step, pivot, total, count, largest, False)
    for lane in range(LANES):
        all_totals += total[lane]
    if all_totals != all_totals:
        sample(x, stride, rows, step, pivot, total, count, largest, True)
    for lane in range(LANES):
        seen += count[lane]
    if seen < sampled * LANES and not s.skipna:
        if not s.may_skip:
            return False
        s.skipna = True
    if s.one_channel:  # its lanes share the center, so that their sums can be added
        for lane in range(1, LANES):
            total[0] += total[lane]
            largest[0] = max(largest[0], largest[lane])
        for lane in range(LANES):
            total[lane], count[lane], largest[lane] = total[0], seen, largest[0]
    for lane in range(LANES):
        largest[lane] = largest[lane] if largest[lane] != 0.0 else NO_MAGNITUDE
        fits &= (LEAST_MAGNITUDE <= largest[lane]) & (largest[lane] < LARGEST_MAGNITUDE)
        total[lane] = total[lane] if count[lane] != 0.0 else 0.0
        count[lane] = count[lane] if count[lane] != 0.0 else 1.0
    if not fits:
        return False
    for lane in range(LANES):  # nothing is decided here, so that it is done in vectors
        exponent = exponent_of(largest[lane])
        s.center[lane] = pivot[lane] + total[lane] / count[lane]
        # Of 256 rows as large as the sample. Four of the largest that it allows are below
        # 2**exponent.
        s.bound[lane] = power_of_two(2 * exponent - 6)
        s.quantum[lane] = power_of_two(exponent - 51)
        s.grid[lane] = 3.0 * power_of_two(exponent)
        s.grid_center[lane] = (s.center[lane] + s.grid[lane]) - s.grid[lane]
        if real is float:  # x - center is exact, as both are on the grid
            s.center[lane] = s.grid_center[lane]
    if real is float:
        set_thresholds(s, largest)
    s.started = True
    return True


cdef inline void set_thresholds(running_t* s, const double* largest) noexcept nogil:
    """Set what magnitudes must not be below, so that none has a bit below the quantum."""
    cdef Py_ssize_t lane
    cdef int64_t exponent
    memset(s.sums.least, 0xff, sizeof(s.sums.least))
    for lane in range(LANES):
        # The bits of the float32 2**(exponent - 28), twice, less 1. Where the quantum is as small
        # as the least subnormal number, nothing can be below it.
        exponent = exponent_of(largest[lane])
        s.threshold[lane] = (<uint32_t> (exponent + 99) << 24) - 1 if exponent > -98 else 0
