"""Derivatives of normalizations of any order, in plain torch and in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Axes", "Statistics", "along_channels", "second_derivative", "tangent_of_backward",
           "tangent_of_forward"]  # fmt: skip


class Axes(NamedTuple):
    """What statistics and weights run over: functions of float64 tensors of the input's shape."""

    #: Mean over what shares its statistics, broadcast against the input.
    mean: Callable[[Tensor], Tensor]
    #: Sum over what shares a weight, of the weight's shape.
    total: Callable[[Tensor], Tensor]
    #: A weight in a shape that broadcasts against an input.
    spread: Callable[[Tensor, Tensor], Tensor]


def along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """Return one value for each channel in a shape that broadcasts against an input."""
    return vector.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])


class Statistics:
    """What normalizes an input, ``xhat = r * (x - mean(x))`` with ``r = 1 / sqrt(var + eps)``.

    Parameters
    ----------
    x : Tensor
    axes : Axes
        What the statistics and the weights run over.
    eps : float
    centered : bool
        Whether the mean is subtracted; it is not in RMS norm.
    given : Tensor, optional
        Mean and variance, (2, C), that do not depend on `x`.
    """

    def __init__(
        self,
        x: Tensor,
        axes: Axes,
        eps: float,
        *,
        centered: bool = True,
        given: Tensor | None = None,
    ) -> None:
        wide = x.double()
        self.x, self.axes, self.centered, self.is_given = x, axes, centered, given is not None
        if given is None:
            centre = axes.mean(wide) if centered else 0.0
            self.r = (axes.mean((wide - centre).square()) + eps).rsqrt()
        else:
            centre, var = (axes.spread(each, x) for each in given.double())
            self.r = (var + eps).rsqrt()
        self.xhat = self.r * (wide - centre)

    def project(self, v: Tensor) -> Tensor:
        """Return the derivative of xhat in a direction; the map is symmetric."""
        if self.is_given:
            return self.r * v
        mean = self.axes.mean
        return self.r * (v - (mean(v) if self.centered else 0.0) - self.xhat * mean(v * self.xhat))

    def spread(self, weight: Tensor | None) -> Tensor | float:
        """Return a weight beside the input; 1 where there is none."""
        return 1.0 if weight is None else self.axes.spread(weight.double(), self.x)


def _wide(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if each is None else each.double() for each in tensors]


def tangent_of_forward(
    tangents: Sequence[Tensor | None], weight: Tensor | None, statistics: Statistics
) -> Tensor:
    """Return the directional derivative of ``y = xhat * weight + bias``.

    Parameters
    ----------
    tangents : three tensors or None
        Of x, weight and bias.
    weight : Tensor, optional
    statistics : Statistics
        Of x.
    """
    x_, weight_, bias_ = _wide(tangents)
    y_ = torch.zeros_like(statistics.xhat)
    if x_ is not None:
        y_ = statistics.spread(weight) * statistics.project(x_)
    if weight_ is not None:
        y_ = y_ + statistics.spread(weight_) * statistics.xhat
    if bias_ is not None:
        y_ = y_ + statistics.spread(bias_)
    return y_.to(statistics.x.dtype)


def tangent_of_backward(
    tangents: Sequence[Tensor | None], dy: Tensor, weight: Tensor | None, statistics: Statistics
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the directional derivatives of dx, dweight and dbias, float64.

    With ``G = weight * dy`` the backward pass is ``dx = project(G)``, ``dweight = sum(dy * xhat)``
    and ``dbias = sum(dy)``; r changes by ``-r**2 * mean(xhat * x')``.

    Parameters
    ----------
    tangents : three tensors or None
        Of dy, x and weight.
    dy : Tensor
    weight : Tensor, optional
    statistics : Statistics
        Of x.
    """
    dy_, x_, weight_ = _wide(tangents)
    s, mean = statistics, statistics.axes.mean
    wide, gamma = dy.double(), statistics.spread(weight)
    zero = torch.zeros_like(s.xhat)
    dy_ = zero if dy_ is None else dy_
    weighted = gamma * dy_
    if weight_ is not None:
        weighted = weighted + s.spread(weight_) * wide
    dx_ = s.project(weighted)
    xhat_ = zero
    if x_ is not None:
        xhat_ = s.project(x_)
        if not s.is_given:
            given = gamma * wide
            dx_ = (
                dx_
                - s.r * mean(s.xhat * x_) * s.project(given)
                - s.r * (xhat_ * mean(given * s.xhat) + s.xhat * mean(given * xhat_))
            )
    total = s.axes.total
    return dx_, total(dy_ * s.xhat + wide * xhat_), total(dy_ + zero)


def second_derivative(
    cotangents: Sequence[Tensor | None], dy: Tensor, weight: Tensor | None, statistics: Statistics
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Differentiate the backward pass of a normalization.

    With ``G = weight * dy`` the backward pass is ``dweight = sum(dy * xhat)``, ``dbias = sum(dy)``
    and ``dx = r * (G - mean(G) - xhat * mean(G * xhat))``, a symmetric map of G.

    Parameters
    ----------
    cotangents : three tensors or None
        For dx, dweight and dbias.
    dy : Tensor
    weight : Tensor, optional
    statistics : Statistics
        Of x.

    Returns
    -------
    tuple
        With respect to `dy`, `x` and `weight`, in their dtypes.
    """
    dx_, dweight_, dbias_ = _wide(cotangents)
    s, mean, wide_dy = statistics, statistics.axes.mean, dy.double()
    gamma = s.spread(weight)
    dx_ = torch.zeros_like(s.xhat) if dx_ is None else dx_
    weighted = gamma * wide_dy
    projected = s.project(dx_)
    of_dy = gamma * projected
    of_xhat = torch.zeros_like(s.xhat)
    if dweight_ is not None:
        spread = s.spread(dweight_)
        of_dy, of_xhat = of_dy + spread * s.xhat, spread * wide_dy
    if dbias_ is not None:
        of_dy = of_dy + s.spread(dbias_)
    if s.is_given:
        of_x = s.project(of_xhat)
    else:
        a, b = mean(dx_ * s.xhat), mean(weighted * s.xhat)
        of_r = mean(dx_ * weighted) - a * b
        if s.centered:
            of_r = of_r - mean(dx_) * mean(weighted)
        of_x = s.project(of_xhat - s.r * (b * dx_ + a * weighted)) - s.r * s.r * s.xhat * of_r
    of_weight = None if weight is None else s.axes.total(projected * wide_dy).to(weight.dtype)
    return of_dy.to(dy.dtype), of_x.to(s.x.dtype), of_weight
