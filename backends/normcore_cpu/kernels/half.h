/* Floats of two bytes, to and from double, rounded once to nearest even; portable C99.
 *
 * Binary16 and bfloat16 differ in the bits of their fraction and in the bias of their exponent.
 * Where one choice is right for most elements and another for the rest (subnormals, what is
 * beyond the largest, NaN), all are computed and one is taken by a mask: without branches the
 * loops that convert become vector code.
 */
#ifndef NORMCORE_HALF_H
#define NORMCORE_HALF_H

#include <stdint.h>
#include <string.h>

typedef struct {
    uint16_t bits;
} half_t;
typedef struct {
    uint16_t bits;
} bfloat16_t;

#define HALF_FRACTION 10
#define HALF_BIAS 15
#define BFLOAT16_FRACTION 7
#define BFLOAT16_BIAS 127

static inline uint64_t bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double double_of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* All ones where a < b, as signed numbers: vectors have no other comparison. */
static inline uint64_t mask_less(uint64_t a, uint64_t b)
{
    return -(uint64_t)((int64_t)a < (int64_t)b);
}

static inline uint64_t take_where(uint64_t mask, uint64_t a, uint64_t b)
{
    return b ^ (mask & (a ^ b));
}

/* `units` is how many of the least subnormal make 1. */
static inline uint16_t narrowed(double value, int fraction, int bias, double units)
{
    const int lost = 52 - fraction;
    const uint64_t least_normal = (uint64_t)(1024 - bias) << 52;
    const uint64_t infinity = (uint64_t)(2 * bias + 1) << fraction;
    const uint64_t last_finite = /* what is less than halfway to the power of two beyond */
        ((uint64_t)(1024 + bias) << 52) - ((uint64_t)1 << (lost - 1)) - 1;
    uint64_t sign = bits_of_double(value) >> 48 & 0x8000u;
    uint64_t magnitude = bits_of_double(value) & 0x7fffffffffffffffu;
    /* Half a unit, less one unless odd. */
    uint64_t half_unit = ((uint64_t)1 << (lost - 1)) - 1 + (magnitude >> lost & 1);
    uint64_t normal = ((magnitude + half_unit) >> lost) - ((uint64_t)(1023 - bias) << fraction);
    /* In a sum with 2**52 the last bit counts ones. */
    uint64_t subnormal = bits_of_double(double_of_bits(magnitude) * units + 0x1p52) & 0xffffu;
    uint64_t quiet = infinity | (uint64_t)1 << (fraction - 1);
    uint64_t bits = take_where(mask_less(magnitude, least_normal), subnormal, normal);
    bits = take_where(mask_less(last_finite, magnitude), infinity, bits);
    bits = take_where(mask_less(0x7ff0000000000000u, magnitude), quiet, bits);
    return (uint16_t)(bits | sign);
}

static inline half_t double_to_half(double value)
{
    half_t h;
    h.bits = narrowed(value, HALF_FRACTION, HALF_BIAS, 0x1p24);
    return h;
}

static inline bfloat16_t double_to_bfloat16(double value)
{
    bfloat16_t b;
    b.bits = narrowed(value, BFLOAT16_FRACTION, BFLOAT16_BIAS, 0x1p133);
    return b;
}

static inline double half_to_double(half_t h)
{
    const int lost = 52 - HALF_FRACTION;
    uint64_t sign = (uint64_t)(h.bits & 0x8000u) << 48;
    uint64_t magnitude = h.bits & 0x7fffu;
    uint64_t normal = (magnitude << lost) + ((uint64_t)(1023 - HALF_BIAS) << 52);
    /* The fraction as the last bits of 2**52 + fraction, of which all is exact. */
    double fraction = double_of_bits(bits_of_double(0x1p52) | magnitude) - 0x1p52;
    uint64_t subnormal = bits_of_double(fraction * 0x1p-24);
    uint64_t infinite = magnitude << lost | 0x7ff0000000000000u;
    uint64_t bits = take_where(mask_less(magnitude, 0x0400u), subnormal, normal);
    bits = take_where(mask_less(0x7bffu, magnitude), infinite, bits);
    return double_of_bits(bits | sign);
}

/* The upper half of a float. */
static inline double bfloat16_to_double(bfloat16_t b)
{
    uint32_t bits = (uint32_t)b.bits << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
