# ruff: noqa: D102  (the laws are named by what they say)
"""The laws of layer and RMS norm's kernels, a part of the conformance kit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array
from normcore.statistics import Moments
from normcore.testing.checks import check_moments, rounding
from normcore.testing.strategies import ORDINARY, arrange, laws, views
from normcore.testing.under_test import BackendUnderTest
from normcore.threads import use_num_threads

__all__ = ["RowLaws"]

_EPS = 1e-3
_UNIT = 2.0**-52
_SHAPES = st.one_of(
    st.tuples(st.just(1), st.sampled_from([1, 2, 3, 17, 70]), st.sampled_from([1, 2, 7, 16, 33])),
    st.tuples(st.just(1), st.sampled_from([1, 2, 5]), st.sampled_from([64, 130, 600, 1000])),
)
_LARGE = [(1031, 40), (301, 768), (5, 5001), (2, 13000)]


class RowLaws(BackendUnderTest):
    """The laws of :meth:`normcore.Backend.normalize_rows` and of its backward pass."""

    @laws
    @given(data=st.data(), centered=st.booleans())
    def test_rows_are_normalized_by_their_own_moments(
        self, data: st.DataObject, centered: bool
    ) -> None:
        x, gamma, beta = self._draw(data)
        native = self.to_native(x)
        y, moments = self.engine.normalize_rows(native, gamma, beta, _EPS, centered=centered)
        moments = moments.to_host()
        check_moments(moments, np.asarray(x)[None])
        check_rows(self.to_host(y), x, moments, gamma, beta, centered)
        np.testing.assert_array_equal(self.to_host(native), x, "normalize_rows changed its input")
        for layout in ("F", "sliced"):
            out = self.to_native(arrange(np.full(x.shape, -725.0, self.to_host(y).dtype), layout))
            result = self.engine.normalize_rows(
                native, gamma, beta, _EPS, centered=centered, out=out
            )
            assert result[0] is out
            np.testing.assert_array_equal(self.to_host(out), self.to_host(y))

    @laws
    @given(data=st.data(), centered=st.booleans())
    def test_gradients_of_rows(self, data: st.DataObject, centered: bool) -> None:
        x, gamma, _ = self._draw(data)
        rng = np.random.default_rng(x.size)
        dy = arrange(rng.standard_normal(x.shape).astype(x.dtype), data.draw(_LAYOUTS))
        native = self.to_native(x), self.to_native(dy)
        _, moments = self.engine.normalize_rows(native[0], gamma, 0.0, _EPS, centered=centered)
        found = self.engine.normalize_rows_backward(
            native[1], native[0], moments, gamma, _EPS, centered=centered
        )
        check_row_gradients(
            tuple(map(self.to_host, found)), dy, x, moments.to_host(), gamma, centered
        )
        for array, before in zip(native, (x, dy), strict=True):
            np.testing.assert_array_equal(self.to_host(array), before, "an input changed")
        out = self.to_native(arrange(np.full(x.shape, -725.0, x.dtype), "sliced"))
        again = self.engine.normalize_rows_backward(
            native[1], native[0], moments, gamma, _EPS, centered=centered, out=out
        )
        assert again[0] is out
        for one, other in zip(again, found, strict=True):
            np.testing.assert_array_equal(self.to_host(one), self.to_host(other))

    @pytest.mark.parametrize("centered", [True, False])
    def test_rows_in_place(self, centered: bool) -> None:
        rng = np.random.default_rng(8)
        x, dy = rng.standard_normal((2, 37, 41))
        gamma, beta = rng.standard_normal((2, 41))
        y, moments = self.engine.normalize_rows(
            self.to_native(x), gamma, beta, _EPS, centered=centered
        )
        native = self.to_native(x.copy())
        self.engine.normalize_rows(native, gamma, beta, _EPS, centered=centered, out=native)
        np.testing.assert_array_equal(self.to_host(native), self.to_host(y))
        dx, *_ = self.engine.normalize_rows_backward(
            self.to_native(dy), self.to_native(x), moments, gamma, _EPS, centered=centered
        )
        for which in range(2):
            arrays = self.to_native(dy.copy()), self.to_native(x.copy())
            out = arrays[which]
            self.engine.normalize_rows_backward(
                *arrays, moments, gamma, _EPS, centered=centered, out=out
            )
            np.testing.assert_array_equal(self.to_host(out), self.to_host(dx))

    def test_rows_that_are_not_finite_leave_the_others_alone(self) -> None:
        x = np.random.default_rng(9).standard_normal((7, 40))
        x[1, 3], x[4, 39], x[5, :] = np.nan, np.inf, np.inf
        y, moments = self.engine.normalize_rows(self.to_native(x), 1.0, 0.0, _EPS)
        broken = ~np.isfinite(x).all(axis=1)
        host, moments = self.to_host(y), moments.to_host()
        assert np.isnan(host[broken]).all()
        np.testing.assert_array_equal(np.isnan(moments.var()), broken)
        whole = moments.select(np.flatnonzero(~broken))
        check_rows(host[~broken], x[~broken], whole, np.ones(40), np.zeros(40), True)

    @pytest.mark.parametrize("shape", _LARGE)
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_many_rows_and_long_ones(self, shape: tuple[int, int], dtype: str) -> None:
        rng = np.random.default_rng(10)
        x, dy = (rng.standard_normal((2, *shape)) + 3.0).astype(dtype)
        gamma, beta = rng.standard_normal((2, shape[1]))
        results = []
        for threads in (1, 2, 5):
            with use_num_threads(threads):
                y, moments = self.engine.normalize_rows(self.to_native(x), gamma, beta, _EPS)
                gradients = self.engine.normalize_rows_backward(
                    self.to_native(dy), self.to_native(x), moments, gamma, _EPS
                )
            moments = moments.to_host()
            results.append([self.to_host(each) for each in (y, *gradients)] + [moments.parts])
        check_moments(moments, x[None])
        y, *found, _ = results[0]
        check_rows(y, x, moments, gamma, beta, True)
        check_row_gradients(tuple(found), dy, x, moments, gamma, True)
        for other in results[1:]:
            for one, another in zip(results[0], other, strict=True):
                assert one.tobytes() == another.tobytes(), "the number of threads shows"

    def test_optional_form_is_the_abstract_one(self) -> None:
        """What a backend overrides agrees with what it replaces."""
        rng = np.random.default_rng(11)
        x, dy = rng.standard_normal((2, 90, 24))
        gamma, beta = rng.standard_normal((2, 24))
        native, upstream = self.to_native(x), self.to_native(dy)
        y, moments = self.engine.normalize_rows(native, gamma, beta, _EPS)
        plain, _ = Backend.normalize_rows(self.engine, native, gamma, beta, _EPS)
        np.testing.assert_allclose(self.to_host(y), self.to_host(plain), rtol=1e-13, atol=1e-14)
        arguments = upstream, native, moments, gamma, _EPS
        found = self.engine.normalize_rows_backward(*arguments)
        expected = Backend.normalize_rows_backward(self.engine, *arguments)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(
                self.to_host(one), self.to_host(other), rtol=1e-12, atol=1e-13
            )

    def _draw(self, data: st.DataObject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw rows, each of a recipe of its own, and gamma and beta."""
        x = data.draw(views(shape=_SHAPES, dtypes=self.dtypes, recipes=ORDINARY))[0]
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        gamma, beta = rng.standard_normal((2, x.shape[1]))
        return x, gamma, beta


_LAYOUTS = st.sampled_from(["C", "F", "sliced", "read-only"])


def _centers(moments: Moments, centered: bool) -> tuple[np.ndarray, np.ndarray]:
    mean = moments.mean[:, None]
    if centered:
        return mean, np.sqrt(moments.var()[:, None] + _EPS)
    return 0.0 * mean, np.sqrt(moments.var()[:, None] + mean**2 + _EPS)


def check_rows(
    y: np.ndarray, x: np.ndarray, moments: Moments, gamma: Array, beta: Array, centered: bool
) -> None:
    """Assert that rows are normalized with these moments, up to some roundings of float64."""
    center, scale = _centers(moments, centered)
    xhat = (x.astype(np.float64) - center) / scale
    expected = xhat * gamma + beta
    units = np.abs(gamma) * (np.abs(xhat) + np.abs(center) / scale) + np.abs(beta)
    bound = 6 * _UNIT * units + rounding(y.dtype, expected)
    assert np.all(np.abs(y.astype(np.float64) - expected) <= bound)


def check_row_gradients(
    found: tuple[np.ndarray, ...],
    dy: Array,
    x: Array,
    moments: Moments,
    gamma: Array,
    centered: bool,
) -> None:
    """Assert that gradients are right to 16 units of the terms that they are sums of."""
    dx, dgamma, dbeta = found
    center, scale = _centers(moments, centered)
    dy = dy.astype(np.float64)
    off = np.abs(center) / scale  # what rounding the center moves xhat by, in units
    xhat = (x.astype(np.float64) - center) / scale
    g = dy * gamma
    means = [each.mean(axis=1, keepdims=True) for each in (g * centered, g * xhat)]
    expected = (g - means[0] - xhat * means[1]) / scale
    size, terms = np.abs(g), np.abs(xhat) + off
    units = size + size.mean(axis=1, keepdims=True) + terms * (size * terms).mean(1, keepdims=True)
    bound = 16 * _UNIT * units / scale + rounding(dx.dtype, expected)
    assert np.all(np.abs(dx.astype(np.float64) - expected) <= bound)
    assert np.all(np.abs(dbeta - dy.sum(axis=0)) <= 16 * _UNIT * np.abs(dy).sum(axis=0))
    terms = np.abs(dy) * terms
    assert np.all(np.abs(dgamma - (dy * xhat).sum(axis=0)) <= 16 * _UNIT * terms.sum(axis=0))
