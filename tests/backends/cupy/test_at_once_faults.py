"""Faults of blocks that wait for each other, each put into a copy of the source: it must show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import unwrap
from cuda_host.launch import ORDERS, KernelError
from normcore_cupy import cupy_device
from normcore_cupy.device import source

import normcore as nc

pytestmark = build.needs_compiler
F = nc.functional


class Fault(NamedTuple):
    """An exact piece of the kernels, what takes its place, and what must notice."""

    old: str
    new: str
    law: str = "forward, some ranges"


RANGES = "static_cast<int>(share.ranges)"
FIRST = "    if (threadIdx.x == 0 && threadIdx.y == 0) {\n"
LOOK = "while (*const_cast<volatile int*>(tickets) == 0) pause();"
FAULTS = {
    "nobody waits": Fault(LOOK, ""),
    "waiting without a pause for others": Fault(
        LOOK, "if (*const_cast<volatile int*>(tickets) == 0) pause();"
    ),
    "a ticket too few": Fault(RANGES, RANGES + " - 1"),
    "a ticket too many": Fault(RANGES, RANGES + " + 1"),
    "tickets that nobody takes": Fault("        atomicSub(tickets, 1);\n", ""),
    "tickets of another tile": Fault("(1 + at.groups) + share.tile;", "(1 + at.groups);"),
    "tickets where groups are counted": Fault(
        "share.tiles * (1 + at.groups) + share.tile;", "share.tiles * at.groups + share.tile;"
    ),
    "tickets from whoever comes first": Fault(
        "if (observe(share) && per_tile > 1)", "observe(share); if (per_tile > 1)"
    ),
    "no barrier before tickets are handed out": Fault(
        "    __syncthreads();\n" + FIRST + "        __threadfence();",
        FIRST + "        __threadfence();",
        "backward, some ranges",
    ),
    "no barrier behind a ticket": Fault(
        "before the block reads\n    }\n    __syncthreads();", "before the block reads\n    }"
    ),
    "no barrier behind the first pass": Fault(
        "    __syncthreads(); // before a block reads what it has finished\n", "",
        "backward, one range",
    ),
    "a share left out": Fault("next >= 0; next -= gridDim.x", "next > 0; next -= gridDim.x"),
    "a pass of shares that were not read": Fault(
        "for (next -= gridDim.x; next >= 0;", "for (next -= gridDim.x + 1; next >= 0;"
    ),
}  # fmt: skip
SHAPES = {"one range": (9, 40), "some ranges": (1100, 70)}  # of a tile


def passed(backend, cupy, law):
    """Whether all is as on the host, in every order of threads."""
    step, _, shape = law.partition(", ")
    x, dy = np.random.default_rng(0).normal(size=(2, *SHAPES[shape])).astype(np.float32)
    y, moments = F.batch_norm(x)
    gradients = F.batch_norm_backward(dy, x, moments)
    there = backend.moments_of(cupy.asarray(moments.parts))
    for _ in ORDERS:
        native = cupy.asarray(x)
        if step == "forward":
            expected, (one, _) = y, F.batch_norm(native, backend=backend)
        else:
            expected = gradients[0]
            one, *_ = F.batch_norm_backward(cupy.asarray(dy), native, there, backend=backend)
        if not np.allclose(unwrap(one), expected, rtol=1e-5, atol=1e-5):
            return False
    kernel = "normalize" + "_backward" * (step == "backward")
    assert set(cupy.launched) == {f"{kernel}_across"}
    return True


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(backend, cupy, monkeypatch, name):
    fault = FAULTS[name]
    assert source().count(fault.old) == 1, "bring the fault up to date"
    changed = lambda kernel: source(kernel).replace(fault.old, fault.new)  # noqa: E731
    monkeypatch.setattr(cupy_device, "source", changed)
    try:
        caught = not passed(backend, cupy, fault.law)
    except KernelError:
        caught = True
    assert caught


@pytest.mark.parametrize("law", sorted({each.law for each in FAULTS.values()}))
def test_sound_kernels_pass(backend, cupy, law):
    assert passed(backend, cupy, law)
