/* exp(x) without branches or tables, so that compilers make vectors of loops over it: within 2 units
   in the last place, from exp(-708) on, and that for less. */

#ifndef NORMCORE_POWER_EXPONENTIAL_H
#define NORMCORE_POWER_EXPONENTIAL_H

#include <stdint.h>
#include <string.h>

#include "vectors.h"

INLINE double quick_exp(double x) {
    const double magic = 0x1.8p52;  /* added, it rounds to a whole number in the low bits */
    double k, r, p, scale;
    int64_t bits;
    x = x < -708.0 ? -708.0 : x;
    x = x > 709.0 ? 709.0 : x;
    k = x * 1.4426950408889634 + magic;
    memcpy(&bits, &k, sizeof bits);
    k -= magic;
    r = (x - k * 0x1.62e42fefa3800p-1) - k * 0x1.ef35793c76730p-45;
    bits = (int64_t) ((uint64_t) bits << 52) + 0x3ff0000000000000;
    memcpy(&scale, &bits, sizeof scale);
    p = 1.0 / 6227020800 ;
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
    p = p * r + 0.5;
    p = p * r + 1.0;
    return (p * r + 1.0) * scale;
}

/* Fill in powers, less 1 and over the power, and their derivatives by the power, of logarithms;
   all times exp(-shift), which is `one`. `over` is 1 over the power. */
IN_VECTORS void powers(const double* restrict logs, int count, double power, double shift,
                          double one, double over, double* restrict value,
                          double* restrict derivative) {
    for (int i = 0; i < count; i++) {
        double e = quick_exp(power * logs[i] - shift);
        double p = (e - one) * over;
        value[i] = p;
        derivative[i] = (logs[i] * e - p) * over;
    }
}

#endif
