# Design: a kernel is a Task with a `visit` for one tile. The tiles of an array are spread over
# the pool in items: a range of positions of a slab of groups. Across channels an item walks
# along the positions, its groups side by side, and along positions group by group: memory is
# read in its own order. What is reduced has one state for each range and channel, merged in range
# order afterwards; ranges depend on the shape alone, so the number of threads never shows in the
# bits. What a kernel remembers from tile to tile is opened before the first one of an item and
# closed after the last one.
#
# A caller without Python has a copy of a task that Python made, as plain memory: what runs on a
# task reads its table of methods and its fields of C, and counts no references to it.

# Elements below which another thread costs more than it saves.
cdef Py_ssize_t MIN_ELEMENTS = 1 << 15
# Times as many are worth waking one that sleeps.
cdef Py_ssize_t WAKING = 8
cdef Py_ssize_t MOST_ITEMS = 128
# Runs of positions that occupy many threads without being cut.
cdef Py_ssize_t FEW_RUNS = 16


cdef int share(
    Work kernel, Py_ssize_t items, Py_ssize_t elements, Py_ssize_t min_elements
) except -1:
    """Work on items of `elements` in all, in threads that have `min_elements` each or more."""
    with nogil:
        share_among(kernel, items, elements, min_elements, 0)
    return 0


cdef int share_among(
    Work kernel, Py_ssize_t items, Py_ssize_t elements, Py_ssize_t min_elements, int num_threads
) except -1 nogil:
    """Do as `share`, in some of the pool's threads; or, if that is 0, as Python's settings say."""
    cdef Py_ssize_t min_items
    cdef bint wake = elements >= WAKING * min_elements
    if not elements:
        return 0
    if elements < 2 * min_elements:
        kernel.work(0, items)
        return 0
    min_items = max(1, min_elements * items // elements)
    if not num_threads:
        return run_as_set(kernel, items, min_items, wake)
    run_in_threads(kernel, items, min_items, num_threads, wake)
    return 0


cdef int run_as_set(
    Work kernel, Py_ssize_t items, Py_ssize_t min_items, bint wake
) except -1 with gil:
    run(kernel, items, min_items=min_items, wake=wake)
    return 0


cdef model_t model_of(Work task):
    """Return a task to be copied, which lives for ever."""
    cdef model_t model
    Py_INCREF(task)
    model.task, model.size = <void*> task, type(task).__basicsize__
    return model


cdef void* copy_of(const model_t* model) noexcept nogil:
    """Return a copy of a task as memory of its own, which is freed as such; or NULL."""
    cdef void* copy = malloc(model.size)
    if copy != NULL:
        memcpy(copy, model.task, model.size)
    return copy


cdef class Task:
    """Visit every tile of an array."""

    cdef int begin(self, object x) except -1:
        self.arrays = []
        self.x = self.view(x)
        self.cover()
        return 0

    def __dealloc__(self):
        free_all(&self.heap)

    cdef void cover(self) noexcept nogil:
        """Plan how x is covered."""
        self.plan = plan_of(&self.x)
        self.direct = is_direct(&self.x, &self.plan)
        self.whole_rows = self.out_of_memory = False

    cdef view_t view(self, object array, bint plane=False) except *:
        """Describe an array and keep it alive: an interrupted caller may leave before a worker."""
        self.arrays.append(array)
        return view_of(array, plane)

    cdef void split_rows(self) noexcept nogil:
        """Where nothing is reduced, cut an array in the order of memory: along samples first."""
        cdef Py_ssize_t pieces = self.plan.tiles, groups = 32
        if self.plan.along:
            if not self.whole_rows or self.x.runs < FEW_RUNS:
                return
            pieces, groups = self.x.runs, 1 + MIN_ELEMENTS // max(self.x.length, 1)
        self.plan.ranges = min(max(pieces, 1), MOST_ITEMS)
        self.plan.slabs = max(1, min(self.plan.groups // groups, MOST_ITEMS // self.plan.ranges))

    cdef double* scratch(self, Py_ssize_t count) noexcept nogil:
        """Return memory for some float64, all 0, aligned, that lives as long as the task."""
        cdef double* memory = take(&self.heap, count)
        if memory == NULL:
            self.out_of_memory = True
        return memory

    cdef double* coefficients(self, object rows, Py_ssize_t room, Py_ssize_t* ld) except NULL:
        """Lay out coefficients of channels, an array of shape (rows, C); see `lay_lanes`."""
        cdef double* lanes = self.lay_lanes(
            <const double*> cnp.PyArray_DATA(rows), cnp.PyArray_DIM(rows, 0), room, ld
        )
        if lanes == NULL:
            raise MemoryError("not enough memory for the coefficients of the kernel")
        return lanes

    cdef double* lay_lanes(
        self, const double* rows, Py_ssize_t num_rows, Py_ssize_t room, Py_ssize_t* ld
    ) noexcept nogil:
        """Lay out rows of coefficients of channels as lanes find them; return NULL if none fit.

        Along positions, a tile has those of its channel; across channels, each lane its own, and
        vectors may end beyond the last one. There is room for more rows, `ld`
        apart.
        """
        cdef Py_ssize_t row_positions = 1 if self.plan.along else self.plan.row_positions
        cdef double* lanes
        # A line more, so that the coefficients of a lane do not push each other out of L1.
        ld[0] = (row_positions * self.plan.channels + 2 * LANES - 1) // LANES * LANES
        lanes = self.scratch(room * ld[0])
        if lanes != NULL:
            spread_rows(rows, num_rows, self.plan.channels, row_positions, lanes, ld[0])
        return lanes

    cdef Py_ssize_t first_coefficient(self, const tile_t* at) noexcept nogil:
        """Return where the coefficients of a tile's first lane stand."""
        return at.channel if self.plan.along else at.group * LANES

    cdef int spread(self) except -1:
        """Visit all tiles on the shared pool."""
        with nogil:
            self.visit_all()
        if self.out_of_memory:
            raise MemoryError("not enough memory for the state of the kernel")
        return 0

    cdef int visit_all(self) except -1 nogil:
        cdef Py_ssize_t items = self.plan.ranges * self.plan.slabs
        if self.out_of_memory:  # before the first tile, as of `scratch`
            return 0
        return share_among(
            self, items, self.x.positions * self.plan.channels, MIN_ELEMENTS, self.num_threads
        )

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t item, part, slab, group, last, side_by_side
        cdef const plan_t* plan = &self.plan
        for item in range(start, stop):
            part, slab = item // plan.slabs, item % plan.slabs
            group = plan.groups * slab // plan.slabs
            last = plan.groups * (slab + 1) // plan.slabs
            if plan.along and self.whole_rows:
                self.walk_runs(part, group, last - group)
                continue
            side_by_side = 1 if plan.along else last - group
            while group < last:
                self.walk(part, group, side_by_side)
                group += side_by_side

    cdef void walk(self, Py_ssize_t part, Py_ssize_t first, Py_ssize_t groups) noexcept nogil:
        """Visit the tiles of a range, groups side by side."""
        cdef const plan_t* plan = &self.plan
        cdef Py_ssize_t tile, group, step = groups if self.whole_rows else 1
        cdef tile_t at
        cdef void* state = self.open(first, groups)
        for tile in range(
            plan.tiles * part // plan.ranges, plan.tiles * (part + 1) // plan.ranges
        ):
            group = first
            while group < first + groups:
                at = tile_at(plan, tile, group, step)
                if at.rows:
                    self.visit(state, part, &at)
                if at.rest:
                    at = rest_of(plan, &at, step)
                    if at.rows:
                        self.visit(state, part, &at)
                group += step
        self.close(state, part)

    cdef void walk_runs(self, Py_ssize_t part, Py_ssize_t first, Py_ssize_t groups) noexcept nogil:
        """Visit the runs of a range: channels side by side are rows, positions their lanes."""
        cdef const plan_t* plan = &self.plan
        cdef Py_ssize_t whole = self.x.length if self.x.runs >= plan.ranges else 1
        cdef Py_ssize_t pieces = self.x.positions // whole
        cdef Py_ssize_t position = pieces * part // plan.ranges * whole
        cdef Py_ssize_t last = pieces * (part + 1) // plan.ranges * whole
        cdef tile_t at
        cdef void* state = self.open(first, groups)
        at.group = at.channel = first
        at.rows, at.rest = groups, 0
        while position < last:
            at.run, at.start = position // self.x.length, position % self.x.length
            at.lanes = min(self.x.length - at.start, last - position)
            self.visit(state, part, &at)
            position += at.lanes
        self.close(state, part)

    cdef void* open(self, Py_ssize_t first, Py_ssize_t groups) noexcept nogil:
        """Return the state of groups side by side, or NULL for none."""
        return NULL

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        """Work on one tile of a range; tiles of one channel and range come in order."""

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        """Put what the state holds where it belongs, and free it."""
