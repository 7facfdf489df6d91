"""Compiled forms of pointwise maps, found in the registry by backend; the others as ever."""

import numpy as np
import pytest
from discovery import fresh_discovery, make_plugin
from libraries import library, to_strict

import normcore as nc
from normcore.scaling import pointwise_scaler

X = np.random.default_rng(0).normal(size=(20_000, 3)) * 4
seen = []


def half(x, power, plus):
    """Stand for a compiled map: one that can be told from the array form."""
    seen.append((type(x).__module__, x.dtype, x.shape, power, plus))
    return 0.5 * x


def double(x, power, plus):
    return 2.0 * x


class Third(nc.PointwiseScaler):
    kernel = "shrink"

    def forward(self, xp, x):
        return x / 3

    def inverse(self, xp, x):
        return x * 3

    def kernel_arguments(self):
        return 7.0, True


@pytest.fixture
def register(monkeypatch):
    fresh_discovery(monkeypatch)
    seen.clear()

    def offer(*lines):
        nc.register(make_plugin(*(f"registry.kernel({line})" for line in lines)))

    return offer


def test_without_a_kernel_there_is_the_array_form(register):
    np.testing.assert_array_equal(Third().fit(X).transform(X), X / 3)


def test_a_kernel_takes_the_place_of_the_array_form(register):
    register(
        f"'shrink', '{__name__}:half', backend='cpu'",
        f"'shrink_inverse', '{__name__}:double', backend='cpu'",
    )
    for dtype in ("f4", "f8"):
        x = X.astype(dtype)
        y = Third().fit(x).transform(x)
        np.testing.assert_array_equal(y, (0.5 * x.astype("f8")).astype(dtype), strict=True)
        np.testing.assert_array_equal(Third().fit(x).inverse_transform(y), x)
    for module, dtype, shape, *arguments in seen:
        assert (module, dtype, shape[1], arguments) == ("numpy", np.float64, 3, [7.0, True])


def test_the_forms_of_the_two_directions_are_independent(register):
    register(f"'shrink', '{__name__}:half', backend='cpu'")
    scaler = Third().fit(X)
    np.testing.assert_array_equal(scaler.transform(X), X / 2)
    np.testing.assert_array_equal(scaler.inverse_transform(X), X * 3)


@pytest.mark.parametrize("name", ["strict", "torch", "cupy"])
def test_other_backends_have_forms_of_their_own(register, name, monkeypatch):
    register(f"'shrink', '{__name__}:half', backend='cpu'")
    with library(name, monkeypatch) as known:
        x = known.native(X[:50])
        result = Third(backend=known.backend).fit(x).transform(x)
        np.testing.assert_array_equal(known.host(result), X[:50] / 3)
    assert not seen


def test_a_kernel_of_another_backend(register, monkeypatch):
    register(f"'shrink', '{__name__}:half', backend='cupy'")
    np.testing.assert_array_equal(Third().fit(X).transform(X), X / 3)
    with library("cupy", monkeypatch) as known:
        x = known.native(X[:50])
        result = Third(backend=known.backend).fit(x).transform(x)
        assert isinstance(result, known.kind)
        np.testing.assert_array_equal(known.host(result), X[:50] / 2)
    assert len(seen) == 1


def test_arrays_of_numpy_are_the_cpus_on_any_backend(register):
    register(f"'shrink', '{__name__}:half', backend='cpu'")
    np.testing.assert_array_equal(Third(backend="reference").fit(X).transform(X), X / 2)


def test_a_kernel_that_does_not_import_is_left_out(register):
    register("'shrink', 'no_such_module:half', backend='cpu'")
    scaler = Third().fit(X)
    with pytest.warns(nc.PluginWarning, match="no_such_module"):
        result = scaler.transform(X)
    np.testing.assert_array_equal(result, X / 3)


@pytest.mark.parametrize("name", ["cupy"])
def test_arrays_of_a_device_are_mapped_in_blocks(name, monkeypatch):
    monkeypatch.setattr(pointwise_scaler, "_DEVICE_BLOCK", 300)
    shapes = []

    class Noting(Third):
        def forward(self, xp, x):
            shapes.append(x.shape)
            return super().forward(xp, x)

    with library(name, monkeypatch) as known:
        x = known.native(X[:250])
        scaler = Noting(backend=known.backend).fit(x)
        np.testing.assert_array_equal(known.host(scaler.transform(x)), X[:250] / 3)
        assert shapes == [(100, 3), (100, 3), (50, 3)]
        out = known.native(np.zeros((250, 3)))
        assert scaler.transform(x, out=out) is out
        np.testing.assert_array_equal(known.host(out), X[:250] / 3)
        shapes.clear()
        scaler.transform(x, out=x)  # all of it, or nothing
        assert shapes == [(250, 3)]
        np.testing.assert_array_equal(known.host(x), X[:250] / 3)


def test_strict_arrays_are_mapped_whole():
    x = to_strict(X)
    np.testing.assert_array_equal(np.asarray(Third().fit(x).transform(x)), X / 3)


@pytest.mark.parametrize("name", ["power", "quantile"])
def test_first_party_kernels_are_those_of_their_scalers(name):
    from normcore import registration

    for each in (name, f"{name}_inverse"):
        assert callable(registration.kernel(each, "cpu"))
    assert nc.scalers()[name].kernel == name
