"""What tests of worker processes share: the workers, and a table that is hard to fit."""

import numpy as np
import pytest
from dask_workers import two_workers


@pytest.fixture(scope="module")
def client():
    dask = pytest.importorskip("dask")
    options = {"distributed.comm.timeouts.connect": "20s", "distributed.admin.log-length": 100}
    with dask.config.set(options), two_workers(silence_logs=60) as client:
        yield client


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60_000, 5)) * [1, 2, 1e-6, 4, 1e6] + [0, 1e7, 1, 0, -1e6]
    X[::7, 2] = np.nan
    X[:, 3] = np.where(rng.random(len(X)) < 0.8, 0.0, X[:, 3])
    return X
