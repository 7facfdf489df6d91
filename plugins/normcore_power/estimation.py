"""What a fit of a power transform learns of a feature, and remembers of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np

import normcore as nc
from normcore_power.curve import moments
from normcore_power.likelihood import most_likely

__all__ = ["PowerCurves", "curves_of_columns"]

#: What is known of each feature, in the order of ``normcore_power.curve``.
PARAMETERS = ("lambdas", "origins", "units", "means", "scales")
SUMS = ("count", "infinite")
# Constant features have a standard deviation of at most so much of their mean.
CONSTANT = 8 * 2.0**-52


class PowerCurves(nc.Statistic):
    """The power transform of each feature: what a fit remembers.

    Parameters
    ----------
    lambdas, origins, units, means, scales : float64 arrays of shape (C,)
        NaN in a channel without values.
    count, infinite : float64 arrays of shape (C,)
        Numbers of values, and of infinite ones.
    """

    name: ClassVar[str] = "power_curves"

    def __init__(self, parameters: np.ndarray, count: np.ndarray, infinite: np.ndarray) -> None:
        self.parameters, self.count, self.infinite = parameters, count, infinite

    @classmethod
    def empty(cls, num_channels: int, xp: ModuleType = np) -> Self:
        """Return the statistic of no data."""
        none = np.zeros(num_channels)
        return cls(np.full((num_channels, len(PARAMETERS)), np.nan), none, none)

    @classmethod
    def observe(cls, backend: Any, x: Any, *, weights: Any = None, skipna: bool = False) -> Self:
        """Do nothing: a method is needed, which the transformer has."""
        raise NotImplementedError("PowerTransformer.observe makes power curves")

    @staticmethod
    def of_lambdas(lambdas: np.ndarray, *, plus_one: bool) -> np.ndarray:
        """Return the parameters of maps that are not standardized."""
        zero, one = np.zeros_like(lambdas), np.ones_like(lambdas)
        return np.column_stack([lambdas, zero if plus_one else one, one, zero, one])

    def with_lambdas(self, lambdas: np.ndarray, *, plus_one: bool) -> np.ndarray:
        """Return the parameters with other lambdas, and mean and scale of the map as they are.

        They are of the map that is not measured from the origin, as in scikit-learn.
        """
        old = self.parameters
        if np.array_equal(lambdas, old[:, 0], equal_nan=True):
            return old
        learned, origin, unit, mean, scale = old.T
        negative = plus_one & (origin < 0)
        logarithm = np.log1p(np.abs(origin)) if plus_one else np.log(origin)
        before = np.where(negative, 2.0 - learned, learned)
        after = np.where(negative, 2.0 - lambdas, lambdas)
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = np.exp((before - after) * logarithm)
            moved = _power(logarithm, before) - _power(logarithm, after)
            mean = ratio * mean + moved * np.exp(-after * logarithm) / unit
            new = np.column_stack([lambdas, origin, unit, mean, ratio * scale])
        same = lambdas == learned
        new[same] = old[same]
        return new

    @property
    def num_channels(self) -> int:
        """The number of channels, C."""
        return len(self.count)

    def merge(self, other: Self) -> Self:
        """Return the side that saw data, where the other saw none.

        Raises
        ------
        ValueError
            If both saw data: their lambdas do not say what that of the union is.
        """
        self._check_mergeable(other)
        for one, another in ((self, other), (other, self)):
            if not one.count.any():
                return another
        raise ValueError(
            "the most likely lambda of a power transform is a function of all the data, so two "
            "fits cannot be merged; fit all the data at once"
        )

    def select(self, channels: Any) -> Self:
        """Return the statistic of some of the channels (an index array or a slice)."""
        return type(self)(self.parameters[channels], self.count[channels], self.infinite[channels])

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""
        state = dict(zip(PARAMETERS, np.array(self.parameters.T), strict=True))
        return state | {name: np.array(getattr(self, name), np.float64) for name in SUMS}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the statistic of a state that :meth:`to_state` gave.

        Raises
        ------
        ValueError
            If an array is missing, has another shape, or holds what no fit gives.
        """
        missing = [name for name in (*PARAMETERS, *SUMS) if name not in state]
        if missing:
            raise ValueError(f"the state of power curves lacks {missing[0]!r}")
        arrays = {name: np.array(state[name], dtype=np.float64) for name in (*PARAMETERS, *SUMS)}
        if len({each.shape for each in arrays.values()}) > 1 or arrays["count"].ndim != 1:
            raise ValueError("the arrays of power curves do not fit together")
        count = arrays["count"]
        if not ((count >= 0) & np.isfinite(count)).all():
            raise ValueError(f"the counts of power curves must be finite, not {count}")
        infinite = arrays["infinite"]
        if not ((infinite >= 0) & np.isfinite(infinite)).all():
            raise ValueError(f"the counts of infinite values must be 0 or more, not {infinite}")
        seen = (count > 0) & (infinite == 0)
        for name in PARAMETERS:
            if not np.isfinite(arrays[name][seen]).all():
                raise ValueError(f"the {name} of power curves must be finite")
        for name in ("units", "scales"):
            if not (arrays[name][seen] > 0).all():
                raise ValueError(f"the {name} of power curves must be positive")
        parameters = np.stack([arrays[name] for name in PARAMETERS], axis=1)
        return cls(parameters, count, infinite)


def curves_of_columns(
    columns: np.ndarray,
    *,
    plus_one: bool,
    standardize: bool,
    weights: np.ndarray | None = None,
) -> PowerCurves:
    """Return the most likely power transform of each column of a table, NaN left out.

    Parameters
    ----------
    columns : array of real numbers, of shape (n, C)
    plus_one : bool
        Yeo-Johnson, and not Box-Cox.
    standardize : bool
        Whether the map has mean 0 and standard deviation 1.
    weights : float64 array of shape (n,), optional
        Positive: how often each row counts, in the likelihood and in mean and deviation.

    Raises
    ------
    ValueError
        If Box-Cox finds a column without a number, a constant one, or one that is not positive.
    """
    num_columns = columns.shape[1]
    curves = PowerCurves.empty(num_columns)
    curves.infinite = np.zeros(num_columns)
    curves.count = np.zeros(num_columns)
    # Without standardizing, results are as large as lambda makes them, and are to be representable.
    narrow = not standardize and columns.dtype in (np.float16, np.float32)
    limits = np.finfo(columns.dtype if narrow else np.float64)

    def work(start: int, stop: int) -> None:
        for column in range(start, stop):
            values = np.ascontiguousarray(columns[:, column], dtype=np.float64)
            missing, given = np.isnan(values), weights
            if missing.any():
                values = values[~missing]
                given = None if weights is None else weights[~missing]
            curves.count[column] = values.size
            if not values.size and not plus_one:
                raise ValueError(f"Column must not be all nan, as column {column} of X is.")
            if not values.size:
                continue
            curves.infinite[column] = np.isinf([values.min(), values.max()]).any()
            if not plus_one and values.min() <= 0:
                raise not_positive_error(column)
            if not curves.infinite[column]:
                curves.parameters[column] = _curve_of(
                    values, given, column, plus_one, standardize, limits
                )

    nc.parallel_for(work, num_columns)
    return curves


def not_positive_error(column: int) -> ValueError:
    """Return the error of data that Box-Cox does not take."""
    return ValueError(
        "The Box-Cox transformation can only be applied to strictly positive data, and column "
        f"{column} of X is not"
    )


def _curve_of(
    values: np.ndarray,
    weights: np.ndarray | None,
    column: int,
    plus_one: bool,
    standardize: bool,
    limits: np.finfo,
) -> tuple[float, float, float, float, float]:
    """Return the parameters of the most likely transform of some finite numbers."""
    if values.min() == values.max() and not plus_one:
        raise ValueError(f"Data must not be constant, as column {column} of X is.")
    plain_origin = 0.0 if plus_one else 1.0
    constant = _is_constant(values, weights)
    power, origin, unit = 1.0, plain_origin, 1.0
    if not (constant and plus_one):
        log_eps = math.log(limits.eps)
        least = (math.log(limits.tiny) - log_eps) / 2
        largest = (math.log(limits.max) + log_eps) / 2
        power, origin, unit = most_likely(values, plus_one, least, largest, weights)
        if not plus_one:
            power = _representable(power, values, math.log(float(limits.max) / 10000))
    if not standardize:
        return power, plain_origin, 1.0, 0.0, 1.0
    curve = np.array([[power, origin, unit, 0.0, 1.0]])
    mean, scale = moments(values, curve, plus_one, weights)
    return power, origin, unit, mean, 1.0 if constant or scale == 0.0 else scale


def _is_constant(values: np.ndarray, weights: np.ndarray | None) -> bool:
    """Whether numbers differ by no more than rounding may make them differ."""
    size = float(np.abs(values).max())
    if size == 0.0 or values.min() == values.max():
        return True
    if float(values.max() / size - values.min() / size) > 1e-6:
        return False
    scaled = values / size
    if weights is None:
        return float(scaled.std()) <= CONSTANT * abs(float(scaled.mean()))
    mean = np.average(scaled, weights=weights)
    variance = np.average((scaled - mean) ** 2, weights=weights)
    return bool(np.sqrt(variance) <= CONSTANT * abs(mean))


def _representable(power: float, values: np.ndarray, most: float) -> float:
    """Return the nearest power that keeps Box-Cox transforms below exp(``most``)."""
    for extreme in (float(values.min()), float(values.max())):
        logarithm = math.log(extreme)
        if power * logarithm - math.log(abs(power) or 1.0) > most:
            bound = power
            for _ in range(60):
                bound = (most + math.log(abs(bound))) / logarithm
            power = bound
    return power


def _power(logarithm: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Return ``(exp(power * logarithm) - 1) / power``, the logarithm itself for a power of 0."""
    safe = np.where(power == 0, 1.0, power)
    return np.where(power == 0, logarithm, np.expm1(power * logarithm) / safe)
