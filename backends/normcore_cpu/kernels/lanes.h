/* Vectors of float64 lanes, as wide as the instruction set has them.
 *
 * lanes_t holds WIDTH float64 and longs_t as many uint64; arithmetic is written with operators,
 * which compilers have for vectors as for plain numbers: without vectors, a lane is a double and
 * everything reads the same. Each lane is rounded by itself, so the width never shows in the
 * bits. What operators cannot say, or compilers say badly, stands below.
 */
#ifndef NORMCORE_LANES_H
#define NORMCORE_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define WIDTH 8
#elif defined(__AVX2__)
#include <immintrin.h>
#define WIDTH 4
#elif defined(__GNUC__) && (defined(__SSE2__) || defined(__ARM_NEON))
#define WIDTH 2
#else
#define WIDTH 1
#endif

enum {
    LANES = 16, /* of a row that kernels see */
    LINE = 64,  /* bytes of a line of the caches, which also holds the widest vector */
};

#if WIDTH > 1
typedef double lanes_t __attribute__((vector_size(8 * WIDTH)));
typedef uint64_t longs_t __attribute__((vector_size(8 * WIDTH)));
typedef float floats_t __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t words_t __attribute__((vector_size(4 * WIDTH)));
typedef float pack_t __attribute__((vector_size(8 * WIDTH)));
typedef uint32_t packed_t __attribute__((vector_size(8 * WIDTH)));
#define PACK (2 * WIDTH)
#define ABREAST (WIDTH == 8 ? 2 : 4) /* vectors of a row whose sums stay in registers */
#else
typedef double lanes_t;
typedef uint64_t longs_t;
typedef float floats_t;
typedef uint32_t words_t;
typedef float pack_t;
typedef uint32_t packed_t;
#define PACK 1
#define ABREAST 4
#endif

/* The first whole line of memory that is a line longer than needed. */
static inline double *aligned(void *memory)
{
    return (double *)(((uintptr_t)memory + LINE - 1) / LINE * LINE);
}

static inline lanes_t splat(double value)
{
    lanes_t zero = {0};
    return value - zero; /* -0.0 stays */
}

static inline longs_t splat_long(uint64_t value)
{
    longs_t zero = {0};
    return zero + value;
}

/* Loads and stores need no alignment beyond the element's. */

static inline lanes_t load_double(const double *source)
{
    lanes_t v;
    memcpy(&v, source, sizeof v);
    return v;
}

static inline void store_double(double *target, lanes_t v) { memcpy(target, &v, sizeof v); }

static inline longs_t load_long(const uint64_t *source)
{
    longs_t v;
    memcpy(&v, source, sizeof v);
    return v;
}

static inline void store_long(uint64_t *target, longs_t v) { memcpy(target, &v, sizeof v); }

static inline floats_t load_floats(const float *source)
{
    floats_t v;
    memcpy(&v, source, sizeof v);
    return v;
}

static inline lanes_t widen(floats_t v)
{
#if WIDTH == 8
    return (lanes_t)_mm512_cvtps_pd((__m256)v);
#elif WIDTH == 4
    return (lanes_t)_mm256_cvtps_pd((__m128)v);
#elif WIDTH == 2
    return __builtin_convertvector(v, lanes_t);
#else
    return v;
#endif
}

static inline lanes_t load_float(const float *source) { return widen(load_floats(source)); }

static inline floats_t narrow(lanes_t v)
{
#if WIDTH == 8
    return (floats_t)_mm512_cvtpd_ps((__m512d)v);
#elif WIDTH == 4
    return (floats_t)_mm256_cvtpd_ps((__m256d)v);
#elif WIDTH == 2
    return __builtin_convertvector(v, floats_t);
#else
    return (float)v;
#endif
}

static inline void store_floats(float *target, floats_t v) { memcpy(target, &v, sizeof v); }
static inline void store_float(float *target, lanes_t v) { store_floats(target, narrow(v)); }

/* The bits of a vector as integers. */

static inline longs_t bits_of(lanes_t v)
{
    longs_t r;
    memcpy(&r, &v, sizeof r);
    return r;
}

static inline lanes_t from_bits(longs_t v)
{
    lanes_t r;
    memcpy(&r, &v, sizeof r);
    return r;
}

/* The bits in which float32 values differ, to be gathered and looked at together. */

static inline words_t differing_bits(floats_t a, floats_t b)
{
    words_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return x ^ y;
}

static inline int any_word(words_t bits)
{
#if WIDTH == 8
    return _mm256_test_epi32_mask((__m256i)bits, (__m256i)bits) != 0;
#elif WIDTH == 4
    return !_mm_testz_si128((__m128i)bits, (__m128i)bits);
#elif WIDTH == 2
    return (bits[0] | bits[1]) != 0;
#else
    return bits != 0;
#endif
}

static inline lanes_t signed_to_double(longs_t v)
{
#if WIDTH == 8
    return (lanes_t)_mm512_cvtepi64_pd((__m512i)v);
#elif WIDTH > 1
    typedef int64_t signed_t __attribute__((vector_size(8 * WIDTH)));
    return __builtin_convertvector((signed_t)v, lanes_t);
#else
    return (double)(int64_t)v;
#endif
}

/* Comparisons are masks: all bits of a lane, or none. NaN compares as numbers do, false. */

#if WIDTH > 1
static inline longs_t less(lanes_t a, lanes_t b) { return (longs_t)(a < b); }
static inline longs_t less_equal(lanes_t a, lanes_t b) { return (longs_t)(a <= b); }
static inline longs_t equal(lanes_t a, lanes_t b) { return (longs_t)(a == b); }
#else
static inline longs_t less(lanes_t a, lanes_t b) { return -(longs_t)(a < b); }
static inline longs_t less_equal(lanes_t a, lanes_t b) { return -(longs_t)(a <= b); }
static inline longs_t equal(lanes_t a, lanes_t b) { return -(longs_t)(a == b); }
#endif

static inline lanes_t keep(longs_t mask, lanes_t v) { return from_bits(mask & bits_of(v)); }

/* a where the mask is set, b elsewhere */
static inline lanes_t blend(longs_t mask, lanes_t a, lanes_t b)
{
#if WIDTH == 8
    return (lanes_t)_mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)mask), (__m512d)b,
                                         (__m512d)a);
#elif WIDTH == 4
    return (lanes_t)_mm256_blendv_pd((__m256d)b, (__m256d)a, (__m256d)mask);
#else
    return from_bits((mask & bits_of(a)) | (~mask & bits_of(b)));
#endif
}

/* a < b ? a : b and a > b ? a : b: b where one of them is NaN */

static inline lanes_t min_lanes(lanes_t a, lanes_t b)
{
#if WIDTH == 8
    return (lanes_t)_mm512_min_pd((__m512d)a, (__m512d)b);
#elif WIDTH == 4
    return (lanes_t)_mm256_min_pd((__m256d)a, (__m256d)b);
#else
    return blend(less(a, b), a, b);
#endif
}

static inline lanes_t max_lanes(lanes_t a, lanes_t b)
{
#if WIDTH == 8
    return (lanes_t)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif WIDTH == 4
    return (lanes_t)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
    return blend(less(b, a), a, b);
#endif
}

/* a * b + c, rounded once or twice: for what is to be near the result only. */
static inline lanes_t near_sum(lanes_t a, lanes_t b, lanes_t c)
{
#if WIDTH == 8
    return (lanes_t)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif WIDTH == 4 && defined(__FMA__)
    return (lanes_t)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

static inline lanes_t magnitude_of(lanes_t v)
{
    return from_bits(bits_of(v) & splat_long(INT64_MAX));
}

static inline int any_set(longs_t mask)
{
#if WIDTH == 8
    return _mm512_movepi64_mask((__m512i)mask) != 0;
#elif WIDTH == 4
    return _mm256_movemask_pd((__m256d)mask) != 0;
#elif WIDTH == 2
    return (mask[0] | mask[1]) != 0;
#else
    return mask != 0;
#endif
}

/* As many float32 as there is room for, PACK of them. Their counters are 32 bits wide. */

static inline pack_t splat_pack(float value)
{
    pack_t zero = {0};
    return value - zero;
}

static inline pack_t load_pack(const float *source)
{
    pack_t v;
    memcpy(&v, source, sizeof v);
    return v;
}

static inline void store_pack(float *target, pack_t v) { memcpy(target, &v, sizeof v); }

static inline pack_t blend_pack(packed_t mask, pack_t a, pack_t b)
{
#if WIDTH > 1
    return (pack_t)((mask & (packed_t)a) | (~mask & (packed_t)b));
#else
    return mask ? a : b;
#endif
}

static inline pack_t min_pack(pack_t a, pack_t b)
{
#if WIDTH == 8
    return (pack_t)_mm512_min_ps((__m512)a, (__m512)b);
#elif WIDTH == 4
    return (pack_t)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return blend_pack((packed_t)(a < b), a, b);
#endif
}

static inline pack_t max_pack(pack_t a, pack_t b)
{
#if WIDTH == 8
    return (pack_t)_mm512_max_ps((__m512)a, (__m512)b);
#elif WIDTH == 4
    return (pack_t)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return blend_pack((packed_t)(a > b), a, b);
#endif
}

/* a where a byte of the mask is set, b elsewhere, as bits: for float64 lanes and for packs. */

static inline lanes_t choose_lanes(const uint8_t *mask, lanes_t a, lanes_t b)
{
#if WIDTH == 8
    __m128i set = _mm_loadl_epi64((const __m128i *)mask);
    return (lanes_t)_mm512_mask_blend_pd((__mmask8)_mm_test_epi8_mask(set, set), (__m512d)b,
                                         (__m512d)a);
#elif WIDTH == 4
    int32_t four;
    memcpy(&four, mask, sizeof four);
    __m256i clear =
        _mm256_cmpeq_epi64(_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four)), _mm256_setzero_si256());
    return (lanes_t)_mm256_blendv_pd((__m256d)a, (__m256d)b, (__m256d)clear);
#elif WIDTH == 2
    longs_t set = {-(uint64_t)(mask[0] != 0), -(uint64_t)(mask[1] != 0)};
    return blend(set, a, b);
#else
    return mask[0] ? a : b;
#endif
}

static inline pack_t choose_pack(const uint8_t *mask, pack_t a, pack_t b)
{
#if WIDTH == 8
    __m128i set = _mm_loadu_si128((const __m128i *)mask);
    return (pack_t)_mm512_mask_blend_ps(_mm_test_epi8_mask(set, set), (__m512)b, (__m512)a);
#elif WIDTH == 4
    __m256i clear = _mm256_cmpeq_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)mask)),
                                       _mm256_setzero_si256());
    return (pack_t)_mm256_blendv_ps((__m256)a, (__m256)b, (__m256)clear);
#elif WIDTH == 2
    packed_t set;
    for (int i = 0; i < PACK; i++) set[i] = -(uint32_t)(mask[i] != 0);
    return blend_pack(set, a, b);
#else
    return mask[0] ? a : b;
#endif
}

/* One more in the counters of the lanes that hold numbers. */
static inline longs_t count_pack(longs_t count, pack_t v)
{
#if WIDTH > 1
    return (longs_t)((packed_t)count - (packed_t)(v == v));
#else
    return count + (v == v);
#endif
}

static inline packed_t load_packed(const uint32_t *source)
{
    packed_t v;
    memcpy(&v, source, sizeof v);
    return v;
}

static inline void store_packed(uint32_t *target, packed_t v) { memcpy(target, &v, sizeof v); }

/* The min_lanes of what is there and twice the bits of float32 values, less 1: so the sign does not
 * count, and 0 is the largest.
 */
static inline packed_t min_bits(packed_t least, const float *source)
{
    packed_t v;
    memcpy(&v, source, sizeof v);
    v = v + v - 1;
#if WIDTH == 8
    return (packed_t)_mm512_min_epu32((__m512i)least, (__m512i)v);
#elif WIDTH == 4
    return (packed_t)_mm256_min_epu32((__m256i)least, (__m256i)v);
#elif WIDTH == 2
    packed_t less = (packed_t)(v < least);
    return (v & less) | (least & ~less);
#else
    return v < least ? v : least;
#endif
}

/* Whether a < b in some lane. */
static inline int any_below(packed_t a, packed_t b)
{
#if WIDTH == 8
    return _mm512_cmplt_epu32_mask((__m512i)a, (__m512i)b) != 0;
#elif WIDTH > 1
    packed_t below = (packed_t)(a < b);
    uint64_t parts[WIDTH];
    uint64_t any = 0;
    memcpy(parts, &below, sizeof below);
    for (int i = 0; i < WIDTH; i++) any |= parts[i];
    return any != 0;
#else
    return a < b;
#endif
}

#endif
