"""The first plugin, against scikit-learn's scaler of the same name."""

from __future__ import annotations

import numpy as np
import pytest
from releases import skip_before

import normcore as nc


def test_maxabs_is_scikit_learns():
    sklearn = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 4)) * [1, 1e-3, 1e5, 0]
    X[3, 1] = np.nan
    mine, theirs = nc.MaxAbsScaler().fit(X), sklearn.MaxAbsScaler().fit(X)
    np.testing.assert_array_equal(mine.max_abs_, theirs.max_abs_)
    np.testing.assert_array_equal(mine.scale_, theirs.scale_)
    assert mine.n_samples_seen_ == theirs.n_samples_seen_ == 50
    np.testing.assert_array_equal(mine.transform(X), theirs.transform(X))
    np.testing.assert_array_equal(nc.maxabs_scale(X), sklearn.maxabs_scale(X))
    np.testing.assert_array_equal(nc.maxabs_scale(X, axis=1), sklearn.maxabs_scale(X, axis=1))
    with pytest.raises(ValueError, match="axis must be 0 or 1, not 2"):
        nc.maxabs_scale(X, axis=2)


each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])


@skip_before("scikit-learn", "1.8", "has MaxAbsScaler(clip=)")
@each_dtype
def test_clip_is_scikit_learns(dtype):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    X = np.random.default_rng(1).normal(size=(60, 3)).astype(dtype)
    ours = nc.MaxAbsScaler(clip=True).fit(X[:20])
    theirs = preprocessing.MaxAbsScaler(clip=True).fit(X[:20])
    np.testing.assert_allclose(
        ours.transform(X * 3), theirs.transform(X * 3), rtol=float(np.finfo(dtype).eps)
    )


@each_dtype
def test_clip_bounds_the_results_alone(dtype):
    X = np.random.default_rng(1).normal(size=(60, 3)).astype(dtype)
    ours = nc.MaxAbsScaler(clip=True).fit(X[:20])
    Y = ours.transform(X * 3)
    assert Y.dtype == dtype
    assert np.abs(Y).max() == 1
    out = X * 3
    assert ours.transform(out, out=out) is out
    np.testing.assert_array_equal(out, Y)
    unclipped = nc.MaxAbsScaler().fit(X[:20])
    np.testing.assert_array_equal(ours.inverse_transform(X), unclipped.inverse_transform(X))
    ours.set_params(clip=False)  # takes effect at once
    np.testing.assert_array_equal(ours.transform(X), unclipped.transform(X))


def test_clip_is_saved_and_checked(tmp_path):
    scaler = nc.MaxAbsScaler(clip=True).fit([[1.0], [-2.0]])
    scaler.save(tmp_path / "scaler.json")
    np.testing.assert_array_equal(nc.load(tmp_path / "scaler.json").transform([[9.0]]), [[1.0]])
    with pytest.raises(ValueError, match="clip must be True or False, got 'False'"):
        nc.MaxAbsScaler(clip="False").fit([[1.0]])
