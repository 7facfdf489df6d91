# Design: sift.h as Cython sees it, one name for both dtypes.


cdef extern from "sift.h" nogil:
    enum:
        SIFT_ROWS
        SIFT_WORDS
        SIFT_INDICES
        FEW

    void float_sift(
        const float* x, Py_ssize_t stride, Py_ssize_t rows, const float* bounds,
        bint strict, uint32_t* counts, uint64_t* words,
    )
    void double_sift(
        const double* x, Py_ssize_t stride, Py_ssize_t rows, const double* bounds,
        bint strict, uint32_t* counts, uint64_t* words,
    )
    bint float_all_finite(
        const float* x, Py_ssize_t stride, Py_ssize_t rows, const char* next, Py_ssize_t apart,
        float* copy,
    )
    bint double_all_finite(
        const double* x, Py_ssize_t stride, Py_ssize_t rows, const char* next, Py_ssize_t apart,
        double* copy,
    )
    void float_order_few(const float* x, int count, float* ordered)
    void double_order_few(const double* x, int count, double* ordered)
    Py_ssize_t positions(const uint64_t* words, Py_ssize_t rows, uint16_t* indices)


# The bounds of `sift`, and what it counts.
cdef enum:
    AT_LEAST, ABOVE, AT_MOST, UNDER, BOUNDS
    FROM = 0, ON_LOWER = 1, ON_UPPER = 2, COUNTERS = 3


cdef inline void sift(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, const real* bounds, bint strict,
    uint32_t* counts, uint64_t* words,
) noexcept nogil:
    if real is float:
        if strict:
            float_sift(x, stride, rows, bounds, True, counts, words)
        else:
            float_sift(x, stride, rows, bounds, False, counts, words)
    elif strict:
        double_sift(x, stride, rows, bounds, True, counts, words)
    else:
        double_sift(x, stride, rows, bounds, False, counts, words)


cdef inline bint all_finite(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, const char* next, Py_ssize_t apart,
    real* copy,
) noexcept nogil:
    if real is float:
        return float_all_finite(x, stride, rows, next, apart, copy)
    else:
        return double_all_finite(x, stride, rows, next, apart, copy)


cdef inline void order_few(const real* x, Py_ssize_t count, real* ordered) noexcept nogil:
    if real is float:
        float_order_few(x, <int> count, ordered)
    else:
        double_order_few(x, <int> count, ordered)
