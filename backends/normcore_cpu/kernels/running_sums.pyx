# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: the sums of rows of 16 lanes, without rounding, from one look at each element.
#
#   a) The sum runs in fixed point. Added to a large constant, x is rounded to a multiple of a
#      quantum q, and the bits of the result are that multiple: they add up as integers, without
#      error. What is left of x below q is summed apart; float32 has nothing left unless it is
#      very small beside the largest, which the least magnitude shows.
#   b) The sum of squares runs about a center near the mean: two chains of four rows, then
#      a sum in two parts. The sum of x - center, exact by a), gives in closed form what is to be
#      taken off.
#   c) After each tile three things are looked at: every magnitude was below the limit that q
#      stands for, nothing was left over, and the center is still within a third of a deviation
#      of the mean. Otherwise the tile is to be forgotten.
#
# Groups of 16 lanes side by side are swept in bands of eight rows: memory is read in its own
# order, eight rows at once, and what is summed comes from the first two caches. Rows further on
# are asked for in time.

from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from normcore._dd cimport dd, dd_add, dd_sub, fast_two_sum, two_prod, two_sum
from normcore.statistics cimport moments_t

from .lanes cimport (
    WIDTH, any_below, any_set, bits_of, choose, equal, float_bits, floats_t, greater, keep,
    lanes_t, less_equal, lesser, load, load_double, load_floats, load_long, load_word, longs_t,
    magnitude_of, min_word, prefetch, real, signed_to_double, splat, splat_long, splat_word,
    store_double, store_long, store_word, widen, words_t,
)
from .tiles cimport LANES, MAX_ROWS

__all__ = []  # for other kernels only, by cimport

cdef enum:
    CHAIN = 4
    BAND = 8        # rows in work at once
    MAX_EXPONENT = 300
    # Rows that a first look takes: of lanes that share a center, or have one each.
    SHARED_SAMPLE = 16
    SAMPLE = 64
    # 2048 rows of multiples below 2**51 fit into 63 bits.
    ROWS_OF_SUM = 2048

cdef uint32_t NO_MAGNITUDE = 0xffffffff
cdef uint64_t LOW_BITS = 0xffffffff
cdef uint64_t ALL_BITS = 0xffffffffffffffff


cdef inline void add(
    const real* x, lanes_t center, lanes_t grid, lanes_t grid_center, longs_t* fixed,
    lanes_t* residual, lanes_t* square, longs_t* count, words_t* least, bint residuals, bint skipna,
) noexcept nogil:
    """Add one row of WIDTH lanes."""
    cdef floats_t narrow
    cdef lanes_t v, d, on_grid
    cdef longs_t valid
    if real is float:
        narrow = load_floats(x)
        if not residuals:
            least[0] = min_word(least[0], float_bits(narrow) + float_bits(narrow) - splat_word(1))
        v = widen(narrow)
    else:
        v = load_double(x)
    if skipna:
        valid = equal(v, v)
        count[0] = count[0] - valid
        d = choose(valid, v, center) - center
        v = choose(valid, v, grid_center)
    else:
        d = v - center
    on_grid = v + grid
    fixed[0] = fixed[0] + bits_of(on_grid)
    if residuals:
        residual[0] = residual[0] + (v - (on_grid - grid))
    square[0] = square[0] + d * d


cdef inline void accumulate(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, running_t* s, bint residuals, bint skipna,
) noexcept nogil:
    """Add up to eight rows of 16 lanes to the sums."""
    cdef Py_ssize_t lane = 0, k
    cdef lanes_t center, grid, grid_center, residual, first, second, square, hi
    cdef longs_t fixed, count
    cdef words_t least
    cdef const real* p
    while lane < LANES:
        p = x + lane
        center, grid = load_double(&s.center[lane]), load_double(&s.grid[lane])
        grid_center = load_double(&s.grid_center[lane])
        fixed, count = load_long(&s.sums.fixed[lane]), load_long(&s.sums.count[lane])
        residual, least = load_double(&s.sums.residual[lane]), load_word(&s.sums.least[lane])
        first, second = splat(0.0), splat(0.0)
        if rows == BAND:
            for k in range(CHAIN):
                add(
                    p + k * stride, center, grid, grid_center, &fixed, &residual, &first, &count,
                    &least, residuals, skipna,
                )
                add(
                    p + (k + CHAIN) * stride, center, grid, grid_center, &fixed, &residual,
                    &second, &count, &least, residuals, skipna,
                )
        else:
            for k in range(rows):
                add(
                    p + k * stride, center, grid, grid_center, &fixed, &residual,
                    &first if k < CHAIN else &second, &count, &least, residuals, skipna,
                )
        first = first + second
        hi = load_double(&s.sums.square_hi[lane])
        square = hi + first  # fast_two_sum of the larger and the smaller
        store_double(&s.sums.square_hi[lane], square)
        store_double(
            &s.sums.square_lo[lane],
            load_double(&s.sums.square_lo[lane])
            + (lesser(hi, first) - (square - greater(hi, first))),
        )
        store_long(&s.sums.fixed[lane], fixed)
        if residuals:
            store_double(&s.sums.residual[lane], residual)
        else:
            store_word(&s.sums.least[lane], least)
        if skipna:
            store_long(&s.sums.count[lane], count)
        lane += WIDTH


cdef void sweep(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t ahead, running_t* s,
    Py_ssize_t groups,
) noexcept nogil:
    """Add rows of groups side by side, and ask for those `ahead` of them."""
    cdef Py_ssize_t row = 0, group, step, k
    cdef const real* p
    cdef bint residuals
    while row < rows:
        step = min(rows - row, <Py_ssize_t> BAND)
        for group in range(groups):
            p = x + row * stride + group * LANES
            for k in range(step):
                prefetch(p + (k + ahead) * stride)
                if real is double:
                    prefetch(p + (k + ahead) * stride + LANES // 2)
            residuals = s[group].residuals or real is double
            if s[group].skipna:
                if residuals:
                    accumulate(p, stride, step, &s[group], True, True)
                else:
                    accumulate(p, stride, step, &s[group], False, True)
            elif residuals:
                accumulate(p, stride, step, &s[group], True, False)
            else:
                accumulate(p, stride, step, &s[group], False, False)
        row += step
    for group in range(groups):
        s[group].rows += rows
        s[group].all_rows += rows


cdef inline int64_t multiples(const running_t* s, Py_ssize_t lane) noexcept nogil:
    """Return the sum of (x - grid_center) / quantum."""
    cdef double on_grid = s.grid_center[lane] + s.grid[lane]
    cdef uint64_t bits
    memcpy(&bits, &on_grid, sizeof(bits))
    return <int64_t> (s.sums.fixed[lane] - <uint64_t> s.rows * bits)


cdef inline double count_of(const running_t* s, Py_ssize_t lane) noexcept nogil:
    return <double> s.sums.count[lane] if s.skipna else <double> s.all_rows


cdef int judge(const running_t* s) noexcept nogil:
    """Say whether the sums can be trusted after a tile."""
    cdef longs_t bounded = splat_long(ALL_BITS), near = splat_long(ALL_BITS)
    cdef longs_t numbers = splat_long(ALL_BITS), fixed
    cdef lanes_t square, grown, grid_center, off, count = splat(<double> s.all_rows)
    cdef bint on_grid = True
    cdef Py_ssize_t lane = 0
    while lane < LANES:
        square = load_double(&s.sums.square_hi[lane])
        grown = square - load_double(&s.before.square_hi[lane])
        numbers = numbers & equal(grown, grown)
        bounded = bounded & less_equal(grown, load_double(&s.bound[lane]))
        if not s.residuals:
            on_grid = on_grid and not any_below(
                load_word(&s.sums.least[lane]), load_word(&s.threshold[lane])
            )
        if not s.fresh:
            grid_center = load_double(&s.grid_center[lane])
            fixed = load_long(&s.sums.fixed[lane]) - (
                bits_of(grid_center + load_double(&s.grid[lane])) * splat_long(s.rows)
            )
            if s.skipna:
                count = signed_to_double(load_long(&s.sums.count[lane]))
            off = (
                load_double(&s.total_hi[lane])
                + signed_to_double(fixed) * load_double(&s.quantum[lane])
            ) + (
                load_double(&s.sums.residual[lane])
                - count * (load_double(&s.center[lane]) - grid_center)
            )
            near = near & less_equal(off * off, splat(0.125) * count * square)
        lane += WIDTH
    if any_set(~numbers):
        return NOT_A_NUMBER
    if any_set(~bounded):
        return MOVED
    if not on_grid:
        return OFF_GRID
    return MOVED if any_set(~near) else DONE

cdef void settle(running_t* s) noexcept nogil:
    """Move the fixed-point sums to the totals, so that they have room again."""
    cdef Py_ssize_t lane
    cdef int64_t multiple
    cdef dd part
    for lane in range(LANES):
        multiple = multiples(s, lane)
        part = two_sum(s.total_hi[lane], <double> (multiple >> 32) * (4294967296.0 * s.quantum[lane]))
        s.total_lo[lane] += part.lo
        part = two_sum(part.hi, <double> (<uint64_t> multiple & LOW_BITS) * s.quantum[lane])
        s.total_lo[lane] += part.lo
        s.total_hi[lane] = part.hi
        s.sums.fixed[lane] = 0
    s.rows = 0


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
    """Choose center and quantum where there are none; return whether there are such."""
    cdef Py_ssize_t step = max(rows // (SHARED_SAMPLE if s.one_channel else SAMPLE), 1)
    if s.thorough:
        step = 1
    s.fresh = not s.started and step == 1
    if not s.started and not look(x, stride, rows, step, s):
        return False
    s.before = s.sums
    return True


cdef bint look(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t step, running_t* s
) noexcept nogil:
    """Choose center and quantum by every `step`-th row of a tile; return whether they fit."""
    cdef double pivot[LANES]
    cdef double total[LANES]
    cdef double count[LANES]
    cdef double largest[LANES]
    cdef lanes_t v, number, pivots, totals, counts, magnitudes
    cdef double value, seen = 0.0
    cdef Py_ssize_t row, lane
    for lane in range(LANES):
        value = <double> x[0 if s.one_channel else lane]
        pivot[lane] = value if isfinite(value) else 0.0
    lane = 0
    while lane < LANES:
        pivots = load_double(&pivot[lane])
        totals = counts = magnitudes = splat(0.0)
        row = 0
        while row < rows:
            v = load(x + row * stride + lane)
            number = choose(equal(v, v), v, pivots)
            totals = totals + (number - pivots)
            counts = counts + keep(equal(v, v), splat(1.0))
            magnitudes = greater(magnitude_of(v), magnitudes)
            row += step
        store_double(&total[lane], totals)
        store_double(&count[lane], counts)
        store_double(&largest[lane], magnitudes)
        lane += WIDTH
    for lane in range(LANES):
        seen += count[lane]
    if seen < <double> (((rows - 1) // step + 1) * LANES) and not s.skipna:
        if not s.may_skip:
            return False
        s.skipna = True
    if s.one_channel:  # its lanes share the center, so that their sums can be added
        for lane in range(1, LANES):
            total[0] += total[lane]
            largest[0] = max(largest[0], largest[lane])
        if not begin(s, 0, pivot[0], total[0], seen, largest[0]):
            return False
        for lane in range(1, LANES):
            s.center[lane], s.grid[lane] = s.center[0], s.grid[0]
            s.grid_center[lane], s.quantum[lane] = s.grid_center[0], s.quantum[0]
            s.bound[lane], s.threshold[lane] = s.bound[0], s.threshold[0]
    else:
        for lane in range(LANES):
            if not begin(s, lane, pivot[lane], total[lane], count[lane], largest[lane]):
                return False
    memset(s.sums.least, 0xff, sizeof(s.sums.least))
    s.started = True
    return True


cdef inline double power_of_two(int64_t exponent) noexcept nogil:
    cdef int64_t bits = (exponent + 1023) << 52
    cdef double value
    memcpy(&value, &bits, sizeof(value))
    return value


cdef inline bint begin(
    running_t* s, Py_ssize_t lane, double pivot, double total, double count, double largest
) noexcept nogil:
    """Set center and quantum of a lane; return whether there are such."""
    cdef int64_t exponent = 0
    if largest != 0.0:  # 2**5 times as large, or up to twice that
        memcpy(&exponent, &largest, sizeof(exponent))
        exponent = (exponent >> 52) - 1016
    if not (largest < INFINITY and -MAX_EXPONENT <= exponent <= MAX_EXPONENT):
        return False
    s.center[lane] = pivot + total / count if count != 0.0 else pivot
    s.bound[lane] = power_of_two(2 * exponent - 4)
    s.quantum[lane] = power_of_two(exponent - 51)
    s.grid[lane] = 3.0 * power_of_two(exponent)
    s.grid_center[lane] = (s.center[lane] + s.grid[lane]) - s.grid[lane]
    # The bits of the float32 2**(exponent - 28), twice, less 1: what is larger has no bit below
    # the quantum. Nor has the least subnormal number, where the quantum is as small.
    s.threshold[lane] = 0
    if exponent > -98:
        s.threshold[lane] = (<uint32_t> (exponent + 99) << 24) - 1
    return True


cdef void finish(running_t* s, Py_ssize_t lanes, moments_t* states) noexcept nogil:
    """Return the moments of the first lanes, or of one channel, and begin again."""
    cdef dd total[LANES]
    cdef dd square[LANES]
    cdef double count[LANES]
    cdef Py_ssize_t lane, half
    if s.started:
        for lane in range(LANES):
            count[lane] = count_of(s, lane)
            square[lane] = fast_two_sum(s.sums.square_hi[lane], s.sums.square_lo[lane])
        if s.one_channel:
            total[0] = shared_total(s)
            half = LANES // 2
            while half:
                for lane in range(half):
                    count[lane] += count[lane + half]
                    square[lane] = dd_add(square[lane], square[lane + half])
                half //= 2
        else:
            settle(s)
            for lane in range(lanes):
                total[lane] = fast_two_sum(s.total_hi[lane], s.total_lo[lane])
                if s.sums.residual[lane] != 0.0:
                    total[lane] = add_to(total[lane], s.sums.residual[lane])
    for lane in range(lanes):
        states[lane].count.hi = 0.0
        if s.started and count[lane] != 0.0:
            states[lane] = about_center(
                count[lane], s.center[lane], s.grid_center[lane], total[lane], square[lane]
            )
    memset(&s.sums, 0, sizeof(sums_t))
    memset(s.total_hi, 0, sizeof(s.total_hi))
    memset(s.total_lo, 0, sizeof(s.total_lo))
    s.rows = s.all_rows = 0
    s.started = False


cdef dd shared_total(const running_t* s) noexcept nogil:
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
    for lane in range(LANES):
        if s.rows != s.all_rows:
            total = dd_add(total, fast_two_sum(s.total_hi[lane], s.total_lo[lane]))
        if s.sums.residual[lane] != 0.0:
            total = add_to(total, s.sums.residual[lane])
    return total


cdef inline dd add_to(dd total, double more) noexcept nogil:
    cdef dd other
    other.hi, other.lo = more, 0.0
    return dd_add(total, other)


cdef moments_t about_center(
    double count, double center, double grid_center, dd total, dd square
) noexcept nogil:
    """Return the moments of sums about a center."""
    cdef moments_t m
    cdef dd off, correction
    m.count.hi, m.count.lo, m.exponent = count, 0.0, 0.0
    m.sum = dd_add(total, two_prod(count, grid_center))
    off = dd_sub(total, two_prod(count, center - grid_center))
    correction.hi, correction.lo = off.hi * off.hi / count, 0.0
    m.m2 = dd_sub(square, correction)
    if m.m2.hi < 0.0:
        m.m2.hi = m.m2.lo = 0.0
    return m
