"""Faults of the kind that kernels have, each put into a copy of the source: the laws must fail."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from cuda_host.build import needs_compiler
from cuda_host.conformance import EmulatedConformance
from cuda_host.emulated import EmulatedBackend
from cuda_host.launch import KernelError
from cuda_host.seeded import with_fault
from faulty import check

pytestmark = needs_compiler


class Fault(NamedTuple):
    """An exact piece of the kernels, what takes its place, and the law that must notice."""

    old: str
    new: str
    law: str
    arguments: tuple[Any, ...] = ()


MOMENTS = "test_moments_of_many_positions", ((1, 2, 30011), 0.0, False)
GROUPS = ("test_moments_of_groups_of_ranges",)
RANGES = "test_parts_of_a_channel_merge", ((203, 4, 61),)
BRACKETS = ("test_brackets_equal_reference",)
RESCALE = ("test_rescale_has_the_bits_of_the_reference",)

# A fault that goes far out of bounds has a law of kernels that only read: the process lives on.
FAULTS = {
    "no barrier before warps are merged": Fault(
        "        __syncthreads();\n        if (warp < half && lane",
        "        if (warp < half && lane",
        *MOMENTS,
    ),
    "no barrier before the next round": Fault(
        "        __syncthreads(); // before the next round writes\n", "", *MOMENTS
    ),
    "no barrier before the pivot is read": Fault(
        "        __syncthreads();\n        if (thread == 0) pending = 0;",
        "        if (thread == 0) pending = 0;", *MOMENTS,
    ),
    "no barrier before a block's sums are read": Fault(
        "        __syncthreads();\n        // A warp for each",
        "        // A warp for each",
        *GROUPS,
    ),
    "no barrier before the mean is read": Fault(
        "totals[threadIdx.x] = all;\n        __syncthreads();\n", "totals[threadIdx.x] = all;\n",
        *GROUPS,
    ),
    "a barrier for some warps": Fault(
        "        __syncthreads();\n        if (warp < half && lane",
        "        if (warp < half) __syncthreads();\n        if (warp < half && lane",
        *MOMENTS,
    ),
    "a block that is taken for the last": Fault(
        "static_cast<int>(expected) - 1;", "static_cast<int>(expected) - 2;", *MOMENTS
    ),
    "groups that are not merged": Fault("first = ranges;", "first = 0;", *GROUPS),
    "counters that are left": Fault("        if (last) *counter = 0;\n", "", *MOMENTS),
    "half the shuffle distance": Fault("words[i], distance)", "words[i], distance / 2)", *MOMENTS),
    "twice the shuffle distance": Fault("words[i], distance)", "words[i], 2 * distance)", *MOMENTS),
    "one shuffle too few": Fault(
        "distance >= width; distance /= 2)\n#pragma", "distance > width; distance /= 2)\n#pragma",
        *MOMENTS,
    ),
    "one shuffle too many": Fault(
        "distance >= width; distance /= 2)\n#pragma",
        "2 * distance >= width && distance; distance /= 2)\n#pragma",
        "test_moments_of_many_positions", ((3001, 19, 1), 0.0, False),
    ),
    "a lost warp": Fault("others[warp][k]", "others[warp - (warp > 0)][k]", *MOMENTS),
    "a lost range of sums": Fault(
        "i < number; i += blockDim.y) {\n            Moments m",
        "i < number - 1; i += blockDim.y) {\n            Moments m",
        *MOMENTS,
    ),
    "a lost range of squares": Fault(
        "i < number; i += blockDim.y)\n            m2 =",
        "i < number - 1; i += blockDim.y)\n            m2 =",
        *MOMENTS,
    ),
    "a lost range of extrema": Fault(
        "i < number; i += blockDim.y)\n            all = merged(all, load_extrema",
        "i < number - (number > 1); i += blockDim.y)\n            all = merged(all, load_extrema",
        *RANGES,
    ),
    "a lost range of gradients": Fault(
        "i < number; i += blockDim.y)\n            all = merged(all, load_gradient",
        "i < number - (number > 1); i += blockDim.y)\n            all = merged(all, load_gradient",
        *RANGES,
    ),
    "a lost block of counts": Fault(
        "for (long long range = threadIdx.y; range < ranges; range += blockDim.y)\n"
        "            mine.value",
        "for (long long range = threadIdx.y; range < ranges - (ranges > 1); range += blockDim.y)\n"
        "            mine.value",
        *RANGES,
    ),
    "the tail left out": Fault(
        "(end - first - 1) / blockDim.y) + 1", "(end - first) / blockDim.y)", *RESCALE
    ),
    "ranges that overlap": Fault("end = first + per_range;", "end = first + per_range + 1;",
                                 *MOMENTS),
    "one channel too many": Fault("some = channel < x.c", "some = channel <= x.c", *RESCALE),
    "what was not loaded is used": Fault(
        "visit(loaded, places, at.left);", "visit(loaded, places, W::LOADS);", *MOMENTS
    ),
    "what was not loaded is counted": Fault(
        "if (at.left > 0) visit(loaded[i], at);", "visit(loaded[i], at);", *BRACKETS
    ),
    "a row that does not end": Fault("ends = s >= inner;", "ends = s > inner;", *RANGES),
    "a row that is not counted to its end": Fault(
        "if (s >= inner) {", "if (s > inner) {", *BRACKETS
    ),
    "kept values on top of each other": Fault("++next[i];", "", *BRACKETS),
}  # fmt: skip


def run(backend: EmulatedBackend, fault: Fault) -> None:
    members = {"backend": backend, "dtypes": ("float64",)}
    check(type("Kit", (EmulatedConformance,), members)(), fault.law, *fault.arguments)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str) -> None:
    fault = FAULTS[name]
    backend = with_fault(fault.old, fault.new)
    with pytest.raises((AssertionError, KernelError)) as caught:
        run(backend, fault)
    print(f"{name}: {str(caught.value).strip().splitlines()[0]}")


@pytest.mark.parametrize("fault", {each[2:]: each for each in FAULTS.values()}.values(),
                         ids=lambda fault: fault.law)  # fmt: skip
def test_sound_kernels_pass(fault: Fault) -> None:
    run(EmulatedBackend(), fault)


def test_a_fault_that_no_longer_applies_is_an_error() -> None:
    with pytest.raises(LookupError, match="0 times"):
        with_fault("no such text", "")
