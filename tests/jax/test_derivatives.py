"""Derivatives of normcore.jax's functions: the core's, numerical ones, and XLA's."""

from __future__ import annotations

import numpy as np
import pytest
from jax_examples import EXAMPLES, FEW, draw, result

pytest.importorskip("jax")
import jax
from jax import numpy as jnp
from jax.test_util import check_grads

import normcore as nc
import normcore.jax as nj

TOLERANCE = {"atol": 1e-6, "rtol": 1e-6}

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=str)


def split(arrays):
    """Return arrays that have derivatives, and the others."""
    return (
        {name: each for name, each in arrays.items() if each.dtype != bool},
        {name: each for name, each in arrays.items() if each.dtype == bool},
    )


def core_gradients(example, dy, arrays):
    """Return what the core's backward pass returns, by name."""
    name, options, arrays = example.name, dict(example.options), dict(arrays)
    x = arrays.pop("x")
    if name == "batch_norm_inference":
        moments = nc.Moments.of(1, *(arrays.pop(each).astype(float) for each in ("mean", "var")))
        name, options["training"] = "batch_norm", False
    else:
        moments = example.of(nc.functional)(x=x, **arrays)[1]
    arrays.pop("beta", None)
    backward = getattr(nc.functional, f"{name}_backward")
    return dict(zip(("x", "gamma", "beta"), backward(dy, x, moments, **arrays, **options),
                    strict=False))  # fmt: skip


@each_example
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_the_cores(example, dtype):
    arrays = example.arrays(dtype)
    dy = draw(arrays["x"].shape, dtype, 9)
    floats, others = split(arrays)

    def pulled(floats, dy):
        _, pull = jax.vjp(lambda floats: result(example, {**floats, **others}), floats)
        return pull(dy)[0]

    expected = core_gradients(example, dy, arrays)
    for found in (pulled(floats, dy), jax.jit(pulled)(floats, dy)):
        assert found.keys() == floats.keys()
        for name in expected.keys() & floats.keys():
            rounded = expected[name].astype(np.float32 if dtype == "float32" else dtype)
            assert np.asarray(found[name]).tobytes() == rounded.tobytes(), name


@pytest.mark.parametrize("example", FEW, ids=str)
def test_derivatives_of_two_orders_are_the_numerical_ones(example):
    with jax.enable_x64(True):
        floats, others = split(example.arrays("float64"))
        weight = draw(floats["x"].shape, "float64", 9)

        def loss(floats):
            return jnp.sum(jnp.sin(result(example, {**floats, **others})) * weight)

        check_grads(jax.jit(loss), (floats,), order=2, modes=["rev"], eps=1e-5, **TOLERANCE)


@pytest.mark.parametrize("example", EXAMPLES[1:2], ids=str)
def test_hessians_by_either_mode_are_one(example):
    with jax.enable_x64(True):
        floats, others = split(example.arrays("float64"))

        def loss(x):
            return jnp.sum(result(example, {**floats, **others, "x": x}) ** 3)

        forward_over_reverse = jax.jit(jax.hessian(loss))(floats["x"])
        twice_reverse = jax.jacrev(jax.grad(loss))(floats["x"])
        np.testing.assert_allclose(forward_over_reverse, twice_reverse, rtol=1e-9, atol=1e-9)


def test_statistics_of_a_batch_have_derivatives():
    mask = np.array([True, False, True, True, True])
    with jax.enable_x64(True):
        x, weight = draw((5, 3), "float64"), draw((2, 3), "float64", 1)

        def of_statistics(x):
            _, found = nj.batch_norm(x, mask=mask)
            return jnp.sum(found.mean * weight[0] + found.var**2 * weight[1])

        def of_all(x):
            y, found = nj.batch_norm(x, mask=mask)
            return jnp.sum(jnp.sin(y)) + jnp.sum(found.var)

        check_grads(jax.jit(of_statistics), (x,), order=1, modes=["rev"], eps=1e-5, **TOLERANCE)
        check_grads(jax.jit(of_all), (x,), order=2, modes=["rev"], eps=1e-5, **TOLERANCE)


@pytest.mark.parametrize("number", [3, 4, 6])
@pytest.mark.parametrize("hidden", [np.nan, np.inf])
def test_what_a_mask_hides_has_no_part_in_derivatives(number, hidden):
    with jax.enable_x64(True):
        floats, others = split(EXAMPLES[number].arrays("float64"))
        x, mask = floats.pop("x"), others["mask"]
        axis = EXAMPLES[number].options.get("axis", 1)
        shown = np.broadcast_to(
            np.expand_dims(mask.reshape(mask.shape + (1,) * (x.ndim - 1 - mask.ndim)), axis),
            x.shape,
        )

        def derivatives(x):
            def loss(x):
                made = EXAMPLES[number].of(nj)(x=x, **floats, **others)
                return sum(jnp.sum(jnp.sin(each)) for each in jax.tree.leaves(made))

            slope = jax.jit(jax.grad(loss))
            return slope(x), jax.jit(jax.grad(lambda x: jnp.sum(slope(x) ** 2)))(x)

        found = derivatives(np.where(shown, x, hidden))
        for each, wanted in zip(found, derivatives(np.where(shown, x, 0.5)), strict=True):
            np.testing.assert_array_equal(each, wanted)
            assert not np.any(each[~shown])
            assert np.all(np.isfinite(each))


def test_float32_gradients_keep_their_digits_at_a_large_offset():
    x = draw((4096, 2), "float64") * 100 + 1e7
    narrow = x.astype(np.float32)
    dy = draw(x.shape, "float32", 1)
    _, pull = jax.vjp(lambda x: nj.batch_norm(x)[0], narrow)
    wide = narrow.astype(np.float64)
    _, moments = nc.functional.batch_norm(wide)
    expected = nc.functional.batch_norm_backward(dy.astype(float), wide, moments)[0]
    np.testing.assert_allclose(pull(dy)[0], expected, rtol=1e-6, atol=1e-10)


def test_forward_mode_of_the_first_order_is_refused():
    x = draw((4, 3), "float32")
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(nj.layer_norm, (x,), (x,))


def test_a_network_learns():
    x, target = draw((32, 5), "float32"), draw((32, 3), "float32", 1)
    rng = np.random.default_rng(2)
    weights = {"w": rng.normal(size=(5, 3)).astype(np.float32),
               "gamma": np.ones(3, np.float32), "beta": np.zeros(3, np.float32)}  # fmt: skip

    @jax.jit
    def step(weights):
        def loss(weights):
            y, _ = nj.batch_norm(x @ weights["w"], weights["gamma"], weights["beta"])
            return jnp.mean((jax.nn.relu(y) - target) ** 2)

        value, slope = jax.value_and_grad(loss)(weights)
        return value, jax.tree.map(lambda each, down: each - 0.1 * down, weights, slope)

    losses = []
    for _ in range(20):
        value, weights = step(weights)
        losses.append(float(value))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]
