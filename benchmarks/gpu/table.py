"""The bandwidth table: what each job takes, against a copy of the same array on the same device.

    python benchmarks/gpu/table.py directory [--quick]

Writes gpu.json and gpu.png into the directory, prints every measurement, and last the targets with
what was measured. ``--quick`` takes small arrays: whether all of it runs, not how fast.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import common
import cupy
import numpy as np
from report import SHARE, Row, drawn, show, show_targets, targets

import normcore as nc
from normcore.layout.namespace import Array

TORCH = common.optional("torch")
if TORCH is not None and not TORCH.cuda.is_available():
    TORCH = None
SKLEARN = common.optional("sklearn")
TABLES = [(1_000_000, 64), (10_000_000, 8), (4_000, 65_536)]
IMAGES = [(256, 64, 56, 56), (128, 512, 7, 7), (64, 3, 224, 224)]
SMALL = [(1, 30), (64, 256), (1024, 1024)]
QUICK = [(2000, 8)], [(4, 3, 8, 8)], [(1, 30)]
DTYPES = ("float32", "float16")

Job = tuple[str, str, Callable[[], object], float]  # job, library, call, bytes that it must move


def main(directory: Path, quick: bool) -> None:
    """Measure everything, print it, and write the files."""
    common.backend()
    rows: list[Row] = []
    tables, images, small = QUICK if quick else (TABLES, IMAGES, SMALL)
    cases = [(shape, dtype, table_jobs, False) for shape in tables for dtype in DTYPES]
    cases += [
        (shape, dtype, image_jobs, channels_last)
        for shape in images
        for dtype in DTYPES
        for channels_last in (False, True)
    ]
    cases += [(shape, "float32", table_jobs, False) for shape in small]
    for case in cases:
        rows += measured(*case)
        cupy.get_default_memory_pool().free_all_blocks()
    report = {
        "machine": common.describe(),
        "target_share_of_copy": SHARE,
        "launches": dict(counted_launches()),
        "targets": [each._asdict() for each in targets(rows)],
        "rows": [row._asdict() for row in rows],
    }
    (directory / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    chart = directory / "gpu.png"
    show(rows)
    print("chart:", chart if drawn(report, chart) else "not drawn, matplotlib is missing")
    show_targets(targets(rows), report["launches"])


def measured(
    shape: tuple[int, ...], dtype: str, jobs: Callable[..., Iterator[Job]], channels_last: bool
) -> Iterator[Row]:
    """Yield a row for each job on an array, the copy first."""
    x = (cupy.random.standard_normal(shape, dtype=cupy.float32) + 3.0).astype(dtype)
    if channels_last:
        x = cupy.moveaxis(cupy.ascontiguousarray(cupy.moveaxis(x, 1, -1)), -1, 1)
    out = cupy.empty_like(x)
    name = dtype + (" channels last" if channels_last else "")
    floor = 0.0
    # Of the memory as it lies: cupy.copyto is far slower where channels are last.
    copy = (
        "copy",
        "cupy",
        lambda: out.data.copy_from_device_async(x.data, x.nbytes),
        2.0 * x.nbytes,
    )
    for job, library, call, moved in chain([copy], prepared(jobs(x, out))):
        try:
            time = common.milliseconds(call)
        except Exception as error:  # one peer that fails does not end the table
            print(f"{job} {shape} {name} {library}: {type(error).__name__}: {error}")
            continue
        speed = moved / time / 1e6
        floor = floor or speed
        yield Row(job, shape, name, library, time, speed, speed / floor)


def prepared(jobs: Iterator[Job]) -> Iterator[Job]:
    """Yield jobs; one that cannot be set up ends those of its array, not the table."""
    try:
        yield from jobs
    except Exception as error:
        print(f"no further jobs on this array: {type(error).__name__}: {error}")


def table_jobs(x: Array, out: Array) -> Iterator[Job]:
    """Scalers and their statistics on a table."""
    size = float(x.nbytes)
    view = x[:, :, None]
    backend = common.backend()
    yield "moments", "normcore", lambda: backend.moments(view, skipna=True), size
    yield "moments", "cupy", lambda: (x.mean(axis=0), x.var(axis=0)), size
    yield "extrema", "normcore", lambda: backend.extrema(view, skipna=True), size
    yield "extrema", "cupy", lambda: (x.min(axis=0), x.max(axis=0)), size
    scaler = nc.StandardScaler().fit(x)
    mean, scale = (cupy.asarray(each, x.dtype) for each in (scaler.mean_, scaler.scale_))
    yield "rescale", "normcore", lambda: scaler.transform(x, out=out), 2 * size
    yield "rescale", "cupy", lambda: cupy.divide(x - mean, scale, out=out), 2 * size
    ranges = nc.MinMaxScaler()
    yield "fit", "normcore", lambda: nc.StandardScaler().fit(x), size
    yield "fit range", "normcore", lambda: ranges.fit(x), size
    ranks = np.array([0.25, 0.5, 0.75])
    yield "quartiles", "normcore", lambda: backend.quantiles(view, ranks, skipna=True), size
    yield "quartiles", "cupy", lambda: cupy.percentile(x, [25, 50, 75], axis=0), size
    if SKLEARN is not None:
        yield from sklearn_jobs(x, scaler, size)
    if x.nbytes <= 1 << 28:
        host = cupy.asnumpy(x)
        there, here = (nc.StandardScaler(backend=each) for each in (backend, nc.get_backend("cpu")))
        yield "fit from the host", "normcore", lambda: there.fit(host), size
        yield "fit from the host", "normcore cpu", lambda: here.fit(host), size


def sklearn_jobs(x: Array, fitted: nc.StandardScaler, size: float) -> Iterator[Job]:
    """scikit-learn's scalers by array-API dispatch, the standard one fitted as ours."""
    from sklearn import config_context, preprocessing

    standard, ranges = preprocessing.StandardScaler(), preprocessing.MinMaxScaler()
    other = preprocessing.StandardScaler()
    other.mean_, other.scale_ = (cupy.asarray(v, x.dtype) for v in (fitted.mean_, fitted.scale_))
    other.n_features_in_ = x.shape[1]

    def dispatched(call: Callable[[Array], object]) -> Callable[[], None]:
        def run() -> None:
            with config_context(array_api_dispatch=True):
                call(x)

        return run

    yield "fit", "scikit-learn", dispatched(standard.fit), size
    yield "fit range", "scikit-learn", dispatched(ranges.fit), size
    yield "rescale", "scikit-learn", dispatched(other.transform), 2 * size


def image_jobs(x: Array, out: Array) -> Iterator[Job]:
    """Batch norm, forward and backward."""
    size = float(x.nbytes)
    num_channels = x.shape[1]
    dy = cupy.empty_like(x)
    dy[...] = cupy.random.standard_normal(x.shape, dtype=cupy.float32)
    gamma, beta = cupy.ones(num_channels), cupy.zeros(num_channels)
    others = tuple(axis for axis in range(x.ndim) if axis != 1)

    def formula() -> object:
        mean, var = (each(axis=others, keepdims=True) for each in (x.mean, x.var))
        scale, shift = (each.astype(x.dtype).reshape(mean.shape) for each in (gamma, beta))
        return cupy.add((x - mean) / cupy.sqrt(var + 1e-5) * scale, shift, out=out)

    norm, back = nc.functional.batch_norm, nc.functional.batch_norm_backward
    _, moments = norm(x, gamma, beta, out=out)
    yield "forward", "normcore", lambda: norm(x, gamma, beta, out=out), 3 * size
    yield "forward", "cupy", formula, 3 * size
    yield "backward", "normcore", lambda: back(dy, x, moments, gamma, out=out), 5 * size
    if TORCH is not None:
        for native in (False, True):
            yield from torch_jobs(x, dy, size, "torch native" if native else "torch cuDNN", native)


def torch_jobs(x: Array, dy: Array, size: float, library: str, native: bool) -> Iterator[Job]:
    """PyTorch's batch norm on the same memory, and on the stream that CuPy's clock is on."""
    assert TORCH is not None
    if TORCH.cuda.current_stream().cuda_stream != cupy.cuda.get_current_stream().ptr:
        raise RuntimeError("PyTorch and CuPy are on two streams; no clock would be right for both")
    leaf, gradient = TORCH.from_dlpack(x), TORCH.from_dlpack(dy)
    num_channels = x.shape[1]
    weight, bias = (TORCH.ones(num_channels, device="cuda") for _ in range(2))
    running = [TORCH.zeros(num_channels, device="cuda"), TORCH.ones(num_channels, device="cuda")]

    def flagged(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with TORCH.backends.cudnn.flags(enabled=not native):
                return call()

        return run

    def forward() -> object:
        return TORCH.nn.functional.batch_norm(leaf, *running, weight, bias, training=True)

    wanted = [each.detach().clone().requires_grad_() for each in (leaf, weight, bias)]
    y = flagged(
        lambda: TORCH.nn.functional.batch_norm(wanted[0], *running, *wanted[1:], training=True)
    )()

    def backward() -> object:
        return TORCH.autograd.grad(y, wanted, gradient, retain_graph=True)

    yield "forward", library, flagged(forward), 3 * size
    yield "backward", library, flagged(backward), 5 * size


def counted_launches() -> Iterator[tuple[str, int]]:
    """Yield how many kernels of its own each call launches, whatever the size.

    Quantiles are of one read of 200,000 positions; fewer than 131,073 are sorted on the host.
    """
    backend = common.backend()
    device = backend.device
    x = cupy.ones((8, 4, 1), dtype=cupy.float32)
    long = cupy.asarray(np.random.default_rng(0).random((200_000, 1, 1), dtype=np.float32))
    affine = nc.Affine(scale=2.0)
    moments = backend.moments(x)
    calls = {
        "moments": lambda: backend.moments(x),
        "extrema": lambda: backend.extrema(x),
        "rescale": lambda: backend.rescale(x, affine),
        "forward": lambda: backend.normalize(x, 1.0, 0.0, 1e-5),
        "backward": lambda: backend.normalize_backward(x, x, moments, 1.0, 0.0, 1e-5),
        "quartiles": lambda: backend.quantiles(long, [0.25, 0.5, 0.75], skipna=True),
    }
    launch = device.launch
    for job, call in calls.items():
        number: list[int] = []
        device.launch = lambda *arguments, number=number: (number.append(1), launch(*arguments))
        try:
            call()
        finally:
            device.launch = launch
        yield job, len(number)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--quick", action="store_true")
    main(**vars(parser.parse_args()))
