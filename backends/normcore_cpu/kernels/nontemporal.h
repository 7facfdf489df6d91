/* Non-temporal stores: to memory without a detour through the caches, which spares reading a line
 * before it is written. Addresses are multiples of 16; `fence` orders the stores.
 */
#ifndef NORMCORE_NONTEMPORAL_H
#define NORMCORE_NONTEMPORAL_H

#include "lanes.h"

static inline void store_double_nontemporal(double *target, lanes_t v)
{
#if WIDTH == 8
    _mm_stream_pd(target, _mm512_extractf64x2_pd((__m512d)v, 0));
    _mm_stream_pd(target + 2, _mm512_extractf64x2_pd((__m512d)v, 1));
    _mm_stream_pd(target + 4, _mm512_extractf64x2_pd((__m512d)v, 2));
    _mm_stream_pd(target + 6, _mm512_extractf64x2_pd((__m512d)v, 3));
#elif WIDTH == 4
    _mm_stream_pd(target, _mm256_castpd256_pd128((__m256d)v));
    _mm_stream_pd(target + 2, _mm256_extractf128_pd((__m256d)v, 1));
#else
    store_double(target, v);
#endif
}

static inline void store_floats_nontemporal(float *target, floats_t v)
{
#if WIDTH == 8
    _mm_stream_ps(target, _mm256_castps256_ps128((__m256)v));
    _mm_stream_ps(target + 4, _mm256_extractf128_ps((__m256)v, 1));
#elif WIDTH == 4
    _mm_stream_ps(target, (__m128)v);
#else
    store_floats(target, v);
#endif
}

static inline void store_pack_nontemporal(float *target, pack_t v)
{
#if WIDTH == 8
    _mm_stream_ps(target, _mm512_extractf32x4_ps((__m512)v, 0));
    _mm_stream_ps(target + 4, _mm512_extractf32x4_ps((__m512)v, 1));
    _mm_stream_ps(target + 8, _mm512_extractf32x4_ps((__m512)v, 2));
    _mm_stream_ps(target + 12, _mm512_extractf32x4_ps((__m512)v, 3));
#elif WIDTH == 4
    _mm_stream_ps(target, _mm256_castps256_ps128((__m256)v));
    _mm_stream_ps(target + 4, _mm256_extractf128_ps((__m256)v, 1));
#else
    store_pack(target, v);
#endif
}

static inline void store_float_nontemporal(float *target, lanes_t v)
{
    store_floats_nontemporal(target, narrow(v));
}

static inline void fence(void)
{
#if WIDTH >= 4
    _mm_sfence();
#endif
}

#endif
