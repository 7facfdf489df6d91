# ruff: noqa: D102  (the laws are named by what they say)
"""What every scaler promises, as tests that a scaler's own test class inherits."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from normcore.registration import scaler_name
from normcore.registration.discovery import catalog
from normcore.saving.scaler_file import load_scaler
from normcore.scaling.scaler import Scaler
from normcore.testing.registered import assert_usable
from normcore.testing.scaler_use import ScalerUse, assert_close
from normcore.testing.strategies import arrange, laws, out_like, tables

__all__ = ["ScalerConformance"]

_WELL_SCALED = ("normal", "constant", "zeros", "mostly zeros", "ties", "sorted", "alternating")
_STATE = "what transform needs must be in attributes that end with _, set from the statistic"


class ScalerConformance(ScalerUse):
    """The laws of scalers; a subclass names its class, or a function that makes one.

    Several forms of it (``scalers``) are each tested by every law.

    Attributes
    ----------
    scaler, scalers, dtypes, registered, invertible, array_api, by_rows
        As of :class:`~normcore.testing.scaler_under_test.ScalerUnderTest`.

    Examples
    --------
    >>> import normcore as nc
    >>> from normcore.testing import ScalerConformance
    >>> class TestMaxAbsScaler(ScalerConformance):
    ...     scaler = nc.MaxAbsScaler
    """

    # -- the result ------------------------------------------------------------------------

    @laws
    @given(X=tables())
    def test_shape_dtype_and_nan_are_kept(self, X: np.ndarray) -> None:
        scaler = self.make()
        assert scaler.fit(X) is scaler, "fit must return self"
        for result in (scaler.transform(X), scaler.inverse_transform(X)):
            assert type(result) is np.ndarray
            assert (result.shape, result.dtype) == (X.shape, X.dtype), "floats keep their dtype"
            np.testing.assert_array_equal(
                np.isnan(result), np.isnan(X) | _all_nan(X), "NaN stays NaN, and is made of nothing"
            )

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
        assert np.all(error[present] <= bound[present]), (
            "inverse_transform must undo transform; say invertible = False where it cannot"
        )

    @laws
    @given(data=st.data())
    def test_out_is_written_and_returned(self, data: st.DataObject) -> None:
        X = data.draw(tables(dtypes=self.dtypes))
        scaler = self.fitted(X)
        for method in (scaler.transform, scaler.inverse_transform):
            expected = method(X)
            out = out_like(X, X.dtype, data.draw(st.sampled_from(["C", "sliced", "reversed"])))
            assert method(X, out=out) is out, "what is returned must be out itself"
            np.testing.assert_array_equal(out, expected, "out must be written to")
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
        np.testing.assert_array_equal(X, before, "the input was written to; make a copy first")

    @laws
    @given(X=tables(recipes=_WELL_SCALED, layouts=("C",)), layout=st.sampled_from(["F", "sliced"]))
    def test_memory_order_does_not_matter(self, X: np.ndarray, layout: str) -> None:
        one = self.fitted(X).transform(X)
        other = arrange(X, layout)
        assert_close(self.fitted(other).transform(other), one, "the order in memory shows")

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
            assert streamed.partial_fit(chunk) is streamed, "partial_fit must return self"
        others = [self.fitted(chunk) for chunk in chunks]
        for index in data.draw(st.permutations(range(len(chunks)))):
            before = others[index].transform(X)
            assert merged.merge(others[index]) is merged
            np.testing.assert_array_equal(
                others[index].transform(X), before, "merge must leave the other as it is"
            )
        whole = self.fitted(X).transform(X)
        what = "must learn what one fit of all the rows would: is the statistic's merge exact?"
        assert_close(streamed.transform(X), whole, f"partial_fit {what}")
        assert_close(merged.transform(X), whole, f"merge {what}")

    def test_fit_forgets(self) -> None:
        one, other = np.random.default_rng(1).standard_normal((2, 40, 3)) * [[[1.0]], [[50.0]]]
        scaler = self.fitted(other).fit(one)
        np.testing.assert_array_equal(
            scaler.transform(one), self.fitted(one).transform(one), "fit must begin anew"
        )

    # -- an object among others ------------------------------------------------------------

    def test_its_plugin_is_usable(self) -> None:
        cls = type(self.make())
        assert issubclass(cls, Scaler), (
            "a scaler derives from normcore.AffineScaler, normcore.PointwiseScaler or "
            "normcore.RowScaler"
        )
        if not self.registered:
            pytest.skip("this scaler is not registered")
        name = scaler_name(cls)
        assert name is not None, (
            f"{cls.__name__} is not registered: let a hook name it, or say registered = False"
        )
        assert_usable(catalog().of_kind("scaler")[name])

    @laws
    @given(X=tables(dtypes=("float64",)))
    def test_pickle_keeps_every_bit(self, X: np.ndarray) -> None:
        scaler = self.fitted(X)
        again = pickle.loads(pickle.dumps(scaler))
        np.testing.assert_array_equal(again.transform(X), scaler.transform(X), _STATE)

    @laws
    @given(X=tables(dtypes=("float64",)))
    def test_saved_state_is_whole(self, X: np.ndarray) -> None:
        if not self.registered:
            pytest.skip("this scaler is not registered")
        scaler = self.fitted(X)
        again = type(scaler).from_dict(scaler.to_dict())
        np.testing.assert_array_equal(again.transform(X), scaler.transform(X), _STATE)
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
        np.testing.assert_array_equal(again.transform(X), scaler.transform(X), _STATE)


def _all_nan(X: np.ndarray) -> np.ndarray:
    """Columns without a value, whose every result is NaN."""
    return np.isnan(X).all(axis=0, keepdims=True)
