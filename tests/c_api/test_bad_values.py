"""Numbers that a call of normcore.h cannot take are a status and a message."""

from __future__ import annotations

import numpy as np
import pytest
from c_door import ALL, FUNCTIONS, status
from c_door_calls import POINTERS
from hypothesis import given, settings
from hypothesis import strategies as st

BAD_SHAPE, BAD_STRIDES, BAD_VALUE = 3, 4, 7


@pytest.mark.parametrize("name", [each for each in FUNCTIONS if "norm" in each])
@pytest.mark.parametrize("eps", [-1e-9, np.nan, np.inf])
def test_eps(batch, name, eps):
    code, message = batch.refused(name, eps=eps)
    assert (code, "eps" in message) == (BAD_VALUE, True)


def test_values(batch):
    var = batch.arguments["given"]["var"].copy()
    var[2] = -1.0
    for name in ("given", "batch_norm_inference"):
        code, message = batch.refused(name, var=var)
        assert (code, "var is negative in channel 2" in message) == (BAD_VALUE, True)
    for ddof in (np.nan, np.inf):
        assert batch.refused("summarize", ddof=ddof)[0] == BAD_VALUE
        assert batch.refused("running", ddof=ddof)[0] == BAD_VALUE
    for weight in (-0.1, 1.1, np.nan):
        assert batch.refused("running", weight=weight)[0] == BAD_VALUE
    one = np.ones((1, 4), np.float32)
    assert batch.refused("batch_norm", x=one, y=one.copy())[0] == BAD_VALUE


@pytest.mark.parametrize(("name", "argument"), [
    (name, argument) for name, argument in POINTERS
    if (name.endswith("backward") and argument == "states") or argument == "others"
    or (name in {"merge", "summarize", "running"} and argument == "states")
])  # fmt: skip
@pytest.mark.parametrize(
    ("row", "number", "words"),
    [
        (0, np.nan, "a count that is negative or not finite, of channel 1"),
        (0, -1.0, "a count that is negative or not finite, of channel 1"),
        (0, np.inf, "a count that is negative or not finite, of channel 1"),
        (1, np.nan, "a count that is negative or not finite, of channel 1"),
        (1, -1e9, "a count that is negative or not finite, of channel 1"),
        (4, -1.0, "a negative sum of squares, of channel 1"),
        (6, 0.5, "an exponent that is no whole number of -4096 to 4096"),
        (6, np.nan, "an exponent that is no whole number of -4096 to 4096"),
        (6, np.inf, "an exponent that is no whole number of -4096 to 4096"),
        (6, -1e300, "an exponent that is no whole number of -4096 to 4096"),
        (6, 4097.0, "an exponent that is no whole number of -4096 to 4096"),
    ],
)
def test_states_that_no_data_has(batch, name, argument, row, number, words):
    states = batch.arguments[name][argument].copy()
    states[row, 1] = number
    found = batch.refused(name, **{argument: states})
    assert found == (BAD_VALUE, f"{argument} hold {words}")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_states_that_data_has_are_taken(data):
    """However large, small, constant, few or infinite their values are, and however weighted."""
    number = data.draw(st.integers(1, 40))
    values = st.one_of(st.floats(width=64), st.sampled_from([0.0, 5e-324, 1e308, 0.1]))
    x = np.array(data.draw(st.lists(values, min_size=number, max_size=number)))[:, None]
    weights = st.sampled_from([0.0, 5e-324]) | st.floats(2.0**-800, 1e6)
    weights = data.draw(st.lists(weights, min_size=number, max_size=number))
    total, part, results = np.zeros((7, 1)), np.empty((7, 1)), np.empty((3, 1))
    for start in range(0, number, 7):
        piece = x[start : start + 7].copy()
        assert status("moments", piece, 1, 0, part) == (0, "")
        assert status("merge", 1, total, part) == (0, "")
        given_weights = np.array(weights[start : start + 7])
        if given_weights.max() == 5e-324:
            given_weights[0] = 1.0
        assert status("weighted_moments", piece, 1, given_weights, 1, part) == (0, "")
        assert status("merge", 1, part, total) == (0, "")
        assert status("merge", 1, total, part) == (0, "")
    assert status("summarize", 1, total, 1.0, *results) == (0, "")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("threads", [-1, -(2**31)])
def test_numbers_of_threads(batch, name, threads):
    assert batch.refused(name, threads=threads) == (BAD_VALUE, f"num_threads is {threads}")


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf, -np.inf])
def test_weights(batch, weight):
    weights = np.arange(6.0)
    weights[4] = weight
    code, message = batch.refused("weighted_moments", weights=weights)
    assert code == BAD_VALUE
    assert message == "weights hold a number that is negative or not finite"
    many = np.zeros((3, 1000, 4), np.float32)
    weights = np.ones((3, 1000))
    weights[2, 999] = weight
    states = np.empty((7, 4))
    assert status("weighted_moments", many, 2, weights, 0, states)[0] == BAD_VALUE
    for shape in ((5,), (6, 4), (6, 1), ()):
        code, message = batch.refused("weighted_moments", weights=np.ones(shape))
        assert (code, "weights" in message) == (BAD_SHAPE, True)


@pytest.mark.parametrize(
    ("values", "weight"),
    [
        ([1.0, 2.0, 4.0], 1e308),
        ([1.0, 2.0, 4.0], 1e307),
        ([1.0, 2.0, 4.0], 1e-250),
        ([1.0, 2.0, 4.0], 5e-324),
        ([1e300, 2e300, 0.0], 1e-320),
        ([1e10, 2e10, 4e10], 1e307),
    ],
)
def test_weights_whose_products_float64_cannot_hold(values, weight):
    x, weights, states = np.array(values)[:, None], np.full(3, weight), np.full((7, 1), 9.0)
    large = weight > 1.0
    code, message = status("weighted_moments", x, 1, weights, 0, states)
    assert code == BAD_VALUE
    assert message.startswith(f"weights are so {'large' if large else 'small'} that")
    assert (states == 9.0).all()


def test_infinity_of_data_is_not_that_of_weights():
    """It propagates, but for where it weighs nothing, or is NaN that is skipped."""
    x = np.array([[np.inf, np.nan, 1e10], *([each * 1e10] * 3 for each in (1.0, 2.0, 4.0))])
    states = np.full((7, 3), 9.0)
    heavy = np.full(4, 1e307)
    for channel, skipna, code in ((0, 1, 0), (1, 0, 0), (1, 1, BAD_VALUE), (2, 0, BAD_VALUE)):
        one = x[:, channel : channel + 1]
        assert status("weighted_moments", one, 1, heavy, skipna, np.empty((7, 1)))[0] == code
    assert status("weighted_moments", x, 1, heavy, 0, states)[0] == BAD_VALUE
    assert (states == 9.0).all()
    heavy[0] = 0.0
    assert status("weighted_moments", x[:, :1], 1, heavy, 0, np.empty((7, 1)))[0] == BAD_VALUE
    assert status("weighted_moments", x, 1, np.ones(4), 0, states)[0] == 0
    assert np.isfinite(states[:, 2]).all()


def test_weights_of_no_channels():
    for weight, code in ((-1.0, BAD_VALUE), (np.nan, BAD_VALUE), (1.0, 0)):
        weights = np.array([1.0, weight, 1.0])
        found = status("weighted_moments", np.empty((3, 0)), 1, weights, 0, np.empty((7, 0)))
        assert found[0] == code


@pytest.mark.parametrize("name", ["group_norm", "group_norm_backward"])
def test_groups(batch, name):
    for number in (0, -1, 3, 8, -(2**63)):
        code, message = batch.refused(name, num_groups=number)
        assert (code, f"num_groups, {number}" in message) == (BAD_SHAPE, True)
    for axis in (2, -3, ALL, 2**31 - 1):
        code, message = batch.refused(name, axis=axis)
        assert (code, str(axis) in message) == (BAD_SHAPE, True)
    code, message = batch.refused(name, **{
        each: np.ones(4, np.float32) for each in ("dy", "x", "y", "dx")
        if each in batch.arguments[name]
    })  # fmt: skip
    assert (code, "2 axes or more" in message) == (BAD_SHAPE, True)
    images = [np.ones((2, 5, 6, 4), np.float32).transpose(0, 3, 1, 2) for _ in range(3)]
    states, tail = np.zeros((7, 4)), (np.ones((2, 4, 0), np.float32),) * 2
    if name == "group_norm":
        found = status(name, images[0], 1, 2, None, None, 1e-5, images[1], states)
        none = status(name, tail[0], 1, 2, None, None, 1e-5, tail[1], states)
    else:
        found = status(name, *images[:2], 1, 2, states, None, 1e-5, images[2], None, None)
        none = status(name, *tail, 1, 2, states, None, 1e-5, tail[0], None, None)
    assert (found[0], "in C order, channels first; copy it" in found[1]) == (BAD_STRIDES, True)
    assert (none[0], "have no values" in none[1]) == (BAD_SHAPE, True)


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("channels_first", [False, True])
def test_groups_of_no_channels(samples, channels_first):
    shape = (0, samples, 5) if channels_first else (samples, 0, 5)
    axis = 0 if channels_first else 1
    x, y, dx = np.empty((3, *shape))
    states = np.empty((7, samples))
    for found in (
        status("group_norm", x, axis, 1, None, None, 1e-5, y, states),
        status("group_norm_backward", y, x, axis, 1, states, None, 1e-5, dx, None, None),
    ):
        assert found[0] == BAD_SHAPE
        assert "has 0 channels, which do not make up num_groups, 1" in found[1]
