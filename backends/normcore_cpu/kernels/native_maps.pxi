# Design: elements in float32, every operation rounded by itself, never contracted.
#
#   forward     y = (x - c) * a + ((x - c) * a' + b)
#   backward    dx = dy * a - ((x - c) * d + b)
#
# c is the center rounded to float32, and b makes up for it, so that data far from 0 keep what they
# have: x - c is exact there. a' is what float32 leaves over of a = gamma / scale. With P = (x -
# center) * gamma / scale, the subtraction errs by at most 2**-24 |P|, the rest of b and of the
# product with a' by 2**-24 |beta|, the product and the sum by half a unit in the last place each:
# together below 2 units in the last place of |P| + |beta|. The gradient, whose coefficients have
# one part, is within 3 of |dy * a| + |b| + |(x - mean) * d|.
#
# That holds as long as nothing over- or underflows on the way. Channels with coefficients beyond
# 2**100, or below 2**-100, are mapped in float64 instead; which ones, they decide alone.

cdef enum:
    ABREAST_ROWS = 2    # in work at once, for which coefficients are loaded once

cdef double LEAST_TAME = 2.0 ** -100
cdef double MOST_TAME = 2.0 ** 100

# What maps the elements of a channel; `tame` where float32 can.
cdef struct float_map_t:
    float center
    float a
    float rest
    float b
    bint tame

cdef struct float_gradient_t:
    float center
    float a
    float b
    float d
    bint tame


cdef inline bint is_factor(double value) noexcept nogil:
    cdef double magnitude = fabs(value)
    return magnitude == 0.0 or (magnitude >= LEAST_TAME and magnitude <= MOST_TAME)


cdef inline float_map_t float_map_of(const double* rows, Py_ssize_t ld) noexcept nogil:
    """Return the map of a channel, whose coefficients are `ld` apart."""
    cdef float_map_t m
    cdef double center = rows[CENTER * ld], a = rows[GAMMA * ld] / rows[SCALE * ld]
    m.center, m.a = <float> center, <float> a
    m.rest = <float> (a - m.a)
    m.b = <float> (rows[BETA * ld] + (m.center - center) * a)
    m.tame = is_factor(a) and fabs(center) <= MOST_TAME and fabs(m.b) <= MOST_TAME
    return m


cdef inline float_gradient_t float_gradient_of(
    double mean, double a, double b, double d
) noexcept nogil:
    """Return what makes dx of dy and x in a channel."""
    cdef float_gradient_t m
    m.center, m.a, m.d = <float> mean, <float> a, <float> d
    m.b = <float> (b + (m.center - mean) * d)
    m.tame = (
        is_factor(a) and is_factor(d) and fabs(mean) <= MOST_TAME and fabs(m.b) <= MOST_TAME
    )
    return m


cdef inline void map_run(
    const float* x, float* y, Py_ssize_t number, float_map_t m, const double* rows, Py_ssize_t ld
) noexcept nogil:
    """Map values of one channel; y may be x itself."""
    cdef pack_t c = splat_pack(m.center), a = splat_pack(m.a), e = splat_pack(m.rest)
    cdef pack_t b = splat_pack(m.b), d
    cdef double center, scale, gamma, beta
    cdef float v
    cdef Py_ssize_t i = 0
    if m.tame:
        while i + PACK <= number:
            d = load_pack(x + i) - c
            store_pack(y + i, d * a + (d * e + b))
            i += PACK
        for i in range(i, number):
            v = x[i] - m.center
            y[i] = v * m.a + (v * m.rest + m.b)
        return
    center, scale = rows[CENTER * ld], rows[SCALE * ld]
    gamma, beta = rows[GAMMA * ld], rows[BETA * ld]
    for i in range(number):
        y[i] = <float> (((x[i] - center) / scale) * gamma + beta)


cdef inline void differentiate_run(
    const float* dy, const float* x, float* dx, Py_ssize_t number, float_gradient_t m,
    const double* vectors, Py_ssize_t ld,
) noexcept nogil:
    """Write dx of values of one channel; it may be dy or x itself."""
    cdef pack_t c = splat_pack(m.center), a = splat_pack(m.a), b = splat_pack(m.b)
    cdef pack_t d = splat_pack(m.d)
    cdef double mean, wide_a, wide_b, wide_d
    cdef Py_ssize_t i = 0
    if m.tame:
        while i + PACK <= number:
            store_pack(
                dx + i, load_pack(dy + i) * a - ((load_pack(x + i) - c) * d + b)
            )
            i += PACK
        for i in range(i, number):
            dx[i] = dy[i] * m.a - ((x[i] - m.center) * m.d + m.b)
        return
    mean, wide_a = vectors[MEAN * ld], vectors[A * ld]
    wide_b, wide_d = vectors[B * ld], vectors[D * ld]
    for i in range(number):
        dx[i] = <float> (wide_a * dy[i] - (wide_b + wide_d * (x[i] - mean)))


# What maps channels side by side: one row for each number of a map.
cdef struct slab_map_t:
    float center[SLAB]
    float a[SLAB]
    float rest[SLAB]
    float b[SLAB]

cdef struct slab_gradient_t:
    float center[SLAB]
    float a[SLAB]
    float b[SLAB]
    float d[SLAB]


cdef inline void map_rows(
    const char* x, Py_ssize_t x_stride, char* y, Py_ssize_t y_stride, Py_ssize_t rows,
    Py_ssize_t lanes, const slab_map_t* m,
) noexcept nogil:
    """Map some rows of channels side by side."""
    cdef pack_t c, a, e, b, d
    cdef Py_ssize_t row, k = 0
    while k < lanes:
        c, a, e, b = (
            load_pack(m.center + k), load_pack(m.a + k), load_pack(m.rest + k), load_pack(m.b + k)
        )
        for row in range(rows):
            d = load_pack(<const float*> (x + row * x_stride) + k) - c
            store_pack(<float*> (y + row * y_stride) + k, d * a + (d * e + b))
        k += PACK


cdef void map_slab(
    const char* x, Py_ssize_t x_stride, char* y, Py_ssize_t y_stride, Py_ssize_t number,
    Py_ssize_t lanes, const slab_map_t* m,
) noexcept nogil:
    """Map channels side by side, in the order of memory."""
    cdef Py_ssize_t p = 0
    while p + ABREAST_ROWS <= number:
        map_rows(x + p * x_stride, x_stride, y + p * y_stride, y_stride, ABREAST_ROWS, lanes, m)
        p += ABREAST_ROWS
    while p < number:
        map_rows(x + p * x_stride, x_stride, y + p * y_stride, y_stride, 1, lanes, m)
        p += 1


cdef inline void differentiate_rows(
    const char* dy, Py_ssize_t dy_stride, const char* x, Py_ssize_t x_stride, char* dx,
    Py_ssize_t dx_stride, Py_ssize_t rows, Py_ssize_t lanes, const slab_gradient_t* m,
) noexcept nogil:
    """Write dx of some rows of channels side by side."""
    cdef pack_t c, a, b, d
    cdef Py_ssize_t row, k = 0
    while k < lanes:
        c, a, b, d = (
            load_pack(m.center + k), load_pack(m.a + k), load_pack(m.b + k), load_pack(m.d + k)
        )
        for row in range(rows):
            store_pack(
                <float*> (dx + row * dx_stride) + k,
                load_pack(<const float*> (dy + row * dy_stride) + k) * a
                - ((load_pack(<const float*> (x + row * x_stride) + k) - c) * d + b),
            )
        k += PACK


cdef void differentiate_slab(
    const char* dy, Py_ssize_t dy_stride, const char* x, Py_ssize_t x_stride, char* dx,
    Py_ssize_t dx_stride, Py_ssize_t number, Py_ssize_t lanes, const slab_gradient_t* m,
) noexcept nogil:
    """Write dx of channels side by side, in the order of memory."""
    cdef Py_ssize_t p = 0
    while p + ABREAST_ROWS <= number:
        differentiate_rows(
            dy + p * dy_stride, dy_stride, x + p * x_stride, x_stride, dx + p * dx_stride,
            dx_stride, ABREAST_ROWS, lanes, m,
        )
        p += ABREAST_ROWS
    while p < number:
        differentiate_rows(
            dy + p * dy_stride, dy_stride, x + p * x_stride, x_stride, dx + p * dx_stride,
            dx_stride, 1, lanes, m,
        )
        p += 1
