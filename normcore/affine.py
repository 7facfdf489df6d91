"""Four numbers per channel: apply, invert, compose.

Every affine normalizer maps ``y = ((x - center) / scale) * gamma + beta``: first zero center and
unit scale, then shift and scale.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from normcore.layout.namespace import Array, to_numpy

__all__ = ["Affine", "nonconstant"]

NAMES = ("center", "scale", "gamma", "beta")

# A spread of at most this many units of rounding of the location is the noise of a constant.
CONSTANT_EPS = 8.0 * float(np.finfo(np.float64).eps)


def nonconstant(spread: Array, location: Array) -> Array:
    """Return the scale of each channel: its spread, or 1 where the channel is constant.

    Parameters
    ----------
    spread : array of shape (C,)
        Standard deviation, range or interquartile range, not negative.
    location : array of shape (C,)
        Mean, extremum of largest magnitude or median: what the spread is measured around.

    Returns
    -------
    array of shape (C,)
        ``spread`` where it exceeds ``8 * eps * |location|``, whatever the number of rows, and 1
        elsewhere; NaN stays NaN.
    """
    spread = np.asarray(spread, dtype=np.float64)
    return np.where(spread <= CONSTANT_EPS * np.abs(location), 1.0, spread)


class Affine:
    """The map ``y = ((x - center) / scale) * gamma + beta`` of each channel.

    Parameters
    ----------
    center, scale, gamma, beta : scalar or array of shape (C,)
        One number for all channels or one for each; the defaults are the identity.
    center_low : array of shape (C,), optional
        What rounding took from the center. Where it is given, 64-bit integers are subtracted
        exactly from ``center + center_low``, and all else from the center alone.
    """

    __slots__ = ("_packed", "center_low", "laid_out", *NAMES)
    __module__ = "normcore"

    center: Array
    scale: Array
    gamma: Array
    beta: Array
    center_low: Any
    _packed: Any
    #: What the backend that used it last keeps beside it, to be used again; see :meth:`keep`.
    laid_out: Any

    def __init__(
        self,
        *,
        center: Array = 0.0,
        scale: Array = 1.0,
        gamma: Array = 1.0,
        beta: Array = 0.0,
        center_low: Any = None,
    ) -> None:
        place = object.__setattr__
        place(self, "center", center)
        place(self, "scale", scale)
        place(self, "gamma", gamma)
        place(self, "beta", beta)
        place(self, "center_low", center_low)
        place(self, "_packed", None)
        place(self, "laid_out", None)

    @classmethod
    def of_rows(cls, rows: np.ndarray) -> Affine:
        """Return the map whose numbers are the rows of a float64 array of shape (4, C)."""
        affine = object.__new__(cls)
        object.__setattr__(affine, "_packed", rows)
        object.__setattr__(affine, "center_low", None)
        object.__setattr__(affine, "laid_out", None)
        return affine

    def keep(self, laid_out: Any) -> None:
        """Keep what a backend made of the numbers, in place of what was kept before."""
        object.__setattr__(self, "laid_out", laid_out)

    def __getattr__(self, name: str) -> Any:
        """Return a number that stands among the rows only."""
        if name not in NAMES:
            raise AttributeError(f"Affine has no attribute {name!r}", name=name, obj=self)
        row = self._packed[NAMES.index(name)]
        object.__setattr__(self, name, row)
        return row

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Affine is immutable; make a new one with another {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _affine, (self.center, self.scale, self.gamma, self.beta, self.center_low)

    def __repr__(self) -> str:
        return (
            f"Affine(center={self.center!r}, scale={self.scale!r}, "
            f"gamma={self.gamma!r}, beta={self.beta!r})"
        )

    def inverse(self) -> Affine:
        """Return the inverse map: the same four numbers, swapped.

        Raises
        ------
        ValueError
            If gamma is 0 in some channel, which is named.
        """
        gamma = np.atleast_1d(to_numpy(self.gamma))
        zero = np.flatnonzero(gamma == 0)
        if zero.size:
            where = f"channel {zero[0]}" if gamma.size > 1 else "every channel"
            raise ValueError(f"cannot invert: gamma is 0 in {where}, which maps all values to beta")
        return Affine(center=self.beta, scale=self.gamma, gamma=self.scale, beta=self.center)

    def compose(self, outer: Affine) -> Affine:
        """Return the one map that equals this one followed by ``outer``, up to rounding."""
        return Affine(
            center=self.center,
            scale=self.scale,
            gamma=self.gamma * (outer.gamma / outer.scale),
            beta=((self.beta - outer.center) / outer.scale) * outer.gamma + outer.beta,
            center_low=self.center_low,
        )

    def vectors(self, num_channels: int, xp: ModuleType = np) -> tuple[Array, Array, Array, Array]:
        """Return center, scale, gamma and beta as float64 vectors of shape (C,).

        Raises
        ------
        ValueError
            If one of them has another length.
        """
        return (
            self._vector("center", num_channels, xp),
            self._vector("scale", num_channels, xp),
            self._vector("gamma", num_channels, xp),
            self._vector("beta", num_channels, xp),
        )

    def packed(self, num_channels: int) -> np.ndarray:
        """Return :meth:`vectors` as the rows of one read-only (4, C) array, made once."""
        packed: np.ndarray | None = self._packed
        if packed is None or packed.shape[1] != num_channels:
            vectors = self.vectors(num_channels)
            packed = np.concatenate(vectors).reshape(len(NAMES), num_channels)
            packed.flags.writeable = False
            object.__setattr__(self, "_packed", packed)
        return packed

    def select(self, channels: Any) -> Affine:
        """Return the map of some of the channels (an index array or a slice)."""
        return Affine(
            **{
                name: value if np.ndim(value) == 0 else value[channels]
                for name, value in ((name, getattr(self, name)) for name in (*NAMES, "center_low"))
            }
        )

    def _vector(self, name: str, num_channels: int, xp: ModuleType) -> Array:
        value = getattr(self, name)
        if xp is np:
            if type(value) is float:
                return np.full(num_channels, value)
            vector = np.asarray(value, dtype=np.float64)
            if vector.ndim == 0:
                return np.full(num_channels, vector)
        else:
            vector = xp.asarray(value, dtype=xp.float64)
            if vector.ndim == 0:
                return xp.broadcast_to(vector, (num_channels,))
        if tuple(vector.shape) != (num_channels,):
            raise ValueError(
                f"{name} has shape {tuple(vector.shape)}, but there are {num_channels} channels"
            )
        return vector


def _affine(
    center: Array, scale: Array, gamma: Array, beta: Array, center_low: Any = None
) -> Affine:
    return Affine(center=center, scale=scale, gamma=gamma, beta=beta, center_low=center_low)
