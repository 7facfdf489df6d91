"""What each call launches and asks of CuPy; `python -m cuda_host.host_cost` has microseconds."""

from __future__ import annotations

import pytest
from cuda_host import build, host_cost

pytestmark = build.needs_compiler

#: Launches, and arrays that CuPy makes or computes with, each of which takes microseconds.
LIMITS = {
    "moments": (1, 4),
    "extrema": (1, 6),
    "batch_norm": (1, 8),
    "batch_norm, out=": (1, 7),
    "batch_norm_backward": (1, 13),
    "batch_norm_inference": (1, 10),
    "layer_norm": (1, 7),
    "BatchNorm, training": (1, 8),
    "BatchNorm, backward": (1, 8),
    "BatchNorm, evaluation": (1, 3),
    "transform": (1, 3),
    "transform, out=": (1, 2),
}


@pytest.fixture(scope="module")
def found():
    return host_cost.measured(repeats=1)


@pytest.mark.parametrize("call", LIMITS)
def test_a_call_launches_and_asks_no_more_than_it_did(found, call):
    launches, operations = LIMITS[call]
    assert found[call].launches <= launches
    assert found[call].operations <= operations, found[call].asked


def test_every_call_has_its_limits(found):
    assert found.keys() == LIMITS.keys()
