"""The scalers of the core, each of which a test may be run for, and what they have learned."""

import numpy as np
import pytest

import normcore as nc

SCALERS = [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler]
each_scaler = pytest.mark.parametrize("cls", SCALERS)


def assert_same(found, expected, ulp=4):
    """Hold what a fitted scaler has learned against another's, within ulps where it is numbers."""
    for name, value in vars(expected).items():
        if name.endswith("_") and not name.startswith("_"):
            mine = getattr(found, name)
            if np.asarray(value).dtype == object:
                assert np.array_equal(mine, value)
            else:
                np.testing.assert_array_max_ulp(mine * 1.0, value * 1.0, ulp)
