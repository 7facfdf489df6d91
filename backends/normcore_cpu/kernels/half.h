/* IEEE 754 binary16 to and from double, rounded once to nearest even; portable C99. */
#ifndef NORMCORE_HALF_H
#define NORMCORE_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct { uint16_t bits; } half_t;

static inline double half_to_double(half_t h)
{
    uint64_t sign = (uint64_t)(h.bits & 0x8000u) << 48;
    uint64_t exponent = (h.bits >> 10) & 0x1fu;
    uint64_t mantissa = h.bits & 0x3ffu;
    uint64_t bits;
    double value;
    if (exponent == 0) { /* zero and subnormals: mantissa * 2**-24, exact */
        value = (double)mantissa * 0x1p-24;
        return sign ? -value : value;
    }
    exponent = exponent == 31 ? 0x7ffu : exponent + (1023 - 15);
    bits = sign | exponent << 52 | mantissa << 42;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline half_t double_to_half(double value)
{
    half_t h;
    uint64_t bits;
    double magnitude = fabs(value);
    memcpy(&bits, &value, sizeof bits);
    h.bits = (uint16_t)(bits >> 48 & 0x8000u);
    bits &= 0x7fffffffffffffffu;
    if (magnitude != magnitude) {
        h.bits |= 0x7e00u;
    } else if (magnitude >= 65520.0) { /* halfway to 2**16 rounds to infinity */
        h.bits |= 0x7c00u;
    } else if (magnitude < 0x1p-14) { /* a multiple of 2**-24 */
        h.bits |= (uint16_t)nearbyint(magnitude * 0x1p24);
    } else {
        bits += 0x1ffffffffffu + (bits >> 42 & 1); /* half a unit, less one unless odd */
        h.bits |= (uint16_t)((bits >> 42) - ((uint64_t)(1023 - 15) << 10));
    }
    return h;
}

#endif
