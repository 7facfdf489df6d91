# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one read and one write of memory. Every operation is rounded once in float64 and the
# result once more to its dtype, so all instruction sets, and all backends, give the same bits.
# Where input and output are float32 or float64 in rows of lanes, whole rows are read, mapped and
# written in the order of memory; a large output is written past the caches, which spares reading
# it first. Anything else goes through a tile of float64. What is written has been read before,
# so the output may be the input.

cimport numpy as cnp
from libc.math cimport INFINITY

from .affine_lanes cimport affine_lanes_t, load_affine, map_lanes
from .lanes cimport (
    WIDTH, any_set, choose, equal, fence, lanes_t, less, less_equal, load, load_double, longs_t,
    magnitude_of, real, splat, splat_long, store, stream_to,
)
from .tasks cimport Task
from .tiles cimport (
    FLOAT, LANES, TILE, gather, is_direct, result_like, row_stride_of, scatter, spread_rows,
    start_of, tile_t, view_t,
)

__all__ = ["rescale"]

cnp.import_array()

cdef enum:
    ROWS_OF_AFFINE = 4

# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t STREAM = 1 << 24

cdef struct options_t:
    bint clipped, relu, refuse_infinite, stream
    double low, high


# The four numbers of some lanes; `repeat` where WIDTH lanes serve for all.
cdef struct vectors_t:
    const double* center
    const double* scale
    const double* gamma
    const double* beta
    bint repeat


cdef inline lanes_t mapped(
    lanes_t v, const vectors_t* vectors, Py_ssize_t lane, const options_t* options, bint plain
) noexcept nogil:
    v = map_lanes(
        v, load_double(vectors.center + lane), load_double(vectors.scale + lane),
        load_double(vectors.gamma + lane), load_double(vectors.beta + lane),
    )
    if not plain:
        if options.clipped:
            v = choose(less(v, splat(options.low)), splat(options.low), v)
            v = choose(less(splat(options.high), v), splat(options.high), v)
        if options.relu:
            v = choose(less_equal(v, splat(0.0)), splat(0.0), v)
    return v


cdef inline bint map_rows(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t rows,
    Py_ssize_t lanes, const vectors_t* vectors, const options_t* options, bint plain, bint stream,
) noexcept nogil:
    """Map rows of lanes; return whether one was infinite, where that matters."""
    cdef Py_ssize_t row, lane, i
    cdef lanes_t v
    cdef longs_t infinite = splat_long(0)
    cdef real rest[WIDTH]
    cdef const real* source
    cdef real* target
    for row in range(rows):
        source, target = x + row * x_stride, y + row * y_stride
        lane = 0
        while lane + WIDTH <= lanes:
            v = load(source + lane)
            if options.refuse_infinite:
                infinite = infinite | equal(magnitude_of(v), splat(INFINITY))
            v = mapped(v, vectors, 0 if vectors.repeat else lane, options, plain)
            if stream:
                stream_to(target + lane, v)
            else:
                store(target + lane, v)
            lane += WIDTH
        if lane < lanes:
            for i in range(WIDTH):
                rest[i] = source[lane + i] if lane + i < lanes else 0
            v = load(<const real*> rest)
            if options.refuse_infinite:
                infinite = infinite | equal(magnitude_of(v), splat(INFINITY))
            store(<real*> rest, mapped(v, vectors, 0 if vectors.repeat else lane, options, plain))
            for i in range(lanes - lane):
                target[lane + i] = rest[i]
    return any_set(infinite)


cdef bint map_as(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t rows,
    Py_ssize_t lanes, const vectors_t* vectors, const options_t* options,
) noexcept nogil:
    """Choose the loop."""
    cdef bint plain = not (options.clipped or options.relu)
    cdef bint stream = options.stream and (<size_t> y | y_stride * sizeof(real)) % 16 == 0
    if not plain:
        return map_rows(x, x_stride, y, y_stride, rows, lanes, vectors, options, False, False)
    if stream:
        return map_rows(x, x_stride, y, y_stride, rows, lanes, vectors, options, True, True)
    return map_rows(x, x_stride, y, y_stride, rows, lanes, vectors, options, True, False)


cdef class RescaleTask(Task):
    cdef view_t out, mask
    cdef const double* affine           # rows of C numbers
    cdef const double* lanes            # the same for all lanes of a row, `across` to a row
    cdef Py_ssize_t across
    cdef bint masked, infinite
    cdef options_t options

    def __init__(
        self, x, affine, out, clip, bint relu, mask, bint refuse_infinite, Py_ssize_t nbytes
    ):
        self.begin(x)
        self.out = self.view(out)
        self.arrays.append(affine)
        self.affine = <const double*> cnp.PyArray_DATA(affine)
        self.options.clipped = clip is not None
        if self.options.clipped:
            self.options.low, self.options.high = clip
        self.options.relu = relu
        self.options.refuse_infinite = refuse_infinite
        self.options.stream = nbytes >= STREAM and self.x.data != self.out.data
        self.masked = mask is not None
        if self.masked:
            self.mask = self.view(mask, True)
        self.direct = (
            self.direct and self.x.real == self.out.real and not self.masked
            and is_direct(&self.out, &self.plan)
        )
        self.whole_rows = self.direct and not self.plan.along
        self.infinite = False
        if self.whole_rows:
            self.spread_affine()

    cdef int spread_affine(self) except -1:
        """Give each lane of a row the numbers of its channel; vectors may end beyond them."""
        cdef double* lanes
        if self.plan.fold == 1 and self.plan.width % WIDTH == 0:
            self.lanes, self.across = self.affine, self.plan.width
            return 0
        self.across = self.plan.width + WIDTH
        lanes = self.scratch(ROWS_OF_AFFINE * self.across)
        spread_rows(self.affine, ROWS_OF_AFFINE, &self.plan, lanes, self.across)
        self.lanes = lanes
        return 0

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double tile[TILE]
        cdef affine_lanes_t affine
        cdef vectors_t vectors
        cdef Py_ssize_t x_stride, y_stride, rows = at.rows, lanes = at.lanes
        cdef char* source
        cdef char* target
        cdef bint infinite
        if self.whole_rows:
            vectors.center = self.lanes + at.group * LANES
            vectors.scale = vectors.center + self.across
            vectors.gamma = vectors.scale + self.across
            vectors.beta = vectors.gamma + self.across
        else:
            load_affine(self.affine, &self.plan, at, &affine)
            vectors.center, vectors.scale = affine.center, affine.scale
            vectors.gamma, vectors.beta = affine.gamma, affine.beta
        vectors.repeat = self.plan.along
        if self.direct:
            x_stride = row_stride_of(&self.x, &self.plan)
            y_stride = row_stride_of(&self.out, &self.plan)
            source = start_of(&self.x, &self.plan, at)
            target = start_of(&self.out, &self.plan, at)
            if self.plan.along:
                rows, lanes = 1, (rows - 1) * LANES + lanes
            if self.x.real == FLOAT:
                infinite = map_as(
                    <const float*> source, x_stride, <float*> target, y_stride, rows, lanes,
                    &vectors, &self.options,
                )
            else:
                infinite = map_as(
                    <const double*> source, x_stride, <double*> target, y_stride, rows, lanes,
                    &vectors, &self.options,
                )
        else:
            gather(&self.x, &self.plan, at, 0.0, tile)
            infinite = map_as(
                <const double*> tile, <Py_ssize_t> LANES, tile, <Py_ssize_t> LANES, rows,
                <Py_ssize_t> LANES, &vectors, &self.options,
            )
            if self.masked:
                self.apply_mask(at, tile)
            scatter(&self.out, &self.plan, at, tile)
        if infinite:
            self.infinite = True

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        fence()

    cdef void apply_mask(self, const tile_t* at, double* y) noexcept nogil:
        cdef double mask[TILE]
        cdef Py_ssize_t i
        gather(&self.mask, &self.plan, at, 0.0, mask)
        for i in range(at.rows * LANES):
            y[i] = 0.0 if mask[i] == 0.0 else y[i]


def rescale(
    x, affine, out=None, clip=None, bint relu=False, mask=None, bint refuse_infinite=False,
    Py_ssize_t nbytes=0,
):
    """Return ``((x - center) / scale) * gamma + beta``.

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    affine : C-contiguous float64 array of shape (4, C)
        Center, scale, gamma and beta.
    out : floating array of shape (N, C, S), any strides, optional
        May be ``x`` itself; by default a fresh array in the memory order of ``x``.
    clip : pair of floats, optional
    relu : bool
    mask : array of shape (N, S), optional
        The result is 0 where it is 0.
    refuse_infinite : bool
    nbytes : int
        Bytes of the whole result, where ``out`` is a part of it.

    Returns
    -------
    out : array
    infinite : bool
        Whether ``refuse_infinite`` found an infinite input.
    """
    if out is None:
        out = result_like(x)
    cdef RescaleTask task = RescaleTask(
        x, affine, out, clip, relu, mask, refuse_infinite, max(nbytes, <Py_ssize_t> out.nbytes)
    )
    task.spread()
    return out, task.infinite
