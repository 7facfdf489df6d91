"""Any strides of any operand give what contiguous copies give."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from functional_examples import plain_batch_norm
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal
from placements import copied, placements

import normcore as nc
from normcore import functional

DTYPES = (np.float32, np.float64)


@st.composite
def calls(draw):
    """Return the operands of batch norm, each placed by itself."""
    shape = tuple(draw(st.sampled_from([1, 2, 3, 5, 17])) for _ in range(draw(st.integers(2, 4))))
    axis = draw(st.integers(0, len(shape) - 1))
    dtype = draw(st.sampled_from(DTYPES))
    x, dy = (draw(placements(shape, dtype)) for _ in range(2))
    gamma, beta, mean, var = (draw(placements((shape[axis],), np.float64)) for _ in range(4))
    rest = shape[:axis] + shape[axis + 1 :]
    mask = draw(st.none() | placements(rest, np.float64))
    mask = None if mask is None else mask > -1.0
    if mask is not None and draw(st.booleans()):
        mask = np.broadcast_to(mask[:1], rest)
    return axis, x, dy, gamma, beta, mean, np.abs(var), mask


def close(found, expected, dtype):
    tolerance = 1e-10 if dtype == np.float64 else 1e-5
    assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["cpu", "reference"])
@given(calls())
def test_batch_norm(name, call):
    axis, *operands = call
    options = {"axis": axis, "eps": 0.1, "backend": name}
    x, dy, gamma, beta, mean, var, mask = operands
    assert_array_equal(
        functional.batch_norm_inference(x, mean, var, gamma, beta, mask=mask, **options),
        functional.batch_norm_inference(
            *copied(x, mean, var, gamma, beta), mask=copied(mask)[0], **options
        ),
    )
    kept = np.full(x.size // x.shape[axis], True) if mask is None else mask.reshape(-1)
    if np.count_nonzero(kept) < 2:
        return
    wide = np.moveaxis(x, axis, -1).reshape(kept.size, -1).astype(np.float64)[kept]
    results = []
    for x, dy, gamma, beta, _, _, mask in (operands, copied(*operands)):
        y, moments = functional.batch_norm(x, gamma, beta, mask=mask, **options)
        close(moments.mean, wide.mean(0), np.float64)
        close(moments.var(), wide.var(0), np.float64)
        found = [y]
        for training in (True, False):
            found += functional.batch_norm_backward(
                dy, x, moments, gamma, beta, mask=mask, training=training, **options
            )
        results.append(found)
    for found, expected in zip(*results, strict=True):
        close(found, expected, x.dtype)
    if mask is None:
        close(results[0][0], plain_batch_norm(x, axis, gamma, beta, 0.1), x.dtype)


@pytest.mark.parametrize("name", ["cpu", "reference"])
@given(calls(), st.data())
def test_statistics(name, call, data):
    axis, x, *_ = call
    rest = x.shape[:axis] + x.shape[axis + 1 :]
    weights = np.abs(data.draw(placements(rest, np.float32)))
    options = {"channel_axis": axis, "backend": name}
    for given_weights in (None, weights):
        found, expected = (
            functional.moments(a, weights=w, **options)
            for a, w in ((x, given_weights), copied(x, given_weights))
        )
        close(found.mean, expected.mean, np.float64)
        close(found.var(), expected.var(), np.float64)
        found, expected = (
            functional.quantiles(a, [0.1, 0.5, 1.0], weights=w, **options).values
            for a, w in ((x, given_weights), copied(x, given_weights))
        )
        assert_array_equal(found, expected)
    wide = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    extrema = functional.extrema(x, **options)
    assert_array_equal(extrema.min, wide.min(1))
    assert_array_equal(extrema.max, wide.max(1))


@pytest.mark.parametrize("name", ["cpu", "reference"])
@given(calls(), st.data())
def test_samples(name, call, data):
    axis, x, dy, gamma, beta, *_ = call
    options = {"eps": 0.1, "backend": name}
    num_axes = data.draw(st.integers(1, x.ndim))
    scale, shift = (data.draw(placements(x.shape[-num_axes:], np.float64)) for _ in range(2))

    def of_rows(x, dy, scale, shift):
        y, moments = functional.layer_norm(x, scale, shift, num_axes=num_axes, **options)
        z, squares = functional.rms_norm(x, scale, num_axes=num_axes, **options)
        return (
            y, z,
            *functional.layer_norm_backward(dy, x, moments, scale, num_axes=num_axes, **options),
            *functional.rms_norm_backward(dy, x, squares, scale, num_axes=num_axes, **options),
        )  # fmt: skip

    def of_channels(x, dy, gamma, beta):
        y, moments = functional.instance_norm(x, gamma, beta, axis=axis, **options)
        return y, *functional.instance_norm_backward(dy, x, moments, gamma, axis=axis, **options)

    for function, operands in (
        (of_rows, (x, dy, scale, shift)),
        (of_channels, (x, dy, gamma, beta)),
    ):
        for found, expected in zip(function(*operands), function(*copied(*operands)), strict=True):
            close(found, expected, x.dtype)


@pytest.mark.parametrize("how", ["virtual", "groups"])
@pytest.mark.parametrize("order", ["broadcast", "reversed"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_parts(backend, how, order, axis):
    row = np.arange(4.0).reshape((1, 1, 4, 1) if axis != 2 else (1, 1, 1, 4))
    x = np.broadcast_to(row, (4, 4, 4, 4))
    if order == "reversed":
        x = np.asfortranarray(np.random.default_rng(0).normal(size=(4, 4, 4, 4)))
    options = {"virtual": {"virtual_batch_size": 2}, "groups": {"groups": [0, 1, 0, 1]}}[how]
    y, parts = functional.batch_norm(x, axis=axis, **options)
    expected, others = functional.batch_norm(x.copy(), axis=axis, **options)
    assert_allclose(y, expected, rtol=1e-12)
    dy = np.broadcast_to(np.sin(np.arange(4.0)), x.shape)
    results = [
        functional.batch_norm_backward(*operands, axis=axis, **options)
        for operands in ((dy, x, parts), (dy.copy(), x.copy(), others))
    ]
    for found, right in zip(*results, strict=True):
        assert_allclose(found, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 16, 40])
@pytest.mark.parametrize("dtype", [np.float16, *DTYPES, np.int16])
def test_scalers_of_overlapping_windows(backend, width, dtype):
    series = (np.random.default_rng(3).normal(size=5000) * 100).astype(dtype)
    windows = sliding_window_view(series, width)
    for x in (windows, windows[::-1, ::-1], np.broadcast_to(series[:, None], (5000, width))):
        for cls in (nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler, nc.MaxAbsScaler):
            found, expected = cls().fit(x), cls().fit(x.copy())
            assert_allclose(found.scale_, expected.scale_, rtol=1e-14)
            assert_array_equal(expected.transform(x), expected.transform(x.copy()))
        assert_allclose(nc.StandardScaler().fit(x).mean_, x.mean(0, np.float64), atol=1e-11)


def test_out_of_another_type_of_array(tmp_path):
    """A file's memory is an array like any other."""
    x = np.memmap(tmp_path / "x", np.float64, "w+", shape=(4, 3, 5))
    x[...] = np.random.default_rng(0).normal(size=x.shape)
    expected, moments = functional.batch_norm(np.array(x))
    for each in (x, x.transpose(2, 1, 0)):
        y, _ = functional.batch_norm(each, out=np.empty_like(each, subok=False))
        assert_allclose(y.transpose(2, 1, 0) if each is not x else y, expected, rtol=1e-12)
        dx, _, _ = functional.batch_norm_backward(each, each, moments)
        assert type(dx) is np.ndarray


@pytest.mark.parametrize(
    ("shape", "steps", "fits"),
    [
        ((4, 3), (0, 1), False),
        ((4, 3), (3, 0), False),
        ((4, 3), (1, 1), False),
        ((4, 3), (2, 1), False),
        ((4, 3), (-3, 1), True),
        ((2, 3), (3, 2), True),  # 0 2 4 and 3 5 7
        ((3, 2), (4, 6), True),
        ((4, 2), (2, 6), False),  # 6 twice
        ((1, 3), (0, 1), True),
    ],
)
def test_out_that_overlaps_itself_is_refused(backend, shape, steps, fits):
    memory = np.zeros(64)
    out = as_strided(memory[32:], shape, [8 * each for each in steps])
    x = np.random.default_rng(0).normal(size=shape)
    x = x.copy(order="F") if abs(steps[0]) < abs(steps[1]) else x
    mean, var = np.zeros(shape[1]), np.full(shape[1], 4.0)
    if fits:
        functional.batch_norm_inference(x, mean, var, out=out)
        assert_array_equal(out, functional.batch_norm_inference(x, mean, var))
        return
    for call in (
        lambda: functional.batch_norm_inference(x, mean, var, out=out),
        lambda: functional.batch_norm(x, out=out),
        lambda: functional.layer_norm(x, out=out),
        lambda: nc.StandardScaler().fit(x).transform(x, out=out),
    ):
        with pytest.raises(ValueError, match="out overlaps itself"):
            call()
    assert not memory.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_expanded_tensors(dtype):
    """PyTorch's own batch norm, for every set of axes that have a stride of 0."""
    torch = pytest.importorskip("torch")
    normcore_torch = pytest.importorskip("normcore.torch")
    kind, shape = getattr(torch, dtype), (3, 4, 2, 5)
    tolerance = {"rtol": 2e-5, "atol": 2e-5} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    generator = torch.Generator().manual_seed(0)
    for kept in itertools.product([True, False], repeat=4):
        own = [size if keep else 1 for size, keep in zip(shape, kept, strict=True)]
        if not any((kept[0], kept[2], kept[3])):
            continue  # constant channels
        ours = normcore_torch.BatchNorm2d(4, dtype=kind)
        theirs = torch.nn.BatchNorm2d(4, dtype=torch.float64)
        small = torch.randn(own, generator=generator, dtype=kind)
        upstream = torch.randn(own, generator=generator, dtype=kind)
        results = []
        for layer, used in ((ours, kind), (theirs, torch.float64)):
            x = small.to(used).expand(shape).requires_grad_()
            y = layer(x)
            y.backward(upstream.to(used).expand(shape))
            results.append((y, x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean))
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected.to(kind), **tolerance)
