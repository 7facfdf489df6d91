# Design: the sums of rows of 16 lanes, without rounding, from one look at each element.
#
#   a) Four rows add up in float64 without rounding, if every x is a multiple of a quantum q and
#      small beside 2**53 q. Added to a large constant, their sum is a number whose bits are that
#      multiple: so all rows add up as integers, without error. float32 has bits below q only where
#      it is very small beside the largest, which the least magnitude shows; then, and in float64,
#      x is first rounded to a multiple of q, and the rest of it is summed apart: its multiples of
#      a finer quantum, which add up without rounding in float64, and what is left.
#   b) The sum of squares runs about a center near the mean: eight rows in pairs, then a sum in two
#      parts. In float32 the center is a multiple of q, so x - center is exact, too. The sum of
#      x - center, known from a), gives in closed form what is to be taken off.
#   c) After each tile three things are looked at: every magnitude was below the limit that q
#      stands for, nothing was left over, and the center is still within a third of a deviation
#      of the mean. Otherwise the tile is to be forgotten.
#
# Groups of 16 lanes side by side are swept in bands of eight rows: memory is read in its own
# order, eight rows at once, and what is summed comes from the first two caches. Rows further on
# are asked for in time.


# What became of a tile: summed; or its values are elsewhere than the center and the limit, or have
# bits below the quantum, or some are NaN or infinite.
cdef enum:
    DONE, MOVED, OFF_GRID, NOT_A_NUMBER

cdef enum:
    HALF = 4
    # Rows that a first look takes: of lanes that share a center, or have one each.
    SHARED_SAMPLE = 16
    SAMPLE = 64
    # 2048 rows of multiples below 2**51 fit into 63 bits.
    ROWS_OF_SUM = 2048

# The finer quantum beside the other: the rests of ROWS_OF_SUM rows are below 2**53 of it.
cdef double FINER = ldexp(1.0, -42)

cdef uint64_t ALL_BITS = 0xffffffffffffffff


cdef struct rest_t:
    lanes_t finer
    lanes_t hi
    lanes_t lo


cdef inline lanes_t add(
    const real* x, lanes_t center, lanes_t grid, lanes_t missing, lanes_t* total,
    rest_t* rest, longs_t* count, bint begins, bint rests, bint skipna,
) noexcept nogil:
    """Add one row of WIDTH lanes to a sum, or begin it; return the squares about the center."""
    cdef lanes_t v = load(x), d = v - center, on_grid, below, on_finer
    cdef longs_t valid
    if skipna:
        valid = equal(v, v)
        count[0] = count[0] - valid
        d, v = keep(valid, d), choose(valid, v, missing)
    if rests:
        on_grid = (v + grid) - grid
        below = v - on_grid
        on_finer = (below + rest.finer) - rest.finer
        rest.hi = rest.hi + on_finer
        rest.lo = rest.lo + (below - on_finer)
        v = on_grid
    total[0] = v if begins else total[0] + v
    return d * d


cdef inline lanes_t add_rows(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, lanes_t center, lanes_t grid,
    lanes_t missing, lanes_t* totals, rest_t* rest, longs_t* count, bint rests, bint skipna,
) noexcept nogil:
    """Set the sums of the first and the second four rows; return the squares, added in pairs."""
    cdef lanes_t squares[HALF]
    cdef Py_ssize_t k
    totals[0] = totals[1] = splat(0.0)
    for k in range(HALF):
        squares[k] = splat(0.0)
        if k < rows:
            squares[k] = add(
                x + k * stride, center, grid, missing, &totals[0], rest, count, k == 0, rests,
                skipna,
            )
        if k + HALF < rows:
            squares[k] = squares[k] + add(
                x + (k + HALF) * stride, center, grid, missing, &totals[1], rest, count, k == 0,
                rests, skipna,
            )
    return (squares[0] + squares[1]) + (squares[2] + squares[3])


cdef inline void accumulate(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, running_t* s, bint rests, bint skipna,
) noexcept nogil:
    """Add up to eight rows of 16 lanes to the sums."""
    cdef Py_ssize_t lane = 0, k
    cdef lanes_t center, grid, missing, square, hi, sum_hi
    cdef lanes_t totals[2]
    cdef rest_t rest
    cdef longs_t count
    cdef packed_t least
    if real is float:
        if not rests:
            while lane < LANES:
                least = load_packed(&s.sums.least[lane])
                if rows == BAND:
                    for k in range(BAND):
                        least = least_bits(least, x + k * stride + lane)
                else:
                    for k in range(rows):
                        least = least_bits(least, x + k * stride + lane)
                store_packed(&s.sums.least[lane], least)
                lane += PACK
            lane = 0
    while lane < LANES:
        center, grid = load_double(&s.center[lane]), load_double(&s.grid[lane])
        missing, count = load_double(&s.grid_center[lane]), load_long(&s.sums.count[lane])
        rest.finer = splat(FINER) * grid
        rest.hi, rest.lo = load_double(&s.sums.rest_hi[lane]), load_double(&s.sums.rest_lo[lane])
        if rows == BAND:  # a number that is known unrolls the loop
            square = add_rows(
                x + lane, stride, BAND, center, grid, missing, totals, &rest, &count, rests,
                skipna,
            )
        else:
            square = add_rows(
                x + lane, stride, rows, center, grid, missing, totals, &rest, &count, rests,
                skipna,
            )
        store_long(
            &s.sums.fixed[lane],
            load_long(&s.sums.fixed[lane])
            + (bits_of(totals[0] + grid) - bits_of(grid))
            + (bits_of(totals[1] + grid) - bits_of(grid)),
        )
        hi = load_double(&s.sums.square_hi[lane])
        sum_hi = hi + square  # fast_two_sum of the larger and the smaller
        store_double(&s.sums.square_hi[lane], sum_hi)
        store_double(
            &s.sums.square_lo[lane],
            load_double(&s.sums.square_lo[lane])
            + (lesser(hi, square) - (sum_hi - greater(hi, square))),
        )
        if rests:
            store_double(&s.sums.rest_hi[lane], rest.hi)
            store_double(&s.sums.rest_lo[lane], rest.lo)
        if skipna:
            store_long(&s.sums.count[lane], count)
        lane += WIDTH


cdef void sweep_sums(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t ahead, running_t* s,
    Py_ssize_t groups,
) noexcept nogil:
    """Add rows of groups side by side, and ask for those `ahead` of them."""
    cdef Py_ssize_t row = 0, group, step
    cdef const real* p
    cdef bint rests
    while row < rows:
        step = min(rows - row, <Py_ssize_t> BAND)
        for group in range(groups):
            p = x + row * stride + group * LANES
            prefetch_band(
                p, stride * sizeof(real), sizeof(real), <Py_ssize_t> BAND, ahead, group, groups
            )
            rests = s[group].rests or real is double
            if s[group].skipna:
                if rests:
                    accumulate(p, stride, step, &s[group], True, True)
                else:
                    accumulate(p, stride, step, &s[group], False, True)
            elif rests:
                accumulate(p, stride, step, &s[group], True, False)
            else:
                accumulate(p, stride, step, &s[group], False, False)
        row += step
    for group in range(groups):
        s[group].rows += rows
        s[group].all_rows += rows


cdef int judge(const running_t* s) noexcept nogil:
    """Say whether the sums can be trusted after a tile."""
    cdef longs_t bounded = splat_long(ALL_BITS), near = splat_long(ALL_BITS)
    cdef longs_t numbers = splat_long(ALL_BITS), fixed
    cdef lanes_t square, grown, grid, grid_center, off, count = splat(<double> s.all_rows)
    cdef Py_ssize_t lane = 0
    while lane < LANES:
        square = load_double(&s.sums.square_hi[lane])
        grown = square - load_double(&s.before.square_hi[lane])
        numbers = numbers & equal(grown, grown)
        bounded = bounded & less_equal(grown, load_double(&s.bound[lane]))
        if not s.fresh:
            grid_center, grid = load_double(&s.grid_center[lane]), load_double(&s.grid[lane])
            fixed = load_long(&s.sums.fixed[lane]) - (
                (bits_of(grid_center + grid) - bits_of(grid)) * splat_long(s.rows)
            )
            if s.skipna:
                count = signed_to_double(load_long(&s.sums.count[lane]))
            off = (
                load_double(&s.total_hi[lane])
                + signed_to_double(fixed) * load_double(&s.quantum[lane])
            ) + (
                load_double(&s.sums.rest_hi[lane])
                - count * (load_double(&s.center[lane]) - grid_center)
            )
            near = near & less_equal(off * off, splat(0.125) * count * square)
        lane += WIDTH
    if any_set(~numbers):
        return NOT_A_NUMBER
    if any_set(~bounded):
        return MOVED
    lane = 0
    while lane < LANES and not s.rests:
        if any_below(load_packed(&s.sums.least[lane]), load_packed(&s.threshold[lane])):
            return OFF_GRID
        lane += PACK
    return MOVED if any_set(~near) else DONE


cdef bint has_rest(const running_t* s) noexcept nogil:
    """Whether the tile in work left something below the quantum."""
    cdef Py_ssize_t lane
    for lane in range(LANES):
        if (
            s.sums.rest_hi[lane] != s.before.rest_hi[lane]
            or s.sums.rest_lo[lane] != s.before.rest_lo[lane]
        ):
            return True
    return False


cdef int verdict(running_t* s, Py_ssize_t rows, Py_ssize_t lanes) noexcept nogil:
    """Say whether the sums can be trusted after a tile; if so, make room for the next one."""
    cdef Py_ssize_t lane
    cdef int found = judge(s)
    if found == DONE and s.skipna and not s.may_skip:
        for lane in range(lanes):
            if s.sums.count[lane] - s.before.count[lane] != <uint64_t> rows:
                return NOT_A_NUMBER
    if found == DONE:
        s.thorough = False
        s.rests = s.rests and has_rest(s)
        if s.rows + MAX_ROWS > ROWS_OF_SUM:
            settle(s)
    return found


cdef void forget(running_t* s, Py_ssize_t rows) noexcept nogil:
    """Take a tile back."""
    s.sums = s.before
    s.rows -= rows
    s.all_rows -= rows


cdef bint prepare(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, running_t* s
) noexcept nogil:
    """Choose center and quantum where there are none; return whether there are such.

    In any case what `forget` goes back to are the sums as they are now.
    """
    cdef Py_ssize_t step = max(rows // (SHARED_SAMPLE if s.one_channel else SAMPLE), 1)
    cdef bint fits = True
    if s.thorough:
        step = 1
    s.fresh = not s.started and step == 1
    if not s.started:
        fits = look(x, stride, rows, step, s)
    remember(s)
    return fits


cdef inline void remember(running_t* s) noexcept nogil:
    """Keep the sums without the tile that comes next."""
    cdef Py_ssize_t lane = 0
    while lane < LANES:
        store_long(&s.before.fixed[lane], load_long(&s.sums.fixed[lane]))
        store_double(&s.before.square_hi[lane], load_double(&s.sums.square_hi[lane]))
        store_double(&s.before.square_lo[lane], load_double(&s.sums.square_lo[lane]))
        store_double(&s.before.rest_hi[lane], load_double(&s.sums.rest_hi[lane]))
        store_double(&s.before.rest_lo[lane], load_double(&s.sums.rest_lo[lane]))
        if s.skipna:
            store_long(&s.before.count[lane], load_long(&s.sums.count[lane]))
        lane += WIDTH
    lane = 0
    while lane < LANES:
        store_packed(&s.before.least[lane], load_packed(&s.sums.least[lane]))
        lane += PACK
