from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from faulty import Faulty, check
from libraries import to_strict, to_torch
from normcore_cpu.backend import CpuBackend
from normcore_cpu.instruction_sets import available

import normcore as nc
from normcore.statistics import Extrema, Moments
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


# -- the kit must be able to fail ----------------------------------------------------------


class LosesTheTail(Faulty):
    """Forgets the positions after the last whole vector of 16."""

    def moments(self, x: Any, **options: Any) -> Any:
        stop = x.shape[0] if x.shape[0] < 16 else x.shape[0] // 16 * 16
        if options.get("weights") is not None:
            options["weights"] = options["weights"][:stop]
        return super().moments(x[:stop], **options)


class LosesABlock(Faulty):
    """Reads no more than one block."""

    def moments(self, x: Any, *, weights: Any = None, skipna: bool = False) -> Any:
        plane = None if weights is None else weights[:4096, :65536]
        return super().moments(x[:4096, :, :65536], weights=plane, skipna=skipna)


class AccumulatesInFloat32(Faulty):
    def moments(self, x: Any, *, weights: Any = None, skipna: bool = False) -> Any:
        w = np.ones((x.shape[0], x.shape[2])) if weights is None else weights
        w = np.where(np.isnan(x), 0.0, np.asarray(w)[:, None, :])
        x = np.where(np.isnan(x), 0.0, x)
        count = w.sum(axis=(0, 2))
        with np.errstate(all="ignore"):
            mean = (x * w).astype(np.float32).sum(axis=(0, 2), dtype=np.float32) / count
            m2 = (w * (x - mean[:, None]) ** 2).sum(axis=(0, 2))
        return Moments.of(count, np.where(count > 0, mean, 0), np.where(count > 0, m2, 0))


class SquaresRawData(Faulty):
    """E[x^2] - E[x]^2 in float64."""

    def moments(self, x: Any, *, weights: Any = None, skipna: bool = False) -> Any:
        w = np.ones((x.shape[0], x.shape[2])) if weights is None else weights
        w = np.where(np.isnan(x), 0.0, np.asarray(w, dtype=np.float64)[:, None, :])
        x = np.where(np.isnan(x), 0.0, x).astype(np.float64)
        with np.errstate(all="ignore"):
            count, first = w.sum(axis=(0, 2)), (x * w).sum(axis=(0, 2))
            mean = first / count
            m2 = (w * x * x).sum(axis=(0, 2)) - first**2 / count
        return Moments.of(count, np.where(count > 0, mean, 0), np.where(count > 0, m2, 0))


class IgnoresWeights(Faulty):
    def moments(self, x: Any, *, weights: Any = None, skipna: bool = False) -> Any:
        return super().moments(x, skipna=skipna)


class CountsNaN(Faulty):
    def extrema(self, x: Any, *, skipna: bool = False) -> Any:
        extrema = super().extrema(x, skipna=skipna)
        return Extrema(extrema.count * 0 + x.shape[0] * x.shape[2], extrema.min, extrema.max)


class LosesAPart(Faulty):
    """Takes the extrema of what the first thread has seen."""

    def extrema(self, x: Any, *, skipna: bool = False) -> Any:
        whole, part = (super(LosesAPart, self).extrema(each) for each in (x, x[:150, :, :9001]))
        return Extrema(whole.count, part.min, part.max)


class MergesNothing(Faulty):
    def merge(self, statistic: Any, other: Any) -> Any:
        return statistic if np.any(statistic.count) else other


class ClosesTheBracket(Faulty):
    """Counts the upper end as inside."""

    def brackets(self, x: Any, lower: Any, upper: Any, **options: Any) -> Any:
        brackets = super().brackets(x, lower, upper, **options)
        brackets.inside_count = brackets.inside_count + brackets.equal_upper
        brackets.equal_upper = brackets.equal_upper * 0
        return brackets


class FoldsTheMap(Faulty):
    """Evaluates a * x + b."""

    def rescale(self, x: Any, affine: Any, **options: Any) -> Any:
        center, scale, gamma, beta = affine.vectors(x.shape[1])
        folded = nc.Affine(gamma=gamma / scale, beta=beta - center * (gamma / scale))
        return super().rescale(x, folded, **options)


class RoundsTooEarly(Faulty):
    def rescale(self, x: Any, affine: Any, **options: Any) -> Any:
        numbers = [each.astype(np.float32) for each in affine.vectors(x.shape[1])]
        names = ("center", "scale", "gamma", "beta")
        return super().rescale(x, nc.Affine(**dict(zip(names, numbers, strict=True))), **options)


class IgnoresOut(Faulty):
    def rescale(self, x: Any, affine: Any, *, out: Any = None, **options: Any) -> Any:
        return super().rescale(x, affine, **options)


class LeavesTheLastRow(Faulty):
    def rescale(self, x: Any, affine: Any, *, out: Any = None, **options: Any) -> Any:
        if out is None or x.shape[0] < 2 or options.get("mask") is not None:
            return super().rescale(x, affine, out=out, **options)
        super().rescale(x[:-1], affine, out=out[:-1], **options)
        return out


class WritesToItsInput(Faulty):
    def rescale(self, x: Any, affine: Any, **options: Any) -> Any:
        result = super().rescale(x, affine, **options)
        if x.size and x.flags.writeable:
            x[0] = 0
        return result


class IgnoresTheGate(Faulty):
    def backward_reduce(
        self, dy: Any, x: Any, mean: Any, *, relu_mask: Any = None, **options: Any
    ) -> Any:
        return super().backward_reduce(dy, x, mean, **options)


class LeavesMaskedGradients(Faulty):
    def backward_elemt(self, *arrays: Any, mask: Any = None, **options: Any) -> Any:
        return super().backward_elemt(*arrays, **options)


class DependsOnThreads(Faulty):
    def moments(self, x: Any, **options: Any) -> Any:
        cut = x.shape[0] // nc.get_num_threads()
        if options.get("weights") is not None:
            return super().moments(x, **options)
        return super().moments(x[:cut], **options).merge(super().moments(x[cut:], **options))


class IsNotNeutralWhenEmpty(Faulty):
    def moments(self, x: Any, **options: Any) -> Any:
        if 0 in x.shape:
            return Moments.of(np.ones(x.shape[1]), 0.0, 0.0)
        return super().moments(x, **options)


FAULTS = {
    LosesTheTail: "test_moments_are_exact_to_the_promise",
    LosesABlock: "test_moments_of_many_positions",
    AccumulatesInFloat32: "test_moments_are_exact_to_the_promise",
    SquaresRawData: "test_moments_are_exact_to_the_promise",
    IgnoresWeights: "test_moments_are_exact_to_the_promise",
    CountsNaN: "test_extrema_equal_reference",
    LosesAPart: "test_parts_of_a_channel_merge",
    MergesNothing: "test_merged_chunks_are_the_whole",
    ClosesTheBracket: "test_brackets_equal_reference",
    FoldsTheMap: "test_rescale_has_the_bits_of_the_reference",
    RoundsTooEarly: "test_rescale_has_the_bits_of_the_reference",
    IgnoresOut: "test_rescale_has_the_bits_of_the_reference",
    LeavesTheLastRow: "test_rescale_has_the_bits_of_the_reference",
    WritesToItsInput: "test_rescale_has_the_bits_of_the_reference",
    IgnoresTheGate: "test_backward_reduce_equals_reference",
    LeavesMaskedGradients: "test_backward_elemt_has_the_bits_of_the_reference",
    DependsOnThreads: "test_any_number_of_threads_gives_the_same_bits",
    IsNotNeutralWhenEmpty: "test_nothing_observed_is_neutral",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_backend_does_not_conform(fault: type[Faulty]) -> None:
    kit = type("Kit", (BackendConformance,), {"backend": fault()})()
    arguments = {
        "test_moments_of_many_positions": ((40001, 3, 1), 0.0, False),
        "test_parts_of_a_channel_merge": ((203, 4, 61),),
        "test_any_number_of_threads_gives_the_same_bits": ((40001, 3, 1),),
    }
    with pytest.raises(AssertionError):
        check(kit, FAULTS[fault], *arguments.get(FAULTS[fault], ()))


class FillsNaN(nc.StandardScaler):
    """Keeps NaN out of its result, forgets ``out``, and learns nothing from others."""

    def transform(self, X: Any, copy: Any = None, *, out: Any = None) -> Any:
        return np.nan_to_num(super().transform(X, copy))

    def merge(self, other: Any) -> Any:
        return self if hasattr(self, "mean_") else super().merge(other)


@pytest.mark.parametrize(
    "law",
    [
        "test_shape_dtype_and_nan_are_kept",
        "test_out_is_written_and_returned",
        "test_chunks_learn_what_the_whole_teaches",
    ],
)
def test_a_faulty_scaler_does_not_conform(law: str) -> None:
    kit = type("Kit", (ScalerConformance,), {"scaler": FillsNaN, "registered": False})()
    with pytest.raises(AssertionError):
        check(kit, law)
