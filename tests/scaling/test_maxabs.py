"""The first plugin, against scikit-learn's scaler of the same name."""

from __future__ import annotations

import numpy as np
import pytest

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
