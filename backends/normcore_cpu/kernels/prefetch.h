/* Prefetching: memory comes into the caches before it is read.
 *
 * Groups of 16 lanes side by side are swept in bands of rows, so a processor that looks for streams
 * sees lines a row apart. Where rows are contiguous, the groups of a band prefetch what follows in
 * the order of memory, each as much as it reads; otherwise a group prefetches its own lanes.
 */
#ifndef NORMCORE_PREFETCH_H
#define NORMCORE_PREFETCH_H

#include <stddef.h>

#include "lanes.h"

#if defined(__GNUC__)
/* A function that does nothing but prefetch is dropped with its calls, unless it is inlined first. */
#define PREFETCH_INLINE static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address, 0, 2)
#else
#define PREFETCH_INLINE static inline
#define PREFETCH(address) (void)(address)
#endif

#define BANDS 4 /* of distance, where rows are contiguous */

static inline void prefetch(const void *address) { PREFETCH(address); }

/* `stride` bytes lie between rows, of 16 values of `size` bytes in each group; a band that is not
 * contiguous prefetches the rows at a `distance` from its own.
 */
PREFETCH_INLINE void prefetch_band(const void *group_rows, ptrdiff_t stride, ptrdiff_t size,
                                   ptrdiff_t band, ptrdiff_t distance, ptrdiff_t group,
                                   ptrdiff_t groups)
{
    const char *start = (const char *)group_rows;
    ptrdiff_t step = stride, row = 16 * size;
    if (stride == groups * row) {
        start += BANDS * band * stride + group * (band - 1) * row;
        step = row;
    } else
        start += distance * stride;
    for (ptrdiff_t k = 0; k < band; k++)
        for (ptrdiff_t line = 0; line < row; line += LINE) PREFETCH(start + k * step + line);
}

#endif
