"""Any array and axis as (N, C, S) views, without copies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import layout
from normcore.affine import Affine
from normcore.array_backend import over_views
from normcore.array_backend.selection import get_backend


def arrangements(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the same values in different memory."""
    doubled = x
    for axis in range(x.ndim):
        doubled = np.repeat(doubled, 2, axis=axis)
    return {
        "C": np.ascontiguousarray(x),
        "F": np.asfortranarray(x),
        "strided": doubled[(slice(None, None, 2),) * x.ndim],
        "reversed": np.ascontiguousarray(x[(slice(None, None, -1),) * x.ndim])[
            (slice(None, None, -1),) * x.ndim
        ],
        "broadcast": np.broadcast_to(x[:1], x.shape),
    }


SHAPES = [(5, 3), (1, 4), (6, 1), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 1, 2), (1, 1, 1), (3, 2, 1, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_views_cover_every_element_once_without_copying(shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=float).reshape(shape)
    for axis, (name, array) in itertools.product(range(x.ndim), arrangements(x).items()):
        by_channel: list[list[float]] = [[] for _ in range(shape[axis])]
        for (view,) in layout.views(axis, array):
            assert view.ndim == 3
            assert view.shape[1] == shape[axis]
            assert np.shares_memory(view, array), name
            for channel in range(shape[axis]):
                by_channel[channel] += view[:, channel].ravel().tolist()
        expected = np.moveaxis(array, axis, 0).reshape(shape[axis], -1)
        assert [sorted(each) for each in by_channel] == [sorted(each) for each in expected], name


def test_known_layouts() -> None:
    def shape_of(x: np.ndarray, axis: int | None) -> tuple[int, ...]:
        ((view,),) = layout.views(axis, x)
        return view.shape

    nchw = np.zeros((2, 3, 4, 5))
    assert shape_of(np.zeros((7, 3)), 1) == (7, 3, 1)
    assert shape_of(np.zeros((7, 3), order="F"), 1) == (1, 3, 7)
    assert shape_of(nchw, 1) == (2, 3, 20)
    assert shape_of(nchw.transpose(0, 2, 3, 1), 3) == (2, 3, 20)
    assert shape_of(np.zeros((2, 4, 5, 3)), -1) == (40, 3, 1)
    assert shape_of(nchw, None) in {(1, 1, 120), (120, 1, 1)}


def test_views_of_several_arrays_go_together() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    y = np.asfortranarray(x)
    for axis in range(3):
        for a, b in layout.views(axis, x, y):
            np.testing.assert_array_equal(a, b)


@given(st.integers(1, 4), st.data())
def test_any_strides_give_the_same_statistics_and_results(ndim: int, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim + 1))
    axis = data.draw(st.integers(-ndim - 1, ndim))
    x = np.random.default_rng(0).normal(size=shape)
    order = data.draw(st.permutations(range(ndim + 1)))
    array = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    backend = get_backend("cpu")
    moments = over_views.observe(backend.moments, array, axis)
    rest = tuple(each for each in range(ndim + 1) if each != axis % (ndim + 1))
    np.testing.assert_allclose(moments.mean, x.mean(axis=rest), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(moments.var(), x.var(axis=rest), rtol=1e-12, atol=1e-15)
    y = over_views.rescale(backend, array, Affine(scale=2.0, beta=1.0), axis)
    np.testing.assert_array_equal(y, x / 2.0 + 1.0)
    assert y.strides == np.empty_like(array).strides


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0), (2, 3, 0), (2, 0, 3)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    backend = get_backend("cpu")
    x = np.empty(shape)
    moments = over_views.observe(backend.moments, x, 1)
    assert moments.num_channels == shape[1]
    assert not moments.count.any()
    assert over_views.rescale(backend, x, Affine(), 1).shape == shape


@pytest.mark.parametrize(
    ("weights", "error", "match"),
    [
        ([1.0, 2.0], ValueError, "shape"),
        ([1.0, -2.0, 1.0], ValueError, "weight 1 is -2.0"),
        ([1.0, 2.0, np.nan], ValueError, "weight 2 is nan"),
        ([np.inf, 2.0, 1.0], ValueError, "weight 0 is inf"),
        ([1.0, 2.0, 1j], TypeError, "real"),
        (["a", "b", "c"], TypeError, "real"),
    ],
)
def test_bad_weights(weights: list[object], error: type[Exception], match: str) -> None:
    backend = get_backend("cpu")
    with pytest.raises(error, match=match):
        over_views.observe(backend.moments, np.ones((3, 2)), 1, weights=weights)


def test_weights_for_samples_and_for_positions() -> None:
    backend = get_backend("cpu")
    rng = np.random.default_rng(1)
    x, per_sample = rng.normal(size=(4, 3, 5)), np.array([1.0, 0.0, 2.0, 1.0])
    per_position = np.repeat(per_sample[:, None], 5, axis=1)
    a = over_views.observe(backend.moments, x, 1, weights=per_sample)
    b = over_views.observe(backend.moments, x, 1, weights=per_position)
    assert a == b
    expected = np.average(
        x, axis=(0, 2), weights=np.broadcast_to(per_sample[:, None, None], x.shape)
    )
    np.testing.assert_allclose(a.mean, expected, rtol=1e-14)


def test_axis_out_of_range() -> None:
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        layout.positive_axis(2, 2)
    assert layout.positive_axis(-1, 3) == 2


def test_out() -> None:
    backend = get_backend("cpu")
    x = np.arange(12.0).reshape(4, 3)
    expected = x / 2
    affine = Affine(scale=2.0)
    out = np.full((8, 3), np.nan)[::2]
    assert over_views.rescale(backend, x, affine, 1, out=out) is out
    np.testing.assert_array_equal(out, expected)
    inplace = x.copy()
    assert over_views.rescale(backend, inplace, affine, 1, out=inplace) is inplace
    np.testing.assert_array_equal(inplace, expected)
    read_only = np.empty_like(x)
    read_only.flags.writeable = False
    buffer = np.zeros(15)
    for bad, error, match in [
        (np.empty((3, 4)), ValueError, "shape"),
        (np.empty((4, 3), np.float32), TypeError, "dtype"),
        ([[0.0] * 3] * 4, TypeError, "list"),
        (read_only, ValueError, "read-only"),
        (np.empty_like(x, order="F"), ValueError, "memory order"),
    ]:
        with pytest.raises(error, match=match):
            over_views.rescale(backend, x, affine, 1, out=bad)
    with pytest.raises(ValueError, match="overlaps"):
        over_views.rescale(
            backend, buffer[:12].reshape(4, 3), affine, 1, out=buffer[3:].reshape(4, 3)
        )
