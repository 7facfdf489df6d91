"""Passes of a layer over arrays of a device, for which a backend has shorter ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend import selection
from normcore.array_backend.abstract import Backend
from normcore.array_backend.precision import in_precision
from normcore.array_backend.whole_calls import WholeCalls
from normcore.batchnorm.arguments import Batch
from normcore.batchnorm.forward_backward import (
    SavedForward,
    constants,
    overwritten_input_error,
)
from normcore.batchnorm.layer_state import HostVectors
from normcore.layout import out_argument
from normcore.layout.namespace import Array
from normcore.statistics import Moments

if TYPE_CHECKING:
    from normcore.batchnorm.layer import BatchNorm

__all__ = ["WholeForward"]


class WholeForward:
    """A batch that was normalized by a whole call, and what its backward pass needs."""

    __slots__ = (
        "_activation", "_axis", "_backend", "_eps", "_kept", "_mask", "_moments", "_training",
        "_vectors", "_x", "y",
    )  # fmt: skip

    y: Array
    _moments: Moments | tuple[Array, Array]

    def __init__(
        self,
        layer: BatchNorm,
        backend: Backend,
        x: Array,
        mask: Array,
        training: bool,
        kept: HostVectors,
        vectors: tuple[Array, Array],
    ) -> None:
        self._backend, self._x, self._mask, self._training = backend, x, mask, training
        self._axis, self._eps, self._activation = layer.axis, layer.eps, layer.activation
        self._kept, self._vectors = kept, vectors

    @classmethod
    def of(
        cls, layer: BatchNorm, x: Array, out: Array, mask: Array, training: bool, updates: bool
    ) -> WholeForward | None:
        """Normalize as the layer does; return None where that is not for here.

        Parameters
        ----------
        training : bool
            Whether with the statistics of the batch, which update running ones where `updates`.
        """
        plain = selection.of_plain_call(x, layer.backend)
        if plain is None:
            return None
        backend = in_precision(plain, layer.precision)
        calls, shape = backend.whole_calls, tuple(x.shape)
        if calls is None or not -len(shape) <= layer.axis < len(shape):
            return None
        if shape[layer.axis] != layer.num_features:
            return None
        mean, var = (None, None) if training else layer._running_statistics()
        of_host = (mean, var) if isinstance(mean, np.ndarray) else ()
        kept = layer._host_vectors(*of_host, layer._gamma, layer._beta)
        beside = kept.beside(calls, x)
        if beside is None:
            return None
        if of_host:
            mean, var = beside[:2]
        vectors = beside[-2], beside[-1]
        forward = cls(layer, backend, x, mask, training, kept, vectors)
        is_in_place = out is not None and forward._is_over_input(out)
        if training:
            if not forward._normalize(layer, calls, out, updates):
                return None
        else:
            y = calls.batch_norm_inference(
                x, mean, var, *vectors, layer.axis, layer.eps, out, layer.activation, mask
            )
            if y is None:
                return None
            forward.y, forward._moments = y, (mean, var)
        if is_in_place:
            forward._x = None
        return forward

    def _normalize(self, layer: BatchNorm, calls: WholeCalls, out: Array, updates: bool) -> bool:
        """Normalize with the statistics of the batch, and update running ones."""
        if updates and layer._population is None:

            def updating(mean: Array, var: Array, weight: float) -> tuple[Array, ...] | None:
                return calls.batch_norm_updating(
                    self._x, *self._vectors, mean, var, weight, self._axis, self._eps, out,
                    self._activation, self._mask,
                )  # fmt: skip

            both = layer._update_within(updating)
            if both is not None:
                self.y, self._moments = both
                return True
        done = calls.batch_norm(
            self._x, *self._vectors, self._axis, self._eps, out, self._activation, self._mask
        )
        if done is None:
            return False
        self.y, self._moments = done
        if updates:
            with self._backend.in_order_with(self._x):
                _old = layer._update(self, self._backend, self._x)  # held until streams meet
        return True

    def moments_for_update(self) -> Sequence[Moments]:
        """Return the moments that are to update running statistics."""
        return (self._moments,) if isinstance(self._moments, Moments) else ()

    def backward(self, dy: Array, out: Array) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta, as :meth:`normcore.BatchNorm.backward` says."""
        x, calls = self._x, self._backend.whole_calls
        if x is None:
            raise overwritten_input_error()
        if not isinstance(self._moments, Moments):
            with self._backend.in_order_with(x):
                self._moments = constants(*self._moments)
        assert calls is not None
        gradients = calls.batch_norm_backward(
            dy, x, self._moments, *self._vectors, self._axis, self._eps, self._training, out,
            self._activation, self._mask,
        )  # fmt: skip
        if gradients is None:
            gradients = self._saved().backward(dy, out)
        if out is not None and self._is_over_input(out):
            self._x = None
        return gradients

    def _saved(self) -> SavedForward:
        """Return what the general way needs."""
        assert isinstance(self._moments, Moments)
        batch = Batch(
            self._x, *self._kept.vectors[-2:], axis=self._axis, eps=self._eps,
            activation=self._activation, mask=self._mask, backend=self._backend,
            precision="exact",
        )  # fmt: skip
        return SavedForward(batch, self._moments, self._training, False)

    def _is_over_input(self, out: Array) -> bool:
        """Whether a result is written over the input."""
        x, adopt = self._x, self._backend.adopt
        if not hasattr(out, "dtype"):
            return False
        with self._backend.in_order_with(x):
            return x is out or out_argument.overlap(adopt(x), adopt(out))
