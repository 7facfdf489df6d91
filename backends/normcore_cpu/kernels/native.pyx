# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: float32 arrays in native precision, for arrays that the caches hold. Sums are plain
# float64 ones about a pivot, of eight lanes that take every eighth position of a channel, in order,
# and that are added up in pairs: whichever way an array lies in memory, and whatever the width of
# vectors. Elements are mapped in float32, with the parts of coefficients that float32 does not
# hold in numbers of their own. A thread takes some channels, or some rows, observes them and maps
# them while its caches hold them.

import numpy as np

cimport cython
cimport numpy as cnp
from libc.math cimport INFINITY, fabs, fabsf, isfinite, sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from normcore.statistics.double_double cimport two_prod
from normcore.statistics cimport (
    COUNT_HI, COUNT_LO, MOMENTS_ROWS, load_moments, moments_t, set_means, set_vars, std_of,
    store_moments,
)
from normcore.threads.pool cimport Work

from normcore.threads import get_num_threads

from .lanes cimport (
    LANES, PACK, WIDTH, fence, lanes_t, load_double, load_float, load_pack, pack_t, splat,
    splat_pack, store_double, store_pack, store_pack_nontemporal,
)
from .prefetch cimport prefetch
from .statistics cimport row_scale, row_scale_t
from .tiling cimport FLOAT, doubles_of, result_like, share, view_of, view_of_rows, view_t

__all__ = [
    "native_backward_elemt",
    "native_backward_reduce",
    "native_moments",
    "native_normalize",
    "native_normalize_backward",
    "native_normalize_rows",
    "native_normalize_rows_backward",
    "native_rescale",
]

cnp.import_array()

include "affine_map.pxi"
include "channel_vectors.pxi"
include "native_sums.pxi"
include "native_channels.pxi"
include "native_maps.pxi"
include "native_batchnorm.pxi"
include "native_rows.pxi"
include "native_rows_backward.pxi"
