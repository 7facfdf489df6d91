"""LayerNorm and RMSNorm as layers, in the manner of ``normcore.BatchNorm``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import check_integer
from normcore.layernorm.layer_rms import RowBatch, check_offset
from normcore.layernorm.residual import added
from normcore.layernorm.sample_layer import SampleLayer
from normcore.layout.namespace import Array

__all__ = ["LayerNorm", "RMSNorm"]


class LayerNorm(SampleLayer):
    """Normalize each sample over its last axes, then scale and shift its values.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The shape of a sample: the last axes of the input.
    eps : float
        Positive; added to the variance.
    affine : bool
        Whether to have `gamma`.
    bias : bool
        Whether to have `beta`, with `affine`.
    gamma_offset : float
        Added to `gamma`: 1 for models that keep gamma - 1.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Attributes
    ----------
    gamma, beta : ndarray of shape normalized_shape, float64, or None
        Scale and shift; at first `gamma` and its offset make 1, and `beta` is 0.

    Notes
    -----
    The latest input, or sum, is kept, by reference, for :meth:`backward`: do not change it before
    then. It does not travel in pickles and copies. A call that raises leaves the layer as it was.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> nc.LayerNorm(2)(np.array([[1.0, 3.0], [10.0, 30.0]])).round(3)
    array([[-1.,  1.],
           [-1.,  1.]])
    """

    __module__ = "normcore"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        *,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        gamma_offset: float = 0.0,
        backend: str | Backend | None = None,
        precision: str | None = None,
    ) -> None:
        self.normalized_shape = _shape_of(normalized_shape)
        super().__init__(self.normalized_shape, eps, affine, bias, backend, precision)
        self.gamma_offset = check_offset(gamma_offset)
        if self.affine:
            self.gamma -= self.gamma_offset

    def __call__(self, x: Array, out: Array = None, *, residual: Array = None) -> Array:
        """Return :meth:`forward` of the same arguments."""
        return self.forward(x, out, residual=residual)

    def forward(self, x: Array, out: Array = None, *, residual: Array = None) -> Array:
        """Normalize a batch, or its sum with another one.

        Parameters
        ----------
        x : array
            Samples, whose shape fits the layer.
        out : array, optional
            Where to write y; may be `x` itself, and then there is no backward pass, unless there
            is a `residual`.
        residual : array of the shape of `x` and the dtype of the result, optional
            Added to `x` first: the sum is rounded once to that dtype, and normalized as it then is.
            :meth:`backward` gives the gradient by way of y; with that of the sum itself it makes
            up the gradient with respect to both terms.

        Returns
        -------
        y : array
            Of the kind, shape and float dtype of `x` (float64 for integers); `out` if given.
        total : array
            ``x + residual``; only where there is a `residual`.

        Raises
        ------
        TypeError
            If `x` is not numeric and real, or `out` or `residual` have another dtype than the
            result.
        ValueError
            If the shape of `x` is not the layer's, or `out` or `residual` do not fit.
        """
        if residual is None:
            return super().forward(x, out)
        total = added(x, residual, self.backend)
        return super().forward(total, out), total

    def __repr__(self) -> str:
        bias = f", bias={self.bias}"
        return f"{type(self).__name__}({self._described}{bias}{self._named_options})"

    @property
    def _described(self) -> str:
        offset = f", gamma_offset={self.gamma_offset}" if self.gamma_offset else ""
        return f"{self.normalized_shape}, eps={self.eps}, affine={self.affine}{offset}"

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise ValueError(
                f"x has shape {shape}, but the last axes of this {type(self).__name__}'s input "
                f"are normalized_shape={self.normalized_shape}"
            )

    def _batch(self, x: Array, gamma: Array, beta: Array) -> RowBatch:
        return self._rows(x, gamma, beta, centered=True)

    def _rows(self, x: Array, gamma: Array, beta: Array, *, centered: bool) -> RowBatch:
        return RowBatch(
            x, gamma, beta, len(self._shape), self.eps, self.backend, self.precision,
            centered=centered, gamma_offset=self.gamma_offset,
        )  # fmt: skip


class RMSNorm(LayerNorm):
    """Divide each sample by its root mean square over its last axes, then scale its values.

    Parameters, attributes and notes are those of :class:`LayerNorm`, without `bias` and `beta`;
    `eps` is added to the mean square.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> nc.RMSNorm(2, eps=1e-12)(np.array([[3.0, 4.0]])).round(6)
    array([[0.848528, 1.131371]])
    """

    __module__ = "normcore"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        *,
        eps: float = 1e-5,
        affine: bool = True,
        gamma_offset: float = 0.0,
        backend: str | Backend | None = None,
        precision: str | None = None,
    ) -> None:
        super().__init__(
            normalized_shape, eps=eps, affine=affine, bias=False, gamma_offset=gamma_offset,
            backend=backend, precision=precision,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._described}{self._named_options})"

    def backward(self, dy: Array, out: Array = None) -> tuple[Array, ...]:
        """Return dx and dgamma, as :meth:`LayerNorm.backward`.

        Parameters
        ----------
        dy, out
            As for :meth:`LayerNorm.backward`.
        """
        return super().backward(dy, out)[:2]

    def _batch(self, x: Array, gamma: Array, beta: Array) -> RowBatch:
        return self._rows(x, gamma, None, centered=False)


def _shape_of(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a sample."""
    given = normalized_shape if isinstance(normalized_shape, Sequence) else [normalized_shape]
    shape = tuple(check_integer("normalized_shape", each) for each in given)
    if not shape or math.prod(shape) < 1 or min(shape) < 1:
        raise ValueError(
            f"normalized_shape must hold at least one positive length, got {normalized_shape!r}"
        )
    return shape
