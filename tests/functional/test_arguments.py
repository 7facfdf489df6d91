"""What functions of arrays take besides x: out, masks, and what they refuse."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from functional_examples import example
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc
from normcore import functional

# -- out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_out(backend, dtype, axis):
    x = example((4, 3, 5), dtype=dtype)
    y, moments = functional.batch_norm(x, axis=axis)
    out = np.full((4, 6, 10), 7, dtype)[:, ::2, ::2]
    assert functional.batch_norm(x, axis=axis, out=out)[0] is out
    assert_array_equal(out, y)
    in_place = x.copy()
    assert functional.batch_norm(in_place, axis=axis, out=in_place)[0] is in_place
    assert_array_equal(in_place, y)

    mean, var = moments.mean, moments.var()
    out = np.empty_like(x)
    assert functional.batch_norm_inference(x, mean, var, axis=axis, out=out) is out
    assert_array_equal(out, y)

    dy = example((4, 3, 5), seed=5, dtype=dtype)
    dx, _, _ = functional.batch_norm_backward(dy, x, moments, axis=axis)
    out = np.empty_like(x)
    assert functional.batch_norm_backward(dy, x, moments, axis=axis, out=out)[0] is out
    assert_array_equal(out, dx)
    for target in ("dy", "x"):
        arrays = {"dy": dy.copy(), "x": x.copy()}
        functional.batch_norm_backward(**arrays, moments=moments, axis=axis, out=arrays[target])
        assert_array_equal(arrays[target], dx)


def test_out_does_not_fit(backend):
    x = example((6, 3), dtype=np.float32)
    frozen = np.empty_like(x)
    frozen.flags.writeable = False
    mean, var = np.zeros(3), np.ones(3)
    for out, error in (
        (np.empty((3, 6), np.float32), ValueError),
        (np.empty((6, 3), np.float64), TypeError),
        (np.empty((6, 3), np.int64), TypeError),
        (np.empty((6, 3), ">f4"), TypeError),
        (frozen, ValueError),
        (np.empty_like(x, order="F"), ValueError),
        ([[0.0] * 3] * 6, TypeError),
    ):
        with pytest.raises(error, match="out"):
            functional.batch_norm(x, out=out)
        with pytest.raises(error, match="out"):
            functional.batch_norm_inference(x, mean, var, out=out)
        with pytest.raises(error, match="out"):
            functional.batch_norm_backward(x, x, nc.Moments.of(6, mean, var), out=out)


def test_out_overlaps_in_part(backend):
    buffer = example((7, 3))
    before = buffer.copy()
    with pytest.raises(ValueError, match="overlap"):
        functional.batch_norm(buffer[1:], out=buffer[:-1])
    assert_array_equal(buffer, before)


# -- masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("training", [True, False])
def test_mask_of_samples(backend, activation, training):
    x, dy = example((12, 3, 4)), example((12, 3, 4), seed=7)
    mask = np.arange(12) % 3 != 1
    gamma, beta = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, -1.0])
    options = {"activation": activation}
    y, moments = functional.batch_norm(x, gamma, beta, mask=mask, **options)
    expected, compressed = functional.batch_norm(x[mask], gamma, beta, **options)
    assert_array_equal(moments.count, compressed.count)
    assert_allclose(y[mask], expected, rtol=1e-13, atol=1e-14)
    assert_array_equal(y[~mask], np.zeros_like(y[~mask]))
    options["training"] = training
    gradients = functional.batch_norm_backward(dy, x, moments, gamma, beta, mask=mask, **options)
    expected = functional.batch_norm_backward(dy[mask], x[mask], compressed, gamma, beta, **options)
    assert_allclose(gradients[0][mask], expected[0], rtol=1e-12, atol=1e-13)
    assert_array_equal(gradients[0][~mask], 0)
    assert_allclose(gradients[1], expected[1], rtol=1e-12)
    assert_allclose(gradients[2], expected[2], rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_mask_of_positions(backend, axis):
    x, dy = example((4, 3, 5, 2)), example((4, 3, 5, 2), seed=7)
    rows, gradient_rows = (
        np.moveaxis(each, axis, -1).reshape(-1, x.shape[axis]) for each in (x, dy)
    )
    rest = np.delete(x.shape, axis)
    mask = np.random.default_rng(8).random(rest) < 0.6
    gamma = np.linspace(1, 2, x.shape[axis])
    y, moments = functional.batch_norm(x, gamma, axis=axis, mask=mask)
    expected, compressed = functional.batch_norm(rows[mask.ravel()], gamma)
    y = np.moveaxis(y, axis, -1)
    assert_allclose(y[mask], expected, rtol=1e-12, atol=1e-13)
    assert_array_equal(y[~mask], 0)
    dx, dgamma, dbeta = functional.batch_norm_backward(dy, x, moments, gamma, axis=axis, mask=mask)
    expected = functional.batch_norm_backward(
        gradient_rows[mask.ravel()], rows[mask.ravel()], compressed, gamma
    )
    dx = np.moveaxis(dx, axis, -1)
    assert_allclose(dx[mask], expected[0], rtol=1e-11, atol=1e-13)
    assert_array_equal(dx[~mask], 0)
    assert_allclose(dgamma, expected[1], rtol=1e-12)
    assert_allclose(dbeta, expected[2], rtol=1e-12)


@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e300])
def test_masked_values_do_not_matter(backend, padding):
    x, dy = example((6, 3, 4)), example((6, 3, 4), seed=7)
    mask = np.arange(24).reshape(6, 4) % 5 != 0
    where = np.broadcast_to(~mask[:, None, :], x.shape)
    y, moments = functional.batch_norm(x, mask=mask)
    gradients = functional.batch_norm_backward(dy, x, moments, mask=mask)
    x[where] = dy[where] = padding
    padded, statistic = functional.batch_norm(x, mask=mask)
    assert_allclose(padded, y, rtol=1e-13, atol=1e-15)
    results = functional.batch_norm_backward(dy, x, statistic, mask=mask)
    for found, expected in zip(results, gradients, strict=True):
        assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_mask_in_place(backend):
    x = example((6, 3))
    mask = np.arange(6) < 4
    y, _ = functional.batch_norm(x, mask=mask)
    functional.batch_norm(x, mask=mask, out=x)
    assert_array_equal(x, y)


def test_inference_mask(backend):
    x = example((6, 3))
    mask = np.arange(6) < 4
    y = functional.batch_norm_inference(x, np.zeros(3), np.ones(3), None, np.ones(3), mask=mask)
    assert_array_equal(y[4:], 0)
    assert_array_equal(
        y[:4], functional.batch_norm_inference(x[:4], np.zeros(3), np.ones(3), None, np.ones(3))
    )


# -- bad input -----------------------------------------------------------------------------


GOOD = {"x": np.arange(12.0).reshape(4, 3)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": np.arange(4.0)}, ValueError, "2 dimensions"),
        ({"x": np.array(3.0)}, ValueError, "2 dimensions"),
        ({"x": np.ones((4, 3), complex)}, TypeError, "complex"),
        ({"x": np.array([["a", "b"], ["c", "d"]])}, TypeError, "<U1|str"),
        ({"x": np.array([[None, 1], [2, 3]])}, TypeError, "object"),
        ({"x": np.ma.masked_array(np.ones((4, 3)), np.eye(4, 3))}, TypeError, "masked"),
        ({"x": np.ones((1, 3))}, ValueError, "at least 2 values"),
        ({"x": np.ones((1, 3, 1))}, ValueError, "at least 2 values"),
        ({"axis": 2}, ValueError, "axis 2"),
        ({"axis": -3}, ValueError, "axis -3"),
        ({"axis": None}, TypeError, "axis must be an integer, not None"),
        ({"axis": 1.0}, TypeError, "axis must be an integer, not 1.0"),
        ({"gamma": np.ones(4)}, ValueError, "gamma"),
        ({"gamma": 1.0}, ValueError, "gamma"),
        ({"gamma": np.ones(3, complex)}, TypeError, "gamma"),
        ({"beta": np.ones((3, 1))}, ValueError, "beta"),
        ({"beta": ["a", "b", "c"]}, TypeError, "beta"),
        ({"eps": -1e-5}, ValueError, "eps"),
        ({"eps": np.nan}, ValueError, "eps"),
        ({"eps": "1e-5"}, TypeError, "eps"),
        ({"activation": "gelu"}, ValueError, "activation"),
        ({"mask": np.ones(3, bool)}, ValueError, "mask"),
        ({"mask": np.ones((4, 3), bool)}, ValueError, "mask"),
        ({"mask": np.ones(4)}, TypeError, "mask"),
        ({"mask": [True, False, False, False]}, ValueError, "under the mask"),
    ],
)
def test_bad_input(backend, changes, error, message):
    out = np.full((4, 3), 7.0)
    arguments = {**GOOD, **changes}
    if np.shape(arguments["x"]) == out.shape:
        arguments["out"] = out
    with pytest.raises(error, match=message):
        functional.batch_norm(**arguments)
    assert_array_equal(out, 7.0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mean": np.zeros(2)}, ValueError, "mean"),
        ({"var": np.ones(4)}, ValueError, "var"),
        ({"var": np.array([1.0, -1.0, 1.0])}, ValueError, "negative in channel 1"),
        ({"eps": -0.1}, ValueError, "eps"),
    ],
)
def test_bad_input_of_inference(changes, error, message):
    arguments = {**GOOD, "mean": np.zeros(3), "var": np.ones(3), **changes}
    with pytest.raises(error, match=message):
        functional.batch_norm_inference(**arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dy": np.ones((3, 4))}, ValueError, "dy has shape"),
        ({"dy": np.ones((4, 3, 1))}, ValueError, "dy has shape"),
        ({"dy": np.ones((4, 3), np.float32)}, TypeError, "dy has dtype float32"),
        ({"dy": np.ones((4, 3), complex)}, TypeError, "complex"),
        ({"gamma": np.ones(2)}, ValueError, "gamma"),
        ({"moments": nc.Moments.of(4, np.zeros(2), np.ones(2))}, ValueError, "2 channels"),
        ({"eps": -1}, ValueError, "eps"),
        ({"activation": "tanh"}, ValueError, "activation"),
    ],
)
def test_bad_input_of_backward(changes, error, message):
    moments = functional.moments(GOOD["x"], channel_axis=1)
    out = np.full((4, 3), 7.0)
    arguments = {**GOOD, "dy": np.ones((4, 3)), "moments": moments, "out": out, **changes}
    with pytest.raises(error, match=message):
        functional.batch_norm_backward(**arguments)
    assert_array_equal(out, 7.0)


# -- no channels -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 0), 1), ((0, 3), 0), ((2, 0, 4), 1), ((2, 4, 0), -1)]
)
@pytest.mark.parametrize("of", ["samples", "positions"])
def test_no_channels_under_weights_and_masks(backend, shape, axis, of):
    x = np.zeros(shape)
    rest = tuple(np.delete(shape, axis))
    ones = np.ones(rest[:1] if of == "samples" and axis != 0 else rest)
    moments = functional.moments(x, channel_axis=axis, weights=ones)
    assert moments.mean.shape == moments.var().shape == moments.count.shape == (0,)
    assert functional.quantiles(x, [0.5, 1], channel_axis=axis, weights=ones).values.shape == (2, 0)
    for order in "CF":
        x = np.zeros(shape, order=order)
        y, found = functional.batch_norm(x, axis=axis, mask=ones > 0)
        assert y.shape == shape
        assert found.num_channels == 0
        none = np.zeros(0)
        assert (
            functional.batch_norm_inference(x, none, none, axis=axis, mask=ones > 0).shape == shape
        )
        dx, dgamma, dbeta = functional.batch_norm_backward(x, x, found, axis=axis, mask=ones > 0)
        assert (dx.shape, dgamma.shape, dbeta.shape) == (shape, (0,), (0,))


# -- numbers that no float64 holds -----------------------------------------------------------

HUGE = 10**400
LAYER = nc.BatchNorm(2)


@pytest.mark.parametrize("huge", [HUGE, -HUGE, Fraction(HUGE, 3)])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("eps", lambda huge, x: functional.batch_norm(x, eps=huge)),
        ("eps", lambda huge, x: functional.batch_norm_inference(x, [0, 0], [1, 1], eps=huge)),
        ("eps", lambda huge, x: functional.layer_norm(x, eps=huge)),
        ("eps", lambda huge, x: nc.BatchNorm(2, eps=huge)),
        ("eps", lambda huge, x: nc.GroupNorm(1, 2, eps=huge)),
        ("gamma", lambda huge, x: functional.batch_norm(x, [huge, 1])),
        ("beta", lambda huge, x: functional.layer_norm(x, None, [huge, 1])),
        ("mean", lambda huge, x: functional.batch_norm_inference(x, [huge, 1], [1, 1])),
        ("var", lambda huge, x: functional.batch_norm_inference(x, [0, 1], [huge, 1])),
        ("mask", lambda huge, x: functional.batch_norm(x, mask=[huge, 1, 1])),
        ("weights", lambda huge, x: functional.moments(x, channel_axis=1, weights=[huge, 1, 1])),
        ("weights", lambda huge, x: functional.quantiles(x, 1, channel_axis=1, weights=[huge] * 3)),
        ("q", lambda huge, x: functional.quantiles(x, huge, channel_axis=1)),
        ("q", lambda huge, x: functional.quantiles(x, [0.5, huge], channel_axis=1)),
        ("r_max", lambda huge, x: nc.BatchNorm(2, r_max=huge, d_max=0)),
        ("d_max", lambda huge, x: nc.BatchNorm(2, r_max=2, d_max=huge)),
        ("momentum", lambda huge, x: nc.BatchNorm(2, momentum=huge)),
        ("momentum", lambda huge, x: nc.InstanceNorm(2, momentum=huge, track_running_stats=True)),
        ("decay", lambda huge, x: nc.BatchNorm(2, decay=huge)),
        ("ddof", lambda huge, x: nc.BatchNorm(2, ddof=huge)),
        ("ddof", lambda huge, x: functional.moments(x, channel_axis=1).var(huge)),
        ("ddof", lambda huge, x: functional.moments(x, channel_axis=1).std(huge)),
        ("weight", lambda huge, x: nc.Moments.of(3, 1, [1, 1]).running([0, 0], [1, 1], huge)),
        ("axis", lambda huge, x: functional.batch_norm(x, axis=huge)),
        ("num_features", lambda huge, x: nc.BatchNorm(huge)),
        ("num_groups", lambda huge, x: functional.group_norm(x, huge)),
        ("num_axes", lambda huge, x: functional.layer_norm(x, num_axes=huge)),
        ("gamma", lambda huge, x: setattr(nc.BatchNorm(2), "gamma", [huge, 1])),
        ("running_var", lambda huge, x: setattr(LAYER, "running_var", [huge, 1])),
        ("gamma", lambda huge, x: setattr(nc.LayerNorm(2), "gamma", [huge, 1])),
        ("num_batches_tracked", lambda huge, x: setattr(LAYER, "num_batches_tracked", huge)),
        ("virtual_batch_size", lambda huge, x: nc.BatchNorm(2, virtual_batch_size=-abs(huge))),
    ],
)  # fmt: skip
def test_numbers_beyond_float64_are_refused_by_name(huge, name, call):
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
        call(huge, np.arange(6.0).reshape(3, 2))
