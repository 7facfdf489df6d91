# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: every kernel sees an (N, C, S) array as rows of 16 lanes. Only this file knows how:
#
#   a) lanes across channels, where channels are closest in memory (2-D data, NHWC). A dense array
#      whose channels do not fill whole rows of lanes folds positions together until they do: 3
#      channels are 48 lanes of 16 positions. Groups of 16 lanes lie side by side.
#   b) lanes along positions, where those are (NCHW, Fortran order, one channel): 16 neighbouring
#      positions of one channel a row, each channel a group. Long runs of positions are cut into
#      rows by themselves, short ones are joined.
#
# A tile is some rows of one group, and a last row that is not full is a tile of its own. Where
# its rows are contiguous float32 or float64, kernels read and write memory in place; `gather`
# converts any other tile to float64, `scatter` rounds one into the result. Between loading and
# storing there is one loop over 16 lanes, whose order of operations is fixed, so the bits are
# too. The plan is a function of the shape and the order of the strides alone.

cimport numpy as cnp
from cpython.ref cimport Py_INCREF
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcpy

from .lanes cimport PACK, load_pack, prefetch, store_pack

__all__ = []  # for other kernels only, by cimport

cdef extern from "half.h" nogil:
    ctypedef struct half_t:
        uint16_t bits
    double half_to_double(half_t value)
    half_t double_to_half(double value)

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray like, cnp.NPY_ORDER order, cnp.dtype dtype, int subok)

ctypedef fused element:
    half_t
    float
    double
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused floating_element:
    half_t
    float
    double

cnp.import_array()


cdef inline double to_double(element value) noexcept nogil:
    if element is half_t:
        return half_to_double(value)
    else:
        return <double> value


cdef inline void round_to(floating_element* target, double value) noexcept nogil:
    if floating_element is half_t:
        target[0] = double_to_half(value)
    else:
        target[0] = <floating_element> value


cdef void load(
    const element* source, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, double* tile, Py_ssize_t row,
) noexcept nogil:
    """Convert `outer` runs of `inner` elements; run i starts at tile[i * row]."""
    cdef Py_ssize_t _, j
    cdef const char* run = <const char*> source
    cdef const element* contiguous
    for _ in range(outer):
        contiguous = <const element*> run
        if inner_stride != sizeof(element):
            for j in range(inner):
                tile[j] = to_double((<const element*> (run + j * inner_stride))[0])
        elif inner == LANES:  # a constant number of steps becomes straight vector code
            for j in range(LANES):
                tile[j] = to_double(contiguous[j])
        else:
            for j in range(inner):
                tile[j] = to_double(contiguous[j])
        run = run + outer_stride
        tile = tile + row


cdef void store(
    floating_element* target, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, const double* tile, Py_ssize_t row,
) noexcept nogil:
    """Round `outer` runs of `inner` lanes into the target: the mirror of `load`."""
    cdef Py_ssize_t _, j
    cdef char* run = <char*> target
    cdef floating_element* contiguous
    for _ in range(outer):
        contiguous = <floating_element*> run
        if inner_stride != sizeof(floating_element):
            for j in range(inner):
                round_to(<floating_element*> (run + j * inner_stride), tile[j])
        elif inner == LANES:
            for j in range(LANES):
                round_to(&contiguous[j], tile[j])
        else:
            for j in range(inner):
                round_to(&contiguous[j], tile[j])
        run = run + outer_stride
        tile = tile + row


cdef view_t view_of(object array, bint plane=False) except *:
    """Describe an (N, C, S) array, or a plane (N, S), which every channel shares."""
    cdef view_t v
    cdef cnp.ndarray nd = array
    cdef int last = nd.ndim - 1
    cdef char kind = nd.descr.kind
    v.data = <char*> cnp.PyArray_DATA(nd)
    v.runs, v.run_stride = nd.shape[0], nd.strides[0]
    v.length, v.stride = nd.shape[last], nd.strides[last]
    v.channels, v.channel_stride = 1, 0
    if not plane:
        v.channels, v.channel_stride = nd.shape[1], nd.strides[1]
    v.itemsize = nd.itemsize
    v.positions = v.runs * v.length
    v.real = OTHER
    v.store = NULL
    if v.length == 1:  # one long run instead of many of one position
        v.length, v.stride = v.runs, v.run_stride
        v.runs, v.run_stride = 1, 0
    if kind == b"f" and v.itemsize == sizeof(float):
        v.real = FLOAT
        v.load, v.store = <load_t> load[float], <store_t> store[float]
    elif kind == b"f" and v.itemsize == sizeof(double):
        v.real = DOUBLE
        v.load, v.store = <load_t> load[double], <store_t> store[double]
    elif kind == b"f" and v.itemsize == sizeof(half_t):
        v.load, v.store = <load_t> load[half_t], <store_t> store[half_t]
    elif kind == b"b" or kind == b"u":
        v.load = unsigned_loader(v.itemsize)
    elif kind == b"i":
        v.load = signed_loader(v.itemsize)
    else:
        raise TypeError(f"no kernel for dtype {array.dtype}")
    return v


cdef object result_like(object x):
    """Return a fresh array for what normalizes ``x``: floats keep their dtype, in ``x``'s order."""
    cdef cnp.ndarray like = x
    cdef cnp.dtype dtype = like.descr
    if dtype.kind != b"f":
        dtype = cnp.PyArray_DescrFromType(cnp.NPY_DOUBLE)
    Py_INCREF(dtype)  # which NumPy takes over
    return PyArray_NewLikeArray(like, cnp.NPY_KEEPORDER, dtype, False)


cdef load_t unsigned_loader(Py_ssize_t itemsize) noexcept:
    if itemsize == 1:
        return <load_t> load[uint8_t]
    if itemsize == 2:
        return <load_t> load[uint16_t]
    if itemsize == 4:
        return <load_t> load[uint32_t]
    return <load_t> load[uint64_t]


cdef load_t signed_loader(Py_ssize_t itemsize) noexcept:
    if itemsize == 1:
        return <load_t> load[int8_t]
    if itemsize == 2:
        return <load_t> load[int16_t]
    if itemsize == 4:
        return <load_t> load[int32_t]
    return <load_t> load[int64_t]


cdef inline Py_ssize_t magnitude(Py_ssize_t stride) noexcept nogil:
    return -stride if stride < 0 else stride


cdef Py_ssize_t fold_of(const view_t* x) noexcept nogil:
    """Positions that fill whole rows of lanes together; 1 where folding does not pay."""
    cdef Py_ssize_t a = x.channels, b = LANES, fold
    while b:
        a, b = b, a % b
    fold = LANES // a
    if fold * x.channels > MAX_FOLDED or x.positions < 2 * fold:
        return 1
    return fold


cdef void set_rows(plan_t* p, Py_ssize_t rows) noexcept nogil:
    """Set the rows of a full tile."""
    p.rows = rows
    p.run_tiles = (p.length + rows * p.fold - 1) // (rows * p.fold)
    p.tiles = p.runs * p.run_tiles


cdef bint is_dense(const view_t* x) noexcept nogil:
    """Whether positions, of all channels each, follow one another."""
    return x.runs == 1 and x.channel_stride == x.itemsize and (
        x.stride == x.channels * x.itemsize
    )


cdef void lengthen_rows(plan_t* p, const view_t* x) noexcept nogil:
    """Fold a dense array into long rows, whose ends are few, for what reduces nothing."""
    cdef Py_ssize_t times = WIDE // max(p.width, 1)
    if times > 1 and x.positions >= 64 * times * p.fold:  # numbers are laid out for each lane
        p.fold, p.width = p.fold * times, p.width * times
        p.groups = (p.width + LANES - 1) // LANES
        set_rows(p, ROWS)


cdef plan_t plan_of(const view_t* x) noexcept nogil:
    """Choose lanes, tiles and ranges."""
    cdef plan_t p
    cdef bint dense = is_dense(x)
    p.channels = x.channels
    p.along = (
        x.channels == 1
        or (x.channels < LANES and not dense)
        or (x.length > 1 and magnitude(x.stride) < magnitude(x.channel_stride))
    )
    p.runs, p.length = x.runs, x.length
    if x.length < CUT_RUNS or (x.length % LANES != 0 and x.length < 4 * CUT_RUNS):
        p.runs, p.length = 1, x.positions
    p.fold = LANES if p.along else (fold_of(x) if dense else 1)
    p.width = LANES if p.along else p.fold * x.channels
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
        if p.fold > 1:
            p.slabs = 1
    return p


cdef bint is_direct(const view_t* x, const plan_t* plan) noexcept nogil:
    """Whether full rows of lanes can be read and written in place."""
    if x.real == OTHER or (x.runs != 1 and plan.runs == 1):
        return False
    if plan.along:
        return x.stride == x.itemsize
    return x.channel_stride == x.itemsize and (
        plan.fold == 1 or x.stride == x.channels * x.itemsize
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
    at.start = (tile % plan.run_tiles) * plan.rows * plan.fold
    count = min(plan.rows * plan.fold, plan.length - at.start)
    at.rows = count // plan.fold
    at.rest = count % plan.fold
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
    at.start += full.rows * plan.fold
    at.rest = 0
    at.rows = 1 if lanes > 0 else 0
    at.lanes = min(lanes, groups * LANES)
    return at


cdef char* start_of(const view_t* x, const plan_t* plan, const tile_t* at) noexcept nogil:
    """Return the address of a tile that is read or written directly."""
    cdef Py_ssize_t lane = at.channel if plan.fold == 1 or plan.along else at.group * LANES
    return x.data + lane * x.channel_stride + at.run * x.run_stride + at.start * x.stride


cdef Py_ssize_t row_stride_of(const view_t* x, const plan_t* plan) noexcept nogil:
    """Return the distance between rows that are read or written in place, in elements."""
    return plan.fold * x.stride // x.itemsize


cdef Py_ssize_t rows_ahead(const view_t* x, const plan_t* plan) noexcept nogil:
    """Return how many rows ahead memory is asked for, so that it comes in time."""
    if not plan.along and plan.groups > 1:
        return plan.rows  # the next tile of the group, after all other groups
    return AHEAD // max(plan.fold * magnitude(x.stride), 1) + 1


cdef Py_ssize_t sheet_ahead(const view_t* x, const plan_t* plan) noexcept nogil:
    """Return how many rows ahead memory is asked for where whole rows are read."""
    return AHEAD // max(plan.fold * magnitude(x.stride), 1) + NEAR


cdef Py_ssize_t sheet_stride_of(const view_t* x, const plan_t* plan) noexcept nogil:
    """Return the distance between whole rows in elements: of positions, or of channels."""
    return x.channel_stride // x.itemsize if plan.along else row_stride_of(x, plan)


cdef bint is_sheet(const view_t* x, const plan_t* plan) noexcept nogil:
    """Whether whole rows can be read and written in place."""
    if plan.along:
        return x.real != OTHER and x.stride == x.itemsize
    return is_direct(x, plan)


cdef rows_t rows_of(
    const view_t* x, const plan_t* plan, const tile_t* at, double missing, double* copy
) noexcept nogil:
    """Return a tile in place or, where rows are not contiguous, in a copy of TILE elements.

    Lanes that are not there become `missing`.
    """
    cdef rows_t rows
    rows.real, rows.ahead = x.real, 0
    if at.lanes == LANES and is_direct(x, plan):
        rows.data = start_of(x, plan, at)
        rows.stride = row_stride_of(x, plan)
        rows.ahead = rows_ahead(x, plan)
        return rows
    rows.data, rows.stride = <char*> copy, LANES
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
    """Copy short runs of positions one after another, and ask for those of the next channel."""
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
        for byte in range(0, step * sizeof(float) + 63, 64):
            prefetch(source + x.channel_stride + byte)
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
        position = first + row * plan.fold
        n, s = position // x.length, position % x.length
        rows = at.rows - row
        if x.runs > 1:  # without folding
            rows = min(rows, x.length - s)
        source = x.data + n * x.run_stride + s * x.stride
        if plan.fold == 1:
            copy(
                source + at.channel * x.channel_stride, x.stride, rows,
                x.channel_stride, at.lanes, tile + row * LANES, LANES,
            )
        elif x.channel_stride == x.itemsize and x.stride == x.channels * x.itemsize:
            copy(
                source + at.group * LANES * x.itemsize, plan.fold * x.stride, rows,
                x.itemsize, at.lanes, tile + row * LANES, LANES,
            )
        else:
            for lane in range(at.lanes):
                offset = (at.group * LANES + lane) // plan.channels
                channel = (at.group * LANES + lane) % plan.channels
                copy(
                    source + offset * x.stride + channel * x.channel_stride,
                    plan.fold * x.stride, rows, 0, 1, tile + row * LANES + lane, LANES,
                )
        row += rows


cdef void spread_rows(
    const double* rows, Py_ssize_t num_rows, Py_ssize_t channels, Py_ssize_t fold, double* lanes,
    Py_ssize_t across,
) noexcept nogil:
    """Lay out numbers of channels for lanes, (num_rows, C) to (num_rows, across)."""
    cdef Py_ssize_t row, position
    for row in range(num_rows):
        for position in range(fold):
            memcpy(
                lanes + row * across + position * channels, rows + row * channels,
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
