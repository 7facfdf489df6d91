"""Saved scalers: exact, strict JSON, and clear about files that are not what they should be."""

import json
import os
import sys

import numpy as np
import pytest
from discovery import make_plugin, more_discovery

import normcore as nc
from normcore.saving.scaler_file import _decode, _encode, load_scaler, save_scaler

X = np.random.default_rng(0).normal(1e7, [1e-3, 1.0, 1e5], (50, 3))


def no_constants(name):
    raise AssertionError(f"{name} is not JSON")


def same(a, b):
    """Compare bits, so that 0.0 differs from -0.0; NaN equals NaN."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    signs = np.signbit(a) == np.signbit(b)
    return np.array_equal(a, b, equal_nan=True) and bool(np.all(signs | np.isnan(a)))


@pytest.mark.parametrize(
    "scaler",
    [
        nc.StandardScaler(with_mean=False),
        nc.MinMaxScaler(feature_range=(-1, 1 / 3), clip=True),
        nc.RobustScaler(quantile_range=(12.5, 99.9), unit_variance=True),
    ],
    ids=lambda scaler: type(scaler).__name__,
)
@pytest.mark.parametrize("names", [None, ["a", 'ü, "b"', ""]])
def test_round_trip_is_exact(scaler, names, tmp_path):
    pd = pytest.importorskip("pandas")
    data = X if names is None else pd.DataFrame(X, columns=names)
    scaler.fit(data)
    path = tmp_path / "scaler.json"
    scaler.save(path)
    json.loads(path.read_text(encoding="utf-8"), parse_constant=no_constants)
    loaded = nc.load(path)
    assert type(loaded) is type(scaler)
    assert loaded.get_params() == scaler.get_params()
    assert np.array_equal(loaded.n_samples_seen_, scaler.n_samples_seen_)
    if names is not None:
        assert loaded.feature_names_in_.tolist() == names
    for key, value in scaler._statistic.to_state().items():
        assert same(loaded._statistic.to_state()[key], value)
    assert same(loaded.transform(data), scaler.transform(data))


def test_parameters_changed_since_the_fit_are_not_saved(tmp_path):
    path = tmp_path / "scaler.json"
    scaler = nc.MinMaxScaler().fit(X).set_params(clip=True, copy=False)  # these take effect at once
    scaler.save(path)
    assert same(nc.load(path).transform(2 * X), scaler.transform(2 * X))
    scaler.set_params(feature_range=(0, 5))
    with pytest.raises(ValueError, match=r"feature_range was \(0, 1\) .* is \(0, 5\) now; fit"):
        scaler.save(path)
    scaler.fit(X).save(path)
    assert nc.load(path).feature_range == (0, 5)


def test_array_as_a_parameter(tmp_path):
    one, other = (nc.MinMaxScaler(np.array([0, 2])).fit(part) for part in (X[:20], X[20:]))
    one.merge(other).save(tmp_path / "scaler.json")
    loaded = nc.load(tmp_path / "scaler.json")
    assert isinstance(loaded.feature_range, np.ndarray)
    assert loaded.feature_range.tolist() == [0, 2]
    assert same(loaded.transform(X), one.transform(X))


def test_learning_continues_where_the_saved_scaler_stopped(tmp_path):
    half = nc.StandardScaler().fit(X[:20])
    half.save(tmp_path / "half.json")
    resumed = nc.load(tmp_path / "half.json").partial_fit(X[20:])
    straight = nc.StandardScaler().fit(X[:20]).partial_fit(X[20:])
    assert same(resumed.var_, straight.var_)
    assert same(resumed.mean_, straight.mean_)


def test_all_nan_column(tmp_path):
    data = X.copy()
    data[:, 1] = np.nan
    scaler = nc.MinMaxScaler().fit(data)
    scaler.save(tmp_path / "s.json")
    assert same(nc.load(tmp_path / "s.json").data_min_, scaler.data_min_)


SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, -1.7976931348623157e308, 0.1, 2.0**53 + 2]


def test_every_float_survives():
    rng = np.random.default_rng(1)
    values = np.concatenate([SPECIAL, rng.integers(0, 2**64, 20_000, np.uint64).view(np.float64)])
    values = values[: values.size // 3 * 3].reshape(3, -1)
    text = json.dumps(_encode({"a": values, "b": [float("inf"), -0.0]}), allow_nan=False)
    back = _decode(json.loads(text, parse_constant=no_constants))
    assert same(back["a"], values)
    assert back["b"][0] == float("inf")
    assert np.signbit(back["b"][1])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (1, 1)])
def test_array_shapes_survive(shape):
    assert same(_decode(json.loads(json.dumps(_encode(np.ones(shape))))), np.ones(shape))


def test_integers_are_saved_only_if_exact():
    assert same(_decode(_encode(np.array([3, 2**53]))), [3.0, 2.0**53])
    with pytest.raises(TypeError, match="cannot be saved"):
        _encode(np.array([2**53 + 1]))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "scaler.json"
    nc.StandardScaler().fit(X).save(path)
    return path


def change(path, **entries):
    content = json.loads(path.read_text())
    for key, value in entries.items():
        if value is None:
            del content[key]
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def test_truncated_anywhere(saved):
    whole = saved.read_text()
    for length in [*range(1, 60), *range(60, len(whole) - 3, 37)]:
        saved.write_text(whole[:length])
        with pytest.raises(ValueError, match=r"scaler\.json") as caught:
            load_scaler(saved)
        assert "truncated" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"a,b\n1,2\n", "not a saved scaler of normcore"),
        (b"[1, 2]", "not a saved scaler of normcore"),
        (b"{}", "not a saved scaler of normcore"),
        (b'{"format": "other", "version": 1}', "not a saved scaler of normcore"),
        (b'{"format": "normcore"}', "damaged: its version is None"),
        (b'{"format": "normcore", "version": true}', "damaged: its version is True"),
        (b'{"format": "normcore", "version": 1}', "does not say which scaler"),
        (b'{"format": "normcore", "version": 1, "x": NaN}', "NaN is not JSON"),
        (b'{"format": "normcore" "version": 1}', "damaged: Expecting ',' delimiter at line 1"),
        (b'{"format": "\xff"}', "not UTF-8"),
        (b"\x80\x04pickle", "not a saved scaler of normcore"),
        (b"{" * 100_000 + b"}", "damaged"),
    ],
)
def test_other_content(content, message, tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.json") as caught:
        load_scaler(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("depth", [200, 900, 100_000])
@pytest.mark.parametrize("pair", ["[]", ('{"a":', "}")])
@pytest.mark.parametrize(
    "key", ["format", "version", "scaler", "class", "params", "statistic", "feature_names_in", "x"]
)
def test_deep_nesting(key, pair, depth, saved):
    entries = json.loads(saved.read_text())
    entries[key] = "DEEP"
    deep = pair[0] * depth + "1" + pair[1] * depth
    saved.write_text(json.dumps(entries).replace('"DEEP"', deep))
    # What is parsed but not used does not matter, and how deep it may be is Python's.
    if depth < 100_000 and key in {"class", "x"}:
        refused = None
        try:
            load_scaler(saved)
        except ValueError as error:
            refused = str(error)
        assert refused is None or (depth == 900 and "scaler.json" in refused)
        return
    with pytest.raises(ValueError, match=r"scaler\.json"):
        load_scaler(saved)


@pytest.mark.parametrize(
    "kind", ["Standard", "MinMax", "MaxAbs", "Robust", "Percentile"], ids=str.lower
)
def test_a_description_is_the_callers(kind):
    """What is written into it does not reach the scaler."""
    scaler = getattr(nc, f"{kind}Scaler")().fit(np.arange(12.0).reshape(6, 2))
    before = scaler.transform([[1.0, 2.0]])
    statistic = scaler.to_dict()["statistic"]
    for name in statistic.keys() - {"name"}:
        statistic[name][...] = 7.0
    np.testing.assert_array_equal(scaler.transform([[1.0, 2.0]]), before)
    again = type(scaler).from_dict(scaler.to_dict())
    np.testing.assert_array_equal(again.transform([[1.0, 2.0]]), before)


def test_newer_version_says_what_to_do(saved):
    change(saved, version=3)
    with pytest.raises(ValueError, match=r"version 3.*pip install --upgrade"):
        load_scaler(saved)


@pytest.mark.parametrize(
    "missing", ["params", "statistic", "n_features_in", "feature_names_in", "n_samples_seen"]
)
def test_missing_field(missing, saved):
    change(saved, **{missing: None})
    with pytest.raises(ValueError, match=rf"scaler\.json is damaged.*{missing}"):
        load_scaler(saved)


@pytest.mark.parametrize(
    "entries",
    [
        {"n_features_in": 4},
        {"feature_names_in": ["a", "b"]},
        {"params": {"no_such_parameter": 1}},
        {"params": [1]},
        {"statistic": {"name": "extrema"}},
        {"statistic": {"name": "moments"}},
        {"statistic": {"name": "moments", "parts": {"shape": [7, 3], "float64": [1.0] * 20}}},
        {"statistic": {"name": "moments", "parts": {"shape": [7, 2], "float64": [1.0] * 14}}},
        {"statistic": {"name": "moments", "parts": {"shape": [3], "float64": [1.0] * 3}}},
        {"statistic": {"name": "moments", "parts": {"shape": [-1, 3], "float64": [1.0] * 21}}},
        {"statistic": {"name": "moments", "parts": {"shape": [7, 3], "float64": ["x"] * 21}}},
        {"statistic": {"name": "moments", "parts": {"shape": [7, 3], "float64": 5}}},
        {"n_samples_seen": "many"},
    ],
    ids=str,
)
def test_fields_that_do_not_fit(entries, saved):
    change(saved, **entries)
    with pytest.raises(ValueError, match=r"scaler\.json is damaged"):
        load_scaler(saved)


def test_a_file_names_no_module(saved):
    change(saved, scaler="os:system", **{"class": "os:system"})
    with pytest.raises(ValueError, match=r"there is no scaler 'os:system'.*install the plugin"):
        load_scaler(saved)


class Private(nc.AffineScaler):
    statistic = nc.Extrema

    def affine(self, extrema):
        return nc.Affine(scale=extrema.max)


def test_a_class_without_a_registered_name_is_refused_when_saving(tmp_path):
    with pytest.raises(ValueError, match="not registered"):
        save_scaler(Private().fit(X), tmp_path / "s.json")
    assert os.listdir(tmp_path) == []


def test_unfitted_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        nc.StandardScaler().save(tmp_path / "s.json")
    assert os.listdir(tmp_path) == []


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        nc.MinMaxScaler().fit(X).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_name_that_files_have_for_something_else(monkeypatch, tmp_path):
    class Mine(nc.StandardScaler):
        pass

    more_discovery(monkeypatch)
    monkeypatch.setattr(sys.modules[__name__], "Mine", Mine, raising=False)
    nc.register(make_plugin(f"registry.scaler('columns', '{__name__}:Mine')"))
    with pytest.raises(ValueError, match="as 'columns', which is what files call a ColumnScaler"):
        Mine().fit(X).save(tmp_path / "scaler.json")
    assert not list(tmp_path.iterdir())
