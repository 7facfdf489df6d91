"""What can be known of the device's speed without a device: launches, instructions, Python.

    python -m benchmarks.gpu.count [--write [PATH]]

prints the table next to what is asked, and writes docs/gpu_counts.json and the table of
docs/gpu.md. Needs the emulated device of the tests; for machine code also NVRTC and NVIDIA's
disassembler, of which NORMCORE_CUDA_TOOLS may name the directory.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu import machine_code, page
from benchmarks.gpu.emulation import ROOT, emulated

__all__ = ["PAGE", "count", "grown", "table", "write"]

PAGE = ROOT / "docs" / "gpu_counts.json"
ARCHITECTURE = "sm_90"
#: Instructions an element.
ASKED = {
    "moments": 25, "extrema": 16, "rescale": 25, "backward_reduce": 30, "backward_elemt": 30,
    "normalize": 25, "normalize_backward": 30,
}  # fmt: skip
#: Launches, and kilobytes of loads under way on a multiprocessor, and microseconds of Python.
ASKED_LAUNCHES = {
    "torch.BatchNorm2d": 2, "torch.BatchNorm2d, backward": 2,
    "layer_norm 8192x4096": 1, "layer_norm_backward 8192x4096": 2,
}  # fmt: skip
ASKED_IN_FLIGHT, ASKED_MICROSECONDS = 32, 40
#: Arrays that the kernels read element by element.
INPUTS = {"backward_reduce": 2, "backward_elemt": 2, "normalize_backward": 2}
#: Of kernels that have both passes of batch norm, whether the loop of a pass writes.
PASSES = {"first pass": False, "second pass": True}
#: What loops are for, where options have loops of their own: the leanest first.
OPTIONS = {
    "moments": ("", "skipping NaN"),
    "rescale": ("", "clipped", "masked"),
    "backward_reduce": ("", "masked", "of a ReLU", "of a ReLU, masked"),
    "backward_elemt": ("", "masked", "of a ReLU", "of a ReLU, masked"),
}
#: Of what is counted, and by which part it may grow: calls of Python vary with its version.
_MAY_NOT_GROW = {
    "launches": 0.0, "copies": 0.0, "operations on arrays": 0.0, "instructions an element": 0.02,
    "registers": 0.0, "spilled bytes": 0.0, "calls": 0.05,
}  # fmt: skip
LAYOUTS = ("channels first", "channels last")

Counts = dict[str, dict[str, Any]]


def count() -> Counts:
    """Count everything, but for machine code where its tools are missing.

    Nothing may have imported CuPy before.
    """
    import pytest

    with emulated() as fake:
        from benchmarks.gpu import launches
        from benchmarks.gpu.host_time import HostTime, python_calls

        recorder = launches.Recorder(fake, execute=False)
        functions = launches.functional_calls(*_arrays((8, 16, 8, 8), (64, 32)))
        functions |= {
            f"{name} 8192x4096": call
            for name, call in launches.functional_calls(
                *_arrays((2, 2, 2, 2), (8192, 4096))
            ).items()
            if name.startswith("layer_norm")
        }
        counted: Counts = {"launches": {}}
        for name, call in functions.items():
            counted["launches"][name] = _words(recorder.count(call))
        with launches.tensors_on_device(fake):
            for name, call in _modules().items():
                counted["launches"][name] = _words(recorder.count(call))
        counted["machine code"] = _machine_code(recorder)
        with pytest.MonkeyPatch.context() as patch:
            host = HostTime(fake, patch)
            counted["Python"] = {
                name: {"calls": python_calls(call), "microseconds": round(host.microseconds(call))}
                for name, call in functions.items()
                if "8192" not in name
            }
    return counted


def _arrays(images: tuple[int, ...], rows: tuple[int, ...]) -> tuple[object, object]:
    import cupy
    import numpy as np

    return cupy.ones(images, dtype=np.float32), cupy.ones(rows, dtype=np.float32)


def _modules() -> dict[str, Callable[[], object]]:
    """Return forward and backward passes of modules in training."""
    import torch

    from normcore.torch import BatchNorm2d, LayerNorm

    calls: dict[str, Callable[[], object]] = {}
    for module, shape in ((BatchNorm2d(16), (8, 16, 8, 8)), (LayerNorm(32), (64, 32))):
        name, x, dy = f"torch.{type(module).__name__}", torch.ones(shape), torch.ones(shape)
        leaf = x.clone().requires_grad_()
        y, wanted = module(leaf), [leaf, *module.parameters()]
        calls[name] = lambda module=module, x=x: module(x)
        calls[f"{name}, backward"] = lambda y=y, wanted=wanted, dy=dy: torch.autograd.grad(
            y, wanted, dy, retain_graph=True
        )
    return calls


def _words(counted: Any) -> dict[str, Any]:
    """Return a count as it is written down."""
    return {
        "launches": counted.total,
        "own": Counter(each.kernel for each in counted.own),
        "operations on arrays": counted.operations,
        "operators of PyTorch": Counter(each.removeprefix("aten::") for each in counted.operators),
        "copies": counted.copies,
    }


def _machine_code(recorder: Any) -> dict[str, Any]:
    """Return what the inner loops of the kernels cost that large contiguous arrays launch."""
    from cuda_host import nvrtc
    from normcore_cupy import compiler

    found: dict[str, Any] = {}
    nvcc = nvrtc.find()
    if nvcc is None or machine_code.disassembler() is None:
        return found
    for layout in LAYOUTS:
        for job, call in _jobs(layout).items():
            own = recorder.count(call).own
            launch = next((each for each in own if each.kernel.startswith(job)), own[0])
            defines = [f"-D{each}" for each in launch.defines]
            code, _ = nvcc.machine_code(launch.text, ARCHITECTURE, [*compiler.OPTIONS, *defines])
            usage = machine_code.usage(code)[launch.kernel]
            instructions = machine_code.disassembled(code)[launch.kernel]
            threads = usage.blocks(launch.num_threads) * launch.num_threads
            passes = PASSES if job.startswith("normalize") else {"": None}
            for name, stores in passes.items():
                inputs, options = INPUTS.get(job, 1), OPTIONS.get(job, ("",))
                loops = machine_code.inner_loops(instructions, 4, inputs, stores)
                if len(loops) < len(options):
                    raise ValueError(
                        f"{launch.kernel} has {len(loops)} loops over global memory, not one for "
                        f"each of {options}"
                    )
                for option, loop in zip(options, loops, strict=False):
                    found[", ".join(filter(None, (job, option, name, layout)))] = {
                        "kernel": launch.kernel,
                        "nvrtc": nvcc.version,
                        "instructions an element": round(loop.per_element, 1),
                        "bytes a load": loop.width,
                        "registers": usage.registers,
                        "spilled bytes": usage.stack_bytes,
                        "KB in flight": round(loop.in_flight * threads / 1024, 1),
                    }
    return found


def _jobs(layout: str) -> dict[str, Callable[[], object]]:
    """Return calls on arrays that are large enough to be worked on as the largest are."""
    import cupy
    import numpy as np

    import normcore as nc
    from benchmarks.gpu import common

    shape = (64, 64, 56 * 56)
    if layout == "channels last":
        x = cupy.moveaxis(cupy.empty((shape[0], shape[2], shape[1]), np.float32), -1, 1)
    else:
        x = cupy.empty(shape, np.float32)
    batch = x[:4, ...]  # which the cache holds
    backend, vector = common.backend(), cupy.ones(shape[1])
    _, moments = nc.functional.batch_norm(batch)
    of_host = np.ones(shape[1])
    affine = nc.Affine(center=of_host, scale=of_host, gamma=of_host, beta=of_host)
    return {
        "moments": lambda: backend.moments(x),
        "extrema": lambda: backend.extrema(x),
        "rescale": lambda: backend.rescale(x, affine),
        "backward_reduce": lambda: backend.backward_reduce(x, x, vector),
        "backward_elemt": lambda: backend.backward_elemt(x, x, vector, vector, vector, vector),
        "normalize": lambda: nc.functional.batch_norm(batch),
        "normalize_backward": lambda: nc.functional.batch_norm_backward(batch, batch, moments),
    }


def grown(counted: Counts, before: Counts) -> list[str]:
    """Return what is more than it was, or less where more is better."""
    worse = []
    for title, rows in before.items():
        for name, was in rows.items():
            now = counted[title].get(name)
            if now is None:
                if counted[title]:
                    worse.append(f"{name} is not counted any more")
                continue
            if now.get("nvrtc") != was.get("nvrtc"):
                continue  # of another compiler
            worse += [
                f"{name}: {now[key]} {key}, not {was[key]}"
                for key, tolerance in _MAY_NOT_GROW.items()
                if key in was and now[key] > was[key] * (1 + tolerance)
            ]
            worse += [
                f"{name}: {now[key]} {key}, not {was[key]}"
                for key in ("KB in flight",)
                if key in was and now[key] < was[key]
            ]
    return worse


def table(counted: Counts) -> str:
    """Return the tables of the page, with what is asked."""
    lines = ["| call | launches | of its own kernels | asked |", "|---|---|---|---|"]
    for name, each in counted["launches"].items():
        own = sum(each["own"].values())
        lines.append(f"| {name} | {each['launches']} | {own} | {ASKED_LAUNCHES.get(name, '')} |")
    if counted["machine code"]:
        lines += [
            "",
            f"| inner loop, float32, {ARCHITECTURE} | instructions an element | asked "
            f"| registers | spilled bytes | KB in flight, {ASKED_IN_FLIGHT} asked |",
            "|---|---|---|---|---|---|",
        ]
    for name, each in counted["machine code"].items():
        lines.append(
            f"| {name} | {each['instructions an element']} | {ASKED[name.partition(',')[0]]} | "
            f"{each['registers']} | {each['spilled bytes']} | {each['KB in flight']} |"
        )
    lines += [
        "",
        f"| Python of a call | functions called | microseconds, {ASKED_MICROSECONDS} asked |",
        "|---|---|---|",
    ]
    for name, each in counted["Python"].items():
        lines.append(f"| {name} | {each['calls']} | {each['microseconds']} |")
    return "\n".join(lines)


def write(counted: Counts, path: Path) -> None:
    """Write the counts, a line for each."""
    parts = [
        f' "{title}": {{\n'
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in rows.items())
        + "\n }"
        for title, rows in counted.items()
    ]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", nargs="?", type=Path, const=PAGE, metavar="PATH")
    options = parser.parse_args()
    result = count()
    print(table(result))
    if not result["machine code"]:
        print("machine code was not counted: NVRTC or NVIDIA's disassembler is missing")
    if options.write:
        write(result, options.write)
    if options.write == PAGE:
        page.put("counted", table(result))
