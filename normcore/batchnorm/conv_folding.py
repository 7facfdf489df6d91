"""Inference batch norm folded into the linear map or the convolution beside it."""

from __future__ import annotations

import numpy as np

from normcore import layout
from normcore.affine import Affine
from normcore.array_backend import selection
from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import check_eps
from normcore.layout.bfloat16 import cast, is_floating
from normcore.layout.namespace import Array, to_numpy
from normcore.layout.scalar_argument import check_choice

__all__ = ["fold_batch_norm"]


def fold_batch_norm(
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    gamma: Array = None,
    beta: Array = None,
    *,
    where: str,
    eps: float = 1e-5,
    output_axis: int = 0,
    input_axis: int = 1,
    groups: int = 1,
    padding: int | None = None,
    backend: str | Backend | None = None,
) -> tuple[Array, Array]:
    """Return the weight and bias of the one map that equals a batch norm and a linear map.

    Parameters
    ----------
    weight : array of floats
        Of a linear map or a convolution: two axes of channels, and any of positions.
    bias : array of shape (outputs,) or None
    mean, var, gamma, beta : array of shape (C,)
        Of the batch norm in inference; None for gamma and beta stands for 1 and 0.
    where : {"before", "after"}
        Whether the batch norm comes before the linear map or after it. One before a transposed
        convolution does not fold: each output sees only some of the weights.
    eps : float
        Positive; added to the variance.
    output_axis, input_axis : int
        Of `weight`; PyTorch's and ONNX's by default. A NumPy ``x @ weight`` has 1 and 0.
    groups : int
        Of a convolution whose weight has the inputs of one group on `input_axis`.
    padding : int, optional
        Of a convolution. A batch norm before it must be told that it is 0: padded zeros come after
        the batch norm, so that with them no weights are exact.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array; it moves arrays to the host, where
        the folding is done, and back.

    Returns
    -------
    weight : array
        Of the kind, dtype and shape of `weight`, computed in float64 and rounded once.
    bias : array of shape (outputs,)
        Likewise.

    Raises
    ------
    ValueError
        If shapes or options do not fit, or `var` is negative.
    TypeError
        If `weight` has no float dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> weight, state = np.array([[1.0, 2.0]]), (np.zeros(1), np.array([4.0]))
    >>> folded, bias = F.fold_batch_norm(weight, None, *state, where="after", eps=1e-12)
    >>> folded, bias
    (array([[0.5, 1. ]]), array([0.]))
    """
    check_choice("where", where, ("before", "after"))
    weight = layout.as_array(weight)
    chosen = selection.select_backend(weight, backend)
    given = _on_host(chosen, weight)
    if not is_floating(given.dtype):
        raise TypeError(f"weight must be an array of floats, got dtype {given.dtype}")
    if given.ndim < 2:
        raise ValueError(f"weight needs axes of outputs and inputs, but has shape {given.shape}")
    moved = np.moveaxis(cast(given, np.float64), (output_axis, input_axis), (0, 1))
    outputs, inputs = moved.shape[:2]
    if groups < 1 or outputs % groups:
        raise ValueError(f"groups={groups} does not divide the {outputs} outputs of weight")
    if where == "before" and given.ndim > 2 and padding != 0:
        raise ValueError(
            "a batch norm before a convolution folds only where there is no padding, whose zeros "
            f"it does not normalize; padding is {padding!r}, and padding=0 says that there is none"
        )
    added = np.zeros(outputs) if bias is None else _vector(chosen, "bias", bias, outputs)
    channels = outputs if where == "after" else inputs * groups
    norm = _inference(chosen, mean, var, gamma, beta, eps, channels)
    if where == "after":
        whole = Affine(gamma=np.ones(outputs), beta=added).compose(norm)
        factor, added = np.expand_dims(whole.gamma, tuple(range(1, given.ndim))), whole.beta
    else:
        steps = norm.gamma / norm.scale
        offsets = norm.beta - norm.center * steps
        group = np.repeat(np.arange(groups), outputs // groups)
        factor = np.expand_dims(steps.reshape(groups, inputs)[group], tuple(range(2, given.ndim)))
        sums = moved.reshape(outputs, inputs, -1).sum(axis=2)
        added = added + (sums * offsets.reshape(groups, inputs)[group]).sum(axis=1)
    folded = np.moveaxis(moved * factor, (0, 1), (output_axis, input_axis))
    return tuple(chosen.release(cast(each, given.dtype), weight) for each in (folded, added))


def _inference(
    backend: Backend, mean: Array, var: Array, gamma: Array, beta: Array, eps: float, channels: int
) -> Affine:
    var = _vector(backend, "var", var, channels)
    if np.any(var < 0):
        raise ValueError(f"var is negative in channel {int(np.argmax(var < 0))}")
    return Affine(
        center=_vector(backend, "mean", mean, channels),
        scale=np.sqrt(var + check_eps(eps)),
        gamma=np.ones(channels) if gamma is None else _vector(backend, "gamma", gamma, channels),
        beta=np.zeros(channels) if beta is None else _vector(backend, "beta", beta, channels),
    )


def _vector(backend: Backend, name: str, value: Array, length: int) -> np.ndarray:
    vector = cast(_on_host(backend, value), np.float64)
    if vector.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), got {vector.shape}")
    return vector


def _on_host(backend: Backend, value: Array) -> np.ndarray:
    return to_numpy(backend.adopt(layout.as_array(value)))
