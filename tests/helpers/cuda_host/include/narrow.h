/* A binary floating format of 16 bits: to double exactly, from double rounded to nearest even. */
#pragma once
#include <math.h>
#include <stdint.h>

namespace cuda_host {

template <int EXPONENT_BITS, int MANTISSA_BITS> struct Narrow {
    static constexpr int BIAS = (1 << (EXPONENT_BITS - 1)) - 1;
    static constexpr int LEAST = 1 - BIAS - MANTISSA_BITS; // exponent of the least subnormal
    static constexpr unsigned SPECIAL = (1u << EXPONENT_BITS) - 1;
    uint16_t bits;

    Narrow() = default;

    static Narrow of(unsigned bits)
    {
        Narrow narrow;
        narrow.bits = uint16_t(bits);
        return narrow;
    }

    explicit Narrow(double value)
    {
        unsigned sign = unsigned(signbit(value) != 0) << 15;
        double magnitude = fabs(value);
        int exponent;
        frexp(magnitude, &exponent); // magnitude < 2**exponent
        int unit = exponent - 1 - MANTISSA_BITS;
        if (unit < LEAST || magnitude == 0) unit = LEAST;
        if (isnan(value)) {
            bits = uint16_t(0x7fff);
        } else if (isinf(value) || exponent - 1 > BIAS) {
            bits = uint16_t(sign | SPECIAL << MANTISSA_BITS);
        } else {
            // Subnormals have `unit == LEAST` and no implicit bit; carries move up by themselves.
            unsigned mantissa = unsigned(nearbyint(ldexp(magnitude, -unit)));
            bits = uint16_t(sign | ((unsigned(unit - LEAST) << MANTISSA_BITS) + mantissa));
        }
    }

    double to_double() const
    {
        unsigned exponent = bits >> MANTISSA_BITS & SPECIAL;
        unsigned mantissa = bits & ((1u << MANTISSA_BITS) - 1);
        double magnitude = exponent == SPECIAL ? (mantissa ? double(NAN) : double(INFINITY))
                           : exponent == 0     ? ldexp(mantissa, LEAST)
                                               : ldexp(mantissa | 1u << MANTISSA_BITS,
                                                       int(exponent) - 1 + LEAST);
        return bits >> 15 ? -magnitude : magnitude;
    }

    explicit operator double() const { return to_double(); }
    explicit operator float() const { return float(to_double()); }
};

} // namespace cuda_host
