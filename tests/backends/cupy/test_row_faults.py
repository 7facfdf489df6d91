"""Faults in the kernels of rows and of selection, each in a copy of the source: tests must fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import row_examples
from cuda_host.build import needs_compiler
from cuda_host.emulated import EmulatedBackend
from cuda_host.launch import ORDERS, KernelError
from cuda_host.seeded import with_fault
from normcore_cupy import row_programs as row_kernels

from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics.exact_quantiles import exact
from normcore.testing.checks import check_moments

pytestmark = needs_compiler


def rows(shape: tuple[int, int], dtype: str = "float64") -> Callable[[EmulatedBackend], None]:
    """Return a check of both passes, in as many orders of threads as there are."""

    def check(backend: EmulatedBackend) -> None:
        x, dy = row_examples.draw(shape, dtype), row_examples.draw(shape, dtype, 1)
        for _ in ORDERS:
            row_examples.check(row_examples.run(backend, x, dy), x, dy, True)

    return check


def unlike_units(backend: EmulatedBackend) -> None:
    """Check sums that cancel to what plain float64 has lost."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((3, 1028)) * np.exp(rng.uniform(-20, 20, 1028))).astype("float32")
    x[:, 514:] = -x[:, :514]
    x[:, 0], x[:, 514] = 1e-6, 5e-7
    _, moments = backend.normalize_rows(backend.adopt(x), 1.0, 0.0, row_examples.EPS)
    check_moments(moments.to_host(), x[None])


def many_rows(backend: EmulatedBackend) -> None:
    """Check column sums over more rows than float64 sums up at once."""
    with mock.patch.object(row_kernels, "_RANGES", 2):
        rows((131, 1030))(backend)


def tiny(backend: EmulatedBackend) -> None:
    """Check rows whose squares leave float64."""
    x = np.random.default_rng(3).standard_normal((3, 40)) * 1e-170
    _, moments = backend.normalize_rows(backend.adopt(x), 1.0, 0.0, row_examples.EPS)
    check_moments(moments.to_host(), x[None])


def quantiles(backend: EmulatedBackend) -> None:
    """Check quartiles, in as many orders of threads as there are."""
    x = np.random.default_rng(5).standard_normal((3001, 9, 1))
    x[::7, 4] = -np.nan
    q = [0.0, 0.25, 0.5, 0.51]
    expected = exact(ReferenceBackend(), x, q, skipna=True)
    for _ in ORDERS:
        got = backend.quantiles(backend.adopt(x), q, skipna=True)
        np.testing.assert_array_equal(got.values, expected.values)
        np.testing.assert_array_equal(got.count, expected.count)


class Fault(NamedTuple):
    """An exact piece of the kernels, what takes its place, and the check that must notice."""

    old: str
    new: str
    check: Callable[[EmulatedBackend], None]


BLOCK, WARP, PARTS = rows((3, 1030)), rows((9, 40)), rows((2, 20480))

FAULTS = {
    "no barrier before warps are merged": Fault(
        "= mine;\n    __syncthreads();\n    return merged_lanes",
        "= mine;\n    return merged_lanes",
        BLOCK,
    ),
    "one turn for all merges": Fault(
        "warps[turn][threadIdx.x / 32]", "warps[0][threadIdx.x / 32]", BLOCK
    ),
    "one step too few": Fault(
        "distance = lanes / 2; distance > 0", "distance = lanes / 2; distance > 1", WARP
    ),
    "sums taken for exact": Fault(
        "at.count > 0 && !(count * (square", "false && !(count * (square", unlike_units
    ),
    "squares taken for in range": Fault(
        "at.count > 0 && !is_in_range(state, reciprocal)", "false", tiny
    ),
    "rows beyond the last": Fault(
        "row < x.n ? static_cast<int>(x.s) : 0}", "static_cast<int>(x.s)}", WARP
    ),
    "a lost part": Fault(
        "end = row < rows ? num_parts : 0", "end = row < rows ? num_parts - 1 : 0", PARTS
    ),
    "no distance between parts": Fault("delta * delta * dd", "delta * dd{0.0, 0.0} * dd", PARTS),
    "sums of columns overwritten": Fault("if (!first) {", "if (false) {", many_rows),
    "a lost range": Fault(
        "range < ranges; range += blockDim.y) {\n            long long place",
        "range < ranges - 1; range += blockDim.y) {\n            long long place",
        WARP,
    ),
    "rows of one block not merged": Fault(
        "distance >= width; distance /= 2) mine +=",
        "distance > width; distance /= 2) mine +=",
        WARP,
    ),
    "no barrier before lanes are read": Fault(
        "lanes[thread] = mine;\n    __syncthreads();\n", "lanes[thread] = mine;\n", WARP
    ),
    "no barrier before lanes are written again": Fault(
        "    __syncthreads(); // before lanes are written again\n", "", WARP
    ),
    "histograms read too early": Fault(
        "static_cast<unsigned long long>(infinite));\n    __syncthreads();\n",
        "static_cast<unsigned long long>(infinite));\n",
        quantiles,
    ),
    "histograms of channels not cleared": Fault(
        "* BINS + bin] = 0;", "* BINS + bin] += 0;", quantiles
    ),
    "a digit too many": Fault(
        "below <= left && left < upto", "below <= left && left <= upto", quantiles
    ),
    "NaN by its sign": Fault(
        "> Ordered<T>::INFINITE) return ALL_BITS", "> ALL_BITS) return ALL_BITS", quantiles
    ),
    "one neighbour for both": Fault("rank + 1.0 < last ? rank + 1.0 : last", "rank", quantiles),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str) -> None:
    fault = FAULTS[name]
    with pytest.raises((AssertionError, KernelError)):
        fault.check(with_fault(fault.old, fault.new))


@pytest.mark.parametrize("check", dict.fromkeys(each.check for each in FAULTS.values()))
def test_sound_kernels_pass(check: Callable[[EmulatedBackend], None]) -> None:
    check(EmulatedBackend())
