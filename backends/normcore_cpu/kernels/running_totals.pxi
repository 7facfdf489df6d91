# Design: what running sums come to. Fixed-point sums, and the rests below their quantum, move to
# two float64 before they overflow; at the end the moments follow from the sums in closed form, in
# double-double arithmetic: of each lane, or of 16 lanes that share a channel, and so a center and a
# quantum.


cdef uint64_t LOW_BITS = 0xffffffff


cdef inline int64_t multiples(const running_t* s, Py_ssize_t lane) noexcept nogil:
    """Return the sum of (x - grid_center) / quantum."""
    cdef double grid = s.grid[lane], center = s.grid_center[lane] + grid
    cdef uint64_t bits, zero
    memcpy(&bits, &center, sizeof(bits))
    memcpy(&zero, &grid, sizeof(zero))
    return <int64_t> (s.sums.fixed[lane] - <uint64_t> s.rows * (bits - zero))


cdef inline double count_of(const running_t* s, Py_ssize_t lane) noexcept nogil:
    return <double> s.sums.count[lane] if s.skipna else <double> s.all_rows


cdef void settle(running_t* s) noexcept nogil:
    """Move the fixed-point sums and the rests to the totals, so that they have room again."""
    cdef Py_ssize_t lane
    cdef int64_t multiple
    cdef dd part
    for lane in range(LANES):
        multiple = multiples(s, lane)
        part = two_sum(
            s.total_hi[lane], <double> (multiple >> 32) * (4294967296.0 * s.quantum[lane])
        )
        s.total_lo[lane] += part.lo
        part = two_sum(part.hi, <double> (<uint64_t> multiple & LOW_BITS) * s.quantum[lane])
        s.total_lo[lane] += part.lo
        part = two_sum(part.hi, s.sums.rest_hi[lane])
        s.total_lo[lane] += part.lo + s.sums.rest_lo[lane]
        s.total_hi[lane] = part.hi
        s.sums.fixed[lane] = 0
        s.sums.rest_hi[lane] = s.sums.rest_lo[lane] = 0.0
    s.rows = 0


cdef void finish(running_t* s, double* parts) noexcept nogil:
    """Set the state of each lane, or of one channel, in rows of 16; and begin again."""
    # Copies, which nothing else points to: so compilers make vectors of the lanes.
    cdef double count[LANES]
    cdef double center[LANES]
    cdef double grid_center[LANES]
    cdef dd total[LANES]
    cdef dd square[LANES]
    cdef double result[MOMENTS_ROWS * LANES]
    cdef Py_ssize_t lane
    if not s.one_channel:
        settle(s)
    for lane in range(LANES):
        count[lane] = count_of(s, lane)
        center[lane], grid_center[lane] = s.center[lane], s.grid_center[lane]
        total[lane].hi, total[lane].lo = s.total_hi[lane], s.total_lo[lane]
        square[lane].hi, square[lane].lo = s.sums.square_hi[lane], s.sums.square_lo[lane]
    if s.one_channel:
        for lane in range(1, LANES):
            count[0] += count[lane]
        total[0] = shared_total(s)
        square[0] = sum_lanes(s.sums.square_hi, s.sums.square_lo)
        store_moments(
            parts, LANES, about_center(count[0], center[0], grid_center[0], total[0], square[0])
        )
    else:
        for lane in range(LANES):
            store_moments(
                result + lane, LANES,
                about_center(
                    count[lane], center[lane], grid_center[lane],
                    two_sum(total[lane].hi, total[lane].lo),
                    fast_two_sum(square[lane].hi, square[lane].lo),
                ),
            )
        memcpy(parts, result, sizeof(result))
    for lane in range(1 if s.one_channel else LANES):
        if not parts[M2_HI * LANES + lane] > 0.0:  # below what rounding moves, or of no values
            parts[M2_HI * LANES + lane] = parts[M2_LO * LANES + lane] = 0.0
    clear_sums(s)


cdef inline void clear_sums(running_t* s) noexcept nogil:
    """Begin again."""
    cdef Py_ssize_t lane = 0
    cdef lanes_t zero = splat(0.0)
    while lane < LANES:
        store_long(&s.sums.fixed[lane], bits_of(zero))
        store_long(&s.sums.count[lane], bits_of(zero))
        store_double(&s.sums.square_hi[lane], zero)
        store_double(&s.sums.square_lo[lane], zero)
        store_double(&s.sums.rest_hi[lane], zero)
        store_double(&s.sums.rest_lo[lane], zero)
        store_double(&s.total_hi[lane], zero)
        store_double(&s.total_lo[lane], zero)
        lane += WIDTH
    s.rows = s.all_rows = 0
    s.started = False


cdef dd shared_total(running_t* s) noexcept nogil:
    """Add the sums of lanes that share their quantum."""
    cdef Py_ssize_t lane
    cdef int64_t multiple, high = 0, low = 0
    cdef dd total
    for lane in range(LANES):
        multiple = multiples(s, lane)
        high += multiple >> 32
        low += <int64_t> (<uint64_t> multiple & LOW_BITS)
    total = two_sum(
        <double> high * (4294967296.0 * s.quantum[0]), <double> low * s.quantum[0]
    )
    if s.rows != s.all_rows:
        total = dd_add(total, sum_lanes(s.total_hi, s.total_lo))
    return dd_add(total, sum_lanes(s.sums.rest_hi, s.sums.rest_lo))


cdef inline moments_t about_center(
    double count, double center, double grid_center, dd total, dd square
) noexcept nogil:
    """Return the moments of sums about a center."""
    cdef moments_t m
    cdef dd off, correction
    off = dd_sub(total, two_prod(count, center - grid_center))
    correction.hi, correction.lo = off.hi * off.hi / count, 0.0
    m.m2 = dd_sub(square, correction)
    m.sum = dd_add(total, two_prod(count, grid_center))
    m.count.hi, m.count.lo, m.exponent = count, 0.0, 0.0
    return m
