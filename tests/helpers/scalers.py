"""The scalers of the core, each of which a test may be run for."""

import pytest

import normcore as nc

SCALERS = [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler]
each_scaler = pytest.mark.parametrize("cls", SCALERS)
