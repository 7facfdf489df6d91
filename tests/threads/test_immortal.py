"""What all threads use has no reference count to wait for, where there is no GIL."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest
from processes import printed_json

import normcore as nc
from normcore.threads.immortal import make_immortal

GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

USED = """
    import sys, numpy as np, normcore as nc
    scaler = nc.MinMaxScaler().fit(np.arange(6.0).reshape(3, 2))
    scaler.transform(np.ones((1, 2)))
    used = [nc, nc.get_backend("cpu"), nc.MinMaxScaler]
    for name in ("affine", "array_backend.selection", "scaling.transforming", "scaling.minmax"):
        module = sys.modules[f"normcore.{name}"]
        used += [module, *(each for each in vars(module).values() if callable(each))]
    for each in type(scaler).__mro__[:-1]:
        used += [value for value in vars(each).values() if callable(value)]
    counts = [sys.getrefcount(each) for each in used]
    print(json.dumps(min(counts)))
"""


@pytest.mark.skipif(GIL, reason="counts cost nothing with the GIL; tox -e py314t has none")
def test_what_a_map_of_one_row_uses_is_not_counted():
    least = printed_json(textwrap.dedent(USED))
    assert least > 2**30


@pytest.mark.skipif(not GIL, reason="for Pythons with the GIL")
def test_counts_are_left_alone_with_the_gil():
    value = object()
    before = sys.getrefcount(value)
    make_immortal(value, value)
    assert sys.getrefcount(value) == before
    assert sys.getrefcount(nc.StandardScaler().fit(np.ones((2, 2)))) < 100
