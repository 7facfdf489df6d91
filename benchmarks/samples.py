"""Layer and group norm as normcore and PyTorch do them, and in NumPy's float64 as the oracle.

PyTorch's operators are called without autograd, so that only their kernels are timed. None of them
writes to a given result directly (their forms with `out=` compute a fresh one and copy it), so
what PyTorch returns stands beside `out=` too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

import normcore as nc

from .cases import Arrays
from .peers import OURS, Contestant, found

__all__ = ["samples_contestants", "samples_oracle"]

EPS = 1e-5


def samples_contestants(kind: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """Yield normcore and PyTorch: "layer_norm" or "group_norm", "forward" or "backward"."""
    yield _ours(kind, verb, arrays)
    if found("PyTorch") is not None:
        yield _torch(kind, verb, arrays)


def samples_oracle(kind: str, verb: str, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Compute the results in float64, in so many passes."""
    x, dy = (each.astype(np.float64) for each in (arrays.x, arrays.dy))
    case, shape = arrays.case, arrays.x.shape
    gamma, beta = map(arrays.along_channels, (arrays.gamma, arrays.beta))

    def means(values: np.ndarray) -> np.ndarray:
        if kind == "layer_norm":
            return values.mean(axis=-1, keepdims=True)
        groups = values.reshape(shape[0], _num_groups(arrays), -1)
        return np.broadcast_to(groups.mean(axis=-1, keepdims=True), groups.shape).reshape(shape)

    mean = means(x)
    scale = np.sqrt(means((x - mean) ** 2) + EPS)
    xhat = (x - mean) / scale
    if verb.startswith("forward"):
        return (xhat * gamma + beta,)
    g = dy * gamma
    dx = (g - means(g) - xhat * means(g * xhat)) / scale
    return dx, (dy * xhat).sum(axis=case.other_axes), dy.sum(axis=case.other_axes)


def _num_groups(arrays: Arrays) -> int:
    num_channels = arrays.case.shape[arrays.case.axis]
    return 32 if num_channels % 32 == 0 else 1


def _ours(kind: str, verb: str, arrays: Arrays) -> Contestant:
    x, num_channels = arrays.x, arrays.gamma.size
    layer = (
        nc.LayerNorm(num_channels, eps=EPS)
        if kind == "layer_norm"
        else nc.GroupNorm(_num_groups(arrays), num_channels, axis=arrays.case.axis, eps=EPS)
    )
    layer.gamma, layer.beta = arrays.gamma, arrays.beta
    out = arrays.out if verb.endswith("out=") else None
    if verb.startswith("backward"):
        layer(x, out=arrays.out)
        dy = arrays.dy
        return Contestant(OURS, lambda: layer.backward(dy, out=out))
    return Contestant(OURS, lambda: layer(x, out=out))


def _torch(kind: str, verb: str, arrays: Arrays) -> Contestant:
    import torch

    x = torch.from_numpy(arrays.x)
    gamma, beta = (torch.from_numpy(each).to(x.dtype) for each in (arrays.gamma, arrays.beta))
    shape, groups = arrays.case.shape, _num_groups(arrays)
    if kind == "layer_norm":
        _, *saved = torch.native_layer_norm(x, shape[-1:], gamma, beta, EPS)
    else:
        sizes = (shape[0], shape[1], math.prod(shape[2:]), groups)
        _, *saved = torch.native_group_norm(x, gamma, beta, *sizes, EPS)
    if verb.startswith("forward"):
        functions = torch.nn.functional
        if kind == "layer_norm":
            return Contestant(
                "PyTorch",
                lambda: functions.layer_norm(x, shape[-1:], gamma, beta, EPS),
                lambda y: (y.numpy(),),
            )
        return Contestant(
            "PyTorch",
            lambda: functions.group_norm(x, groups, gamma, beta, EPS),
            lambda y: (y.numpy(),),
        )
    dy, wanted, operators = torch.from_numpy(arrays.dy), [True, True, True], torch.ops.aten
    if kind == "layer_norm":
        backward = operators.native_layer_norm_backward
        arguments = (dy, x, shape[-1:], *saved, gamma, beta, wanted)
    else:
        backward = operators.native_group_norm_backward
        arguments = (dy, x, *saved, gamma, *sizes, wanted)
    return Contestant(
        "PyTorch",
        lambda: backward(*arguments),
        lambda result: tuple(each.numpy() for each in result),
    )
