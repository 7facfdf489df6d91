"""How the values of each column are distributed, from quantiles of the sketch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from normcore.statistics import QuantileSketch

__all__ = ["GRID", "Shapes", "shapes_of", "skewness"]

#: Ranks at the middle of equal shares: the values there stand for all.
GRID = (np.arange(511) + 0.5) / 511
# Tukey's outer fences, in quartile ranges; and between these quantiles a normal distribution is
# 3.82 times as wide as between its quartiles.
_FAR = 3.0
_TAILS = (0.005, 0.995)
_NORMAL_TAILS = 3.82


class Shapes(NamedTuple):
    """Arrays of shape (C,), NaN where a column has no value; ``grid`` is (len(GRID), C)."""

    grid: np.ndarray
    #: The quartiles of the sketch, shape (3, C).
    quartiles: np.ndarray
    #: Skewness of the values between the outer fences.
    skewness: np.ndarray
    #: How much wider than a normal distribution's the tails are, beside the quartiles.
    tail_weight: np.ndarray
    #: Share of the variance that values beyond the outer fences carry.
    far_variance: np.ndarray


def shapes_of(sketch: QuantileSketch, mean: np.ndarray, std: np.ndarray) -> Shapes:
    """Describe columns by a sketch of their values, and their mean and standard deviation."""
    grid = sketch.at_ranks(np.floor(GRID[:, None] * np.nan_to_num(sketch.count)))
    quartiles = sketch.quantile([0.25, 0.5, 0.75])
    tails = sketch.quantile(_TAILS)
    with np.errstate(all="ignore"):
        size = np.fmax.reduce(np.abs(grid), axis=0, initial=np.finfo(np.float64).tiny)
        values, (q1, _, q3) = grid / size, quartiles / size  # squares do not overflow
        spread = q3 - q1
        near = (values >= q1 - _FAR * spread) & (values <= q3 + _FAR * spread) | (spread == 0)
        deviations = np.where(near, (values - mean / size) ** 2, 0.0)
        far = 1 - deviations.mean(axis=0) / (std / size) ** 2
        tail_weight = (tails[1] / size - tails[0] / size) / spread / _NORMAL_TAILS
    return Shapes(
        grid,
        quartiles,
        skewness(np.where(near, values, np.nan)),
        np.where(spread > 0, tail_weight, np.nan),
        np.where(spread > 0, np.clip(far, 0.0, 1.0), np.nan),
    )


def skewness(values: np.ndarray) -> np.ndarray:
    """Return the third standardized moment of each column, NaN where all values are alike."""
    there = ~np.isnan(values)
    count = np.maximum(there.sum(axis=0), 1)
    with np.errstate(all="ignore"):
        centered = np.where(there, values - np.where(there, values, 0).sum(axis=0) / count, 0.0)
        std = np.sqrt((centered**2).sum(axis=0) / count)
        spread = np.fmax.reduce(values, axis=0) - np.fmin.reduce(values, axis=0)
        result: np.ndarray = (centered**3).sum(axis=0) / count / std**3
    return np.where(std > 1e-12 * np.abs(spread), result, np.nan)
