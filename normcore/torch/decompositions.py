"""Operators of normcore in terms of PyTorch's own, where a graph is to be without them.

Exporters to ONNX of a program that `torch.export` has made look for these.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as theirs
from torch import Tensor

from normcore.torch.batch_operators import batch_norm, batch_norm_inference
from normcore.torch.row_operators import row_norm

__all__ = ["register", "rms_norm"]


def rms_norm(
    x: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    weight_offset: float = 0.0,
    residual: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`normcore.torch.functional.rms_norm` in operations of which exporters have nodes."""
    if residual is not None:
        x = x + residual
    if eps is None:
        eps = torch.finfo(torch.float64 if x.dtype == torch.float64 else torch.float32).eps
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    last = list(range(-len(normalized_shape), 0))
    y = wide * (wide.pow(2).mean(last, keepdim=True) + eps).rsqrt()
    if weight is not None:
        y = y * (weight.to(y.dtype) + weight_offset if weight_offset else weight.to(y.dtype))
    return y.to(x.dtype) if residual is None else (y.to(x.dtype), x)


def _parts(rows: Tensor) -> Tensor:
    """Return the parts of the moments of each row of a matrix: count, sum and m2."""
    wide = rows.double()
    total = wide.sum(1)
    m2 = (wide - wide.mean(1, keepdim=True)).square().sum(1)
    zero = torch.zeros_like(total)
    return torch.stack([zero + rows.shape[1], zero, total, zero, m2, zero, zero])


def _row_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    kind: str,
    extent: int,
    eps: float,
    *_: object,
) -> tuple[Tensor, Tensor]:
    shape = tuple(x.shape[x.ndim - extent :])
    if kind == "group":
        y = theirs.group_norm(x, extent, weight, bias, eps)
    elif kind == "instance":
        y = theirs.instance_norm(x, None, None, weight, bias, True, 0.0, eps)
    elif kind == "rms":
        y = rms_norm(x, shape, weight, eps)
    else:
        y = theirs.layer_norm(x, shape, weight, bias, eps)
    if kind in ("group", "instance"):
        groups = x.shape[1] if kind == "instance" else extent
        return y, _parts(x.reshape(x.shape[0] * groups, -1))
    return y, _parts(x.reshape(-1, math.prod(shape)))


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: str, *_: object
) -> tuple[Tensor, Tensor]:
    if group:
        raise NotImplementedError(
            "normcore's batch norm over several processes has no form in operators of PyTorch's"
        )
    y = theirs.batch_norm(x, None, None, weight, bias, True, 0.0, eps)
    return y, _parts(x.transpose(0, 1).reshape(x.shape[1], -1))


def _batch_norm_inference(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *_: object,
) -> Tensor:
    return theirs.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


def register() -> None:
    """Add these to PyTorch's table of decompositions."""
    for operation, decomposition in (
        (row_norm, _row_norm),
        (batch_norm, _batch_norm),
        (batch_norm_inference, _batch_norm_inference),
    ):
        torch._decomp.register_decomposition(operation.operator)(decomposition)
