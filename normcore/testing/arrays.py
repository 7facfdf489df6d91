# ruff: noqa: D102  (the laws are named by what they say)
"""The laws of what a backend does with the arrays that it is given, a part of the kit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from normcore.affine import Affine
from normcore.array_backend.abstract import InfiniteInput
from normcore.array_backend.reference import ReferenceBackend
from normcore.layout.namespace import Array, to_numpy
from normcore.testing.checks import check_brackets
from normcore.testing.under_test import BackendUnderTest

__all__ = ["ArrayLaws"]

_FOREIGN = ("numpy", "array_api_strict", "torch", "jax.numpy", "ml_dtypes")
_EMPTY = [(0, 3, 1), (3, 2, 0), (0, 1, 0)]


class ArrayLaws(BackendUnderTest):
    """The laws of kinds of arrays, of infinity, of empty views and of inputs that stay."""

    # -- kinds -----------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", _FOREIGN)
    def test_release_returns_the_kind_of_the_caller(self, kind: str) -> None:
        x = np.random.default_rng(12).integers(-8, 9, (7, 3, 2)).astype(np.float32)
        like = _foreign(kind)(x)
        try:
            native = self.engine.adopt(like)
        except (TypeError, ImportError) as error:
            assert kind != "numpy", "a backend must adopt NumPy's arrays"
            pytest.skip(f"the backend refuses arrays of {kind}: {error}")
        if type(native) is type(like) and "float64" not in str(
            _foreign(kind)(x.astype(np.float64)).dtype
        ):
            pytest.skip(f"{kind} holds no float64 here, in which the backend would compute")
        halves = self.engine.rescale(native, Affine(scale=2.0))
        vector = np.arange(3.0)
        for result, values in ((native, x), (halves, x / 2.0), (vector, vector)):
            released = self.engine.release(result, like)
            assert type(released) is type(like), (
                f"release(array, like) must return the kind of like, {type(like).__name__}, not "
                f"{type(released).__name__}"
            )
            np.testing.assert_array_equal(to_numpy(released).astype(np.float64), values)

    @pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
    def test_results_are_of_the_kind_of_the_input(self, dtype: str) -> None:
        native = self.to_native(np.ones((4, 3, 2), dtype))
        results = [self.engine.rescale(native, Affine(center=0.5))]
        if native.dtype == self.to_native(np.ones(1)).dtype:
            vector = np.ones(3)
            results.append(self.engine.backward_elemt(native, native, *[vector] * 4))
        for result in results:
            assert type(result) is type(native), "a kernel returns the backend's own arrays"
            assert self.to_host(result).dtype == (dtype if "float" in dtype else "float64"), (
                "floats keep their dtype, all else becomes float64"
            )

    # -- infinity --------------------------------------------------------------------------

    @pytest.mark.parametrize("bad", [np.inf, -np.inf])
    @pytest.mark.parametrize("shape", [(5, 2, 3), (9001, 3, 1), (1, 2, 30011)])
    def test_infinite_input_is_refused_where_asked(
        self, shape: tuple[int, int, int], bad: float
    ) -> None:
        x = np.random.default_rng(13).standard_normal(shape)
        x[0, 0, 0] = np.nan  # which is no infinity
        affine = Affine(center=np.ones(shape[1]), scale=np.full(shape[1], 1e-309))
        expected = ReferenceBackend().rescale(x, affine)  # infinite, of finite elements
        for refuse in (False, True):
            y = self.engine.rescale(self.to_native(x), affine, refuse_infinite=refuse)
            np.testing.assert_array_equal(self.to_host(y), expected)
        x[-1, -1, -1] = bad
        expected = ReferenceBackend().rescale(x, affine)
        y = self.engine.rescale(self.to_native(x), affine)
        np.testing.assert_array_equal(self.to_host(y), expected, "infinity propagates unasked")
        if not self.refuses_infinity:
            y = self.engine.rescale(self.to_native(x), affine, refuse_infinite=True)
            np.testing.assert_array_equal(self.to_host(y), expected, "it must propagate then")
            return
        try:
            self.engine.rescale(self.to_native(x), affine, refuse_infinite=True)
        except InfiniteInput:
            return
        pytest.fail(
            "rescale(refuse_infinite=True) must raise nc.InfiniteInput for infinite elements; a "
            "backend on a device may propagate them: refuses_infinity = False"
        )

    def test_brackets_count_infinite_values(self) -> None:
        column = [1.0, np.inf, -np.inf, np.nan, np.inf, 2.0]
        x = np.array([column, [0.0] * 6]).T.reshape(6, 2, 1)
        ends = np.array([[0.5, -1.0]]), np.array([[np.inf, 1.0]])
        plane = np.array([[1.0], [2.0], [3.0], [1.0], [0.0], [1.0]])
        for weights, infinite in ((None, 3), (plane, 2)):
            got = self.engine.brackets(
                self.to_native(x), *ends, weights=self._optional(weights), skipna=True
            ).to_host()
            np.testing.assert_array_equal(
                got.infinite,
                [infinite, 0],
                "infinite counts the values that are +inf or -inf, each once where it weighs",
            )
            expected = ReferenceBackend().brackets(x, *ends, weights=weights, skipna=True)
            check_brackets(got, expected)

    # -- nothing, and what must stay -------------------------------------------------------

    @pytest.mark.parametrize("shape", _EMPTY)
    def test_empty_views_are_no_error(self, shape: tuple[int, int, int]) -> None:
        x = self.to_native(np.empty(shape, np.float32))
        vector = np.ones(shape[1])
        ends = vector[None], vector[None]
        for statistic in (
            self.engine.moments(x),
            self.engine.extrema(x),
            self.engine.brackets(x, *ends),
        ):
            count: Array = statistic.to_host()
            np.testing.assert_array_equal(count.count, 0 * vector, "nothing was observed")
        for each in self.engine.backward_reduce(x, x, vector):
            np.testing.assert_array_equal(self.to_host(each), 0 * vector, "a sum of nothing is 0")
        for result in (
            self.engine.rescale(x, Affine(center=vector)),
            self.engine.backward_elemt(x, x, *[vector] * 4),
        ):
            assert self.to_host(result).shape == shape
            assert self.to_host(result).dtype == np.float32

    def test_kernels_write_to_no_input(self) -> None:
        rng = np.random.default_rng(14)
        x, dy = rng.standard_normal((2, 33, 3, 5))
        plane = rng.integers(0, 2, (33, 5)) * 1.0
        vectors = rng.standard_normal((7, 3))
        lower, upper = -np.abs(vectors[:2]), np.abs(vectors[:2])
        affine = Affine(center=vectors[4], scale=vectors[5], gamma=vectors[6], beta=vectors[4])
        natives = [self.to_native(each) for each in (x, dy, plane, plane > 0)]
        before = [self.to_host(each).copy() for each in natives]
        rest = vectors.copy(), lower.copy(), upper.copy()
        view, gradient, weights, mask = natives
        mean, a, b, d = vectors[:4]
        self.engine.moments(view, weights=weights)
        self.engine.extrema(view)
        self.engine.brackets(view, lower, upper, weights=weights)
        self.engine.rescale(view, affine, clip=(0.0, 1.0), activation="relu", mask=mask)
        self.engine.backward_reduce(gradient, view, mean, relu_mask=affine, mask=mask)
        self.engine.backward_elemt(gradient, view, mean, a, b, d, relu_mask=affine, mask=mask)
        for native, kept in zip(natives, before, strict=True):
            np.testing.assert_array_equal(self.to_host(native), kept, "a kernel wrote to an input")
        for vector, kept in zip((vectors, lower, upper), rest, strict=True):
            np.testing.assert_array_equal(vector, kept, "a kernel wrote to a vector")


def _foreign(kind: str) -> Callable[[np.ndarray], Array]:
    """Return what makes an array of another library, or skip the test where that is missing."""
    if kind == "numpy":
        return np.array
    if kind == "ml_dtypes":
        bfloat16 = pytest.importorskip(kind).bfloat16
        return lambda x: x.astype(bfloat16)
    if kind == "torch":
        return lambda x: pytest.importorskip(kind).from_numpy(x.copy())
    library = pytest.importorskip(kind)
    return lambda x: library.asarray(x.copy())
