"""Formats by name: those there are, a third party's, and what is refused in each."""

import re
import sys

import numpy as np
import pytest
from discovery import make_plugin
from outside_formats import register_formats

import normcore as nc
from normcore import registration

X = np.random.default_rng(0).normal(size=(20, 2))
FORMATS = ["c", "onnx", "polars", "sklearn", "sql", "torch"]
LIBRARIES = {"onnx": "onnx", "polars": "polars", "sklearn": "sklearn", "torch": "torch"}
NUMBERS = [each for each in FORMATS if each != "sklearn"]


@pytest.fixture(params=FORMATS)
def format(request):
    if request.param in LIBRARIES:
        pytest.importorskip(LIBRARIES[request.param])
    return request.param


def test_an_unknown_format_lists_those_there_are():
    message = f"there is no exporter 'excel'; known: {', '.join(FORMATS)}"
    with pytest.raises(ValueError, match=re.escape(message)):
        nc.StandardScaler().fit(X).export("excel")


def test_the_core_offers_its_formats_as_a_plugin_would():
    rows = [row for row in registration.registrations() if row.kind == "exporter"]
    assert sorted(row.name for row in rows) == FORMATS
    assert {row.distribution for row in rows} == {"normcore-arrays"}


def test_unknown_options_name_those_there_are(format):
    with pytest.raises(TypeError, match=rf"export to '{format}': .*'size'; its options: "):
        nc.StandardScaler().fit(X).export(format, size=3)


@pytest.mark.parametrize("format", ["c", "onnx", "polars", "sql"])
@pytest.mark.parametrize("inverse", ["no", 0, None, [True]])
def test_what_is_neither_true_nor_false(format, inverse):
    pytest.importorskip(LIBRARIES.get(format, "sys"))
    with pytest.raises(ValueError, match="inverse must be True or False, got "):
        nc.StandardScaler().fit(X).export(format, inverse=inverse)


def test_unfitted_scalers(format):
    with pytest.raises(Exception, match="This StandardScaler instance is not fitted yet") as error:
        nc.StandardScaler().export(format)
    assert type(error.value).__name__ == "NotFittedError"


@pytest.mark.parametrize(
    ("scaler", "said"),
    [
        (nc.PowerTransformer(), "PowerTransformer is another map: export it to 'sklearn', or keep"),
        (nc.QuantileTransformer(n_quantiles=5), "QuantileTransformer is another map: export it"),
        (nc.Normalizer(), "Normalizer is another map: export it to 'sklearn', or keep it with"),
        (nc.PercentileScaler(clip="soft"), "this PercentileScaler squashes what lies beyond"),
        (nc.StandardScaler(axis=0), "is for tables, and this StandardScaler has axis=0"),
        (nc.StandardScaler(axis=None), "is for tables, and this StandardScaler has axis=None"),
    ],
    ids=lambda each: type(each).__name__ if hasattr(each, "fit") else "",
)
@pytest.mark.parametrize("format", NUMBERS)
def test_maps_that_four_numbers_do_not_say(format, scaler, said):
    if format in LIBRARIES:
        pytest.importorskip(LIBRARIES[format])
    with pytest.raises((TypeError, ValueError), match=re.escape(said)) as error:
        scaler.fit(X).export(format)
    assert f"export to {format!r}" in str(error.value)


def test_soft_percentiles_are_no_estimator_of_scikit_learn():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="squashes what lies beyond: fit one that clips"):
        nc.PercentileScaler(clip="soft").fit(X).export("sklearn")


def test_integers_that_float64_rounds(format):
    clock = np.array([[2**60 + 1, 0], [2**60 + 900_001, 1], [2**60 + 800_002, 3]])
    scaler = nc.StandardScaler().fit(clock)
    with pytest.raises(ValueError, match=r"column 0 of X held integers beyond 2\*\*53"):
        scaler.export(format)
    nc.StandardScaler().fit(clock.astype(np.float64)).export(format)  # and these are floats


def test_values_near_the_largest_float64(format):
    scaler = nc.StandardScaler().fit(np.array([[-1.7e308, 1.0], [1.7e308, 2.0], [1.7e308, 4.0]]))
    with pytest.raises(ValueError, match="column 0 of X has values near the largest float64"):
        scaler.export(format)


def test_a_transform_of_ones_own_is_refused(format):
    class Shifted(nc.StandardScaler):
        def transform(self, X):
            return super().transform(X) + 1

    with pytest.raises(TypeError, match=r"Shifted\.transform replaces that of AffineScaler"):
        Shifted().fit(X).export(format)


def test_a_column_scaler_is_exported_in_parts(format):
    scaler = nc.ColumnScaler([("first", nc.StandardScaler(), [0])]).fit(X)
    with pytest.raises(TypeError, match="not a ColumnScaler"):
        scaler.export(format)
    assert scaler.named_transformers_["first"].export("sql").startswith("(CAST")


@pytest.mark.parametrize("format", sorted(LIBRARIES))
def test_a_missing_library_is_named(format, monkeypatch):
    registration.exporter_registration(format).resolve()
    monkeypatch.setitem(sys.modules, LIBRARIES[format], None)
    with pytest.raises(ImportError, match=f"export to '{format}' needs .*pip install"):
        nc.StandardScaler().fit(X).export(format)


def test_a_third_party_adds_a_format(monkeypatch):
    register_formats(monkeypatch)
    scaler = nc.StandardScaler.from_statistics(mean=[2.0], std=[1.0])
    assert scaler.export("words") == "hello 2.0"
    assert scaler.export("words", greeting="bye") == "bye 2.0"
    assert scaler.export("numbers").tolist() == [2.0]
    with pytest.raises(TypeError, match="'size'; its options: greeting"):
        scaler.export("words", size=2)
    with pytest.raises(nc.PluginError, match="exporter 'sql' is already registered by plugin 'co"):
        nc.register(make_plugin("registry.exporter('sql', 'a:b')"))
    nc.register(make_plugin("registry.exporter('broken', 'normcore_words:nothing')", name="b"))
    with pytest.raises(nc.PluginError, match=r"the target .* of exporter 'broken' does not import"):
        scaler.export("broken")
