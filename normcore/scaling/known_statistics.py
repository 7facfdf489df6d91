"""What users know of their features, taken as the statistics of a scaler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from normcore.affine import CONSTANT_EPS
from normcore.layout.namespace import Array
from normcore.scaling.feature_axes import COLUMNS, Axis, FeatureAxes, as_axes, is_columns
from normcore.scaling.real_numbers import as_numbers
from normcore.statistics import Extrema, Moments

__all__ = ["KnownStatistics", "known_extrema", "known_moments"]

# Between these, squares and sums of float64 keep their digits.
_SMALL, _LARGE = 2.0**-400, 2.0**400


class KnownStatistics:
    """Numbers of each feature that the caller knows, checked; errors name the argument.

    Parameters
    ----------
    numbers : mapping of str to number or array-like of shape (n_features,), or None
        One number stands for all features, an array has one of each. None and NaN stand for a
        feature without values.
    count : number or array-like of shape (n_features,), optional
        How many values were observed, or the sum of their weights.
    feature_names : sequence of str, optional

    Attributes
    ----------
    numbers : dict of str to float64 array of shape (n_features,)
    count : float64 array of shape (n_features,) or None
    names : list of str or None
    num_features : int
    features : FeatureAxes or None
        Where ``axis`` names others than those of a table; numbers then have the shape of the
        features, and are kept flat.
    """

    def __init__(
        self,
        numbers: Mapping[str, Array],
        count: Array = None,
        feature_names: Sequence[str] | None = None,
        axis: Axis = COLUMNS,
    ) -> None:
        given = {name: as_numbers(each, name) for name, each in numbers.items() if each is not None}
        if count is not None:
            given["count"] = as_numbers(count, "count")
        self.names = None if feature_names is None else _checked_names(feature_names)
        shapes = {name: each.shape for name, each in given.items() if each.ndim}
        for name, each in given.items():
            if each.ndim > 1 and is_columns(axis):
                raise ValueError(f"{name} must have one dimension, got shape {each.shape}")
            if np.isinf(each).any():
                raise ValueError(f"{name} must be finite, got {each}")
        if self.names is not None:
            if not is_columns(axis):
                raise ValueError(f"feature_names are those of columns, not of axis={axis!r}")
            shapes["feature_names"] = (len(self.names),)
        if len(set(shapes.values())) > 1:
            words = ", ".join(f"{shape} of {name}" for name, shape in shapes.items())
            raise ValueError(f"features differ in shape: {words}")
        alone = (1,) if is_columns(axis) else (1,) * len(as_axes(axis))
        shape = next(iter(shapes.values()), alone)
        self.num_features = math.prod(shape)
        if not self.num_features:
            raise ValueError(f"{next(iter(shapes))} is empty")
        self.features = FeatureAxes.of_shape(axis, shape)
        given = {
            name: np.array(np.broadcast_to(each, shape)).reshape(-1) for name, each in given.items()
        }
        self.count = given.pop("count", None)
        if self.count is not None and not (self.count > 0).all():
            raise ValueError(f"count must be positive, got {self.count}")
        self.numbers = given

    def shaped(self, numbers: np.ndarray) -> np.ndarray:
        """Return numbers of the features in the shape that these have."""
        return numbers if self.features is None else self.features.shaped(numbers)

    @property
    def num_rows(self) -> int | None:
        """How many rows at least were observed, where that is known."""
        return None if self.count is None else math.ceil(self.count.max())

    def refuse(self, name: str, wrong: np.ndarray, reason: str) -> None:
        """Refuse a number of the first feature in which it is wrong."""
        found = np.flatnonzero(wrong)
        if found.size:
            feature: object = found[0] if self.names is None else repr(self.names[found[0]])
            if self.features is not None:
                feature = self.features.label(found[0])
            raise ValueError(
                f"{name} {reason}, but is {self.numbers[name][found[0]]} for feature {feature}"
            )

    def refuse_negative(self, name: str) -> None:
        """Refuse a spread that is negative."""
        self.refuse(name, self.numbers[name] < 0, "must not be negative")


def known_moments(known: KnownStatistics) -> Moments:
    """Return moments with a known mean and standard deviation.

    Where no count is known, it is 1, and both are restored to the last bit; with some counts no
    sum of squares gives the standard deviation back, but one the float beside it.
    """
    mean, std = known.numbers["mean"], known.numbers["std"]
    unknown = np.isnan(mean)
    known.refuse("std", np.isnan(std) != unknown, "must be NaN where mean is, and there alone")
    count = np.ones_like(mean) if known.count is None else known.count
    mean, std, count = (np.where(unknown, 0.0, each) for each in (mean, std, count))
    spread = np.where(std > 0, std, np.where(mean != 0, np.abs(mean), 1.0))
    tame = (spread >= _SMALL) & (spread <= _LARGE) & (np.abs(mean) <= _LARGE)
    exponent = np.where(tame, 0, np.frexp(spread)[1])
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.ldexp(std, -exponent)
        m2 = count * scaled * scaled
        parts = Moments.of(count, np.ldexp(mean, -exponent), m2).parts
    parts[6] = exponent
    # Far below what rounding leaves of the mean, a spread is not kept beside it.
    lost = (std > 0) & (std <= CONSTANT_EPS * np.finfo(np.float64).eps * np.abs(mean))
    known.refuse("std", lost | ~np.isfinite(parts).all(axis=0), "is too small beside mean")
    # The root of the quotient may be the standard deviation's neighbour, but seldom of all sums.
    for steps in (0, 1, -1, 2, -2, 3, -3):
        wrong = Moments(parts).std() != std
        parts[4] = np.where(wrong & ~unknown, m2 + steps * np.spacing(m2), parts[4])
    parts[4] = np.where(Moments(parts).std() != std, m2, parts[4])
    # A spread that the caller states is not the noise of rounding, however far the mean is.
    stated = (std > 0) & (std <= CONSTANT_EPS * np.abs(mean))
    return Moments(parts, stated if stated.any() else None)


def known_extrema(known: KnownStatistics) -> Extrema:
    """Return extrema of known values; where no count is known, it is 1."""
    least, largest = known.numbers["min"], known.numbers["max"]
    unknown = np.isnan(least)
    known.refuse("max", np.isnan(largest) != unknown, "must be NaN where min is, and there alone")
    known.refuse("max", largest < least, "must not be below min")
    count = np.ones_like(least) if known.count is None else np.ceil(known.count)
    return Extrema(
        np.where(unknown, 0.0, count),
        np.where(unknown, np.inf, least),
        np.where(unknown, -np.inf, largest),
    )


def _checked_names(names: Sequence[str]) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"feature_names must be a sequence of names, not the text {names!r}")
    found = list(names)
    if not all(isinstance(name, str) for name in found):
        raise TypeError(f"feature_names must be strings, got {found!r:.80}")
    return found
