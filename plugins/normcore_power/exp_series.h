/* The two steps of exp(x) that need no branch: x as k log(2) + r, and the series of exp(r). */

#ifndef NORMCORE_POWER_EXP_SERIES_H
#define NORMCORE_POWER_EXP_SERIES_H

#include <stdint.h>
#include <string.h>

#include "vectors.h"

/* Return the whole number k nearest to x / log(2), for |x| below 710, and 2**k as `scale`. */
INLINE double nearest_power(double x, double *scale)
{
    const double magic = 0x1.8p52; /* added, it rounds to a whole number in the low bits */
    double k = x * 1.4426950408889634 + magic;
    int64_t bits;
    memcpy(&bits, &k, sizeof bits);
    bits = (int64_t)((uint64_t)bits << 52) + 0x3ff0000000000000;
    memcpy(scale, &bits, sizeof *scale);
    return k - magic;
}

/* Return (exp(r) - 1 - r) / r**2, for |r| up to log(2) / 2. */
INLINE double exp_series(double r)
{
    double p = 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    return p * r + 0.5;
}

#endif
