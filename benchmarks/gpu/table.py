"""The bandwidth table: what each job takes, against a copy of the same array on the same device.

Writes gpu.json and gpu.png into the directory that is named, and prints the table.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import common
import cupy
import numpy as np

import normcore as nc

TORCH = common.optional("torch")
if TORCH is not None and not TORCH.cuda.is_available():
    TORCH = None
SKLEARN = common.optional("sklearn")
TABLES = [(1_000_000, 64), (10_000_000, 8), (4_000, 65_536)]
IMAGES = [(256, 64, 56, 56), (128, 512, 7, 7), (64, 3, 224, 224)]
SMALL = [(1, 30), (64, 256), (1024, 1024)]
DTYPES = ("float32", "float16")
#: Target as a share of the copy's bandwidth.
SHARE = 0.85

Job = tuple[str, str, Callable[[], Any], float]  # job, library, call, bytes that it must move


class Row(NamedTuple):
    """One measurement."""

    job: str
    shape: tuple[int, ...]
    dtype: str
    library: str
    milliseconds: float
    gigabytes_per_second: float
    share_of_copy: float


def main(directory: Path) -> None:
    """Measure everything, print it, and write the files."""
    common.backend()
    rows: list[Row] = []
    cases = [(shape, dtype, table_jobs, False) for shape in TABLES for dtype in DTYPES]
    cases += [
        (shape, dtype, image_jobs, channels_last)
        for shape in IMAGES
        for dtype in DTYPES
        for channels_last in (False, True)
    ]
    cases += [(shape, "float32", table_jobs, False) for shape in SMALL]
    for case in cases:
        rows += measured(*case)
        cupy.get_default_memory_pool().free_all_blocks()
    launches = [{"job": job, "launches": number} for job, number in counted_launches()]
    report = {
        "machine": common.describe(),
        "target_share_of_copy": SHARE,
        "launches": launches,
        "targets": list(targets(rows)),
        "rows": [row._asdict() for row in rows],
    }
    (directory / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    show(rows)
    print(*report["targets"], sep="\n")
    chart = directory / "gpu.png"
    print("chart:", chart if drawn(report, chart) else "not drawn, matplotlib is missing")


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


def table_jobs(x: Any, out: Any) -> Iterator[Job]:
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


def sklearn_jobs(x: Any, fitted: Any, size: float) -> Iterator[Job]:
    """scikit-learn's scalers by array-API dispatch, the standard one fitted as ours."""
    from sklearn import config_context, preprocessing

    standard, ranges = preprocessing.StandardScaler(), preprocessing.MinMaxScaler()
    other = preprocessing.StandardScaler()
    other.mean_, other.scale_ = (cupy.asarray(v, x.dtype) for v in (fitted.mean_, fitted.scale_))
    other.n_features_in_ = x.shape[1]

    def dispatched(call: Callable[[Any], Any]) -> Callable[[], None]:
        def run() -> None:
            with config_context(array_api_dispatch=True):
                call(x)

        return run

    yield "fit", "scikit-learn", dispatched(standard.fit), size
    yield "fit range", "scikit-learn", dispatched(ranges.fit), size
    yield "rescale", "scikit-learn", dispatched(other.transform), 2 * size


def image_jobs(x: Any, out: Any) -> Iterator[Job]:
    """Batch norm, forward and backward."""
    size = float(x.nbytes)
    num_channels = x.shape[1]
    dy = cupy.empty_like(x)
    dy[...] = cupy.random.standard_normal(x.shape, dtype=cupy.float32)
    gamma, beta = cupy.ones(num_channels), cupy.zeros(num_channels)
    norm, back = nc.functional.batch_norm, nc.functional.batch_norm_backward
    _, moments = norm(x, gamma, beta, out=out)
    yield "forward", "normcore", lambda: norm(x, gamma, beta, out=out), 3 * size
    yield "backward", "normcore", lambda: back(dy, x, moments, gamma, out=out), 5 * size
    if TORCH is not None:
        for native in (False, True):
            yield from torch_jobs(x, dy, size, "torch native" if native else "torch cuDNN", native)


def torch_jobs(x: Any, dy: Any, size: float, library: str, native: bool) -> Iterator[Job]:
    """PyTorch's batch norm on the same memory and CuPy's stream."""
    assert TORCH is not None
    leaf, gradient = TORCH.from_dlpack(x), TORCH.from_dlpack(dy)
    num_channels = x.shape[1]
    weight, bias = (TORCH.ones(num_channels, device="cuda") for _ in range(2))
    running = [TORCH.zeros(num_channels, device="cuda"), TORCH.ones(num_channels, device="cuda")]

    def on_cupys_stream(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            stream = TORCH.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)
            with TORCH.cuda.stream(stream), TORCH.backends.cudnn.flags(enabled=not native):
                call()

        return run

    def forward() -> Any:
        return TORCH.nn.functional.batch_norm(leaf, *running, weight, bias, training=True)

    yield "forward", library, on_cupys_stream(forward), 3 * size
    with TORCH.backends.cudnn.flags(enabled=not native):
        wanted = [each.detach().clone().requires_grad_() for each in (leaf, weight, bias)]
        y = TORCH.nn.functional.batch_norm(wanted[0], *running, *wanted[1:], training=True)
    yield (
        "backward",
        library,
        on_cupys_stream(lambda: TORCH.autograd.grad(y, wanted, gradient, retain_graph=True)),
        5 * size,
    )


def counted_launches() -> Iterator[tuple[str, int]]:
    """Yield how many kernels of its own each call launches, the same for every size."""
    backend = common.backend()
    device = backend.device
    x = cupy.ones((8, 4, 1), dtype=cupy.float32)
    affine = nc.Affine(scale=2.0)
    moments = backend.moments(x)
    calls = {
        "moments": lambda: backend.moments(x),
        "extrema": lambda: backend.extrema(x),
        "rescale": lambda: backend.rescale(x, affine),
        "forward": lambda: backend.normalize(x, 1.0, 0.0, 1e-5),
        "backward": lambda: backend.normalize_backward(x, x, moments, 1.0, 0.0, 1e-5),
    }
    launch = device.launch
    for job, call in calls.items():
        number = []
        device.launch = lambda *arguments, number=number: (number.append(1), launch(*arguments))
        try:
            call()
        finally:
            device.launch = launch
        yield job, len(number)


def targets(rows: list[Row]) -> Iterator[str]:
    """Yield what was measured next to each target, on arrays of 1 MB and more."""
    large = [
        row
        for row in rows
        if math.prod(row.shape) * np.dtype(row.dtype.split()[0]).itemsize >= 1_000_000
    ]
    ours = [row for row in large if row.library == "normcore"]
    for job in ("moments", "extrema", "rescale"):
        shares = [row.share_of_copy for row in ours if row.job == job] or [math.nan]
        yield f"{job}: {min(shares):.0%} to {max(shares):.0%} of a copy, target {SHARE:.0%}"
    peers = ("forward", "torch", 1), ("backward", "torch", 1), ("quartiles", "cupy", 10)
    for job, peer, factor in peers:
        ratios = [
            theirs.milliseconds / row.milliseconds
            for row in ours
            for theirs in large
            if row.job == job and row[:3] == theirs[:3] and theirs.library.startswith(peer)
        ]
        pairs, ratios = len(ratios), ratios or [math.nan]
        yield (
            f"{job}: {min(ratios):.2f} to {max(ratios):.2f} times as fast as {peer}, target "
            f"{factor}, {pairs} comparisons"
        )


def show(rows: list[Row]) -> None:
    """Print the table."""
    for row in rows:
        shape = "x".join(map(str, row.shape))
        print(
            f"{row.job:18} {shape:>16} {row.dtype:22} {row.library:13} "
            f"{row.milliseconds:9.3f} ms {row.gigabytes_per_second:8.0f} GB/s "
            f"{row.share_of_copy:6.0%} of a copy"
        )


def drawn(report: dict[str, Any], path: Path) -> bool:
    """Draw the share of a copy's bandwidth by job; False without matplotlib."""
    if common.optional("matplotlib") is None:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in report["rows"] if row["job"] != "copy"]
    libraries = sorted({row["library"] for row in rows})
    labels = sorted({(row["job"], row["shape"], row["dtype"]) for row in rows})
    figure, axes = pyplot.subplots(figsize=(10, 0.32 * len(labels) + 1.5), layout="constrained")
    for library in libraries:
        points = [
            (row["share_of_copy"], labels.index((row["job"], row["shape"], row["dtype"])))
            for row in rows
            if row["library"] == library
        ]
        axes.scatter(*zip(*points, strict=True), label=library, s=22)
    axes.axvline(report["target_share_of_copy"], color="gray", linewidth=0.8)
    axes.set_yticks(
        range(len(labels)),
        [f"{job}  {'x'.join(map(str, shape))}  {dtype}" for job, shape, dtype in labels],
        fontsize=7,
    )
    axes.set_xlabel("share of the bandwidth of a copy (bytes that the job must move)")
    axes.set_title(report["machine"]["device"])
    axes.legend()
    figure.savefig(path, dpi=150)
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
