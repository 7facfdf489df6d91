/* exp(x) without branches or tables, so that compilers make vectors of loops over it: within 2 units
   in the last place, from exp(-708) on, and that for less. */

#ifndef NORMCORE_POWER_EXPONENTIAL_H
#define NORMCORE_POWER_EXPONENTIAL_H

#include "exp_series.h"

INLINE double quick_exp(double x)
{
    double k, r, p, scale;
    x = x < -708.0 ? -708.0 : x;
    x = x > 709.0 ? 709.0 : x;
    k = nearest_power(x, &scale);
    r = (x - k * 0x1.62e42fefa3800p-1) - k * 0x1.ef35793c76730p-45;
    p = exp_series(r);
    p = p * r + 1.0;
    return (p * r + 1.0) * scale;
}

/* Fill in powers, less 1 and over the power, and their derivatives by the power, of logarithms;
   all times exp(-shift), which is `one`. `over` is 1 over the power. */
IN_VECTORS void powers(const double *restrict logs, int count, double power, double shift,
                       double one, double over, double *restrict value, double *restrict derivative)
{
    for (int i = 0; i < count; i++) {
        double e = quick_exp(power * logs[i] - shift);
        double p = (e - one) * over;
        value[i] = p;
        derivative[i] = (logs[i] * e - p) * over;
    }
}

#endif
