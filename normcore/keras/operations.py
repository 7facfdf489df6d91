"""Normalizations of the tensors of Keras's backend."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import keras
from keras import ops

from normcore import functional

if TYPE_CHECKING:
    from normcore.keras.on_torch import OfTensors

__all__ = ["OPERATIONS", "OfArrays", "Tensor", "Vectors", "as_floats", "serializable", "vector"]

#: A tensor of Keras's backend.
Tensor: TypeAlias = keras.KerasTensor
#: Gamma and beta.
Vectors: TypeAlias = tuple[Tensor | None, Tensor | None]


class OfArrays:
    """What layers are made of: of tensors of floats, and vectors of float32 at least.

    The functions are of a module that has them for channels on any axis: the core's, or those for
    JAX.
    """

    def __init__(self, functions: ModuleType) -> None:
        self.functions = functions

    def batch_norm(
        self, x: Tensor, vectors: Vectors, axis: int, eps: float, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, and mean and biased variance of the batch where the mask is True.

        As in Keras y is normalized everywhere.
        """
        y, found = self.functions.batch_norm(x, *vectors, axis=axis, eps=eps, mask=mask)
        mean, var = found.mean, found.var() if callable(found.var) else found.var
        if mask is not None:
            others = self.batch_norm_inference(x, mean, var, vectors, axis, eps)
            y = ops.where(ops.expand_dims(mask, axis), y, others)
        return y, mean, var

    def batch_norm_inference(
        self, x: Tensor, mean: Tensor, var: Tensor, vectors: Vectors, axis: int, eps: float
    ) -> Tensor:
        """Normalize with given statistics."""
        return self.functions.batch_norm_inference(x, mean, var, *vectors, axis=axis, eps=eps)

    def row_norm(
        self, x: Tensor, vectors: Vectors, num_axes: int, eps: float, centered: bool
    ) -> Tensor:
        """Return the layer norm over the last axes, or the RMS norm where that is not centered.

        The core refuses what holds nothing.
        """
        if 0 in x.shape:
            return x
        if centered:
            return _y(self.functions.layer_norm(x, *vectors, num_axes=num_axes, eps=eps))
        return _y(self.functions.rms_norm(x, vectors[0], num_axes=num_axes, eps=eps))

    def group_norm(
        self, x: Tensor, num_groups: int, vectors: Vectors, axis: int, eps: float
    ) -> Tensor:
        """Normalize groups of channels of each sample."""
        if 0 in x.shape:
            return x
        return _y(self.functions.group_norm(x, num_groups, *vectors, axis=axis, eps=eps))


def _y(made: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the result without the statistics that the core has beside it."""
    return made[0] if isinstance(made, tuple) else made


def _operations() -> OfArrays | OfTensors:
    name = keras.backend.backend()
    if name == "jax":
        return OfArrays(import_module("normcore.jax"))
    if name == "numpy":
        return OfArrays(functional)
    if name == "torch":
        from normcore.keras.on_torch import OfTensors

        return OfTensors()
    raise ImportError(
        f"normcore.keras computes on Keras's backends jax, torch and numpy, not on {name}; set the "
        "environment variable KERAS_BACKEND before Keras is imported"
    )


#: Those of Keras's backend.
OPERATIONS = _operations()


def as_floats(x: Tensor) -> Tensor:
    """Return a tensor of floats: itself, or integers in the dtype that they have in Keras."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return x if "float" in dtype else ops.cast(x, keras.backend.result_type(dtype, "float32"))


def vector(weight: Tensor | None, x: Tensor) -> Tensor | None:
    """Return a weight, if there is one, in float64 beside such an `x`, else in float32."""
    if weight is None:
        return None
    wide = keras.backend.standardize_dtype(x.dtype) == "float64"
    return ops.cast(weight, "float64" if wide else "float32")


serializable = keras.saving.register_keras_serializable(package="normcore")
