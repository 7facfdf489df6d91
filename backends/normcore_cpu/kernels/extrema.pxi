# Design: one comparison each way and one count of numbers (v == v) an element, float32 and float64
# each in vectors of their own; comparisons with NaN are false, so NaN drops out by itself and
# shows only in the count. Where lanes lie across channels, groups side by side are swept in bands
# of eight rows: memory is read in its own order. What a group found stays in its dtype while an
# item is in work, and is combined with the range's row of lanes at the end, and from there to
# channels. Adding 0.0 there makes -0.0 and 0.0 one value, whichever came first.

cdef enum:
    COUNT, MIN, MAX

# Rows after which 32-bit counters are emptied.
cdef Py_ssize_t MANY = 1 << 30

# Of 16 lanes, in the dtype that is read: float32 has counters of 32 bits.
cdef struct extrema_t:
    double least[LANES]
    double largest[LANES]
    uint64_t count[LANES]
    Py_ssize_t group
    Py_ssize_t rows

cdef struct extrema_state_t:
    Py_ssize_t first
    Py_ssize_t groups
    extrema_t found[1]          # of as many as there are groups


cdef inline void see_lanes(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, extrema_t* s
) noexcept nogil:
    """Bring 16 lanes up to date by some rows."""
    cdef Py_ssize_t lane = 0, k
    cdef pack_t packed, least_pack, largest_pack
    cdef lanes_t v, least, largest
    cdef longs_t count
    while lane < LANES:
        if real is float:
            least_pack = load_pack(<float*> s.least + lane)
            largest_pack = load_pack(<float*> s.largest + lane)
            count = load_long(<uint64_t*> (<uint32_t*> s.count + lane))
            for k in range(rows):
                packed = load_pack(x + k * stride + lane)
                least_pack = min_pack(packed, least_pack)
                largest_pack = max_pack(packed, largest_pack)
                count = count_pack(count, packed)
            store_pack(<float*> s.least + lane, least_pack)
            store_pack(<float*> s.largest + lane, largest_pack)
            store_long(<uint64_t*> (<uint32_t*> s.count + lane), count)
            lane += PACK
        else:
            least, largest = load_double(&s.least[lane]), load_double(&s.largest[lane])
            count = load_long(&s.count[lane])
            for k in range(rows):
                v = load_double(x + k * stride + lane)
                least, largest = min_lanes(v, least), max_lanes(v, largest)
                count = count - equal(v, v)
            store_double(&s.least[lane], least)
            store_double(&s.largest[lane], largest)
            store_long(&s.count[lane], count)
            lane += WIDTH


cdef void sweep_extrema(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t distance, extrema_t* s,
    Py_ssize_t groups,
) noexcept nogil:
    """Bring groups side by side up to date, and prefetch the rows at a distance."""
    cdef Py_ssize_t row = 0, group, step
    cdef const real* p
    while row < rows:
        step = min(rows - row, <Py_ssize_t> BAND)
        for group in range(groups):
            p = x + row * stride + group * LANES
            prefetch_band(
                p, stride * sizeof(real), sizeof(real), <Py_ssize_t> BAND, distance, group, groups
            )
            if step == BAND:  # a constant number of rows becomes straight vector code
                see_lanes(p, stride, <Py_ssize_t> BAND, &s[group])
            else:
                see_lanes(p, stride, step, &s[group])
        row += step


cdef inline void clear_extrema(real* least, real* largest, uint64_t* count) noexcept nogil:
    cdef Py_ssize_t lane
    for lane in range(LANES):
        least[lane], largest[lane], count[lane] = <real> INFINITY, <real> -INFINITY, 0


cdef class ExtremaTask(Task):
    cdef object array
    cdef double* states             # (range, COUNT MIN MAX, channel, or lane across channels)
    cdef Py_ssize_t width           # channels or lanes of a range
    cdef Py_ssize_t kept            # lanes of a group that are not of one channel
    cdef bint narrow

    def __init__(self, x):
        self.begin(x)
        self.narrow = self.x.real == FLOAT
        self.whole_rows = self.direct and not self.plan.along
        self.kept = 1 if self.plan.along else LANES
        self.width = self.plan.groups * self.kept
        states = np.zeros((self.plan.ranges, 3, self.width))
        states[:, MIN], states[:, MAX] = INFINITY, -INFINITY
        self.array, self.states = states, doubles_of(states)

    cdef void* open(self, Py_ssize_t first, Py_ssize_t groups) noexcept nogil:
        cdef extrema_state_t* state = <extrema_state_t*> malloc(
            sizeof(extrema_state_t) + (groups - 1) * sizeof(extrema_t)
        )
        cdef Py_ssize_t group
        if state == NULL:
            self.out_of_memory = True
            return NULL
        state.first, state.groups = first, groups
        for group in range(groups):
            state.found[group].group = first + group
            self.empty(&state.found[group])
        return state

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        cdef Py_ssize_t group
        if state == NULL:
            return
        for group in range((<extrema_state_t*> state).groups):
            self.combine(&(<extrema_state_t*> state).found[group], part)
        free(state)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double copy[TILE]
        cdef extrema_t* s
        cdef rows_t x
        cdef tile_t rest = at[0]
        cdef Py_ssize_t full = at.lanes // LANES, i
        if state == NULL:
            return
        s = &(<extrema_state_t*> state).found[at.group - (<extrema_state_t*> state).first]
        if self.whole_rows and full:
            x.data = start_of(&self.x, &self.plan, at)
            x.stride = row_stride_of(&self.x, &self.plan)
            x.distance = contiguous_distance(&self.x, &self.plan)
            self.see(&x, at.rows, s, full, part)
            s += full
            rest.group += full
            rest.channel = rest.group * LANES % self.plan.channels
            rest.lanes -= full * LANES
        if rest.lanes:
            x = rows_of(&self.x, &self.plan, &rest, NAN, copy)
            if self.narrow and x.real != FLOAT:  # back from float64
                for i in range(at.rows * LANES):
                    (<float*> copy)[i] = <float> copy[i]
            self.see(&x, at.rows, s, 1, part)

    cdef void see(
        self, const rows_t* x, Py_ssize_t rows, extrema_t* s, Py_ssize_t groups, Py_ssize_t part
    ) noexcept nogil:
        """Bring groups side by side up to date by the rows of a tile."""
        cdef Py_ssize_t group
        if self.narrow:
            sweep_extrema(<const float*> x.data, x.stride, rows, x.distance, s, groups)
        else:
            sweep_extrema(<const double*> x.data, x.stride, rows, x.distance, s, groups)
        for group in range(groups):
            s[group].rows += rows
            if s[group].rows > MANY:
                self.combine(&s[group], part)

    cdef void empty(self, extrema_t* s) noexcept nogil:
        s.rows = 0
        if self.narrow:
            clear_extrema(<float*> s.least, <float*> s.largest, s.count)
        else:
            clear_extrema(s.least, s.largest, s.count)

    cdef void combine(self, extrema_t* s, Py_ssize_t part) noexcept nogil:
        """Move what a group found to its range; along positions, its lanes share a channel."""
        cdef Py_ssize_t first = s.group * self.kept
        cdef double* count = self.states + (3 * part + COUNT) * self.width + first
        cdef double* least = self.states + (3 * part + MIN) * self.width + first
        cdef double* largest = self.states + (3 * part + MAX) * self.width + first
        cdef Py_ssize_t lane, to
        for lane in range(LANES):
            to = lane % self.kept
            if self.narrow:
                count[to] += <double> (<uint32_t*> s.count)[lane]
                least[to] = min(least[to], <double> (<float*> s.least)[lane])
                largest[to] = max(largest[to], <double> (<float*> s.largest)[lane])
            else:
                count[to] += <double> s.count[lane]
                least[to] = min(least[to], s.least[lane])
                largest[to] = max(largest[to], s.largest[lane])
        self.empty(s)

    cdef tuple channels(self):
        """Combine ranges and lanes to channels."""
        cdef Py_ssize_t row_positions = 1 if self.plan.along else self.plan.row_positions
        states = self.array[:, :, :row_positions * self.plan.channels]
        states = states.reshape(self.plan.ranges, 3, row_positions, self.plan.channels)
        count = states[:, COUNT].sum((0, 1))
        return count, states[:, MIN].min((0, 1)) + 0.0, states[:, MAX].max((0, 1)) + 0.0


def extrema(x):
    """Return count, minimum and maximum of the numbers in each channel of an (N, C, S) array.

    NaN does not count; a channel without numbers has +inf and -inf.
    """
    cdef ExtremaTask task = ExtremaTask(x)
    task.spread()
    return task.channels()
