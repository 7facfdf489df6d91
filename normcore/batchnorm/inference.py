"""Inference of a NumPy array in C order, which nearly every call brings, without a Batch.

The kernel of a small batch takes a few microseconds, less than the checks that every case needs.
What is not plainly this case, or has something wrong with it, is left to
:class:`~normcore.batchnorm.arguments.Batch`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore.affine import Affine
from normcore.array_backend import selection
from normcore.batchnorm.arguments import Batch
from normcore.batchnorm.forward_backward import Forward, overwritten_input_error
from normcore.layout import numpy_views
from normcore.layout.namespace import Array

__all__ = ["Inference", "normalized_with"]


class Inference:
    """A normalized array, and what its backward pass needs: the input and copies of the vectors."""

    __slots__ = ("_affine", "_forward", "_options", "_var", "_x", "y")

    def __init__(
        self, y: Array, x: Array, affine: Affine, var: Array, options: dict[str, Any]
    ) -> None:
        self.y, self._x, self._affine, self._var = y, x, affine, var
        self._options = options
        self._forward: Forward | None = None

    @classmethod
    def of(
        cls,
        x: Array,
        mean: Array,
        var: Array,
        gamma: Array,
        beta: Array,
        out: Array,
        options: dict[str, Any],
        latest: Any = None,
    ) -> Inference | None:
        """Normalize with given statistics; return None where that is not for here.

        Parameters
        ----------
        x, mean, var, gamma, beta, out
            As for :func:`normcore.functional.batch_norm_inference`.
        options : dict
            Its axis, eps, activation, mask and backend.
        latest : Inference, optional
            An earlier one, whose map is used again where the vectors are the same.
        """
        eps = options["eps"]
        if not numpy_views.is_floats(x) or x.ndim < 2 or type(eps) is not float:
            return None
        if options["mask"] is not None:
            return None
        views = numpy_views.views(options["axis"], (x,), out)
        backend = selection.select_backend(x, options["backend"])
        if views is None or backend.adopt(x) is not x or not isinstance(var, np.ndarray):
            return None
        known = _map_of(mean, var, gamma, beta, eps, latest)
        if known is None or known[1].shape[0] != views[0].shape[1]:
            return None
        affine, var = known
        options = {**options, "backend": backend}
        activation = options["activation"]
        if out is not None:
            in_place = numpy_views.fits(out, (x,)) == numpy_views.SAME
            backend.rescale(views[0], affine, activation=activation, out=views[1])
            return cls(out, None if in_place else x, affine, var, options)
        try:
            y = backend.rescale(views[0], affine, activation=activation)
        except MemoryError:
            return None
        return cls(backend.release(numpy_views.shaped_as(y, x), x), x, affine, var, options)

    def followed(self) -> tuple[()]:
        """Return the moments that running statistics are to follow: none."""
        return ()

    def backward(self, dy: Array, out: Array) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta, as :meth:`normcore.BatchNorm.backward` says."""
        if self._x is None:
            raise overwritten_input_error()
        if self._forward is None:
            affine = self._affine
            batch = Batch(self._x, affine.gamma, affine.beta, **self._options)
            self._forward = Forward(batch, (affine.center, self._var), False, False)
        return self._forward.backward(dy, out)


def _map_of(
    mean: Array, var: Array, gamma: Array, beta: Array, eps: float, latest: Any
) -> tuple[Affine, Any] | None:
    """Return the map and a copy of the variance, those of ``latest`` where nothing has changed."""
    if isinstance(latest, Inference) and latest._options["eps"] == eps:
        affine, kept_var = latest._affine, latest._var
        rows = affine.packed(kept_var.shape[0])
        if numpy_views.still_normalizing(rows, kept_var, mean, var, gamma, beta):
            return affine, kept_var
    var = var.copy()  # another thread may change it in place
    made = numpy_views.normalizing(mean, var, gamma, beta, eps)
    return None if made is None else (Affine.of_rows(made), var)


def normalized_with(
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array,
    beta: Array,
    out: Array,
    options: dict[str, Any],
) -> Array:
    """Do what :func:`normcore.functional.batch_norm_inference` says."""
    inference = Inference.of(x, mean, var, gamma, beta, out, options)
    if inference is not None:
        return inference.y
    batch = Batch(x, gamma, beta, **options)
    mean, var = batch.vector(mean, "mean"), batch.vector(var, "var")
    # A comparison on a device would wait for it.
    if isinstance(var, np.ndarray) and var.size and np.fmin.reduce(var) < 0:
        raise ValueError(f"var is negative in channel {int(np.argmax(var < 0))}")
    return batch.release(batch.rescale(mean, var, batch.adopt_out(out, batch.x)), out)
