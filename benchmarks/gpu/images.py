"""Batch norm jobs: functional on CuPy's arrays, and modules next to PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cupy
from normcore_cupy.backend import CupyBackend

import normcore as nc
from benchmarks.gpu import common
from benchmarks.gpu.jobs import Call, Job
from benchmarks.gpu.modules import DEVICE, Make, backward, compiled, forward

if TYPE_CHECKING:
    from benchmarks.gpu.cases import Buffers

__all__ = ["batch_norm", "batch_norm_in_two", "batch_norm_peers"]


def batch_norm() -> list[Job]:
    """In training, next to PyTorch's module as it comes."""
    jobs = [
        Job("forward", "normcore", 3, _forward),
        Job("backward", "normcore", 5, _backward),
    ]
    if common.cuda_torch() is None:
        return [*jobs, Job("forward", "cupy", 3, _cupy_forward)]
    return [
        *jobs,
        *both("torch eager", _torch_module),
        *both("normcore.torch", _our_module),
    ]


def batch_norm_in_two() -> list[Job]:
    """In two launches, also where the cache holds the array between two passes of one."""
    return [
        Job("forward", "normcore, two launches", 3, lambda buffers: _forward(buffers, _in_two())),
        Job("backward", "normcore, two launches", 5, lambda buffers: _backward(buffers, _in_two())),
    ]


def batch_norm_peers() -> list[Job]:
    """PyTorch's own kernels, cuDNN's, and what its compiler makes of the module."""
    if common.cuda_torch() is None:
        return []
    return [
        *both("torch native", _torch_module, native=True),
        Job("forward", "torch cuDNN", 3, _cudnn_forward),
        Job("backward", "torch cuDNN", 5, _cudnn_backward),
        *both("torch compile", compiled(_torch_module)),
        *both("normcore.torch compile", compiled(_our_module)),
    ]


def both(library: str, make: Make, *, native: bool = False) -> list[Job]:
    """Forward and backward of a module."""
    return [
        Job("forward", library, 3, forward(make, native=native)),
        Job("backward", library, 5, backward(make, native=native)),
    ]


def _torch_module(buffers: Buffers) -> object:
    return common.cuda_torch().nn.BatchNorm2d(buffers.case.shape[1], device=DEVICE)


def _our_module(buffers: Buffers) -> object:
    from normcore.torch import BatchNorm2d

    common.backend()
    return BatchNorm2d(buffers.case.shape[1], device=DEVICE)


def _vectors(buffers: Buffers) -> tuple[object, object]:
    num_channels = buffers.case.shape[1]
    return cupy.ones(num_channels), cupy.zeros(num_channels)


def _in_two() -> CupyBackend:
    """Return a backend that takes the cache for none."""
    backend = CupyBackend()
    backend.device.cache_bytes = lambda: 0
    return backend


def _forward(buffers: Buffers, backend: CupyBackend | None = None) -> Call:
    x, out = buffers.x, buffers.out
    gamma, beta = _vectors(buffers)
    call = nc.functional.batch_norm
    return lambda i: call(x[i], gamma, beta, out=out[i], backend=backend)


def _backward(buffers: Buffers, backend: CupyBackend | None = None) -> Call:
    x, dy, out = buffers.x, buffers.dy, buffers.out
    gamma, beta = _vectors(buffers)
    _, moments = nc.functional.batch_norm(x[0], gamma, beta, out=out[0])
    back = nc.functional.batch_norm_backward
    return lambda i: back(dy[i], x[i], moments, gamma, out=out[i], backend=backend)


def _cupy_forward(buffers: Buffers) -> Call:
    """The formula as it is written."""
    x, out = buffers.x, buffers.out
    gamma, beta = _vectors(buffers)
    others = tuple(axis for axis in range(x[0].ndim) if axis != 1)

    def call(i: int) -> object:
        mean, var = (each(axis=others, keepdims=True) for each in (x[i].mean, x[i].var))
        scale, shift = (each.astype(x[i].dtype).reshape(mean.shape) for each in (gamma, beta))
        return cupy.add((x[i] - mean) / cupy.sqrt(var + 1e-5) * scale, shift, out=out[i])

    return call


def _cudnn_arguments(buffers: Buffers) -> tuple[object, ...]:
    torch, num_channels = common.cuda_torch(), buffers.case.shape[1]
    filled: Callable[..., object] = torch.full
    return tuple(filled((num_channels,), value, device=DEVICE) for value in (1.0, 0.0, 0.0, 1.0))


def _cudnn_forward(buffers: Buffers) -> Call:
    torch, x = common.cuda_torch(), buffers.tensors
    vectors = _cudnn_arguments(buffers)
    call = torch.ops.aten.cudnn_batch_norm
    return lambda i: call(x[i], *vectors, True, 0.1, 1e-5)


def _cudnn_backward(buffers: Buffers) -> Call:
    torch, x, dy = common.cuda_torch(), buffers.tensors, buffers.gradients
    vectors = _cudnn_arguments(buffers)
    saved = [torch.ops.aten.cudnn_batch_norm(each, *vectors, True, 0.1, 1e-5)[1:] for each in x]
    weight, _, mean, var = vectors
    call = torch.ops.aten.cudnn_batch_norm_backward

    def run(i: int) -> object:
        save_mean, save_var, reserve = saved[i]
        return call(x[i], dy[i], weight, mean, var, save_mean, save_var, 1e-5, reserve)

    return run
