"""Layer, RMS, group and instance norm as functions of arrays."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from cuda_host.build import compiler
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc
from normcore import functional, layernorm
from normcore.testing.exact import exact_sqrt
from normcore.testing.strategies import LAYOUTS, arrange

EPS = 1e-3
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-6, np.float16: 2e-3}


@pytest.fixture(params=["cpu", "reference", "emulated"])
def engine(request):
    """A backend to name in calls: those for host arrays, and CuPy's on an emulated device."""
    if request.param != "emulated":
        return request.param
    if compiler() is None:
        pytest.skip("g++ is not installed")
    from cuda_host.emulated import EmulatedBackend

    return EmulatedBackend()


def example(shape, dtype=np.float64, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * 2.0 + 1.5).astype(dtype)


def normalizations(shape, axis=1, num_groups=2, num_axes=1, seed=7):
    """Yield each normalization of such an array, and its gradients, as functions of x and dy.

    Each comes with gamma and beta, the samples' axes of a plain form, and the shape that the
    parameters broadcast with.
    """
    rng = np.random.default_rng(seed)
    inner = shape[len(shape) - num_axes :]
    channels = (shape[axis],)
    for name, parameters in (
        ("layer_norm", inner), ("rms_norm", inner), ("group_norm", channels),
        ("instance_norm", channels),
    ):  # fmt: skip
        gamma, beta = rng.normal(size=(2, *parameters))
        options = {"num_axes": num_axes} if parameters is inner else {"axis": axis}
        yield name, gamma, beta, options, num_groups


def call(name, x, gamma, beta, options, num_groups, **more):
    function = getattr(functional, name)
    if name == "rms_norm":
        return function(x, gamma, eps=EPS, **options, **more)
    groups = (num_groups,) if name == "group_norm" else ()
    return function(x, *groups, gamma, beta, eps=EPS, **options, **more)


def differentiate(name, dy, x, moments, gamma, options, num_groups, **more):
    function = getattr(functional, f"{name}_backward")
    groups = (num_groups,) if name == "group_norm" else ()
    found = function(dy, x, moments, *groups, gamma, eps=EPS, **options, **more)
    return (*found, None) if name == "rms_norm" else found


def torch_results(name, x, gamma, beta, dy, options, num_groups):
    """Return y and the gradients of PyTorch in float64."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x, gamma, beta = (
        None
        if each is None
        else torch.tensor(np.array(each, np.float64, order="C"), requires_grad=True)
        for each in (x, gamma, beta)
    )
    if "axis" in options:
        moved = x.movedim(options["axis"], 1)
        if options["axis"] == 0:
            moved = x.movedim(0, 1)
        if name == "group_norm":
            y = torch.group_norm(moved, num_groups, gamma, beta, EPS)
        else:
            y = torch.group_norm(moved, moved.shape[1], gamma, beta, EPS)  # takes one position too
        y = y.movedim(1, options["axis"])
    else:
        shape = x.shape[x.ndim - options["num_axes"] :]
        if name == "layer_norm":
            y = F.layer_norm(x, shape, gamma, beta, EPS)
        else:
            y = F.rms_norm(x, shape, gamma, EPS)
    y.backward(torch.tensor(np.array(dy, np.float64, order="C")))
    gradients = (None if each is None else each.grad for each in (x, gamma, beta))
    return [None if each is None else each.detach().numpy() for each in (y, *gradients)]


def check_against_torch(case, x, dy, rtol, **more):
    name, gamma, beta, options, num_groups = case
    shape = x.shape[-options["num_axes"] :] if "num_axes" in options else x.shape[options["axis"]]
    plain = np.ones(shape) if gamma is None else gamma, np.zeros(shape) if beta is None else beta
    expected = torch_results(name, x, *plain, dy, options, num_groups)
    y, moments = call(name, x, gamma, beta, options, num_groups, **more)
    found = differentiate(name, dy, x, moments, gamma, options, num_groups, **more)
    assert y.dtype == found[0].dtype == x.dtype
    assert y.shape == found[0].shape == x.shape
    for one, other, what in zip((y, *found), expected, ("y", "dx", "dgamma", "dbeta"), strict=True):
        if one is not None:
            size = np.abs(other).max(initial=1.0)
            assert_allclose(one, other, rtol=rtol, atol=rtol * size, err_msg=f"{name}: {what}")


# -- agreement -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("shape", "axis", "num_groups", "num_axes"),
    [
        ((5, 6), 1, 3, 1), ((3, 4, 7), 1, 2, 2), ((3, 7, 4), -1, 4, 3), ((2, 6, 5, 3), 1, 6, 1),
        ((2, 5, 3, 6), 3, 2, 2), ((6, 4, 5), 0, 3, 1), ((1, 4, 3, 2, 2), 1, 1, 4),
        ((70, 4), 1, 2, 1),
    ],
)  # fmt: skip
def test_agreement_with_torch(engine, shape, axis, num_groups, num_axes, dtype):
    x, dy = example(shape, dtype), example(shape, dtype, 1)
    for case in normalizations(shape, axis, num_groups, num_axes):
        check_against_torch(case, x, dy, TOLERANCE[dtype], backend=engine)


@pytest.mark.parametrize("shape", [(3, 8, 40, 50), (2, 40, 50, 8)])
def test_large_samples_are_not_copied(shape):
    """Channels-last samples are views each; so is the whole of contiguous ones."""
    x, dy = example(shape), example(shape, seed=1)
    for case in normalizations(shape, 1 if shape[1] == 8 else 3, 4, 3):
        check_against_torch(case, x, dy, 1e-12)


@given(data=st.data())
def test_any_shape_layout_and_parameters(data):
    ndim = data.draw(st.integers(2, 4))
    shape = tuple(data.draw(st.integers(1, 5)) for _ in range(ndim))
    axis = data.draw(st.integers(-ndim, ndim - 1))
    num_groups = data.draw(
        st.sampled_from([each for each in range(1, 6) if shape[axis] % each == 0])
    )
    dtype = data.draw(st.sampled_from(sorted(TOLERANCE, key=str)))
    layout, other = (data.draw(st.sampled_from(LAYOUTS)) for _ in range(2))
    x, dy = arrange(example(shape, dtype), layout), arrange(example(shape, dtype, 1), other)
    for case in normalizations(shape, axis, num_groups, data.draw(st.integers(1, ndim))):
        name, gamma, beta, options, groups = case
        gamma = gamma if data.draw(st.booleans()) else None
        beta = beta if data.draw(st.booleans()) else None
        check_against_torch((name, gamma, beta, options, groups), x, dy, TOLERANCE[dtype])


@given(
    values=st.lists(st.integers(-1000, 1000), min_size=1, max_size=40),
    exponent=st.integers(-20, 4),
)
def test_against_exact_arithmetic(values, exponent):
    eps = Fraction(2) ** exponent
    x = np.array([values], dtype=np.float64)
    mean = Fraction(sum(values), len(values))
    square = sum(Fraction(value) ** 2 for value in values) / len(values)
    found = {
        "layer_norm": (functional.layer_norm(x, eps=float(eps))[0], mean, square - mean**2),
        "rms_norm": (functional.rms_norm(x, eps=float(eps))[0], Fraction(0), square),
        "group_norm": (functional.group_norm(x, 1, eps=float(eps))[0], mean, square - mean**2),
    }
    for y, center, spread in found.values():
        scale = exact_sqrt(spread + eps, bits=400)
        for value, normalized in zip(values, y[0], strict=True):
            exact = (value - center) / scale
            bound = Fraction(math.ulp(float(mean))) / scale + abs(exact) * Fraction(8, 2**53)
            assert abs(Fraction(float(normalized)) - exact) <= bound


def test_central_differences(engine):
    shape = (3, 4, 3)
    x, dy = example(shape), example(shape, seed=2)
    for name, gamma, beta, options, groups in normalizations(shape):
        _, moments = call(name, x, gamma, beta, options, groups, backend=engine)
        found = differentiate(name, dy, x, moments, gamma, options, groups, backend=engine)
        for which, gradient in enumerate(found):
            if gradient is None:
                continue
            arguments = [x, gamma, beta]
            for index in np.ndindex(gradient.shape):
                values = []
                for sign in (1, -1):
                    moved = [each.copy() for each in arguments]
                    moved[which][index] += sign * 1e-6
                    values.append((call(name, *moved, options, groups)[0] * dy).sum())
                expected = (values[0] - values[1]) / 2e-6
                assert_allclose(gradient[index], expected, rtol=1e-6, atol=1e-7, err_msg=name)


def test_moments_are_of_samples_in_order(engine):
    x = example((3, 4, 5, 2))
    _, moments = functional.layer_norm(x, num_axes=2, backend=engine)
    assert_allclose(moments.to_host().mean, x.reshape(12, 10).mean(axis=1), rtol=1e-14)
    _, moments = functional.group_norm(x, 2, backend=engine)
    assert_allclose(moments.to_host().mean, x.reshape(6, 20).mean(axis=1), rtol=1e-14)
    _, moments = functional.instance_norm(x, axis=-1, backend=engine)
    assert_allclose(moments.to_host().mean, x.mean(axis=(1, 2)).reshape(-1), rtol=1e-14)


# -- out, kinds of arrays ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_out_and_in_place(engine, dtype):
    shape = (4, 6, 5)
    x, dy = example(shape, dtype), example(shape, dtype, 1)
    emulated = not isinstance(engine, str)
    for case in normalizations(shape, num_axes=2):
        name, gamma, _, options, groups = case
        y, moments = call(*case[:1], x, *case[1:], backend=engine)
        dx = differentiate(name, dy, x, moments, gamma, options, groups, backend=engine)[0]
        if emulated:  # host arrays are copied to the device, so nothing of theirs is written
            continue
        for out in (np.empty_like(x), np.empty((4, 6, 10), dtype)[..., ::2], x.copy()):
            given = out if np.array_equal(out, x) else x
            result = call(name, given, *case[1:], out=out, backend=engine)[0]
            assert result is out
            assert_array_equal(out, y, name)
        for arrays in ([dy.copy(), x], [dy, x.copy()], [dy, x, np.empty_like(x)]):
            out = next(each for each in arrays if each is not dy and each is not x)
            found = differentiate(name, *arrays[:2], moments, gamma, options, groups, out=out,
                                  backend=engine)[0]  # fmt: skip
            assert found is out
            assert_array_equal(out, dx, name)


def test_integers_become_float64(engine):
    x = np.arange(24).reshape(2, 4, 3) % 5
    for case in normalizations(x.shape):
        y, _ = call(case[0], x, *case[1:], backend=engine)
        expected, _ = call(case[0], x.astype(np.float64), *case[1:], backend=engine)
        assert y.dtype == np.float64
        assert_allclose(y, expected, rtol=1e-15)


def test_empty_batches(engine):
    for case in normalizations((0, 4, 3)):
        name, gamma, _, options, groups = case
        x = np.empty((0, 4, 3), np.float32)
        y, moments = call(name, x, *case[1:], backend=engine)
        assert (y.shape, y.dtype, moments.num_channels) == (x.shape, x.dtype, 0)
        found = differentiate(name, x, x, moments, gamma, options, groups, backend=engine)
        assert found[0].shape == x.shape
        for each in found[1:]:
            assert each is None or (each.shape == gamma.shape and not each.any())


def test_tensors():
    torch = pytest.importorskip("torch")
    x = torch.arange(24.0).reshape(2, 4, 3)
    for case in normalizations((2, 4, 3)):
        name, gamma, _, options, groups = case
        y, moments = call(name, x, *case[1:])
        assert isinstance(y, torch.Tensor)
        assert_array_equal(y.numpy(), call(name, x.numpy(), *case[1:])[0])
        found = differentiate(name, y, x, moments, gamma, options, groups)
        assert all(each is None or isinstance(each, torch.Tensor) for each in found)
        out = torch.empty_like(x)
        assert call(name, x, *case[1:], out=out)[0] is out
        assert torch.equal(out, y)


def test_arrays_without_strides():
    strict = pytest.importorskip("array_api_strict")
    x, dy = example((3, 4, 5)), example((3, 4, 5), seed=1)
    for case in normalizations(x.shape, num_axes=2):
        name, gamma, _, options, groups = case
        y, moments = call(name, x, *case[1:])
        found = differentiate(name, dy, x, moments, gamma, options, groups)
        theirs = strict.asarray(x), strict.asarray(dy)
        more = {"backend": "reference"}
        other, moments = call(name, theirs[0], *case[1:], **more)
        assert_allclose(np.asarray(other), y, rtol=1e-13, atol=1e-14)
        out = strict.zeros_like(theirs[0])
        assert call(name, theirs[0], *case[1:], out=out, **more)[0] is out
        assert_array_equal(np.asarray(out), np.asarray(other))
        gradients = differentiate(
            name, theirs[1], theirs[0], moments, gamma, options, groups, **more
        )
        for one, another in zip(gradients, found, strict=True):
            assert one is None or bool(np.allclose(np.asarray(one), another, rtol=1e-12))


# -- bad input -----------------------------------------------------------------------------

X = np.ones((2, 4, 3))
F = functional


@pytest.mark.parametrize(
    ("function", "arguments", "options", "error", "words"),
    [
        (F.layer_norm, (X, np.ones(4)), {}, ValueError, r"gamma must have shape \(3,\)"),
        (F.layer_norm, (X, None, np.ones((4, 3))), {}, ValueError, r"beta must have shape \(3,\)"),
        (F.layer_norm, (X, ["a", "b", "c"]), {}, TypeError, "gamma must be real"),
        (F.layer_norm, (X,), {"num_axes": 0}, ValueError, "num_axes must be at least 1"),
        (F.layer_norm, (X,), {"num_axes": 4}, ValueError, "num_axes .* at most"),
        (F.layer_norm, (X,), {"num_axes": 1.0}, TypeError, "num_axes must be an integer"),
        (F.layer_norm, (X,), {"eps": -0.1}, ValueError, "eps"),
        (F.layer_norm, (X[:, :, :0],), {}, ValueError, "at least 1 value"),
        (F.layer_norm, (X.astype(complex),), {}, TypeError, "complex"),
        (F.layer_norm, (X,), {"out": X.astype(np.float32)}, TypeError, "out has dtype float32"),
        (F.layer_norm, (X,), {"out": np.ones((2, 3, 4))}, ValueError, "out has shape"),
        (F.rms_norm, (X, np.ones(2)), {}, ValueError, "gamma must have shape"),
        (F.group_norm, (X, 3), {}, ValueError, "num_groups=3 does not divide the 4 channels"),
        (F.group_norm, (X, 0), {}, ValueError, "num_groups must be positive"),
        (F.group_norm, (X, -1), {}, ValueError, "num_groups must be positive"),
        (F.group_norm, (X[:, :0], 1), {}, ValueError, "has no channels on axis 1"),
        (F.group_norm, (X, 2.0), {}, TypeError, "num_groups must be an integer"),
        (F.group_norm, (X, 2, np.ones(2)), {}, ValueError, r"gamma must have shape \(4,\)"),
        (F.group_norm, (X, 2), {"axis": 3}, ValueError, "axis 3 is out of range"),
        (F.group_norm, (X[:, :, :0], 2), {}, ValueError, "at least 1 value"),
        (F.group_norm, (np.ones(4), 2), {}, ValueError, "at least 2 dimensions"),
        (F.instance_norm, (X, np.ones(3)), {}, ValueError, r"gamma must have shape \(4,\)"),
        (F.instance_norm, (X,), {"out": X.astype(np.int64)}, TypeError, "out"),
    ],
)  # fmt: skip
def test_bad_input(function, arguments, options, error, words):
    with pytest.raises(error, match=words):
        function(*arguments, **options)


def test_bad_gradients():
    for case in normalizations(X.shape):
        name, gamma, _, options, groups = case
        _, moments = call(case[0], X, *case[1:])
        for dy, found, error, words in (
            (X.astype(np.float32), moments, TypeError, "dy has dtype float32"),
            (X[:1], moments, ValueError, r"dy has shape \(1, 4, 3\)"),
            (X, nc.Moments.empty(3), ValueError, "moments are of 3"),
            (X, "moments", TypeError, "moments must be Moments, not str"),
        ):
            with pytest.raises(error, match=words):
                differentiate(name, dy, X, found, gamma, options, groups)


def test_out_that_overlaps_in_part_is_refused():
    memory = np.ones((3, 4, 3))
    for case in normalizations(X.shape):
        with pytest.raises(ValueError, match="overlaps the input in part"):
            call(case[0], memory[:2], *case[1:], out=memory[1:])
    assert_array_equal(memory, 1.0)


# -- the door ------------------------------------------------------------------------------


def test_layers_are_names_of_normcore_and_functions_of_functional():

    for name in layernorm.__all__:
        is_layer = name[0].isupper()
        assert getattr(nc if is_layer else functional, name) is getattr(layernorm, name)
        assert name in (dir(nc) if is_layer else dir(functional))
        assert name not in (dir(functional) if is_layer else dir(nc))
    with pytest.raises(AttributeError, match=r"'normcore.functional' has no attribute 'layer_nrm'"):
        _ = functional.layer_nrm
    with pytest.raises(AttributeError, match="_private"):
        _ = functional._private
    with pytest.raises(AttributeError, match="layer_norm"):
        _ = nc.layer_norm


def test_a_name_of_functional_itself_is_refused():
    from normcore.registration import discovery
    from normcore.registration.registry import Plugin, PluginError, Registry

    registry = Registry(Plugin("other"))
    registry.function("functional.moments", "somewhere:moments")
    with pytest.raises(PluginError, match=r"normcore\.functional\.moments, which is a name of"):
        discovery.catalog().extended(registry._close(), discovery._is_core_name)
    for name in ("functional.", "functional._x", "functional.a.b", "elsewhere.name"):
        with pytest.raises(ValueError, match="is not a public Python name"):
            Registry(Plugin("other")).function(name, "somewhere:name")
