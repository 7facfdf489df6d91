"""Batch norm as normcore and PyTorch do it, and in NumPy's float64 as the oracle.

PyTorch's operators are called without autograd, so that only their kernels are timed; with `out=`
where they write there directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import normcore as nc

from .cases import Arrays
from .peers import OURS, Contestant, found

__all__ = ["batch_contestants", "batch_oracle"]

EPS = 1e-5
MOMENTUM = 0.1
RUNNING_MEAN, RUNNING_VAR = 0.5, 2.0


def batch_contestants(verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """Yield normcore and PyTorch: "training", "inference" or "backward", fresh or with `out=`."""
    yield _ours(verb, arrays)
    if found("PyTorch") is not None:
        yield from _torch(verb, arrays)


def batch_oracle(verb: str, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Compute the results in float64, in so many passes (Ioffe and Szegedy 2015, section 3)."""
    case = arrays.case
    axes = case.other_axes
    x = arrays.x.astype(np.float64)
    gamma, beta = map(arrays.along_channels, (arrays.gamma, arrays.beta))
    if verb.startswith("inference"):
        return ((x - RUNNING_MEAN) / np.sqrt(RUNNING_VAR + EPS) * gamma + beta,)
    mean = x.mean(axis=axes, keepdims=True)
    scale = np.sqrt(x.var(axis=axes, keepdims=True) + EPS)
    xhat = (x - mean) / scale
    if verb.startswith("training"):
        return (xhat * gamma + beta,)
    dy = arrays.dy.astype(np.float64)
    means = [each.mean(axis=axes, keepdims=True) for each in (dy, dy * xhat)]
    dx = gamma / scale * (dy - means[0] - xhat * means[1])
    return dx, (dy * xhat).sum(axis=axes), dy.sum(axis=axes)


def _ours(verb: str, arrays: Arrays) -> Contestant:
    case, x = arrays.case, arrays.x
    bn = nc.BatchNorm(case.shape[case.axis], axis=case.axis, eps=EPS, momentum=MOMENTUM)
    bn.gamma, bn.beta = arrays.gamma, arrays.beta
    bn.running_mean = np.full_like(arrays.gamma, RUNNING_MEAN)
    bn.running_var = np.full_like(arrays.gamma, RUNNING_VAR)
    out = arrays.out if verb.endswith("out=") else None
    if verb.startswith("backward"):
        bn(x, out=arrays.out)
        dy = arrays.dy
        return Contestant(OURS, lambda: bn.backward(dy, out=out))
    if verb.startswith("inference"):
        bn.eval()
    return Contestant(OURS, lambda: bn(x, out=out))


def _torch(verb: str, arrays: Arrays) -> Iterator[Contestant]:
    import torch

    axis = arrays.case.axis

    def channels_second(array: np.ndarray) -> Any:
        return torch.from_numpy(array).movedim(axis, 1)

    def read(result: Any) -> tuple[np.ndarray, ...]:
        y, *vectors = result if verb.startswith("backward") else (result,)
        return y.movedim(1, axis).numpy(), *(each.numpy() for each in vectors)

    x = channels_second(arrays.x)
    gamma, beta = (torch.from_numpy(each).to(x.dtype) for each in (arrays.gamma, arrays.beta))
    running = [torch.full_like(gamma, value) for value in (RUNNING_MEAN, RUNNING_VAR)]
    training = not verb.startswith("inference")
    if verb.startswith("backward"):
        # Beside out= too: its own form with out= computes a fresh result and copies it.
        _, *saved = torch.native_batch_norm(x, gamma, beta, *running, True, MOMENTUM, EPS)
        dy = channels_second(arrays.dy)
        backward = torch.ops.aten.native_batch_norm_backward
        wanted = [True, True, True]
        yield Contestant(
            "PyTorch",
            lambda: backward(dy, x, gamma, *running, *saved, True, EPS, wanted),
            read,
        )
    elif verb.endswith("out="):
        out = channels_second(arrays.out)
        saved = [torch.empty_like(gamma) for _ in range(2 * training)] or [torch.empty(0)] * 2
        outs = (out, *saved)
        arguments = (x, gamma, beta, *running, training, MOMENTUM, EPS)

        def call() -> Any:
            torch.native_batch_norm(*arguments, out=outs)
            return out

        yield Contestant("PyTorch", call, read)
    else:
        norm = torch.nn.functional.batch_norm
        yield Contestant(
            "PyTorch", lambda: norm(x, *running, gamma, beta, training, MOMENTUM, EPS), read
        )
