# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: what writes an array as large as its input: affine maps, batch norm and its backward pass,
# layer and RMS norm and theirs. Each operation is rounded once in float64 and the result once more
# to its dtype.

import numpy as np

cimport cython
cimport numpy as cnp
from libc.stdint cimport uint8_t
from libc.math cimport INFINITY, fabs, isfinite, ldexp, sqrt
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from normcore.statistics.double_double cimport dd, two_sum
from normcore.statistics cimport (
    COUNT_HI, COUNT_LO, MOMENTS_ROWS, load_moments, merged, moments_t, set_means, set_vars, std_of,
    store_moments,
)
from normcore.threads.pool cimport Work

from .lanes cimport (
    ABREAST, LANES, LINE, PACK, WIDTH, aligned, any_set, any_word, blend, choose_lanes, choose_pack,
    differing_bits, equal, fence, floats_t, lanes_t, less, less_equal, load, load_double, load_pack,
    magnitude_of, max_lanes, narrow, near_sum, real, splat, store, store_double, store_floats,
    store_floats_nontemporal, store_nontemporal, store_pack, store_pack_nontemporal, words_t,
)
from .prefetch cimport prefetch, prefetch_band
from .statistics cimport (
    BLOCK, GROUP, observe_moments, padded, row_moments, row_scale, row_scale_t, sum_lanes,
    widened_sum,
)
from .tiling cimport (
    BAND, DOUBLE, FLOAT, OTHER, PREFETCH_BYTES, TILE, Task, are_contiguous, bytes_of,
    contiguous_distance, contiguous_stride_of, copy_of, doubles_of, free_all, gather, heap_t,
    is_contiguous, is_direct, lengthen_rows, model_of, model_t, plan_t, result_like, row_stride_of,
    rows_of, rows_t, scatter, share_among, start_of, take, tile_t, view_of_rows, view_t, zero_where,
)

from normcore.threads import get_num_threads

from .statistics import moments

__all__ = [
    "backward_elemt",
    "backward_reduce",
    "normalize",
    "normalize_backward",
    "normalize_rows",
    "normalize_rows_backward",
    "rescale",
    "rescale_where",
]

cnp.import_array()

include "affine_map.pxi"
include "affine_rows.pxi"
include "rescale.pxi"
include "rescale_where.pxi"
include "lane_sums.pxi"
include "channel_vectors.pxi"
include "backward.pxi"
include "backward_reduce.pxi"
include "backward_elemt.pxi"
include "batchnorm.pxi"
include "rows.pxi"
include "row_gradients.pxi"
include "rows_backward.pxi"
include "long_rows.pxi"
include "without_python.pxi"
