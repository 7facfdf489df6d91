/* bfloat16, the upper half of a float, to and from double, rounded once to nearest even; C99. */
#ifndef NORMCORE_BFLOAT16_H
#define NORMCORE_BFLOAT16_H

#include <stdint.h>
#include <string.h>

typedef struct { uint16_t bits; } bfloat16_t;

static inline double bfloat16_to_double(bfloat16_t b)
{
    uint32_t bits = (uint32_t)b.bits << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* By way of float, rounded to odd: its last bit says whether anything was lost, so the second
   rounding is as if it were the only one (S. Boldo and G. Melquiond, "Emulation of a FMA and
   correctly rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers
   57, 2008). No branches, so that it becomes vector code. */
static inline bfloat16_t double_to_bfloat16(double value)
{
    bfloat16_t b;
    float narrow = (float)value;
    double back = narrow;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    /* One unit towards zero where the magnitude grew: the bits of a magnitude are in its order. */
    bits -= value < 0 ? back < value : back > value;
    bits |= back != value;
    bits = value == value ? bits + 0x7fffu + (bits >> 16 & 1u) : bits | 0x400000u;
    b.bits = (uint16_t)(bits >> 16);
    return b;
}

#endif
