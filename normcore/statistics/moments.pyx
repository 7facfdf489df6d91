# cython: boundscheck=False, wraparound=False, cdivision=True
"""Moments of channels: count, mean and sum of squared deviations, merged exactly."""

# Design: Moments live in one (7, C) float64 array whose rows moments.pxd names; merging is a
# loop over channels of the same inline function that the CPU kernels call for their blocks.
# Arrays of other libraries merge through the reference backend's array-API form of the law.

import numpy as np

cimport numpy as cnp

from normcore.layout.namespace import array_namespace, to_numpy
from normcore.layout.scalar_argument import as_float
from normcore.statistics.array_api_double_double import add, divide, multiply, two_product
from normcore.statistics.array_api_moments import merge_moments
from normcore.statistics.statistic import (
    Statistic,
    check_count,
    refuse_channels,
    state_array,
    where_valid,
)

__all__ = ["Moments"]

cnp.import_array()

# Twice the exponents of float64.
LARGEST_EXPONENT = 2200
# More than the rounding of a sum of two float64.
LARGEST_LOW = 2.0**-40


class Moments(Statistic):
    """Count, mean and sum of squared deviations (m2) of each channel.

    Count, sum and m2 are each kept as an unevaluated sum of two float64, with a power-of-two
    exponent per channel, so that merging in any order is exact to the last digits and neither
    1e200 nor 1e-170 leaves the range of float64.

    Parameters
    ----------
    parts : float64 array of shape (7, C)
        Rows count_hi, count_lo, sum_hi, sum_lo, m2_hi, m2_lo and exponent.
    wide : bool array of shape (C,), optional
        Which channels held integers beyond 2**53, whose spread is never the noise of rounding;
        None where none did.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances", Stanford CS-79-773 (1979).

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0], [8.0]])
    >>> one = nc.functional.moments(x[:2], channel_axis=1)
    >>> both = one.merge(nc.functional.moments(x[2:], channel_axis=1))
    >>> both.count, both.mean, both.var(ddof=1)
    (array([3.]), array([4.]), array([13.]))
    """

    __module__ = "normcore"
    __slots__ = ("parts", "wide")
    name = "moments"

    def __init__(self, parts, wide=None):
        if len(parts.shape) != 2 or parts.shape[0] != MOMENTS_ROWS:
            raise ValueError(f"parts has shape {tuple(parts.shape)}, expected (7, C)")
        self.parts, self.wide = parts, wide

    def __setstate__(self, state):
        slots = state[1]
        self.parts, self.wide = slots["parts"], slots.get("wide")

    @classmethod
    def empty(cls, num_channels, xp=np):
        """Return the moments of no data; as for :meth:`Statistic.empty`."""
        return cls(xp.zeros((MOMENTS_ROWS, num_channels), dtype=xp.float64))

    @classmethod
    def of(cls, count, mean, m2):
        """Return the moments with these plain values.

        Parameters
        ----------
        count, mean, m2 : scalar or array of shape (C,)
            Number of values, their mean, and the sum of squared deviations from it.
        """
        count, mean, m2 = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(each, dtype=np.float64)) for each in (count, mean, m2))
        )
        parts = np.zeros((MOMENTS_ROWS, count.shape[0]))
        parts[COUNT_HI], parts[M2_HI] = count, m2
        parts[SUM_HI], parts[SUM_LO] = two_product(count, mean)
        return cls(parts)

    @classmethod
    def observe(cls, backend, x, *, weights=None, skipna=False):
        """Return the moments of an ``(N, C, S)`` view; as for :meth:`Statistic.observe`."""
        return backend.moments(x, weights=weights, skipna=skipna)

    @property
    def num_channels(self):
        """The number of channels, C."""
        return self.parts.shape[1]

    @property
    def count(self):
        """Number of values, or sum of weights, of each channel: float64 of shape (C,)."""
        return self.parts[COUNT_HI, ...] + self.parts[COUNT_LO, ...]

    @property
    def mean(self):
        """Mean of each channel, within 1 ulp; NaN where the count is 0."""
        if isinstance(self.parts, np.ndarray):
            return _finalized(self.parts, MEAN, 0.0)
        xp, count = array_namespace(self.parts), self.parts[:SUM_HI, ...]
        valid = count[0, ...] > 0
        count = xp.where(valid, count[0, ...], xp.ones_like(count[0, ...])), count[1, ...]
        mean = divide((self.parts[SUM_HI, ...], self.parts[SUM_LO, ...]), count)[0]
        # What a sum that is not finite leaves of the error terms is NaN.
        mean = xp.where(xp.isfinite(self.parts[SUM_HI, ...]), mean, self.parts[SUM_HI, ...])
        return where_valid(valid, _scaled(mean, self.parts[EXPONENT, ...]))

    @property
    def mean_low(self):
        """What rounding to float64 took from the mean: the mean is ``mean + mean_low``."""
        count, total = self.parts[:SUM_HI, ...], self.parts[SUM_HI:M2_HI, ...]
        mean, exponent = self.mean, self.parts[EXPONENT, ...]
        xp = array_namespace(mean)
        valid = (count[0, ...] > 0) & xp.isfinite(mean)
        zero = xp.zeros_like(mean)
        divisor = xp.where(valid, count[0, ...], zero + 1.0), count[1, ...]
        scaled = _scaled(xp.where(valid, mean, zero), -exponent)
        taken = multiply(divisor, (scaled, zero))
        rest = add((total[0, ...], total[1, ...]), (-taken[0], -taken[1]))
        return xp.where(valid, _scaled(divide(rest, divisor)[0], exponent), zero)

    @property
    def m2(self):
        """Sum of squared deviations from the mean; infinite where it exceeds float64."""
        return _scaled(self.parts[M2_HI, ...], 2 * self.parts[EXPONENT, ...])

    def var(self, ddof=0):
        """Return m2 / (count - ddof), within 4 ulp; NaN where that divisor is not positive.

        Parameters
        ----------
        ddof : float
            Degrees of freedom that the mean takes: 1 for the unbiased variance.
        """
        ddof = as_float("ddof", ddof)
        if isinstance(self.parts, np.ndarray):
            return _finalized(self.parts, VAR, ddof)
        return _scaled(self._scaled_var(ddof), 2 * self.parts[EXPONENT, ...])

    def std(self, ddof=0):
        """Return the root of the variance, also where that leaves float64; see :meth:`var`."""
        ddof = as_float("ddof", ddof)
        if isinstance(self.parts, np.ndarray):
            return _finalized(self.parts, STD, ddof)
        return _scaled(self._scaled_var(ddof) ** 0.5, self.parts[EXPONENT, ...])

    def _vector(self, value):
        vector = np.ascontiguousarray(value, dtype=np.float64)
        if vector.shape != (self.num_channels,):
            raise ValueError(
                f"running averages have shape {vector.shape}, but there are {self.num_channels} "
                "channels"
            )
        return vector

    def _scaled_var(self, ddof):
        divisor = self.count - ddof
        valid = divisor > 0
        xp = array_namespace(divisor)
        safe = xp.where(valid, divisor, xp.ones_like(divisor))
        return where_valid(valid, self.parts[M2_HI, ...] / safe)

    def running(self, mean, var, weight, ddof=1):
        """Return running averages moved towards this batch: mean and ``var(ddof)``.

        Parameters
        ----------
        mean, var : float64 arrays of shape (C,)
            The averages so far, which stay as they are.
        weight : float
            Of this batch. A channel that has no variance leaves its averages alone.
        ddof : float
            As for :meth:`var`.

        Raises
        ------
        ValueError
            If ``mean`` or ``var`` are of another number of channels.
        """
        weight, ddof = as_float("weight", weight), as_float("ddof", ddof)
        if isinstance(self.parts, np.ndarray):
            return _running(self.parts, *map(self._vector, (mean, var)), weight, ddof)
        where, valid = array_namespace(self.parts).where, self.count > ddof
        both = (self.mean, mean), (self.var(ddof), var)
        return tuple(where(valid, weight * new + (1.0 - weight) * old, old) for new, old in both)

    def merge(self, other):
        """Return the moments of both pieces of data; as for :meth:`Statistic.merge`."""
        self._check_mergeable(other)
        wide, also = self.wide, other.wide
        if isinstance(self.parts, np.ndarray) or isinstance(other.parts, np.ndarray):
            parts = _merge_parts(to_numpy(self.parts), to_numpy(other.parts))
            wide, also = (None if each is None else to_numpy(each) for each in (wide, also))
        else:
            parts = merge_moments(self.parts, other.parts)
        if wide is not None and also is not None:
            wide = wide | also
        return type(self)(parts, also if wide is None else wide)

    def select(self, channels):
        """Return the moments of some of the channels; as for :meth:`Statistic.select`."""
        return type(self)(
            self.parts[:, channels], None if self.wide is None else self.wide[channels]
        )

    @classmethod
    def side_by_side(cls, groups):
        """Return the moments of groups of channels; as for :meth:`Statistic.side_by_side`."""
        parts = np.concatenate([to_numpy(each.parts) for each in groups], axis=1)
        if all(each.wide is None for each in groups):
            return cls(parts)
        wide = [
            np.zeros(each.num_channels, dtype=bool) if each.wide is None else to_numpy(each.wide)
            for each in groups
        ]
        return cls(parts, np.concatenate(wide))

    @classmethod
    def of_zeros(cls, count):
        """Return the moments of so many zeros; as for :meth:`Statistic.of_zeros`."""
        moments = cls.empty(count.shape[0])
        moments.parts[COUNT_HI] = count
        return moments

    def to_state(self):
        """Return the whole state as a dict of float64 NumPy arrays."""
        state = {"parts": to_numpy(self.parts)}
        if self.wide is not None:
            state["wide"] = to_numpy(self.wide).astype(np.float64)
        return state

    @classmethod
    def from_state(cls, state):
        """Return the moments of a state; as for :meth:`Statistic.from_state`."""
        moments = cls(state_array(state, "parts", 2, "moments"))
        _check_parts(moments.parts)
        if "wide" in state:
            wide = state_array(state, "wide", 1, "moments")
            if wide.shape[0] != moments.num_channels:
                raise ValueError("the arrays of moments have different lengths")
            refuse_channels((wide != 0) & (wide != 1), "'wide' is neither 0 nor 1")
            moments.wide = wide != 0
        return moments

    def check_finite(self):
        """Refuse moments that are not finite; as for :meth:`Statistic.check_finite`."""
        parts = to_numpy(self.parts)
        refuse_channels(~np.isfinite(parts), "moments are not finite")

    def __repr__(self):
        return f"Moments(count={self.count}, mean={self.mean}, m2={self.m2})"


def _check_parts(parts):
    """Refuse a state that no data has; NaN and infinity propagate in those of some data."""
    check_count(parts[COUNT_HI], "moments")
    exponent = parts[EXPONENT]
    refuse_channels(parts[M2_HI] < 0, "a sum of squares is negative")
    refuse_channels(
        ~((np.abs(exponent) <= LARGEST_EXPONENT) & (exponent == np.floor(exponent))),
        "an exponent is no whole number that float64 has",
    )
    empty = parts[COUNT_HI] == 0
    refuse_channels(empty & (parts[:EXPONENT] != 0), "there are moments of nothing")
    hi, lo = parts[[COUNT_HI, SUM_HI, M2_HI]], parts[[COUNT_LO, SUM_LO, M2_LO]]
    refuse_channels(
        np.abs(lo) > LARGEST_LOW * np.abs(hi), "the low part of a sum exceeds its rounding"
    )


def _scaled(values, exponent):
    """Return values * 2**exponent; in two steps, as 2**exponent itself may leave float64."""
    if isinstance(values, np.ndarray):
        if not exponent.any():
            return values.copy()
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(values, exponent.astype(np.int64))
    xp = array_namespace(values)
    half = xp.floor(exponent / 2)
    return values * 2.0**half * 2.0 ** (exponent - half)


cdef enum:
    MEAN, VAR, STD


cdef inline double* data_of(object array) noexcept:
    return <double*> cnp.PyArray_DATA(<cnp.ndarray> array)


def _finalized(parts, int which, double ddof):
    """Return the mean, variance or standard deviation of each channel."""
    state = np.ascontiguousarray(parts, dtype=np.float64)
    cdef Py_ssize_t c, num_channels = cnp.PyArray_DIM(state, 1)
    result = np.empty(num_channels)
    cdef const double* rows = data_of(state)
    cdef double* found = data_of(result)
    if which == MEAN:
        set_means(rows, num_channels, found)
    elif which == VAR:
        set_vars(rows, num_channels, ddof, found)
    else:
        for c in range(num_channels):
            found[c] = std_of(load_moments(rows + c, num_channels), ddof)
    return result


def _running(parts, mean, var, double weight, double ddof):
    """Return the averages moved towards the mean and variance of each channel that has one.

    ``mean`` and ``var`` are contiguous float64 arrays of the channels.
    """
    state = np.ascontiguousarray(parts, dtype=np.float64)
    cdef Py_ssize_t c, num_channels = cnp.PyArray_DIM(state, 1)
    cdef const double* rows = data_of(state)
    cdef const double* old_mean = data_of(mean)
    cdef const double* old_var = data_of(var)
    cdef bint varied
    means, variances = np.empty(num_channels), np.empty(num_channels)
    cdef double* new_mean = data_of(means)
    cdef double* new_var = data_of(variances)
    set_means(rows, num_channels, new_mean)
    set_vars(rows, num_channels, ddof, new_var)
    for c in range(num_channels):
        varied = has_variance(rows, num_channels, c, ddof)
        new_mean[c] = moved_average(old_mean[c], new_mean[c], weight) if varied else old_mean[c]
        new_var[c] = moved_average(old_var[c], new_var[c], weight) if varied else old_var[c]
    return means, variances


def _merge_parts(a, b):
    left = np.ascontiguousarray(a, dtype=np.float64)
    right = np.ascontiguousarray(b, dtype=np.float64)
    cdef Py_ssize_t c, num_channels = cnp.PyArray_DIM(left, 1)
    result = np.empty((MOMENTS_ROWS, num_channels))
    cdef const double* mine = data_of(left)
    cdef const double* theirs = data_of(right)
    cdef double* both = data_of(result)
    with nogil:
        for c in range(num_channels):
            store_moments(
                both + c,
                num_channels,
                merged(
                    load_moments(mine + c, num_channels), load_moments(theirs + c, num_channels)
                ),
            )
    return result
