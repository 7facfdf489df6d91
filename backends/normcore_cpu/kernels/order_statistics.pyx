# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: what follows from comparisons alone: how many values lie below, on and between brackets,
# and which values stand at some ranks. All of it goes through `sift`, which compares rows of
# values in their own dtype.

import numpy as np

cimport numpy as cnp
from libc.math cimport INFINITY, NAN, fabs, sqrt
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from normcore.threads import run

from normcore.threads.pool cimport Work

from .lanes cimport (
    LANES, LINE, WIDTH, any_set, equal, keep, lanes_t, less, load_double, longs_t, magnitude_of,
    real, splat, store_double,
)
from .prefetch cimport prefetch
from .tiling cimport (
    FLOAT, OTHER, TILE, Task, channel_of, doubles_of, gather, rows_of, rows_t, tile_t, view_of,
    view_t,
)

__all__ = [
    "brackets", "channel_values", "count_numbers", "values_at_ranks", "values_at_ranks_of_lists",
]

cnp.import_array()

include "sift.pxi"
include "kept.pxi"
include "brackets.pxi"
include "ranks.pxi"
include "selection.pxi"
