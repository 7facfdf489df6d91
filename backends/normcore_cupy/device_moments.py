"""Moments on a device: what they give is computed there in one launch, not term by term."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import numpy as np

from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import as_float
from normcore.statistics import Moments
from normcore.statistics.statistic import Channels
from normcore_cupy.device import RUNNING
from normcore_cupy.launcher import FLOATING, Launcher, dtype_name
from normcore_cupy.plan import of_columns, of_merge

__all__ = ["DeviceMoments", "merged_states", "update_running"]

_FLOAT64 = ("float64", "float64")


class DeviceMoments(Moments):
    """Moments whose parts lie on a device.

    Parameters
    ----------
    parts : float64 array of the device, (7, C)
    launcher : Launcher
    summaries : dict, optional
        By ddof, the array whose rows are mean, variance and standard deviation that are known
        already, and the first of them.
    """

    __slots__ = ("_launcher", "_summaries")

    def __init__(
        self,
        parts: Array,
        launcher: Launcher,
        summaries: dict[float, tuple[Array, int]] | None = None,
    ) -> None:
        super().__init__(parts)
        self._launcher = launcher
        self._summaries = {} if summaries is None else summaries

    def __reduce__(self) -> tuple[Callable[..., Moments], tuple[Array, ...]]:
        return Moments, (self.parts, self.wide)

    @property
    def mean(self) -> Array:
        return self._summary(0.0, 0)

    def var(self, ddof: float = 0) -> Array:
        return self._summary(as_float("ddof", ddof), 1)

    def std(self, ddof: float = 0) -> Array:
        return self._summary(as_float("ddof", ddof), 2)

    def running(
        self, mean: Array, var: Array, weight: float, ddof: float = 1
    ) -> tuple[Array, Array]:
        launcher = self._launcher
        old = self._vector("mean", mean), self._vector("var", var)
        rows = launcher.device.empty((2, self.num_channels), np.float64)
        new = rows[0, ...], rows[1, ...]
        weight, ddof = as_float("weight", weight), as_float("ddof", ddof)
        update_running(launcher, self, old, new, weight, ddof=ddof)
        return new

    def _vector(self, name: str, value: Array) -> Array:
        """Return a contiguous float64 vector of the device."""
        is_one = getattr(value, "strides", None) == (8,) and not isinstance(value, np.ndarray)
        if is_one and dtype_name(value) == "float64" and value.shape == (self.num_channels,):
            return value
        return self._launcher.vectors(self.num_channels, {name: value})[0, ...]

    def merge(self, other: Moments) -> Self:
        self._check_mergeable(other)
        if not self.num_channels:
            return self
        first, second = (self._launcher.state(each) for each in (self, other))
        second = second.reshape(1, *second.shape)
        both = type(self)(merged_states(self._launcher, _FLOAT64, first, second), self._launcher)
        wide = [each.wide for each in (self, other) if each.wide is not None]
        if wide:
            wide = [self._launcher.device.asarray(each) for each in wide]
            both.wide = wide[0] | wide[-1]
        return both

    def select(self, channels: Channels) -> Self:
        chosen = type(self)(self.parts[:, channels], self._launcher)
        chosen.wide = None if self.wide is None else self.wide[channels]
        return chosen

    def to_host(self) -> Moments:  # type: ignore[override]
        return Moments.from_state(self.to_state())

    def _summary(self, ddof: float, index: int) -> Array:
        """Return mean, variance or standard deviation, by its index."""
        if ddof not in self._summaries:
            launcher, num_channels = self._launcher, self.num_channels
            out = launcher.device.empty((3, num_channels), np.float64)
            if num_channels:
                launcher.run(
                    "summarize_moments", _FLOAT64, *of_columns(num_channels), launcher.state(self),
                    np.float64(ddof), np.int64(num_channels), out,
                )  # fmt: skip
            self._summaries[ddof] = out, 0
        rows, first = self._summaries[ddof]
        return rows[first + index, ...]


def merged_states(launcher: Launcher, dtypes: tuple[str, str], first: Array, parts: Array) -> Array:
    """Merge (ranges, 7, C) states, in order, after the state ``first`` if that is given."""
    ranges, num_rows, num_channels = parts.shape
    out = launcher.device.empty((num_rows, num_channels), np.float64)
    launcher.run(
        "merge_moments", dtypes, *of_merge(num_channels, ranges),
        first, parts, np.int64(ranges), np.int64(num_channels), out,
    )  # fmt: skip
    return out


def update_running(
    launcher: Launcher,
    moments: Moments,
    old: tuple[Array, Array],
    new: tuple[Array, Array],
    weight: float | None,
    *,
    ddof: float = 1.0,
    number: Array = None,
) -> None:
    """Move running averages towards a batch, in one launch.

    Parameters
    ----------
    moments : Moments on the device
    old, new : pairs of contiguous vectors of one float dtype each
        Mean and variance; `new` may be `old` itself.
    weight : float or None
        Of the batch; None where `number` says it.
    number : int64 array of one element, optional
        The number of batches, this one included, whose average it shall be.
    """
    num_channels = moments.num_channels
    if not num_channels:
        return
    pointer = launcher.device.pointer
    running = np.zeros((), RUNNING)
    for name, before, after in zip(("mean", "var"), old, new, strict=True):
        running[name] = pointer(before), 1 + FLOATING.index(dtype_name(before)), 0.0
        running[f"moved_{name}"] = pointer(after), 1 + FLOATING.index(dtype_name(after))
    running["ddof"], running["weight"] = ddof, math.nan if weight is None else weight
    running["number"] = 0 if number is None else pointer(number)
    launcher.run(
        "update_running", _FLOAT64, *of_columns(num_channels), launcher.state(moments), running,
        None, np.int64(num_channels),
    )  # fmt: skip
