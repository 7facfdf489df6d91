"""normcore.jax's functions beside those of the core, at once and in compiled programs."""

from __future__ import annotations

import re

import numpy as np
import pytest
from jax_examples import EXAMPLES, Example, draw
from processes import printed

pytest.importorskip("jax")
import jax
from jax import numpy as jnp

import normcore as nc
import normcore.jax as nj

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=str)


def assert_same(found, expected):
    found = np.asarray(found)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


@each_example
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_results_are_the_cores(example, dtype):
    arrays = example.arrays(dtype)
    expected = example.of(nc.functional)(**arrays)
    y = expected[0] if isinstance(expected, tuple) else expected
    function = example.of(nj)
    for made in (function(**arrays), jax.jit(function)(**arrays)):
        if example.name != "batch_norm":
            assert_same(made, y)
            continue
        assert_same(made[0], y)
        moments = expected[1]
        assert_same(made[1].mean, moments.mean.astype(np.float32))
        assert_same(made[1].var, moments.var().astype(np.float32))
        assert float(made[1].count) == moments.count[0]


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_double_precision(name):
    x = draw((6, 4), "float64")
    function = getattr(nj, name)
    expected = getattr(nc.functional, name)(x)
    with jax.enable_x64(True):
        made = jax.jit(function)(x)
        y = made[0] if name == "batch_norm" else made
        assert_same(y, expected[0])
        if name == "batch_norm":
            assert_same(made[1].var, expected[1].var())
            narrow = x.astype(np.float32)
            assert_same(
                function(narrow)[1].mean, nc.functional.moments(narrow, channel_axis=1).mean
            )


def test_integers():
    x = np.arange(12, dtype=np.int32).reshape(6, 2) ** 3
    expected = nc.functional.batch_norm(x)[0]
    assert_same(jax.jit(nj.batch_norm)(x)[0], expected.astype(np.float32))
    with jax.enable_x64(True):
        assert_same(nj.batch_norm(x)[0], expected)
    gamma = np.ones(2, np.float32)
    found = jax.grad(lambda gamma: nj.batch_norm(x, gamma)[0][0, 1])(gamma)
    assert_same(found, np.array([0, expected[0, 1]], np.float32))


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (2, 0, 3)])
def test_empty_arrays(shape):
    x = np.empty(shape, np.float32)
    for function in (nj.batch_norm, jax.jit(nj.batch_norm)):
        y, statistics = function(x)
        assert y.shape == shape
        assert statistics.mean.shape == (shape[1],)


def test_results_keep_their_device_and_its_memory():
    x = jnp.asarray(draw((64, 128), "float32"))
    y = nj.layer_norm(x)
    assert isinstance(y, jax.Array)
    assert not y.committed
    assert nj.layer_norm(jax.device_put(x, x.device)).committed


def test_the_context_says_how_to_compute_while_a_program_is_traced():
    x = draw((50, 40), "float32")
    native = nc.functional.layer_norm(x, precision="native")[0]
    exact = nc.functional.layer_norm(x)[0]
    assert native.tobytes() != exact.tobytes()
    compiled = jax.jit(lambda x: nj.layer_norm(x))
    with nc.use_precision("native"):
        assert_same(nj.layer_norm(x), native)
        assert_same(compiled(x), native)
    assert_same(compiled(x), native)  # traced before
    assert_same(nj.layer_norm(x), exact)
    assert_same(jax.jit(lambda x: nj.layer_norm(x, precision="native"))(x), native)


def test_the_backend_of_the_context_computes():
    calls = []

    class Counting(type(nc.get_backend("reference"))):
        def normalize_rows(self, *arguments, **options):
            calls.append(1)
            return super().normalize_rows(*arguments, **options)

    x = draw((5, 4), "float32")
    with nc.use_backend(Counting()):
        compiled = jax.jit(lambda x: nj.layer_norm(x)).lower(x).compile()
    np.testing.assert_allclose(compiled(x), nc.functional.layer_norm(x)[0], rtol=1e-6)
    assert calls == [1]


REFUSED = {
    "gamma must have shape (3,)": lambda x: nj.batch_norm(x, x[0, :2]),
    "beta must have shape (3,)": lambda x: nj.layer_norm(x, None, x),
    "mask has shape (2,)": lambda x: nj.batch_norm(x, mask=jnp.ones(2, bool)),
    "at least 2 values in each channel": lambda x: nj.batch_norm(x[:1]),
    "mean must have shape (3,)": lambda x: nj.batch_norm_inference(x, x, x[0]),
    "axis 2 is out of range": lambda x: nj.instance_norm(x, axis=2),
    "num_groups=2 does not divide the 3 channels": lambda x: nj.group_norm(x, 2),
    "num_axes must be at least 1": lambda x: nj.rms_norm(x, num_axes=3),
    "eps must be positive or zero": lambda x: nj.rms_norm(x, eps=-1),
    "needs at least 2 dimensions": lambda x: nj.batch_norm(x[0]),
    "gamma_offset must be finite": lambda x: nj.rms_norm(x, gamma_offset=np.nan),
    "precision must be": lambda x: nj.rms_norm(x, precision="low"),
}


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.parametrize("compiled", [False, True])
def test_what_does_not_fit_is_refused_while_a_program_is_traced(message, compiled):
    function = REFUSED[message]
    x = draw((4, 3), "float32")
    with pytest.raises(ValueError, match=re.escape(message)):
        jax.eval_shape(function, x) if compiled else function(x)


@pytest.mark.parametrize("compiled", [False, True])
def test_dtypes_that_are_refused(compiled):
    with pytest.raises(TypeError, match="cannot normalize an array of dtype complex64"):
        (jax.jit(nj.layer_norm) if compiled else nj.layer_norm)(np.ones((2, 3), np.complex64))
    with pytest.raises(TypeError, match="mask must be an array of bool"):
        (jax.jit(nj.batch_norm) if compiled else nj.batch_norm)(
            np.ones((2, 3), np.float32), mask=np.ones(2, np.int32)
        )
    with pytest.raises(TypeError, match="eps must be a number"):
        jax.jit(lambda eps: nj.layer_norm(jnp.ones((2, 3)), eps=eps))(1e-5)


NOT_GIVEN = [
    ("x", "batch_norm", (None,)),
    ("x", "batch_norm_inference", (None, np.ones(3), np.ones(3))),
    ("mean", "batch_norm_inference", (np.ones((2, 3)), None, np.ones(3))),
    ("x", "layer_norm", (None,)),
    ("x", "rms_norm", (None,)),
    ("x", "group_norm", (None, 1)),
    ("x", "instance_norm", (None,)),
]


@pytest.mark.parametrize(("missing", "name", "arrays"), NOT_GIVEN)
def test_arrays_that_are_none_are_named(missing, name, arrays):
    with pytest.raises(TypeError, match=f"{missing} of {name} must be an array, not None"):
        getattr(nj, name)(*arrays)


def test_what_only_values_tell_is_refused_as_the_program_runs():
    x, none = draw((4, 3), "float32"), np.zeros(4, bool)
    with pytest.raises(ValueError, match="has 0 on axis 1 under the mask"):
        nj.batch_norm(x, mask=none)
    with pytest.raises(jax.errors.JaxRuntimeError, match="has 0 on axis 1 under the mask"):
        jax.block_until_ready(jax.jit(nj.batch_norm)(x, mask=none))
    assert_same(jax.jit(nj.batch_norm)(x)[0], nc.functional.batch_norm(x)[0])


def test_without_jax_the_error_says_what_to_install():
    assert "pip install 'normcore-arrays[jax]'" in printed(
        "sys.modules['jax'] = None\n"
        "try:\n    import normcore.jax\n"
        "except ModuleNotFoundError as error: print(error)"
    )


def test_examples_are_of_every_function():
    assert {each.name for each in EXAMPLES} == set(nj.__all__) - {"BatchStatistics"}
    assert all(isinstance(each, Example) for each in EXAMPLES)
