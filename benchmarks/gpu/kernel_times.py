"""The time of each kernel that one call launches: where it goes, and what is between them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cupy

from benchmarks.gpu import common
from benchmarks.gpu.cases import Buffers, cases
from benchmarks.gpu.jobs import Job

#: What is looked at, on the first array of each kind.
JOBS = (
    ("rescale", "normcore"), ("moments", "normcore"), ("extrema", "normcore"),
    ("forward", "normcore"), ("forward", "torch eager"), ("forward", "normcore.torch"),
    ("backward", "normcore"), ("backward", "torch eager"), ("backward", "normcore.torch"),
    ("layer norm", "normcore"), ("layer norm", "torch eager"), ("layer norm", "normcore.torch"),
    ("layer norm backward", "normcore"), ("layer norm backward", "torch eager"),
    ("layer norm backward", "normcore.torch"), ("quartiles", "normcore"),
)  # fmt: skip
CALLS = 4


def main(path: Path, quick: bool) -> None:
    """Print and write the kernels of each job."""
    common.backend()
    with path.open("w", encoding="utf-8") as file:
        for wanted in JOBS:
            pairs = ((case, job) for case in cases(quick) for job in case.jobs)
            case, job = next(
                ((c, j) for c, j in pairs if (j.job, j.library) == wanted), (None, None)
            )
            if case is None or job is None:
                continue
            shape = "x".join(map(str, case.shape))
            text = f"{job.job}, {job.library}, {shape} {case.name}:\n"
            try:
                text += kernels(job, Buffers(case))
            except Exception as error:
                text += f"  {type(error).__name__}: {error}\n"
            print(text, end="", flush=True)
            file.write(text)
            file.flush()
            cupy.get_default_memory_pool().free_all_blocks()


def kernels(job: Job, buffers: Buffers) -> str:
    """Return a line for each kernel and copy of a call, by PyTorch's profiler or by events."""
    call = job.prepare(buffers)

    def go() -> None:
        for i in range(CALLS):
            call(i % buffers.number)
        cupy.cuda.Device().synchronize()

    go()
    torch = common.cuda_torch()
    return _by_events(call) if torch is None else _by_profiler(go)


def _by_profiler(go: Callable[[], None]) -> str:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        go()
    lines = [
        f"  {each.self_device_time_total / CALLS:10.1f} us  {each.count / CALLS:5.1f} x  "
        f"{each.key[:110]}\n"
        for each in sorted(seen.key_averages(), key=lambda each: -each.self_device_time_total)
        if each.self_device_time_total > 0
    ]
    return "".join(lines) or "  no kernels were seen\n"


def _by_events(call: Callable[[int], object]) -> str:
    """Time normcore's own launches one by one."""
    device = common.backend().device
    launch, seen = device.launch, []

    def timed(kernel: str, *arguments: object) -> None:
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        launch(kernel, *arguments)
        end.record()
        end.synchronize()
        seen.append(f"  {cupy.cuda.get_elapsed_time(start, end) * 1e3:10.1f} us  {kernel}\n")

    device.launch = timed
    try:
        call(0)
    finally:
        device.launch = launch
    return "".join(seen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--quick", action="store_true")
    main(**vars(parser.parse_args()))
