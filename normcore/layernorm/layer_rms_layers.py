"""LayerNorm and RMSNorm as layers, in the manner of ``normcore.BatchNorm``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import check_integer
from normcore.layernorm.layer_rms import RowBatch
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
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Attributes
    ----------
    gamma, beta : ndarray of shape normalized_shape, float64, or None
        Scale and shift, at first 1 and 0.

    Notes
    -----
    The latest input is kept, by reference, for :meth:`backward`: do not change it before then.
    It does not travel in pickles and copies. A call that raises leaves the layer as it was.

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
        backend: str | Backend | None = None,
        precision: str | None = None,
    ) -> None:
        self.normalized_shape = _shape_of(normalized_shape)
        super().__init__(self.normalized_shape, eps, affine, bias, backend, precision)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.normalized_shape}, eps={self.eps}, "
            f"affine={self.affine}, bias={self.bias}{self._named_options})"
        )

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise ValueError(
                f"x has shape {shape}, but the last axes of this {type(self).__name__}'s input "
                f"are normalized_shape={self.normalized_shape}"
            )

    def _batch(self, x: Array, gamma: Array, beta: Array) -> RowBatch:
        return RowBatch(x, gamma, beta, len(self._shape), self.eps, self.backend, self.precision)


class RMSNorm(LayerNorm):
    """Divide each sample by its root mean square over its last axes, then scale its values.

    Parameters, attributes and notes are those of :class:`LayerNorm`, without `bias` and `beta`;
    `eps` is added to the mean square.
    """

    __module__ = "normcore"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        *,
        eps: float = 1e-5,
        affine: bool = True,
        backend: str | Backend | None = None,
        precision: str | None = None,
    ) -> None:
        super().__init__(
            normalized_shape, eps=eps, affine=affine, bias=False, backend=backend,
            precision=precision,
        )  # fmt: skip

    def __repr__(self) -> str:
        return (
            f"RMSNorm({self.normalized_shape}, eps={self.eps}, affine={self.affine}"
            f"{self._named_options})"
        )

    def backward(self, dy: Array, out: Array = None) -> tuple[Array, ...]:
        """Return dx and dgamma, as :meth:`LayerNorm.backward`."""
        return super().backward(dy, out)[:2]

    def _batch(self, x: Array, gamma: Array, beta: Array) -> RowBatch:
        depth = len(self._shape)
        return RowBatch(
            x, gamma, None, depth, self.eps, self.backend, self.precision, centered=False
        )


def _shape_of(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a sample."""
    given = normalized_shape if isinstance(normalized_shape, Sequence) else [normalized_shape]
    shape = tuple(check_integer("normalized_shape", each) for each in given)
    if not shape or math.prod(shape) < 1 or min(shape) < 1:
        raise ValueError(
            f"normalized_shape must hold at least one positive length, got {normalized_shape!r}"
        )
    return shape
