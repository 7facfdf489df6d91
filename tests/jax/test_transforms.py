"""normcore.jax under JAX's transformations: vmap, scan, checkpoint, several devices."""

from __future__ import annotations

import numpy as np
import pytest
from jax_examples import FEW, draw, result
from processes import printed

pytest.importorskip("jax")
import jax
from jax import numpy as jnp

import normcore as nc
import normcore.jax as nj


@pytest.mark.parametrize("example", FEW, ids=str)
def test_vmap_is_a_loop(example):
    several = [example.arrays("float32", seed) for seed in (0, 1)]
    fixed = set(list(example.shapes)[1::2])  # that is not mapped over
    stacked = {
        name: several[0][name] if name in fixed else np.stack([each[name] for each in several], -1)
        for name in example.shapes
    }
    axes = {name: None if name in fixed else -1 for name in example.shapes}
    several = [{**each, **{name: several[0][name] for name in fixed}} for each in several]
    floats = [name for name, each in several[0].items() if each.dtype != bool]

    def gradient(arrays):
        def loss(floats):
            return jnp.sum(jnp.cos(result(example, {**arrays, **floats})))

        return result(example, arrays), jax.grad(loss)({each: arrays[each] for each in floats})

    mapped = jax.jit(jax.vmap(gradient, in_axes=(axes,)))(stacked)
    for number, arrays in enumerate(several):
        one = jax.tree.map(lambda each, number=number: each[number], mapped)
        jax.tree.map(lambda found, expected: np.testing.assert_array_equal(found, expected),
                     one, jax.jit(gradient)(arrays))  # fmt: skip


def test_vmap_of_vmap():
    x, gamma = draw((2, 3, 4, 5), "float32"), draw((3, 5), "float32", 1)
    function = jax.vmap(jax.vmap(nj.layer_norm), in_axes=(0, None))
    found = function(x, gamma)
    for index in np.ndindex(2, 3):
        expected = nc.functional.layer_norm(x[index], gamma[index[1]])[0]
        np.testing.assert_array_equal(found[index], expected)
    nothing = jax.vmap(nj.rms_norm)(np.empty((0, 2, 3), np.float32))
    assert nothing.shape == (0, 2, 3)


def test_vmap_over_arrays_of_numpy_in_a_program():
    x, masks = jnp.asarray(draw((4, 3), "float32")), np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool)

    def slopes(x, masks):
        def total(x, mask):
            return jnp.sum(nj.batch_norm(x, mask=mask)[0] ** 3)

        return jax.vmap(jax.value_and_grad(total), in_axes=(None, 0))(x, masks)

    found, expected = jax.jit(lambda x: slopes(x, masks))(x), jax.jit(slopes)(x, masks)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_errors_in_vmap_are_of_one_sample():
    x = draw((2, 3, 4, 5), "float32")
    with pytest.raises(ValueError, match=r"gamma must have shape \(4,\)"):
        jax.jit(jax.vmap(nj.batch_norm))(x, x[:, 0, 0])


def test_loops_and_checkpoints():
    x = draw((5, 4), "float32")

    def repeated(x):
        return jax.lax.scan(lambda x, _: (jax.checkpoint(nj.rms_norm)(x + 1), None), x, length=3)[0]

    def unrolled(x):
        for _ in range(3):
            x = nj.rms_norm(x + 1)
        return x

    np.testing.assert_array_equal(jax.jit(repeated)(x), unrolled(x))
    slopes = [jax.grad(lambda x, f=f: jnp.sum(jnp.cos(f(x))))(x) for f in (repeated, unrolled)]
    np.testing.assert_allclose(*slopes, rtol=1e-5, atol=1e-7)


TWO_DEVICES = """
import jax, numpy as np
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import normcore as nc, normcore.jax as nj

rng = np.random.default_rng(0)
x, w = rng.normal(size=(2, 8, 4, 5)).astype(np.float32)
gamma = rng.normal(size=4).astype(np.float32)
batch = nc.functional.batch_norm(x, gamma)[0]
halved = [nc.functional.batch_norm(half, gamma)[0] for half in np.split(x, 2)]
groups = nc.functional.group_norm(x, 2, gamma)[0]

def loss(x, gamma, w):
    return jnp.sum(nj.group_norm(x, 2, gamma) * w)

slopes = jax.grad(loss, (0, 1))(x, gamma, w)

def same(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)),
                 found, expected)

for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(kind,))
    halves = NamedSharding(mesh, P("i"))
    here = [jax.device_put(x, halves), jax.device_put(gamma, NamedSharding(mesh, P())),
            jax.device_put(w, halves)]
    for function in (nj.batch_norm, jax.jit(nj.batch_norm)):
        same(function(*here[:2])[0], batch)
    same(jax.jit(jax.grad(loss, (0, 1)))(*here), slopes)
    for check in (True, False):
        over = dict(mesh=mesh, check_vma=check)
        each = jax.shard_map(lambda x, gamma: nj.group_norm(x, 2, gamma),
                             in_specs=(P("i"), P()), out_specs=P("i"), **over)
        for function in (each, jax.jit(each)):
            same(function(*here[:2]), groups)
        each = jax.shard_map(lambda x, gamma: nj.batch_norm(x, gamma)[0],
                             in_specs=(P("i"), P()), out_specs=P("i"), **over)
        for function in (each, jax.jit(each)):  # each half is a batch
            same(function(*here[:2]), np.concatenate(halved))
        total = jax.shard_map(lambda *given: jax.lax.psum(loss(*given), "i"),
                              in_specs=(P("i"), P(), P("i")), out_specs=P(), **over)
        found = jax.jit(jax.grad(total, (0, 1)))(*here)
        same(found[0], slopes[0])
        np.testing.assert_allclose(found[1], slopes[1], rtol=1e-5)
print("done")
"""


def test_two_devices():
    flags = "--xla_force_host_platform_device_count=2"
    assert printed(TWO_DEVICES, XLA_FLAGS=flags, TF_CPP_MIN_LOG_LEVEL="3") == "done"


def test_second_derivatives_in_shard_map():
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    along = jax.sharding.PartitionSpec("i")
    mapped = jax.shard_map(nj.layer_norm, mesh=mesh, in_specs=along, out_specs=along)

    def bent(function):
        slope = jax.grad(lambda x: jnp.sum(function(x) ** 3))
        return jax.jit(jax.grad(lambda x: jnp.sum(slope(x) ** 2)))(draw((4, 5), "float32"))

    np.testing.assert_allclose(bent(mapped), bent(nj.layer_norm), rtol=1e-5)


ON_ONE_PROCESSOR = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, numpy as np
from jax import numpy as jnp
import normcore.jax as nj

x = jnp.asarray(np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32))
def network(x):
    return jnp.sum(jnp.sin(nj.layer_norm(jnp.sin(nj.batch_norm(x * 2)[0]))))
step = jax.jit(jax.grad(network))
for _ in range(10):
    y = nj.rms_norm(step(x))
    z = nj.layer_norm(y + 1)
print(jax.block_until_ready(z).shape)
"""


def test_large_arrays_on_one_processor_do_not_wait_for_each_other():
    assert printed(ON_ONE_PROCESSOR) == "(20000, 64)"
