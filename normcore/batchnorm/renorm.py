"""Batch renormalization: batch norm whose output in training is close to that in evaluation.

Statistics of the batch normalize, as in batch norm, and then ``xhat * r + d`` moves what comes
out to where the running statistics would have put it, as far as r_max and d_max allow. The
gradient does not flow through r and d, so a batch norm with ``gamma * r`` for gamma and
``gamma * d + beta`` for beta is all there is to it: S. Ioffe, "Batch Renormalization: Towards
Reducing Minibatch Dependence in Batch-Normalized Models", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Self, TypedDict, Unpack

from normcore.affine import Affine
from normcore.array_backend import selection
from normcore.array_backend.abstract import Backend, batch_scale
from normcore.array_backend.composite import CompositeKernels
from normcore.batchnorm.arguments import Batch
from normcore.batchnorm.forward_backward import differentiated, normalized
from normcore.distributed.communicator import Communicator, ProcessGroup, process_group_of
from normcore.layout.namespace import Array, array_namespace
from normcore.layout.scalar_argument import as_float
from normcore.statistics import Moments

__all__ = ["RenormBatch", "batch_renorm", "batch_renorm_backward", "check_limits"]


class _BatchOptions(TypedDict, total=False):
    axis: int
    eps: float
    activation: str | None
    mask: Array
    backend: str | Backend | None
    precision: str | None


class RenormBatch(Batch):
    """A batch that is normalized by its own statistics and corrected towards given ones."""

    __slots__ = ("d_max", "mean", "r_max", "var")

    def towards(self, mean: Array, var: Array, r_max: float, d_max: float) -> Self:
        """Set the statistics to move to, vectors beside the batch, and how far; returns self."""
        self.mean, self.var = mean, var
        self.r_max, self.d_max = r_max, d_max
        return self

    def operands(self) -> dict[str, Array]:
        """Return the mask and the vectors, those to move to too."""
        moved_to = {name: getattr(self, name, None) for name in ("mean", "var")}  # in training
        return {**super().operands(), **moved_to}

    def corrections(self, moments: Moments) -> tuple[Array, Array]:
        """Return r and d for these moments of the batch."""
        xp = array_namespace(self.mean)
        scale = xp.sqrt(self.var + self.eps)
        r = xp.clip(batch_scale(moments, self.eps) / scale, 1.0 / self.r_max, self.r_max)
        return r, xp.clip((moments.mean - self.mean) / scale, -self.d_max, self.d_max)

    def corrected(self, r: Array, d: Array) -> Self:
        """Return the batch with the gamma and beta that r and d give."""
        batch = copy(self)
        batch.gamma, batch.beta = self.gamma * r, self.gamma * d + self.beta
        return batch

    def normalize(self, out: Array) -> tuple[Array, Moments]:
        """Normalize with the statistics of the batch and correct; return y and the statistics."""
        kernels = self.process_group or CompositeKernels(self.backend, self.axis)
        moments: Moments = kernels.moments(self.x, weights=self.mask)
        batch, scale = self.corrected(*self.corrections(moments)), batch_scale(moments, self.eps)
        affine = Affine(center=moments.mean, scale=scale, gamma=batch.gamma, beta=batch.beta)
        y = kernels.rescale(self.x, affine, activation=self.activation, mask=self.mask, out=out)
        return y, moments

    def _gradients(
        self, dy: Array, moments: Moments, training: bool, out: Array
    ) -> tuple[Array, ...]:
        if not training or self.is_empty():
            return super()._gradients(dy, moments, training, out)
        r, d = self.corrections(Moments(self.beside(moments.parts)))
        dx, dgamma, dbeta = Batch._gradients(self.corrected(r, d), dy, moments, training, out)
        return dx, r * dgamma + d * dbeta, dbeta


def batch_renorm(
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array = None,
    beta: Array = None,
    *,
    r_max: float,
    d_max: float,
    out: Array = None,
    communicator: Communicator | None = None,
    groups: Array | Sequence[slice] = None,
    virtual_batch_size: int | None = None,
    single: str = "error",
    **options: Unpack[_BatchOptions],
) -> tuple[Array, Any]:
    """Normalize `x` with the statistics of this batch, corrected towards running ones.

    With ``scale = sqrt(var + eps)`` of the batch (B) and of the running statistics::

        r = clip(scale_B / scale, 1 / r_max, r_max)
        d = clip((mean_B - mean) / scale, -d_max, d_max)
        y = ((x - mean_B) / scale_B * r + d) * gamma + beta

    which is Algorithm 1 of S. Ioffe, "Batch Renormalization", NeurIPS 2017.

    Parameters
    ----------
    mean, var : array of shape (C,)
        The running statistics before this batch.
    r_max, d_max : float
        At least 1 and at least 0; at 1 and 0 this is :func:`normcore.functional.batch_norm`.
    x, gamma, beta, out, communicator, groups, virtual_batch_size, single, **options
        As for :func:`normcore.functional.batch_norm`.

    Returns
    -------
    y, moments
        As for :func:`normcore.functional.batch_norm`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`normcore.functional.batch_norm`, and ValueError if `r_max`, `d_max`, `mean`
        or `var` do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> running = np.zeros(2), np.ones(2)
    >>> y, moments = F.batch_renorm(x, *running, r_max=1, d_max=0)  # batch norm, to begin with
    >>> y.round(4)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    ordered = selection.in_order_with(x, options.get("backend"))
    with process_group_of(communicator) as process_group, ordered:
        batch = _renorm_batch(x, mean, var, gamma, beta, r_max, d_max, process_group, **options)
        return normalized(batch, out, groups, virtual_batch_size, single)


def batch_renorm_backward(
    dy: Array,
    x: Array,
    moments: Moments | Sequence[Moments],
    mean: Array,
    var: Array,
    gamma: Array = None,
    beta: Array = None,
    *,
    r_max: float,
    d_max: float,
    out: Array = None,
    communicator: Communicator | None = None,
    groups: Array | Sequence[slice] = None,
    virtual_batch_size: int | None = None,
    **options: Unpack[_BatchOptions],
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_renorm` with respect to `x`, `gamma` and `beta`.

    The corrections r and d are constants, so that dx is that of a batch norm whose gamma is
    ``gamma * r``. Results and errors are as for :func:`normcore.functional.batch_norm_backward`.

    Parameters
    ----------
    dy, x, moments, gamma, beta, out, communicator, groups, virtual_batch_size, **options
        As for :func:`normcore.functional.batch_norm_backward`, but for its `training`.
    mean, var, r_max, d_max
        As in the forward call.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> running, options = (np.zeros(2), np.ones(2)), {"r_max": 3, "d_max": 5}
    >>> y, moments = F.batch_renorm(x, *running, **options)
    >>> dy = np.ones_like(y)
    >>> dx, dgamma, dbeta = F.batch_renorm_backward(dy, x, moments, *running, **options)
    >>> dbeta
    array([2., 2.])
    """
    ordered = selection.in_order_with(x, options.get("backend"))
    with process_group_of(communicator) as process_group, ordered:
        batch = _renorm_batch(x, mean, var, gamma, beta, r_max, d_max, process_group, **options)
        return differentiated(batch, dy, moments, out, groups, virtual_batch_size)


def _renorm_batch(
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array,
    beta: Array,
    r_max: float,
    d_max: float,
    process_group: ProcessGroup | None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    activation: str | None = None,
    mask: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> RenormBatch:
    limits = check_limits(r_max, d_max)
    if limits is None:
        raise TypeError("batch renormalization needs numbers for r_max and d_max, not None")
    batch = RenormBatch(
        x, gamma, beta, axis=axis, eps=eps, activation=activation, mask=mask, backend=backend,
        precision=precision,
    )  # fmt: skip
    batch.join(process_group)
    return batch.towards(batch.vector(mean, "mean"), batch.vector(var, "var"), *limits)


def check_limits(r_max: float | None, d_max: float | None) -> tuple[float, float] | None:
    """Return the limits of batch renormalization as floats; None where there are none.

    Raises
    ------
    ValueError
        If there is only one, if ``r_max`` is below 1 or ``d_max`` below 0.
    TypeError
        If one of them is no number.
    """
    if r_max is None and d_max is None:
        return None
    if r_max is None or d_max is None:
        raise ValueError("r_max and d_max go together: batch renormalization needs both")
    limits = as_float("r_max", r_max), as_float("d_max", d_max)
    for name, value, least in zip(("r_max", "d_max"), limits, (1, 0), strict=True):
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return limits
