"""The arrays that jobs work on: shape, dtype, memory order, NaN or not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["Arrays", "Case"]

#: Where the channels are; the others are tables, whose columns are the channels.
CHANNEL_AXIS = {"NC": 1, "NCL": 1, "NCHW": 1, "NHWC": 3, "ND": 1, "NTD": 2}
NAN_SHARE = 0.01


@dataclass(frozen=True)
class Case:
    """One array: `layout` is "C" or "F" for a table, or the axes of a batch."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "C"
    has_nan: bool = False

    @property
    def axis(self) -> int:
        """The channel axis."""
        return CHANNEL_AXIS.get(self.layout, 1)

    @property
    def other_axes(self) -> tuple[int, ...]:
        """The axes that statistics run over."""
        return tuple(axis for axis in range(len(self.shape)) if axis != self.axis)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def label(self) -> str:
        """Everything about the array, for people and for `--only`."""
        shape = "x".join(map(str, self.shape))
        return f"{shape} {self.dtype} {self.layout}{' NaN' if self.has_nan else ''}"

    def tiny(self) -> Case:
        """The same in all but size: for the smoke test, and to have peers compile beforehand."""
        limits = (50, 9) if len(self.shape) == 2 else (6, 5, 7, 8)
        shape = tuple(min(pair) for pair in zip(self.shape, limits, strict=False))
        return replace(self, shape=shape)


class Arrays:
    """The data of a case: normal, each channel with an offset and a spread of its own."""

    def __init__(self, case: Case) -> None:
        self.case = case
        #: Fitted scalers by name, made once for all jobs.
        self.fitted: dict[str, Any] = {}
        self.x = self._normal(seed=0, offset=10.0)
        if case.has_nan:
            rng = np.random.default_rng(1)
            flat = self.x.reshape(-1, order="A")  # a view, in either order
            positions = rng.integers(0, flat.size, max(1, int(NAN_SHARE * flat.size)))
            flat[positions] = np.nan

    @cached_property
    def out(self) -> np.ndarray:
        """Where results go; its pages exist."""
        out = np.empty_like(self.x)
        out.fill(0)
        return out

    @cached_property
    def training(self) -> np.ndarray:
        """What a scaler is fitted on before it transforms: the table, unless it is small."""
        enough = 1000
        rows, *rest = self.case.shape
        if rows >= enough:
            return self.x
        return Arrays(replace(self.case, shape=(enough, *rest))).x

    @cached_property
    def dy(self) -> np.ndarray:
        """The gradient of an output."""
        return self._normal(seed=2, offset=0.0)

    @cached_property
    def gamma(self) -> np.ndarray:
        """A scale for each channel."""
        return np.linspace(0.5, 1.5, self.case.shape[self.case.axis])

    @cached_property
    def beta(self) -> np.ndarray:
        """A shift for each channel."""
        return np.linspace(-1.0, 1.0, self.case.shape[self.case.axis])

    def along_channels(self, vector: np.ndarray) -> np.ndarray:
        """Return a vector of C values in a shape that broadcasts against the array."""
        return np.expand_dims(vector, self.case.other_axes)

    def _normal(self, seed: int, offset: float) -> np.ndarray:
        case = self.case
        dtype = np.dtype(case.dtype)
        transposed = case.layout == "F"
        x = np.empty(case.shape[::-1] if transposed else case.shape, dtype)
        np.random.default_rng(seed).standard_normal(out=x, dtype=dtype)
        x = x.T if transposed else x
        num_channels = case.shape[case.axis]
        rng = np.random.default_rng(seed + 100)
        # In place: the largest array is a sixth of the memory that a run is meant for.
        x *= self.along_channels(rng.uniform(0.5, 2.0, num_channels).astype(dtype))
        x += self.along_channels(rng.uniform(-offset, offset, num_channels).astype(dtype))
        return x
