/* Logarithms of quotients, and powers of e, of numbers that are sums of two doubles.

   A power transform multiplies logarithms by a large number and raises e to that: each unit in the
   last place of the logarithm would become hundreds of them. So logarithms have some 64 bits. */

#ifndef NORMCORE_POWER_LOGARITHM_H
#define NORMCORE_POWER_LOGARITHM_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "exp_series.h"

typedef struct {
    double hi, lo;
} pair_t;

INLINE pair_t fast_two_sum(double a, double b)
{
    pair_t s;
    s.hi = a + b;
    s.lo = b - (s.hi - a);
    return s;
}

INLINE pair_t two_sum(double a, double b)
{
    pair_t s;
    double t;
    s.hi = a + b;
    t = s.hi - a;
    s.lo = (a - (s.hi - t)) + (b - t);
    return s;
}

/* Dekker's product, exact where neither factor exceeds 2^996. */
INLINE pair_t two_prod(double a, double b)
{
    pair_t p;
    double t, ah, al, bh, bl;
    t = 134217729.0 * a;
    ah = t - (t - a);
    al = a - ah;
    t = 134217729.0 * b;
    bh = t - (t - b);
    bl = b - bh;
    p.hi = a * b;
    p.lo = ((ah * bh - p.hi) + ah * bl + al * bh) + al * bl;
    return p;
}

INLINE pair_t pair_times(pair_t a, double b)
{
    pair_t p = two_prod(a.hi, b);
    return fast_two_sum(p.hi, p.lo + a.lo * b);
}

INLINE pair_t pair_over(pair_t a, pair_t b)
{
    double q = a.hi / b.hi;
    pair_t p = two_prod(q, b.hi);
    return fast_two_sum(q, ((a.hi - p.hi) - p.lo + a.lo - q * b.lo) / b.hi);
}

INLINE pair_t pair_plus(pair_t a, pair_t b)
{
    pair_t s = two_sum(a.hi, b.hi);
    return fast_two_sum(s.hi, s.lo + (a.lo + b.lo));
}

/* A positive number as a pair from 1 to 2, and the exponent of 2 that belongs to it. Where it is
   small, its second part is 0. */
typedef struct {
    pair_t part;
    double exponent;
} scaled_t;

INLINE scaled_t scaled(pair_t a)
{
    scaled_t s;
    uint64_t bits, exponent, whole, factor;
    double power;
    int small = a.hi < 0x1p-1000; /* perhaps not normal */
    a.hi *= small ? 0x1p600 : 1.0;
    memcpy(&bits, &a.hi, sizeof bits);
    exponent = bits >> 52;
    bits = (bits & 0xfffffffffffff) | 0x3ff0000000000000;
    whole = exponent | 0x4330000000000000; /* 2^52 and the exponent */
    factor = (2046 - exponent) << 52;
    memcpy(&s.part.hi, &bits, sizeof bits);
    memcpy(&s.exponent, &whole, sizeof whole);
    memcpy(&power, &factor, sizeof factor);
    s.part.lo = a.lo * power;
    s.exponent -= 4503599627371519.0 + (small ? 600.0 : 0.0);
    return s;
}

/* Return log(a / b). Both are scaled to about 1; what is left is 2 atanh(f) with
   f = (a - b) / (a + b), |f| < 0.172, of which the first two terms are pairs. */
INLINE pair_t log_of_scaled(scaled_t a, scaled_t b)
{
    double k = a.exponent - b.exponent, tail, square, factor;
    int above = a.part.hi > 1.4142135623730951 * b.part.hi;
    int below = b.part.hi > 1.4142135623730951 * a.part.hi;
    pair_t f, s, p, negative;
    factor = above ? 0.5 : below ? 2.0 : 1.0;
    k = k + (above ? 1.0 : below ? -1.0 : 0.0);
    a.part.hi *= factor;
    a.part.lo *= factor;
    negative.hi = -b.part.hi;
    negative.lo = -b.part.lo;
    f = pair_over(pair_plus(a.part, negative), pair_plus(a.part, b.part));
    s = two_prod(f.hi, f.hi);
    s = fast_two_sum(s.hi, s.lo + 2.0 * f.hi * f.lo);
    square = s.hi;
    tail = 1.0 / 23;
    tail = 1.0 / 21 + square * tail;
    tail = 1.0 / 19 + square * tail;
    tail = 1.0 / 17 + square * tail;
    tail = 1.0 / 15 + square * tail;
    tail = 1.0 / 13 + square * tail;
    tail = 1.0 / 11 + square * tail;
    tail = 1.0 / 9 + square * tail;
    tail = 1.0 / 7 + square * tail;
    tail = 1.0 / 5 + square * tail;
    tail = square * square * tail;
    p = pair_times(s, 1.0 / 3);
    p = fast_two_sum(p.hi, p.lo + s.hi * 1.850371707708594e-17 + tail);
    f.hi *= 2.0;
    f.lo *= 2.0;
    s = two_prod(f.hi, p.hi);
    s = fast_two_sum(s.hi, s.lo + f.hi * p.lo + f.lo * p.hi);
    f = pair_plus(f, s);
    s.hi = k * 0x1.62e42fefa3800p-1; /* of 42 bits, so that the product is exact */
    s.lo = k * 0x1.ef35793c76730p-45;
    return pair_plus(s, f);
}

INLINE pair_t log_quotient(pair_t a, pair_t b) { return log_of_scaled(scaled(a), scaled(b)); }

/* Return exp(a) less 1, or less 0, for a from -708, or as of that for less, to 709; no branches. */
INLINE double power_of_e(pair_t a, double less)
{
    double x = a.hi < -708.0 ? -708.0 : a.hi, k, r, p, scale;
    x = x > 709.0 ? 709.0 : x;
    k = nearest_power(x, &scale);
    r = x - k * 0x1.62e42fefa3800p-1;
    a.lo = a.hi == x ? a.lo : 0.0;
    r = r + (a.lo - k * 0x1.ef35793c76730p-45);
    p = exp_series(r);
    p = r + r * r * p;
    return scale * p + (scale - less);
}

static inline double exp_pair(pair_t a)
{
    return a.hi > -708.0 && a.hi < 709.0 ? power_of_e(a, 0.0) : exp(a.hi);
}

static inline double expm1_pair(pair_t a)
{
    return a.hi < 709.0 ? power_of_e(a, 1.0) : expm1(a.hi);
}

#endif
