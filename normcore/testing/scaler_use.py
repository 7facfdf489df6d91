# ruff: noqa: D102  (the laws are named by what they say)
"""The laws of a scaler among others: its parameters, its rows, its threads, other libraries."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from normcore.array_backend.selection import use_backend
from normcore.layout.namespace import Array, to_numpy
from normcore.testing.scaler_under_test import ScalerUnderTest
from normcore.testing.sharing import assert_shared
from normcore.threads import get_num_threads, set_num_threads

__all__ = ["ScalerUse", "assert_close"]


class ScalerUse(ScalerUnderTest):
    """The laws of what surrounds ``fit`` and ``transform``."""

    # -- parameters ------------------------------------------------------------------------

    def test_parameters_make_an_equal_scaler(self) -> None:
        scaler = self.make()
        params = scaler.get_params(deep=False)
        again = type(scaler)(**params)
        assert _same(again.get_params(deep=False), params), (
            "__init__ must keep every parameter as it was given: no conversion, no copy"
        )
        X = _normal(4, 20, 2)
        np.testing.assert_array_equal(again.fit_transform(X), scaler.fit_transform(X))
        assert scaler.set_params(**params) is scaler

    def test_fit_leaves_parameters_alone(self) -> None:
        scaler = self.make()
        before = scaler.get_params(deep=False)
        scaler.fit(_normal(5, 20, 2))
        assert _same(scaler.get_params(deep=False), before), (
            "a fit must not assign parameters: what it learns goes into attributes that end with _"
        )

    def test_scikit_learn_clones_it(self) -> None:
        base = pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
        scaler = self.fitted(_normal(6, 20, 2))
        again = base.clone(scaler)
        assert type(again) is type(scaler)
        assert not again.__sklearn_is_fitted__(), "a clone must not be fitted"
        X = _normal(7, 20, 3)
        np.testing.assert_array_equal(
            again.fit(X).transform(X), self.fitted(X).transform(X), "a clone must be as the first"
        )

    def test_clip_is_used_where_it_is_a_parameter(self) -> None:
        scaler = self.make()
        if "clip" not in scaler.get_params(deep=False):
            pytest.skip("this scaler has no parameter clip")
        default = inspect.signature(type(scaler)).parameters["clip"].default
        if isinstance(default, bool):
            scaler.set_params(clip=True)
        elif scaler.clip == default:
            pytest.skip("the kit does not know what clip may be; name one of scalers that clips")
        X = _normal(8, 50, 2)
        try:
            scaler.fit(X)
        except TypeError as error:
            pytest.fail(f"clip is a parameter, but has no effect: {error}")
        spread = np.ptp(X, axis=0)
        far, beyond = (
            np.stack([X.max(axis=0) + spread * factor, X.min(axis=0) - spread * factor])
            for factor in (10.0, 1e4)
        )
        if scaler.clip is True:
            np.testing.assert_array_equal(
                scaler.transform(far),
                scaler.transform(beyond),
                "clip is a parameter, but has no effect: let bounds() return the ends",
            )
            return
        clipped = scaler.transform(beyond)
        unclipped = scaler.set_params(clip=default).fit(X).transform(beyond)
        assert np.any(unclipped != clipped), "clip is a parameter, but has no effect"

    # -- rows ------------------------------------------------------------------------------

    def test_one_row(self) -> None:
        X = np.array([[1.5, -2.0, 0.0]])
        scaler = self.fitted(X)
        for result in (scaler.transform(X), scaler.transform(X * 2.0)):
            assert np.isfinite(result).all(), (
                "one row makes every column constant: its scale must not be 0 or NaN"
            )

    @pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "inverse_transform"])
    def test_no_rows(self, method: str) -> None:
        X = _normal(9, 20, 3)
        scaler = self.fitted(X)
        if not hasattr(scaler, method):
            pytest.skip(f"this scaler has no {method}")
        expected = scaler.transform(X)
        with pytest.raises(ValueError, match="0 sample"):
            getattr(scaler, method)(X[:0])
        np.testing.assert_array_equal(
            scaler.transform(X), expected, "what was refused must change nothing"
        )

    def test_rows_do_not_depend_on_their_neighbours(self) -> None:
        if not self.by_rows:
            pytest.skip("this scaler maps rows together")
        X = _normal(10, 40, 3)
        scaler = self.fitted(X)
        for method in _maps(scaler):
            whole = method(X)
            rows = np.concatenate([method(X[row : row + 1]) for row in range(len(X))])
            np.testing.assert_allclose(
                rows, whole, 1e-13, 1e-13, err_msg="a map must not look at other rows than its own"
            )

    def test_weights_repeat_rows(self) -> None:
        if "sample_weight" not in inspect.signature(self.make().fit).parameters:
            pytest.skip("this scaler takes no sample_weight")
        X = _normal(11, 60, 3)
        weights = np.random.default_rng(11).integers(0, 4, 60)
        weighted = self.make().fit(X, sample_weight=weights.astype(np.float64))
        repeated = self.make().fit(np.repeat(X, weights, axis=0))
        np.testing.assert_allclose(
            weighted.transform(X), repeated.transform(X), 1e-6, 1e-6,
            err_msg="a weight of 2 must count as a row twice; pass weights to the statistic",
        )  # fmt: skip

    # -- threads ---------------------------------------------------------------------------

    def test_any_number_of_threads_gives_the_same_bits(self) -> None:
        X = _normal(5, 30011, 5).astype(np.float32)
        before = get_num_threads()
        try:
            results = []
            for number in (1, 2, 5):
                set_num_threads(number)
                results.append(self.fitted(X).transform(X))
        finally:
            set_num_threads(before)
        for other in results[1:]:
            assert other.tobytes() == results[0].tobytes(), "the number of threads shows"

    def test_threads_may_share_a_scaler(self) -> None:
        tables = [_normal(seed, 20011, 4) * (seed + 1.0) for seed in range(3)]
        scaler = self.fitted(np.concatenate(tables))
        for method in _maps(scaler):
            assert_shared(lambda X: [method(X)], tables)  # noqa: B023  (called at once)

    # -- other libraries -------------------------------------------------------------------

    def test_strict_arrays_are_mapped_as_numpys_are(self) -> None:
        if not self.array_api:
            pytest.skip("this scaler takes NumPy's arrays alone")
        strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
        X = _normal(12, 60, 3)
        native = strict.asarray(X.copy())
        with use_backend("reference"):
            expected = self.fitted(X)
            scaler = self.fitted(native)
            for name in ("transform", "inverse_transform"):
                if not hasattr(scaler, name):
                    continue
                result = getattr(scaler, name)(native)
                assert type(result) is type(native), f"{name} must keep the library of its input"
                assert_close(to_numpy(result), getattr(expected, name)(X))
        np.testing.assert_array_equal(
            to_numpy(native), X, "the input was written to; a map must make an array of its own"
        )


def assert_close(one: np.ndarray, other: np.ndarray, what: str = "") -> None:
    """Assert that results agree to the digits that statistics of well-scaled data keep."""
    eps = float(np.finfo(one.dtype).eps)
    np.testing.assert_allclose(one, other, rtol=16 * eps, atol=64 * eps, err_msg=what)


def _maps(scaler: Any) -> list[Callable[[Array], np.ndarray]]:
    return [
        getattr(scaler, name)
        for name in ("transform", "inverse_transform")
        if hasattr(scaler, name)
    ]


def _normal(seed: int, num_rows: int, num_features: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_rows, num_features))


def _same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)
