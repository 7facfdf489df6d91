"""Exact quantiles that stay on a device: selection by the digits of values, a byte at a time."""

from __future__ import annotations

import math

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.device import view
from normcore_cupy.launcher import Launcher, dtype_name

__all__ = ["Selection"]

# Of selection.cuh.
_BINS, _HISTOGRAMS = 256, 32
_THREADS = 256
_QUANTILES = 8  # at a time, each of two ranks; a warp has a lane for each rank
_SECTOR = 32  # bytes, that memory is read in
_BLOCKS = 1056  # that fill a device: eight for each processor of a H200
_POSITIONS = 16  # of a thread, at least
_MEMORY = 1 << 26  # bytes of the histograms of the channels that are worked on at a time


class Selection:
    """Values by rank.

    Parameters
    ----------
    launcher : Launcher
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher, self._device = launcher, launcher.device

    def around(self, x: Array, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the two values around each quantile of an (N, C, S) array, on the host.

        The only wait is for the results.

        Returns
        -------
        values : array of shape (R, 2, C)
            NaN in channels without numbers.
        numbers, infinite : arrays of shape (C,)
            How many values are numbers, and how many are infinite.
        """
        num_channels, positions = x.shape[1], x.shape[0] * x.shape[2]
        each = 2 * min(q.size, _QUANTILES) * _BINS * 8
        step = max(1, min(num_channels, _MEMORY // each))
        found = [
            [
                self._find(x[:, start : start + step, :], q[first : first + _QUANTILES])
                for start in range(0, num_channels, step)
            ]
            for first in range(0, q.size, _QUANTILES)
        ]
        host = [np.concatenate([self._device.to_host(out) for out in row], axis=1) for row in found]
        values = np.concatenate([rows[:-2].reshape(-1, 2, num_channels) for rows in host])
        nans, infinite = host[0][-2:]
        return values, positions - nans, infinite

    def _find(self, x: Array, q: np.ndarray) -> Array:
        """Return the values at ranks, and the totals, of few channels (2 R + 2, C)."""
        device = self._device
        dtypes = dtype_name(x), "float64"
        num_samples, num_channels, num_inner = x.shape
        positions, num_ranks = num_samples * num_inner, 2 * q.size
        grid, block, per_range, axes = _launch(x, num_ranks)
        counts = device.zeros((num_ranks * _BINS + 2, num_channels), np.int64)
        totals, histograms = counts[:2], counts[2:]
        state = device.empty((4 * num_ranks + 1, num_channels), np.int64)
        out = device.empty((num_ranks + 2, num_channels), np.float64)
        x_view, quantiles = view(device, x, axes), device.asarray(q)
        of_ranks = np.int32(num_ranks)
        for shift in reversed(range(0, 8 * x.dtype.itemsize, 8)):
            depth = grid[2] if shift + 8 < 8 * x.dtype.itemsize else 1
            self._launcher.run(
                "count_digits", dtypes, (*grid[:2], depth), block, x_view, np.int32(shift),
                of_ranks, state, per_range, histograms, totals,
            )  # fmt: skip
            self._launcher.run(
                "choose_digits", dtypes, (-(-num_channels // 8), 1, 1), (32, 8, 1), histograms,
                np.int32(shift), of_ranks, quantiles, np.int64(positions), np.int64(num_channels),
                state, totals, out,
            )  # fmt: skip
        return out


def _launch(
    x: Array, num_ranks: int
) -> tuple[tuple[int, int, int], tuple[int, int, int], np.int64, tuple[int, int]]:
    """Return grid, block, positions of a range, and which axis of positions is the outer one.

    Neighbouring threads read neighbouring channels where those are closest in memory.
    """
    num_samples, num_channels, num_inner = x.shape
    outer, between, inner = (
        abs(stride) if size > 1 else math.inf
        for stride, size in zip(x.strides, x.shape, strict=True)
    )
    width = 1
    if between < min(outer, inner):
        width = min(max(8, _SECTOR // x.dtype.itemsize), 1 << (num_channels - 1).bit_length())
    height = _THREADS // width
    slots = _HISTOGRAMS // max(width, 8)
    tiles = -(-num_channels // width)
    positions = num_samples * num_inner
    most = -(-positions // (height * _POSITIONS))
    per_range = -(-positions // min(most, max(1, -(-_BLOCKS // tiles))))
    per_range = -(-per_range // height) * height
    grid = tiles, -(-positions // per_range), -(-num_ranks // slots)
    return grid, (width, height, 1), np.int64(per_range), (1, 0) if outer < inner else (0, 1)
