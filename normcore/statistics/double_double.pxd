# Double-double arithmetic on C scalars, for compiled kernels; of arrays, of whatever library, it
# is array_api_double_double.py.
# Design: a value is an unevaluated sum hi + lo of two float64 with |lo| <= ulp(hi) / 2: about 106
# bits. Error-free transformations after T. J. Dekker, "A floating-point technique for extending
# the available precision" (1971), and D. E. Knuth, The Art of Computer Programming 2, 4.2.2;
# products split by Veltkamp, so that no fused multiply-add is needed and every instruction set
# gives the same bits. Exact unless a product leaves 2**-900 .. 2**990, which the
# callers' power-of-two scaling sees to.

cimport cython


cdef struct dd:
    double hi
    double lo


cdef inline dd two_sum(double a, double b) noexcept nogil:
    cdef dd r
    r.hi = a + b
    cdef double t = r.hi - a
    r.lo = (a - (r.hi - t)) + (b - t)
    return r


cdef inline dd fast_two_sum(double a, double b) noexcept nogil:
    """Need |a| >= |b| or a == 0."""
    cdef dd r
    r.hi = a + b
    r.lo = b - (r.hi - a)
    return r


cdef inline dd two_prod(double a, double b) noexcept nogil:
    cdef dd r
    cdef double t, a_hi, a_lo, b_hi, b_lo
    t = 134217729.0 * a
    a_hi = t - (t - a)
    a_lo = a - a_hi
    t = 134217729.0 * b
    b_hi = t - (t - b)
    b_lo = b - b_hi
    r.hi = a * b
    r.lo = ((a_hi * b_hi - r.hi) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo
    return r


cdef inline dd dd_add(dd a, dd b) noexcept nogil:
    cdef dd s = two_sum(a.hi, b.hi)
    cdef dd t = two_sum(a.lo, b.lo)
    s.lo = s.lo + t.hi
    s = fast_two_sum(s.hi, s.lo)
    s.lo = s.lo + t.lo
    return fast_two_sum(s.hi, s.lo)


cdef inline dd dd_sub(dd a, dd b) noexcept nogil:
    b.hi = -b.hi
    b.lo = -b.lo
    return dd_add(a, b)


cdef inline dd dd_mul(dd a, dd b) noexcept nogil:
    cdef dd p = two_prod(a.hi, b.hi)
    p.lo = p.lo + (a.hi * b.lo + a.lo * b.hi)
    return fast_two_sum(p.hi, p.lo)


@cython.cdivision(True)
cdef inline dd dd_div(dd a, dd b) noexcept nogil:
    cdef dd q, r
    cdef double second, third
    q.hi = a.hi / b.hi
    q.lo = 0.0
    r = dd_sub(a, dd_mul(q, b))
    second = r.hi / b.hi
    q.hi, q.lo = q.hi, second
    q = fast_two_sum(q.hi, q.lo)
    r = dd_sub(a, dd_mul(q, b))
    third = r.hi / b.hi
    q.lo = q.lo + third
    return fast_two_sum(q.hi, q.lo)


@cython.cdivision(True)
cdef inline double dd_quotient(dd a, dd b) noexcept nogil:
    """Return a / b rounded to one float64: within half an ulp, and 2**-50 of one."""
    cdef dd q
    q.hi = a.hi / b.hi
    q.lo = 0.0
    return q.hi + dd_sub(a, dd_mul(q, b)).hi / b.hi
