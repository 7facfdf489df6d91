# Design: one read of memory. The tiles of a group go into its running sums (running_sums.pyx),
# across channels all groups of a slab at once. A tile that does not fit there is taken again:
# with the remainders below the unit, without NaN, or after a new look at its mean and its
# largest magnitude, when what was summed so far is merged into the state of the channel.
#
# What fixed point cannot hold (infinity, magnitudes beyond 2**-300 .. 2**300, weights) goes
# through tile_moments, and so do small arrays, whose last digit then depends on their values
# alone and not on their memory order or on other channels. States merge by statistics.merged, in
# order within a range, then in range order. Nothing is allocated but one state a lane in work and
# one a range and channel.

# Elements up to which the time does not matter.
cdef Py_ssize_t SMALL = 1 << 14

cdef struct moments_state_t:
    Py_ssize_t first
    Py_ssize_t groups
    running_t* running          # of as many as there are groups


cdef class MomentsTask(Task):
    cdef view_t w
    cdef bint weighted, skipna, small
    cdef object array
    cdef double* states     # (range, MOMENTS_ROWS, channel)

    def __init__(self, x, weights, bint skipna, bint apart):
        self.begin(x)
        self.weighted = weights is not None
        if self.weighted:
            self.w = self.view(weights, True)
        self.choose_way(skipna, apart)
        self.array = np.zeros((self.plan.ranges, MOMENTS_ROWS, self.plan.channels))
        self.states = doubles_of(self.array)

    cdef void choose_way(self, bint skipna, bint apart) noexcept nogil:
        self.skipna = skipna
        self.small = not apart and self.x.positions * self.plan.channels <= SMALL
        self.whole_rows = (
            self.direct and not self.plan.along and not self.weighted and not self.small
        )
        if self.whole_rows:  # what comes with each tile is shared by more rows
            set_rows(&self.plan, MAX_ROWS)

    cdef bint observe_for(
        self, const view_t* x, const view_t* weights, bint skipna, bint apart, int num_threads,
        double* result,
    ) noexcept nogil:
        """Observe an array without Python; return False where memory does not suffice."""
        self.x, self.num_threads, self.weighted = x[0], num_threads, weights != NULL
        if self.weighted:
            self.w = weights[0]
        self.cover()
        self.choose_way(skipna, apart)
        self.states = self.scratch(self.plan.ranges * MOMENTS_ROWS * self.plan.channels)
        if self.out_of_memory:
            return False
        self.visit_all()
        self.merge_ranges()
        memcpy(result, self.states, MOMENTS_ROWS * self.plan.channels * sizeof(double))
        return not self.out_of_memory

    cdef inline double* states_of(self, Py_ssize_t part) noexcept nogil:
        return self.states + part * MOMENTS_ROWS * self.plan.channels

    cdef void* open(self, Py_ssize_t first, Py_ssize_t groups) noexcept nogil:
        cdef moments_state_t* state = <moments_state_t*> calloc(
            1, sizeof(moments_state_t) + LINE + groups * sizeof(running_t)
        )
        cdef Py_ssize_t group
        if state == NULL:
            self.out_of_memory = True
            return NULL
        state.first, state.groups = first, groups
        state.running = <running_t*> aligned(state + 1)
        for group in range(groups):
            state.running[group].group = first + group
            state.running[group].one_channel = self.plan.along
            state.running[group].may_skip = self.skipna
        return state

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        cdef Py_ssize_t group
        if state == NULL:
            return
        for group in range((<moments_state_t*> state).groups):
            self.flush(&(<moments_state_t*> state).running[group], part)
        free(state)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef running_t* s
        cdef char* data
        cdef tile_t rest = at[0]
        cdef Py_ssize_t full = at.lanes // LANES, stride = row_stride_of(&self.x, &self.plan)
        cdef Py_ssize_t distance = contiguous_distance(&self.x, &self.plan)
        if state == NULL:
            return
        s = &(<moments_state_t*> state).running[at.group - (<moments_state_t*> state).first]
        if not self.whole_rows:
            self.take_group(s, part, at)
            return
        if full:
            data = start_of(&self.x, &self.plan, at)
            if self.x.real == FLOAT:
                self.take_all(<const float*> data, stride, distance, s, full, part, at)
            else:
                self.take_all(<const double*> data, stride, distance, s, full, part, at)
        if at.lanes % LANES:
            rest = self.group_of(at, full)
            self.take_group(&s[full], part, &rest)

    cdef tile_t group_of(self, const tile_t* all_groups, Py_ssize_t index) noexcept nogil:
        """Return one group of some that lie side by side."""
        cdef tile_t at = all_groups[0]
        at.group += index
        at.channel = at.group * LANES % self.plan.channels
        at.lanes = min(at.lanes - index * LANES, <Py_ssize_t> LANES)
        return at

    cdef void take_all(
        self, const real* x, Py_ssize_t stride, Py_ssize_t distance, running_t* s,
        Py_ssize_t groups, Py_ssize_t part, const tile_t* at,
    ) noexcept nogil:
        """Add a tile of full groups side by side to their sums."""
        cdef Py_ssize_t group
        cdef tile_t one
        cdef int found
        for group in range(groups):
            s[group].fits = prepare(x + group * LANES, stride, at.rows, &s[group])
        sweep_sums(x, stride, at.rows, distance, s, groups)
        for group in range(groups):
            found = verdict(&s[group], at.rows, LANES) if s[group].fits else NOT_A_NUMBER
            if found != DONE:
                forget(&s[group], at.rows)
                one = self.group_of(at, group)
                if s[group].fits:
                    self.recover(&s[group], part, found)
                self.take_group(&s[group], part, &one)

    cdef void take_group(self, running_t* s, Py_ssize_t part, const tile_t* at) noexcept nogil:
        """Add a tile of one group to its sums, or to the states of its channels."""
        cdef double copy[TILE]
        cdef rows_t x
        cdef bint taken = False
        if not (self.weighted or self.small):
            x = rows_of(&self.x, &self.plan, at, NAN, copy)
            if x.real == FLOAT:
                taken = self.take(<const float*> x.data, x.stride, x.distance, s, part, at)
            else:
                taken = self.take(<const double*> x.data, x.stride, x.distance, s, part, at)
        if not taken:
            self.take_exactly(s, part, at, copy)

    cdef bint take(
        self, const real* x, Py_ssize_t stride, Py_ssize_t distance, running_t* s, Py_ssize_t part,
        const tile_t* at,
    ) noexcept nogil:
        """Add a tile to the sums; return whether they could take it."""
        cdef Py_ssize_t _
        cdef int found
        if at.lanes < LANES and not s.skipna:
            self.flush(s, part)
            s.skipna = True
        for _ in range(5):
            if not prepare(x, stride, at.rows, s):
                return False
            sweep_sums(x, stride, at.rows, distance, s, 1)
            found = verdict(s, at.rows, at.lanes)
            if found == DONE:
                return True
            forget(s, at.rows)
            if not self.recover(s, part, found):
                return False
        return False

    cdef bint recover(self, running_t* s, Py_ssize_t part, int found) noexcept nogil:
        """Prepare sums that may fit the tile better; return False where none would."""
        if found == BELOW_UNIT:
            s.rests = True
            return True
        if found == NOT_A_NUMBER and (s.skipna or not s.may_skip):
            return False
        if found == MOVED and s.fresh:
            return False
        self.flush(s, part)
        s.thorough = True
        s.skipna = s.skipna or found == NOT_A_NUMBER
        return True

    cdef void flush(self, running_t* s, Py_ssize_t part) noexcept nogil:
        """Merge the sums into the states of their channels, and begin again."""
        cdef double parts[MOMENTS_ROWS * LANES]
        cdef Py_ssize_t lane, row, channel = s.group, lanes = 1
        cdef double* state = self.states_of(part)
        if not self.plan.along:
            channel = s.group * LANES
            lanes = min(<Py_ssize_t> LANES, self.plan.width - channel)
        if not s.started:
            return
        finish(s, parts)
        if self.plan.row_positions == 1 and self.are_empty(part, channel, lanes):
            # As merging would do, and faster.
            for row in range(MOMENTS_ROWS):
                for lane in range(lanes):
                    state[row * self.plan.channels + channel + lane] = parts[row * LANES + lane]
            return
        for lane in range(lanes):
            if parts[lane] != 0.0:
                self.merge(
                    part, (channel + lane) % self.plan.channels, load_moments(parts + lane, LANES)
                )

    cdef bint are_empty(self, Py_ssize_t part, Py_ssize_t channel, Py_ssize_t lanes) noexcept nogil:
        """Whether nothing was counted in some channels yet."""
        cdef Py_ssize_t lane
        cdef double count = 0.0
        cdef const double* state = self.states_of(part)
        for lane in range(lanes):
            count += state[COUNT_HI * self.plan.channels + channel + lane]
        return count == 0.0

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

    cdef void merge_ranges(self) noexcept nogil:
        """Merge the states of all ranges into those of the first one."""
        cdef Py_ssize_t c, part, num_channels = self.plan.channels
        cdef double* total = self.states
        cdef const double* more
        for part in range(1, self.plan.ranges):
            more = self.states_of(part)
            for c in range(num_channels):
                store_moments(
                    total + c, num_channels,
                    merged(
                        load_moments(total + c, num_channels), load_moments(more + c, num_channels)
                    ),
                )

    cdef void merge(self, Py_ssize_t part, Py_ssize_t channel, moments_t more) noexcept nogil:
        cdef Py_ssize_t num_channels = self.plan.channels
        cdef double* state = self.states_of(part) + channel
        store_moments(state, num_channels, merged(load_moments(state, num_channels), more))


def moments(x, weights=None, bint skipna=False, bint apart=False):
    """Return the (7, C) state of the moments of an (N, C, S) array.

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    weights : array of shape (N, S), optional
        Positions of weight 0 do not count, whatever their values.
    skipna : bool
        Leave NaN out.
    apart : bool
        Take small arrays as large ones: where positions are closest in memory, the bits of a
        channel then do not depend on how many others there are.
    """
    cdef MomentsTask task = MomentsTask(x, weights, skipna, apart)
    task.spread()
    states = task.array
    if task.plan.ranges == 1 or not task.plan.channels:
        return states[0]
    with nogil:
        task.merge_ranges()
    return states[0].copy()


cdef model_t moments_model = model_of(MomentsTask.__new__(MomentsTask))


cdef bint observe_moments(
    const view_t* x, const view_t* weights, bint skipna, bint apart, int num_threads,
    double* states,
) noexcept nogil:
    """Set the (7, C) state of the moments of an array, without Python; False without memory.

    Weights are a plane, or NULL.
    """
    cdef void* task = copy_of(&moments_model)
    cdef bint done
    if task == NULL:
        return False
    done = (<MomentsTask> task).observe_for(
        x, weights, skipna, apart, num_threads, states
    )
    free_all(&(<MomentsTask> task).heap)
    free(task)
    return done
