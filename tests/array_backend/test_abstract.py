"""The abstract backend: what must be there, and its optional forms in terms of the required."""

from __future__ import annotations

import numpy as np
import pytest
from central_differences import gradients_by_differences

import normcore as nc
from normcore.affine import Affine

REQUIRED = {
    "adopt", "release", "moments", "extrema", "brackets", "rescale", "backward_reduce",
    "backward_elemt",
}  # fmt: skip
OPTIONAL = {
    "quantiles", "merge", "normalize", "normalize_backward", "normalize_rows",
    "normalize_rows_backward", "in_order_with", "moments_of", "update_running",
    "rescale_where", "observe_entries", "observe_segments", "whole_calls",
    "moments_apart", "native", "memory_kernels", "c_functions",
}  # fmt: skip
EPS = 1e-5


@pytest.fixture(params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest) -> nc.Backend:
    return nc.get_backend(request.param)


def test_required_and_optional_forms() -> None:
    assert nc.Backend.__abstractmethods__ == REQUIRED
    public = {name for name, value in vars(nc.Backend).items() if not name.startswith("_")}
    assert public - {"name", "xp", "probe"} == REQUIRED | OPTIONAL
    with pytest.raises(TypeError, match="abstract"):
        nc.Backend()


def test_normalize_is_moments_and_rescale(backend) -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(20, 4, 6))
    gamma, beta = np.array([1.0, 2.0, -1.0, 0.5]), np.arange(4.0)
    mask = np.random.default_rng(1).random((20, 6)) < 0.8
    y, moments = backend.normalize(x, gamma, beta, EPS, activation="relu", mask=mask)
    scale = np.sqrt(moments.var() + EPS)
    affine = Affine(center=moments.mean, scale=scale, gamma=gamma, beta=beta)
    np.testing.assert_array_equal(y, backend.rescale(x, affine, activation="relu", mask=mask))
    kept = np.broadcast_to(mask[:, None], x.shape)
    np.testing.assert_allclose(moments.mean, x.mean(axis=(0, 2), where=kept), rtol=1e-14)
    assert not y[~kept].any()


@pytest.mark.parametrize("activation", [None, "relu"])
def test_normalize_backward_against_central_differences(backend, activation) -> None:
    rng = np.random.default_rng(2)
    x, dy = rng.normal(size=(5, 3, 2)), rng.normal(size=(5, 3, 2))
    gamma, beta = rng.normal(size=3), rng.normal(size=3)

    def loss(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> float:
        y, _ = backend.normalize(x, gamma, beta, EPS, activation=activation)
        return float((y * dy).sum())

    _, moments = backend.normalize(x, gamma, beta, EPS)
    gradients = backend.normalize_backward(dy, x, moments, gamma, beta, EPS, activation=activation)
    by_differences = gradients_by_differences(loss, x, gamma, beta, step=1e-6)
    for gradient, expected in zip(gradients, by_differences, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_normalize_rows(backend, centered: bool, dtype: type) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(2.0, 3.0, size=(300, 7)).astype(dtype)
    gamma, beta = rng.normal(size=7), rng.normal(size=7)
    y, moments = backend.normalize_rows(x, gamma, beta, EPS, centered=centered)
    assert y.dtype == dtype
    assert moments.num_channels == 300
    wide = x.astype(np.float64)
    center = wide.mean(axis=1, keepdims=True) if centered else 0.0
    square = wide.var(axis=1, keepdims=True) if centered else (wide**2).mean(axis=1, keepdims=True)
    expected = (wide - center) / np.sqrt(square + EPS) * gamma + beta
    np.testing.assert_allclose(y, expected.astype(dtype), rtol=8 * np.finfo(dtype).eps, atol=1e-14)
    out = np.full_like(x, np.nan)
    assert backend.normalize_rows(x, gamma, beta, EPS, centered=centered, out=out)[0] is out
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("centered", [True, False])
def test_normalize_rows_backward_against_central_differences(backend, centered: bool) -> None:
    rng = np.random.default_rng(4)
    x, dy = rng.normal(1.0, 1.0, size=(4, 5)), rng.normal(size=(4, 5))
    gamma, beta = rng.normal(size=5), rng.normal(size=5)

    def loss(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> float:
        return float((backend.normalize_rows(x, gamma, beta, EPS, centered=centered)[0] * dy).sum())

    _, moments = backend.normalize_rows(x, gamma, beta, EPS, centered=centered)
    gradients = backend.normalize_rows_backward(dy, x, moments, gamma, EPS, centered=centered)
    by_differences = gradients_by_differences(loss, x, gamma, beta, step=1e-6)
    for gradient, expected in zip(gradients, by_differences, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def test_merge_is_the_statistics_own(backend) -> None:
    x = np.random.default_rng(5).normal(size=(10, 2, 3))
    a, b = backend.moments(x[:4]), backend.moments(x[4:])
    assert backend.merge(a, b) == a.merge(b)
