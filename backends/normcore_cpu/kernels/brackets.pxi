# Design: each tile is read once from memory, to see whether all of it is finite and to have its
# rows side by side, and then, from the cache, once for each rank. That walk only compares, in the
# dtype of the data and across the lanes: it counts what is at least the lower end and sets a bit
# where a value is also at most the upper one. Bits become indices without a branch to foresee, and
# only what they show is looked at by itself: values inside are kept, values on an end counted.
# Where they are many, as where values repeat, another walk compares strictly. Bounds that the
# data's dtype cannot hold are replaced by the nearest that it can, up or down, such that every
# comparison has the same outcome. NaN is nothing of what is counted, so it shows only where a tile
# is not finite.
#
# With weights everything is float64, and sums of weights take the place of counts; each lane sums
# in the order of its rows, whatever the width of vectors.

cdef enum:
    NANS, INFINITE, COUNT, TOTALS
    BELOW = 0, EQUAL_LOWER, INSIDE, EQUAL_UPPER, SUMS


cdef class BracketsTask(Task):
    cdef Kept kept
    cdef Py_ssize_t num_ranks
    cdef const float* float_bounds      # (group, rank, BOUNDS, lane)
    cdef const double* bounds
    cdef object counts_array, totals_array
    cdef uint32_t* counts               # (range, group, rank, COUNTERS, lane)
    cdef uint32_t* totals               # (range, group, NANS INFINITE, lane)

    def __init__(self, x, lower, upper):
        self.begin(x)
        self.num_ranks = lower.shape[0]
        lanes = np.arange(self.plan.groups * LANES).reshape(-1, LANES)
        channels = lanes // LANES if self.plan.along else lanes % self.plan.channels
        bounds = np.stack([lower, lower, upper, upper])[:, :, channels].transpose(2, 1, 0, 3)
        bounds = np.ascontiguousarray(bounds)
        self.bounds = doubles_of(bounds)
        self.arrays.append(bounds)
        if self.x.real == FLOAT:  # of which some tiles are float64 nevertheless
            rounded = _rounded(bounds)
            self.float_bounds = <const float*> cnp.PyArray_DATA(rounded)
            self.arrays.append(rounded)
        shape = self.plan.ranges, self.plan.groups
        self.counts_array = np.zeros((*shape, self.num_ranks * COUNTERS, LANES), np.uint32)
        self.counts = <uint32_t*> cnp.PyArray_DATA(self.counts_array)
        self.totals_array = np.zeros((*shape, 2, LANES), np.uint32)
        self.totals = <uint32_t*> cnp.PyArray_DATA(self.totals_array)
        self.kept = Kept(
            *shape, self.num_ranks * self.plan.channels,
            np.float32 if self.x.real == FLOAT else np.float64, False,
        )

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double copy[TILE]
        cdef rows_t x
        cdef Py_ssize_t first = at.group * self.num_ranks * BOUNDS * LANES
        if not self.num_ranks:
            return
        x = rows_of(&self.x, &self.plan, at, NAN, copy)
        if x.real == FLOAT:
            self.take(<const float*> x.data, &x, part, at, self.float_bounds + first)
        else:
            self.take(<const double*> x.data, &x, part, at, self.bounds + first)

    cdef void take(
        self, const real* x, const rows_t* rows, Py_ssize_t part, const tile_t* at,
        const real* bounds,
    ) noexcept nogil:
        """Count a tile and keep what lies inside."""
        cdef real copy[TILE]
        cdef uint64_t words[SIFT_WORDS]
        cdef uint16_t indices[SIFT_INDICES]
        cdef uint32_t before[LANES]
        cdef uint32_t lists[LANES]
        cdef Py_ssize_t _, lane, found, stride = rows.stride
        cdef Py_ssize_t state = part * self.plan.groups + at.group
        cdef uint32_t* counts = self.counts + state * self.num_ranks * COUNTERS * LANES
        cdef bint finite
        if stride == LANES:
            finite = all_finite(
                x, stride, at.rows, rows.prefetch_start, rows.prefetch_stride, <real*> NULL
            )
        else:
            finite = all_finite(x, stride, at.rows, rows.prefetch_start, rows.prefetch_stride, copy)
            x, stride = copy, LANES
        if not finite:
            count_others(x, stride, at, self.totals + state * 2 * LANES)
        for lane in range(LANES):
            lists[lane] = <uint32_t> channel_of(&self.plan, at, lane)
        for _ in range(self.num_ranks):
            memcpy(before, &counts[FROM * LANES], sizeof(before))
            sift(x, stride, at.rows, bounds, False, counts, words)
            found = positions(words, at.rows, indices)
            if found > at.rows:
                memcpy(&counts[FROM * LANES], before, sizeof(before))
                sift(x, stride, at.rows, bounds, True, counts, words)
                found = positions(words, at.rows, indices)
            if found:
                self.look_at(x, stride, indices, found, bounds, counts, part, at.group, lists)
            for lane in range(LANES):
                lists[lane] += <uint32_t> self.plan.channels
            bounds = bounds + BOUNDS * LANES
            counts = counts + COUNTERS * LANES

    cdef void look_at(
        self, const real* x, Py_ssize_t stride, const uint16_t* indices, Py_ssize_t found,
        const real* bounds, uint32_t* counts, Py_ssize_t part, Py_ssize_t group,
        const uint32_t* lists,
    ) noexcept nogil:
        """Keep what lies strictly inside, count what lies on the ends."""
        cdef stream_t* stream = self.kept.stream(part, group)
        cdef uint32_t* kept = self.kept.counts_of(part)
        cdef bint narrow = self.x.real == FLOAT
        cdef Py_ssize_t i, size = stream.size, lane
        cdef real value
        if not self.kept.reserve(stream, found):
            self.out_of_memory = True
            return
        for i in range(found):
            lane = indices[i] % LANES
            value = x[indices[i] // LANES * stride + lane]
            if bounds[ABOVE * LANES + lane] < value < bounds[UNDER * LANES + lane]:
                if narrow:
                    (<float*> stream.values)[size] = <float> value
                else:
                    (<double*> stream.values)[size] = <double> value
                stream.lists[size] = lists[lane]
                kept[lists[lane]] += 1
                size += 1
            elif value <= bounds[ABOVE * LANES + lane]:
                counts[ON_LOWER * LANES + lane] += 1
            else:
                counts[ON_UPPER * LANES + lane] += 1
        stream.size = size

    cdef object summed_by_channel(self, states):
        """Add up the ranges and lanes of each channel in (range, group, ..., lane)."""
        states = np.moveaxis(states.sum(0, dtype=np.int64), 0, 1)
        if self.plan.along:
            return states.sum(2)
        states = states.reshape(len(states), self.plan.groups * LANES)[:, :self.plan.width]
        return states.reshape(len(states), self.plan.row_positions, self.plan.channels).sum(1)

    cdef tuple results(self):
        counts = self.summed_by_channel(self.counts_array)
        counts = counts.reshape(self.num_ranks, COUNTERS, self.plan.channels)
        nans, infinite = self.summed_by_channel(self.totals_array)
        kept = self.kept.array.sum(0, dtype=np.int64)
        kept = kept.reshape(self.num_ranks, self.plan.channels)
        valid = self.x.positions - nans
        sums = valid - counts[:, FROM], counts[:, ON_LOWER], kept, counts[:, ON_UPPER]
        self.kept.join()
        return (
            *[each.astype(np.float64) for each in (*sums, valid, infinite, nans)],
            _rows(self.kept.arrays, kept.shape), None,
        )


cdef void count_others(
    const real* x, Py_ssize_t stride, const tile_t* at, uint32_t* totals
) noexcept nogil:
    """Count NaN and infinity."""
    cdef uint32_t nans[LANES]
    cdef uint32_t infinite[LANES]
    cdef Py_ssize_t row, lane
    cdef real value
    memset(nans, 0, sizeof(nans))
    memset(infinite, 0, sizeof(infinite))
    for row in range(at.rows):
        for lane in range(LANES):
            value = x[row * stride + lane]
            nans[lane] += value != value
            infinite[lane] += fabs(value) == INFINITY
    for lane in range(at.lanes):
        totals[NANS * LANES + lane] += nans[lane]
        totals[INFINITE * LANES + lane] += infinite[lane]


cdef class WeightedBracketsTask(Task):
    cdef view_t w
    cdef Kept kept
    cdef Py_ssize_t num_ranks
    cdef const double* lower            # (rank, channel)
    cdef const double* upper
    cdef object sums_array, totals_array
    cdef double* sums                   # (range, rank, SUMS, channel)
    cdef double* totals                 # (range, NANS INFINITE COUNT, channel)

    def __init__(self, x, lower, upper, weights):
        self.begin(x)
        self.w = self.view(weights, True)
        self.lower, self.upper = doubles_of(lower), doubles_of(upper)
        self.arrays += [lower, upper]
        self.num_ranks = lower.shape[0]
        lists = self.num_ranks * self.plan.channels
        self.kept = Kept(self.plan.ranges, self.plan.groups, lists, np.float64, True)
        self.sums_array = np.zeros((self.plan.ranges, self.num_ranks, SUMS, self.plan.channels))
        self.totals_array = np.zeros((self.plan.ranges, TOTALS, self.plan.channels))
        self.sums, self.totals = doubles_of(self.sums_array), doubles_of(self.totals_array)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double x[TILE]
        cdef double w[TILE]
        cdef Py_ssize_t lane = 0, rank
        gather(&self.x, &self.plan, at, NAN, x)
        gather(&self.w, &self.plan, at, 0.0, w)
        while lane < LANES:
            self.count(part, at, lane, x, w)
            for rank in range(self.num_ranks):
                self.take(part, at, lane, rank, x, w)
            lane += WIDTH

    cdef void count(
        self, Py_ssize_t part, const tile_t* at, Py_ssize_t first, const double* x, double* w
    ) noexcept nogil:
        """Count weights, infinities and NaN; NaN weighs nothing from here on."""
        cdef double lanes[TOTALS * WIDTH]
        cdef lanes_t v, weight, nans, infinite, count
        cdef longs_t number
        cdef Py_ssize_t row, i, lane, channel, num_channels = self.plan.channels
        cdef double* totals = self.totals + part * TOTALS * num_channels
        nans = infinite = count = splat(0.0)
        for row in range(at.rows):
            v, weight = load_double(&x[row * LANES + first]), load_double(&w[row * LANES + first])
            number = equal(v, v)
            nans = nans + keep(~number & less(splat(0.0), weight), splat(1.0))
            infinite = infinite + keep(
                equal(magnitude_of(v), splat(INFINITY)) & less(splat(0.0), weight), splat(1.0)
            )
            weight = keep(number, weight)
            count = count + weight
            store_double(&w[row * LANES + first], weight)
        store_double(&lanes[NANS * WIDTH], nans)
        store_double(&lanes[INFINITE * WIDTH], infinite)
        store_double(&lanes[COUNT * WIDTH], count)
        for lane in range(min(WIDTH, at.lanes - first)):
            channel = channel_of(&self.plan, at, first + lane)
            for i in range(TOTALS):
                totals[i * num_channels + channel] += lanes[i * WIDTH + lane]

    cdef void take(
        self, Py_ssize_t part, const tile_t* at, Py_ssize_t first, Py_ssize_t rank,
        const double* x, const double* w,
    ) noexcept nogil:
        """Sum the weights of a few lanes and keep what lies inside."""
        cdef double lanes[SUMS * WIDTH]
        cdef double low[WIDTH]
        cdef double high[WIDTH]
        cdef Py_ssize_t channels[WIDTH]
        cdef lanes_t v, weight, lower, upper, below, at_lower, between, at_upper
        cdef longs_t inside
        cdef Py_ssize_t row, lane, i, num_channels = self.plan.channels
        cdef double* sums = self.sums + (part * self.num_ranks + rank) * SUMS * num_channels
        cdef uint32_t* kept = self.kept.counts_of(part)
        cdef stream_t* stream = self.kept.stream(part, at.group)
        if not self.kept.reserve(stream, at.rows * WIDTH):
            self.out_of_memory = True
            return
        for lane in range(WIDTH):
            channels[lane] = channel_of(&self.plan, at, first + lane)
            low[lane] = self.lower[rank * num_channels + channels[lane]]
            high[lane] = self.upper[rank * num_channels + channels[lane]]
        lower, upper = load_double(low), load_double(high)
        below = at_lower = between = at_upper = splat(0.0)
        for row in range(at.rows):
            v, weight = load_double(&x[row * LANES + first]), load_double(&w[row * LANES + first])
            below = below + keep(less(v, lower), weight)
            at_lower = at_lower + keep(equal(v, lower), weight)
            at_upper = at_upper + keep(equal(v, upper) & less(lower, upper), weight)
            inside = less(lower, v) & less(v, upper) & less(splat(0.0), weight)
            if any_set(inside):
                between = between + keep(inside, weight)
                for lane in range(WIDTH):
                    i = row * LANES + first + lane
                    if low[lane] < x[i] < high[lane] and w[i] > 0.0:
                        (<double*> stream.values)[stream.size] = x[i]
                        stream.weights[stream.size] = w[i]
                        stream.lists[stream.size] = rank * num_channels + channels[lane]
                        kept[stream.lists[stream.size]] += 1
                        stream.size += 1
        store_double(&lanes[BELOW * WIDTH], below)
        store_double(&lanes[EQUAL_LOWER * WIDTH], at_lower)
        store_double(&lanes[INSIDE * WIDTH], between)
        store_double(&lanes[EQUAL_UPPER * WIDTH], at_upper)
        for lane in range(min(WIDTH, at.lanes - first)):
            for i in range(SUMS):
                sums[i * num_channels + channels[lane]] += lanes[i * WIDTH + lane]

    cdef tuple results(self):
        nans, infinite, count = self.totals_array.sum(0)
        sums = self.sums_array.sum(0).swapaxes(0, 1)
        self.kept.join()
        shape = self.num_ranks, self.plan.channels
        return (
            *sums, count, infinite, nans,
            _rows(self.kept.arrays, shape), _rows(self.kept.weight_arrays, shape),
        )


def _rows(arrays, shape):
    """Return R lists of C arrays."""
    return [arrays[rank * shape[1] : (rank + 1) * shape[1]] for rank in range(shape[0])]


def _rounded(bounds):
    """Round (..., BOUNDS, lane) to float32 such that float32 values compare as before."""
    with np.errstate(over="ignore"):
        nearest = bounds.astype(np.float32)
        up = np.where(nearest < bounds, np.nextafter(nearest, np.float32(np.inf)), nearest)
        down = np.where(nearest > bounds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    going_up = np.array([True, False, False, True])[:, None]  # AT_LEAST and UNDER
    return np.ascontiguousarray(np.where(going_up, up, down))


def brackets(x, lower, upper, weights=None, bint skipna=False):
    """Count what lies below, on and between two values of each channel, for R ranks.

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    lower, upper : C-contiguous float64 arrays of shape (R, C)
    weights : array of shape (N, S), optional
        Positions of weight 0 do not count, whatever their values.
    skipna : bool
        Without it, the count of a channel with NaN is NaN.

    Returns
    -------
    tuple
        below, equal_lower, inside_count, equal_upper of shape (R, C); count, infinite of shape
        (C,); inside, R lists of C arrays of the values strictly inside, float32 where x is;
        their weights likewise, or None.

    Raises
    ------
    MemoryError
        If what lies inside does not fit in memory.
    """
    cdef BracketsTask task
    cdef WeightedBracketsTask weighted
    if weights is None:
        task = BracketsTask(x, lower, upper)
        task.spread()
        results = task.results()
    else:
        weighted = WeightedBracketsTask(x, lower, upper, weights)
        weighted.spread()
        results = weighted.results()
    *sums, count, infinite, nans, inside, inside_weights = results
    if not skipna:
        count = np.where(nans > 0, NAN, count)
    return *sums, count, infinite, inside, inside_weights
