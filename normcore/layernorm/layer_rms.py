"""Layer and RMS norm: each sample by its own statistics, gamma and beta along the sample.

Language models have two variants of both. Some keep gamma as its distance from 1 (Gemma, and
Megatron's zero-centered gamma); and most normalize the sum of a block's input and output, and hand
that sum on.
"""

from __future__ import annotations

import math
from itertools import pairwise

from normcore import layout
from normcore.array_backend.abstract import Backend, batch_scale
from normcore.array_backend.precision import whole_calls
from normcore.array_backend.selection import in_order_with
from normcore.batchnorm.arguments import check_integer
from normcore.layernorm.arguments import PerSampleBatch
from normcore.layernorm.residual import added
from normcore.layout.namespace import Array, array_namespace, is_on_host
from normcore.layout.scalar_argument import as_float
from normcore.statistics import Moments, wide_integers

__all__ = [
    "RowBatch",
    "check_offset",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]


def layer_norm(
    x: Array,
    gamma: Array = None,
    beta: Array = None,
    *,
    residual: Array = None,
    gamma_offset: float = 0.0,
    num_axes: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, ...]:
    """Normalize each sample of `x` over its last axes.

    ``y = (x - mean) / sqrt(var + eps) * gamma + beta`` with the mean and the biased variance of
    the sample; the arithmetic is float64 whatever the dtype of `x`.

    Parameters
    ----------
    x : array of at least `num_axes` dimensions
        The leading axes count samples.
    gamma, beta : array of the shape of the last axes of `x`, optional
        Scale and shift; None stands for 1 and 0.
    residual : array of the shape of `x` and the dtype of y, optional
        Added to `x` first: the sum is rounded once to the dtype of y, normalized as it then is,
        and returned too.
    gamma_offset : float
        Added in float64 to a `gamma` that is given: 1 where a model keeps gamma - 1.
    num_axes : int
        How many axes make up a sample.
    eps : float
        Positive; added to the variance.
    out : array, optional
        Where to write y: of the shape and memory order of `x` and the dtype of y;
        may be `x` itself.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Returns
    -------
    y : array
        Of the kind and shape of `x`; `out` if that was given. Floats keep their dtype, integers
        and booleans become float64.
    total : array
        ``x + residual``, of the kind and dtype of `y`; only where there is a `residual`.
    moments : Moments
        Of each sample, in C order; :func:`layer_norm_backward` wants them.

    Raises
    ------
    TypeError
        If `x` is not numeric and real, or `out` or `residual` have another dtype than the result.
    ValueError
        If a sample has no values, and if `gamma`, `beta`, `residual`, `gamma_offset`, `num_axes`,
        `eps` or `out` do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> y, moments = F.layer_norm(x, eps=1e-12)
    >>> y
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    return _normalized(
        x, gamma, beta, residual, gamma_offset, num_axes, eps, out, backend, precision, True
    )


def layer_norm_backward(
    dy: Array,
    x: Array,
    moments: Moments,
    gamma: Array = None,
    *,
    gamma_offset: float = 0.0,
    num_axes: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`layer_norm` with respect to `x`, `gamma` and `beta`.

    Parameters
    ----------
    dy : array
        Gradient of the loss with respect to y; of the shape of `x` and the dtype of y.
    x : array
        What the forward call normalized: its input, or the sum that it returned.
    moments : Moments
        What the forward call returned.
    gamma, gamma_offset, num_axes, eps, backend, precision
        As in the forward call.
    out : array, optional
        Where to write dx: of the shape, memory order and dtype of `dy`; may be `dy` itself.

    Returns
    -------
    dx : array
        Of the kind of `dy`; `out` if that was given. Where a `residual` was added, this and the
        gradient with respect to the sum itself make up that of both terms.
    dgamma, dbeta : array of the shape of a sample
        Float64, of the kind of `dy`; computed whether or not `gamma` and `beta` were given.

    Raises
    ------
    TypeError
        If `dy` or `out` have another dtype than y, or `moments` are none.
    ValueError
        If `dy` or `out` have another shape than `x`, if `moments` are of another number of
        samples, and as for :func:`layer_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> y, moments = F.layer_norm(x)
    >>> dx, dgamma, dbeta = F.layer_norm_backward(np.ones_like(y), x, moments)
    >>> dbeta
    array([2., 2.])
    """
    return _differentiated(
        dy, x, moments, gamma, gamma_offset, num_axes, eps, out, backend, precision, True
    )


def rms_norm(
    x: Array,
    gamma: Array = None,
    *,
    residual: Array = None,
    gamma_offset: float = 0.0,
    num_axes: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, ...]:
    """Divide each sample of `x` by its root mean square over the last axes.

    ``y = x / sqrt(mean(x**2) + eps) * gamma``; results and errors are those of
    :func:`layer_norm`.

    Parameters
    ----------
    x, gamma, residual, gamma_offset, num_axes, eps, out, backend, precision
        As for :func:`layer_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> y, moments = F.rms_norm(np.array([[1.0, 7.0]]), eps=1e-12)
    >>> y.round(12)
    array([[0.2, 1.4]])
    """
    return _normalized(
        x, gamma, None, residual, gamma_offset, num_axes, eps, out, backend, precision, False
    )


def rms_norm_backward(
    dy: Array,
    x: Array,
    moments: Moments,
    gamma: Array = None,
    *,
    gamma_offset: float = 0.0,
    num_axes: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Array]:
    """Gradients of :func:`rms_norm` with respect to `x` and `gamma`.

    Results and errors are those of :func:`layer_norm_backward`, without dbeta.

    Parameters
    ----------
    dy, x, moments, gamma, gamma_offset, num_axes, eps, out, backend, precision
        As for :func:`layer_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> y, moments = F.rms_norm(x)
    >>> dx, dgamma = F.rms_norm_backward(np.ones_like(y), x, moments)
    >>> dx.shape, dgamma.shape
    ((2, 2), (2,))
    """
    return _differentiated(
        dy, x, moments, gamma, gamma_offset, num_axes, eps, out, backend, precision, False
    )[:2]


def _normalized(
    x: Array,
    gamma: Array,
    beta: Array,
    residual: Array,
    gamma_offset: float,
    num_axes: int,
    eps: float,
    out: Array,
    backend: str | Backend | None,
    precision: str | None,
    centered: bool,
) -> tuple[Array, ...]:
    """Return y, the sum if there is a residual, and the moments."""
    total = x if residual is None else added(x, residual, backend)
    whole = whole_calls(total, backend, precision, _offset_or_none(gamma_offset))
    if whole is not None:
        done = whole.row_norm(total, gamma, beta, num_axes, eps, centered, out)
        if done is not None:
            return done if residual is None else (done[0], total, done[1])
    with in_order_with(total, backend):
        batch = RowBatch(
            total, gamma, beta, num_axes, eps, backend, precision,
            centered=centered, gamma_offset=gamma_offset,
        )  # fmt: skip
        y, moments = batch.forward(out)
    return (y, moments) if residual is None else (y, total, moments)


def _differentiated(
    dy: Array,
    x: Array,
    moments: Moments,
    gamma: Array,
    gamma_offset: float,
    num_axes: int,
    eps: float,
    out: Array,
    backend: str | Backend | None,
    precision: str | None,
    centered: bool,
) -> tuple[Array, Array, Array]:
    """Return the gradients, that of beta too."""
    whole = whole_calls(dy, backend, precision, _offset_or_none(gamma_offset))
    if whole is not None and isinstance(moments, Moments):
        done = whole.row_norm_backward(dy, x, moments, gamma, num_axes, eps, centered, out)
        if done is not None:
            return done
    with in_order_with(x, backend):
        batch = RowBatch(
            x, gamma, None, num_axes, eps, backend, precision,
            centered=centered, gamma_offset=gamma_offset,
        )  # fmt: skip
        return batch.backward(dy, moments, True, out)


class RowBatch(PerSampleBatch):
    """A batch whose samples are the rows of an array (N, D); RMS norm does not center them."""

    __slots__ = ("centered", "num_rows", "shape")

    def __init__(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        num_axes: int,
        eps: float,
        backend: str | Backend | None,
        precision: str | None = None,
        *,
        centered: bool = True,
        gamma_offset: float = 0.0,
    ) -> None:
        super().__init__(x, eps, backend, precision)
        num_axes = check_integer("num_axes", num_axes)
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
        self.centered = centered
        offset = check_offset(gamma_offset)
        self.gamma = 1.0 if gamma is None else self._along(gamma, "gamma")
        if gamma is not None and offset:
            self.gamma = self.gamma + offset
        self.beta = 0.0 if beta is None else self._along(beta, "beta")

    def forward(self, out: Array) -> tuple[Array, Moments]:
        """Return y as the caller's kind of array, and the moments of each row."""
        target = self.adopt_out(out, self.x)
        rows = self._rows_to_write(target)
        y, moments = self.backend.normalize_rows(
            self._rows(self.x), self.gamma, self.beta, self.eps, centered=self.centered, out=rows
        )
        if self.centered:
            self._refuse_rounded(moments)
        return self._written(y, target, rows, out, self.given), moments

    def backward(
        self, dy: Array, moments: object, training: bool, out: Array
    ) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta as the caller's kind of array, in training."""
        dy = layout.as_array(dy, what="dy", beside=self.given)
        upstream = self.adopt_gradient(dy)
        checked = self.beside_data(self.check_moments(moments, self.num_rows, "samples"))
        target = self.adopt_out(out, upstream, moments=checked.parts)
        if self.centered:
            self._refuse_rounded(checked)
        rows = self._rows_to_write(target)
        dx, *gradients = self.backend.normalize_rows_backward(
            self._rows(upstream), self._rows(self.x), checked, self.gamma, self.eps,
            centered=self.centered, out=rows,
        )  # fmt: skip
        dgamma, dbeta = (
            self.backend.release(array_namespace(each).reshape(each, self.shape), dy)
            for each in gradients
        )
        return self._written(dx, target, rows, out, dy), dgamma, dbeta

    def _along(self, value: Array, name: str) -> Array:
        """Return gamma or beta as a vector along a row."""
        return self.vector(value, name, self.shape, "value of a sample")

    def _rows(self, array: Array) -> Array:
        """Return an array as rows, a copy where strides do not allow a view."""
        shape = (self.num_rows, math.prod(self.shape))
        return (
            array if tuple(array.shape) == shape else array_namespace(array).reshape(array, shape)
        )

    def _rows_to_write(self, array: Array) -> Array:
        """Return an array as rows that share its memory, or None."""
        if array is None or len(array.shape) == 2 == len(self.shape) + 1:
            return array
        depth = len(array.shape) - len(self.shape)
        split = tuple(array.shape)[:depth], tuple(array.shape)[depth:]
        strides = getattr(array, "strides", None)
        if not isinstance(strides, tuple):
            return None
        parts = zip(split, (strides[:depth], strides[depth:]), strict=True)
        return self._rows(array) if all(_is_one_run(*part) for part in parts) else None

    def _refuse_rounded(self, moments: Moments) -> None:
        """Refuse integers of which float64 would lose digits that matter."""
        if wide_integers.is_64_bit(self.x) and is_on_host(self.x):
            scale = batch_scale(moments, self.eps)
            label = "sample {} of x".format
            wide_integers.refuse_rounded(self._rows(self.x), 0, moments.mean, scale, label)

    def _written(self, result: Array, target: Array, rows: Array, out: Array, like: Array) -> Array:
        """Return a result in rows as the caller wants it."""
        if out is None:
            result = array_namespace(result).reshape(result, tuple(self.x.shape))
            return self.backend.release(result, like)
        if rows is None:
            target[...] = array_namespace(result).reshape(result, tuple(self.x.shape))
        return out


def check_offset(gamma_offset: object) -> float:
    """Return what is added to gamma, after making sure that it is a finite number."""
    offset = as_float("gamma_offset", gamma_offset)
    if not math.isfinite(offset):
        raise ValueError(f"gamma_offset must be finite, got {gamma_offset!r}")
    return offset


def _offset_or_none(gamma_offset: object) -> object:
    """Return None for the default, which is 0."""
    return None if type(gamma_offset) is float and gamma_offset == 0.0 else gamma_offset


def _is_one_run(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether axes can be merged into one without a copy."""
    axes = [each for each in zip(shape, strides, strict=True) if each[0] != 1]
    return all(stride == below * size for (_, stride), (size, below) in pairwise(axes))
