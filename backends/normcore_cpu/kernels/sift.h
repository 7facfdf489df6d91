/* Comparing rows of 16 values with bounds, in their own dtype and in the widest vectors.
 *
 * lanes.h widens float32 to float64; here nothing is computed but comparisons, which are as exact
 * in float32 and twice as fast. Everything is written once in a macro for both dtypes; without
 * vectors, a vector is one number.
 */
#ifndef NORMCORE_SIFT_H
#define NORMCORE_SIFT_H

#include <stddef.h>

#include "prefetch.h"

#define SIFT_ROWS 256
#define SIFT_WORDS (SIFT_ROWS / 4)
#define FEW 128
/* `positions` writes up to three indices more than it finds. */
#define SIFT_INDICES (16 * SIFT_ROWS + 4)

/* The values, the masks that comparisons give, and as many counters as there are values. */
#if WIDTH == 8
typedef __m512 float_values;
typedef __m512d double_values;
typedef __mmask16 float_mask;
typedef __mmask8 double_mask;
#elif WIDTH > 1
typedef float float_values __attribute__((vector_size(8 * WIDTH)));
typedef double double_values __attribute__((vector_size(8 * WIDTH)));
typedef uint32_t float_mask __attribute__((vector_size(8 * WIDTH)));
typedef uint64_t double_mask __attribute__((vector_size(8 * WIDTH)));
#else
typedef float float_values;
typedef double double_values;
typedef uint32_t float_mask;
typedef uint64_t double_mask;
#endif

#if WIDTH > 1
typedef uint32_t float_counts __attribute__((vector_size(8 * WIDTH)));
typedef uint64_t double_counts __attribute__((vector_size(8 * WIDTH)));
#else
typedef uint32_t float_counts;
typedef uint64_t double_counts;
#endif

#if WIDTH == 8
#define COMPARISON(name, operator, code) \
    static inline float_mask float_##name(float_values a, float_values b) \
    { \
        return _mm512_cmp_ps_mask(a, b, code); \
    } \
    static inline double_mask double_##name(double_values a, double_values b) \
    { \
        return _mm512_cmp_pd_mask(a, b, code); \
    }
#elif WIDTH > 1
#define COMPARISON(name, operator, code) \
    static inline float_mask float_##name(float_values a, float_values b) \
    { \
        return (float_mask)(a operator b); \
    } \
    static inline double_mask double_##name(double_values a, double_values b) \
    { \
        return (double_mask)(a operator b); \
    }
#else
#define COMPARISON(name, operator, code) \
    static inline float_mask float_##name(float a, float b) \
    { \
        return -(float_mask)(a operator b); \
    } \
    static inline double_mask double_##name(double a, double b) \
    { \
        return -(double_mask)(a operator b); \
    }
#endif

COMPARISON(at_least, >=, _CMP_GE_OQ)
COMPARISON(above, >, _CMP_GT_OQ)
COMPARISON(at_most, <=, _CMP_LE_OQ)
COMPARISON(under, <, _CMP_LT_OQ)

static inline float_counts float_counted(float_counts counts, float_mask mask)
{
#if WIDTH == 8
    return (float_counts)_mm512_mask_sub_epi32((__m512i)counts, mask, (__m512i)counts,
                                               _mm512_set1_epi32(-1));
#else
    return counts - mask;
#endif
}

static inline double_counts double_counted(double_counts counts, double_mask mask)
{
#if WIDTH == 8
    return (double_counts)_mm512_mask_sub_epi64((__m512i)counts, mask, (__m512i)counts,
                                                _mm512_set1_epi64(-1));
#else
    return counts - mask;
#endif
}

static inline float_values float_all(float value)
{
#if WIDTH == 8
    return _mm512_set1_ps(value);
#else
    float_values zero = {0};
    return zero + value;
#endif
}

static inline double_values double_all(double value)
{
#if WIDTH == 8
    return _mm512_set1_pd(value);
#else
    double_values zero = {0};
    return zero + value;
#endif
}

/* The mask as one bit a value. */

static inline uint64_t float_bits_of(float_mask mask)
{
#if WIDTH == 8
    return mask;
#elif WIDTH == 4
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#elif WIDTH == 2
    return (mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4) | (mask[3] & 8);
#else
    return mask & 1;
#endif
}

static inline uint64_t double_bits_of(double_mask mask)
{
#if WIDTH == 8
    return mask;
#elif WIDTH == 4
    return (uint32_t)_mm256_movemask_pd((__m256d)mask);
#elif WIDTH == 2
    return (mask[0] & 1) | (mask[1] & 2);
#else
    return mask & 1;
#endif
}

/* The rows are at most SIFT_ROWS. Bounds are four rows: `at least`, `above`, `at most`, `under`.
 *
 * sift adds to the first row of counters how many values of each lane are at least the first
 * bound. Bit 16 * (row % 4) + lane of word row / 4 says whether a value is that and at most the
 * third bound. Where it is strict, the bits say whether a value is above the second bound and
 * under the fourth, and what the others would have set besides is counted in the second row of
 * counters, for the lower end, and in the third. A NaN is nothing of this.
 *
 * all_finite returns whether there is neither NaN nor infinity, and copies the rows, one after
 * another, where a copy is wanted. As many rows from `prefetch_start` on,
 * `prefetch_stride` bytes from each other, are prefetched.
 *
 * order_few sorts at most FEW numbers, in an array of FEW, by counting for each how many are less;
 * of equal ones, the first one's place is found so, and the places after it are filled.
 */
#define SIFT(type) \
    static inline void type##_sift(const type *x, ptrdiff_t stride, ptrdiff_t rows, \
                                   const type *bounds, int strict, uint32_t *counts, \
                                   uint64_t *words) \
    { \
        enum { VALUES = sizeof(type##_values) / sizeof(type) }; \
        for (int lane = 0; lane < 16; lane += VALUES) { \
            type##_values at_least, above, at_most, under, v; \
            type##_counts from = {0}, on_lower = {0}, on_upper = {0}; \
            type##_mask mask, inside; \
            memcpy(&at_least, bounds + lane, sizeof at_least); \
            memcpy(&above, bounds + 16 + lane, sizeof above); \
            memcpy(&at_most, bounds + 32 + lane, sizeof at_most); \
            memcpy(&under, bounds + 48 + lane, sizeof under); \
            for (ptrdiff_t row = 0; row < rows; row += 4) { \
                uint64_t word = 0; \
                const type *p = x + row * stride + lane; \
                int count = rows - row < 4 ? (int)(rows - row) : 4; \
                if (count == 4) { \
                    for (int k = 0; k < 4; k++) { \
                        SIFT_ROW(type) \
                    } \
                } else { \
                    for (int k = 0; k < count; k++) { \
                        SIFT_ROW(type) \
                    } \
                } \
                words[row / 4] = (lane ? words[row / 4] : 0) | word << lane; \
            } \
            for (int i = 0; i < VALUES; i++) { \
                counts[lane + i] += (uint32_t)((const type##_counter *)&from)[i]; \
            } \
            for (int i = 0; strict && i < VALUES; i++) { \
                counts[16 + lane + i] += (uint32_t)((const type##_counter *)&on_lower)[i]; \
                counts[32 + lane + i] += (uint32_t)((const type##_counter *)&on_upper)[i]; \
            } \
        } \
    } \
\
    static inline int type##_all_finite(const type *x, ptrdiff_t stride, ptrdiff_t rows, \
                                        const char *prefetch_start, ptrdiff_t prefetch_stride, \
                                        type *copy) \
    { \
        enum { VALUES = sizeof(type##_values) / sizeof(type) }; \
        type sums[16]; \
        for (int lane = 0; lane < 16; lane += VALUES) { \
            type##_values even = {0}, odd = {0}, v, w; \
            ptrdiff_t row = 0; \
            for (; row + 1 < rows; row += 2) { \
                const type *p = x + row * stride + lane; \
                if (lane * sizeof(type) % LINE == 0) { \
                    prefetch(prefetch_start + row * prefetch_stride + lane * sizeof(type)); \
                    prefetch(prefetch_start + (row + 1) * prefetch_stride + lane * sizeof(type)); \
                } \
                memcpy(&v, p, sizeof v); \
                memcpy(&w, p + stride, sizeof w); \
                even = even + (v - v); \
                odd = odd + (w - w); \
                if (copy) { \
                    memcpy(copy + 16 * row + lane, &v, sizeof v); \
                    memcpy(copy + 16 * row + 16 + lane, &w, sizeof w); \
                } \
            } \
            if (row < rows) { \
                memcpy(&v, x + row * stride + lane, sizeof v); \
                even = even + (v - v); \
                if (copy) memcpy(copy + 16 * row + lane, &v, sizeof v); \
            } \
            even = even + odd; \
            memcpy(sums + lane, &even, sizeof even); \
        } \
        for (int lane = 1; lane < 16; lane++) sums[0] += sums[lane]; \
        return sums[0] == 0; \
    } \
\
    static inline void type##_order_few(const type *x, int count, type *ordered) \
    { \
        enum { VALUES = sizeof(type##_values) / sizeof(type) }; \
        type##_counter ranks[FEW]; \
        unsigned char taken[FEW] = {0}; \
        for (int i = 0; i < count; i += 2 * VALUES) { \
            type##_values v, w, other; \
            type##_counts before_v = {0}, before_w = {0}; \
            memcpy(&v, x + i, sizeof v); \
            memcpy(&w, x + i + VALUES, sizeof w); \
            for (int j = 0; j < count; j++) { \
                other = type##_all(x[j]); \
                before_v = type##_counted(before_v, type##_above(v, other)); \
                before_w = type##_counted(before_w, type##_above(w, other)); \
            } \
            memcpy(ranks + i, &before_v, sizeof before_v); \
            memcpy(ranks + i + VALUES, &before_w, sizeof before_w); \
        } \
        for (int i = 0; i < count; i++) { \
            ordered[ranks[i]] = x[i]; \
            taken[ranks[i]] = 1; \
        } \
        for (int i = 1; i < count; i++) ordered[i] = taken[i] ? ordered[i] : ordered[i - 1]; \
    }

#define SIFT_ROW(type) \
    memcpy(&v, p + k * stride, sizeof v); \
    mask = type##_at_least(v, at_least); \
    from = type##_counted(from, mask); \
    if (strict) { \
        inside = type##_above(v, above); \
        on_lower = type##_counted(on_lower, mask & ~inside); \
        mask = inside & type##_at_most(v, at_most); \
        inside = mask & type##_under(v, under); \
        on_upper = type##_counted(on_upper, mask & ~inside); \
    } else { \
        inside = mask & type##_at_most(v, at_most); \
    } \
    word |= type##_bits_of(inside) << (16 * k);

typedef uint32_t float_counter;
typedef uint64_t double_counter;

SIFT(float)
SIFT(double)

static inline int number_of_bits(uint64_t word)
{
#if defined(__GNUC__)
    return __builtin_popcountll(word);
#else
    int count = 0;
    for (; word; word &= word - 1) count++;
    return count;
#endif
}

static inline int lowest_bit(uint64_t word)
{
#if defined(__GNUC__)
    return __builtin_ctzll(word | (uint64_t)1 << 63);
#else
    int bit = 0;
    while (bit < 63 && !(word >> bit & 1)) bit++;
    return bit;
#endif
}

/* Write the indices, 16 * row + lane, of what the words have set, in order; return how many.
 *
 * Four at a time, though fewer may be there: a loop that ends after an unforeseeable number of
 * steps costs more than the steps.
 */
static inline ptrdiff_t positions(const uint64_t *words, ptrdiff_t rows, uint16_t *indices)
{
    ptrdiff_t found = 0;
    for (ptrdiff_t i = 0; i < (rows + 3) / 4; i++) {
        uint64_t word = words[i];
        ptrdiff_t next = found;
        found += number_of_bits(word);
        do {
            for (int k = 0; k < 4; k++) {
                indices[next++] = (uint16_t)(64 * i + lowest_bit(word));
                word &= word - 1;
            }
        } while (word);
    }
    return found;
}

#endif
