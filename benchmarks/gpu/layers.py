"""Layer norm jobs: functional on CuPy's arrays, and modules next to PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cupy

import normcore as nc
from benchmarks.gpu import common
from benchmarks.gpu.jobs import Call, Job
from benchmarks.gpu.modules import DEVICE, Make, backward, compiled, forward

if TYPE_CHECKING:
    from benchmarks.gpu.cases import Buffers

__all__ = ["layer_norm", "layer_norm_peers"]


def layer_norm() -> list[Job]:
    """Over the last axis, next to PyTorch's module as it comes."""
    jobs = [
        Job("layer norm", "normcore", 2, _forward),
        Job("layer norm backward", "normcore", 3, _backward),
    ]
    if common.cuda_torch() is None:
        return jobs
    return [*jobs, *_both("torch eager", _torch_module), *_both("normcore.torch", _our_module)]


def layer_norm_peers() -> list[Job]:
    """What PyTorch's compiler makes of the module."""
    if common.cuda_torch() is None:
        return []
    return _both("torch compile", compiled(_torch_module))


def _both(library: str, make: Make) -> list[Job]:
    return [
        Job("layer norm", library, 2, forward(make)),
        Job("layer norm backward", library, 3, backward(make)),
    ]


def _torch_module(buffers: Buffers) -> object:
    torch, dtype = common.cuda_torch(), buffers.tensors[0].dtype
    return torch.nn.LayerNorm(buffers.case.shape[-1], device=DEVICE, dtype=dtype)


def _our_module(buffers: Buffers) -> object:
    from normcore.torch import LayerNorm

    common.backend()
    dtype = buffers.tensors[0].dtype
    return LayerNorm(buffers.case.shape[-1], device=DEVICE, dtype=dtype)


def _forward(buffers: Buffers) -> Call:
    x, out, gamma, beta = buffers.x, buffers.out, *_vectors(buffers)
    return lambda i: nc.functional.layer_norm(x[i], gamma, beta, out=out[i])


def _backward(buffers: Buffers) -> Call:
    x, dy, out, gamma, beta = buffers.x, buffers.dy, buffers.out, *_vectors(buffers)
    _, moments = nc.functional.layer_norm(x[0], gamma, beta, out=out[0])
    back = nc.functional.layer_norm_backward
    return lambda i: back(dy[i], x[i], moments, gamma, out=out[i])


def _vectors(buffers: Buffers) -> tuple[object, object]:
    size = buffers.case.shape[-1]
    return cupy.ones(size), cupy.zeros(size)
