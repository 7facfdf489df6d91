"""The normal distribution: its cumulated probability and the inverse of that.

References
----------
M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied
Statistics 37 (1988), 477-484.
"""

from libc.math cimport INFINITY, NAN, erfc, exp, fma, log, sqrt

cdef extern from *:
    """
    #define SQRT_HALF 0.70710678118654752440
    #define SQRT_HALF_LOW -4.833646656726456726e-17
    #define TWO_OVER_SQRT_PI 1.12837916709551257390
    """
    const double SQRT_HALF, SQRT_HALF_LOW, TWO_OVER_SQRT_PI


cdef inline double polynomial(
    double r, double a0, double a1, double a2, double a3, double a4, double a5, double a6,
    double a7,
) noexcept nogil:
    return ((((((a7 * r + a6) * r + a5) * r + a4) * r + a3) * r + a2) * r + a1) * r + a0


cdef inline double ndtri(double p) noexcept nogil:
    """Return the value below which a normal variable lies with probability p."""
    cdef double q = p - 0.5, r, x
    if q >= -0.425 and q <= 0.425:
        r = 0.180625 - q * q
        return q * polynomial(
            r, 3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427,
            13731.693765509461125, 45921.953931549871457, 67265.770927008700853,
            33430.575583588128105, 2509.0809287301226727,
        ) / polynomial(
            r, 1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
            21213.794301586595867, 39307.895800092710610, 28729.085735721942674,
            5226.4952788528545610,
        )
    r = p if q < 0.0 else 1.0 - p
    if not r > 0.0:
        return NAN if r != 0.0 else INFINITY if q > 0.0 else -INFINITY
    r = sqrt(-log(r))
    if r <= 5.0:
        r -= 1.6
        x = polynomial(
            r, 1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550,
            3.64784832476320460504, 1.27045825245236838258, 0.241780725177450611770,
            0.0227238449892691845833, 7.74545014278341407640e-4,
        ) / polynomial(
            r, 1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
            0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4,
            1.05075007164441684324e-9,
        )
    else:
        r -= 5.0
        x = polynomial(
            r, 6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580,
            0.296560571828504891230, 0.0265321895265761230930, 1.24266094738807843860e-3,
            2.71155556874348757815e-5, 2.01033439929228813265e-7,
        ) / polynomial(
            r, 1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
            7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
            2.04426310338993978564e-15,
        )
    return x if q > 0.0 else -x


cdef inline double ndtr(double x) noexcept nogil:
    """Return the probability with which a normal variable lies below x."""
    cdef double z = -x * SQRT_HALF, p = 0.5 * erfc(z)
    if z > 1.0 and p > 0.0:  # what rounding took from z counts there
        p -= 0.5 * TWO_OVER_SQRT_PI * exp(-z * z) * (fma(-x, SQRT_HALF, -z) - x * SQRT_HALF_LOW)
    return p
