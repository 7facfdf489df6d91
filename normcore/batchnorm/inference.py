"""Inference of a NumPy array in C order, which nearly every call brings, without a Batch.

The kernel of a small batch takes a few microseconds, less than the checks that every case needs.
What is not plainly this case, or has something wrong with it, is left to
:class:`~normcore.batchnorm.arguments.Batch`.
"""

from __future__ import annotations

import numpy as np

from normcore.affine import Affine
from normcore.array_backend import selection
from normcore.array_backend.abstract import Backend
from normcore.array_backend.precision import in_precision
from normcore.batchnorm.arguments import Batch
from normcore.batchnorm.forward_backward import SavedForward, overwritten_input_error
from normcore.layout import numpy_views
from normcore.layout.namespace import Array, is_on_host, to_numpy

__all__ = ["Inference", "infer"]


class Inference:
    """A normalized array, and what its backward pass needs: the input and copies of the vectors."""

    __slots__ = ("_activation", "_affine", "_axis", "_backend", "_eps", "_saved", "_var", "_x", "y")

    def __init__(
        self,
        y: Array,
        x: Array,
        affine: Affine,
        var: np.ndarray,
        axis: int,
        eps: float,
        activation: str | None,
        backend: Backend,
    ) -> None:
        self.y, self._x, self._affine, self._var = y, x, affine, var
        self._axis, self._eps, self._activation, self._backend = axis, eps, activation, backend
        self._saved: SavedForward | None = None

    @classmethod
    def of(
        cls,
        x: Array,
        mean: Array,
        var: Array,
        gamma: Array,
        beta: Array,
        out: Array,
        axis: int,
        eps: float,
        activation: str | None,
        backend: str | Backend | None,
        latest: object = None,
        precision: str | None = None,
    ) -> Inference | None:
        """Normalize with given statistics; return None where that is not for here.

        Parameters
        ----------
        x, mean, var, gamma, beta, out, axis, eps, activation, backend, precision
            As for :func:`normcore.functional.batch_norm_inference`; there is no mask.
        latest : Inference, optional
            An earlier one, whose map is used again where the vectors are the same.
        """
        if not numpy_views.is_floats(x) or x.ndim < 2 or type(eps) is not float:
            return None
        views = numpy_views.views(axis, (x,), out)
        chosen = in_precision(selection.select_backend(x, backend), precision)
        if views is None or chosen.adopt(x) is not x or not isinstance(var, np.ndarray):
            return None
        known = _map_of(mean, var, gamma, beta, eps, latest)
        if known is None or known[1].shape[0] != views[0].shape[1]:
            return None
        affine, var = known
        if out is not None:
            in_place = numpy_views.fits(out, (x,)) == numpy_views.SAME
            chosen.rescale(views[0], affine, activation=activation, out=views[1])
            return cls(out, None if in_place else x, affine, var, axis, eps, activation, chosen)
        try:
            y = chosen.rescale(views[0], affine, activation=activation)
        except MemoryError:
            return None
        y = chosen.release(numpy_views.shaped_as(y, x), x)
        return cls(y, x, affine, var, axis, eps, activation, chosen)

    def moments_for_update(self) -> tuple[()]:
        """Return the moments that update running statistics: none."""
        return ()

    def backward(self, dy: Array, out: Array) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta, as :meth:`normcore.BatchNorm.backward` says."""
        if self._x is None:
            raise overwritten_input_error()
        if self._saved is None:
            affine = self._affine
            batch = Batch(
                self._x, affine.gamma, affine.beta, axis=self._axis, eps=self._eps,
                activation=self._activation, mask=None, backend=self._backend,
            )  # fmt: skip
            self._saved = SavedForward(batch, (affine.center, self._var), False, False)
        return self._saved.backward(dy, out)


def _map_of(
    mean: Array, var: np.ndarray, gamma: Array, beta: Array, eps: float, latest: object
) -> tuple[Affine, np.ndarray] | None:
    """Return the map and a copy of the variance, those of ``latest`` where nothing has changed."""
    if isinstance(latest, Inference) and latest._eps == eps:
        affine, kept_var = latest._affine, latest._var
        rows = affine.coefficients(kept_var.shape[0])
        if numpy_views.still_normalizing(rows, kept_var, mean, var, gamma, beta):
            return affine, kept_var
    var = var.copy()  # another thread may change it in place
    made = numpy_views.normalizing(mean, var, gamma, beta, eps)
    return None if made is None else (Affine.from_coefficients(made), var)


def _refuse_negative(var: Array) -> None:
    """Refuse a negative variance, unless it is on a device: a comparison would wait for it."""
    if is_on_host(var):
        var = to_numpy(var)
        if var.size and np.fmin.reduce(var) < 0:
            raise ValueError(f"var is negative in channel {int(np.argmax(var < 0))}")


def infer(
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array,
    beta: Array,
    out: Array,
    *,
    axis: int,
    eps: float,
    activation: str | None = None,
    mask: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Inference | SavedForward]:
    """Do what :func:`normcore.functional.batch_norm_inference` says.

    Returns
    -------
    y : array
    saved : Inference or SavedForward
        What the backward pass needs. An `out` that overlaps the input may have overwritten it.
    """
    if mask is None:
        inference = Inference.of(
            x, mean, var, gamma, beta, out, axis, eps, activation, backend, precision=precision
        )
        if inference is not None:
            return inference.y, inference
    with selection.in_order_with(x, backend):
        batch = Batch(
            x, gamma, beta, axis=axis, eps=eps, activation=activation, mask=mask, backend=backend,
            precision=precision,
        )  # fmt: skip
        given = var
        mean, var = batch.vector(mean, "mean"), batch.vector(var, "var")
        _refuse_negative(var if isinstance(var, np.ndarray) else given)
        target = batch.adopt_out(out, batch.x, mean=mean, var=var)
        y = batch.release(batch.rescale(mean, var, target), out)
    return y, SavedForward(batch, (mean, var), False, False)
