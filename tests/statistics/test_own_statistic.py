"""Statistics of one's own: fields, what they hold of some rows, how two of them merge."""

import math
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import library, to_strict, to_torch
from own_statistics import Middles, Powers, Scaler, digits, state

import normcore as nc


def expected(X, weights=None):
    weights = np.ones(len(X)) if weights is None else weights
    w = np.where(np.isnan(X), 0.0, weights[:, None])
    kept = np.where((w > 0) & ~np.isnan(X), X, np.inf)
    return {
        "count": w.sum(axis=0).tolist(),
        "total": (np.nan_to_num(X) * w).sum(axis=0).tolist(),
        "least": kept.min(axis=0).tolist(),
        "histogram": [((np.nan_to_num(X) == d) * w).sum(axis=0).tolist() for d in range(4)],
    }


@pytest.mark.parametrize("layout", ["C", "F", "sliced"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i8", "u1"])
def test_blocks_and_threads_do_not_matter(dtype, layout):
    X = digits(70_001, 3).astype(dtype)
    X = X[::-2] if layout == "sliced" else np.asarray(X, order=layout)
    for number in (1, 2, 5):
        with nc.use_num_threads(number):
            assert state(Scaler().fit(X)._statistic) == expected(X.astype(float)), number


@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_pieces_merge_in_any_order(data):
    X = digits(data.draw(st.integers(1, 300)), data.draw(st.integers(1, 4)), 1)
    X[data.draw(st.integers(0, len(X) - 1))] = np.nan
    weights = digits(len(X), 1, 2)[:, 0] if data.draw(st.booleans()) else np.ones(len(X))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(X) - 1, 1)), max_size=3)))
    pieces = [p for p in np.split(np.arange(len(X)), cuts) if p.size and weights[p].any()]
    if not pieces:
        return
    whole = expected(X[np.concatenate(pieces)], weights[np.concatenate(pieces)])
    streamed, merged = Scaler(), Scaler()
    for piece in data.draw(st.permutations(pieces)):
        streamed.partial_fit(X[piece], sample_weight=weights[piece])
        merged.merge(Scaler().fit(X[piece], sample_weight=weights[piece]))
    assert state(streamed._statistic) == state(merged._statistic) == whole


def test_nothing_is_neutral():
    seen = Powers.observe(nc.get_backend("cpu"), digits(50, 3)[:, :, None])
    empty = Powers.empty(3)
    assert empty.num_channels == 3
    assert empty.histogram.shape == (4, 3)
    assert empty.merge(seen) == seen == seen.merge(empty)


@pytest.mark.parametrize("name", ["reference", "strict", "torch", "torch on cpu", "cupy"])
def test_arrays_of_every_library(name, monkeypatch):
    X = digits(5_000, 3)
    X[7, 1] = np.nan
    with library(name, monkeypatch) as known:
        scaler = Scaler(backend=known.backend).fit(known.native(X))
        assert state(scaler._statistic) == expected(X)
        result = scaler.transform(known.native(X))
        assert isinstance(result, known.kind)
        np.testing.assert_array_equal(known.host(result), Scaler().fit(X).transform(X))


@pytest.mark.parametrize("convert", [np.asarray, to_strict, to_torch])
def test_any_axes_and_masks(convert):
    X = digits(600, 12).reshape(30, 20, 3, 4)
    where = np.random.default_rng(3).random(X.shape) < 0.7
    scaler = Scaler(axis=(2,)).fit(convert(X), where=convert(where))
    columns = np.where(where, X, np.nan).transpose(0, 1, 3, 2).reshape(-1, 3)
    assert state(scaler._statistic) == expected(columns)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array])
def test_sparse_matrices(kind):
    X = digits(3_000, 5) * (np.random.default_rng(4).random((3_000, 5)) < 0.3)
    scaler = Scaler().fit(kind(X))
    assert state(scaler._statistic) == expected(X)
    np.testing.assert_array_equal(scaler.transform(kind(X)).toarray(), Scaler().fit(X).transform(X))


def test_files_are_fitted_batch_by_batch(tmp_path):
    X = digits(5_000, 2)
    np.save(tmp_path / "x.npy", X)
    scaler = Scaler()
    nc.fit_source(tmp_path / "x.npy", scaler, batch_rows=700, memory_limit=1 << 20)
    assert state(scaler._statistic) == expected(X)


def test_dask(monkeypatch):
    dask = pytest.importorskip("dask.array")
    X = digits(1_000, 2)
    scaler = Scaler().fit(dask.from_array(X, chunks=(137, 2)))
    assert state(scaler._statistic) == expected(X)


@pytest.mark.parametrize("bad", [math.inf, -math.inf])
@pytest.mark.parametrize("convert", [np.asarray, to_strict, to_torch])
def test_infinity_is_refused_by_its_place(bad, convert):
    X = digits(40_000, 2)
    X[30_000, 1] = bad
    with pytest.raises(ValueError, match="column 1, first at row 30000"):
        Scaler().fit(convert(X))
    hidden = np.isfinite(X)
    scaler = Scaler().fit(convert(X), where=convert(hidden))
    assert state(scaler._statistic) == expected(np.where(hidden, X, np.nan))


def test_a_plugin_may_refuse_infinity_itself():
    class Refusing(Powers):
        @classmethod
        def observe(cls, backend, x, *, weights=None, skipna=False):
            raise nc.InfiniteInput

    class Fussy(Scaler):
        statistic = Refusing

    X = digits(10, 2)
    X[3, 1] = math.inf
    with pytest.raises(ValueError, match="infinity: column 1, first at row 3"):
        Fussy().fit(X)
    with pytest.raises(nc.InfiniteInput, match=r"Refusing\.observe takes no value as large as one"):
        Fussy().fit(digits(10, 2))


@pytest.mark.parametrize("rows", [8, 70_000])
@pytest.mark.parametrize("convert", [np.asarray, to_strict, to_torch])
def test_a_value_that_is_too_large_is_named(convert, rows):
    class Small(Powers):
        @classmethod
        def of_rows(cls, xp, x, weights=None):
            if bool(xp.any(xp.abs(x) > 9)):
                raise nc.InfiniteInput
            return super().of_rows(xp, x, weights)

    class Fussy(Scaler):
        statistic = Small

    X = digits(rows, 2)
    X[rows - 3 :, 1] = 25.0
    with pytest.raises(
        nc.InfiniteInput, match=rf"Small\.of_rows .*25.0 in column 1, first at row {rows - 3}"
    ):
        Fussy().fit(convert(X))
    assert Fussy().fit(convert(X[: rows - 3])).n_samples_seen_ == rows - 3


def test_temporaries_stay_small():
    X = np.ones((2_000_000, 4), np.float32)
    scaler = Scaler()
    tracemalloc.start()
    try:
        scaler.fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


def test_states_that_do_not_fit():
    whole = Powers.observe(nc.get_backend("cpu"), digits(9, 2)[:, :, None]).to_state()
    assert Powers.from_state(whole).to_state().keys() == whole.keys()
    for change, message in [
        ({"total": [1.0]}, r"'total' of powers has shape \(1,\), not \(2,\)"),
        ({"histogram": [[1.0, 2.0]]}, r"has shape \(1, 2\), not \(4, 2\)"),
        ({"count": "many"}, "is no array of numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            Powers.from_state({**whole, **change})
    with pytest.raises(ValueError, match="lacks 'least'"):
        Powers.from_state({key: whole[key] for key in whole if key != "least"})
    with pytest.raises(TypeError, match=r"has the fields count, total.*given: count"):
        Powers(count=1.0)


# -- what cannot merge -------------------------------------------------------------------------


class MiddleScaler(nc.AffineScaler):
    statistic = Middles
    mergeable = False

    def affine(self, middles):
        self.middle_ = middles.middle
        return nc.Affine(center=middles.middle)


def test_one_that_does_not_merge_sees_all_rows_at_once():
    X = np.arange(200_001.0)[:, None]
    assert MiddleScaler().fit(X).middle_ == [100_000.0]
    assert MiddleScaler().fit(np.flipud(X)[::-1]).middle_ == [100_000.0]
    cube = X[:200_000].reshape(100, 200, 10).transpose(0, 2, 1)
    assert MiddleScaler(axis=None).fit(cube).middle_.size == 1


def test_it_says_so_wherever_pieces_would_have_to_merge(tmp_path):
    X = digits(100, 2)
    scaler = MiddleScaler().fit(X)
    assert not hasattr(scaler, "partial_fit")
    with pytest.raises(AttributeError, match=r"MiddleScaler has no partial_fit: .* call fit with"):
        scaler.partial_fit(X)
    with pytest.raises(ValueError, match="cannot be merged: what MiddleScaler learns"):
        scaler.merge(MiddleScaler().fit(X))
    np.save(tmp_path / "x.npy", X)
    held = MiddleScaler()
    nc.fit_source(tmp_path / "x.npy", held, batch_rows=7)  # its columns are held in memory
    assert (held.middle_ == scaler.middle_).all()
    with pytest.raises(ValueError, match="needs all values"):
        nc.fit_source(tmp_path / "x.npy", MiddleScaler(), memory_limit=64)
    dask = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match="needs all values of a column at once"):
        MiddleScaler().fit(dask.from_array(X, chunks=(50, 2)))


def test_a_scaler_that_forgets_to_say_so_is_told():
    class Forgetful(MiddleScaler):
        mergeable = True
        exact_streaming = True

    scaler = Forgetful().fit(digits(9, 1))
    with pytest.raises(TypeError, match=r"does not merge: .* say mergeable = False"):
        scaler.partial_fit(digits(9, 1))


def test_one_without_rows_or_weights_says_what_is_missing():
    class Blank(nc.Statistic):
        neutral = {"count": 0.0}  # noqa: RUF012

    class BlankScaler(nc.WeightedScaler, nc.AffineScaler):
        statistic = Blank

        def affine(self, blank):
            return nc.Affine()

    with pytest.raises(NotImplementedError, match=r"define of_rows\(cls, xp, x\)"):
        BlankScaler().fit(digits(9, 1))

    class Unweighted(BlankScaler):
        statistic = Middles

    with pytest.raises(TypeError, match="Middles takes no weights"):
        Unweighted().fit(digits(9, 1), sample_weight=np.ones(9))
