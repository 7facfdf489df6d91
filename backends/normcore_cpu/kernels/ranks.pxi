# Design: values are found by rank without sorting. A few of them, at places that are random but
# always the same, tell between which two the rank probably lies; one walk with `sift` counts those
# below and keeps those between, a quarter or so, until few are left, whose order is found by
# counting. Values that were misjudged are walked again with twice the margin, and a sort ends what
# does not shrink. Only the values themselves say what is found.


cdef double MARGIN = 3.0    # standard errors
cdef uint64_t SEED = 0x9e3779b97f4a7c15


cdef int compare(const void* a, const void* b) noexcept nogil:
    return ((<const double*> a)[0] > (<const double*> b)[0]) - (
        (<const double*> a)[0] < (<const double*> b)[0]
    )


cdef int compare_floats(const void* a, const void* b) noexcept nogil:
    return ((<const float*> a)[0] > (<const float*> b)[0]) - (
        (<const float*> a)[0] < (<const float*> b)[0]
    )


cdef void sort(real* x, Py_ssize_t count) noexcept nogil:
    if real is float:
        qsort(x, count, sizeof(float), compare_floats)
    else:
        qsort(x, count, sizeof(double), compare)


cdef Py_ssize_t keep_between(
    const real* x, Py_ssize_t count, real low, real high, real* kept, uint32_t* counts
) noexcept nogil:
    """Keep what lies strictly between; count what lies from `low` on, and on both ends."""
    cdef real bounds[BOUNDS * LANES]
    cdef real tail[LANES]
    cdef uint32_t by_lane[COUNTERS * LANES]
    cdef uint64_t words[SIFT_WORDS]
    cdef uint16_t indices[SIFT_INDICES]
    cdef Py_ssize_t start = 0, rows, found, i, size = 0
    cdef const real* p
    for i in range(LANES):
        bounds[AT_LEAST * LANES + i] = bounds[ABOVE * LANES + i] = low
        bounds[AT_MOST * LANES + i] = bounds[UNDER * LANES + i] = high
        tail[i] = x[count - count % LANES + i] if i < count % LANES else <real> NAN
    memset(by_lane, 0, sizeof(by_lane))
    while start < count:
        rows, p = min((count - start) // LANES, <Py_ssize_t> SIFT_ROWS), x + start
        if rows == 0:
            rows, p = 1, tail
        sift(p, <Py_ssize_t> LANES, rows, bounds, True, by_lane, words)
        found = positions(words, rows, indices)
        for i in range(found):
            kept[size + i] = p[indices[i]]
        size += found
        start += rows * LANES
    memset(counts, 0, COUNTERS * sizeof(uint32_t))
    for i in range(COUNTERS * LANES):
        counts[i // LANES] += by_lane[i]
    return size


cdef bint guess(
    const real* x, Py_ssize_t count, Py_ssize_t first, Py_ssize_t second, double margin,
    uint64_t* state, real* lower, real* upper,
) noexcept nogil:
    """Choose two values that two ranks probably lie between; return whether they narrow it."""
    cdef real few[FEW]
    cdef real ordered[FEW]
    cdef double share, reach
    cdef Py_ssize_t i, low, high
    for i in range(FEW):
        state[0] = state[0] * <uint64_t> 6364136223846793005 + <uint64_t> 1442695040888963407
        few[i] = x[<Py_ssize_t> ((state[0] >> 33) * <uint64_t> count >> 31)]
    order_few(few, FEW, ordered)
    share = <double> first / <double> count
    reach = margin * sqrt(share * (1.0 - share) * FEW) + 1.0
    low = <Py_ssize_t> (share * FEW - reach + FEW) - FEW  # rounded down
    share = <double> (second + 1) / <double> count
    reach = margin * sqrt(share * (1.0 - share) * FEW) + 1.0
    high = <Py_ssize_t> (share * FEW + reach)
    lower[0] = ordered[low] if low >= 0 else <real> -INFINITY
    upper[0] = ordered[high] if high < FEW else <real> INFINITY
    return low >= 0 or high < FEW


cdef bint locate(
    Py_ssize_t* rank, Py_ssize_t below, Py_ssize_t edge, Py_ssize_t end, real lower, real upper,
    real* value,
) noexcept nogil:
    """Set the value where the rank is that of an end; otherwise count the rank from the edge."""
    if rank[0] < edge or rank[0] >= end:
        value[0] = lower if rank[0] < edge else upper
        return True
    rank[0] -= edge
    return False


cdef void select(
    const real* x, Py_ssize_t count, Py_ssize_t first, Py_ssize_t second, real* room,
    real* a, real* b,
) noexcept nogil:
    """Find the values of two neighbouring ranks, first <= second, among numbers.

    There is room for twice the count.
    """
    cdef real few[FEW]
    cdef real ordered[FEW]
    cdef uint32_t counts[COUNTERS]
    cdef uint64_t state = SEED
    cdef double margin = MARGIN
    cdef Py_ssize_t below, edge, end, size, half = count
    cdef real* target = room
    cdef real lower, upper
    cdef bint found_a = False, found_b = False
    while count > FEW:
        if not guess(x, count, first, second, margin, &state, &lower, &upper):
            memcpy(target, x, count * sizeof(real))  # misjudged twice and more
            sort(target, count)
            break
        size = keep_between(x, count, lower, upper, target, counts)
        below = count - counts[FROM]
        edge = below + counts[ON_LOWER]
        end = edge + size
        if first < below or second >= end + counts[ON_UPPER]:
            margin *= 2.0
            continue
        if not found_a:
            found_a = locate(&first, below, edge, end, lower, upper, a)
        if not found_b:
            found_b = locate(&second, below, edge, end, lower, upper, b)
        if found_a and found_b:
            return
        first, second = second if found_a else first, first if found_b else second
        x, count = target, size
        target = room + half if target == room else room
    else:
        memset(few, 0, sizeof(few))
        memcpy(few, x, count * sizeof(real))
        order_few(few, count, ordered)
        target = ordered
    if not found_a:
        a[0] = target[first]
    if not found_b:
        b[0] = target[second]


cdef void select_apart(
    const real* x, Py_ssize_t count, Py_ssize_t first, Py_ssize_t second, real* room,
    real* a, real* b,
) noexcept nogil:
    """Find the values of two ranks, first <= second, among numbers.

    One walk keeps what lies around both, where that is little. There is room for three times the
    count.
    """
    cdef uint32_t counts[COUNTERS]
    cdef uint64_t state = SEED
    cdef Py_ssize_t edge, size
    cdef real lower, upper
    if count > 8 * FEW and (second - first) * 8 < count and guess(
        x, count, first, second, MARGIN, &state, &lower, &upper
    ):
        size = keep_between(x, count, lower, upper, room, counts)
        edge = count - counts[FROM] + counts[ON_LOWER]
        if edge <= first and second < edge + size:
            x, room = room, room + size
            first, second, count = first - edge, second - edge, size
    select(x, count, first, first, room, a, a)
    select(x, count, second, second, room, b, b)
