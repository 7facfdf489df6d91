# cython: boundscheck=False, wraparound=False, cdivision=True
"""Statistics of channels: small, mergeable, immutable in use.

Observing two pieces of data and merging equals observing them together, and the empty statistic
is neutral: a commutative monoid. Streaming, threads, files larger than memory and clusters are
all this one law.
"""

# Design: Moments live in one (7, C) float64 array whose rows statistics.pxd names; merging is a
# loop over channels of the same inline function that the CPU kernels call for their blocks.
# Arrays of other libraries merge through the reference backend's array-API form of the law.

from abc import ABC, abstractmethod

import numpy as np

from normcore.double_double import add, divide, multiply, two_product
from normcore.namespace import array_namespace, to_numpy
from normcore.options import as_float

from libc.math cimport NAN

__all__ = ["Extrema", "Moments", "Statistic"]


class Statistic(ABC):
    """What a fit remembers of each channel; a commutative monoid under :meth:`merge`."""

    #: Names the statistic in saved files.
    name = ""

    @classmethod
    @abstractmethod
    def empty(cls, num_channels, xp=np):
        """Return the statistic of no data, neutral in :meth:`merge`."""

    @classmethod
    @abstractmethod
    def observe(cls, backend, x, *, weights=None, skipna=False):
        """Return the statistic of an ``(N, C, S)`` view, by the backend's kernel."""

    @abstractmethod
    def merge(self, other):
        """Return the statistic of both pieces of data; the operands stay as they are.

        Raises
        ------
        ValueError
            If the numbers of channels differ.
        TypeError
            If ``other`` is another kind of statistic.
        """

    @abstractmethod
    def select(self, channels):
        """Return the statistic of some of the channels (an index array or a slice)."""

    @abstractmethod
    def to_state(self):
        """Return the whole state as a dict of float64 NumPy arrays."""

    @classmethod
    @abstractmethod
    def from_state(cls, state):
        """Return the statistic of a state that :meth:`to_state` gave.

        Raises
        ------
        ValueError
            If an array is missing or has another shape.
        """

    @property
    @abstractmethod
    def num_channels(self):
        """The number of channels, C."""

    def to_host(self):
        """Return the statistic in NumPy arrays."""
        return type(self).from_state(self.to_state())

    def _check_mergeable(self, other):
        if type(other) is not type(self):
            raise TypeError(f"cannot merge {type(self).__name__} with {type(other).__name__}")
        if other.num_channels != self.num_channels:
            raise ValueError(
                f"cannot merge statistics of {self.num_channels} and {other.num_channels} channels"
            )

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.to_state(), other.to_state()
        return mine.keys() == theirs.keys() and all(
            np.array_equal(mine[key], theirs[key], equal_nan=True) for key in mine
        )

    __hash__ = None


def _state_array(state, key, ndim, kind):
    try:
        array = np.array(state[key], dtype=np.float64)
    except KeyError:
        raise ValueError(f"the state of {kind} lacks {key!r}") from None
    if array.ndim != ndim:
        raise ValueError(f"{key!r} of {kind} has shape {array.shape}, expected {ndim} dimensions")
    return array


def check_count(count, kind):
    """Refuse a state whose counts are negative or infinite; NaN stands for data with NaN."""
    if (count < 0).any() or np.isinf(count).any():
        raise ValueError(f"the counts of {kind} must be finite and not negative, not {count}")


def _where_valid(valid, values):
    xp = array_namespace(values)
    return xp.where(valid, values, xp.full_like(values, NAN))


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
    """

    __module__ = "normcore"
    __slots__ = ("parts", "wide")
    name = "moments"

    def __init__(self, parts, wide=None):
        if len(parts.shape) != 2 or parts.shape[0] != MOMENTS_ROWS:
            raise ValueError(f"parts has shape {tuple(parts.shape)}, expected (7, C)")
        self.parts, self.wide = parts, wide

    @classmethod
    def empty(cls, num_channels, xp=np):
        return cls(xp.zeros((MOMENTS_ROWS, num_channels), dtype=xp.float64))

    @classmethod
    def of(cls, count, mean, m2):
        """Return the moments with these plain values, each a scalar or of shape (C,)."""
        count, mean, m2 = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(each, dtype=np.float64)) for each in (count, mean, m2))
        )
        parts = np.zeros((MOMENTS_ROWS, count.shape[0]))
        parts[COUNT_HI], parts[M2_HI] = count, m2
        parts[SUM_HI], parts[SUM_LO] = two_product(count, mean)
        return cls(parts)

    @classmethod
    def observe(cls, backend, x, *, weights=None, skipna=False):
        return backend.moments(x, weights=weights, skipna=skipna)

    @property
    def num_channels(self):
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
        return _where_valid(valid, _scaled(mean, self.parts[EXPONENT, ...]))

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
        """Return m2 / (count - ddof), within 4 ulp; NaN where that divisor is not positive."""
        ddof = as_float("ddof", ddof)
        if isinstance(self.parts, np.ndarray):
            return _finalized(self.parts, VAR, ddof)
        return _scaled(self._scaled_var(ddof), 2 * self.parts[EXPONENT, ...])

    def std(self, ddof=0):
        """Return the square root of :meth:`var`, also where the variance leaves float64."""
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
        return _where_valid(valid, self.parts[M2_HI, ...] / safe)

    def running(self, mean, var, weight, ddof=1):
        """Return running averages moved towards this batch: mean and ``var(ddof)``.

        Parameters
        ----------
        mean, var : float64 arrays of shape (C,)
            The averages so far, which stay as they are.
        weight : float
            Of this batch. A channel that has no variance leaves its averages alone.

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
        self._check_mergeable(other)
        wide = self.wide if other.wide is None else other.wide
        if self.wide is not None and other.wide is not None:
            wide = self.wide | other.wide
        if isinstance(self.parts, np.ndarray):
            return type(self)(_merge_parts(self.parts, to_numpy(other.parts)), wide)
        from normcore.reference import merge_moments

        return type(self)(merge_moments(self.parts, other.parts), wide)

    def select(self, channels):
        return type(self)(
            self.parts[:, channels], None if self.wide is None else self.wide[channels]
        )

    def to_state(self):
        state = {"parts": to_numpy(self.parts)}
        if self.wide is not None:
            state["wide"] = to_numpy(self.wide).astype(np.float64)
        return state

    @classmethod
    def from_state(cls, state):
        moments = cls(_state_array(state, "parts", 2, "moments"))
        check_count(moments.parts[COUNT_HI], "moments")
        if "wide" in state:
            moments.wide = _state_array(state, "wide", 1, "moments") != 0
            if moments.wide.shape[0] != moments.num_channels:
                raise ValueError("the arrays of moments have different lengths")
        return moments

    def __repr__(self):
        return f"Moments(count={self.count}, mean={self.mean}, m2={self.m2})"


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


def _finalized(parts, int which, double ddof):
    """Return the mean, variance or standard deviation of each channel."""
    cdef const double[:, ::1] state = np.ascontiguousarray(parts, dtype=np.float64)
    cdef Py_ssize_t c, num_channels = state.shape[1]
    result = np.empty(num_channels)
    cdef double[::1] found = result
    if not num_channels:
        return result
    if which == MEAN:
        set_means(&state[0, 0], num_channels, &found[0])
    elif which == VAR:
        set_vars(&state[0, 0], num_channels, ddof, &found[0])
    else:
        for c in range(num_channels):
            found[c] = std_of(load_moments(&state[0, c], num_channels), ddof)
    return result


def _running(parts, mean, var, double weight, double ddof):
    """Return the averages moved towards the mean and variance of each channel that has one."""
    cdef const double[:, ::1] state = np.ascontiguousarray(parts, dtype=np.float64)
    cdef const double[::1] old_mean = mean
    cdef const double[::1] old_var = var
    cdef Py_ssize_t c, num_channels = state.shape[1]
    cdef bint varied
    means, variances = np.empty(num_channels), np.empty(num_channels)
    cdef double[::1] new_mean = means
    cdef double[::1] new_var = variances
    if not num_channels:
        return means, variances
    set_means(&state[0, 0], num_channels, &new_mean[0])
    set_vars(&state[0, 0], num_channels, ddof, &new_var[0])
    for c in range(num_channels):
        varied = state[COUNT_HI, c] + state[COUNT_LO, c] > ddof
        new_mean[c] = weight * new_mean[c] + (1.0 - weight) * old_mean[c] if varied else old_mean[c]
        new_var[c] = weight * new_var[c] + (1.0 - weight) * old_var[c] if varied else old_var[c]
    return means, variances


def _merge_parts(a, b):
    cdef const double[:, ::1] left = np.ascontiguousarray(a, dtype=np.float64)
    cdef const double[:, ::1] right = np.ascontiguousarray(b, dtype=np.float64)
    cdef Py_ssize_t c, num_channels = left.shape[1]
    result = np.empty((MOMENTS_ROWS, num_channels))
    cdef double[:, ::1] both = result
    if num_channels:
        with nogil:
            for c in range(num_channels):
                store_moments(
                    &both[0, c],
                    num_channels,
                    merged(
                        load_moments(&left[0, c], num_channels),
                        load_moments(&right[0, c], num_channels),
                    ),
                )
    return result


class Extrema(Statistic):
    """Count, minimum and maximum of each channel.

    Parameters
    ----------
    count, min, max : float64 arrays of shape (C,)
        Where the count is 0, +inf and -inf, the neutral elements; they read as NaN.
    """

    __module__ = "normcore"
    __slots__ = ("_max", "_min", "count")
    name = "extrema"

    def __init__(self, count, min, max):
        self.count, self._min, self._max = count, min, max

    @classmethod
    def empty(cls, num_channels, xp=np):
        zero = xp.zeros(num_channels, dtype=xp.float64)
        return cls(zero, zero + float("inf"), zero - float("inf"))

    @classmethod
    def observe(cls, backend, x, *, weights=None, skipna=False):
        if weights is not None:
            raise TypeError("extrema take no weights")
        return backend.extrema(x, skipna=skipna)

    @property
    def num_channels(self):
        return self.count.shape[0]

    @property
    def min(self):
        """Smallest value of each channel; NaN where the count is 0."""
        return _where_valid(self.count > 0, self._min)

    @property
    def max(self):
        """Largest value of each channel; NaN where the count is 0."""
        return _where_valid(self.count > 0, self._max)

    def merge(self, other):
        self._check_mergeable(other)
        xp = array_namespace(self.count)
        return type(self)(
            self.count + other.count,
            xp.minimum(self._min, other._min),
            xp.maximum(self._max, other._max),
        )

    def select(self, channels):
        return type(self)(self.count[channels], self._min[channels], self._max[channels])

    def to_state(self):
        return {
            "count": to_numpy(self.count),
            "min": to_numpy(self._min),
            "max": to_numpy(self._max),
        }

    @classmethod
    def from_state(cls, state):
        arrays = [_state_array(state, key, 1, "extrema") for key in ("count", "min", "max")]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError("the arrays of extrema have different lengths")
        check_count(arrays[0], "extrema")
        return cls(*arrays)

    def __repr__(self):
        return f"Extrema(count={self.count}, min={self.min}, max={self.max})"
