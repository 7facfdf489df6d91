# ruff: noqa: D102  (the laws are named by what they say)
"""What every scaler promises, as tests that a scaler's own test class inherits."""

from __future__ import annotations

import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from normcore.layout.namespace import Array
from normcore.saving.scaler_file import load_scaler
from normcore.testing.backend import laws
from normcore.testing.strategies import arrange, out_like, tables
from normcore.threads import get_num_threads, set_num_threads

__all__ = ["ScalerConformance"]

_WELL_SCALED = ("normal", "constant", "zeros", "mostly zeros", "ties", "sorted", "alternating")


class ScalerConformance:
    """The laws of scalers; a subclass names its class, or a function that makes one.

    >>> class TestMine(ScalerConformance):
    ...     scaler = MyScaler

    Attributes
    ----------
    scaler : class or callable
        Returns a fresh scaler, unfitted.
    dtypes : tuple
        Floating dtypes that are kept.
    registered : bool
        Whether the scaler has a name in the registry, which saved files need.
    invertible : bool
        Whether ``inverse_transform`` restores the data it was fitted to.

    Examples
    --------
    >>> import normcore as nc
    >>> from normcore.testing import ScalerConformance
    >>> class TestMaxAbsScaler(ScalerConformance):
    ...     scaler = nc.MaxAbsScaler
    """

    scaler: ClassVar[Any]
    dtypes: ClassVar[tuple[str, ...]] = ("float64", "float32")
    registered: ClassVar[bool] = True
    invertible: ClassVar[bool] = True

    def make(self) -> Any:
        """Return a fresh scaler."""
        factory = inspect.getattr_static(type(self), "scaler")
        return getattr(factory, "__func__", factory)()

    def fitted(self, X: Array) -> Any:
        """Return a scaler fitted to X."""
        return self.make().fit(X)

    # -- the result ------------------------------------------------------------------------

    @laws
    @given(X=tables())
    def test_shape_dtype_and_nan_are_kept(self, X: np.ndarray) -> None:
        scaler = self.make()
        assert scaler.fit(X) is scaler
        for result in (scaler.transform(X), scaler.inverse_transform(X)):
            assert type(result) is np.ndarray
            assert (result.shape, result.dtype) == (X.shape, X.dtype)
            np.testing.assert_array_equal(np.isnan(result), np.isnan(X) | _all_nan(X))

    @laws
    @given(X=tables(dtypes=("int64", "uint8", "bool"), nan=False))
    def test_integers_become_float64(self, X: np.ndarray) -> None:
        scaler = self.fitted(X)
        result = scaler.transform(X)
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, scaler.transform(X.astype(np.float64)))

    @laws
    @given(X=tables())
    def test_inverse_restores(self, X: np.ndarray) -> None:
        if not self.invertible:
            pytest.skip("this scaler has no exact inverse")
        scaler = self.fitted(X)
        back = scaler.inverse_transform(scaler.transform(X))
        with np.errstate(all="ignore"):
            largest = np.fmax.reduce(np.abs(X.astype(np.float64)), axis=0)
        error = np.abs(back.astype(np.float64) - X.astype(np.float64))
        present = ~np.isnan(X)
        bound = np.broadcast_to(16 * np.finfo(X.dtype).eps * largest, X.shape)
        assert np.all(error[present] <= bound[present])

    @laws
    @given(data=st.data())
    def test_out_is_written_and_returned(self, data: st.DataObject) -> None:
        X = data.draw(tables(dtypes=self.dtypes))
        scaler = self.fitted(X)
        for method in (scaler.transform, scaler.inverse_transform):
            expected = method(X)
            out = out_like(X, X.dtype, data.draw(st.sampled_from(["C", "sliced", "reversed"])))
            assert method(X, out=out) is out
            np.testing.assert_array_equal(out, expected)
            in_place = X.copy()
            assert method(in_place, out=in_place) is in_place
            np.testing.assert_array_equal(in_place, expected)

    def test_out_must_fit(self) -> None:
        X = np.arange(12.0).reshape(6, 2)
        scaler = self.fitted(X)
        for out in (
            np.empty((6, 3)), np.empty((5, 2)), np.empty((6, 2), np.int64), np.empty((2, 6)).T
        ):  # fmt: skip
            with pytest.raises((ValueError, TypeError)):
                scaler.transform(X, out=out)
        read_only = np.empty((6, 2))
        read_only.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            scaler.transform(X, out=read_only)

    # -- the input -------------------------------------------------------------------------

    @laws
    @given(X=tables())
    def test_input_is_not_modified(self, X: np.ndarray) -> None:
        before = X.copy()
        scaler = self.fitted(X)
        scaler.inverse_transform(scaler.transform(X))
        scaler.transform(X)
        np.testing.assert_array_equal(X, before)

    @laws
    @given(X=tables(recipes=_WELL_SCALED, layouts=("C",)), layout=st.sampled_from(["F", "sliced"]))
    def test_memory_order_does_not_matter(self, X: np.ndarray, layout: str) -> None:
        one = self.fitted(X).transform(X)
        other = arrange(X, layout)
        _assert_close(self.fitted(other).transform(other), one)

    @pytest.mark.parametrize("bad", [np.inf, -np.inf])
    def test_infinity_is_refused_by_name_of_its_column(self, bad: float) -> None:
        X = np.random.default_rng(0).standard_normal((50, 3))
        broken = X.copy()
        broken[7, 1] = bad
        scaler = self.fitted(X)
        expected = scaler.transform(X)
        for attempt in (scaler.fit, scaler.transform):
            with pytest.raises(ValueError, match="1") as caught:
                attempt(broken)
            assert "inf" in str(caught.value).lower()
        np.testing.assert_array_equal(scaler.transform(X), expected, "a failed fit left traces")

    @pytest.mark.parametrize(
        "bad",
        [
            np.empty((0, 3)),
            np.empty((3, 0)),
            np.arange(3.0),
            np.ones((3, 2), dtype=complex),
            np.array([["a", "b"], ["c", "d"]]),
            np.array([[object(), 1.0]], dtype=object),
        ],
        ids=["no rows", "no columns", "1-D", "complex", "text", "objects"],
    )
    def test_unusable_input_is_refused(self, bad: np.ndarray) -> None:
        with pytest.raises((ValueError, TypeError)):
            self.make().fit(bad)

    def test_other_numbers_of_features_are_refused(self) -> None:
        scaler = self.fitted(np.arange(12.0).reshape(4, 3))
        with pytest.raises(ValueError, match="feature"):
            scaler.transform(np.ones((4, 2)))

    def test_unfitted_scaler_says_so(self) -> None:
        with pytest.raises((ValueError, AttributeError), match="fit"):
            self.make().transform(np.ones((3, 2)))

    def test_column_of_nan_alone(self) -> None:
        X = np.array([[1.0, np.nan], [2.0, np.nan], [4.0, np.nan]])
        result = self.fitted(X).transform(X)
        assert np.isnan(result[:, 1]).all()
        assert np.isfinite(result[:, 0]).all()

    # -- the monoid ------------------------------------------------------------------------

    @laws
    @given(data=st.data())
    def test_chunks_learn_what_the_whole_teaches(self, data: st.DataObject) -> None:
        if not hasattr(self.make(), "partial_fit"):
            pytest.skip("this scaler does not stream")
        X = data.draw(tables(dtypes=self.dtypes, recipes=_WELL_SCALED))
        assume(X.shape[0] > 1)
        cuts = data.draw(st.sets(st.integers(1, X.shape[0] - 1), min_size=1, max_size=4))
        chunks = np.split(X, sorted(cuts))
        streamed, merged = self.make(), self.make()
        for chunk in chunks:
            assert streamed.partial_fit(chunk) is streamed
        others = [self.fitted(chunk) for chunk in chunks]
        for index in data.draw(st.permutations(range(len(chunks)))):
            before = others[index].transform(X)
            assert merged.merge(others[index]) is merged
            np.testing.assert_array_equal(others[index].transform(X), before)
        whole = self.fitted(X).transform(X)
        _assert_close(streamed.transform(X), whole)
        _assert_close(merged.transform(X), whole)

    def test_fit_forgets(self) -> None:
        one, other = np.random.default_rng(1).standard_normal((2, 40, 3)) * [[[1.0]], [[50.0]]]
        scaler = self.fitted(other).fit(one)
        np.testing.assert_array_equal(scaler.transform(one), self.fitted(one).transform(one))

    # -- an object among others ------------------------------------------------------------

    @laws
    @given(X=tables(dtypes=("float64",)))
    def test_pickle_keeps_every_bit(self, X: np.ndarray) -> None:
        scaler = self.fitted(X)
        again = pickle.loads(pickle.dumps(scaler))
        np.testing.assert_array_equal(again.transform(X), scaler.transform(X))

    @laws
    @given(X=tables(dtypes=("float64",)))
    def test_saved_state_is_whole(self, X: np.ndarray) -> None:
        if not self.registered:
            pytest.skip("this scaler is not registered")
        scaler = self.fitted(X)
        again = type(scaler).from_dict(scaler.to_dict())
        np.testing.assert_array_equal(again.transform(X), scaler.transform(X))
        if hasattr(scaler, "partial_fit"):
            np.testing.assert_array_equal(
                again.partial_fit(X).transform(X), scaler.partial_fit(X).transform(X)
            )

    def test_saved_file_keeps_every_bit(self, tmp_path: Path) -> None:
        if not self.registered:
            pytest.skip("this scaler is not registered")
        X = np.random.default_rng(3).standard_normal((30, 3)) * [1e-170, 1.0, 1e200]
        scaler = self.fitted(X)
        scaler.save(tmp_path / "scaler.json")
        again = load_scaler(tmp_path / "scaler.json")
        assert type(again) is type(scaler)
        np.testing.assert_array_equal(again.transform(X), scaler.transform(X))

    def test_parameters_make_an_equal_scaler(self) -> None:
        scaler = self.make()
        params = scaler.get_params(deep=False)
        again = type(scaler)(**params)
        assert again.get_params(deep=False) == params
        X = np.random.default_rng(4).standard_normal((20, 2))
        np.testing.assert_array_equal(again.fit_transform(X), scaler.fit_transform(X))
        assert scaler.set_params(**params) is scaler

    # -- threads ---------------------------------------------------------------------------

    def test_any_number_of_threads_gives_the_same_bits(self) -> None:
        X = np.random.default_rng(5).standard_normal((30011, 5)).astype(np.float32)
        before = get_num_threads()
        try:
            results = []
            for number in (1, 2, 5):
                set_num_threads(number)
                results.append(self.fitted(X).transform(X))
        finally:
            set_num_threads(before)
        for other in results[1:]:
            assert other.tobytes() == results[0].tobytes()

    def test_threads_may_share_a_scaler(self) -> None:
        X = np.random.default_rng(6).standard_normal((20011, 4))
        scaler = self.fitted(X)
        expected = scaler.transform(X)
        with ThreadPoolExecutor(4) as pool:
            for result in pool.map(lambda _: scaler.transform(X), range(8)):
                assert result.tobytes() == expected.tobytes()


def _all_nan(X: np.ndarray) -> np.ndarray:
    """Columns without a value, whose every result is NaN."""
    return np.isnan(X).all(axis=0, keepdims=True)


def _assert_close(one: np.ndarray, other: np.ndarray) -> None:
    """Assert that results agree to the digits that statistics of well-scaled data keep."""
    eps = float(np.finfo(one.dtype).eps)
    np.testing.assert_allclose(one, other, rtol=16 * eps, atol=64 * eps)
