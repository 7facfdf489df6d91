# cython: boundscheck=False, wraparound=False, cdivision=True, auto_pickle=False
# Design: normalizations of what any library holds in host memory, such as PyTorch's tensors, as
# they lie there: the way of small batches, of which a step takes less time than making NumPy arrays
# of its tensors. Which kernels run is the backend's to say, which sees views in the place of
# arrays. Results are written to memory that the caller brings, and nothing is written unless all of
# them can be: what is not for here, or has something wrong with it, is answered by False, and then
# the ways of any array do it or say what is wrong. Vectors are widened to float64, and rounded
# once. Callers without Python, of C or C++, have a door of their own to the same kernels, for which
# nothing here needs an object.

import numpy as np

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport INFINITY, ldexp, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from normcore.affine import Affine
from normcore.array_backend.formulas import batch_scale
from normcore.statistics import Moments

from normcore.c_api cimport (
    NORMCORE_ALL, NORMCORE_BAD_DTYPE, NORMCORE_BAD_SHAPE, NORMCORE_BAD_STRIDES, NORMCORE_BAD_VALUE,
    NORMCORE_BFLOAT16, NORMCORE_FLOAT16, NORMCORE_FLOAT32, NORMCORE_FLOAT64, NORMCORE_MAX_AXES,
    NORMCORE_MESSAGE_SIZE, NORMCORE_NO_MEMORY, NORMCORE_NULL_POINTER, NORMCORE_OK,
    NORMCORE_OVERLAP, NORMCORE_TOO_LARGE, NORMCORE_VERSION, normcore_api, normcore_array,
    normcore_call,
)
from normcore.layout.memory cimport (
    BFLOAT, FLOATING, MAX_AXES, SIGNED, describe, is_c_contiguous, memory_t,
)
from normcore.statistics cimport (
    COUNT_HI, COUNT_LO, EXPONENT, M2_HI, MOMENTS_ROWS, SUM_HI, has_variance, load_moments, mean_of,
    merged, moments_t, moved_average, set_means, set_vars, store_moments, var_of,
)
from normcore.threads.foreign_calls cimport num_threads_for

from .normalization cimport (
    differentiate_batch, differentiate_groups, differentiate_samples, map_by_statistics,
    map_channels, normalize_batch, normalize_groups, normalize_samples, sum_in_pairs,
)
from .statistics cimport observe_moments
from .tiling cimport (
    View, doubles_of, free_all, have_one_shape, heap_t, magnitude, set_dtype, set_elements,
    set_views, take, view_on, view_t,
)

__all__ = ["TensorKernels", "c_functions"]

cnp.import_array()

cdef enum:
    MOST = 3                    # arrays of a call of one shape
    CENTER = 0, SCALE, GAMMA, BETA, COEFFICIENTS
    LONG_ROW = 1 << 18          # longer ones are never widened as a whole
    MANY_CHANNELS = 1 << 14     # of samples times channels, which are then walked in blocks

cdef Py_ssize_t DOUBLE = sizeof(double)


include "tensor_memory.pxi"
include "c_operands.pxi"
include "c_functions.pxi"
include "c_weights.pxi"
include "c_groups.pxi"
include "c_norms.pxi"


cdef class TensorKernels:
    """What :class:`normcore.array_backend.memory_kernels.MemoryKernels` promises.

    Parameters
    ----------
    backend : CpuBackend
        Whose kernels work on the views.
    """

    cdef object backend

    def __init__(self, backend):
        self.backend = backend

    def batch_norm(self, x, gamma, beta, double eps, out, parts):
        cdef list views = batch_views((x, out))
        if views is None or not 0.0 <= eps < INFINITY:
            return False
        cdef Py_ssize_t channels = (<View> views[0]).view.channels
        if (<View> views[0]).view.positions < 2:
            return False
        scale, shift = number_or_vector(gamma, channels, 1.0), number_or_vector(beta, channels, 0.0)
        if scale is None or shift is None or not holds_states(parts, channels):
            return False
        _, moments = self.backend.normalize(views[0], scale, shift, eps, out=views[1])
        write_states(parts, moments, channels)
        return True

    def batch_norm_backward(self, dy, x, statistics, gamma, double eps, dx, dgamma, dbeta):
        cdef list views = batch_views((dy, x, dx))
        if views is None or not 0.0 <= eps < INFINITY:
            return False
        cdef Py_ssize_t channels = (<View> views[0]).view.channels
        cdef bint training = holds_states(statistics, channels)
        moments = states(statistics, channels) if training else given_states(statistics, channels)
        scale = number_or_vector(gamma, channels, 1.0)
        if moments is None or scale is None:
            return False
        if not (can_write(dgamma, channels) and can_write(dbeta, channels)):
            return False
        _, for_gamma, for_beta = self.backend.normalize_backward(
            views[0], views[1], moments, scale, 0.0, eps, training=training, out=views[2]
        )
        write(dgamma, for_gamma, channels)
        write(dbeta, for_beta, channels)
        return True

    def batch_norm_inference(self, x, mean, var, gamma, beta, double eps, out):
        cdef list views = batch_views((x, out))
        cdef bint negative = False
        cdef Py_ssize_t c
        if views is None or not 0.0 <= eps < INFINITY:
            return False
        cdef Py_ssize_t channels = (<View> views[0]).view.channels
        affine = np.empty((COEFFICIENTS, channels))
        cdef double* rows = doubles_of(affine)
        cdef double* scale = rows + SCALE * channels
        if not (
            read(mean, channels, rows) and read(var, channels, scale)
            and read_or(gamma, channels, rows + GAMMA * channels, 1.0)
            and read_or(beta, channels, rows + BETA * channels, 0.0)
        ):
            return False
        for c in range(channels):
            negative |= scale[c] < 0.0
        if negative:
            return False
        for c in range(channels):  # by itself: so roots are taken in vectors
            scale[c] = sqrt(scale[c] + eps)
        self.backend.rescale(views[0], Affine.from_coefficients(affine), out=views[1])
        return True

    def update_running(self, parts, mean, var, number, double weight):
        cdef memory_t memory, counter
        cdef Py_ssize_t c, channels
        cdef int _
        if not describe(mean, &memory) or memory.ndim != 1:
            return False
        channels = memory.sizes[0]
        moved = np.empty((4, channels))  # mean and variance, of the batch and before it
        cdef double* rows = doubles_of(moved)
        if not holds_states(parts, channels) or not (
            read(mean, channels, rows + 2 * channels) and read(var, channels, rows + 3 * channels)
        ):
            return False
        if number is not None:
            if not describe(number, &counter) or counter.kind != SIGNED:
                return False
            if counter.itemsize != sizeof(int64_t) or counter.ndim != 0:
                return False
        if weight != weight:
            if number is None:
                return False
            weight = 1.0 / (<double> (<int64_t*> counter.data)[0] + 1.0)
        found = states(parts, channels).parts
        cdef const double* counts = doubles_of(found) + COUNT_HI * channels
        set_means(doubles_of(found), channels, rows)
        set_vars(doubles_of(found), channels, 1.0, rows + channels)
        for _ in range(2):
            for c in range(channels):
                if counts[c] > 0.0:
                    rows[c] = weight * (rows[c] + 0.0) + (1.0 - weight) * rows[2 * channels + c]
                else:
                    rows[c] = rows[2 * channels + c]
            rows += channels
        write(mean, by_way_of_float(moved[0], mean), channels)
        write(var, by_way_of_float(moved[1], var), channels)
        if number is not None:
            (<int64_t*> counter.data)[0] += 1
        return True

    def row_norm(self, x, gamma, beta, int num_axes, double eps, bint centered, out, parts):
        cdef list views = row_views((x, out), num_axes)
        if views is None or not 0.0 <= eps < INFINITY:
            return False
        cdef Py_ssize_t rows = (<View> views[0]).view.positions
        cdef Py_ssize_t columns = (<View> views[0]).view.channels
        scale, shift = vector(gamma, columns, 1.0), vector(beta, columns, 0.0)
        if scale is None or shift is None or not holds_states(parts, rows):
            return False
        _, moments = self.backend.normalize_rows(
            views[0], scale, shift, eps, centered=centered, out=views[1]
        )
        write_states(parts, moments, rows)
        return True

    def row_norm_backward(
        self, dy, x, parts, gamma, int num_axes, double eps, bint centered, dx, dgamma, dbeta
    ):
        cdef list views = row_views((dy, x, dx), num_axes)
        if views is None or not 0.0 <= eps < INFINITY:
            return False
        cdef Py_ssize_t rows = (<View> views[0]).view.positions
        cdef Py_ssize_t columns = (<View> views[0]).view.channels
        scale = vector(gamma, columns, 1.0)
        if scale is None or not holds_states(parts, rows) or not can_write(dgamma, columns):
            return False
        if dbeta is not None and not can_write(dbeta, columns):
            return False
        _, for_gamma, for_beta = self.backend.normalize_rows_backward(
            views[0], views[1], states(parts, rows), scale, eps, centered=centered, out=views[2]
        )
        write(dgamma, for_gamma, columns)
        if dbeta is not None:
            write(dbeta, for_beta, columns)
        return True

    def group_norm(self, x, gamma, beta, Py_ssize_t groups, double eps, out, parts):
        cdef memory_t memory[MOST]
        cdef Groups at = groups_of((x, out), memory, groups)
        if at is None or not 0.0 <= eps < INFINITY:
            return False
        cdef Py_ssize_t number = at.samples * groups, size = at.samples * at.channels
        affine = np.empty((COEFFICIENTS, size))
        cdef double* rows = doubles_of(affine)
        if not holds_states(parts, number) or not (
            read_or(gamma, at.channels, rows + GAMMA * size, 1.0)
            and read_or(beta, at.channels, rows + BETA * size, 0.0)
        ):
            return False
        moments = self.backend.moments_apart(at.view(x, &memory[0], number))
        at.spread(moments.mean, rows + CENTER * size)
        at.spread(batch_scale(moments, eps), rows + SCALE * size)
        at.repeat(rows + GAMMA * size)
        at.repeat(rows + BETA * size)
        self.backend.rescale(
            at.view(x, &memory[0], size), Affine.from_coefficients(affine),
            out=at.view(out, &memory[1], size),
        )
        write_states(parts, moments, number)
        return True

    def group_norm_backward(
        self, dy, x, parts, gamma, Py_ssize_t groups, double eps, dx, dgamma, dbeta
    ):
        cdef memory_t memory[MOST]
        cdef Groups at = groups_of((dy, x, dx), memory, groups)
        if at is None or not 0.0 <= eps < INFINITY:
            return False
        cdef Py_ssize_t number = at.samples * groups, size = at.samples * at.channels
        if not holds_states(parts, number):
            return False
        if not (can_write(dgamma, at.channels) and can_write(dbeta, at.channels)):
            return False
        vectors = np.empty((3, size))
        mu, sigma, weight = vectors
        if not read_or(gamma, at.channels, doubles_of(weight), 1.0):
            return False
        at.repeat(doubles_of(weight))
        moments = states(parts, number)
        at.spread(moments.mean, doubles_of(mu))
        at.spread(batch_scale(moments, eps), doubles_of(sigma))
        dy_view, x_view = at.view(dy, &memory[0], size), at.view(x, &memory[1], size)
        sum_dy, sum_dy_xmu = self.backend.backward_reduce(dy_view, x_view, mu)
        in_samples, in_groups = (at.samples, at.channels), (number, at.per_group)
        cdef double count = at.per_group * at.positions
        add, mean = np.add.reduce, np.empty((2, size))
        with np.errstate(all="ignore"):  # what is not finite propagates
            for_gamma = add((sum_dy_xmu / sigma).reshape(in_samples), axis=0) + 0.0
            for_beta = add(sum_dy.reshape(in_samples), axis=0) + 0.0
            # With g = gamma * dy: dx = (g - mean(g) - xhat * mean(g * xhat)) / scale in a group.
            at.spread(add((weight * sum_dy).reshape(in_groups), axis=1) / count, doubles_of(mean))
            at.spread(
                add((weight * sum_dy_xmu).reshape(in_groups), axis=1) / count, doubles_of(mean[1])
            )
            a, b, d = weight / sigma, mean[0] / sigma, mean[1] / sigma / (sigma * sigma)
        self.backend.backward_elemt(
            dy_view, x_view, mu, a, b, d, out=at.view(dx, &memory[2], size)
        )
        write(dgamma, for_gamma, at.channels)
        write(dbeta, for_beta, at.channels)
        return True
