"""The maps that a report draws: scalers fitted to statistics that are known already."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from normcore import registration
from normcore.registration.registry import PluginError
from normcore.reporting.first_look import FirstLook
from normcore.reporting.histograms import NUM_BINS
from normcore.reporting.shapes import Shapes, skewness
from normcore.statistics import Quantiles, Statistic

if TYPE_CHECKING:
    from normcore.scaling.quantile_learner import QuantileLearner
    from normcore.scaling.scaler import Scaler

__all__ = ["PARAMS", "Curved", "affine_ends", "curved_map", "is_registered", "new_scaler"]

#: Parameters of recommended scalers that are not their defaults.
PARAMS: Mapping[str, Mapping[str, str]] = {"quantile": {"output_distribution": "normal"}}
# Bins of what a curved map makes end here: it is much like a normal distribution.
_FARTHEST = 4.0
_ROUNDING = 1e-6


class Curved(NamedTuple):
    """A map of some columns that is no affine one, drawn.

    Attributes
    ----------
    edges : float64 array of shape (NUM_BINS + 1, K)
        Which values become the ends of the bins.
    upto : bool array of the same shape
        Where the value itself becomes less than the end, as what many values share may do.
    low, high : float64 arrays of shape (K,)
        What the first and the last of them become.
    skewness : float64 array of shape (K,)
        Of the mapped values.
    """

    edges: np.ndarray
    upto: np.ndarray
    low: np.ndarray
    high: np.ndarray
    skewness: np.ndarray


def is_registered(name: str) -> bool:
    """Whether there is such a scaler here, a plugin's say."""
    try:
        registration.scaler(name)
    except (ValueError, PluginError):
        return False
    return True


def new_scaler(name: str) -> Scaler:
    """Return a scaler as reports recommend it, not fitted."""
    scaler: Scaler = registration.scaler(name)(**PARAMS.get(name, {}))
    return scaler


def affine_ends(name: str, columns: np.ndarray, first: FirstLook, ends: np.ndarray) -> np.ndarray:
    """Return what a scaler of an affine map makes of two values of each of some columns.

    Parameters
    ----------
    name : {"standard", "minmax", "maxabs", "robust"}
    columns : int array of shape (K,)
    first : FirstLook
    ends : float64 array of shape (2, K)
    """
    scaler = new_scaler(name)
    scaler._check_parameters()
    tally = first.tally
    statistic: Statistic
    if name == "standard":
        statistic = tally.moments.select(columns)
    elif name in ("minmax", "maxabs"):
        statistic = tally.extrema.select(columns)
    else:
        q = np.asarray(cast("QuantileLearner", scaler).ranks())
        values = first.sketch.quantile(q)[:, columns]
        statistic = Quantiles(q, values, tally.count[columns], np.zeros(len(columns)))
    scaler.fit_statistic(statistic, tally.num_rows, len(columns), None)
    mapped: np.ndarray = scaler.transform(ends)
    return mapped


def curved_map(name: str, columns: np.ndarray, first: FirstLook, shapes: Shapes) -> Curved:
    """Return how a power or quantile map, fitted to the quantiles of columns, divides them."""
    grid = shapes.grid[:, columns]
    extrema = first.tally.extrema
    low, high = extrema.min[columns], extrema.max[columns]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a quantile transformer has fewer landmarks than usual
        scaler = new_scaler(name).fit(np.vstack([low, grid, high]))
    mapped = scaler.transform(np.vstack([low, grid, high]))
    start = np.maximum(mapped[0], -_FARTHEST)
    stop = np.minimum(mapped[-1], _FARTHEST)
    ends = np.linspace(start, stop, NUM_BINS + 1)
    edges = scaler.inverse_transform(ends)
    edges = np.where(np.isnan(edges), low, edges)  # beyond what the map can give
    edges = np.clip(np.maximum.accumulate(edges), low, high)
    edges[0] = np.where(start == mapped[0], low, edges[0])
    edges[-1] = np.where(stop == mapped[-1], high, edges[-1])
    upto = scaler.transform(edges) < ends - _ROUNDING
    return Curved(edges, upto, start, stop, skewness(mapped[1:-1]))
