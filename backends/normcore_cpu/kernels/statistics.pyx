# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: what is found by one walk over an array: moments and extrema of channels, and the moments
# of rows for the normalization of samples.

import numpy as np

from libc.math cimport INFINITY, NAN, fabs, frexp, isfinite, ldexp
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from normcore.statistics.double_double cimport (
    dd, dd_add, dd_div, dd_mul, dd_sub, fast_two_sum, two_prod, two_sum,
)
from normcore.statistics cimport (
    COUNT_HI, M2_HI, M2_LO, MOMENTS_ROWS, load_moments, merged, moments_t, store_moments,
)

from .lanes cimport (
    LANES, LINE, PACK, WIDTH, aligned, any_below, any_set, bits_of, blend, count_pack, equal, keep,
    lanes_t, less_equal, load, load_double, load_float, load_long, load_pack, load_packed, longs_t,
    magnitude_of, max_lanes, max_pack, min_bits, min_lanes, min_pack, pack_t, packed_t, real,
    signed_to_double, splat, splat_long, store_double, store_long, store_pack, store_packed,
)
from .prefetch cimport prefetch, prefetch_band
from .tiling cimport (
    BAND, FLOAT, MAX_ROWS, TILE, Task, contiguous_distance, copy_of, doubles_of, free_all, gather,
    model_of, model_t, row_stride_of, rows_of, rows_t, set_rows, start_of, tile_t, view_t,
)

__all__ = ["extrema", "moments"]

include "tile_moments.pxi"
include "row_moments.pxi"
include "running.pxi"
include "first_look.pxi"
include "running_totals.pxi"
include "running_sums.pxi"
include "moments.pxi"
include "extrema.pxi"
