"""What a fit by Dask sends: states of statistics, which merge in a tree."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from processes import printed_json

import normcore as nc
from normcore.engines import task

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def test_only_statistics_are_on_the_wire(monkeypatch):
    X = np.random.default_rng(0).normal(size=(200_000, 3))
    sizes = []

    def measured(self, chunk, piece=task.SOME, weights=None):
        state = partial(self, chunk, piece, weights)
        sizes.append(sum(array.nbytes for each in state.values() for array in each.values()))
        return state

    partial = task.Task.partial
    monkeypatch.setattr(task.Task, "partial", measured)
    lazy = da.from_array(X, chunks=(50_000, 3))
    nc.StandardScaler().fit(lazy)
    assert max(sizes) < 200
    sizes.clear()
    scaler = nc.RobustScaler().fit(lazy)
    assert len(sizes) == 8  # two passes
    assert max(sizes) < X.nbytes / 20
    np.testing.assert_array_equal(scaler.center_, np.median(X, axis=0))


def test_states_merge_in_a_tree():
    from normcore.engines.dask import FAN_IN, DaskEngine

    engine = DaskEngine()
    X = da.zeros((100, 2), chunks=(1, 2))
    work = task.ObserveTask(nc.StandardScaler(), None, 2)
    merged = engine.merge(work, engine.partial(work, X))
    merges = [key for key in merged.graph if key[0].startswith("merge-")]
    assert len(merges) == 13 + 2 + 1
    assert FAN_IN == 8


def test_nothing_of_dask_is_loaded_before_it_is_given():
    assert (
        printed_json(
            "import normcore as nc\nnc.StandardScaler().fit([[1.0], [2.0]]).transform([[1.0]])\n"
            "print(json.dumps([name for name in sys.modules if name.split('.')[0] in "
            "('dask', 'distributed')]))"
        )
        == []
    )
    assert "dask" in sys.modules
