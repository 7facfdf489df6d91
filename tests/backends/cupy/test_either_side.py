"""What learned on one side goes on learning on the other: the host, the device, host in chunks."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import DeviceArray, unwrap
from normcore_cupy.backend import CupyBackend

import normcore as nc

pytestmark = build.needs_compiler

SIDES = ("host", "device", "chunks")
WAYS = [(a, b) for a in SIDES for b in SIDES if a != b]


@pytest.fixture
def sides(cupy):
    """Return, by side, what makes an array of it, and the backend to ask for."""
    backend = CupyBackend(chunk_bytes=4096)
    return {
        "host": (np.asarray, None),
        "device": (cupy.asarray, backend),
        "chunks": (np.asarray, backend),
    }


def host(array):
    return np.array(unwrap(array)) if isinstance(array, DeviceArray) else np.asarray(array)


@pytest.fixture
def parts():
    rng = np.random.default_rng(5)
    return [rng.standard_normal((size, 3)) * [1.0, 1e3, 1e-3] + 1e4 for size in (300, 517)]


def check(one, other, x):
    """Hold moments within the ulps, and what is then mapped to the bit."""
    for name in ("mean_", "var_", "scale_"):
        if name in vars(other):
            np.testing.assert_allclose(host(getattr(one, name)), getattr(other, name), rtol=4e-16)
    assert one.n_samples_seen_ == other.n_samples_seen_
    assert host(one.transform(x)).shape == x.shape


@pytest.mark.parametrize(("first", "then"), WAYS)
@pytest.mark.parametrize("scaler", [nc.StandardScaler, nc.MinMaxScaler])
def test_a_scaler_goes_on(sides, parts, scaler, first, then):
    learned = scaler()
    for side, part in zip((first, then), parts, strict=True):
        make, learned.backend = sides[side]
        learned.partial_fit(make(part))
    expected = scaler().partial_fit(parts[0]).partial_fit(parts[1])
    learned.backend = None
    check(learned, expected, parts[0])
    learned.__dict__["_affine"] = expected._affine  # what is left is the map alone
    for side in SIDES:
        make, learned.backend = sides[side]
        mapped = host(learned.transform(make(parts[0])))
        np.testing.assert_array_equal(mapped, expected.transform(parts[0]))


@pytest.mark.parametrize(("first", "then"), WAYS)
def test_scalers_of_both_sides_merge(sides, parts, first, then):
    fitted = []
    for side, part in zip((first, then), parts, strict=True):
        make, backend = sides[side]
        fitted.append(nc.StandardScaler(backend=backend).fit(make(part)).set_params(backend=None))
    merged = fitted[0].merge(fitted[1])
    check(merged, nc.StandardScaler().fit(np.concatenate(parts)), parts[0])


@pytest.mark.parametrize(("first", "then"), WAYS)
def test_a_batch_norm_goes_on(sides, parts, first, then):
    layer, expected = nc.BatchNorm(3), nc.BatchNorm(3)
    for side, part in zip((first, then, first), [*parts, parts[0]], strict=True):
        make, layer.backend = sides[side]
        np.testing.assert_array_equal(host(layer(make(part))), expected(part))
        for got, wanted in zip(layer.backward(make(part)), expected.backward(part), strict=True):
            np.testing.assert_allclose(host(got), wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(layer.running_mean, expected.running_mean, rtol=4e-16)
    np.testing.assert_allclose(layer.running_var, expected.running_var, rtol=1e-15)
    layer.eval()
    expected.replace_running_stats(layer.running_mean, layer.running_var, 3)
    expected.eval()
    for side in SIDES:
        make, layer.backend = sides[side]
        np.testing.assert_array_equal(host(layer(make(parts[0]))), expected(parts[0]))


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize(("first", "then"), WAYS)
def test_running_statistics_are_changed_wherever_they_were_learned(sides, parts, first, then, name):
    layer, expected = nc.BatchNorm(3), nc.BatchNorm(3)
    make, layer.backend = sides[first]
    there, there_backend = sides[then]
    for changed in (layer, expected):
        changed((make if changed is layer else np.asarray)(parts[0]))
        getattr(changed, name)[1] = 7.0
        assert getattr(changed, name)[1] == 7.0
        changed((make if changed is layer else np.asarray)(parts[0]))
        setattr(changed, name, np.full(3, 2.0))
    layer.backend = there_backend
    layer(there(parts[1]))
    expected(parts[1])
    np.testing.assert_allclose(layer.running_mean, expected.running_mean, rtol=4e-16)
    np.testing.assert_allclose(layer.running_var, expected.running_var, rtol=1e-15)
    getattr(layer, name)[2] = 3.0
    expected.replace_running_stats(layer.running_mean, layer.running_var, 3)
    mapped = host(layer.eval()(there(parts[0])))
    np.testing.assert_array_equal(mapped, expected.eval()(parts[0]))


@pytest.mark.parametrize("method", ["pooled", "algorithm2"])
@pytest.mark.parametrize(("first", "then"), WAYS)
def test_population_statistics_of_batches_of_both_sides(sides, parts, first, then, method):
    layer, expected = nc.BatchNorm(3), nc.BatchNorm(3)
    batches = parts[0], parts[1][:300]
    with nc.population_statistics([layer, expected], method=method):
        for side, batch in zip((first, then), batches, strict=True):
            make, layer.backend = sides[side]
            layer(make(batch))
            expected(batch)
    np.testing.assert_allclose(layer.running_mean, expected.running_mean, rtol=4e-16)
    np.testing.assert_allclose(layer.running_var, expected.running_var, rtol=1e-15)
    if method == "pooled":
        whole = nc.functional.moments(np.concatenate(batches), channel_axis=1)
        np.testing.assert_allclose(layer.running_mean, whole.mean, rtol=4e-16)
        np.testing.assert_allclose(layer.running_var, whole.var(ddof=1), rtol=1e-15)


def test_moments_of_both_sides_merge_exactly(sides, parts):
    functional = nc.functional
    found = {}
    for side, (make, backend) in sides.items():
        found[side] = [
            functional.moments(make(part), channel_axis=1, backend=backend) for part in parts
        ]
    expected = functional.moments(np.concatenate(parts), channel_axis=1)
    for first, then in WAYS:
        merged = found[first][0].merge(found[then][1]).to_host()
        np.testing.assert_allclose(merged.mean, expected.mean, rtol=2.3e-16)
        np.testing.assert_allclose(merged.var(), expected.var(), rtol=9e-16)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize(("first", "then"), WAYS)
def test_wide_integers_of_both_sides_merge(sides, first, then, dtype):
    """Which channels hold integers beyond 2**53 is known of what is merged, too."""
    rng = np.random.default_rng(3)
    near = [rng.integers(0, 900, size=(40, 3)) for _ in range(2)]
    wide = np.array([[0, 2**60, 0]])
    for shifts in ((wide, wide), (wide, 0 * wide), (0 * wide, wide)):
        batches = [(each + shift).astype(dtype) for each, shift in zip(near, shifts, strict=True)]
        found, expected = [], []
        for side, batch in zip((first, then), batches, strict=True):
            make, backend = sides[side]
            found.append(nc.functional.moments(make(batch), channel_axis=1, backend=backend))
            expected.append(nc.functional.moments(batch, channel_axis=1))
        merged, both = found[0].merge(found[1]), expected[0].merge(expected[1])
        np.testing.assert_array_equal(host(merged.wide), both.wide)
        np.testing.assert_array_equal(host(merged.select(slice(1, 2)).wide), [True])
        np.testing.assert_allclose(host(merged.mean), both.mean, rtol=2.3e-16)
        np.testing.assert_allclose(host(merged.var()), both.var(), rtol=9e-16)
