/* The map of a power transform over a run of values, in a loop that compilers make vectors of. */

#ifndef NORMCORE_POWER_CURVE_H
#define NORMCORE_POWER_CURVE_H

#include "logarithm.h"

typedef struct {
    double sign; /* of the side of the origin */
    double power, other_power;
    double unit, mean, scale;
    double zero;             /* the map of zero, in units */
    double slope;            /* of the other side, beside the origin's */
    double base;             /* 1 or 0, which u is added to */
    double tiny, other_tiny; /* below which u is its own logarithm, on either side */
    double distance;         /* of the origin from zero */
    pair_t origin;           /* that, and the base */
    pair_t logarithm;        /* of the latter */
} curve_t;

/* Below this a power is its logarithm: the rest is no digit of it. */
#define LINEAR 0x1p-60

/* Below this log(1 + u) is u, of which a quotient would lose digits that are not normal. */
#define TINY 1e-290

/* Fill in logarithms of the base and the distance of x from zero, less that of an origin. */
IN_VECTORS void logarithms(const double *restrict x, int count, double base, double origin,
                           double *restrict logs)
{
    const scaled_t against = scaled(two_sum(base, origin));
    const double tiny = base != 0.0 && origin < TINY ? TINY : 0.0;
    for (int i = 0; i < count; i++) {
        double size = x[i] < 0.0 ? -x[i] : x[i];
        pair_t logarithm = log_of_scaled(scaled(two_sum(base, size)), against);
        logs[i] = size < tiny ? size - origin : logarithm.hi;
    }
}

/* Fill in the map of x, and exponents of e, which are to be at most 700. */
IN_VECTORS void map_values(const curve_t *curve, const double *restrict x, int count,
                           double *restrict y, double *restrict exponents)
{
    const curve_t c = *curve;
    const scaled_t origin = scaled(c.origin), one = scaled(two_sum(1.0, 0.0));
    for (int i = 0; i < count; i++) {
        double u = c.sign * x[i], size = u < 0.0 ? -u : u, value, linear;
        int own = u >= 0.0;
        double tiny = own ? c.tiny : c.other_tiny, power = own ? c.power : c.other_power;
        double distance = own ? c.distance : 0.0, magnitude;
        scaled_t against;
        pair_t logarithm, e;
        against.part.hi = own ? origin.part.hi : one.part.hi;
        against.part.lo = own ? origin.part.lo : one.part.lo;
        against.exponent = own ? origin.exponent : one.exponent;
        logarithm = log_of_scaled(scaled(two_sum(c.base, size)), against);
        logarithm.hi = size < tiny ? size - distance : logarithm.hi;
        logarithm.lo = size < tiny ? 0.0 : logarithm.lo;
        e = pair_times(logarithm, power);
        linear = logarithm.hi / c.unit;
        value = power_of_e(e, 1.0) / (power * c.unit);
        magnitude = e.hi < 0.0 ? -e.hi : e.hi;
        value = magnitude < LINEAR ? linear : value;
        value = own ? value : c.zero - value * c.slope;
        y[i] = c.sign * ((value - c.mean) / c.scale);
        exponents[i] = own ? e.hi : 0.0;
    }
}

#endif
