# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: how every kernel meets an array. A view knows its memory and dtype, tiles cut it into rows
# of 16 lanes, and a task spreads them over the pool. The other units take these by cimport.

cimport numpy as cnp
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

import numpy as np

from normcore.layout.namespace import BFLOAT16
from normcore.threads import run

from normcore.layout.memory cimport BFLOAT, FLOATING, MAX_AXES, is_c_contiguous, memory_t
from normcore.threads.foreign_calls cimport run_in_threads
from normcore.threads.pool cimport Work

from .lanes cimport LANES, LINE, PACK, load_pack, store_pack
from .prefetch cimport prefetch

__all__ = []  # for the other units only, by cimport

cnp.import_array()

include "views.pxi"
include "tiles.pxi"
include "memory_views.pxi"
include "tile_rows.pxi"
include "tasks.pxi"
