"""docs/scale.md: its code runs, and states are as small as it says."""

import re

import numpy as np
import pytest
from page_examples import check_examples
from paths import ROOT

import normcore as nc
from normcore.engines.table import STATE_BYTES
from normcore.engines.task import BracketTask, ObserveTask, SketchTask
from normcore.engines.weighted_task import (
    WeightedBracketTask,
    WeightedSampleTask,
    sample_rows,
)
from normcore.io.quantile_passes import sketch_error
from normcore.statistics.reread_quantiles import RereadQuantiles
from normcore.statistics.reread_weighted import RereadWeighted
from normcore.statistics.weighted_quantiles import InvertedCDF

PAGE = ROOT / "docs" / "scale.md"


def test_code_runs():
    pytest.importorskip("dask.array")
    check_examples("scale.md")


def wire_bytes(state):
    """Return the bytes of the arrays of a state, but for two counts of rows."""
    return sum(
        array.nbytes for name, each in state.items() if name != "rows" for array in each.values()
    )


def rows():
    """Return the table of the page: what each scaler's state holds, by its first words."""
    section = PAGE.read_text().split("\n## What crosses the wire\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| (.*?) \| .*? \| (.*?) \|$", section, re.M)
    return dict(found[1:])


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (nc.StandardScaler, 56),
        (nc.MinMaxScaler, 24),
        (nc.MaxAbsScaler, 24),
        (nc.Normalizer, 0),
    ],
)
@pytest.mark.parametrize("num_rows", [10, 10_000])
def test_states_of_a_size(make, size, num_rows):
    X = np.random.default_rng(0).normal(size=(num_rows, 50))
    state = ObserveTask(make(), None, 50).partial(X)
    assert wire_bytes(state) == 50 * size
    name = make.__name__
    assert [bytes_ for names, bytes_ in rows().items() if name in names.split(", ")] == [str(size)]


@pytest.mark.parametrize("error", [0.05, 0.01, 0.001])
def test_states_of_sketches(error):
    X = np.random.default_rng(0).normal(size=(300_000, 2))
    for scaler in (
        nc.RobustScaler(quantiles="sketch", quantile_error=error),
        nc.QuantileTransformer(n_quantiles=10, quantiles="sketch", quantile_error=error),
    ):
        task = ObserveTask(scaler, None, 2)
        state = task.merge([task.partial(X[i::16]) for i in range(16)])
        assert wire_bytes(state) <= 2 * (1.35 * 192 / error + 2000)
    assert "192 / e" in rows().values()


@pytest.mark.parametrize("num_rows", [10_000, 400_000])
def test_states_of_exact_quantiles(num_rows):
    X = np.random.default_rng(0).normal(size=(num_rows, 2))
    scaler = nc.RobustScaler()
    error = sketch_error(num_rows, 2, 1 << 30)
    assert error == 2 / num_rows**0.5
    first = SketchTask(scaler, None, 2, error)
    state = first.partial(X)
    assert wire_bytes(state) <= 2 * (1.35 * 96 * num_rows**0.5 + 2000)
    passes = RereadQuantiles(
        nc.get_backend("cpu"), scaler.ranks(), first.sketch([state]), STATE_BYTES // 8
    )
    task = BracketTask(scaler, None, 2, passes.plan())
    state = task.partial(X)
    kept = state["brackets"]["inside"].size
    assert 0 < kept <= 2 * 3 * 8 * num_rows**0.5
    places = state["brackets"]["lengths"].size
    assert wire_bytes(state) == 2 * 104 + 8 * kept + 24 * places + 8
    passes.learn(task.brackets([state]))
    assert passes.plan() is None


@pytest.mark.parametrize("num_rows", [10_000, 400_000])
def test_states_of_weighted_quantiles(num_rows):
    X = np.random.default_rng(0).normal(size=(num_rows, 2))
    weights = np.random.default_rng(1).random(num_rows)
    scaler = nc.RobustScaler()
    size = sample_rows(num_rows, 2, STATE_BYTES)
    assert size == int(5 * num_rows ** (2 / 3))
    first = WeightedSampleTask(scaler, None, 2, size)
    state = first.partial(X, weights=weights)
    assert wire_bytes(state) == 2 * 8 * size + 16 * size + 40
    columns = first.columns([state])
    passes = RereadWeighted(InvertedCDF(), scaler.ranks(), columns, STATE_BYTES // 8)
    task = WeightedBracketTask(scaler, None, 2, passes.plan())
    state = task.partial(X, weights=weights)
    kept = state["brackets"]["values"].size
    assert 0 < kept <= 2 * 3 * 4.5 * num_rows / size**0.5
    places = state["brackets"]["lengths"].size
    assert wire_bytes(state) == 2 * 208 + 24 * kept + 32 * places + 8
    passes.learn(task.brackets([state]))
    assert passes.plan() is None
