"""The map of every affine normalizer, by the coefficients of each channel: apply, invert, compose.

It is ``y = ((x - center) / scale) * gamma + beta``: first zero center and
unit scale, then shift and scale.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from normcore.layout.namespace import Array, to_numpy

__all__ = ["Affine", "nonconstant"]

COEFFICIENTS = ("center", "scale", "gamma", "beta")

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
        elsewhere; NaN stays NaN. Around an infinite location only a spread of 0 is constant.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> nc.nonconstant(np.array([2.0, 1e-17]), np.array([5.0, 5.0]))
    array([2., 1.])
    """
    spread = np.asarray(spread, dtype=np.float64)
    comparable = np.isfinite(location) | (spread == 0.0)
    return np.where(comparable & (spread <= CONSTANT_EPS * np.abs(location)), 1.0, spread)


class Affine:
    """The map ``y = ((x - center) / scale) * gamma + beta`` of each channel.

    Parameters
    ----------
    center, scale, gamma, beta : scalar or array of shape (C,)
        The coefficients, one for all channels or one for each; the defaults are the identity.
    center_low : array of shape (C,), optional
        What rounding took from the center. Where it is given, 64-bit integers are subtracted
        exactly from ``center + center_low``, and all else from the center alone.

    Examples
    --------
    >>> import normcore as nc
    >>> affine = nc.Affine(center=[1.0, 2.0], scale=[2.0, 4.0], beta=0.5)
    >>> affine.inverse().center
    0.5
    """

    __slots__ = ("_coefficients", "_inverse", "backend_cache", "center_low", *COEFFICIENTS)
    __module__ = "normcore"

    center: Array
    scale: Array
    gamma: Array
    beta: Array
    center_low: Array
    #: What the backend that used the map last made of it; see :meth:`cache`.
    backend_cache: object
    _coefficients: np.ndarray | None
    _inverse: Affine | None

    def __init__(
        self,
        *,
        center: Array = 0.0,
        scale: Array = 1.0,
        gamma: Array = 1.0,
        beta: Array = 0.0,
        center_low: Array = None,
    ) -> None:
        place = object.__setattr__
        place(self, "center", center)
        place(self, "scale", scale)
        place(self, "gamma", gamma)
        place(self, "beta", beta)
        place(self, "center_low", center_low)
        place(self, "_coefficients", None)
        place(self, "_inverse", None)
        place(self, "backend_cache", None)

    @classmethod
    def from_coefficients(cls, rows: np.ndarray) -> Affine:
        """Return the map whose coefficients are the rows of a float64 array of shape (4, C).

        Parameters
        ----------
        rows : float64 array of shape (4, C)
            Center, scale, gamma and beta, in this order; it is kept, not copied.
        """
        affine = object.__new__(cls)
        object.__setattr__(affine, "_coefficients", rows)
        object.__setattr__(affine, "center_low", None)
        object.__setattr__(affine, "_inverse", None)
        object.__setattr__(affine, "backend_cache", None)
        return affine

    def cache(self, made: object) -> None:
        """Keep what a backend made of the coefficients, in place of what was kept before.

        Parameters
        ----------
        made : object
            Read again as :attr:`backend_cache`, by whichever backend uses the map.
        """
        object.__setattr__(self, "backend_cache", made)

    def __getattr__(self, name: str) -> Array:
        """Return a coefficient of a map that was made from rows."""
        if name not in COEFFICIENTS:
            raise AttributeError(f"Affine has no attribute {name!r}", name=name, obj=self)
        assert self._coefficients is not None
        row = self._coefficients[COEFFICIENTS.index(name)]
        object.__setattr__(self, name, row)
        return row

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Affine is immutable; make a new one with another {name}")

    def __reduce__(self) -> tuple[Callable[..., Affine], tuple[Array, ...]]:
        return _affine, (self.center, self.scale, self.gamma, self.beta, self.center_low)

    def __repr__(self) -> str:
        return (
            f"Affine(center={self.center!r}, scale={self.scale!r}, "
            f"gamma={self.gamma!r}, beta={self.beta!r})"
        )

    def inverse(self) -> Affine:
        """Return the inverse map: the same coefficients, swapped; always the same object.

        Raises
        ------
        ValueError
            If gamma is 0 in some channel, which is named.
        """
        if self._inverse is not None:
            return self._inverse
        gamma = np.atleast_1d(to_numpy(self.gamma))
        zero = np.flatnonzero(gamma == 0)
        if zero.size:
            where = f"channel {zero[0]}" if gamma.size > 1 else "every channel"
            raise ValueError(f"cannot invert: gamma is 0 in {where}, which maps all values to beta")
        inverse = Affine(center=self.beta, scale=self.gamma, gamma=self.scale, beta=self.center)
        object.__setattr__(self, "_inverse", inverse)  # so that backends keep what they make of it
        return inverse

    def compose(self, outer: Affine) -> Affine:
        """Return the one map that equals this one followed by ``outer``, up to rounding.

        Parameters
        ----------
        outer : Affine
            The map that is applied to the results of this one.
        """
        return Affine(
            center=self.center,
            scale=self.scale,
            gamma=self.gamma * (outer.gamma / outer.scale),
            beta=((self.beta - outer.center) / outer.scale) * outer.gamma + outer.beta,
            center_low=self.center_low,
        )

    def vectors(self, num_channels: int, xp: ModuleType = np) -> tuple[Array, Array, Array, Array]:
        """Return center, scale, gamma and beta as float64 vectors of shape (C,).

        Parameters
        ----------
        num_channels : int
            C; one coefficient for all channels is repeated so often.
        xp : namespace, default=numpy
            Whose arrays are returned.

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

    def coefficients(self, num_channels: int) -> np.ndarray:
        """Return :meth:`vectors` as the rows of one read-only (4, C) array, made once.

        Parameters
        ----------
        num_channels : int
            As for :meth:`vectors`.
        """
        rows = self._coefficients
        if rows is None or rows.shape[1] != num_channels:
            vectors = self.vectors(num_channels)
            rows = np.concatenate(vectors).reshape(len(COEFFICIENTS), num_channels)
            rows.flags.writeable = False
            object.__setattr__(self, "_coefficients", rows)
        return rows

    def select(self, channels: slice | np.ndarray) -> Affine:
        """Return the map of some of the channels (an index array or a slice).

        Parameters
        ----------
        channels : int array or slice
            Which, in the order in which they are wanted; a mask of shape (C,) selects, too.
        """
        return Affine(
            **{
                name: value if np.ndim(value) == 0 else value[channels]
                for name, value in (
                    (name, getattr(self, name)) for name in (*COEFFICIENTS, "center_low")
                )
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
    center: Array, scale: Array, gamma: Array, beta: Array, center_low: Array = None
) -> Affine:
    return Affine(center=center, scale=scale, gamma=gamma, beta=beta, center_low=center_low)
