"""JAX's arrays, which cannot be written, on each backend that takes arrays of any library."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax")
import jax
from jax import numpy as jnp

import normcore as nc

BACKENDS = ("cpu", "reference")


@pytest.fixture(autouse=True)
def _double_precision():
    """The reference computes in the library's float64."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm", "group_norm", "instance_norm"])
@pytest.mark.parametrize("shape", [(6, 4, 3), (3, 300, 100), (0, 4, 3)])  # of one block, of several
def test_norms_of_samples(norm, shape, backend):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(2.0, 1.0, (2, *shape)).astype(np.float32)
    options = {"num_groups": 2} if norm == "group_norm" else {}
    forward, back = (getattr(nc.functional, each) for each in (norm, f"{norm}_backward"))
    y, moments = forward(x, **options, backend="cpu")
    dx = back(dy, x, moments, **options, backend="cpu")[0]
    found, found_moments = forward(jnp.asarray(x), **options, backend=backend)
    slope = back(jnp.asarray(dy), jnp.asarray(x), found_moments, **options, backend=backend)[0]
    for one, other in ((found, y), (slope, dx)):
        assert isinstance(one, jax.Array)
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16(backend):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    narrow = jnp.asarray(x).astype(jnp.bfloat16)
    scaler = nc.StandardScaler(backend=backend).fit(narrow)
    np.testing.assert_array_equal(scaler.mean_, x.mean(axis=0))
    y = scaler.transform(narrow)
    assert y.dtype == jnp.bfloat16
    right = jnp.asarray(nc.StandardScaler().fit_transform(x.astype(float))).astype(jnp.bfloat16)
    np.testing.assert_array_equal(y, right)
    np.testing.assert_array_equal(scaler.inverse_transform(y) > x - 1, True)
