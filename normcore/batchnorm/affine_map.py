"""An affine map of known coefficients, of an array of any library."""

from __future__ import annotations

import numpy as np

from normcore import layout
from normcore.affine import COEFFICIENTS, Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import BatchInput
from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import as_float
from normcore.scaling.finite_maps import FiniteAffine, finite, rescale_quarters
from normcore.scaling.result_bounds import narrow_dtype, representable

__all__ = ["apply"]


def apply(
    affine: Affine,
    x: Array,
    *,
    axis: int | None,
    out: Array = None,
    clip: tuple[float, float] | None = None,
    backend: str | Backend | None = None,
) -> Array:
    """Map each channel by its coefficients: ``((x - center) / scale) * gamma + beta``.

    It is what a scaler's ``transform`` does, with nothing fitted: every operation in float64, in
    this order, and one rounding to the dtype of the result.

    Parameters
    ----------
    affine : Affine
        Its coefficients are numbers, or arrays of shape (C,); ``affine.inverse()`` maps back.
    x : array of any shape
    axis : int or None
        The axis whose C entries are the channels; None makes all values one channel.
    out : array, optional
        Where to write the result: of the shape and memory order of `x` and the dtype of the
        result; may be `x` itself.
    clip : (lo, hi), optional
        Bounds of the result; NaN stays NaN. Where an end is no value of the dtype of the result,
        the next one inside takes its place.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.

    Returns
    -------
    array
        Of the kind and shape of `x`; `out` if that was given. Floats keep their dtype, integers
        and booleans become float64.

    Raises
    ------
    TypeError
        If `affine` is no :class:`~normcore.Affine`, `x` is not numeric and real, or `out` has
        another dtype than the result.
    ValueError
        If a coefficient has another number of entries than there are channels, `axis`, `clip` or
        `out` do not fit, or `x` holds integers that float64 cannot tell apart.

    Notes
    -----
    Infinity propagates, where scalers refuse it. The scale is taken as it is: one of 0 makes NaN
    and infinities, where scalers put 1.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> affine = nc.Affine(center=np.array([1.0, 2.0]), scale=2.0)
    >>> nc.functional.apply(affine, np.array([[3.0, 2.0], [1.0, 8.0]]), axis=1)
    array([[1., 0.],
           [0., 3.]])
    """
    if not isinstance(affine, Affine):
        raise TypeError(f"affine must be a normcore.Affine, not {type(affine).__name__}")
    bounds = None if clip is None else _checked_bounds(clip)
    given = BatchInput(x, backend, "exact")
    with given.backend.in_order_with(given.given):
        target = given.adopt_out(out, given.x)
        channels = 1
        if axis is not None:
            channels = int(given.x.shape[layout.positive_axis(axis, len(given.x.shape))])
        coefficients = {
            name: _coefficient(given, name, getattr(affine, name), channels)
            for name in (*COEFFICIENTS, "center_low")
        }
        of_channels = Affine(**coefficients)
        if all(isinstance(value, float | np.ndarray | None) for value in coefficients.values()):
            of_channels = finite(of_channels, channels)
        dtype = narrow_dtype(given.x)
        if bounds is not None and dtype is not None:
            bounds = representable(*bounds, dtype)
        if isinstance(of_channels, FiniteAffine) and of_channels.unit is not None:
            y = rescale_quarters(
                given.backend, given.x, of_channels, axis, out=target, clip=bounds,
                refuse_infinite=False,
            )  # fmt: skip
        else:
            y = over_views.rescale(
                given.backend, given.x, of_channels, axis, out=target, clip=bounds
            )
        return given.release(y, out)


def _coefficient(given: BatchInput, name: str, value: Array, channels: int) -> Array:
    """Return a coefficient as a float64 vector beside the array, or as a float."""
    if value is None:
        return None
    if np.ndim(value) == 0:
        return as_float(name, value if np.isscalar(value) else float(value))
    return given.parameter(value, name, (channels,), "channel")


def _checked_bounds(clip: tuple[float, float]) -> tuple[float, float]:
    try:
        lo, hi = clip
    except (TypeError, ValueError):
        raise ValueError(f"clip must be a pair (lo, hi), got {clip!r}") from None
    lo, hi = as_float("clip", lo), as_float("clip", hi)
    if not lo <= hi:
        raise ValueError(f"clip must be a pair with lo <= hi, got {clip!r}")
    return lo, hi
