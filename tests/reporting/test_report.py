"""What a report says, against NumPy's own computations and rational arithmetic."""

import json
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import normcore as nc

pytest.importorskip("pyarrow")


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def columns_of(X, **options):
    return {column.name: column for column in nc.report(X, **options).columns}


def rank_error(values, q, value):
    """Return the share of the values between a number and the neighbours of the quantile q."""
    ordered = np.sort(values)
    least, most = np.floor(q * (len(values) - 1)), np.ceil(q * (len(values) - 1))
    below, upto = np.searchsorted(ordered, value), np.searchsorted(ordered, value, "right")
    return max(below - most, least + 1 - upto, 0) / len(values)


TABLES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 60), st.integers(1, 4)),
    elements=st.one_of(
        st.floats(allow_nan=True, allow_infinity=True, width=64),
        st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, np.nan]),
    ),
)


@settings(deadline=None, max_examples=150)
@given(TABLES)
def test_every_number_is_that_of_the_finite_values(X):
    report = nc.report(X)
    json.loads(report.json)
    assert report.num_rows == len(X)
    for column, values in zip(report.columns, X.T, strict=True):
        finite = values[np.isfinite(values)]
        assert column.count == finite.size
        assert column.nan == np.isnan(values).sum()
        assert column.infinity == np.isinf(values).sum()
        assert column.nulls == 0
        if not finite.size:
            assert column.min is column.max is column.mean is column.std is None
            assert column.quartiles == ()
            assert column.before is None
            continue
        assert column.min == finite.min()
        assert column.max == finite.max()
        exact = [Fraction(value) for value in finite]
        mean = sum(exact) / len(exact)
        assert column.mean == pytest.approx(float(mean), rel=1e-15, abs=5e-324)
        if 1e-150 < np.abs(finite).max() < 1e150:
            assert column.std == pytest.approx(statistics.pstdev(exact), rel=1e-14)
        for quartile in column.quartiles:
            assert quartile.error == pytest.approx(rank_error(finite, quartile.q, quartile.value))
            assert quartile.error == 0  # few values are all kept
        with np.errstate(over="ignore"):
            low, _, high = (quartile.value for quartile in column.quartiles)
            reach = 1.5 * (high - low)
            outside = (finite < low - reach) | (finite > high + reach)
        assert column.outliers == outside.sum()
        for drawn in (column.before, column.after):
            if drawn is not None:
                assert drawn.below + sum(drawn.counts) + drawn.above == finite.size


def test_histograms_are_numpys(rng):
    factors = [1, 1e-200, 1e200]
    X = rng.normal(size=(20_000, 3)) * factors
    for column, values, factor in zip(nc.report(X).columns, X.T, factors, strict=True):
        drawn = column.before
        edges = np.linspace(drawn.low, drawn.high, len(drawn.counts) + 1)
        inside = values[(values >= drawn.low) & (values <= drawn.high)]
        expected = np.histogram(inside / factor, edges / factor)[0]
        np.testing.assert_allclose(drawn.counts, expected, atol=1)  # a value at an edge
        assert drawn.below == (values < drawn.low).sum()
        assert drawn.above == (values > drawn.high).sum()


def test_few_whole_numbers_have_a_bin_each(rng):
    values = rng.integers(-3, 5, 5000)
    drawn = columns_of(values[:, None].astype(float))["x0"].before
    assert drawn.discrete
    assert (drawn.low, drawn.high) == (-3.5, 4.5)
    assert drawn.counts == tuple(np.bincount(values + 3))


def test_bins_of_whole_numbers_have_as_many_each(rng):
    values = rng.integers(18, 90, 5000)
    drawn = columns_of(values[:, None].astype(float))["x0"].before
    assert (drawn.low, drawn.high, len(drawn.counts), drawn.discrete) == (18, 90, 24, False)
    assert drawn.counts == tuple(np.bincount((values - 18) // 3))


@pytest.mark.parametrize("name", ["normal", "skewed", "spiky"])
def test_the_histogram_after_is_that_of_the_scaled_column(rng, name):
    x = {
        "normal": rng.normal(3, 2, 4000),
        "skewed": rng.lognormal(0, 1, 4000),
        "spiky": np.where(rng.random(4000) < 0.6, 0, rng.lognormal(0, 2, 4000)),
    }[name]
    report = nc.report(x[:, None])
    (column,) = report.columns
    y = report.scaler.fit_transform(x[:, None])[:, 0]
    drawn = column.after
    # The map is learned from the sketch, so that values near the ends of bins may change places.
    edges = np.linspace(drawn.low, drawn.high, len(drawn.counts) + 1)
    below = np.array([(y < edge).sum() for edge in edges[1:-1]]) / len(y)
    told = (drawn.below + np.cumsum(drawn.counts)[:-1]) / len(y)
    np.testing.assert_allclose(told, below, atol=0.02)


def test_the_error_of_quartiles_is_counted_where_the_sketch_forgets(rng):
    X = rng.normal(size=(200_000, 2))
    X[:, 1] = np.exp(X[:, 1])
    report = nc.report(X)
    errors = []
    for column, values in zip(report.columns, X.T, strict=True):
        for quartile in column.quartiles:
            assert quartile.error == rank_error(values, quartile.q, quartile.value)
            errors.append(quartile.error)
    assert 0 < max(errors) < 0.01


def test_pieces_tell_what_the_whole_does(rng):
    X = rng.normal(size=(3000, 3))
    X[rng.random(X.shape) < 0.1] = np.nan
    whole = nc.report(X).to_dict()["columns"]
    assert nc.report(iter(np.array_split(X, 7))).to_dict()["columns"] == whole
    assert nc.report(X, batch_rows=11).to_dict()["columns"] == whole


def test_json_is_strict_and_complete(rng, tmp_path):
    X = np.column_stack([rng.normal(size=100), np.full(100, np.nan), np.full(100, np.inf)])
    report = nc.report(X)
    report.save(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text(encoding="utf-8")

    def refuse(token):
        raise AssertionError(token)

    content = json.loads(text, parse_constant=refuse)
    assert content == report.to_dict()
    assert (content["format"], content["version"], content["rows"]) == ("normcore-report", 1, 100)
    assert content["columns"][0]["mean"] == report.columns[0].mean  # to the last bit
    assert content["columns"][1]["mean"] is None


def test_no_rows_are_a_report_of_nothing():
    report = nc.report(empty_table())
    assert report.num_rows == 0
    assert [column.flags.keys() for column in report.columns] == [{"empty"}, {"text"}]
    assert report.columns[0].min is None
    assert "no values" in report.html


def empty_table():
    import pyarrow as pa

    return pa.table({"a": pa.array([], pa.float64()), "t": pa.array([], pa.string())})


def test_ten_thousand_columns(rng):
    X = rng.normal(size=(30, 10_000))
    report = nc.report(X)
    assert len(report.columns) == 10_000
    assert report.columns[9_999].mean == pytest.approx(X[:, 9_999].mean())


def test_two_thousand_columns_are_a_page_of_less_than_3_mb(rng):
    pytest.importorskip("jinja2")
    X = rng.lognormal(size=(20_000, 250)) * rng.normal(size=250)
    X[:, ::3] = rng.normal(size=(20_000, 84))
    head = len(nc.report(X[:, :2]).html)
    assert head + 8 * (len(nc.report(X).html) - head) < 3_000_000


def test_notebooks_show_a_page_of_its_own(rng):
    pytest.importorskip("jinja2")
    shown = nc.report(rng.normal(size=(10, 1)))._repr_html_()
    assert shown.startswith("<iframe")
    assert shown.count('"') == 6  # all of the page's are escaped


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("nothing.parquet", "nothing.parquet"),
        (np.zeros(3), "Expected 2D array"),
        (np.array([["a"]]), "numbers|convert"),
        (iter([]), "no batch"),
        (iter([np.zeros((2, 2)), np.zeros((2, 3))]), "batch 2 has 3 columns"),
    ],
)
def test_what_is_no_table_is_refused(X, message):
    with pytest.raises((ValueError, OSError, TypeError), match=message):
        nc.report(X)


def test_an_output_that_cannot_be_written_stays_as_it_was(rng, tmp_path):
    report = nc.report(rng.normal(size=(10, 1)))
    with pytest.raises(FileNotFoundError, match="no directory"):
        report.save(tmp_path / "missing" / "report.json")
    with pytest.raises(ValueError, match="format must be"):
        report.save(tmp_path / "report.html", format="pdf")
    assert list(tmp_path.iterdir()) == []


def test_without_the_template_library_there_is_json(rng, monkeypatch):
    import sys

    from normcore.reporting import page

    page._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    report = nc.report(rng.normal(size=(10, 1)))
    assert json.loads(report.json)["rows"] == 10
    assert report._repr_html_() == (
        "<pre>&lt;DataReport of numpy array: 10 rows, 1 columns&gt;</pre>"
    )
    with pytest.raises(ImportError, match="the page of a report needs Jinja2: pip install"):
        _ = report.html
