# Design: the rows of a tile as kernels take them. Where they are contiguous float32 or float64,
# kernels read and write memory in place; `gather` converts any other tile to float64, `scatter`
# rounds one into the result, and short runs of float32 positions are joined as they are.

cdef Py_ssize_t MAX_BLOCK = 1 << 13     # elements


cdef inline bint in_order(const rows_t* rows, const plan_t* plan, const tile_t* at) noexcept nogil:
    """Whether the groups of a contiguous array prefetch what follows in the order of memory.

    A large block leaves L1 before its last group is read.
    """
    return (
        plan.groups > 1 and plan.slabs == 1 and not plan.along
        and rows.stride == plan.groups * LANES and at.rows * rows.stride <= MAX_BLOCK
    )


cdef rows_t rows_of(
    const view_t* x, const plan_t* plan, const tile_t* at, double missing, double* copy
) noexcept nogil:
    """Return a tile in place or, where rows are not contiguous, in a copy of TILE elements.

    Lanes that are not there become `missing`.
    """
    cdef rows_t rows
    rows.real, rows.distance = x.real, 0
    if at.lanes == LANES and is_direct(x, plan):
        rows.data = start_of(x, plan, at)
        rows.stride = row_stride_of(x, plan)
        rows.distance = tile_distance(x, plan)
        rows.prefetch_stride = rows.stride * x.itemsize
        rows.prefetch_start = rows.data + rows.distance * rows.prefetch_stride
        if in_order(&rows, plan, at):
            # The next tiles of all groups are a block, of which each has a part, as in prefetch.h.
            rows.prefetch_start += at.group * LANES * x.itemsize * (at.rows - 1)
            rows.prefetch_stride = LANES * x.itemsize
        return rows
    rows.data, rows.stride = <char*> copy, LANES
    rows.prefetch_start, rows.prefetch_stride = rows.data, 0
    if plan.along and x.real == FLOAT and x.stride == x.itemsize:
        join_runs(x, plan, at, missing, <float*> copy)
    else:
        gather(x, plan, at, missing, copy)
        rows.real = DOUBLE
    return rows


cdef inline void copy_run(float* target, const float* source, Py_ssize_t length) noexcept nogil:
    """Copy some floats; runs of them are too short for calls of memcpy."""
    cdef Py_ssize_t i = 0
    while i + PACK <= length:
        store_pack(target + i, load_pack(source + i))
        i += PACK
    if i < length and length >= PACK:  # the last vector overlaps the one before
        store_pack(target + length - PACK, load_pack(source + length - PACK))
        i = length
    while i < length:
        target[i] = source[i]
        i += 1


cdef void join_runs(
    const view_t* x, const plan_t* plan, const tile_t* at, double missing, float* copy
) noexcept nogil:
    """Copy short runs of positions one after another, and prefetch those of the next channel."""
    cdef Py_ssize_t position = at.run * plan.length + at.start, s = position % x.length
    cdef Py_ssize_t count = (at.rows - 1) * LANES + at.lanes, step, index = 0, byte
    cdef const char* run = (
        x.data + at.channel * x.channel_stride + position // x.length * x.run_stride
    )
    cdef const char* source
    while index < count:
        step = min(x.length - s, count - index)
        source = run + s * x.stride
        copy_run(copy + index, <const float*> source, step)
        byte = 0
        while byte < step * <Py_ssize_t> sizeof(float) + LINE - 1:
            prefetch(source + x.channel_stride + byte)
            byte += LINE
        index += step
        run = run + x.run_stride
        s = 0
    while index % LANES:
        copy[index] = <float> missing
        index += 1


cdef void gather(
    const view_t* x, const plan_t* plan, const tile_t* at, double missing, double* tile
) noexcept nogil:
    """Convert a tile to float64; lanes that are not there become `missing`."""
    cdef Py_ssize_t i
    if at.lanes < LANES:
        for i in range(at.rows * LANES):
            tile[i] = missing
    move(x, plan, at, tile, x.load)


cdef void scatter(
    const view_t* out, const plan_t* plan, const tile_t* at, double* tile
) noexcept nogil:
    """Round a tile of float64 into an array."""
    move(out, plan, at, tile, <load_t> out.store)


cdef void move(
    const view_t* x, const plan_t* plan, const tile_t* at, double* tile, load_t copy
) noexcept nogil:
    """Copy between an array and a tile, run by run."""
    cdef Py_ssize_t row = 0, rows, position, n, s, lane, offset, channel
    cdef Py_ssize_t count = (at.rows - 1) * LANES + at.lanes, index = 0, step
    cdef Py_ssize_t first = at.run * plan.length + at.start
    cdef char* source
    if plan.along:
        position = first
        while index < count:
            n, s = position // x.length, position % x.length
            step = min(x.length - s, count - index)
            source = x.data + at.channel * x.channel_stride + n * x.run_stride + s * x.stride
            copy(source, 0, 1, x.stride, step, tile + index, 0)
            index += step
            position += step
        return
    while row < at.rows:
        position = first + row * plan.row_positions
        n, s = position // x.length, position % x.length
        rows = at.rows - row
        if x.runs > 1:  # without packing
            rows = min(rows, x.length - s)
        source = x.data + n * x.run_stride + s * x.stride
        if plan.row_positions == 1:
            copy(
                source + at.channel * x.channel_stride, x.stride, rows,
                x.channel_stride, at.lanes, tile + row * LANES, LANES,
            )
        elif x.channel_stride == x.itemsize and x.stride == x.channels * x.itemsize:
            copy(
                source + at.group * LANES * x.itemsize, plan.row_positions * x.stride, rows,
                x.itemsize, at.lanes, tile + row * LANES, LANES,
            )
        else:
            for lane in range(at.lanes):
                offset = (at.group * LANES + lane) // plan.channels
                channel = (at.group * LANES + lane) % plan.channels
                copy(
                    source + offset * x.stride + channel * x.channel_stride,
                    plan.row_positions * x.stride, rows, 0, 1, tile + row * LANES + lane, LANES,
                )
        row += rows


cdef void spread_rows(
    const double* rows, Py_ssize_t num_rows, Py_ssize_t channels, Py_ssize_t row_positions,
    double* lanes, Py_ssize_t ld,
) noexcept nogil:
    """Lay out coefficients of channels for lanes, (num_rows, C) to (num_rows, ld)."""
    cdef Py_ssize_t row, position
    for row in range(num_rows):
        for position in range(row_positions):
            memcpy(
                lanes + row * ld + position * channels, rows + row * channels,
                channels * sizeof(double),
            )


cdef void zero_where(
    const view_t* mask, const plan_t* plan, const tile_t* at, double* tile
) noexcept nogil:
    """Set a tile to 0 where the mask is 0."""
    cdef double kept[TILE]
    cdef Py_ssize_t i
    gather(mask, plan, at, 0.0, kept)
    for i in range(at.rows * LANES):
        tile[i] = 0.0 if kept[i] == 0.0 else tile[i]
