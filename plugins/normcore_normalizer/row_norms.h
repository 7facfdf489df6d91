/* Norms of rows, and rows divided by them. */
#ifndef NORMCORE_ROW_NORMS_H
#define NORMCORE_ROW_NORMS_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* glibc chooses among the builds of a function when the module is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("default", "avx2")))
#else
#define CLONES
#endif

/* Into each of those builds. */
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* A result may be written over its input, element by element. */
#if defined(__GNUC__) && !defined(__clang__)
#define IVDEP _Pragma("GCC ivdep")
#else
#define IVDEP
#endif

enum norm_kind { MAX, L1, L2 };

enum {
    LANES = 16,
    BLOCK = 128, /* elements whose sum no more than 8 additions a lane round */
};

/* Between these no square that matters has lost digits, and no sum has overflowed. */
#define LEAST_SQUARE 0x1p-900
#define MOST_SQUARE 0x1p1000

/* Adds to a sum of two parts: what the rounding of the first drops goes to the second. */
static inline void add(double *total, double *rest, double term)
{
    double sum = *total + term, part = sum - *total;
    *rest += (*total - (sum - part)) + (term - part);
    *total = sum;
}

static inline void stream(void *target, const void *source, size_t size)
{
#if defined(__SSE2__)
    for (size_t i = 0; i < size; i += 16)
        _mm_stream_si128((__m128i *)((char *)target + i),
                         _mm_loadu_si128((const __m128i *)((const char *)source + i)));
#else
    memcpy(target, source, size);
#endif
}

static inline void fence(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

static const int64_t sign_double = INT64_MIN;
static const int32_t sign_float = INT32_MIN;

#define REAL double
#define BITS int64_t
#define NAME(function) function##_double
#define DIVIDE(x) ((x) / norm)
#include "rows.h"

/* A quotient of float32 is rounded once more, far beyond what a reciprocal loses of it. */
#define REAL float
#define BITS int32_t
#define NAME(function) function##_float
#define DIVIDE(x) ((double)(x) * inverse)
#include "rows.h"

#endif
