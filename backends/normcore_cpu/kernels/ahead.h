/* Asking for memory before it is read.
 *
 * Groups of 16 lanes side by side are swept in bands of rows, so a processor that looks for streams
 * sees lines a row apart. Where rows are dense, the groups of a band ask for what follows in the
 * order of memory, each for as much as it reads; otherwise a group asks for its own lanes.
 */
#ifndef NORMCORE_AHEAD_H
#define NORMCORE_AHEAD_H

#include <stddef.h>

#include "lanes.h"

#if defined(__GNUC__)
/* A function that does nothing but prefetch is dropped with its calls, unless it is inlined first. */
#define ASK_INLINE static inline __attribute__((always_inline))
#define ASK(address) __builtin_prefetch(address, 0, 2)
#else
#define ASK_INLINE static inline
#define ASK(address) (void)(address)
#endif

#define BANDS 4 /* ahead, where they are dense */

/* `stride` bytes lie between rows, of 16 values of `size` bytes in each group; the rows of a band
 * that is not dense are asked for `ahead` rows before.
 */
ASK_INLINE void ask_ahead(const void *group_rows, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t band,
                          ptrdiff_t ahead, ptrdiff_t group, ptrdiff_t groups)
{
    const char *start = (const char *)group_rows;
    ptrdiff_t step = stride, row = 16 * size;
    if (stride == groups * row) {
        start += BANDS * band * stride + group * (band - 1) * row;
        step = row;
    } else
        start += ahead * stride;
    for (ptrdiff_t k = 0; k < band; k++)
        for (ptrdiff_t line = 0; line < row; line += LINE)
            ASK(start + k * step + line);
}

#endif
