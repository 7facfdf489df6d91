# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one read and one write of memory. Every operation is rounded once in float64 and the
# result once more to its dtype, so all instruction sets, and all backends, give the same bits.
# Where input and output are float32 or float64 in rows, whole ones are read, mapped and written in
# the order of memory: groups side by side, or the runs of channels that follow each other; a
# large output is written past the caches, which spares reading it first. The division sets the
# pace of data in the caches: 3.5 ns for eight float64 lanes on Zen 4, where a product with the
# reciprocal and two corrections, to the same bits, takes longer. Anything else goes through a
# tile of float64. What is written has been read before, so the output may be the input.

cimport numpy as cnp
from libc.math cimport INFINITY

from .affine_lanes cimport affine_lanes_t, load_affine, map_lanes
from .lanes cimport (
    WIDTH, any_set, choose, equal, fence, lanes_t, less, less_equal, load, load_double, longs_t,
    magnitude_of, real, splat, splat_long, store, store_double, stream_to,
)
from .tasks cimport Task
from .tiles cimport (
    FLOAT, LANES, TILE, gather, is_sheet, result_like, row_stride_of, scatter, spread_rows,
    start_of, tile_t, view_t,
)

__all__ = ["rescale"]

cnp.import_array()

cdef enum:
    CENTER, SCALE, GAMMA, BETA, NUMBERS     # rows of what is known of a channel

# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t STREAM = 1 << 24

# Lanes of a row from which on its last, partial vector does not matter.
cdef Py_ssize_t LONG = 1024

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
    cdef Py_ssize_t row, lane, full, i
    cdef lanes_t v, last
    cdef longs_t infinite = splat_long(0)
    cdef real rest[WIDTH]
    cdef const real* source
    cdef real* target
    for row in range(rows):
        source, target = x + row * x_stride, y + row * y_stride
        # The last vector overlaps the one before; in place, what it reads must not be mapped yet.
        full = lanes // WIDTH * WIDTH
        last = splat(0.0)
        if full < lanes:
            if full:
                last = load(source + lanes - WIDTH)
            else:
                for i in range(WIDTH):
                    rest[i] = source[i] if i < lanes else 0
                last = load(<const real*> rest)
        lane = 0
        while lane < full:
            v = load(source + lane)
            if options.refuse_infinite:
                infinite = infinite | equal(magnitude_of(v), splat(INFINITY))
            v = mapped(v, vectors, 0 if vectors.repeat else lane, options, plain)
            if stream:
                stream_to(target + lane, v)
            else:
                store(target + lane, v)
            lane += WIDTH
        if full < lanes:
            lane = lanes - WIDTH if full else 0
            if options.refuse_infinite:
                infinite = infinite | equal(magnitude_of(last), splat(INFINITY))
            last = mapped(last, vectors, 0 if vectors.repeat else lane, options, plain)
            if full:
                store(target + lane, last)
            else:
                store(<real*> rest, last)
                for i in range(lanes):
                    target[i] = rest[i]
    return any_set(infinite)


cdef bint map_as(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t rows,
    Py_ssize_t lanes, const vectors_t* vectors, const options_t* options,
) noexcept nogil:
    """Choose the loop."""
    cdef bint plain = not (options.clipped or options.relu)
    # A line that is written partly around the caches and partly through them is written slowly.
    cdef bint stream = (
        options.stream and (lanes % WIDTH == 0 or lanes >= LONG)
        and (<size_t> y | (0 if rows == 1 else y_stride * sizeof(real))) % 16 == 0
    )
    if not plain:
        return map_rows(x, x_stride, y, y_stride, rows, lanes, vectors, options, False, False)
    if stream:
        return map_rows(x, x_stride, y, y_stride, rows, lanes, vectors, options, True, True)
    return map_rows(x, x_stride, y, y_stride, rows, lanes, vectors, options, True, False)


cdef class RescaleTask(Task):
    cdef view_t out, mask
    cdef const double* affine           # (NUMBERS, C)
    cdef const double* lanes            # (NUMBERS, across), of a row across channels
    cdef Py_ssize_t across
    cdef bint masked, infinite
    cdef options_t options

    def __init__(self, x, affine, out, clip, bint relu, mask, bint refuse_infinite):
        self.begin(x)
        self.split_rows()
        self.out = self.view(out)
        self.arrays.append(affine)
        self.affine = <const double*> cnp.PyArray_DATA(affine)
        self.options.clipped = clip is not None
        if self.options.clipped:
            self.options.low, self.options.high = clip
        self.options.relu = relu
        self.options.refuse_infinite = refuse_infinite
        self.options.stream = out.nbytes >= STREAM and self.x.data != self.out.data
        self.masked = mask is not None
        if self.masked:
            self.mask = self.view(mask, True)
        self.whole_rows = (
            self.x.real == self.out.real and not self.masked
            and is_sheet(&self.x, &self.plan) and is_sheet(&self.out, &self.plan)
        )
        self.infinite = False
        if self.whole_rows and not self.plan.along:
            self.spread_affine()

    cdef int spread_affine(self) except -1:
        """Give each lane of a row the numbers of its channel; vectors may end beyond them."""
        cdef double* lanes
        self.across = self.plan.width
        if self.plan.fold == 1 and self.across % WIDTH == 0:
            self.lanes = self.affine
            return 0
        self.across += WIDTH
        lanes = self.scratch(NUMBERS * self.across)
        spread_rows(
            self.affine, NUMBERS, self.plan.channels, 1, self.plan.fold, lanes, self.across
        )
        self.lanes = lanes
        return 0

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double tile[TILE]
        cdef affine_lanes_t affine
        cdef vectors_t vectors
        if self.whole_rows:
            self.map_whole_rows(at)
            return
        load_affine(self.affine, &self.plan, at, &affine)
        vectors.center, vectors.scale = affine.center, affine.scale
        vectors.gamma, vectors.beta = affine.gamma, affine.beta
        vectors.repeat = self.plan.along
        gather(&self.x, &self.plan, at, 0.0, tile)
        if map_as(
            <const double*> tile, <Py_ssize_t> LANES, tile, <Py_ssize_t> LANES, at.rows,
            <Py_ssize_t> LANES, &vectors, &self.options,
        ):
            self.infinite = True
        if self.masked:
            self.apply_mask(at, tile)
        scatter(&self.out, &self.plan, at, tile)

    cdef void map_whole_rows(self, const tile_t* at) noexcept nogil:
        """Map rows in place: of groups side by side, or the run of one channel each."""
        cdef double numbers[NUMBERS * LANES]
        cdef tile_t row = at[0]
        cdef Py_ssize_t i
        if not self.plan.along:
            self.map_in_place(at, at.rows, self.lanes + at.group * LANES, self.across)
            return
        for row.channel in range(at.channel, at.channel + at.rows):
            for i in range(NUMBERS):
                store_double(
                    &numbers[i * LANES], splat(self.affine[i * self.plan.channels + row.channel])
                )
            self.map_in_place(&row, 1, numbers, LANES)

    cdef void map_in_place(
        self, const tile_t* at, Py_ssize_t rows, const double* numbers, Py_ssize_t across
    ) noexcept nogil:
        """Map rows from where they are read to where they are written."""
        cdef vectors_t vectors
        cdef Py_ssize_t x_stride = row_stride_of(&self.x, &self.plan)
        cdef Py_ssize_t y_stride = row_stride_of(&self.out, &self.plan)
        cdef char* x = start_of(&self.x, &self.plan, at)
        cdef char* y = start_of(&self.out, &self.plan, at)
        cdef bint infinite
        vectors.center, vectors.scale = numbers + CENTER * across, numbers + SCALE * across
        vectors.gamma, vectors.beta = numbers + GAMMA * across, numbers + BETA * across
        vectors.repeat = self.plan.along
        if self.x.real == FLOAT:
            infinite = map_as(
                <const float*> x, x_stride, <float*> y, y_stride, rows, at.lanes, &vectors,
                &self.options,
            )
        else:
            infinite = map_as(
                <const double*> x, x_stride, <double*> y, y_stride, rows, at.lanes, &vectors,
                &self.options,
            )
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
    x, affine, out=None, clip=None, bint relu=False, mask=None, bint refuse_infinite=False
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

    Returns
    -------
    out : array
    infinite : bool
        Whether ``refuse_infinite`` found an infinite input.
    """
    if out is None:
        out = result_like(x)
    cdef RescaleTask task = RescaleTask(x, affine, out, clip, relu, mask, refuse_infinite)
    task.spread()
    return out, task.infinite
