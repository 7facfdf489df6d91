"""RobustScaler by a sketch of quantiles: streams, merging, saving, files."""

from __future__ import annotations

import json

import numpy as np
import pytest

import normcore as nc
from normcore.io import fit_file
from normcore.statistics import exact_quantiles

Q = np.array([0.25, 0.5, 0.75])


@pytest.fixture
def X() -> np.ndarray:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 4)) * [1, 1e-6, 1e6, 3] + [0, 1, -1e7, 0]
    X[:, 3] = np.exp(X[:, 3])
    X[::9, 1] = np.nan
    return X


def rank_error(X: np.ndarray, scaler: nc.RobustScaler) -> float:
    """Return the largest rank error of the median and of both quartiles, by their definition."""
    low, median, high = scaler._statistic.values
    assert np.array_equal(scaler.center_, median)
    assert np.array_equal(scaler.scale_, high - low)
    errors = []
    for values, *found in zip(X.T, low, median, high, strict=True):
        values = np.sort(values[~np.isnan(values)])
        ranks = np.searchsorted(values, found) / len(values)
        errors.append(np.abs(ranks - Q).max())
    return max(errors)


def test_exact_is_the_default_and_keeps_its_bits(X) -> None:
    exact = nc.RobustScaler().fit(X)
    assert exact.get_params()["quantiles"] == "exact"
    assert exact.quantile_error_ == 0.0
    kept = nc.RobustScaler(keep_sketch=True).fit(X)
    for scaler in (exact, kept):
        low, median, high = np.nanquantile(X, Q, axis=0)
        np.testing.assert_array_equal(scaler.center_, median)
        np.testing.assert_array_equal(scaler.scale_, high - low)
        assert scaler.quantile_error_ == 0.0
    assert exact._statistic.sketch is None


@pytest.mark.parametrize("rows", [1, 100, 3000, 7001])
def test_partial_fit_keeps_the_promise(X, rows) -> None:
    part = X[: 400 if rows == 1 else None]
    scaler = nc.RobustScaler(quantiles="sketch", quantile_error=0.02)
    for start in range(0, len(part), rows):
        scaler.partial_fit(part[start : start + rows])
    assert scaler.n_samples_seen_ == len(part)
    if rows == 1:  # fewer than a sketch keeps
        exact = nc.RobustScaler().fit(part)
        assert scaler.quantile_error_ == 0.0
        np.testing.assert_array_equal(scaler.center_, exact.center_)
        np.testing.assert_array_equal(scaler.scale_, exact.scale_)
    else:
        assert 0 < scaler.quantile_error_ <= 0.02
        assert rank_error(part, scaler) <= scaler.quantile_error_


@pytest.mark.parametrize("options", [{"quantiles": "sketch"}, {"keep_sketch": True}])
def test_merging_agrees_with_fitting_all(X, options) -> None:
    whole = nc.RobustScaler(**options).fit(X)
    merged = nc.RobustScaler(**options).fit(X[:8000])
    other = nc.RobustScaler(**options).fit(X[8000:])
    before = other.to_dict()
    assert merged.merge(other) is merged
    np.testing.assert_equal(other.to_dict(), before)
    assert merged.n_samples_seen_ == whole.n_samples_seen_ == len(X)
    assert 0 < merged.quantile_error_ <= 0.01
    assert rank_error(X, merged) <= merged.quantile_error_
    assert rank_error(X, whole) <= whole.quantile_error_ + 1 / len(X)
    again = nc.RobustScaler(**options).fit(X[:8000]).merge(other)
    np.testing.assert_array_equal(again.center_, merged.center_)
    unfitted = nc.RobustScaler(**options).merge(other)
    np.testing.assert_array_equal(unfitted.scale_, other.scale_)


def test_an_exact_fit_continues_by_its_sketch(X) -> None:
    scaler = nc.RobustScaler(keep_sketch=True).fit(X[:15_000])
    assert scaler.quantile_error_ == 0.0
    scaler.partial_fit(X[15_000:])
    assert 0 < scaler.quantile_error_ <= 0.01
    assert rank_error(X, scaler) <= scaler.quantile_error_
    assert scaler.fit(X).quantile_error_ == 0.0


def test_an_exact_fit_without_a_sketch_says_so(X) -> None:
    scaler = nc.RobustScaler().fit(X)
    assert not hasattr(scaler, "partial_fit")
    with pytest.raises(AttributeError, match=r"keeps no sketch.*quantiles='sketch' or keep_sketch"):
        scaler.partial_fit(X)
    center = scaler.center_.copy()
    with pytest.raises(ValueError, match=r"keeps no sketch.*quantiles='sketch' or keep_sketch"):
        scaler.merge(nc.RobustScaler().fit(X))
    scaler.set_params(keep_sketch=True)
    with pytest.raises(ValueError, match="keeps no sketch"):
        scaler.partial_fit(X)
    np.testing.assert_array_equal(scaler.center_, center)
    with pytest.raises(ValueError, match=r"quantile_error=0.01 and 0.02"):
        nc.RobustScaler(quantiles="sketch").fit(X).merge(
            nc.RobustScaler(quantiles="sketch", quantile_error=0.02).fit(X)
        )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"quantiles": "approximate"}, "quantiles must be 'exact' or 'sketch'"),
        ({"quantiles": None}, "quantiles must be"),
        ({"quantile_error": 0}, "quantile_error must be a number"),
        ({"quantile_error": "small"}, "quantile_error must be a number"),
        ({"keep_sketch": "no"}, "keep_sketch must be True or False"),
    ],
)
def test_bad_parameters(X, params, message) -> None:
    with pytest.raises(ValueError, match=message):
        nc.RobustScaler(**params).fit(X)


@pytest.mark.parametrize("n", [1, 7, 300, 40_000])
def test_whole_weights_repeat_rows(n) -> None:
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, 3)).round(2)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[0], X[:, 2] = 0.5, np.where(rng.random(n) < 0.7, 0.0, X[:, 2])
    weights = rng.integers(0, 5, n)
    weights[0] = 3
    for given in (weights, weights.astype(np.float32), weights.tolist()):
        ours = nc.RobustScaler(quantile_range=(10, 80)).fit(X, sample_weight=given)
        repeated = nc.RobustScaler(quantile_range=(10, 80)).fit(np.repeat(X, weights, axis=0))
        np.testing.assert_array_equal(ours.center_, repeated.center_)
        np.testing.assert_array_equal(ours.scale_, repeated.scale_)
        assert ours.quantile_error_ == 0.0
    ones = nc.RobustScaler().fit(X, sample_weight=np.ones(n))
    np.testing.assert_array_equal(ones.center_, nc.RobustScaler().fit(X).center_)


@pytest.mark.parametrize("errors", [(0.01,), (0.01, 8.0)])
def test_whole_weights_by_every_road(monkeypatch, errors) -> None:
    """Brackets that miss, and counting alone."""
    monkeypatch.setattr(exact_quantiles, "_WHOLE", 256)
    monkeypatch.setattr(exact_quantiles, "_STANDARD_ERRORS", errors)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 3)).round(1) * [1, 1e-200, 1e200]
    weights = rng.integers(0, 4, 3000)
    ours = nc.RobustScaler(quantile_range=(0, 99)).fit(X, sample_weight=weights)
    repeated = np.repeat(X, weights, axis=0)
    np.testing.assert_array_equal(ours.center_, np.median(repeated, axis=0))
    low, high = np.quantile(repeated, [0, 0.99], axis=0)
    np.testing.assert_array_equal(ours.scale_, high - low)


def test_other_weights_are_those_of_the_inverted_cdf() -> None:
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((500, 2)), rng.random(500)
    scaler = nc.RobustScaler().fit(X, sample_weight=weights)
    low, median, high = (
        np.quantile(X, q, axis=0, weights=weights, method="inverted_cdf") for q in Q
    )
    np.testing.assert_array_equal(scaler.center_, median)
    np.testing.assert_array_equal(scaler.scale_, high - low)
    scaled = nc.RobustScaler().fit(X, sample_weight=weights * 1e-200)
    np.testing.assert_array_equal(scaled.center_, median)


@pytest.mark.parametrize("options", [{"quantiles": "sketch"}, {"keep_sketch": True}])
def test_a_sketch_carries_whole_weights(X, options) -> None:
    weights = np.random.default_rng(0).integers(0, 9, len(X))
    weights[7] = 1000
    scaler = nc.RobustScaler(**options).fit(X[:9000], sample_weight=weights[:9000])
    scaler.merge(nc.RobustScaler(**options).fit(X[9000:], sample_weight=weights[9000:]))
    repeated = np.repeat(X, weights, axis=0)
    assert scaler._statistic.count[0] == len(repeated)
    assert 0 < scaler.quantile_error_ <= 0.01
    assert rank_error(repeated, scaler) <= scaler.quantile_error_ + 1000 / len(repeated)
    few = nc.RobustScaler(**options).fit(X[:300], sample_weight=weights[:300])
    assert few.quantile_error_ == 0.0
    exact = nc.RobustScaler().fit(np.repeat(X[:300], weights[:300], axis=0))
    np.testing.assert_array_equal(few.center_, exact.center_)
    np.testing.assert_array_equal(few.scale_, exact.scale_)
    with pytest.raises(ValueError, match="other than whole numbers whose sum is below"):
        nc.RobustScaler(**options).fit(X, sample_weight=weights + 0.5)


def test_a_failed_partial_fit_changes_nothing(X) -> None:
    scaler = nc.RobustScaler(quantiles="sketch").fit(X)
    before = scaler.to_dict()
    bad = X[:10].copy()
    bad[3, 2] = np.inf
    for wrong, message in ((bad, "infinity"), (X[:, :3], "3 features")):
        with pytest.raises(ValueError, match=message):
            scaler.partial_fit(wrong)
    np.testing.assert_equal(scaler.to_dict(), before)


@pytest.mark.parametrize("options", [{"quantiles": "sketch"}, {"keep_sketch": True}, {}])
def test_saved_files_go_on(X, tmp_path, options) -> None:
    scaler = nc.RobustScaler(**options).fit(X[:9000])
    scaler.save(tmp_path / "s.json")
    loaded = nc.load(tmp_path / "s.json")
    assert loaded.get_params() == scaler.get_params()
    assert loaded.quantile_error_ == scaler.quantile_error_
    np.testing.assert_array_equal(loaded.transform(X), scaler.transform(X))
    if options:
        loaded.partial_fit(X[9000:])
        np.testing.assert_array_equal(loaded.center_, scaler.partial_fit(X[9000:]).center_)


def test_a_file_of_an_earlier_version_is_read(X, tmp_path) -> None:
    scaler = nc.RobustScaler().fit(X)
    scaler.save(tmp_path / "s.json")
    text = json.loads((tmp_path / "s.json").read_text())
    for name in ("quantiles", "quantile_error", "keep_sketch"):
        del text["params"][name]
    assert set(text["statistic"]) == {"name", "q", "values", "count", "infinite"}
    (tmp_path / "s.json").write_text(json.dumps(text))
    np.testing.assert_array_equal(nc.load(tmp_path / "s.json").center_, scaler.center_)


SPOILED = {
    "other values": (lambda s: s["values"]["float64"].__setitem__(4, 0.123), "not those"),
    "other count": (lambda s: s["count"]["float64"].__setitem__(0, 7), "count"),
    "other error": (lambda s: s["rank_error"]["float64"].__setitem__(0, 1e-3), "rank error"),
    "negative count": (lambda s: s["sketch_count"]["float64"].__setitem__(0, -5), "not negative"),
    "sizes": (lambda s: s["sketch_sizes"]["float64"].__setitem__(0, 5), "should hold"),
    "no sketch": (lambda s: s.pop("sketch_values"), "values"),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_impossible_files_are_refused(X, tmp_path, fault) -> None:
    spoil, message = SPOILED[fault]
    path = tmp_path / "spoiled.json"
    nc.RobustScaler(quantiles="sketch").fit(X).save(path)
    saved = json.loads(path.read_text())
    spoil(saved["statistic"])
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=rf"spoiled.json is damaged.*{message}"):
        nc.load(path)


def test_sparse_matrices_axes_and_masks(X) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X = np.nan_to_num(X) * (np.abs(X) > 0.5)
    for options in ({"quantiles": "sketch"}, {"keep_sketch": True}):
        scaler = nc.RobustScaler(with_centering=False, **options).fit(sparse.csr_array(X))
        found = scaler._statistic
        assert found.count.tolist() == found.sketch.count.tolist() == [len(X)] * 4
        exact = nc.RobustScaler(with_centering=False).fit(X)._statistic.values
        below = (found.values[:, None] > X).mean(axis=1), (found.values[:, None] >= X).mean(axis=1)
        reached = scaler.quantile_error_ + 1 / len(X)
        assert (below[0] - Q[:, None] <= reached).all()
        assert (Q[:, None] - below[1] <= reached).all()
        assert options.get("quantiles") or np.array_equal(found.values, exact)
        scaler.partial_fit(sparse.csc_array(X))
    by_axes = nc.RobustScaler(quantiles="sketch", axis=(1, 2)).fit(X.reshape(-1, 2, 2))
    table = nc.RobustScaler(quantiles="sketch").fit(X)
    np.testing.assert_array_equal(by_axes.center_, table.center_.reshape(2, 2))
    shown = np.random.default_rng(1).random(X.shape) < 0.5
    masked = nc.RobustScaler(quantiles="sketch").fit(X, where=shown)
    hidden = nc.RobustScaler(quantiles="sketch").fit(np.where(shown, X, np.nan))
    np.testing.assert_array_equal(masked.scale_, hidden.scale_)


def test_files_are_streamed_only_where_asked(X, tmp_path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.csv"
    np.savetxt(path, X[:, [0, 2]], delimiter=",", header="a,b", comments="")
    for options in ({}, {"keep_sketch": True}):
        exact = nc.RobustScaler(**options)
        fit_file(path, exact, batch_rows=1000)
        assert exact.quantile_error_ == 0.0
        np.testing.assert_array_equal(exact.center_, np.median(X[:, [0, 2]], axis=0))
    sketched = nc.RobustScaler(quantiles="sketch")
    fit_file(path, sketched, batch_rows=1000)
    assert 0 < sketched.quantile_error_ <= 0.01
    assert rank_error(X[:, [0, 2]], sketched) <= sketched.quantile_error_
    assert list(sketched.feature_names_in_) == ["a", "b"]


def test_the_command_line_takes_the_parameters(X, tmp_path) -> None:
    run = pytest.importorskip("command_line").run
    path, saved = tmp_path / "table.csv", tmp_path / "scaler.json"
    np.savetxt(path, X[:, [0, 2]], delimiter=",", header="a,b", comments="")
    params = ("--param", "quantiles=sketch", "--param", "quantile_error=0.05")
    result = run("fit", path, "--scaler", "robust", *params, "--save", saved)
    assert result.exit_code == 0, result.output
    scaler = nc.load(saved)
    assert (scaler.quantiles, scaler.quantile_error) == ("sketch", 0.05)
    assert 0 < scaler.quantile_error_ <= 0.05
    shown = run("inspect", saved).stdout
    assert f"quantiles within: {scaler.quantile_error_:.2%} of the ranks\n" in shown
