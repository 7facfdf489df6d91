# Design: the loops over rows of the backward pass of layer and RMS norm (rows_backward.pxi): the
# sums of some rows and of their columns, and dx of a row.

cdef enum:
    PAIR = 2            # rows in work at once

# What is known of a row in work.
cdef struct row_t:
    row_scale_t scale
    double factor               # 1 / scale
    double sum_hi[LANES]        # of g
    double sum_lo[LANES]
    double sum_xmu_hi[LANES]    # of g * (x - center)
    double sum_xmu_lo[LANES]


cdef inline void reduce_rows(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, Py_ssize_t rows,
    Py_ssize_t columns, const double* gamma, double* g, double* xmu, Py_ssize_t ld,
    double* dgamma, double* dbeta, row_t* at, bint keep,
) noexcept nogil:
    """Add whole vectors of lanes of some rows to all sums; `keep` g and x - center."""
    cdef lanes_t sum_g[PAIR][LANES]
    cdef lanes_t sum_g_xmu[PAIR][LANES]
    cdef lanes_t center[PAIR]
    cdef lanes_t factor[PAIR]
    cdef lanes_t upstream, centered, weighted, total_dgamma, total_dbeta
    cdef Py_ssize_t i = 0, k, row, lane
    for row in range(rows):
        center[row], factor[row] = splat(at[row].scale.center), splat(at[row].factor)
        for k in range(LANES // WIDTH):
            sum_g[row][k] = sum_g_xmu[row][k] = splat(0.0)
    while i < columns:
        for row in range(rows):
            prefetch(dy + (row + rows) * dy_stride + i)
            prefetch(x + (row + rows) * x_stride + i)
        for k in range(LANES // WIDTH):
            lane = i + k * WIDTH
            total_dgamma, total_dbeta = load_double(dgamma + lane), load_double(dbeta + lane)
            for row in range(rows):
                upstream = load(dy + row * dy_stride + lane)
                centered = load(x + row * x_stride + lane) - center[row]
                weighted = upstream * load_double(gamma + lane)
                total_dbeta = total_dbeta + upstream
                total_dgamma = total_dgamma + upstream * (centered * factor[row])
                sum_g[row][k] = sum_g[row][k] + weighted
                sum_g_xmu[row][k] = sum_g_xmu[row][k] + weighted * centered
                if keep:
                    store_double(g + row * ld + lane, weighted)
                    store_double(xmu + row * ld + lane, centered)
            store_double(dgamma + lane, total_dgamma)
            store_double(dbeta + lane, total_dbeta)
        i += LANES
    for row in range(rows):
        for k in range(LANES // WIDTH):
            lane = k * WIDTH
            add_sum(&at[row].sum_hi[lane], &at[row].sum_lo[lane], sum_g[row][k])
            add_sum(&at[row].sum_xmu_hi[lane], &at[row].sum_xmu_lo[lane], sum_g_xmu[row][k])


cdef void reduce_as(
    const real* dy, Py_ssize_t dy_stride, const real* x, Py_ssize_t x_stride, Py_ssize_t rows,
    Py_ssize_t columns, const double* gamma, double* g, double* xmu, Py_ssize_t ld,
    double* dgamma, double* dbeta, row_t* at, bint keep,
) noexcept nogil:
    """Choose the loop."""
    if rows == PAIR and not keep:
        reduce_rows(
            dy, dy_stride, x, x_stride, PAIR, columns, gamma, g, xmu, ld, dgamma, dbeta, at,
            False,
        )
    elif rows == PAIR:
        reduce_rows(
            dy, dy_stride, x, x_stride, PAIR, columns, gamma, g, xmu, ld, dgamma, dbeta, at,
            True,
        )
    else:
        reduce_rows(
            dy, dy_stride, x, x_stride, 1, columns, gamma, g, xmu, ld, dgamma, dbeta, at, keep
        )


cdef inline void differentiate_row(
    const double* g, const double* xmu, real* dx, Py_ssize_t columns, double a, double b, double d,
    bint nontemporal,
) noexcept nogil:
    cdef lanes_t v
    cdef real rest[WIDTH]
    cdef Py_ssize_t i = 0, k
    while i < columns:
        v = gradient(load_double(g + i), load_double(xmu + i), splat(a), splat(b), splat(d))
        if nontemporal:
            store_nontemporal(dx + i, v)
        elif i + WIDTH <= columns:
            store(dx + i, v)
        else:
            store(<real*> rest, v)
            for k in range(columns - i):
                dx[i + k] = rest[k]
        i += WIDTH


cdef inline void differentiate_row_again(
    const float* dy, const float* x, const double* gamma, float* dx, Py_ssize_t columns,
    double center, double a, double b, double d, bint nontemporal,
) noexcept nogil:
    """Map a row of whole lanes from where it was read."""
    cdef lanes_t v, g
    cdef Py_ssize_t i = 0
    while i < columns:
        g = load(dy + i) * load_double(gamma + i)
        v = gradient(g, load(x + i) - splat(center), splat(a), splat(b), splat(d))
        if nontemporal:
            store_nontemporal(dx + i, v)
        else:
            store(dx + i, v)
        i += WIDTH
