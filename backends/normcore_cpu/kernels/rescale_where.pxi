# Design: as rescale, where contiguous rows are read, mapped and written in place. Some lanes of a
# row at a time are mapped into a buffer that stays in L1. From there vectors of what the mask
# shows, and of what it hides as bits of the input, go to memory, by non-temporal stores where it is
# large. So memory moves as without a mask, but for the mask. That has a byte for each element, or
# one for each position that all channels share where lanes lie along positions; else it is spread
# first.

cdef enum:
    CHUNK = 256         # lanes in work at once


cdef inline void choose(
    const uint8_t* shown, const real* mapped_lanes, const real* x, real* y, Py_ssize_t count,
    bint nontemporal,
) noexcept nogil:
    """Write lanes that are shown as mapped, and the others as they are in x."""
    cdef Py_ssize_t i = 0
    if real is float:
        while i + PACK <= count:
            if nontemporal:
                store_pack_nontemporal(
                    y + i, choose_pack(shown + i, load_pack(mapped_lanes + i), load_pack(x + i))
                )
            else:
                store_pack(
                    y + i, choose_pack(shown + i, load_pack(mapped_lanes + i), load_pack(x + i))
                )
            i += PACK
    else:
        while i + WIDTH <= count:
            if nontemporal:
                store_nontemporal(
                    y + i, choose_lanes(shown + i, load(mapped_lanes + i), load(x + i))
                )
            else:
                store(y + i, choose_lanes(shown + i, load(mapped_lanes + i), load(x + i)))
            i += WIDTH
    while i < count:
        y[i] = mapped_lanes[i] if shown[i] else x[i]
        i += 1


cdef inline bint shows_infinity(
    const real* x, const uint8_t* where, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        if where[i] and fabs(x[i]) == INFINITY:
            return True
    return False


cdef bint map_shown(
    const real* _, const block_t* block, const uint8_t* where, Py_ssize_t where_stride,
    const options_t* options, bint along,
) noexcept nogil:
    """Map rows where a mask is set, copy them elsewhere; return whether one shown was infinite."""
    cdef real buffer[CHUNK]
    cdef block_t part = block[0]
    cdef options_t plain = options[0]
    cdef bint infinite = False, nontemporal
    cdef Py_ssize_t row, lane, count
    cdef const real* x
    cdef const real* result
    cdef real* y
    cdef const uint8_t* shown
    part.rows, part.y, part.y_stride = 1, <char*> buffer, CHUNK
    plain.nontemporal = False
    for row in range(block.rows):
        lane = 0
        while lane < block.lanes:
            count = min(<Py_ssize_t> CHUNK, block.lanes - lane)
            x = <const real*> block.x + row * block.x_stride + lane
            y = <real*> block.y + row * block.y_stride + lane
            shown = where + row * where_stride + lane
            part.x, part.lanes = <const char*> x, count
            part.affine = block.affine + row * block.step + (0 if along else lane)
            if memchr(shown, 0, count) == NULL:  # masks have few edges: most lanes are shown ...
                part.y = <char*> y
                infinite |= map_as(_, &part, options, along)
                part.y = <char*> buffer
                lane += count
                continue
            result = x
            if shown[0] or memcmp(shown, shown + 1, count - 1):  # ... or hidden together
                result = <const real*> buffer
                if map_as(_, &part, &plain, along):
                    infinite |= shows_infinity(x, shown, count)
            nontemporal = options.nontemporal and <size_t> y % 16 == 0
            if nontemporal:
                choose(shown, result, x, y, count, True)
            else:
                choose(shown, result, x, y, count, False)
            lane += count
    return infinite


cdef class RescaleWhereTask(RescaleTask):
    cdef view_t where

    cdef bint covers(self, object where) except -1:
        """Take a mask of the shape of x, if its rows lie as those of x do."""
        self.where = self.view(where)
        if self.plan.along:
            return self.where.stride == 1
        return self.where.channel_stride == 1 and (
            self.plan.row_positions == 1 or is_contiguous(&self.where)
        )

    cdef void visit(self, void* state, Py_ssize_t part, const tile_t* at) noexcept nogil:
        cdef block_t block
        cdef const uint8_t* where = <const uint8_t*> start_of(&self.where, &self.plan, at)
        cdef Py_ssize_t where_stride = contiguous_stride_of(&self.where, &self.plan)
        cdef bint infinite
        block.rows, block.lanes, block.ld = at.rows, at.lanes, self.ld
        block.affine = self.affine + self.first_coefficient(at)
        block.step = 1 if self.plan.along else 0
        block.x, block.y = start_of(&self.x, &self.plan, at), start_of(&self.out, &self.plan, at)
        block.x_stride = contiguous_stride_of(&self.x, &self.plan)
        block.y_stride = contiguous_stride_of(&self.out, &self.plan)
        if self.x.real == FLOAT:
            infinite = map_shown(
                <const float*> NULL, &block, where, where_stride, &self.options, self.plan.along
            )
        else:
            infinite = map_shown(
                <const double*> NULL, &block, where, where_stride, &self.options, self.plan.along
            )
        if infinite:
            self.infinite = True


def rescale_where(
    x, affine, where, out=None, clip=None, bint refuse_infinite=False, laid_out=None
):
    """Return ``((x - center) / scale) * gamma + beta`` where a mask is set, ``x`` elsewhere.

    Parameters
    ----------
    x : array of shape (N, C, S)
    affine : C-contiguous float64 array of shape (4, C)
        Center, scale, gamma and beta.
    where : array of bool of shape (N, C, S), any strides
    out : array of shape (N, C, S) and the dtype of ``x``, optional
        May be ``x`` itself; by default a fresh array in the memory order of ``x``.
    clip : pair of floats, optional
    refuse_infinite : bool
    laid_out : object, optional
        What an earlier call with these coefficients returned as such.

    Returns
    -------
    out : array or None
        None, and nothing is written, where rows of ``x`` or ``out`` are not contiguous float32 or
        float64.
    infinite : bool
        Whether ``refuse_infinite`` found an infinite input where the mask is set.
    laid_out : object or None
        The coefficients as the kernel needs them, where they are few enough to be kept.
    """
    if out is None:
        out = result_like(x)
    cdef RescaleWhereTask task = RescaleWhereTask.__new__(RescaleWhereTask)
    task.describe(x, affine, out, clip, False, None, refuse_infinite, laid_out)
    if not task.whole_rows:
        return None, False, None
    if not task.covers(where):
        spread = np.empty_like(x, dtype=np.bool_, subok=False)
        spread[...] = where
        if not task.covers(spread):
            return None, False, None
    task.spread()
    return out, task.infinite, task.laid_out if task.ld <= KEPT else None
