"""Backends with one fault each, made of the reference, and the law of the kit that notices."""

from __future__ import annotations

from typing import Any

import numpy as np
from faulty import Faulty

import normcore as nc
from normcore.array_backend.abstract import InfiniteInput
from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import Extrema, Moments

# -- moments -------------------------------------------------------------------------------


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


class SkipsNothing(Faulty):
    """Lets NaN through where it is to be skipped."""

    def moments(self, x: Any, *, weights: Any = None, skipna: bool = False) -> Any:
        return super().moments(x, weights=weights)


class IgnoresStrides(Faulty):
    """Reads memory from end to end, as if it were in C order."""

    def moments(self, x: Any, **options: Any) -> Any:
        return super().moments(x.ravel(order="K").reshape(x.shape), **options)


class SharesScratch(Faulty):
    """Keeps its input in self for as long as it works on it."""

    def moments(self, x: Any, **options: Any) -> Any:
        self.x = x
        super().extrema(x)
        return super().moments(self.x, **options)


class AveragesMeans(Faulty):
    """Merges to the mean of the means, so that the order of merging shows."""

    def merge(self, statistic: Any, other: Any) -> Any:
        if not (isinstance(statistic, Moments) and np.all(statistic.count * other.count)):
            return super().merge(statistic, other)
        mean, m2 = (statistic.mean + other.mean) / 2.0, super().merge(statistic, other).m2
        return Moments.of(statistic.count + other.count, mean, m2)


class TakesTheOtherAxis(Faulty):
    """Reads samples and inner positions as one axis, which they are where there is one of them."""

    def extrema(self, x: Any, *, skipna: bool = False) -> Any:
        return super().extrema(x.reshape(-1, x.shape[1], 1), skipna=skipna)


class RefusesNothing(Faulty):
    def extrema(self, x: Any, *, skipna: bool = False) -> Any:
        if 0 in x.shape:
            raise ValueError("zero-size array to reduction operation minimum")
        return super().extrema(x, skipna=skipna)


# -- brackets ------------------------------------------------------------------------------


class ForgetsInfinity(Faulty):
    def brackets(self, x: Any, lower: Any, upper: Any, **options: Any) -> Any:
        brackets = super().brackets(x, lower, upper, **options)
        brackets.infinite = brackets.infinite * 0
        return brackets


class SwapsTheEnds(Faulty):
    def brackets(self, x: Any, lower: Any, upper: Any, **options: Any) -> Any:
        brackets = super().brackets(x, lower, upper, **options)
        ends = brackets.equal_lower, brackets.equal_upper
        brackets.equal_upper, brackets.equal_lower = ends
        return brackets


class SortsItsInput(Faulty):
    def brackets(self, x: Any, lower: Any, upper: Any, **options: Any) -> Any:
        brackets = super().brackets(x, lower, upper, **options)
        x.sort(axis=0)
        return brackets


# -- rescale -------------------------------------------------------------------------------


class IgnoresTheMask(Faulty):
    def rescale(self, x: Any, affine: Any, *, mask: Any = None, **options: Any) -> Any:
        return super().rescale(x, affine, **options)


class AcceptsInfinity(Faulty):
    def rescale(self, x: Any, affine: Any, *, refuse_infinite: bool = False, **options: Any) -> Any:
        return super().rescale(x, affine, **options)


class TakesOverflowForInfinity(Faulty):
    """Looks for infinity in the result."""

    def rescale(self, x: Any, affine: Any, *, refuse_infinite: bool = False, **options: Any) -> Any:
        y = super().rescale(x, affine, **options)
        if refuse_infinite and np.isinf(y).any():
            raise InfiniteInput("the input holds an infinite value")
        return y


class MapsIntegersInFloat32(Faulty):
    def rescale(self, x: Any, affine: Any, *, out: Any = None, **options: Any) -> Any:
        y = super().rescale(x, affine, out=out, **options)
        return y if out is not None or x.dtype.kind == "f" else y.astype(np.float32)


# -- backward ------------------------------------------------------------------------------


class ReducesWithoutTheMean(Faulty):
    def backward_reduce(self, dy: Any, x: Any, mean: Any, **options: Any) -> Any:
        return super().backward_reduce(dy, x, np.zeros_like(mean), **options)


# -- kinds of arrays -----------------------------------------------------------------------


class ReturnsNumpy(Faulty):
    """Forgets whose array it was."""

    def release(self, array: Any, like: Any) -> Any:
        return super().release(array, np.empty(0))


class AdoptsText(Faulty):
    def adopt(self, array: Any) -> Any:
        return np.asarray(array)


#: The law that must notice, and its arguments.
FAULTS: dict[type[ReferenceBackend], tuple[Any, ...]] = {
    LosesTheTail: ("test_moments_are_exact_to_the_promise",),
    LosesABlock: ("test_moments_of_many_positions", (40001, 3, 1), 0.0, False),
    AccumulatesInFloat32: ("test_moments_are_exact_to_the_promise",),
    SquaresRawData: ("test_moments_are_exact_to_the_promise",),
    IgnoresWeights: ("test_moments_are_exact_to_the_promise",),
    CountsNaN: ("test_extrema_equal_reference",),
    LosesAPart: ("test_parts_of_a_channel_merge", (203, 4, 61)),
    MergesNothing: ("test_merged_chunks_are_the_whole",),
    ClosesTheBracket: ("test_brackets_equal_reference",),
    FoldsTheMap: ("test_rescale_has_the_bits_of_the_reference",),
    RoundsTooEarly: ("test_rescale_has_the_bits_of_the_reference",),
    IgnoresOut: ("test_rescale_has_the_bits_of_the_reference",),
    LeavesTheLastRow: ("test_rescale_has_the_bits_of_the_reference",),
    WritesToItsInput: ("test_rescale_has_the_bits_of_the_reference",),
    IgnoresTheGate: ("test_backward_reduce_equals_reference",),
    LeavesMaskedGradients: ("test_backward_elemt_has_the_bits_of_the_reference",),
    DependsOnThreads: ("test_any_number_of_threads_gives_the_same_bits", (40001, 3, 1)),
    IsNotNeutralWhenEmpty: ("test_nothing_observed_is_neutral",),
    SkipsNothing: ("test_moments_are_exact_to_the_promise",),
    IgnoresStrides: ("test_moments_are_exact_to_the_promise",),
    SharesScratch: ("test_threads_may_share_inputs",),
    AveragesMeans: ("test_merged_chunks_are_the_whole",),
    TakesTheOtherAxis: ("test_extrema_equal_reference",),
    RefusesNothing: ("test_empty_views_are_no_error", (3, 2, 0)),
    ForgetsInfinity: ("test_brackets_count_infinite_values",),
    SwapsTheEnds: ("test_brackets_equal_reference",),
    SortsItsInput: ("test_kernels_write_to_no_input",),
    IgnoresTheMask: ("test_rescale_has_the_bits_of_the_reference",),
    AcceptsInfinity: ("test_infinite_input_is_refused_where_asked", (5, 2, 3), -np.inf),
    TakesOverflowForInfinity: ("test_infinite_input_is_refused_where_asked", (5, 2, 3), -np.inf),
    MapsIntegersInFloat32: ("test_results_are_of_the_kind_of_the_input", "int64"),
    ReducesWithoutTheMean: ("test_backward_reduce_equals_reference",),
    ReturnsNumpy: ("test_release_returns_the_kind_of_the_caller", "array_api_strict"),
    AdoptsText: ("test_adopt_refuses_what_is_not_real", "U3"),
}
