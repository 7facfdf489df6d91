"""64-bit integers beyond 2**53, which float64 rounds: exact moments, exact differences, refusals.

Kernels read integers as float64. Up to 2**53 that is exact; beyond, it takes up to 11 bits from
each value, which is all there is of a clock in nanoseconds. Here such integers become the sum of
two float64, and what is near a value of their channel is subtracted before anything rounds.
"""

# Design: moments are those of the distances from a whole number near the mean, which are rounded
# to 53 bits each, so the variance keeps its digits; what that rounding takes goes into the sum,
# which is exact. A map whose center is known to be large has the low part of it; others round
# their input as ever, and refuse it where that costs more than half the digits of the result.

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, reduce
from types import ModuleType
from typing import cast

import numpy as np

from normcore.affine import Affine
from normcore.layout.namespace import Array, DType, array_namespace, is_on_host, to_numpy
from normcore.layout.tiling import Block, blocks
from normcore.statistics import Moments
from normcore.statistics import array_api_double_double as dd
from normcore.statistics.array_api_moments import times_power
from normcore.statistics.statistic import StatisticT

__all__ = ["LARGE", "centered", "exactly", "is_64_bit", "refuse_rounded", "subtracted"]

_LIMIT = 2**53
#: A center from which on wide integers can lie so near that their difference loses digits.
LARGE = 2.0**52
#: Half of the digits of float64.
_HALF = 2.0**-26
# Elements of one block of a walk.
_BLOCK = 1 << 18


def is_64_bit(x: Array) -> bool:
    """Whether an array of any library holds integers that float64 may not hold."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "iu" and x.dtype.itemsize == 8
    return _is_64_bit(type(x).__module__, x.dtype)


@lru_cache(maxsize=256)
def _is_64_bit(library: str, dtype: DType) -> bool:
    # By library too: dtypes of two must not be compared.
    return str(dtype).rpartition(".")[2] in ("int64", "uint64")


def exactly(kernel: Callable[..., StatisticT], x: Array) -> Callable[..., StatisticT]:
    """Return a kernel that observes views of ``x`` as ``kernel`` does, moments exactly."""
    if not is_64_bit(x):
        return kernel

    def observe(view: Array, **options: Array) -> StatisticT:
        statistic = kernel(view, **options)
        if not isinstance(statistic, Moments):
            return statistic  # of values as they are: rounding keeps their order
        of_moments = cast("Callable[..., Moments]", kernel)
        return cast("StatisticT", _moments(of_moments, view, statistic, options))

    return observe


def centered(
    x: Array, affine: Affine, axis: int | None, elementwise: Callable[..., Array]
) -> tuple[Array, Affine]:
    """Return integers less the center, where that is known exactly, and the rest of the map.

    All else stays as it is, unless :func:`refuse_rounded` refuses it. ``elementwise`` is
    :func:`normcore.array_backend.over_views.elementwise`.
    """
    if not is_64_bit(x):
        return x, affine
    if affine.center_low is None:
        refuse_rounded(x, axis, affine.center, affine.scale)
        return x, affine
    numbers = {"center": affine.center, "center_low": affine.center_low}
    rest = Affine(scale=affine.scale, gamma=affine.gamma, beta=affine.beta)
    return elementwise(subtracted, axis, x, **numbers), rest


def subtracted(x: Array, center: Array, center_low: Array, out: Array = None) -> Array:
    """Return ``x - (center + center_low)`` of an ``(N, C, S)`` view of integers, as float64.

    Where ``center_low`` is 0, and for integers within 2**53, it is the difference rounded once.
    """
    xp = array_namespace(x)
    center, center_low = _column(xp, x, center), _column(xp, x, center_low)

    def compute(block: Block) -> Array:
        hi, lo = _pair(xp, x[block[0], :, block[1]])
        hi, error = dd.two_sum(hi, -center)
        return hi + (error + (lo - center_low))

    if not isinstance(x, np.ndarray):
        return compute((slice(None), slice(None)))
    out = np.empty(x.shape) if out is None else out
    for block in blocks(x.shape, _BLOCK):
        out[block[0], :, block[1]] = compute(block)
    return out


def refuse_rounded(
    x: Array,
    axis: int | None,
    center: Array,
    scale: Array,
    label: Callable[[int], str] | None = None,
) -> None:
    """Refuse integers of which ``(x - center) / scale`` would lose more than half the digits.

    That is so where float64 rounds some value of a channel whose scale is below ``2**-26`` of its
    center: the error then exceeds ``2**-27`` of the scale. Constants are refused, too, unless
    their center is known exactly: what they map to depends on the digits that are lost.

    Parameters
    ----------
    center, scale : numbers or arrays of shape (C,)
    label : callable, optional
        Names a channel in the error; by default ``channel 3 of x``.

    Raises
    ------
    ValueError
        Which names the first such channel.
    """
    if not (is_64_bit(x) and is_on_host(center)):  # no layer waits for a device
        return
    if axis is None:
        x, axis = x[..., None], -1
    axis %= x.ndim
    center, scale = np.abs(to_numpy(center)), np.abs(to_numpy(scale))
    suspects = np.broadcast_to((center >= LARGE) & (scale < _HALF * center), (int(x.shape[axis]),))
    xp = array_namespace(x)
    for channel in np.flatnonzero(suspects).tolist():
        lo = _pair(xp, x[(slice(None),) * axis + (slice(channel, channel + 1), ...)])[1]
        if bool(xp.any(lo != 0)):
            named = f"channel {channel} of x" if label is None else label(channel)
            raise ValueError(
                f"{named} holds integers beyond 2**53 that lie close together: float64 would round "
                "away more than half the digits of the result. Subtract an offset first, such as "
                "the smallest value, while they are integers"
            )


def _pair(xp: ModuleType, x: Array) -> dd.Pair:
    """Return integers as unevaluated sums of two float64, exactly."""
    upper, lower = xp.astype(x >> 32, xp.float64), xp.astype(x & 0xFFFFFFFF, xp.float64)
    return dd.fast_two_sum(upper * 2.0**32, lower)


def _column(xp: ModuleType, x: Array, vector: Array) -> Array:
    """Return float64 numbers of channels beside ``x``, to meet an ``(N, C, S)`` block of it."""
    vector = np.broadcast_to(np.asarray(to_numpy(vector), dtype=np.float64), (x.shape[1],))
    if xp is not np:
        vector = xp.asarray(np.array(vector), device=getattr(x, "device", None))
    return vector[:, None]


def _wide_channels(x: Array, moments: Moments) -> Array:
    """Return which channels hold integers beyond 2**53, or None where none does.

    Parameters
    ----------
    moments : Moments
        Of the rounded values, without weights. None of them lies further from the mean than the
        root of m2, so most data need no other look.
    """
    xp = array_namespace(x)
    if 0 in x.shape:
        return None
    bound = xp.abs(moments.mean) + moments.m2**0.5
    if bool(xp.all(bound < LARGE)):
        return None
    wide = (xp.max(x, axis=(0, 2)) > _LIMIT) | (xp.min(x, axis=(0, 2)) < -_LIMIT)
    return wide if bool(xp.any(wide)) else None


def _moments(
    kernel: Callable[..., Moments], x: Array, rounded: Moments, options: dict[str, Array]
) -> Moments:
    """Return the moments of ``x``, those of ``rounded`` for channels that are not wide."""
    plain = rounded
    if "weights" in options:
        plain = kernel(x, **{key: each for key, each in options.items() if key != "weights"})
    wide = _wide_channels(x, plain)
    if wide is None:
        return rounded
    xp = array_namespace(x)
    mean = rounded.mean
    pivot = xp.where(xp.isfinite(mean), xp.round(mean), xp.zeros_like(mean))

    def of_block(block: Block) -> Moments:
        hi, lo = _pair(xp, x[block[0], :, block[1]])
        hi, error = dd.two_sum(hi, -pivot[:, None])
        hi, lo = dd.two_sum(hi, error + lo)
        given = dict(options)
        if "weights" in options:
            given["weights"] = options["weights"][block[0], block[1]]
        near = kernel(hi, **given)
        if bool(xp.any(lo != 0)):
            near = _with_sum(near, kernel(lo, **given))
        return near

    near = reduce(Moments.merge, (of_block(block) for block in blocks(x.shape, _BLOCK)))
    parts = near.parts
    shift = times_power(xp, pivot, -parts[6, ...])
    moved = dd.multiply((parts[0, ...], parts[1, ...]), (shift, xp.zeros_like(shift)))
    exact = _replaced(xp, parts, dd.add((parts[2, ...], parts[3, ...]), moved))
    return Moments(xp.where(wide[None, :], exact, rounded.parts), wide)


def _with_sum(moments: Moments, rest: Moments) -> Moments:
    """Return the moments with the sum of the rest added, too small to change m2."""
    xp, parts, unit = array_namespace(rest.parts), moments.parts, moments.parts[6, ...]
    added = tuple(
        times_power(xp, rest.parts[row, ...], rest.parts[6, ...] - unit) for row in (2, 3)
    )
    return Moments(_replaced(xp, parts, dd.add((parts[2, ...], parts[3, ...]), added)))


def _replaced(xp: ModuleType, parts: Array, total: dd.Pair) -> Array:
    """Return the state with another sum."""
    return xp.concat([parts[:2, ...], total[0][None, :], total[1][None, :], parts[4:, ...]])
