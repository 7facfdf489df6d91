"""What each normalization computes: on the host by the core, and in JAX's terms.

The second form has the derivatives from the second order on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import numpy as np
from jax import numpy as jnp

from normcore import functional, layout
from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import Batch
from normcore.layernorm.group_instance import GroupBatch
from normcore.layernorm.layer_rms import RowBatch
from normcore.layout.bfloat16 import is_floating
from normcore.statistics import Moments

__all__ = ["Normalization", "Operands", "result_dtype", "statistics_dtype", "wide"]

#: Arrays by their names in normcore.functional, those that there are.
Operands: TypeAlias = dict[str, jax.Array]


def statistics_dtype() -> np.dtype:
    """Return float64, or float32 where JAX has no wider numbers."""
    dtype: np.dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return dtype


def wide(x: jax.Array) -> jax.Array:
    """Return an array in the widest numbers that JAX has."""
    return x.astype(statistics_dtype())


def result_dtype(x: jax.Array) -> np.dtype:
    """Return the dtype of a normalized array: its own, or the widest one for integers."""
    dtype: np.dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else statistics_dtype()
    return dtype


@dataclass(frozen=True)
class Normalization:
    """A function of :mod:`normcore.functional`, with all its arguments that are no arrays.

    Parameters
    ----------
    name : str
    names : tuple of str
        The arrays that it takes, in the order in which the methods take them.
    eps, axis, num_axes, num_groups, gamma_offset, precision
        As in the core, where the function has them.
    backend : Backend
        What computes on NumPy arrays.
    """

    name: str
    names: tuple[str, ...]
    eps: float
    precision: str
    backend: Backend
    axis: int = 1
    num_axes: int = 1
    num_groups: int = 1
    gamma_offset: float = 0.0

    @property
    def of_rows(self) -> bool:
        """Whether the last axes of an input are normalized, and not others than a channel's."""
        return self.name in ("layer_norm", "rms_norm")

    @property
    def of_batch(self) -> bool:
        """Whether the statistics are those of the batch, and results too."""
        return self.name == "batch_norm"

    # -- on the host ---------------------------------------------------------------------------

    def check(self, *operands: np.ndarray) -> None:
        """Refuse operands that do not fit; only their shapes and dtypes count."""
        given = dict(zip(self.names, operands, strict=True))
        x, gamma, beta = given["x"], given.get("gamma"), given.get("beta")
        last = self.eps, self.backend, self.precision
        if self.of_rows:
            RowBatch(x, gamma, beta, self.num_axes, *last, gamma_offset=self.gamma_offset)
            return
        if self.name == "group_norm":
            GroupBatch(x, gamma, beta, self.num_groups, self.axis, *last)
            return
        batch = Batch(
            x, gamma, beta, axis=self.axis, eps=self.eps, mask=given.get("mask"), activation=None,
            backend=self.backend, precision=self.precision,
        )  # fmt: skip
        for name in ("mean", "var"):
            if name in given:
                batch.vector(given[name], name)
        if "mask" in given:
            layout.broadcast_plane(given["mask"], x, self.axis, "mask")
        if self.of_batch:
            batch.refuse_single_values()

    def forward(self, *operands: np.ndarray) -> Sequence[np.ndarray]:
        """Return y and, of a batch, mean and variance."""
        return self._forward(operands)[0]

    def forward_with_parts(self, *operands: np.ndarray) -> Sequence[np.ndarray]:
        """Return the same, and the moments that the backward pass wants, as integers.

        JAX may have no float64.
        """
        made, moments = self._forward(operands)
        return *made, np.ascontiguousarray(moments.parts).view(np.uint32)

    def backward(self, dy: np.ndarray, *operands_and_parts: np.ndarray) -> Sequence[np.ndarray]:
        """Return the gradients of all operands of floats, in the order of the names."""
        *operands, parts = operands_and_parts
        given = dict(zip(self.names, operands, strict=True))
        x, mean, var = given.pop("x"), given.pop("mean", None), given.pop("var", None)
        given.pop("beta", None)
        dy = dy if is_floating(x.dtype) else dy.astype(np.float64)  # as of integers it is
        name, options = self.name, {**self._options(), **given}
        if mean is None or var is None:
            moments = Moments(parts.view(np.float64))
        else:
            name, options["training"] = "batch_norm", False
            mean, var = mean.astype(np.float64), var.astype(np.float64)
            moments = Moments.of(np.ones_like(mean), mean, var)
        found = getattr(functional, f"{name}_backward")(dy, x, moments, **options)
        gradients = dict(zip(("x", "gamma", "beta"), found, strict=False))
        if var is not None:
            scale = np.sqrt(var + self.eps)
            slope = given["gamma"].astype(np.float64) / scale if "gamma" in given else 1 / scale
            gradients["mean"] = -slope * gradients["beta"]
            gradients["var"] = -slope * gradients["gamma"] / (2 * scale)
        floats = zip(self.names, operands, strict=True)
        return [gradients[name] for name, each in floats if is_floating(each.dtype)]

    def _forward(self, operands: Sequence[np.ndarray]) -> tuple[Sequence[np.ndarray], Moments]:
        given = dict(zip(self.names, operands, strict=True))
        made = getattr(functional, self.name)(**given, **self._options())
        if self.name == "batch_norm_inference":
            return (made,), Moments.empty(0)
        y, moments = made
        return (y, moments.mean, moments.var()) if self.of_batch else (y,), moments

    def _options(self) -> dict[str, object]:
        """Return the arguments of the function of the core."""
        options: dict[str, object] = {"axis": self.axis}
        if self.of_rows:
            options = {"num_axes": self.num_axes, "gamma_offset": self.gamma_offset}
        elif self.name == "group_norm":
            options["num_groups"] = self.num_groups
        return {**options, "eps": self.eps, "precision": self.precision, "backend": self.backend}

    # -- in JAX's terms ------------------------------------------------------------------------

    def number_of_moments(self, shape: tuple[int, ...]) -> int:
        """Return how many moments the core takes of an input, also of one that it refuses."""
        if self.of_rows:
            return math.prod(shape[: max(len(shape) - self.num_axes, 0)])
        sizes = dict(enumerate(shape)) | {each - len(shape): n for each, n in enumerate(shape)}
        if self.name == "group_norm":
            first = 1 if self.axis in (0, -len(shape)) else 0
            return sizes.get(first, 0) * self.num_groups
        return sizes.get(self.axis, 0) if self.of_batch else 0

    def formula(self, operands: Operands) -> tuple[jax.Array, ...]:
        """Return what :meth:`forward` does, by operations of XLA's."""
        x, mask = wide(operands["x"]), operands.get("mask")
        vectors = {name: wide(each) for name, each in operands.items() if name not in ("x", "mask")}
        axis = self.axis % x.ndim
        if self.of_rows:
            shape = x.shape[x.ndim - self.num_axes :]
            axes = tuple(range(-self.num_axes, 0))
        else:
            shape = tuple(size if each == axis else 1 for each, size in enumerate(x.shape))
            axes = tuple(each for each in range(x.ndim) if each != axis)
        if mask is not None:
            mask = layout.broadcast_plane(mask, x, axis, "mask")
            x = jnp.where(mask, x, 0)  # 0 times a hidden NaN would be NaN in derivatives
        statistics: tuple[jax.Array, ...] = ()
        if self.name == "group_norm":
            y = self._in_groups(x, axis)
        elif self.name == "batch_norm_inference":
            mean, var = (vectors[each].reshape(shape) for each in ("mean", "var"))
            y = (x - mean) / jnp.sqrt(var + self.eps)
        else:
            y, *both = self._standardized(x, axes, mask)
            statistics = tuple(each.ravel() for each in both) if self.of_batch else ()
        if "gamma" in vectors:
            y = y * (vectors["gamma"] + self.gamma_offset).reshape(shape)
        if "beta" in vectors:
            y = y + vectors["beta"].reshape(shape)
        if mask is not None:
            y = jnp.where(mask, y, 0)
        return y.astype(result_dtype(operands["x"])), *statistics

    def _standardized(
        self, x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return x with mean zero and unit variance, and what they were."""
        mean = jnp.mean(x, axes, keepdims=True, where=where)
        if self.name == "rms_norm":
            mean = jnp.zeros_like(mean)
        var = jnp.mean(jnp.square(x - mean), axes, keepdims=True, where=where)
        return (x - mean) / jnp.sqrt(var + self.eps), mean, var

    def _in_groups(self, x: jax.Array, axis: int) -> jax.Array:
        """Return the groups of each sample with mean zero and unit variance."""
        samples = 1 if axis == 0 else 0
        moved = jnp.moveaxis(x, (samples, axis), (0, 1))
        grouped = moved.reshape(moved.shape[0], self.num_groups, -1)
        y = self._standardized(grouped, (2,))[0].reshape(moved.shape)
        return jnp.moveaxis(y, (0, 1), (samples, axis))
