"""Comparisons at the precision that is promised, no looser."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import DTypeLike

from normcore.layout.namespace import Array
from normcore.statistics import Extrema, Moments
from normcore.statistics.brackets import Brackets
from normcore.testing.exact import exact_moments, exact_sqrt, ulp_error

__all__ = [
    "MEAN_ULP",
    "VAR_ULP",
    "check_batch",
    "check_batch_gradients",
    "check_brackets",
    "check_extrema",
    "check_moments",
    "check_sums",
    "rounding",
]

MEAN_ULP, VAR_ULP = 1.0, 4.0
_UNIT = 2.0**-52
_NORMAL = Fraction(float(np.finfo(np.float64).tiny))
# Where values cancel to nothing the mean has no digits of its own; double-double keeps this
# share of the largest one.
_CANCELLED = Fraction(1, 2**90)


def check_moments(moments: Moments, x: np.ndarray, weights: np.ndarray | None = None) -> None:
    """Assert that moments are those of the finite values of x (N, C, S), NaN left out.

    Count and mean within 1 ulp, variance and standard deviation within 4 ulp of exact rational
    arithmetic.
    """
    assert moments.num_channels == x.shape[1]
    for channel in range(x.shape[1]):
        column = x[:, channel, :]
        exact = exact_moments(column, weights)
        count, mean = moments.count[channel], moments.mean[channel]
        var, std = moments.var()[channel], moments.std()[channel]
        if exact is None:
            assert count == 0, f"channel {channel} has no values, but counts {count}"
            assert np.isnan([mean, var, std]).all(), f"channel {channel} has no values"
            continue
        assert ulp_error(count, exact.count) <= 1, f"count {count} of channel {channel}"
        largest = Fraction(float(np.nanmax(np.abs(column.astype(np.float64)))))
        cancelled = np.isfinite(mean) and (
            abs(Fraction(float(mean)) - exact.mean) <= largest * _CANCELLED
        )
        error = ulp_error(mean, exact.mean)
        assert cancelled or error <= MEAN_ULP, f"mean of channel {channel} is off by {error} ulp"
        if exact.m2 == 0:
            assert (var, std) == (0, 0), f"constant channel {channel} has variance {var}"
            continue
        error = ulp_error(std, exact_sqrt(exact.var()))
        assert error <= VAR_ULP, f"deviation of channel {channel} is off by {error} ulp"
        if exact.var() >= _NORMAL:
            error = ulp_error(var, exact.var())
            assert error <= VAR_ULP, f"variance of channel {channel} is off by {error} ulp"


def check_extrema(got: Extrema, expected: Extrema) -> None:
    """Assert that extrema are the same."""
    for name in ("count", "min", "max"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)


def check_sums(
    got: tuple[np.ndarray, ...],
    expected: tuple[np.ndarray, ...],
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
) -> None:
    """Assert that the sums of ``backward_reduce`` are right to 16 units of their terms."""
    gradient = np.abs(dy.astype(np.float64))
    terms = gradient, gradient * np.abs(x.astype(np.float64) - mean[:, None])
    for value, reference, term in zip(got, expected, terms, strict=True):
        units = np.finfo(np.float64).eps * term.sum(axis=(0, 2))
        assert np.all(np.abs(value - reference) <= 16 * units)


def rounding(dtype: DTypeLike, values: np.ndarray) -> np.ndarray:
    """Return what rounding once to a dtype may move values by."""
    info = np.finfo(dtype)
    moved: np.ndarray = np.maximum(float(info.eps) * np.abs(values), float(info.smallest_subnormal))
    return moved


def check_batch(
    y: np.ndarray,
    x: np.ndarray,
    moments: Moments,
    gamma: np.ndarray,
    beta: np.ndarray,
    eps: float,
    *,
    mask: np.ndarray | None = None,
    activation: str | None = None,
) -> None:
    """Assert that x (N, C, S) is normalized with these moments, up to some roundings of float64."""
    xhat, off, _ = _normalized(x, moments, eps)
    gamma, beta = gamma[:, None], beta[:, None]
    expected = xhat * gamma + beta
    if activation is not None:
        expected = np.maximum(expected, 0.0)
    if mask is not None:
        expected = np.where(mask[:, None, :], expected, 0.0)
        assert not y[np.broadcast_to(~mask[:, None, :], y.shape)].any(), "masked, but not 0"
    units = np.abs(gamma) * (np.abs(xhat) + off) + np.abs(beta)
    bound = 6 * _UNIT * units + rounding(y.dtype, expected)
    assert np.all(np.abs(y.astype(np.float64) - expected) <= bound)


def check_batch_gradients(
    found: tuple[np.ndarray, ...],
    dy: np.ndarray,
    x: np.ndarray,
    moments: Moments,
    gamma: np.ndarray,
    eps: float,
    *,
    y: np.ndarray,
    mask: np.ndarray | None = None,
    activation: str | None = None,
    training: bool = True,
) -> None:
    """Assert that gradients are right to 16 units of the terms that they are sums of.

    ``y`` is the result of the forward pass, which says where a ReLU lets the gradient through.
    """
    dx, dgamma, dbeta = found
    xhat, off, scale = _normalized(x, moments, eps)
    valid = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask[:, None, :], x.shape)
    dy = np.where(valid & (y > 0) if activation is not None else valid, dy.astype(np.float64), 0.0)
    size, terms, count = np.abs(dy), np.abs(xhat) + off, moments.count
    sums, most = (
        [(each * factor).sum(axis=(0, 2)) for factor in (1.0, other)]
        for each, other in ((dy, xhat), (size, terms))
    )
    expected, units = dy, size
    if training:
        mean_dy, mean_dy_xhat, units_dy, units_dy_xhat = (
            (each / count)[:, None] for each in (*sums, *most)
        )
        expected = dy - mean_dy - xhat * mean_dy_xhat
        units = size + units_dy + terms * units_dy_xhat
    a = gamma[:, None] / scale
    expected = np.where(valid, a * expected, 0.0)
    bound = 16 * _UNIT * np.abs(a) * units + rounding(dx.dtype, expected)
    assert np.all(np.abs(dx.astype(np.float64) - expected) <= bound)
    assert not dx[~valid].any(), "masked, but its gradient is not 0"
    assert np.all(np.abs(dbeta - sums[0]) <= 16 * _UNIT * most[0])
    assert np.all(np.abs(dgamma - sums[1]) <= 16 * _UNIT * most[1])


def _normalized(x: np.ndarray, moments: Moments, eps: float) -> tuple[np.ndarray, ...]:
    """Return xhat, what rounding the mean moves it by in units, and the scale."""
    center, scale = moments.mean[:, None], np.sqrt(moments.var() + eps)[:, None]
    return (x.astype(np.float64) - center) / scale, np.abs(center) / scale, scale


def check_brackets(got: Brackets, expected: Brackets) -> None:
    """Assert that brackets count and keep the same; sums of weights to 1e-12."""
    weights, other_weights = got.inside_weights, expected.inside_weights
    exact = other_weights is None
    for name in _SUMS:
        np.testing.assert_allclose(
            getattr(got, name), getattr(expected, name), 0.0 if exact else 1e-12, err_msg=name
        )
    assert (weights is None) == exact
    for rank in range(expected.num_ranks):
        for channel in range(expected.num_channels):
            kept = _kept(got.inside, weights, rank, channel)
            other = _kept(expected.inside, other_weights, rank, channel)
            np.testing.assert_array_equal(kept, other, f"kept of rank {rank}")


_SUMS = (
    "lower", "upper", "below", "equal_lower", "inside_count", "equal_upper", "count", "infinite",
)  # fmt: skip


def _kept(inside: Array, weights: Array, rank: int, channel: int) -> np.ndarray:
    """Return kept values, and weights, in an order of their own."""
    values = inside[rank][channel]
    rows = (values,) if weights is None else (weights[rank][channel], values)
    return np.stack(rows)[:, np.lexsort(rows)]
