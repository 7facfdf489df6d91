"""Layer and RMS norm: each sample by its own statistics, gamma and beta along the sample."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from normcore import layout
from normcore.array_backend.abstract import Backend, batch_scale
from normcore.layernorm.arguments import Samples, check_integer
from normcore.layout.namespace import Array, array_namespace, is_on_host
from normcore.statistics import Moments, wide_integers

__all__ = ["layer_norm", "layer_norm_backward", "rms_norm", "rms_norm_backward"]


def layer_norm(
    x: Array,
    gamma: Array = None,
    beta: Array = None,
    *,
    num_axes: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
) -> tuple[Array, Moments]:
    """Normalize each sample of `x` over its last axes.

    ``y = (x - mean) / sqrt(var + eps) * gamma + beta`` with the mean and the biased variance of
    the sample; the arithmetic is float64 whatever the dtype of `x`.

    Parameters
    ----------
    x : array of at least `num_axes` dimensions
        The leading axes count samples.
    gamma, beta : array of the shape of the last axes of `x`, optional
        Scale and shift; None stands for 1 and 0.
    num_axes : int
        How many axes make up a sample.
    eps : float
        Positive; added to the variance.
    out : array, optional
        Where to write y: of the shape and memory order of `x` and the dtype of y;
        may be `x` itself.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.

    Returns
    -------
    y : array
        Of the kind and shape of `x`; `out` if that was given. Floats keep their dtype, integers
        and booleans become float64.
    moments : Moments
        Of each sample, in C order; :func:`layer_norm_backward` wants them.

    Raises
    ------
    TypeError
        If `x` is not numeric and real, or `out` has another dtype than the result.
    ValueError
        If a sample has no values, and if `gamma`, `beta`, `num_axes`, `eps` or `out` do not fit.
    """
    return _forward(x, gamma, beta, num_axes, eps, out, backend, centered=True)


def layer_norm_backward(
    dy: Array,
    x: Array,
    moments: Moments,
    gamma: Array = None,
    *,
    num_axes: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`layer_norm` with respect to `x`, `gamma` and `beta`.

    Parameters
    ----------
    dy : array
        Gradient of the loss with respect to y; of the shape of `x` and the dtype of y.
    x : array
        The input of the forward call.
    moments : Moments
        What the forward call returned.
    gamma, num_axes, eps, backend
        As in the forward call.
    out : array, optional
        Where to write dx: of the shape, memory order and dtype of `dy`; may be `dy` itself.

    Returns
    -------
    dx : array
        Of the kind of `dy`; `out` if that was given.
    dgamma, dbeta : array of the shape of a sample
        float64, of the kind of `dy`; computed whether or not `gamma` and `beta` were given.

    Raises
    ------
    TypeError
        If `dy` or `out` have another dtype than y, or `moments` are none.
    ValueError
        If `dy` or `out` have another shape than `x`, if `moments` are of another number of
        samples, and as for :func:`layer_norm`.
    """
    return _backward(dy, x, moments, gamma, num_axes, eps, out, backend, centered=True)


def rms_norm(
    x: Array,
    gamma: Array = None,
    *,
    num_axes: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
) -> tuple[Array, Moments]:
    """Divide each sample of `x` by its root mean square over the last axes.

    ``y = x / sqrt(mean(x**2) + eps) * gamma``; parameters, results and errors are those of
    :func:`layer_norm`.
    """
    return _forward(x, gamma, None, num_axes, eps, out, backend, centered=False)


def rms_norm_backward(
    dy: Array,
    x: Array,
    moments: Moments,
    gamma: Array = None,
    *,
    num_axes: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
) -> tuple[Array, Array]:
    """Gradients of :func:`rms_norm` with respect to `x` and `gamma`; as layer norm's."""
    dx, dgamma, _ = _backward(dy, x, moments, gamma, num_axes, eps, out, backend, centered=False)
    return dx, dgamma


class _Rows(Samples):
    """Arguments whose arrays are rows (N, D)."""

    __slots__ = ("num_rows", "shape")

    def __init__(self, x: Array, num_axes: int, eps: float, backend: str | Backend | None) -> None:
        super().__init__(x, eps, backend)
        num_axes = check_integer(num_axes, "num_axes")
        shape = tuple(self.x.shape)
        if not 1 <= num_axes <= len(shape):
            raise ValueError(
                f"num_axes must be at least 1 and at most the dimensions of x, whose shape is "
                f"{shape}, got {num_axes}"
            )
        self.shape = shape[-num_axes:]
        if math.prod(self.shape) == 0:
            raise ValueError(
                f"each sample needs at least 1 value, but the last {num_axes} axes of x of shape "
                f"{shape} hold none"
            )
        self.num_rows = math.prod(shape[:-num_axes])

    def along(self, value: Any, name: str, absent: float) -> Array:
        """Return gamma or beta as a vector along a row, or the number that stands for it."""
        if value is None:
            return absent
        return self.parameter(value, name, self.shape, "value of a sample")

    def rows(self, array: Array) -> Array:
        """Return an array as rows, a copy where strides do not allow a view."""
        shape = (self.num_rows, math.prod(self.shape))
        return (
            array if tuple(array.shape) == shape else array_namespace(array).reshape(array, shape)
        )

    def rows_to_write(self, array: Array) -> Any:
        """Return an array as rows that share its memory, or None."""
        if array is None or len(array.shape) == 2 == len(self.shape) + 1:
            return array
        depth = len(array.shape) - len(self.shape)
        split = tuple(array.shape)[:depth], tuple(array.shape)[depth:]
        strides = getattr(array, "strides", None)
        if not isinstance(strides, tuple):
            return None
        parts = zip(split, (strides[:depth], strides[depth:]), strict=True)
        return self.rows(array) if all(_is_one_run(*part) for part in parts) else None

    def refuse_rounded(self, moments: Any) -> None:
        """Refuse integers of which float64 would lose digits that matter."""
        if wide_integers.is_64_bit(self.x) and is_on_host(self.x):
            scale = batch_scale(moments, self.eps)
            label = "sample {} of x".format
            wide_integers.refuse_rounded(self.rows(self.x), 0, moments.mean, scale, label)

    def written(self, result: Array, target: Array, rows: Array, out: Array, like: Array) -> Any:
        """Return a result in rows as the caller wants it."""
        if out is None:
            result = array_namespace(result).reshape(result, tuple(self.x.shape))
            return self.backend.release(result, like)
        if rows is None:
            target[...] = array_namespace(result).reshape(result, tuple(self.x.shape))
        return out


def _is_one_run(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether axes can be merged into one without a copy."""
    axes = [each for each in zip(shape, strides, strict=True) if each[0] != 1]
    return all(stride == below * size for (_, stride), (size, below) in pairwise(axes))


def _forward(
    x: Array, gamma: Array, beta: Array, num_axes: int, eps: float, out: Array,
    backend: str | Backend | None, *, centered: bool,
) -> tuple[Array, Moments]:  # fmt: skip
    samples = _Rows(x, num_axes, eps, backend)
    gamma, beta = samples.along(gamma, "gamma", 1.0), samples.along(beta, "beta", 0.0)
    target = samples.target(out, samples.x)
    rows = samples.rows_to_write(target)
    y, moments = samples.backend.normalize_rows(
        samples.rows(samples.x), gamma, beta, samples.eps, centered=centered, out=rows
    )
    if centered:
        samples.refuse_rounded(moments)
    return samples.written(y, target, rows, out, samples.given), moments


def _backward(
    dy: Array, x: Array, moments: Moments, gamma: Array, num_axes: int, eps: float, out: Array,
    backend: str | Backend | None, *, centered: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    samples = _Rows(x, num_axes, eps, backend)
    gamma = samples.along(gamma, "gamma", 1.0)
    dy = layout.as_array(dy)
    upstream = samples.adopt_gradient(dy)
    moments = samples.statistics(moments, samples.num_rows, "samples")
    target = samples.target(out, upstream, samples.x)
    if centered:
        samples.refuse_rounded(moments)
    rows = samples.rows_to_write(target)
    dx, *gradients = samples.backend.normalize_rows_backward(
        samples.rows(upstream), samples.rows(samples.x), moments, gamma, samples.eps,
        centered=centered, out=rows,
    )  # fmt: skip
    dgamma, dbeta = (
        samples.backend.release(array_namespace(each).reshape(each, samples.shape), dy)
        for each in gradients
    )
    return samples.written(dx, target, rows, out, dy), dgamma, dbeta
