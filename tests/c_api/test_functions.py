"""The functions of normcore.h give the bits of Python's calls, in every layout and dtype."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest
from c_door import ALL, call, status
from hypothesis import given, settings
from hypothesis import strategies as st

import normcore as nc

f = nc.functional
DTYPES = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]


def placed(rng, shape, dtype, order):
    """Return random values whose axes lie in memory in an order, the last one fastest."""
    memory = rng.normal(3.0, 2.0, [shape[axis] for axis in order]).astype(dtype)
    return memory.transpose(np.argsort(order))


def like(x):
    """Return an array of the same layout, full of what no call leaves there."""
    y = np.empty_like(x)
    y[...] = -77.0
    return y


def same_bits(a, b):
    assert a.dtype == b.dtype
    assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


# Shapes and memory orders that are one view each: tables, NCHW, NHWC, one channel, few, many.
LAYOUTS = [
    ((50, 7), (0, 1), 1),
    ((50, 7), (1, 0), 1),
    ((7, 50), (0, 1), 0),
    ((4000, 3), (0, 1), 1),
    ((40, 300), (0, 1), 1),
    ((3, 5, 4, 6), (0, 1, 2, 3), 1),
    ((3, 5, 4, 6), (0, 2, 3, 1), 1),
    ((3, 5, 4, 6), (1, 0, 2, 3), -3),
    ((3, 4, 6, 40), (0, 1, 2, 3), -1),
    ((2, 64, 40, 40), (0, 1, 2, 3), 1),
    ((3000, 1), (0, 1), 1),
    ((2, 3, 2, 2, 2, 2, 2, 2), tuple(range(8)), 1),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "order", "axis"), LAYOUTS)
def test_batches(shape, order, axis, dtype):
    rng = np.random.default_rng(7)
    x, dy = (placed(rng, shape, dtype, order) for _ in range(2))
    channels = shape[axis]
    gamma, beta, mean = rng.normal(size=(3, channels)).astype(np.float32)
    var = rng.uniform(0.1, 2.0, channels)
    states = np.full((7, channels), np.nan)

    expected = f.moments(x, channel_axis=axis)
    call("moments", x, axis, 0, states)
    same_bits(states, expected.parts)

    y, moments = f.batch_norm(x, gamma, beta, axis=axis, eps=1e-3)
    found = like(x)
    states[...] = np.nan
    call("batch_norm", x, axis, gamma, beta, 1e-3, found, states)
    same_bits(found, y)
    same_bits(states, moments.parts)

    grads = f.batch_norm_backward(dy, x, moments, gamma, beta, axis=axis, eps=1e-3)
    dx, dgamma, dbeta = like(x), np.empty(channels), np.empty(channels)
    call("batch_norm_backward", dy, x, axis, states, 1, gamma, 1e-3, dx, dgamma, dbeta)
    for one, other in zip((dx, dgamma, dbeta), grads, strict=True):
        same_bits(one, other)

    y = f.batch_norm_inference(x, mean, var, gamma, beta, axis=axis, eps=1e-3)
    call("batch_norm_inference", x, axis, mean, var, gamma, beta, 1e-3, found)
    same_bits(found, y)

    call("given", channels, mean.astype(np.float64), var, states)
    grads = f.batch_norm_backward(
        dy, x, nc.Moments.of(1.0, mean, var), gamma, beta, axis=axis, eps=1e-3, training=False
    )
    call("batch_norm_backward", dy, x, axis, states, 0, gamma, 1e-3, dx, dgamma, dbeta)
    for one, other in zip((dx, dgamma, dbeta), grads, strict=True):
        same_bits(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize(
    ("shape", "num_axes", "spacing"),
    [((70, 33), 1, 1), ((70, 33), 1, 2), ((5, 6, 7, 8), 2, 1), ((300, 768), 1, 1),
     ((2, 300_000), 1, 1), ((1, 5), 1, 1), ((4, 3), 2, 1)],
)  # fmt: skip
def test_rows(shape, num_axes, spacing, centered, dtype):
    rng = np.random.default_rng(8)
    wide = (*shape[:-1], shape[-1] * spacing)
    x, dy, found = (rng.normal(2.0, 3.0, wide).astype(dtype)[..., ::spacing] for _ in range(3))
    rows = int(np.prod(shape[: len(shape) - num_axes]))
    gamma, beta = rng.normal(size=(2, *shape[len(shape) - num_axes :])).astype(np.float32)
    states = np.full((7, rows), np.nan)
    forward, backward = (
        (f.layer_norm, f.layer_norm_backward) if centered else (f.rms_norm, f.rms_norm_backward)
    )
    given_beta = (beta,) if centered else ()
    y, moments = forward(x, gamma, *given_beta, num_axes=num_axes, eps=1e-3)
    call("row_norm", x, num_axes, centered, gamma, beta if centered else None, 1e-3, found, states)
    same_bits(found, y)
    same_bits(states, moments.parts)
    dx, dgamma, *dbeta = backward(dy, x, moments, gamma, num_axes=num_axes, eps=1e-3)
    vectors = np.empty((2, *dgamma.shape))
    call(
        "row_norm_backward", dy, x, num_axes, centered, states, gamma, 1e-3, found, vectors[0],
        vectors[1] if centered else None,
    )  # fmt: skip
    same_bits(found, dx)
    for one, other in zip(vectors, (dgamma, *dbeta), strict=False):
        same_bits(one, other)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_vectors_of_any_kind(data):
    """Of any dtype and stride; results of vectors are rounded once."""
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    channels = data.draw(st.integers(1, 20))
    x = rng.normal(size=(data.draw(st.integers(2, 30)), channels)).astype(np.float32)

    def vector():
        step = data.draw(st.sampled_from([1, 2, -1, 3]))
        values = rng.normal(size=channels * abs(step)).astype(data.draw(st.sampled_from(DTYPES)))
        return values[::step]

    gamma, beta = vector(), vector()
    states, y = np.empty((7, channels)), like(x)
    call("batch_norm", x, 1, gamma, beta, 1e-5, y, states)
    expected, moments = f.batch_norm(x, gamma.astype(np.float64), beta.astype(np.float64))
    same_bits(y, expected)
    dgamma, dbeta = vector(), vector()
    call("batch_norm_backward", x, x, 1, states, 1, None, 1e-5, y, dgamma, dbeta)
    dx, *exact = f.batch_norm_backward(x, x, moments)
    same_bits(y, dx)
    for one, other in zip((dgamma, dbeta), exact, strict=True):
        same_bits(one, other.astype(one.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rescale(dtype):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 9)).astype(dtype)
    center, scale, gamma, beta = rng.uniform(0.5, 2.0, (4, 9))
    y = like(x)
    call("rescale", x, 1, center, scale, gamma, beta, y)
    exact = ((x.astype(np.float64) - center) / scale) * gamma + beta
    same_bits(y, exact.astype(dtype))
    call("rescale", x, 1, None, None, None, None, y)
    same_bits(y, x)


def test_all_elements_are_one_channel():
    x = np.random.default_rng(2).normal(size=(6, 5, 4)).astype(np.float32)
    states = np.empty((7, 1))
    call("moments", x, ALL, 0, states)
    same_bits(states, f.moments(x, channel_axis=None).parts)
    y = like(x)
    call("rescale", x, ALL, np.full(1, 2.0), None, None, None, y)
    same_bits(y, x - np.float32(2.0))


def test_missing_values_are_left_out_if_asked():
    x = np.random.default_rng(3).normal(size=(500, 6))
    x[x > 1.0] = np.nan
    states = np.empty((7, 6))
    call("moments", x, 1, 1, states)
    same_bits(states, f.moments(x, channel_axis=1, skipna=True).parts)
    call("moments", x, 1, 0, states)
    assert np.isnan(states[2]).all()


def test_states_merge_in_any_order_and_are_read():
    x = np.random.default_rng(4).normal(1e6, 1.0, size=(1000, 5)).astype(np.float32)
    whole, total, part = (np.zeros((7, 5)) for _ in range(3))
    call("moments", x, 1, 0, whole)
    for start in (600, 0, 300):
        call("moments", x[start : start + (400 if start == 600 else 300)], 1, 0, part)
        call("merge", 5, total, part)
    count, mean, var = np.empty((3, 5))
    call("summarize", 5, total, 1.0, count, mean, var)
    moments = nc.Moments(whole)
    assert count.tolist() == [1000.0] * 5
    same_bits(mean, moments.mean)
    np.testing.assert_array_almost_equal_nulp(var, moments.var(1), 4)
    call("summarize", 5, total, 0.0, None, None, var)
    same_bits(var, nc.Moments(total).var())


@pytest.mark.parametrize("ddof", [0.0, 1.0])
def test_running_averages(ddof):
    moments = f.moments(np.random.default_rng(11).normal(size=(30, 3)), channel_axis=1)
    moments.parts[0, 2] = ddof  # of a channel without a variance
    mean, var = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    expected = moments.running(mean, var, 0.3, ddof)
    call("running", 3, moments.parts, 0.3, ddof, mean, var)
    same_bits(mean, expected[0])
    same_bits(var, expected[1])
    assert (mean[2], var[2]) == (3.0, 6.0)


def test_results_may_be_what_they_map():
    rng = np.random.default_rng(5)
    x, dy = rng.normal(size=(2, 30, 8, 5)).astype(np.float32)
    states = np.empty((7, 8))
    y, moments = f.batch_norm(x)
    dx = f.batch_norm_backward(dy, x, moments)[0]
    inplace = x.copy()
    call("batch_norm", inplace, 1, None, None, 1e-5, inplace, states)
    same_bits(inplace, y)
    for target in (0, 1):
        both = [dy.copy(), x.copy()]
        call("batch_norm_backward", *both, 1, states, 1, None, 1e-5, both[target], None, None)
        same_bits(both[target], dx)


def test_parts_of_one_table_do_not_overlap():
    table = np.random.default_rng(6).normal(size=(40, 12))
    expected = f.batch_norm(table[:, :6].copy())[0]
    states = np.empty((7, 6))
    for x, y in (
        (table[:, :6], table[:, 6:]),
        (table[:, ::2], table[:, 1::2]),
        (table[::2, :6], table[1::2, :6]),
    ):
        expected = f.batch_norm(x.copy())[0]
        call("batch_norm", x, 1, None, None, 1e-5, y, states)
        same_bits(y, expected)


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3), (5, 4, 0)])
def test_nothing_is_something(shape):
    x = np.empty(shape, np.float32)
    states, vectors = np.full((7, 4), np.nan), np.full((2, 4), np.nan)
    call("moments", x, 1, 0, states)
    assert not states.any()
    states[...] = np.nan
    call("batch_norm", x, 1, None, None, 1e-5, x.copy(), states)
    assert not states.any()
    call("batch_norm_backward", x, x.copy(), 1, states, 1, None, 1e-5, x.copy(), *vectors)
    assert not vectors.any()
    call("batch_norm_inference", x, 1, np.zeros(4), np.ones(4), None, None, 1e-5, x.copy())


@pytest.mark.parametrize("threads", [1, 2, 5, 64])
def test_bits_do_not_depend_on_threads(threads):
    rng = np.random.default_rng(9)
    x = rng.normal(size=(24, 32, 28, 28)).astype(np.float32)
    rows = x.reshape(-1, 28 * 28)
    states, of_rows = np.empty((7, 32)), np.empty((7, len(rows)))
    y, moments = f.batch_norm(x)
    grads = f.batch_norm_backward(y, x, moments)
    by_rows, row_moments = f.layer_norm(rows)
    row_grads = f.layer_norm_backward(by_rows, rows, row_moments)
    found, dgamma, dbeta = like(x), np.empty(32), np.empty(32)
    call("batch_norm", x, 1, None, None, 1e-5, found, states, threads=threads)
    same_bits(found, y)
    call(
        "batch_norm_backward", y, x, 1, states, 1, None, 1e-5, found, dgamma, dbeta,
        threads=threads,
    )  # fmt: skip
    for one, other in zip((found, dgamma, dbeta), grads, strict=True):
        same_bits(one, other)
    found = like(rows)
    call("row_norm", rows, 1, 1, None, None, 1e-5, found, of_rows, threads=threads)
    same_bits(found, by_rows)
    dgamma, dbeta = np.empty((2, 28 * 28))
    call(
        "row_norm_backward", by_rows, rows, 1, 1, of_rows, None, 1e-5, found, dgamma, dbeta,
        threads=threads,
    )  # fmt: skip
    for one, other in zip((found, dgamma, dbeta), row_grads, strict=True):
        same_bits(one, other)


def test_many_callers_at_once():
    """Threads with calls of their own, beside Python's calls."""
    rng = np.random.default_rng(10)
    inputs = [rng.normal(size=(500, 40 + i)).astype(np.float32) for i in range(8)]
    expected = [f.batch_norm(x)[0] for x in inputs]
    faults = []

    def work(x, y):
        for _ in range(30):
            found, states = like(x), np.empty((7, x.shape[1]))
            if status("batch_norm", x, 1, None, None, 1e-5, found, states, threads=3) != (0, ""):
                faults.append("status")
            if found.tobytes() != y.tobytes() or f.batch_norm(x)[0].tobytes() != y.tobytes():
                faults.append("bits")

    jobs = zip(inputs, expected, strict=True)
    threads = [threading.Thread(target=work, args=both) for both in jobs]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert faults == []
