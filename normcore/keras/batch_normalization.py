"""Keras's batch normalization, computed by normcore."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
from keras import ops

from normcore.keras.operations import OPERATIONS, Tensor, Vectors, as_floats, serializable, vector

__all__ = ["BatchNormalization"]


@serializable
class BatchNormalization(keras.layers.BatchNormalization):
    """:class:`keras.layers.BatchNormalization`, computed by normcore.

    Arguments, weights and configuration are those of :class:`keras.layers.BatchNormalization`. One
    value of each channel, which has no variance, becomes `beta` in training and leaves the moving
    statistics alone; so does all of a batch of which a mask leaves one position or none. With
    ``renorm=True`` training is Keras's own, and so is a mask beside channels that are not last.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> import normcore.keras as nk
    >>> y = nk.BatchNormalization(epsilon=1e-12)(np.array([[0.0], [2.0]]), training=True)
    >>> np.round(keras.ops.convert_to_numpy(y), 4).tolist()
    [[-1.0], [1.0]]
    """

    __module__ = "normcore.keras"

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Normalize a batch: with its own statistics in training, else with the moving ones.

        Parameters
        ----------
        inputs : tensor of two or more dimensions
        training : bool, optional
            Whether the statistics of the batch normalize, and move the moving ones.
        mask : bool tensor of the axes of `inputs` but the last, optional
            Which positions count in the statistics.
        """
        x, last = as_floats(inputs), len(inputs.shape) - 1
        axis, learns = self.axis % (last + 1), bool(training) and self.trainable
        if mask is not None and len(mask.shape) != last:
            raise ValueError(
                "the mask of a BatchNormalization must have the axes of its inputs but the last: "
                f"mask.shape={tuple(mask.shape)}, inputs.shape={tuple(inputs.shape)}"
            )
        if learns and (self.renorm or (mask is not None and axis != last)):
            return super().call(inputs, training=training, mask=mask)
        vectors, eps = (vector(self.gamma, x), vector(self.beta, x)), self.epsilon
        if not learns:
            moving = vector(self.moving_mean, x), vector(self.moving_variance, x)
            y = OPERATIONS.batch_norm_inference(x, *moving, vectors, axis, eps)
        elif math.prod(x.shape) <= x.shape[axis]:  # one value of each channel
            y = self._of_one_value(x, vectors, axis)
        else:
            weights = self.moving_mean, self.moving_variance

            def normalized() -> list[Tensor]:
                y, *statistics = OPERATIONS.batch_norm(x, vectors, axis, eps, mask)
                moved = (
                    ops.cast(weight, new.dtype) * self.momentum + new * (1.0 - self.momentum)
                    for weight, new in zip(weights, statistics, strict=True)
                )
                return [ops.cast(y, self.compute_dtype), *as_weights(moved)]

            def of_one_value() -> list[Tensor]:
                y = self._of_one_value(x, vectors, axis)
                return [ops.cast(y, self.compute_dtype), *as_weights(weights)]

            def as_weights(values: Iterable[Tensor]) -> list[Tensor]:
                return [ops.cast(each, weights[0].dtype) for each in values]

            if mask is None:
                made = normalized()
            else:
                mask = ops.broadcast_to(ops.cast(mask, "bool"), x.shape[:-1])
                few = ops.less(ops.sum(ops.cast(mask, "int32")), 2)
                made = ops.cond(few, of_one_value, normalized)
            y, *moved = made
            for weight, value in zip(weights, moved, strict=True):
                weight.assign(value)
        return ops.cast(y, self.compute_dtype)

    @staticmethod
    def _of_one_value(x: Tensor, vectors: Vectors, axis: int) -> Tensor:
        """Return beta everywhere, with the gradients of 0 times what is normalized."""
        shape = [size if each == axis else 1 for each, size in enumerate(x.shape)]
        gamma, beta = (None if each is None else ops.reshape(each, shape) for each in vectors)
        y = x - x  # with gradients, which are 0; NaN stays
        y = y if gamma is None else y * gamma
        return y if beta is None else y + beta
