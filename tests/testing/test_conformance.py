from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from libraries import to_strict, to_torch
from normcore_cpu.backend import CpuBackend
from normcore_cpu.instruction_sets import available

import normcore as nc
from normcore.testing import BackendConformance, ScalerConformance


class TestCpu(BackendConformance):
    backend = "cpu"
    dtypes = ("float64", "float32", "float16")


@pytest.mark.skipif("avx2" not in available(), reason="no AVX2 here")
class TestCpuWithAvx2(TestCpu):
    backend = CpuBackend("avx2" if "avx2" in available() else "baseline")


class TestCpuBaseline(TestCpu):
    backend = CpuBackend("baseline")


class TestReference(BackendConformance):
    backend = "reference"
    dtypes = ("float64", "float32", "float16")


class TestReferenceOnStrictArrays(BackendConformance):
    backend = "reference"

    def to_native(self, array: np.ndarray) -> Any:
        return to_strict(array)

    # The reference is one thread; its laws of threads hold on NumPy above.
    test_any_number_of_threads_gives_the_same_bits = None
    test_threads_may_share_inputs = None


class TestReferenceOnTorch(BackendConformance):
    backend = "reference"

    def to_native(self, array: np.ndarray) -> Any:
        return to_torch(array)

    # The reference is one thread; its laws of threads hold on NumPy above.
    test_any_number_of_threads_gives_the_same_bits = None
    test_threads_may_share_inputs = None


class TestStandard(ScalerConformance):
    scaler = nc.StandardScaler


class TestMinMax(ScalerConformance):
    scaler = nc.MinMaxScaler


class TestMinMaxElsewhere(ScalerConformance):
    @staticmethod
    def scaler() -> Any:
        return nc.MinMaxScaler(feature_range=(-3, 7.5))


class TestRobust(ScalerConformance):
    scaler = nc.RobustScaler


class TestMaxAbs(ScalerConformance):
    scaler = nc.MaxAbsScaler  # a plugin's


class TestStandardOnReference(ScalerConformance):
    @staticmethod
    def scaler() -> Any:
        return nc.StandardScaler(backend="reference")
