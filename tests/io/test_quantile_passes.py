"""RobustScaler of files that memory does not hold: exact, in several passes."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest

import normcore as nc
from normcore.io import fit_source, fit_transform_source
from normcore.io.quantile_passes import learns_quantiles
from normcore.statistics import reread_quantiles

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 30_000
LIMIT = 100_000


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, 3)) * [1, 1e-6, 1e6] + [0, 1, -1e7]
    X[:, 1] = np.where(rng.random(ROWS) < 0.8, 0.0, X[:, 1])
    X[::7, 2] = np.nan
    return X


@pytest.fixture(params=["csv", "parquet", "npy"])
def path(request, tmp_path, X):
    path = tmp_path / f"table.{request.param}"
    if request.param == "csv":
        rows = "\n".join(",".join("" if np.isnan(v) else repr(float(v)) for v in r) for r in X)
        path.write_text("a,b,c\n" + rows + "\n")
    elif request.param == "npy":
        np.save(path, X)
    else:
        pq.write_table(pa.table(dict(zip("abc", X.T, strict=True))), path)
    return path


def num_passes(seen: list[nc.io.Progress]) -> int:
    return 1 + sum(after.rows < before.rows for before, after in pairwise(seen))


@pytest.mark.parametrize("keep_sketch", [False, True])
def test_the_fit_is_that_of_memory(path, X, keep_sketch) -> None:
    expected = nc.RobustScaler(quantile_range=(10, 90)).fit(X)
    scaler = nc.RobustScaler(quantile_range=(10, 90), keep_sketch=keep_sketch)
    seen = []
    fit_source(path, scaler, memory_limit=LIMIT, batch_rows=1000, progress=seen.append)
    assert num_passes(seen) >= 2
    np.testing.assert_array_equal(scaler.center_, expected.center_)
    np.testing.assert_array_equal(scaler.scale_, expected.scale_)
    assert scaler.n_samples_seen_ == ROWS
    assert scaler.quantile_error_ == 0.0
    if path.suffix != ".npy":
        assert scaler.feature_names_in_.tolist() == ["a", "b", "c"]
    assert hasattr(scaler, "partial_fit") == keep_sketch
    if keep_sketch:
        assert scaler._statistic.sketch.error == 0.01
        scaler.merge(
            nc.RobustScaler(quantile_range=(10, 90), keep_sketch=True).fit(scaler_like(scaler, X))
        )
        assert 0 < scaler.quantile_error_ <= 0.01


def test_a_sample_is_looked_at_first(path, X, monkeypatch) -> None:
    monkeypatch.setattr(reread_quantiles, "_SAMPLE_ROWS", 400)
    scaler = nc.RobustScaler()
    fit_source(path, scaler, memory_limit=LIMIT, batch_rows=1000)
    np.testing.assert_array_equal(scaler.center_, nc.RobustScaler().fit(X).center_)


def scaler_like(scaler: nc.RobustScaler, X: np.ndarray):
    """Return data with the names that the scaler knows."""
    names = getattr(scaler, "feature_names_in_", None)
    return X if names is None else pa.table(dict(zip(names, X.T, strict=True)))


def test_fit_and_transform(path, X, tmp_path) -> None:
    scaler = nc.RobustScaler()
    out = tmp_path / "out.npy"
    fit_transform_source(path, out, scaler, memory_limit=LIMIT, batch_rows=1000)
    np.testing.assert_array_equal(np.load(out), nc.RobustScaler().fit_transform(X))


def test_a_file_that_changes_between_the_passes(path) -> None:
    scaler = nc.RobustScaler()

    def touch(progress) -> None:
        if progress.rows == ROWS:
            os.utime(path, (1, 1))

    with pytest.raises(ValueError, match="was changed while it was read"):
        fit_source(path, scaler, memory_limit=LIMIT, batch_rows=1000, progress=touch)
    assert not hasattr(scaler, "center_")


def test_infinity_is_found_in_the_first_pass(tmp_path, X) -> None:
    spoiled = X.copy()
    spoiled[12_345, 1] = -np.inf
    path = tmp_path / "spoiled.npy"
    np.save(path, spoiled)
    with pytest.raises(ValueError, match=r"'x1' holds -infinity, first in row 12346"):
        fit_source(path, nc.RobustScaler(), memory_limit=LIMIT)


def test_who_learns_nothing_but_quantiles() -> None:
    class Logarithmic(nc.RobustScaler):
        def observe(self, backend, x, *, weights=None):
            return super().observe(backend, np.log(x), weights=weights)

    class Renamed(nc.RobustScaler):
        pass

    assert learns_quantiles(nc.RobustScaler())
    assert learns_quantiles(Renamed())
    assert not learns_quantiles(Logarithmic())
    assert not learns_quantiles(nc.RobustScaler(quantiles="sketch"))
    assert not learns_quantiles(nc.StandardScaler())
