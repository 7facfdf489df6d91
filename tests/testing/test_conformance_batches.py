"""The conformance kit's laws of batch norm must be able to fail.

Without its faults this backend is the reference, which test_conformance.py has conform.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from faulty import Faulty, check
from libraries import to_strict

import normcore as nc
from normcore.array_backend.abstract import batch_scale
from normcore.statistics import Moments
from normcore.testing import BackendConformance


def normalized(engine: Any, x: Any, moments: Any, gamma: Any, beta: Any, scale: Any, options: Any):
    """Return what normalizes, with a scale and moments of one's own."""
    affine = nc.Affine(center=moments.mean, scale=scale, gamma=gamma, beta=beta)
    return engine.rescale(x, affine, **options), moments


class TakesTheUnbiasedVariance(Faulty):
    def normalize(self, x, gamma, beta, eps, **options):
        moments = self.moments(x, weights=options.get("mask"))
        with np.errstate(all="ignore"):
            scale = np.sqrt(moments.var(ddof=1) + eps)
        return normalized(self, x, moments, gamma, beta, scale, options)


class CountsMaskedPositions(Faulty):
    def normalize(self, x, gamma, beta, eps, **options):
        moments = self.moments(x)
        return normalized(self, x, moments, gamma, beta, batch_scale(moments, eps), options)


class ReturnsAnotherOut(Faulty):
    def normalize(self, *arguments, out=None, **options):
        y, moments = super().normalize(*arguments, **options)
        return y, moments


class HasNoUseForEps(Faulty):
    def normalize(self, x, gamma, beta, eps, **options):
        with np.errstate(all="ignore"):
            return super().normalize(x, gamma, beta, 0.0, **options)


class ForgetsWhatFlowsThroughTheStatistics(Faulty):
    def normalize_backward(self, *arguments, training=True, **options):
        return super().normalize_backward(*arguments, training=False, **options)


class LetsEverythingThroughTheRelu(Faulty):
    def normalize_backward(self, *arguments, activation=None, **options):
        return super().normalize_backward(*arguments, **options)


class ScalesTheGradientOfGamma(Faulty):
    """Returns sum(dy * (x - mean)) without the division by the scale."""

    def normalize_backward(self, dy, x, moments, gamma, beta, eps, **options):
        dx, dgamma, dbeta = super().normalize_backward(dy, x, moments, gamma, beta, eps, **options)
        return dx, dgamma * batch_scale(moments, eps), dbeta


class ReadsAfterItHasWritten(Faulty):
    """Centres into out, and takes the variance of what is then there."""

    def normalize(self, x, gamma, beta, eps, *, out=None, **options):
        y, moments = super().normalize(x, gamma, beta, eps, out=out, **options)
        if out is not None and np.shares_memory(x, out):
            y, _ = super().normalize(out, gamma, beta, eps, out=out, **options)
        return y, moments


class CountsWhatIsNotThere(Faulty):
    def normalize(self, x, *arguments, **options):
        y, moments = super().normalize(x, *arguments, **options)
        return y, moments if x.size else Moments.of(np.ones(x.shape[1]), 0.0, 0.0)


class TakesNumbersForNothing(Faulty):
    """Leaves out the shift where gamma is no vector."""

    def normalize(self, x, gamma, beta, eps, **options):
        beta = beta if isinstance(gamma, np.ndarray) else 0.0
        return super().normalize(x, gamma, beta, eps, **options)


class KeepsMomentsInFloat32(Faulty):
    def normalize(self, *arguments, **options):
        y, moments = super().normalize(*arguments, **options)
        return y, Moments(moments.parts.astype(np.float32).astype(np.float64))


class MergesTheFirstAlone(Faulty):
    def merge(self, statistic, other):
        return statistic if np.any(statistic.count) else other


class MapsInFloat32(Faulty):
    def rescale(self, x, affine, **options):
        numbers = [each.astype(np.float32) for each in affine.vectors(x.shape[1])]
        names = ("center", "scale", "gamma", "beta")
        return super().rescale(x, nc.Affine(**dict(zip(names, numbers, strict=True))), **options)


class RemembersTheFirstBatch(Faulty):
    """Normalizes every batch with the statistics of the first."""

    first: Any = None

    def normalize(self, x, gamma, beta, eps, **options):
        self.first = moments = self.first or self.moments(x, weights=options.get("mask"))
        return normalized(self, x, moments, gamma, beta, batch_scale(moments, eps), options)


class LosesTheShift(Faulty):
    def rescale(self, x, affine, **options):
        center, scale, gamma, _ = affine.vectors(x.shape[1])
        return super().rescale(x, nc.Affine(center=center, scale=scale, gamma=gamma), **options)


MOMENTS = "test_batches_are_normalized_by_their_own_moments"
GRADIENTS = "test_gradients_of_batches"
#: Each fault, the law that catches it, and its arguments.
FAULTS = [
    (TakesTheUnbiasedVariance, MOMENTS),
    (CountsMaskedPositions, MOMENTS),
    (ReturnsAnotherOut, MOMENTS),
    (HasNoUseForEps, MOMENTS),
    (LosesTheShift, MOMENTS),
    (ForgetsWhatFlowsThroughTheStatistics, GRADIENTS),
    (LetsEverythingThroughTheRelu, GRADIENTS),
    (ScalesTheGradientOfGamma, GRADIENTS),
    (ReadsAfterItHasWritten, "test_batches_in_place"),
    (CountsWhatIsNotThere, "test_empty_batches_change_nothing", (0, 4)),
    (HasNoUseForEps, "test_batches_of_one_value", "skip"),
    (LosesTheShift, "test_batches_of_one_value", "running"),
    (TakesNumbersForNothing, "test_layers_have_the_parameters_that_affine_says", "beta"),
    (ScalesTheGradientOfGamma, "test_layers_have_the_parameters_that_affine_says", True),
    (KeepsMomentsInFloat32, "test_running_statistics_follow_batches", {"momentum": 0.25}),
    (CountsMaskedPositions, "test_running_statistics_follow_batches", {"ddof": 0}),
    (LosesTheShift, "test_running_statistics_follow_batches", {"momentum": None}),
    (MergesTheFirstAlone, "test_population_statistics_are_those_of_all_batches", "pooled"),
    (
        KeepsMomentsInFloat32,
        "test_population_statistics_are_those_of_all_batches",
        "algorithm2",
    ),
    (MapsInFloat32, "test_folded_batch_norms_are_the_layers"),
    (RemembersTheFirstBatch, "test_parts_are_batches_of_their_own", "virtual"),
    (RemembersTheFirstBatch, "test_parts_are_batches_of_their_own", "labels"),
    (CountsMaskedPositions, "test_parts_are_batches_of_their_own", "slices"),
    (LosesTheShift, "test_renormalized_batches", 1.2, 0.3),
    (ForgetsWhatFlowsThroughTheStatistics, "test_renormalized_batches", 5.0, 9.0),
    (MergesTheFirstAlone, "test_ranks_are_one_batch"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0].__name__}-{fault[1]}")
def test_a_faulty_backend_does_not_conform(fault):
    backend, law, *arguments = fault
    kit = type("Kit", (BackendConformance,), {"backend": backend()})()
    with pytest.raises(AssertionError):
        check(kit, law, *arguments)


def test_every_law_catches_a_fault():
    from normcore.testing.batches import BatchLaws

    assert {law for _, law, *_ in FAULTS} == {each for each in dir(BatchLaws) if "test_" in each}


def test_a_backend_that_leaves_vectors_on_the_host_does_not_conform():
    class LeavesThemThere(Faulty):
        def release(self, array, like):
            return array

    class Kit(BackendConformance):
        backend = LeavesThemThere()

        def to_native(self, array):
            return to_strict(array)

    with pytest.raises(AssertionError):
        check(Kit(), "test_release_puts_vectors_of_the_host_beside_an_array")
