/* Loops that are built once for each width of vectors, of which one is chosen when the module is
   loaded. The bits are the same: nothing is contracted or reordered. */

#ifndef NORMCORE_POWER_VECTORS_H
#define NORMCORE_POWER_VECTORS_H

#include <string.h> /* which says whether this is glibc */

/* What such loops call has to be part of them. */
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define IN_VECTORS static __attribute__((unused, target_clones("avx2", "default")))
#else
#define IN_VECTORS static inline
#endif

#endif
