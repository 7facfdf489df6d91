"""The conformance kit on the emulated device, for the kernels as they are and with faults."""

from __future__ import annotations

import numpy as np
import pytest

from cuda_host.emulated import EmulatedBackend
from cuda_host.launch import ORDERS
from normcore.testing import BackendConformance
from normcore.testing.checks import check_moments


class EmulatedConformance(BackendConformance):
    backend = EmulatedBackend()
    dtypes = ("float64", "float32", "float16")
    refuses_infinity = False

    @pytest.mark.parametrize("shape", [(131, 33, 1), (1, 2, 3001)])
    @pytest.mark.parametrize("scale", [1e200, 1e-170])
    def test_moments_that_take_more_than_one_pass(
        self, shape: tuple[int, int, int], scale: float
    ) -> None:
        x = (np.random.default_rng(7).standard_normal(shape) + 1.0) * scale
        for _ in ORDERS:
            check_moments(self.engine.moments(self.to_native(x)).to_host(), x)

    def test_moments_of_groups_of_ranges(self) -> None:
        x = np.random.default_rng(8).standard_normal((4300, 40, 1)) + 1e3
        for _ in ORDERS:
            check_moments(self.engine.moments(self.to_native(x)).to_host(), x)
