# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one read of memory, one look at each element, and yet sums without rounding.
#
#   a) The sum runs in fixed point. Added to a large constant, x is rounded to a multiple of a
#      quantum q, and the bits of the result are that multiple: they add up as integers, without
#      error. What is left of x below q is summed apart; float32 has nothing left unless it is
#      very small beside the largest, which the least magnitude shows.
#   b) The sum of squares runs about a center near the mean: two chains of four rows, then
#      a sum in two parts. The sum of x - center, exact by a), gives in closed form what is to be
#      taken off.
#   c) After each tile of a group three things are looked at: every magnitude was below the limit
#      that q stands for, nothing was left over, and the center is still within a third of a
#      deviation of the mean. Otherwise the tile is forgotten and taken again: with the
#      remainders, without NaN, or after a new look at its mean and its largest magnitude, when
#      what was summed so far is merged into the state of the channel.
#
# What fixed point cannot hold (infinity, magnitudes beyond 2**-300 .. 2**300, weights) goes
# through tile_moments, and so do small arrays, whose last digit then depends on their values
# alone and not on their memory order or on other channels. States merge by statistics.merged, in
# order within a range, then in range order. Nothing is allocated but one state a lane in work and
# one a range and channel.

import numpy as np

from libc.math cimport INFINITY, NAN, frexp, isfinite, ldexp
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from normcore._dd cimport dd, dd_add, dd_sub, fast_two_sum, two_prod
from normcore.statistics cimport (
    MOMENTS_ROWS, load_moments, merged, moments_t, store_moments,
)

from .lanes cimport (
    WIDTH, any_below, any_set, bits_of, choose, equal, float_bits, floats_t, greater, keep,
    lanes_t, less_equal, lesser, load, load_double, load_floats, load_long, load_word, longs_t,
    magnitude_of, min_word, prefetch, real, signed_to_double, splat, splat_long, splat_word,
    store_double, store_long, store_word, widen, words_t,
)
from .tasks cimport Task
from .tile_moments cimport tile_moments
from .tiles cimport (
    FLOAT, LANES, TILE, gather, near_rows, rows_of, rows_t, tile_t, view_t,
)

__all__ = ["moments"]

cdef enum:
    CHAIN = 4
    STEP = 64       # rows in work at once
    MAX_EXPONENT = 300
    SAMPLE = 64     # rows that a first look takes
    # 2048 rows of multiples below 2**51 fit into 63 bits.
    ROWS_OF_SUM = 2048
    DONE, MOVED, OFF_GRID, NOT_A_NUMBER

# Elements up to which the time does not matter.
cdef Py_ssize_t SMALL = 1 << 14
cdef uint32_t NO_MAGNITUDE = 0xffffffff
cdef uint64_t LOW_BITS = 0xffffffff
cdef uint64_t ALL_BITS = 0xffffffffffffffff


# The sums of 16 lanes since their center was chosen.
cdef struct sums_t:
    uint64_t fixed[LANES]       # of (x - grid_center) / quantum, and rows times the bits of both
    double residual[LANES]      # of what is below the quantum
    double square_hi[LANES]     # of (x - center)**2
    double square_lo[LANES]
    uint64_t count[LANES]       # of numbers, where NaN is skipped
    uint32_t least[LANES]       # twice the bits of the least magnitude that is not 0, less 1

cdef struct running_t:
    sums_t sums
    double center[LANES]
    double grid[LANES]          # 1.5 * 2**(exponent + 1)
    double quantum[LANES]       # 2**(exponent - 51)
    double bound[LANES]         # of the squares of a tile, so that magnitudes are below 2**exponent
    double grid_center[LANES]   # the center, rounded to the grid
    double total_hi[LANES]      # of x - grid_center, from the sums that are no longer in `fixed`
    double total_lo[LANES]
    uint32_t threshold[LANES]
    Py_ssize_t group
    Py_ssize_t rows             # in sums.fixed
    Py_ssize_t all_rows
    bint started, residuals, skipna

cdef struct state_t:
    Py_ssize_t first
    Py_ssize_t groups
    running_t running[1]        # of as many as there are groups


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
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t ahead, running_t* s,
    bint residuals, bint skipna,
) noexcept nogil:
    """Add rows of 16 lanes to the sums."""
    cdef Py_ssize_t row = 0, lane, k, step, half
    cdef lanes_t center, grid, grid_center, residual, first, second, square, hi, lo
    cdef longs_t fixed, count
    cdef words_t least
    cdef Py_ssize_t near_stride
    cdef real copy[STEP * LANES]
    cdef const real* near
    cdef const real* p
    while row < rows:
        step = min(rows - row, <Py_ssize_t> STEP)
        for k in range(step):
            prefetch(x + (row + k + ahead) * stride)
            if real is double:
                prefetch(x + (row + k + ahead) * stride + LANES // 2)
        near_stride = stride
        near = near_rows(x + row * stride, &near_stride, step, copy)
        lane = 0
        while lane < LANES:
            p = near + lane
            center, grid = load_double(&s.center[lane]), load_double(&s.grid[lane])
            grid_center = load_double(&s.grid_center[lane])
            fixed, count = load_long(&s.sums.fixed[lane]), load_long(&s.sums.count[lane])
            residual, least = load_double(&s.sums.residual[lane]), load_word(&s.sums.least[lane])
            hi, lo = load_double(&s.sums.square_hi[lane]), load_double(&s.sums.square_lo[lane])
            half = 0
            while half < step:
                first, second = splat(0.0), splat(0.0)
                if half + 2 * CHAIN <= step:
                    for k in range(half, half + CHAIN):
                        add(
                            p + k * near_stride, center, grid, grid_center, &fixed, &residual,
                            &first, &count, &least, residuals, skipna,
                        )
                        add(
                            p + (k + CHAIN) * near_stride, center, grid, grid_center, &fixed,
                            &residual, &second, &count, &least, residuals, skipna,
                        )
                else:
                    for k in range(half, step):
                        add(
                            p + k * near_stride, center, grid, grid_center, &fixed, &residual,
                            &first if k < half + CHAIN else &second, &count, &least, residuals,
                            skipna,
                        )
                first = first + second
                square = hi + first  # fast_two_sum of the larger and the smaller
                lo = lo + (lesser(hi, first) - (square - greater(hi, first)))
                hi = square
                half += 2 * CHAIN
            store_double(&s.sums.square_hi[lane], hi)
            store_double(&s.sums.square_lo[lane], lo)
            store_long(&s.sums.fixed[lane], fixed)
            if residuals:
                store_double(&s.sums.residual[lane], residual)
            else:
                store_word(&s.sums.least[lane], least)
            if skipna:
                store_long(&s.sums.count[lane], count)
            lane += WIDTH
        row += step


cdef void accumulate_as(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t ahead, running_t* s
) noexcept nogil:
    """Choose the loop: remainders below the quantum or none, NaN or none."""
    cdef bint residuals = s.residuals or real is double
    if s.skipna:
        if residuals:
            accumulate(x, stride, rows, ahead, s, True, True)
        else:
            accumulate(x, stride, rows, ahead, s, False, True)
    elif residuals:
        accumulate(x, stride, rows, ahead, s, True, False)
    else:
        accumulate(x, stride, rows, ahead, s, False, False)


cdef inline int64_t multiples(const running_t* s, Py_ssize_t lane) noexcept nogil:
    """Return the sum of (x - grid_center) / quantum."""
    cdef double on_grid = s.grid_center[lane] + s.grid[lane]
    cdef uint64_t bits
    memcpy(&bits, &on_grid, sizeof(bits))
    return <int64_t> (s.sums.fixed[lane] - <uint64_t> s.rows * bits)


cdef inline double count_of(const running_t* s, Py_ssize_t lane) noexcept nogil:
    return <double> s.sums.count[lane] if s.skipna else <double> s.all_rows


cdef int judge(const running_t* s, const sums_t* before, bint fresh) noexcept nogil:
    """Say whether the sums can be trusted after a tile."""
    cdef longs_t bounded = splat_long(ALL_BITS), near = splat_long(ALL_BITS)
    cdef longs_t numbers = splat_long(ALL_BITS), fixed
    cdef lanes_t square, grown, grid_center, off, count = splat(<double> s.all_rows)
    cdef bint on_grid = True
    cdef Py_ssize_t lane = 0
    while lane < LANES:
        square = load_double(&s.sums.square_hi[lane])
        grown = square - load_double(&before.square_hi[lane])
        numbers = numbers & equal(grown, grown)
        bounded = bounded & less_equal(grown, load_double(&s.bound[lane]))
        if not s.residuals:
            on_grid = on_grid and not any_below(
                load_word(&s.sums.least[lane]), load_word(&s.threshold[lane])
            )
        if not fresh:
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
    cdef int64_t total
    cdef double high, low, t
    for lane in range(LANES):
        total = multiples(s, lane)
        low = <double> (<uint64_t> total & LOW_BITS) * s.quantum[lane]
        high = <double> (total >> 32) * (4294967296.0 * s.quantum[lane])
        t = s.total_hi[lane] + high
        s.total_lo[lane] += (s.total_hi[lane] - (t - (t - s.total_hi[lane]))) + (
            high - (t - s.total_hi[lane])
        )
        s.total_hi[lane] = t
        t = s.total_hi[lane] + low
        s.total_lo[lane] += (s.total_hi[lane] - (t - (t - s.total_hi[lane]))) + (
            low - (t - s.total_hi[lane])
        )
        s.total_hi[lane] = t
        s.sums.fixed[lane] = 0
    s.rows = 0


cdef bint look(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t step, bint one_channel,
    running_t* s,
) noexcept nogil:
    """Choose center and quantum by every `step`-th row of a tile; return whether they fit."""
    cdef double pivot[LANES]
    cdef double total[LANES]
    cdef double count[LANES]
    cdef double largest[LANES]
    cdef lanes_t v, number, pivots, totals, counts, magnitudes
    cdef double value
    cdef Py_ssize_t row, lane
    for lane in range(LANES):
        value = <double> x[0 if one_channel else lane]
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
    if one_channel:  # its lanes share the center, so that their sums can be added
        for lane in range(1, LANES):
            total[0] += total[lane]
            count[0] += count[lane]
            largest[0] = max(largest[0], largest[lane])
        return begin(s, 0, LANES, pivot[0], total[0], count[0], largest[0])
    for lane in range(LANES):
        if not begin(s, lane, lane + 1, pivot[lane], total[lane], count[lane], largest[lane]):
            return False
    return True


cdef bint begin(
    running_t* s, Py_ssize_t first, Py_ssize_t last, double pivot, double total, double count,
    double largest,
) noexcept nogil:
    """Set center and quantum of lanes; return whether there are such."""
    cdef Py_ssize_t lane
    cdef int exponent
    cdef float least
    cdef uint32_t bits
    cdef double center = pivot + total / count if count != 0.0 else pivot
    frexp(largest, &exponent)
    exponent = exponent + 6 if largest != 0.0 else 0
    if not (largest < INFINITY and -MAX_EXPONENT <= exponent <= MAX_EXPONENT):
        return False
    for lane in range(first, last):
        s.center[lane] = center
        s.bound[lane] = ldexp(1.0, 2 * exponent - 4)
        s.quantum[lane] = ldexp(1.0, exponent - 51)
        s.grid[lane] = ldexp(3.0, exponent)
        s.grid_center[lane] = (center + s.grid[lane]) - s.grid[lane]
        s.threshold[lane] = 0
        if exponent > -98:  # below, even the subnormal float32 are multiples of the quantum
            least = <float> ldexp(1.0, exponent - 28)
            memcpy(&bits, &least, sizeof(bits))
            s.threshold[lane] = 2 * bits - 1
        s.sums.least[lane] = NO_MAGNITUDE
    s.started = True
    return True


cdef inline dd add_to(dd total, double hi, double lo) noexcept nogil:
    cdef dd more = fast_two_sum(hi, lo)
    return dd_add(total, more)


cdef class MomentsTask(Task):
    cdef view_t w
    cdef bint weighted, skipna, small
    cdef double[:, :, ::1] states

    def __init__(self, x, weights, bint skipna):
        self.begin(x)
        self.weighted = weights is not None
        if self.weighted:
            self.w = self.view(weights, True)
        self.skipna = skipna
        self.small = self.x.positions * self.plan.channels <= SMALL
        self.states = np.zeros((self.plan.ranges, MOMENTS_ROWS, self.plan.channels))

    cdef void* open(self, Py_ssize_t first, Py_ssize_t groups) noexcept nogil:
        cdef state_t* state = <state_t*> calloc(
            1, sizeof(state_t) + (groups - 1) * sizeof(running_t)
        )
        cdef Py_ssize_t group
        if state == NULL:
            self.out_of_memory = True
            return NULL
        state.first, state.groups = first, groups
        for group in range(groups):
            state.running[group].group = first + group
        return state

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        cdef Py_ssize_t group
        if state == NULL:
            return
        for group in range((<state_t*> state).groups):
            self.flush(&(<state_t*> state).running[group], part)
        free(state)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double copy[TILE]
        cdef running_t* s
        cdef rows_t x
        cdef bint taken = False
        if state == NULL:
            return
        s = &(<state_t*> state).running[at.group - (<state_t*> state).first]
        if not (self.weighted or self.small):
            x = rows_of(&self.x, &self.plan, at, NAN, copy)
            if x.real == FLOAT:
                taken = self.take(<const float*> x.data, x.stride, x.ahead, s, part, at)
            else:
                taken = self.take(<const double*> x.data, x.stride, x.ahead, s, part, at)
        if not taken:
            self.take_exactly(s, part, at, copy)

    cdef bint take(
        self, const real* x, Py_ssize_t stride, Py_ssize_t ahead, running_t* s, Py_ssize_t part,
        const tile_t* at,
    ) noexcept nogil:
        """Add a tile to the sums; return whether they could take it."""
        cdef sums_t before
        cdef bint fresh
        cdef int verdict
        cdef Py_ssize_t lane, _, step = max(at.rows // SAMPLE, 1)
        if at.lanes < LANES and not s.skipna:
            self.flush(s, part)
            s.skipna = True
        for _ in range(5):
            fresh = not s.started and step == 1
            if not s.started:
                if not look(x, stride, at.rows, step, self.plan.along, s):
                    return False
                step = 1  # should some rows not tell enough, all will
            memcpy(&before, &s.sums, sizeof(sums_t))
            accumulate_as(x, stride, at.rows, ahead, s)
            s.rows += at.rows
            s.all_rows += at.rows
            verdict = judge(s, &before, fresh)
            if verdict == DONE and s.skipna and not self.skipna:
                for lane in range(at.lanes):
                    if s.sums.count[lane] - before.count[lane] != <uint64_t> at.rows:
                        verdict = NOT_A_NUMBER
            if verdict == DONE:
                if s.rows + TILE // LANES > ROWS_OF_SUM:
                    settle(s)
                return True
            memcpy(&s.sums, &before, sizeof(sums_t))
            s.rows -= at.rows
            s.all_rows -= at.rows
            if verdict == NOT_A_NUMBER and (s.skipna or not self.skipna):
                return False
            if verdict == MOVED and fresh:
                return False
            self.flush(s, part)
            s.residuals = s.residuals or verdict == OFF_GRID
            s.skipna = s.skipna or verdict == NOT_A_NUMBER
        return False

    cdef void flush(self, running_t* s, Py_ssize_t part) noexcept nogil:
        """Merge the sums into the states of their channels, and begin again."""
        cdef dd total[LANES]
        cdef dd square[LANES]
        cdef double count[LANES]
        cdef Py_ssize_t lane, lanes = LANES
        cdef Py_ssize_t channel = s.group if self.plan.along else s.group * LANES
        if s.started:
            settle(s)
            for lane in range(LANES):
                count[lane] = count_of(s, lane)
                total[lane] = fast_two_sum(s.total_hi[lane], s.total_lo[lane])
                total[lane] = add_to(total[lane], s.sums.residual[lane], 0.0)
                square[lane] = fast_two_sum(s.sums.square_hi[lane], s.sums.square_lo[lane])
            if self.plan.along:
                for lane in range(1, LANES):
                    count[0] += count[lane]
                    total[0] = dd_add(total[0], total[lane])
                    square[0] = dd_add(square[0], square[lane])
                lanes = 1
            else:
                lanes = min(lanes, self.plan.width - s.group * LANES)
            for lane in range(lanes):
                if count[lane] != 0.0:
                    self.merge(
                        part,
                        channel if self.plan.along else (channel + lane) % self.plan.channels,
                        finished(
                            count[lane], s.center[lane], s.grid_center[lane], total[lane],
                            square[lane],
                        ),
                    )
        memset(&s.sums, 0, sizeof(sums_t))
        memset(s.total_hi, 0, sizeof(s.total_hi))
        memset(s.total_lo, 0, sizeof(s.total_lo))
        s.rows = s.all_rows = 0
        s.started = False

    cdef void take_exactly(
        self, running_t* s, Py_ssize_t part, const tile_t* at, double* x
    ) noexcept nogil:
        """Merge a tile, whatever it holds, into the states of its channels."""
        cdef double w[TILE]
        cdef moments_t states[LANES]
        cdef bint full = not self.weighted and not self.skipna and at.lanes == LANES
        cdef Py_ssize_t lane, i
        self.flush(s, part)
        gather(&self.x, &self.plan, at, 0.0, x)
        if self.weighted:
            gather(&self.w, &self.plan, at, 0.0, w)
        elif not full:
            for i in range(at.rows * LANES):
                w[i] = 1.0 if i % LANES < at.lanes else 0.0
        tile_moments(x, NULL if full else w, at.rows, at.lanes, self.skipna, states)
        for lane in range(at.lanes):
            self.merge(
                part,
                at.channel if self.plan.along else (at.channel + lane) % self.plan.channels,
                states[lane],
            )

    cdef void merge(self, Py_ssize_t part, Py_ssize_t channel, moments_t more) noexcept nogil:
        cdef Py_ssize_t num_channels = self.plan.channels
        cdef double* state = &self.states[part, 0, channel]
        store_moments(state, num_channels, merged(load_moments(state, num_channels), more))


cdef moments_t finished(
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


def moments(x, weights=None, bint skipna=False):
    """Return the (7, C) state of the moments of an (N, C, S) array.

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    weights : array of shape (N, S), optional
        Positions of weight 0 do not count, whatever their values.
    skipna : bool
        Leave NaN out.
    """
    cdef MomentsTask task = MomentsTask(x, weights, skipna)
    cdef Py_ssize_t c, part, num_channels = task.plan.channels
    result = np.zeros((MOMENTS_ROWS, num_channels))
    cdef double[:, ::1] total = result
    task.spread()
    with nogil:
        for c in range(num_channels):
            for part in range(task.plan.ranges):
                store_moments(
                    &total[0, c],
                    num_channels,
                    merged(
                        load_moments(&total[0, c], num_channels),
                        load_moments(&task.states[part, 0, c], num_channels),
                    ),
                )
    return result
