# Design: every kernel sees an (N, C, S) array as rows of 16 lanes. Only this file and tile_rows
# know how:
#
#   a) lanes across channels, where channels are closest in memory (2-D data, NHWC). A contiguous
#      array whose channels do not fill whole rows of lanes packs positions into a row until they
#      do: 3 channels are 48 lanes of 16 positions. Groups of 16 lanes lie side by side.
#   b) lanes along positions, where those are (NCHW, Fortran order, one channel): 16 neighbouring
#      positions of one channel a row, each channel a group. Long runs of positions are cut into
#      rows by themselves, short ones are joined.
#
# A tile is some rows of one group, and a last row that is not full is a tile of its own. The order
# of operations over its 16 lanes is fixed, so the bits are too. The plan is a function of the shape
# and the order of the strides alone.


cdef Py_ssize_t row_positions_of(const view_t* x) noexcept nogil:
    """Positions that fill whole rows of lanes together; 1 where packing does not pay."""
    cdef Py_ssize_t a = x.channels, b = LANES, row_positions
    while b:
        a, b = b, a % b
    row_positions = LANES // a
    if row_positions * x.channels > MAX_PACKED or x.positions < 2 * row_positions:
        return 1
    return row_positions


cdef void set_rows(plan_t* p, Py_ssize_t rows) noexcept nogil:
    """Set the rows of a full tile."""
    p.rows = rows
    p.run_tiles = (p.length + rows * p.row_positions - 1) // (rows * p.row_positions)
    p.tiles = p.runs * p.run_tiles


cdef bint is_contiguous(const view_t* x) noexcept nogil:
    """Whether positions, of all channels each, follow one another."""
    return x.runs == 1 and x.channel_stride == x.itemsize and (
        x.stride == x.channels * x.itemsize
    )


cdef void lengthen_rows(plan_t* p, const view_t* x) noexcept nogil:
    """Pack a contiguous array into long rows, whose ends are few, for what reduces nothing."""
    cdef Py_ssize_t times = WIDE // max(p.width, 1)
    # Coefficients are laid out for each lane, so rows must be many.
    if times > 1 and x.positions >= 64 * times * p.row_positions:
        p.row_positions, p.width = p.row_positions * times, p.width * times
        p.groups = (p.width + LANES - 1) // LANES
        set_rows(p, ROWS)


cdef plan_t plan_of(const view_t* x) noexcept nogil:
    """Choose lanes, tiles and ranges."""
    cdef plan_t p
    cdef bint contiguous = is_contiguous(x)
    p.channels = x.channels
    p.along = (
        x.channels == 1
        or (x.channels < LANES and not contiguous)
        or (x.length > 1 and magnitude(x.stride) < magnitude(x.channel_stride))
    )
    p.runs, p.length = x.runs, x.length
    if x.length < CUT_RUNS or (x.length % LANES != 0 and x.length < 4 * CUT_RUNS):
        p.runs, p.length = 1, x.positions
    p.row_positions = LANES if p.along else (row_positions_of(x) if contiguous else 1)
    p.width = LANES if p.along else p.row_positions * x.channels
    p.groups = x.channels if p.along else (p.width + LANES - 1) // LANES
    set_rows(&p, MAX_ROWS if p.along or p.groups == 1 else ROWS)
    # Each range keeps a state a lane: few enough to be small beside the data, and enough items in
    # all to occupy many threads. A channel is in one slab alone.
    p.ranges = min(max(p.tiles // 32, 1), 16)
    if p.along:
        p.slabs = min(p.groups, (64 + p.ranges - 1) // p.ranges)
    else:
        p.ranges = max(1, min(p.ranges, MAX_LANES // max(p.width, 1)))
        p.slabs = p.groups // (32 if p.ranges > 1 else 16)
        p.slabs = max(1, min(p.slabs, (64 + p.ranges - 1) // p.ranges))
        if p.row_positions > 1:
            p.slabs = 1
    return p


cdef bint is_direct(const view_t* x, const plan_t* plan) noexcept nogil:
    """Whether full rows of lanes can be read and written in place."""
    if x.real == OTHER or (x.runs != 1 and plan.runs == 1):
        return False
    if plan.along:
        return x.stride == x.itemsize
    return x.channel_stride == x.itemsize and (
        plan.row_positions == 1 or x.stride == x.channels * x.itemsize
    )


cdef tile_t tile_at(
    const plan_t* plan, Py_ssize_t tile, Py_ssize_t group, Py_ssize_t groups
) noexcept nogil:
    """Return the full rows of a tile; `rest` positions are left for `rest_of`."""
    cdef tile_t at
    cdef Py_ssize_t count
    at.group = group
    at.channel = group if plan.along else group * LANES % plan.channels
    at.run = tile // plan.run_tiles
    at.start = (tile % plan.run_tiles) * plan.rows * plan.row_positions
    count = min(plan.rows * plan.row_positions, plan.length - at.start)
    at.rows = count // plan.row_positions
    at.rest = count % plan.row_positions
    at.lanes = LANES if plan.along else min(groups * LANES, plan.width - group * LANES)
    return at


cdef tile_t rest_of(
    const plan_t* plan, const tile_t* full, Py_ssize_t groups
) noexcept nogil:
    """Return the last row of a tile, whose lanes are not all there; maybe none is."""
    cdef tile_t at = full[0]
    cdef Py_ssize_t lanes = full.rest
    if not plan.along:
        lanes = full.rest * plan.channels - full.group * LANES
    at.start += full.rows * plan.row_positions
    at.rest = 0
    at.rows = 1 if lanes > 0 else 0
    at.lanes = min(lanes, groups * LANES)
    return at


cdef char* start_of(const view_t* x, const plan_t* plan, const tile_t* at) noexcept nogil:
    """Return the address of a tile that is read or written directly."""
    cdef Py_ssize_t lane = at.channel if plan.row_positions == 1 or plan.along else at.group * LANES
    return x.data + lane * x.channel_stride + at.run * x.run_stride + at.start * x.stride


cdef Py_ssize_t row_stride_of(const view_t* x, const plan_t* plan) noexcept nogil:
    """Return the distance between rows that are read or written in place, in elements."""
    return plan.row_positions * x.stride // x.itemsize


cdef Py_ssize_t tile_distance(const view_t* x, const plan_t* plan) noexcept nogil:
    """Return how many rows ahead a tile prefetches, so that memory comes in time."""
    if not plan.along and plan.groups > 1:
        return plan.rows  # the next tile of the group, after all other groups
    return PREFETCH_BYTES // max(plan.row_positions * magnitude(x.stride), 1) + 1


cdef Py_ssize_t contiguous_distance(const view_t* x, const plan_t* plan) noexcept nogil:
    """Return how many rows ahead is prefetched where contiguous rows are read."""
    return PREFETCH_BYTES // max(plan.row_positions * magnitude(x.stride), 1) + BAND


cdef Py_ssize_t contiguous_stride_of(const view_t* x, const plan_t* plan) noexcept nogil:
    """Return the distance between whole rows in elements: of positions, or of channels."""
    return x.channel_stride // x.itemsize if plan.along else row_stride_of(x, plan)


cdef bint are_contiguous(const view_t* x, const plan_t* plan) noexcept nogil:
    """Whether whole rows can be read and written in place."""
    if plan.along:
        return x.real != OTHER and x.stride == x.itemsize
    return is_direct(x, plan)
