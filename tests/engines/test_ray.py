"""The example of an engine that anyone may add: scalers of Ray's datasets."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from paths import ROOT
from scalers import assert_same

import normcore as nc

ray = pytest.importorskip("ray")
pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module", autouse=True)
def engine():
    spec = importlib.util.spec_from_file_location(
        "ray_engine", ROOT / "examples" / "engines" / "ray_engine.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["ray_engine"] = module
    spec.loader.exec_module(module)
    nc.register(module)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        runtime_env={
            "env_vars": {"PYTHONPATH": ":".join([str(ROOT / "examples" / "engines"), *sys.path])}
        },
    )
    yield module
    ray.shutdown()


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(20_000, 3)) * [1, 5, 1e6], columns=list("abc"))
    frame.loc[::7, "b"] = np.nan
    return frame


@pytest.mark.parametrize(
    ("make", "ulp"),
    [
        (nc.StandardScaler, 4),
        (nc.MinMaxScaler, 0),
        (nc.RobustScaler, 0),
        (nc.MaxAbsScaler, 0),
    ],
)
def test_the_fit_is_that_of_memory(make, ulp, frame):
    dataset = ray.data.from_pandas([frame[:7000], frame[7000:]])
    scaler, whole = make().fit(dataset), make().fit(frame)
    assert scaler.feature_names_in_.tolist() == list("abc")
    assert_same(scaler, whole, ulp)
    scaled = scaler.transform(dataset)
    assert isinstance(scaled, ray.data.Dataset)
    expected = scaler.set_output(transform="pandas").transform(frame)
    found = scaled.to_pandas().to_numpy(dtype=float, na_value=np.nan)
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], sorted_rows(expected))


def sorted_rows(frame):
    """Return rows in an order that does not depend on who was first."""
    values = frame.to_numpy()
    return values[np.argsort(values[:, 0])]


def test_infinity_is_refused(frame):
    spoiled = frame.copy()
    spoiled.loc[5, "c"] = np.inf
    with pytest.raises(Exception, match=r"infinity: column 'c' \(index 2\), first at row 5"):
        nc.StandardScaler().fit(ray.data.from_pandas(spoiled))
