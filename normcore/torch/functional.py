"""Normalizations of tensors, with the names and arguments of torch.nn.functional's.

Each takes ``precision`` too, "exact" or "native", which overrides that of the context
(:func:`normcore.use_precision`); the backward pass has that of its forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as theirs
from torch import Tensor

from normcore.layout.memory import is_batch
from normcore.torch import decompositions, running_statistics
from normcore.torch.batch_operators import batch_norm as normalized_batch
from normcore.torch.batch_operators import batch_norm_inference
from normcore.torch.checks import (
    ShapeError,
    check_axes,
    check_channels,
    check_input,
    check_last_axes,
    check_residual,
    check_several,
    may_look_at_memory,
)
from normcore.torch.dispatch import overridable
from normcore.torch.precision import choice
from normcore.torch.row_operators import row_norm

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]


def _is_traced() -> bool:
    """Whether sizes are symbols of torch.jit.trace, of which nothing may depend."""
    return torch._C._get_tracing_state() is not None


def _row_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    kind: str,
    extent: int,
    eps: float,
    precision: str | None,
) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = row_norm(
        input, weight, bias, kind, extent, float(eps), *choice(precision, input)
    )
    return found


@overridable(theirs.layer_norm)
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    precision: str | None = None,
) -> Tensor:
    """:func:`torch.nn.functional.layer_norm`, computed by normcore.

    Parameters
    ----------
    input, normalized_shape, weight, bias, eps
        Those of :func:`torch.nn.functional.layer_norm`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Examples
    --------
    >>> import torch
    >>> import normcore.torch.functional as F
    >>> x = torch.tensor([[0.0, 2.0]])
    >>> F.layer_norm(x, (2,), eps=1e-12)
    tensor([[-1.,  1.]])
    """
    check_input(input, weight, "layer_norm")
    if not _is_traced():
        vectors = ("weight", weight), ("bias", bias)
        check_last_axes(input, tuple(normalized_shape), "layer_norm", *vectors)
    return _row_norm(input, weight, bias, "layer", len(normalized_shape), eps, precision)[0]


@overridable(decompositions.rms_norm)
def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    weight_offset: float = 0.0,
    residual: Tensor | None = None,
    precision: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`torch.nn.functional.rms_norm`, computed by normcore, with what language models need.

    Parameters
    ----------
    input, normalized_shape, weight, eps
        PyTorch's.
    weight_offset : float
        Added in float64 to a `weight` that is given: 1 where a model keeps weight - 1.
    residual : Tensor, optional
        Of the shape and dtype of `input`, to which it is added first: the sum is rounded once to
        the dtype, and normalized as it then is.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Returns
    -------
    y : Tensor
    total : Tensor
        ``input + residual``; only where there is a `residual`.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch.functional as F
    >>> F.rms_norm(torch.tensor([[1.0, 7.0]]), (2,), eps=1e-12)
    tensor([[0.2000, 1.4000]])
    """
    if residual is not None:
        check_residual(input, residual, "rms_norm", sizes=not _is_traced())
        total = input + residual
        options = {"weight_offset": weight_offset, "precision": precision}
        y = rms_norm(total, normalized_shape, weight, eps, **options)
        return y, total
    check_input(input, weight, "rms_norm")
    if not _is_traced():
        check_last_axes(input, tuple(normalized_shape), "rms_norm", ("weight", weight))
    if eps is None:  # as PyTorch: of the type that it computes in
        wide = input.dtype == torch.float64
        eps = torch.finfo(torch.float64 if wide else torch.float32).eps
    if weight is not None and weight_offset:
        weight = weight.double() + weight_offset
    return _row_norm(input, weight, None, "rms", len(normalized_shape), eps, precision)[0]


@overridable(theirs.group_norm)
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    precision: str | None = None,
) -> Tensor:
    """:func:`torch.nn.functional.group_norm`, computed by normcore.

    Parameters
    ----------
    input, num_groups, weight, bias, eps
        Those of :func:`torch.nn.functional.group_norm`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Examples
    --------
    >>> import torch
    >>> import normcore.torch.functional as F
    >>> x = torch.tensor([[0.0, 2.0]])
    >>> F.group_norm(x, 1, eps=1e-12)
    tensor([[-1.,  1.]])
    """
    check_input(input, weight, "group_norm")
    check_axes(input, 2, "group_norm")
    if not _is_traced():
        sizes = input.shape
        check_channels(input, (("weight", weight), ("bias", bias)), "group_norm", sizes[1])
        if num_groups < 1 or sizes[1] % num_groups:
            raise ShapeError(
                f"num_groups={num_groups} of group_norm must divide the {sizes[1]} channels of an "
                f"input of shape {tuple(sizes)}"
            )
        check_several((sizes[0], sizes[1] // num_groups, *sizes[2:]), input, "group")
    return _row_norm(input, weight, bias, "group", num_groups, eps, precision)[0]


@overridable(theirs.instance_norm)
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    precision: str | None = None,
) -> Tensor:
    """:func:`torch.nn.functional.instance_norm`, computed by normcore.

    Parameters
    ----------
    input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
        Those of :func:`torch.nn.functional.instance_norm`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Examples
    --------
    >>> import torch
    >>> import normcore.torch.functional as F
    >>> F.instance_norm(torch.tensor([[[0.0, 2.0]]]), eps=1e-12)
    tensor([[[-1.,  1.]]])
    """
    check_input(input, weight, "instance_norm")
    check_axes(input, 3, "instance_norm")
    if not use_input_stats:
        in_c_order = input.contiguous()  # as PyTorch's result is
        return _with_running_statistics(
            in_c_order, running_mean, running_var, weight, bias, eps, precision, "instance_norm"
        )
    _check_both_or_none(running_mean, running_var, "instance_norm")
    if not _is_traced():
        vectors = (
            ("weight", weight), ("bias", bias),
            ("running_mean", running_mean), ("running_var", running_var),
        )  # fmt: skip
        check_channels(input, vectors, "instance_norm", input.shape[1])
        check_several(input.shape[2:], input, "channel of a sample")
    y, parts = _row_norm(input, weight, bias, "instance", 0, eps, precision)
    if running_mean is not None and running_var is not None:
        running_statistics.update(parts, running_mean, running_var, None, momentum)
    return y


@overridable(theirs.batch_norm)
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    precision: str | None = None,
) -> Tensor:
    """:func:`torch.nn.functional.batch_norm`, computed by normcore.

    Parameters
    ----------
    input, running_mean, running_var, weight, bias, training, momentum, eps
        Those of :func:`torch.nn.functional.batch_norm`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Examples
    --------
    >>> import torch
    >>> import normcore.torch.functional as F
    >>> x = torch.tensor([[0.0], [2.0]])
    >>> F.batch_norm(x, None, None, training=True, eps=1e-12)
    tensor([[-1.],
            [ 1.]])
    """
    if not training:
        check_input(input, weight, "batch_norm")
        check_axes(input, 2, "batch_norm")
        return _with_running_statistics(
            input, running_mean, running_var, weight, bias, eps, precision, "batch_norm"
        )
    check_batch(input, running_mean, running_var, weight, bias, eps)
    y, parts = normalized_batch(input, weight, bias, float(eps), "", *choice(precision, input))
    if running_mean is not None and running_var is not None:
        running_statistics.update(parts, running_mean, running_var, None, momentum)
    return y


def check_batch(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    alone: bool = True,
) -> None:
    """Refuse a batch, in training, that does not fit; other processes may have more of it."""
    if not eps > 0:
        raise ValueError(f"eps of batch_norm must be positive in training, got {eps!r}")
    _check_both_or_none(running_mean, running_var, "batch_norm")
    traced = _is_traced()
    if (
        not traced
        and may_look_at_memory(input, weight, bias, running_mean, running_var)
        and is_batch(input, weight, bias, running_mean, running_var)
    ):
        return
    check_input(input, weight, "batch_norm")
    check_axes(input, 2, "batch_norm")
    if traced:
        return
    vectors = (
        ("weight", weight), ("bias", bias),
        ("running_mean", running_mean), ("running_var", running_var),
    )  # fmt: skip
    check_channels(input, vectors, "batch_norm", input.shape[1])
    if alone:
        check_several((input.shape[0], *input.shape[2:]), input, "channel")


def _check_both_or_none(mean: Tensor | None, var: Tensor | None, name: str) -> None:
    if (mean is None) != (var is None):
        missing, other = (
            ("running_mean", "running_var") if mean is None else ("running_var", "running_mean")
        )
        raise ValueError(
            f"{name} in training needs running_mean and running_var, or neither of them: "
            f"{missing} is None, unlike {other}"
        )


def _with_running_statistics(
    input: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    precision: str | None,
    name: str,
) -> Tensor:
    if mean is None or var is None:
        raise ShapeError(f"{name} needs running_mean and running_var, unless it takes the batch's")
    if not _is_traced():
        vectors = (
            ("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", var),
        )  # fmt: skip
        check_channels(input, vectors, name, input.shape[1])
    chosen = choice(precision, input)
    return batch_norm_inference(input, mean, var, weight, bias, float(eps), *chosen)
