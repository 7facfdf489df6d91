# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: every kernel works on tiles, 256 rows of 16 float64 lanes (32 KiB) that stay in the L1
# and L2 caches. Only this file knows dtypes and strides: `gather` converts a piece of an array to
# a tile, `scatter` rounds a tile once into the result. Between them there is one contiguous loop
# over 16 lanes, the same for every dtype and layout, which compilers turn into vectors of
# whatever width the processor has; its order of operations is fixed, so the bits are too.
#
#   a) lanes across channels: 16 neighbouring channels, one position a row. The default; a row of
#      16 float32 is one cache line.
#   b) few channels: `fold` positions share a row, so that 3 channels fill 15 lanes.
#   c) lanes along positions: one channel, 16 positions a row, where positions are closer in
#      memory than channels (NCHW, Fortran order) or there is one channel.
#
# Lane l of row r holds channel `channel + l % group` of position `start + r * fold + l // group`.
# Lanes and rows without a position hold 0.

cimport numpy as cnp
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memset

__all__ = []  # for other kernels only, by cimport

cdef extern from "half.h" nogil:
    ctypedef struct half_t:
        uint16_t bits
    double half_to_double(half_t value)
    half_t double_to_half(double value)

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
    v.store = NULL
    if v.length == 1:  # one long run instead of many of one position
        v.length, v.stride = v.runs, v.run_stride
        v.runs, v.run_stride = 1, 0
    if kind == b"f" and v.itemsize == sizeof(float):
        v.load, v.store = <load_t> load[float], <store_t> store[float]
    elif kind == b"f" and v.itemsize == sizeof(double):
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


cdef plan_t plan_of(const view_t* x) noexcept nogil:
    """Choose lanes, tiles and ranges."""
    cdef plan_t p
    cdef bint along_positions = x.channels == 1 or (
        x.length > 1 and magnitude(x.stride) < magnitude(x.channel_stride)
    )
    p.channels = x.channels
    p.positions = x.runs * x.length
    p.group = 1 if along_positions else min(<Py_ssize_t> LANES, max(x.channels, 1))
    p.fold = LANES // p.group
    p.groups = (p.channels + p.group - 1) // p.group
    p.tiles = (p.positions + ROWS * p.fold - 1) // (ROWS * p.fold)
    # Each range keeps a state a channel: few enough to be small beside the data, and enough
    # items in all to occupy many threads.
    p.ranges = min(max(p.tiles // 8, 1), max(<Py_ssize_t> 16, 64 // max(p.groups, 1)))
    p.slabs = min(p.groups, (64 + p.ranges - 1) // p.ranges)
    return p


cdef tile_t tile_at(const plan_t* plan, Py_ssize_t tile, Py_ssize_t group) noexcept nogil:
    cdef tile_t at
    cdef Py_ssize_t count
    at.channel = group * plan.group
    at.group = min(plan.group, plan.channels - at.channel)
    at.start = tile * ROWS * plan.fold
    at.stop = min(at.start + ROWS * plan.fold, plan.positions)
    count = at.stop - at.start
    at.rows = (count + plan.fold - 1) // plan.fold
    at.partial = count % plan.fold != 0
    return at


cdef void gather(
    const view_t* x, const plan_t* plan, const tile_t* at, double* tile
) noexcept nogil:
    cdef Py_ssize_t fold = plan.fold, position = at.start, index = 0, n, s, count, i, j
    cdef bint dense = fold * plan.group == LANES and at.group == plan.group
    cdef const char* source
    cdef const char* channel = x.data + at.channel * x.channel_stride
    if at.partial or at.group * fold != LANES:
        memset(tile, 0, at.rows * LANES * sizeof(double))
    while position < at.stop:
        n, s = position // x.length, position % x.length
        count = min(x.length - s, at.stop - position)
        source = channel + n * x.run_stride + s * x.stride
        if plan.group == 1:
            x.load(source, 0, 1, x.stride, count, tile + index, 0)
        elif dense and x.stride == at.group * x.channel_stride:
            x.load(source, 0, 1, x.channel_stride, count * at.group, tile + index * at.group, 0)
        else:
            for j in range(min(fold, count)):
                i = index + j
                x.load(
                    source + j * x.stride, fold * x.stride, (count - j + fold - 1) // fold,
                    x.channel_stride, at.group,
                    tile + i // fold * LANES + i % fold * plan.group, LANES,
                )
        index += count
        position += count


cdef void scatter(
    const view_t* out, const plan_t* plan, const tile_t* at, const double* tile
) noexcept nogil:
    cdef Py_ssize_t fold = plan.fold, position = at.start, index = 0, n, s, count, i, j
    cdef bint dense = fold * plan.group == LANES and at.group == plan.group
    cdef char* target
    cdef char* channel = out.data + at.channel * out.channel_stride
    while position < at.stop:
        n, s = position // out.length, position % out.length
        count = min(out.length - s, at.stop - position)
        target = channel + n * out.run_stride + s * out.stride
        if plan.group == 1:
            out.store(target, 0, 1, out.stride, count, tile + index, 0)
        elif dense and out.stride == at.group * out.channel_stride:
            out.store(
                target, 0, 1, out.channel_stride, count * at.group, tile + index * at.group, 0
            )
        else:
            for j in range(min(fold, count)):
                i = index + j
                out.store(
                    target + j * out.stride, fold * out.stride, (count - j + fold - 1) // fold,
                    out.channel_stride, at.group,
                    tile + i // fold * LANES + i % fold * plan.group, LANES,
                )
        index += count
        position += count


cdef void fill(const plan_t* plan, const tile_t* at, double value, double* tile) noexcept nogil:
    """Set the lanes that hold a position to a value, and the others to 0."""
    cdef Py_ssize_t i, lane, fold = plan.fold
    memset(tile, 0, at.rows * LANES * sizeof(double))
    for i in range(at.stop - at.start):
        for lane in range(at.group):
            tile[i // fold * LANES + i % fold * plan.group + lane] = value


cdef void lane_vector(
    const double* vector, const plan_t* plan, const tile_t* at, double* lanes
) noexcept nogil:
    """Spread a vector over channels to the lanes of a tile; spare lanes repeat."""
    cdef Py_ssize_t lane
    for lane in range(LANES):
        lanes[lane] = vector[at.channel + (lane % plan.group) % at.group]
