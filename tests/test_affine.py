"""Four numbers per channel: apply, invert, compose; and which spreads are constants."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore.affine import nonconstant
from normcore.array_backend.selection import get_backend

numbers = st.floats(-100, 100)
positive = st.floats(0.01, 100)
affines = st.builds(nc.Affine, center=numbers, scale=positive, gamma=positive, beta=numbers)
X = np.linspace(-50, 50, 41).reshape(-1, 1, 1)


def apply(affine: nc.Affine, x: np.ndarray = X) -> np.ndarray:
    return get_backend("cpu").rescale(x, affine)


def test_the_defaults_are_the_identity() -> None:
    np.testing.assert_array_equal(apply(nc.Affine()), X)


@given(affines)
def test_inverse_restores(affine: nc.Affine) -> None:
    magnitude = np.abs(X) + abs(affine.center) + affine.scale * (abs(affine.beta) / affine.gamma)
    restored = apply(affine.inverse(), apply(affine))
    assert (np.abs(restored - X) <= 8 * np.finfo(float).eps * magnitude).all()


@given(affines, affines)
def test_compose_is_one_after_the_other(first: nc.Affine, second: nc.Affine) -> None:
    one_by_one = apply(second, apply(first))
    slope = second.gamma / second.scale
    magnitude = slope * (
        (np.abs(X) + abs(first.center)) * first.gamma / first.scale
        + abs(first.beta) + abs(second.center)
    ) + abs(second.beta)  # fmt: skip
    error = np.abs(apply(first.compose(second)) - one_by_one)
    assert (error <= 16 * np.finfo(float).eps * magnitude).all()


def test_inverting_gamma_zero_names_the_channel() -> None:
    with pytest.raises(ValueError, match="gamma is 0 in channel 1"):
        nc.Affine(gamma=np.array([1.0, 0.0])).inverse()
    with pytest.raises(ValueError, match="every channel"):
        nc.Affine(gamma=0).inverse()


def test_vectors() -> None:
    affine = nc.Affine(center=[1, 2], scale=2.0)
    center, scale, gamma, beta = affine.vectors(2)
    for vector, expected in ((center, [1, 2]), (scale, [2, 2]), (gamma, [1, 1]), (beta, [0, 0])):
        assert vector.dtype == np.float64
        np.testing.assert_array_equal(vector, expected)
    with pytest.raises(ValueError, match=r"center has shape \(2,\), but there are 3 channels"):
        affine.vectors(3)


def test_immutable_and_copied_whole() -> None:
    affine = nc.Affine(center=np.array([1.0, 2.0]), beta=3.0)
    with pytest.raises(AttributeError, match="immutable"):
        affine.beta = 4.0
    for other in (pickle.loads(pickle.dumps(affine)), copy.deepcopy(affine)):
        np.testing.assert_array_equal(other.center, affine.center)
        assert (other.scale, other.gamma, other.beta) == (1.0, 1.0, 3.0)


def test_select() -> None:
    affine = nc.Affine(center=np.array([1.0, 2.0, 3.0]), scale=2.0).select([2, 0])
    np.testing.assert_array_equal(affine.center, [3.0, 1.0])
    assert affine.scale == 2.0


def test_nonconstant() -> None:
    eps = np.finfo(float).eps
    spread = np.array([0.0, 7 * eps, 9 * eps, 1e-300, np.nan, 5.0, 1e-16, 0.0, np.inf])
    location = np.array([3.0, 1.0, 1.0, 0.0, 1.0, 0.0, np.inf, -np.inf, np.inf])
    expected = [1.0, 1.0, 9 * eps, 1e-300, np.nan, 5.0, 1e-16, 1.0, np.inf]
    np.testing.assert_array_equal(nonconstant(spread, location), expected)


def test_public_attributes_are_changed_by_assignment_alone():
    x = np.arange(12.0).reshape(4, 3)
    scaler = nc.StandardScaler().fit(x)
    expected = scaler.transform(x)
    with pytest.raises(ValueError, match="read-only"):
        scaler.mean_[:] = 100.0
    np.testing.assert_array_equal(scaler.transform(x), expected)
    scaler.mean_ = np.full(3, 100.0)
    np.testing.assert_array_equal(scaler.transform(x), (x - 100.0) / scaler.scale_)
