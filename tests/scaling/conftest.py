"""What tests of scalers share."""

import numpy as np
import pytest


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(3.0, [1.0, 10.0, 0.01], size=(50, 3))
