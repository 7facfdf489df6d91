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

from .affine_map cimport NUMBERS, mapped, numbers_of, numbers_t
from .lanes cimport (
    WIDTH, any_set, choose, equal, fence, lanes_t, less, less_equal, load, longs_t, magnitude_of,
    real, splat, splat_long, store, stream_to,
)
from .tasks cimport Task
from .tiles cimport (
    FLOAT, LANES, TILE, gather, is_sheet, result_like, scatter, sheet_stride_of, start_of, tile_t,
    view_t, zero_where,
)

__all__ = ["rescale"]

cnp.import_array()

# Bytes of output from which on the caches would not keep it for the reader.
cdef Py_ssize_t STREAM = 1 << 24

# Lanes of a row from which on its last, partial vector does not matter.
cdef Py_ssize_t LONG = 1024

cdef struct options_t:
    bint clipped, relu, refuse_infinite, stream
    double low, high


cdef inline lanes_t finished(lanes_t v, const options_t* options) noexcept nogil:
    if options.clipped:
        v = choose(less(v, splat(options.low)), splat(options.low), v)
        v = choose(less(splat(options.high), v), splat(options.high), v)
    if options.relu:
        v = choose(less_equal(v, splat(0.0)), splat(0.0), v)
    return v


cdef inline bint map_rows(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t rows,
    Py_ssize_t lanes, const double* affine, Py_ssize_t across, Py_ssize_t step,
    const options_t* options, bint along, bint plain, bint stream,
) noexcept nogil:
    """Map rows of lanes; return whether one was infinite, where that matters."""
    cdef Py_ssize_t row, lane, i, full = lanes // WIDTH * WIDTH
    cdef lanes_t v, last
    cdef longs_t infinite = splat_long(0)
    cdef numbers_t numbers
    cdef real rest[WIDTH]
    cdef const real* source
    cdef real* target
    for row in range(rows):
        source, target = x + row * x_stride, y + row * y_stride
        numbers = numbers_of(affine + row * step, across, 0, along)
        # The last vector overlaps the one before; in place, what it reads must not be mapped yet.
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
            if not along:
                numbers = numbers_of(affine, across, lane, False)
            v = mapped(v, numbers)
            if not plain:
                v = finished(v, options)
            if stream:
                stream_to(target + lane, v)
            else:
                store(target + lane, v)
            lane += WIDTH
        if full < lanes:
            lane = lanes - WIDTH if full else 0
            if options.refuse_infinite:
                infinite = infinite | equal(magnitude_of(last), splat(INFINITY))
            if not along:
                numbers = numbers_of(affine, across, lane, False)
            last = mapped(last, numbers)
            if not plain:
                last = finished(last, options)
            if full:
                store(target + lane, last)
            else:
                store(<real*> rest, last)
                for i in range(lanes):
                    target[i] = rest[i]
    return any_set(infinite)


cdef bint map_as(
    const real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t rows,
    Py_ssize_t lanes, const double* affine, Py_ssize_t across, Py_ssize_t step,
    const options_t* options, bint along,
) noexcept nogil:
    """Choose the loop.

    Along positions, the numbers of the next row's channel are `step` further.
    """
    cdef bint plain = not (options.clipped or options.relu)
    # A line that is written partly around the caches and partly through them is written slowly.
    cdef bint stream = (
        plain and options.stream and (lanes % WIDTH == 0 or lanes >= LONG)
        and (<size_t> y | (0 if rows == 1 else y_stride * sizeof(real))) % 16 == 0
    )
    if along:
        if stream:
            return map_rows(
                x, x_stride, y, y_stride, rows, lanes, affine, across, step, options, True, True,
                True,
            )
        if plain:
            return map_rows(
                x, x_stride, y, y_stride, rows, lanes, affine, across, step, options, True, True,
                False,
            )
        return map_rows(
            x, x_stride, y, y_stride, rows, lanes, affine, across, step, options, True, False,
            False,
        )
    if stream:
        return map_rows(
            x, x_stride, y, y_stride, rows, lanes, affine, across, 0, options, False, True, True
        )
    if plain:
        return map_rows(
            x, x_stride, y, y_stride, rows, lanes, affine, across, 0, options, False, True, False
        )
    return map_rows(
        x, x_stride, y, y_stride, rows, lanes, affine, across, 0, options, False, False, False
    )


cdef class RescaleTask(Task):
    cdef view_t out, mask
    cdef const double* affine           # (NUMBERS, across)
    cdef Py_ssize_t across
    cdef bint masked, infinite
    cdef options_t options

    def __init__(self, x, affine, out, clip, bint relu, mask, bint refuse_infinite):
        self.begin(x)
        self.out = self.view(out)
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
        self.split_rows()
        self.infinite = False
        self.affine = self.numbers(affine, NUMBERS, &self.across)

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef double tile[TILE]
        cdef const double* affine = self.affine + self.first_number(at)
        cdef bint infinite
        if not self.whole_rows:
            gather(&self.x, &self.plan, at, 0.0, tile)
            infinite = map_as(
                <const double*> tile, <Py_ssize_t> LANES, tile, <Py_ssize_t> LANES, at.rows,
                <Py_ssize_t> LANES, affine, self.across, <Py_ssize_t> 0, &self.options,
                self.plan.along,
            )
            if self.masked:
                zero_where(&self.mask, &self.plan, at, tile)
            scatter(&self.out, &self.plan, at, tile)
        elif self.x.real == FLOAT:
            infinite = self.map_whole_rows(<const float*> NULL, at, affine)
        else:
            infinite = self.map_whole_rows(<const double*> NULL, at, affine)
        if infinite:
            self.infinite = True

    cdef bint map_whole_rows(
        self, const real* _, const tile_t* at, const double* affine
    ) noexcept nogil:
        """Map rows in place: of groups side by side, or the run of one channel each."""
        return map_as(
            <const real*> start_of(&self.x, &self.plan, at), sheet_stride_of(&self.x, &self.plan),
            <real*> start_of(&self.out, &self.plan, at), sheet_stride_of(&self.out, &self.plan),
            at.rows, at.lanes, affine, self.across, <Py_ssize_t> 1, &self.options,
            self.plan.along,
        )

    cdef void close(self, void* state, Py_ssize_t part) noexcept nogil:
        fence()


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
