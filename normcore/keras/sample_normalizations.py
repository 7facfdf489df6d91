"""Keras's layer, RMS and group normalization, computed by normcore."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from normcore.keras.operations import OPERATIONS, Tensor, as_floats, serializable, vector

__all__ = ["GroupNormalization", "LayerNormalization", "RMSNormalization"]


@serializable
class LayerNormalization(keras.layers.LayerNormalization):
    """:class:`keras.layers.LayerNormalization`, computed by normcore.

    Arguments, weights and configuration are those of :class:`keras.layers.LayerNormalization`.
    With ``rms_scaling=True``, which Keras deprecates as no RMS norm, it is Keras's formula.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> import normcore.keras as nk
    >>> y = nk.LayerNormalization(epsilon=1e-12)(np.array([[1.0, 5.0]]))
    >>> np.round(keras.ops.convert_to_numpy(y), 4).tolist()
    [[-1.0, 1.0]]
    """

    __module__ = "normcore.keras"

    def call(self, inputs: Tensor) -> Tensor:
        """Normalize each sample over the axes.

        Parameters
        ----------
        inputs : tensor of two or more dimensions
        """
        if self.rms_scaling:
            return super().call(inputs)
        y = _over_axes(inputs, self.axis, self.gamma, self.beta, self.epsilon, centered=True)
        return ops.cast(y, self.compute_dtype)


@serializable
class RMSNormalization(keras.layers.RMSNormalization):
    """:class:`keras.layers.RMSNormalization`, computed by normcore.

    Arguments, weights and configuration are those of :class:`keras.layers.RMSNormalization`.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> import normcore.keras as nk
    >>> y = nk.RMSNormalization(epsilon=1e-12)(np.array([[0.0, 0.0, 0.0, 2.0]]))
    >>> np.round(keras.ops.convert_to_numpy(y), 4).tolist()
    [[0.0, 0.0, 0.0, 2.0]]
    """

    __module__ = "normcore.keras"

    def call(self, x: Tensor) -> Tensor:
        """Divide each sample by its root mean square over the axes.

        Parameters
        ----------
        x : tensor of two or more dimensions
        """
        y = _over_axes(x, self.axis, self.scale, None, self.epsilon, centered=False)
        return ops.cast(y, self.compute_dtype)


@serializable
class GroupNormalization(keras.layers.GroupNormalization):
    """:class:`keras.layers.GroupNormalization`, computed by normcore.

    Arguments, weights and configuration are those of :class:`keras.layers.GroupNormalization`.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> import normcore.keras as nk
    >>> y = nk.GroupNormalization(2, epsilon=1e-12)(np.array([[1.0, 3.0, 5.0, 5.0]]))
    >>> np.round(keras.ops.convert_to_numpy(y), 4).tolist()
    [[-1.0, 1.0, 0.0, 0.0]]
    """

    __module__ = "normcore.keras"

    def call(self, inputs: Tensor) -> Tensor:
        """Normalize groups of channels of each sample.

        Parameters
        ----------
        inputs : tensor of two or more dimensions
        """
        x = as_floats(inputs)
        vectors = vector(self.gamma, x), vector(self.beta, x)
        y = OPERATIONS.group_norm(x, self.groups, vectors, self.axis, self.epsilon)
        return ops.cast(y, self.compute_dtype)


def _over_axes(
    inputs: Tensor,
    axis: int | Sequence[int],
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float,
    *,
    centered: bool,
) -> Tensor:
    """Normalize over any axes: they go last, and come back."""
    x = as_floats(inputs)
    ndim = len(x.shape)
    axes = sorted(each % ndim for each in ([axis] if isinstance(axis, int) else axis))
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis={axis} names an axis twice: the inputs have shape {tuple(x.shape)}")
    order = [each for each in range(ndim) if each not in axes] + axes
    is_moved = order != list(range(ndim))
    if is_moved:
        x = ops.transpose(x, order)
    shape = x.shape[ndim - len(axes) :]

    def flat(weight: Tensor | None) -> Tensor | None:
        return None if weight is None else ops.reshape(vector(weight, x), shape)

    y = OPERATIONS.row_norm(x, (flat(gamma), flat(beta)), len(axes), eps, centered)
    return ops.transpose(y, [order.index(each) for each in range(ndim)]) if is_moved else y
