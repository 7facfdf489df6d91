"""The two launches of brackets: one counts, the other keeps what lies inside."""

from __future__ import annotations

import math

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.launcher import Launcher, dtype_name
from normcore_cupy.plan import REDUCTION, of_merge, plan

__all__ = ["RANKS", "Counting"]

RANKS = 3  # of brackets.cuh


class Counting:
    """Brackets of an (N, C, S) view that is not empty.

    Parameters
    ----------
    launcher : Launcher
    x, weights
        As for :meth:`normcore.Backend.brackets`.
    lower, upper : float64 NumPy arrays of shape (R, C)
    """

    def __init__(
        self, launcher: Launcher, x: Array, lower: np.ndarray, upper: np.ndarray, weights: Array
    ) -> None:
        self._launcher, self._device = launcher, launcher.device
        self._dtypes = dtype_name(x), "float64"
        self._num_ranks, self._num_channels = lower.shape
        over = plan(x, REDUCTION)
        blocks = max(1, math.ceil(self._num_ranks / RANKS))
        self._over = over._replace(grid=(*over.grid[:2], blocks))
        ends = self._device.asarray(np.stack([lower, upper]))
        self._plane = launcher.plane(weights, "float64", x)
        self._views = x, self._plane
        self._arguments = ends, np.int64(self._num_ranks), over.per_range

    def count(self, keeps: bool) -> tuple[Array, Array]:
        """Return the sums (4 R + 3, C) and, where it ``keeps`` values, each thread's number.

        The numbers (R, C, threads) are of the values inside.
        """
        device, over = self._device, self._over
        rows = 4 * self._num_ranks + 3
        parts = device.empty((over.ranges, rows, self._num_channels), np.float64)
        threads = self._num_ranks, self._num_channels, over.ranges * over.block[1]
        kept = device.empty(threads, np.int64) if keeps else None
        self._launcher.launch(
            "brackets", self._dtypes, over, self._views, *self._arguments, parts, kept
        )
        sums = device.empty((rows, self._num_channels), np.float64)
        columns = rows * self._num_channels
        self._launcher.run(
            "merge_sums", self._dtypes, *of_merge(columns, over.ranges),
            parts, np.int64(over.ranges), np.int64(columns), sums,
        )  # fmt: skip
        return sums, kept

    def keep(self, kept: Array, total: int) -> tuple[Array, ...]:
        """Return the ``total`` values inside, by rank and channel, and their weights if any.

        Values have the dtype of the data.
        """
        flat = kept.reshape(-1)
        offsets = self._device.xp.cumsum(flat) - flat
        values = self._device.empty((total,), self._views[0].dtype)
        weights = None if self._plane is None else self._device.empty((total,), np.float64)
        self._launcher.launch(
            "brackets_keep", self._dtypes, self._over, self._views, *self._arguments,
            offsets, values, weights,
        )  # fmt: skip
        return (values,) if weights is None else (values, weights)
