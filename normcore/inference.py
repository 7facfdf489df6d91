"""Inference of a NumPy array in C order, which nearly every call brings, without a Batch.

The kernel of a small batch takes a few microseconds, less than the checks that every case needs.
What is not plainly this case, or has something wrong with it, is left to
:class:`~normcore.batch.Batch`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore import dense, plugins
from normcore.affine import Affine
from normcore.batch import Batch
from normcore.forward import Forward, input_is_lost

__all__ = ["Inference"]


class Inference:
    """A normalized array, and what its backward pass needs: the input and copies of the vectors."""

    __slots__ = ("_affine", "_forward", "_options", "_var", "_x", "y")

    def __init__(self, y: Any, x: Any, affine: Affine, var: Any, options: dict[str, Any]) -> None:
        self.y, self._x, self._affine, self._var = y, x, affine, var
        self._options = options
        self._forward: Forward | None = None

    @classmethod
    def of(
        cls,
        x: Any,
        mean: Any,
        var: Any,
        gamma: Any,
        beta: Any,
        out: Any,
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
        if not dense.is_floats(x) or x.ndim < 2 or type(eps) is not float:
            return None
        if options["mask"] is not None:
            return None
        views = dense.views(options["axis"], (x,), out)
        backend = plugins.select_backend(x, options["backend"])
        if views is None or backend.adopt(x) is not x or not isinstance(var, np.ndarray):
            return None
        known = _map_of(mean, var, gamma, beta, eps, latest)
        if known is None or known[1].shape[0] != views[0].shape[1]:
            return None
        affine, var = known
        options = {**options, "backend": backend}
        activation = options["activation"]
        if out is not None:
            in_place = dense.fits(out, (x,)) == dense.SAME
            backend.rescale(views[0], affine, activation=activation, out=views[1])
            return cls(out, None if in_place else x, affine, var, options)
        try:
            y = backend.rescale(views[0], affine, activation=activation)
        except MemoryError:
            return None
        return cls(backend.release(dense.shaped_as(y, x), x), x, affine, var, options)

    def followed(self) -> tuple[()]:
        """Return the moments that running statistics are to follow: none."""
        return ()

    def backward(self, dy: Any, out: Any) -> tuple[Any, Any, Any]:
        """Return dx, dgamma and dbeta, as :meth:`normcore.BatchNorm.backward` says."""
        if self._x is None:
            raise input_is_lost()
        if self._forward is None:
            affine = self._affine
            batch = Batch(self._x, affine.gamma, affine.beta, **self._options)
            self._forward = Forward(batch, (affine.center, self._var), False, False)
        return self._forward.backward(dy, out)


def _map_of(
    mean: Any, var: Any, gamma: Any, beta: Any, eps: float, latest: Any
) -> tuple[Affine, Any] | None:
    """Return the map and a copy of the variance, those of ``latest`` where nothing has changed."""
    if isinstance(latest, Inference) and latest._options["eps"] == eps:
        affine, kept_var = latest._affine, latest._var
        rows = affine.packed(kept_var.shape[0])
        if dense.still_normalizing(rows, kept_var, mean, var, gamma, beta):
            return affine, kept_var
    var = var.copy()  # another thread may change it in place
    made = dense.normalizing(mean, var, gamma, beta, eps)
    return None if made is None else (Affine.of_rows(made), var)
