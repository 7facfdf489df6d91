"""Batch normalization without state: forward, backward, and by statistics that are given.

The names follow the paper: gamma, beta, mu_B (here ``mean``), sigma_B^2 (here ``var``) and m, the
number of values of a channel, in S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep
Network Training by Reducing Internal Covariate Shift", ICML 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from normcore.array_backend import selection
from normcore.array_backend.abstract import Backend
from normcore.array_backend.precision import whole_calls
from normcore.batchnorm.arguments import Batch
from normcore.batchnorm.forward_backward import differentiated, normalized
from normcore.batchnorm.inference import infer
from normcore.distributed.communicator import Communicator, process_group_of
from normcore.layout.namespace import Array
from normcore.statistics import Moments

__all__ = ["batch_norm", "batch_norm_backward", "batch_norm_inference"]


def batch_norm(
    x: Array,
    gamma: Array = None,
    beta: Array = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    activation: str | None = None,
    mask: Array = None,
    out: Array = None,
    communicator: Communicator | None = None,
    groups: Array | Sequence[slice] = None,
    virtual_batch_size: int | None = None,
    single: str = "error",
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Any]:
    """Normalize `x` with the statistics of this batch (Algorithm 1 of the paper).

    ``y = (x - mean) / sqrt(var + eps) * gamma + beta``, where `mean` and the biased `var` are
    those of the channel, and the arithmetic is float64 whatever the dtype of `x`.

    Parameters
    ----------
    x : array of two or more dimensions
    gamma, beta : array of shape (C,), optional
        Scale and shift; None stands for 1 and 0.
    axis : int
        The channel axis.
    eps : float
        Positive; added to the variance.
    activation : {None, "relu"}
        Applied to y in the same pass.
    mask : bool array, optional
        Which positions count, of shape ``(N,)`` for samples or of the shape of `x` without the
        channel axis. The others stay out of the statistics, and y is 0 there.
    out : array, optional
        Where to write y: of the shape and memory order of `x` and the dtype of y;
        may be `x` itself.
    communicator : Communicator, optional
        Joins the processes, each of which calls this with a batch of its own, of any number of
        samples; `mean` and `var` are then those of all of them.
    groups : array of shape (N,), or sequence of slices, optional
        A label for each sample, or slices that have each sample once: each group is normalized by
        itself, as a domain of its own is.
    virtual_batch_size : int, optional
        Splits the batch into virtual (ghost) ones of at most this many samples, of sizes that
        differ by at most one, each normalized by itself.
    single : {"error", "skip"}
        Whether one value in each channel, which has no variance, is refused; or normalized by
        itself, to `beta`. It has no place in running statistics; :func:`batch_norm_inference`
        normalizes it with them.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Returns
    -------
    y : array
        Of the kind and shape of `x`; `out` if that was given. Floats keep their dtype, integers
        and booleans become float64.
    moments : Moments, or list of Moments
        The statistics of the batch, which :func:`batch_norm_backward` wants, and which update
        running ones (:meth:`normcore.Moments.running`); with `groups` or `virtual_batch_size`
        those of each part, in the order of the labels, slices or samples.

    Raises
    ------
    TypeError
        If `x` is not numeric and real, or `out` has another dtype than the result.
    ValueError
        If a channel of the batch, or of a part, has fewer than two values to take a variance of,
        unless it is empty; if `x`, `gamma`, `beta`, `axis`, `eps`, `activation`, `mask`, `out`,
        `groups`, `virtual_batch_size`, `single` or `precision` do not fit, or there are two of
        `communicator`, `groups` and `virtual_batch_size`; on all ranks of a communicator if they
        disagree on the number of channels.
    RuntimeError
        If another rank of the communicator raised.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> y, moments = F.batch_norm(x)
    >>> y.round(4)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    whole = whole_calls(x, backend, precision, communicator, groups, virtual_batch_size)
    if whole is not None and single == "error":
        done = whole.batch_norm(x, gamma, beta, axis, eps, out, activation, mask)
        if done is not None:
            return done
    ordered = selection.in_order_with
    with process_group_of(communicator) as process_group, ordered(x, backend):
        batch = Batch(
            x, gamma, beta, axis=axis, eps=eps, activation=activation, mask=mask, backend=backend,
            precision=precision,
        )  # fmt: skip
        batch.join(process_group)
        return normalized(batch, out, groups, virtual_batch_size, single)


def batch_norm_inference(
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array = None,
    beta: Array = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    activation: str | None = None,
    mask: Array = None,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> Array:
    """Normalize `x` with given statistics (Algorithm 2 of the paper, line 11).

    Parameters
    ----------
    mean, var : array of shape (C,)
        Running or population statistics; `var` as it shall be used, so usually the unbiased one.
    x, gamma, beta, axis, eps, activation, mask, out, backend, precision
        As for :func:`batch_norm`.

    Returns
    -------
    array
        As `y` of :func:`batch_norm`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`batch_norm`, but a single value per channel is fine here; ValueError also if
        a `var` on the host is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> F.batch_norm_inference(x, mean=np.array([0.0, 1.0]), var=np.array([1.0, 4.0]), eps=1e-12)
    array([[0., 0.],
           [2., 2.]])
    """
    whole = whole_calls(x, backend, precision)
    if whole is not None:
        y = whole.batch_norm_inference(
            x, mean, var, gamma, beta, axis, eps, out, activation, mask
        )  # fmt: skip
        if y is not None:
            return y
    return infer(
        x, mean, var, gamma, beta, out,
        axis=axis, eps=eps, activation=activation, mask=mask, backend=backend, precision=precision,
    )[0]  # fmt: skip


def batch_norm_backward(
    dy: Array,
    x: Array,
    moments: Moments | Sequence[Moments],
    gamma: Array = None,
    beta: Array = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    activation: str | None = None,
    mask: Array = None,
    training: bool = True,
    out: Array = None,
    communicator: Communicator | None = None,
    groups: Array | Sequence[slice] = None,
    virtual_batch_size: int | None = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_norm` with respect to `x`, `gamma` and `beta`.

    The paper's section 3 in three steps per channel, with ``scale = sqrt(var + eps)``::

        dbeta  = sum(dy)
        dgamma = sum(dy * (x - mean)) / scale
        dx     = gamma / scale * (dy - dbeta / m - (x - mean) / scale * dgamma / m)

    Parameters
    ----------
    dy : array
        Gradient of the loss with respect to y; of the shape of `x` and the dtype of y.
    x : array
        The input of the forward call.
    moments : Moments, or list of Moments
        What the forward call returned; with ``training=False`` the statistics that were used
        instead, ``Moments.of(1, mean, var)``.
    gamma, beta, axis, eps, activation, mask, backend, precision
        As in the forward call. `beta` matters only where there is an activation.
    training : bool
        Whether the statistics came from `x` itself, so that the gradient flows through them.
        Otherwise they are constants (inference, or a frozen layer).
    out : array, optional
        Where to write dx: of the shape, memory order and dtype of `dy`; may be `dy` itself.
    communicator : Communicator, optional
        As in the forward call. dgamma and dbeta are then this process's part, as the gradients of
        all other parameters are; their sums over the processes are those of the joined batch.
    groups, virtual_batch_size
        As in the forward call; without effect where ``training=False``.

    Returns
    -------
    dx : array
        Of the kind of `dy`; `out` if that was given. 0 at masked positions.
    dgamma, dbeta : array of shape (C,)
        Float64, of the kind of `dy`; computed whether or not `gamma` and `beta` were given.

    Raises
    ------
    RuntimeError
        If another rank of the communicator raised.
    TypeError
        If `dy` or `out` have another dtype than y, or `moments` are none.
    ValueError
        If `dy` or `out` have another shape than `x`, if `moments` are of another number of
        channels, and as for :func:`batch_norm`.

    Notes
    -----
    The last term of dx is lost where a standard deviation exceeds about 1e150: there its factor
    ``gamma / scale**2`` is below the range of float64.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> y, moments = F.batch_norm(x)
    >>> dx, dgamma, dbeta = F.batch_norm_backward(np.ones_like(y), x, moments)
    >>> dbeta
    array([2., 2.])
    """
    whole = whole_calls(dy, backend, precision, communicator, groups, virtual_batch_size)
    if whole is not None and isinstance(moments, Moments):
        gradients = whole.batch_norm_backward(
            dy, x, moments, gamma, beta, axis, eps, training, out, activation, mask
        )
        if gradients is not None:
            return gradients
    ordered = selection.in_order_with
    group = process_group_of(communicator if training else None)
    with group as process_group, ordered(x, backend):
        batch = Batch(
            x, gamma, beta, axis=axis, eps=eps, activation=activation, mask=mask, backend=backend,
            precision=precision,
        )  # fmt: skip
        batch.join(process_group)
        if not training:
            return batch.backward(dy, moments, False, out)
        return differentiated(batch, dy, moments, out, groups, virtual_batch_size)
