"""Compiled forms of pointwise maps, found in the registry by backend; the others as ever."""

import numpy as np
import pytest
from discovery import make_plugin, more_discovery
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
    more_discovery(monkeypatch)
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


def test_the_reference_is_the_array_form(register):
    register(f"'shrink', '{__name__}:half', backend='cpu'")
    np.testing.assert_array_equal(Third(backend="reference").fit(X).transform(X), X / 3)
    with nc.use_backend("reference"):
        np.testing.assert_array_equal(Third().fit(X).transform(X), X / 3)
    assert not seen


RESULTS = {
    "nothing": (lambda x: None, TypeError, "must return ndarray .*, not None"),
    "few rows": (lambda x: x[:1], ValueError, r"not ndarray of shape \(1, 3\)"),
    "integers": (lambda x: np.zeros(x.shape, int), TypeError, "and dtype int64"),
    "narrow": (lambda x: x.astype("f4"), TypeError, "and dtype float32"),
    "masked": (np.ma.masked_array, TypeError, "not MaskedArray of shape"),
    "written": (lambda x: np.copyto(x, 0.0), ValueError, "must not write to what it is given"),
}


@pytest.mark.parametrize("rows", [4, 20_000])  # in one piece and in blocks
@pytest.mark.parametrize("result", RESULTS)
def test_results_of_kernels_are_checked(register, result, rows, monkeypatch):
    function, error, message = RESULTS[result]
    monkeypatch.setitem(globals(), "given", lambda x, power, plus: function(x))
    register(f"'shrink', '{__name__}:given', backend='cpu'")
    values = X[:rows].copy()
    whose = r"\(plugin '.*', registered by the application\)"
    with pytest.raises(error, match=rf"kernel 'shrink' of Third .*{message}.*{whose}"):
        Third().fit(values).transform(values)
    np.testing.assert_array_equal(values, X[:rows])


def test_a_kernel_that_fails_is_named(register, monkeypatch):
    monkeypatch.setitem(globals(), "given", lambda x: x)  # takes no arguments
    register(f"'shrink', '{__name__}:given', backend='cpu'")
    with pytest.raises(TypeError, match="positional argument") as caught:
        Third().fit(X).transform(X)
    assert "kernel 'shrink' of Third raised it" in caught.value.__notes__[0]


@pytest.mark.parametrize("rows", [4, 20_000])
def test_a_kernel_that_returns_what_it_was_given(register, rows, monkeypatch):
    monkeypatch.setitem(globals(), "given", lambda x, power, plus: x)
    register(f"'shrink', '{__name__}:given', backend='cpu'")
    result = Third().fit(X).transform(X[:rows])
    assert result.flags.writeable
    assert not np.may_share_memory(result, X)


def test_arguments_of_kernels_are_a_tuple(register, monkeypatch):
    register(f"'shrink', '{__name__}:half', backend='cpu'")
    monkeypatch.setattr(Third, "kernel_arguments", lambda self: 7.0)
    with pytest.raises(TypeError, match=r"Third\.kernel_arguments must return a tuple .*module"):
        Third().fit(X).transform(X)


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


@pytest.mark.parametrize("name", ["power", "quantile"])
def test_first_party_scalers_have_a_form_for_the_reference(name):
    table = X[:5000]  # few enough not to be drawn from
    compiled, other = (nc.scalers()[name](backend=each).fit(table) for each in ("cpu", "reference"))
    y = compiled.transform(table)
    np.testing.assert_allclose(other.transform(table), y, rtol=1e-9, atol=1e-12)
    back = compiled.inverse_transform(y)
    np.testing.assert_allclose(other.inverse_transform(y), back, rtol=1e-9, atol=1e-12)
