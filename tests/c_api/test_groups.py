"""Group norm and weighted moments of normcore.h give the bits of Python's calls."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from c_door import ALL, call
from hypothesis import given, settings
from hypothesis import strategies as st

import normcore as nc
from normcore import functional as f

DTYPES = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]


def same_bits(a, b):
    assert a.dtype == b.dtype
    assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def check_groups(x, dy, groups, axis, y, *, threads=0):
    """Compare both passes over memory with Python's calls over the same memory."""
    rng = np.random.default_rng(1)
    channels, samples = x.shape[axis], x.shape[1 if axis in (0, -x.ndim) else 0]
    gamma, beta = rng.normal(size=(2, channels)).astype(np.float32)
    states = np.full((7, samples * groups), np.nan)
    expected, moments = f.group_norm(x, groups, gamma, beta, axis=axis, eps=1e-3)
    call("group_norm", x, axis, groups, gamma, beta, 1e-3, y, states, threads=threads)
    same_bits(y, expected)
    same_bits(states, moments.parts)
    # Where the result goes decides how Python walks, too.
    grads = f.group_norm_backward(dy, x, moments, groups, gamma, axis=axis, eps=1e-3, out=y)
    dx = grads[0].copy()
    vectors = np.full((2, channels), np.nan)
    call(
        "group_norm_backward", dy, x, axis, groups, states, gamma, 1e-3, y, *vectors,
        threads=threads,
    )  # fmt: skip
    for one, other in zip((y, *vectors), (dx, *grads[1:]), strict=True):
        same_bits(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    [
        ((5, 6, 4, 3), 1, 3),
        ((5, 6, 4, 3), 1, 6),
        ((5, 6, 4, 3), 1, 1),
        ((7, 40), 1, 8),
        ((300, 1, 5), 1, 1),
        ((3, 400, 9), 1, 2),
        ((3, 3000), 1, 1),
        ((2, 8, 40, 40), 1, 4),
        ((200, 256, 2), 1, 32),
        ((2, 40_000), 1, 20_000),
        ((2, 40_000, 2), 1, 1),
        ((1, 2, 2, 2, 2, 2, 2, 2), 1, 1),
    ],
)
def test_groups(shape, axis, groups, dtype):
    rng = np.random.default_rng(2)
    x, dy = rng.normal(2.0, 3.0, (2, *shape)).astype(dtype)
    check_groups(x, dy, groups, axis, np.empty_like(x))


@pytest.mark.parametrize("size", [(6, 5), (6, 50, 60)])
@pytest.mark.parametrize("samples", [1, 40])
@pytest.mark.parametrize("groups", [1, 3])
def test_samples_at_any_distance(size, samples, groups):
    rng = np.random.default_rng(3)
    wide = rng.normal(2.0, 3.0, (3, samples, 2 * size[0], *size[1:])).astype(np.float32)
    x, dy, y = wide[:, :, : size[0]]
    check_groups(x, dy, groups, 1, y)
    check_groups(x[::-1], dy[::-1], groups, 1, y[::-1])
    wide = rng.normal(2.0, 3.0, (3, 4 * samples, 1, *size[1:])).astype(np.float32)
    check_groups(*wide[:2, ::4], 1, 1, wide[2, ::4])


@pytest.mark.parametrize(
    ("order", "axis"), [((0, 2, 3, 1), -1), ((1, 0, 2, 3), 0), ((0, 2, 1, 3), 2)]
)
def test_channels_on_another_axis(order, axis):
    """Of memory in which samples come first and then channels."""
    rng = np.random.default_rng(4)
    x, dy, y = (
        each.transpose(order) for each in rng.normal(size=(3, 5, 6, 4, 3)).astype(np.float32)
    )
    check_groups(x, dy, 2, axis, y)


def test_instance_norm():
    x = np.random.default_rng(5).normal(size=(3, 4, 30)).astype(np.float32)
    states, y = np.empty((7, 12)), np.empty_like(x)
    call("group_norm", x, 1, 4, None, None, 1e-5, y, states)
    expected, moments = f.instance_norm(x)
    same_bits(y, expected)
    same_bits(states, moments.parts)


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_threads_and_results_in_place(threads):
    rng = np.random.default_rng(6)
    x, dy = rng.normal(size=(2, 16, 32, 28, 28)).astype(np.float32)
    check_groups(x, dy, 8, 1, np.empty_like(x), threads=threads)
    states, y = np.empty((7, 128)), x.copy()
    call("group_norm", y, 1, 8, None, None, 1e-5, y, states, threads=threads)
    expected, moments = f.group_norm(x, 8)
    same_bits(y, expected)
    dx = f.group_norm_backward(dy, x, moments, 8)[0]
    for target in (0, 1):
        both = [dy.copy(), x.copy()]
        call(
            "group_norm_backward", *both, 1, 8, states, None, 1e-5, both[target], None, None,
            threads=threads,
        )  # fmt: skip
        same_bits(both[target], dx)


def test_no_samples():
    x, vectors = np.empty((0, 4, 3), np.float32), np.full((2, 4), np.nan)
    call("group_norm", x, 1, 2, None, None, 1e-5, x.copy(), np.empty((7, 0)))
    call("group_norm_backward", x, x.copy(), 1, 2, np.empty((7, 0)), None, 1e-5, x.copy(), *vectors)
    assert not vectors.any()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_groups_of_any_size(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    groups, per_group = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 300))
    shape = (data.draw(st.integers(1, 30)), groups * per_group, data.draw(st.integers(1, 4)))
    x, dy = rng.normal(1.0, 1.0, (2, *shape)).astype(data.draw(st.sampled_from(DTYPES)))
    if data.draw(st.booleans()):
        x[0, 0, 0] = data.draw(st.sampled_from([np.inf, np.nan, 0.0]))
    check_groups(x, dy, groups, 1, np.empty_like(x))


# -- weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "order", "axis"),
    [
        ((50, 7), (0, 1), 1),
        ((50, 7), (1, 0), 1),
        ((7, 50), (0, 1), 0),
        ((4000, 3), (0, 1), -1),
        ((3, 5, 4, 6), (0, 1, 2, 3), 1),
        ((3, 5, 4, 6), (0, 2, 3, 1), 1),
        ((3, 4, 6, 40), (0, 1, 2, 3), -1),
        ((2, 64, 40, 40), (0, 1, 2, 3), 1),
        ((3000, 1), (0, 1), 1),
    ],
)
def test_weighted_moments(shape, order, axis, dtype):
    rng = np.random.default_rng(7)
    x = rng.normal(3.0, 1.0, [shape[i] for i in order]).astype(dtype).transpose(np.argsort(order))
    positions = tuple(np.delete(shape, axis))
    x[np.unravel_index(0, shape)] = np.nan
    states = np.full((7, shape[axis]), np.nan)
    for weights in (
        rng.uniform(0.0, 3.0, positions),
        rng.integers(0, 2, positions).astype(np.float32),
        np.broadcast_to(rng.uniform(size=(positions[0], *[1] * (len(positions) - 1))), positions),
        rng.uniform(size=(*positions, 2))[..., 1],
    ):
        for skipna in (True, False):
            expected = f.moments(x, channel_axis=axis, weights=weights, skipna=skipna)
            call("weighted_moments", x, axis, weights, skipna, states)
            same_bits(states, expected.parts)


@pytest.mark.parametrize(
    ("shape", "axis", "order"),
    [
        ((2, 3, 4, 5), 1, (0, 1, 2)),
        ((5, 3, 4, 5), 1, (2, 1, 0)),
        ((2, 3, 4, 5), -1, (1, 0, 2)),
        ((3, 4, 3, 4, 3), 2, (2, 3, 0, 1)),
        ((3, 4, 3, 4, 3), None, (2, 3, 0, 4, 1)),
    ],
)
def test_weights_of_any_strides(shape, axis, order):
    """Which do not merge with x to one outer and one inner run."""
    rng = np.random.default_rng(9)
    x = rng.normal(3.0, 1.0, shape)
    positions = shape if axis is None else tuple(np.delete(shape, axis))
    ordered = rng.uniform(0.0, 3.0, [positions[i] for i in order]).transpose(np.argsort(order))
    states = np.empty((7, 1 if axis is None else shape[axis]))
    weights = [ordered, ordered[::-1]]
    for fixed in range(len(positions)):  # 0 along an axis
        weights.append(np.broadcast_to(np.take(ordered, [0], axis=fixed), positions))
        weights.append(np.broadcast_to(np.take(weights[0].copy(), [0], axis=fixed), positions))
    for each in weights:
        expected = f.moments(x, channel_axis=axis, weights=each)
        call("weighted_moments", x, ALL if axis is None else axis, each, 0, states)
        same_bits(states, expected.parts)
        channels_last = x[..., None] if axis is None else np.moveaxis(x, axis, -1)
        spread = channels_last.reshape(each.size, -1)
        mean = np.average(spread, axis=0, weights=each.reshape(-1))
        np.testing.assert_allclose(nc.Moments(states).mean, mean, rtol=1e-14)


def test_weights_of_all_elements():
    rng = np.random.default_rng(8)
    x, weights = rng.normal(size=(2, 6, 5, 4))
    weights = np.abs(weights)
    states, count = np.empty((7, 1)), np.empty(1)
    call("weighted_moments", x, ALL, weights, 0, states)
    same_bits(states, f.moments(x, channel_axis=None, weights=weights).parts)
    call("summarize", 1, states, 0.0, count, None, None)
    assert abs(count - weights.sum()) < 1e-12


def test_weights_of_nothing():
    states = np.full((7, 4), np.nan)
    call("weighted_moments", np.empty((0, 4)), 1, np.empty(0), 0, states)
    assert not states.any()
    call("weighted_moments", np.full((3, 4), np.inf), 1, np.zeros(3), 0, states)
    assert nc.Moments(states).count.tolist() == [0.0] * 4
