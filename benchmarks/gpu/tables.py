"""Jobs on tables: statistics of columns, scalers, and exact quantiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cupy
import numpy as np

import normcore as nc
from benchmarks.gpu import common
from benchmarks.gpu.jobs import Call, Job

if TYPE_CHECKING:
    from benchmarks.gpu.cases import Buffers
    from normcore.layout.namespace import Array

__all__ = ["quantiles", "scalers", "statistics"]

_RANKS = np.array([0.25, 0.5, 0.75])


def statistics() -> list[Job]:
    """Rescaling, moments and extrema, next to PyTorch's operators."""
    jobs = [
        Job("rescale", "normcore", 2, _rescale),
        Job("moments", "normcore", 1, _moments),
        Job("extrema", "normcore", 1, _extrema),
    ]
    if common.cuda_torch() is not None:
        jobs += [
            Job("rescale", "torch eager", 2, _torch_rescale),
            Job("moments", "torch eager", 1, _torch_moments),
            Job("extrema", "torch eager", 1, _torch_extrema),
        ]
    else:
        jobs += [
            Job("rescale", "cupy", 2, _cupy_rescale),
            Job("moments", "cupy", 1, _cupy_moments),
            Job("extrema", "cupy", 1, _cupy_extrema),
        ]
    return jobs


def _rescale(buffers: Buffers) -> Call:
    x, out = buffers.x, buffers.out
    scaler = nc.StandardScaler().fit(x[0])
    return lambda i: scaler.transform(x[i], out=out[i])


def _moments(buffers: Buffers) -> Call:
    backend, views = common.backend(), [each[:, :, None] for each in buffers.x]
    return lambda i: backend.moments(views[i], skipna=True)


def _extrema(buffers: Buffers) -> Call:
    backend, views = common.backend(), [each[:, :, None] for each in buffers.x]
    return lambda i: backend.extrema(views[i], skipna=True)


def _torch_rescale(buffers: Buffers) -> Call:
    torch, x = common.cuda_torch(), buffers.tensors
    var, mean = torch.var_mean(x[0].float(), 0)
    mean, factor = mean.to(x[0].dtype), var.rsqrt().to(x[0].dtype)
    outs = [torch.from_dlpack(each) for each in buffers.out]
    return lambda i: torch.sub(x[i], mean, out=outs[i]).mul_(factor)


def _torch_moments(buffers: Buffers) -> Call:
    torch, x = common.cuda_torch(), buffers.tensors
    return lambda i: torch.var_mean(x[i], 0)


def _torch_extrema(buffers: Buffers) -> Call:
    torch, x = common.cuda_torch(), buffers.tensors
    return lambda i: torch.aminmax(x[i], dim=0)


def _cupy_rescale(buffers: Buffers) -> Call:
    x, out = buffers.x, buffers.out
    scaler = nc.StandardScaler().fit(x[0])
    mean, scale = (cupy.asarray(each, x[0].dtype) for each in (scaler.mean_, scaler.scale_))
    return lambda i: cupy.divide(x[i] - mean, scale, out=out[i])


def _cupy_moments(buffers: Buffers) -> Call:
    x = buffers.x
    return lambda i: (x[i].mean(axis=0), x[i].var(axis=0))


def _cupy_extrema(buffers: Buffers) -> Call:
    x = buffers.x
    return lambda i: (x[i].min(axis=0), x[i].max(axis=0))


def quantiles() -> list[Job]:
    """Exact quartiles."""
    return [
        Job("quartiles", "normcore", 1, _quartiles),
        Job("quartiles", "cupy", 1, _cupy_quartiles),
    ]


def _quartiles(buffers: Buffers) -> Call:
    backend, views = common.backend(), [each[:, :, None] for each in buffers.x]
    return lambda i: backend.quantiles(views[i], _RANKS, skipna=True)


def _cupy_quartiles(buffers: Buffers) -> Call:
    x = buffers.x
    return lambda i: cupy.percentile(x[i], [25, 50, 75], axis=0)


def scalers() -> list[Job]:
    """Scalers of tables, next to scikit-learn's by array-API dispatch, and from the host."""
    jobs = [
        Job("fit", "normcore", 1, _fit(nc.StandardScaler)),
        Job("fit range", "normcore", 1, _fit(nc.MinMaxScaler)),
        Job("fit from the host", "normcore", 1, _fit_from_host("cupy")),
        Job("fit from the host", "normcore cpu", 1, _fit_from_host("cpu")),
    ]
    if all(map(common.optional, ("sklearn", "array_api_compat"))):
        jobs += [
            Job("fit", "scikit-learn", 1, _sklearn("StandardScaler")),
            Job("fit range", "scikit-learn", 1, _sklearn("MinMaxScaler")),
        ]
    return jobs


def _fit(scaler: Callable[[], nc.AffineScaler]) -> Callable[[Buffers], Call]:
    def prepare(buffers: Buffers) -> Call:
        x = buffers.x
        return lambda i: scaler().fit(x[i])

    return prepare


def _fit_from_host(backend: str) -> Callable[[Buffers], Call]:
    def prepare(buffers: Buffers) -> Call:
        host: Array = cupy.asnumpy(buffers.x[0])
        return lambda i: nc.StandardScaler(backend=backend).fit(host)

    return prepare


def _sklearn(name: str) -> Callable[[Buffers], Call]:
    def prepare(buffers: Buffers) -> Call:
        from sklearn import config_context, preprocessing

        x, scaler = buffers.x, getattr(preprocessing, name)

        def fit(i: int) -> object:
            with config_context(array_api_dispatch=True):
                return scaler().fit(x[i])

        return fit

    return prepare
