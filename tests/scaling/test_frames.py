"""Data frames in and out: names, index, kinds of columns and what is missing."""

import decimal

import numpy as np
import pytest
from scalers import SCALERS

import normcore as nc

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

EACH = [*SCALERS, nc.MaxAbsScaler]
each_scaler = pytest.mark.parametrize("cls", EACH)
NAMES = ["a", "b", "c"]


def columns():
    rng = np.random.default_rng(3)
    X = rng.normal(5, 2, size=(20, 3))
    return {"a": X[:, 0], "b": X[:, 1].astype(np.float32), "c": X[:, 2]}


def values_of(frame):
    return np.column_stack([np.asarray(frame[name]) for name in NAMES])


FRAMES = {
    "pandas": lambda given: pd.DataFrame(given, index=[f"row {i}" for i in range(20)]),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}
each_library = pytest.mark.parametrize("library", FRAMES)


@each_scaler
@each_library
def test_frames_go_there_and_back(cls, library):
    frame = FRAMES[library](columns())
    scaler = cls().fit(frame).set_output(transform=library)
    scaled = scaler.transform(frame)
    back = scaler.inverse_transform(scaled)
    for result in (scaled, back):
        assert type(result) is type(frame)
        assert [str(name) for name in getattr(result, "column_names", result.columns)] == NAMES
        if library == "pandas":
            assert result.index.equals(frame.index)
            assert [str(each) for each in result.dtypes] == ["float64", "float32", "float64"]
        else:
            assert result.schema == frame.schema
    plain = np.column_stack(list(columns().values()))
    np.testing.assert_allclose(values_of(back), plain, rtol=1e-6, atol=1e-6)  # of float32
    of_plain = cls().fit(plain).transform(plain)
    np.testing.assert_array_equal(values_of(scaled)[:, [0, 2]], of_plain[:, [0, 2]])
    # The narrower column is scaled as a table of its own dtype is.
    narrow = columns()["b"][:, None]
    np.testing.assert_array_equal(np.asarray(scaled["b"]), cls().fit_transform(narrow)[:, 0])


@each_scaler
@each_library
def test_without_a_choice_results_are_arrays_as_in_scikit_learn(cls, library):
    frame = FRAMES[library](columns())
    scaler = cls().fit(frame)
    assert type(scaler.transform(frame)) is np.ndarray
    assert type(scaler.inverse_transform(frame)) is np.ndarray
    chosen = cls().fit(frame).set_output(transform=library)
    assert type(chosen.inverse_transform(scaler.transform(frame))) is np.ndarray


@each_library
def test_the_inverse_is_of_the_library_of_its_input(library):
    frame = FRAMES[library](columns())
    scaler = nc.StandardScaler().fit(frame).set_output(transform="polars")
    assert type(scaler.transform(frame)) is pl.DataFrame
    assert type(scaler.inverse_transform(frame)) is type(frame)


def test_a_range_holds_in_narrow_columns_of_wider_frames():
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({
        "narrow": rng.normal(size=200).astype(np.float32),
        "half": rng.normal(size=200).astype(np.float16),
        "wide": rng.normal(size=200),
    })  # fmt: skip
    scaler = nc.MinMaxScaler((-0.1, 0.7)).set_output(transform="pandas")
    scaled = scaler.fit_transform(frame)
    assert [str(each) for each in scaled.dtypes] == ["float32", "float16", "float64"]
    for column in scaled:
        exact = scaled[column].to_numpy().astype(np.float64)
        assert exact.min() >= -0.1
        assert exact.max() <= 0.7


KINDS = {
    "Float64": "Float64", "Float32": "Float32", "Int64": "Float64", "UInt8": "Float64",
    "boolean": "Float64", "double[pyarrow]": "double[pyarrow]", "float[pyarrow]": "float[pyarrow]",
    "int32[pyarrow]": "double[pyarrow]", "bool[pyarrow]": "double[pyarrow]",
}  # fmt: skip


@each_scaler
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_stays_missing_in_pandas(cls, kind):
    frame = pd.DataFrame({"x": pd.array([1, None, 0, 1], dtype=kind), "y": [4.0, 2, np.nan, 5]})
    plain = np.array([[1, 4], [np.nan, 2], [0, np.nan], [1, 5]])
    scaler = cls().fit(frame)
    np.testing.assert_array_equal(scaler.transform(frame), cls().fit(plain).transform(plain))
    scaled = scaler.set_output(transform="pandas").transform(frame)
    assert str(scaled["x"].dtype) == KINDS[kind]
    assert str(scaled["y"].dtype) == "float64"
    assert scaled["x"].isna().tolist() == [False, True, False, False]
    assert scaled["x"][1] is pd.NA
    back = scaler.inverse_transform(scaled)
    x = back["x"].to_numpy(np.float64, na_value=np.nan)
    np.testing.assert_allclose(x, plain[:, 0], atol=1e-6 if "32" in kind or "flo" in kind else 0)


@each_scaler
@pytest.mark.parametrize("dtype", ["Float32", "Float64", "Int16", "Boolean", pl.Decimal(10, 2)])
def test_what_is_missing_stays_missing_in_polars(cls, dtype):
    x = pl.Series([1, None, 0, 1]).cast(getattr(pl, str(dtype), dtype))
    frame = pl.DataFrame({"x": x, "y": [4.0, 2, float("nan"), 5]})
    scaled = cls().set_output(transform="polars").fit_transform(frame)
    assert scaled["x"].dtype == (pl.Float32 if dtype == "Float32" else pl.Float64)
    assert scaled["x"].is_null().to_list() == [False, True, False, False]
    assert scaled["y"].is_nan().to_list() == [False, False, True, False]
    plain = np.array([[1, 4], [np.nan, 2], [0, np.nan], [1, 5]])
    expected = cls().fit_transform(plain.astype(np.float32 if dtype == "Float32" else np.float64))
    np.testing.assert_array_equal(scaled["x"].to_numpy(), expected[:, 0])


@each_scaler
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int8(), pa.bool_()])
@pytest.mark.parametrize("container", ["table", "record_batch"])
def test_what_is_missing_stays_missing_in_arrow(cls, kind, container):
    x = pa.array([1, None, 0, 1]).cast(kind)
    table = getattr(pa, container)({"x": x, "y": pa.array([4.0, 2, float("nan"), 5])})
    scaler = cls().set_output(transform="pyarrow").fit(table)
    scaled = scaler.transform(table)
    assert type(scaled) is type(table)
    assert scaled.schema.types == [kind if kind == pa.float32() else pa.float64(), pa.float64()]
    assert scaled.column("x").is_null().to_pylist() == [False, True, False, False]
    assert scaled.column("y").null_count == 0
    assert type(scaler.inverse_transform(scaled)) is type(table)


def test_nulls_of_arrow_dictionaries():
    """pyarrow reads those of a chunked dictionary as if they were values."""
    encoded = pa.chunked_array([pa.array([1.5, None, 2.5]).dictionary_encode()])
    table = pa.table({"x": encoded})
    assert nc.StandardScaler().fit(table).mean_.tolist() == [2.0]
    with pytest.raises(ValueError, match="weight 1 is nan"):
        nc.StandardScaler().fit([[1.0], [2.0], [3.0]], sample_weight=encoded)


@each_scaler
def test_categories_of_numbers_decimals_and_objects(cls):
    frame = pd.DataFrame({
        "category": pd.Series([1, 2, 1, 7], dtype="category"),
        "missing": pd.Series([1.5, None, 2.5, 1.5], dtype="category"),
        "decimal": [decimal.Decimal(each) for each in ("1.5", "2", "-1", "0.25")],
        "object": np.array([1, 2.5, pd.NA, None], dtype=object),
    })  # fmt: skip
    plain = np.array([
        [1, 1.5, 1.5, 1], [2, np.nan, 2, 2.5], [1, 2.5, -1, np.nan], [7, 1.5, 0.25, np.nan],
    ])  # fmt: skip
    expected = cls().fit_transform(plain)
    np.testing.assert_array_equal(cls().fit_transform(frame), expected)
    scaled = cls().set_output(transform="pandas").fit_transform(frame)
    assert {str(each) for each in scaled.dtypes} == {"float64"}
    with pytest.raises(ValueError, match="column 'text'"):
        cls().fit(pd.DataFrame({"text": pd.Series(["a", "b"], dtype="category")}))


def test_names_that_are_no_strings_and_repeated_names():
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=[7, 9])
    scaler = nc.StandardScaler().set_output(transform="pandas").fit(frame)
    assert list(scaler.transform(frame).columns) == ["x0", "x1"]
    assert list(scaler.inverse_transform(frame).columns) == [7, 9]
    frame.columns = ["a", "a"]
    frame["b"] = pd.array([1, None, 2], dtype="Float64")
    scaled = nc.StandardScaler().set_output(transform="pandas").fit_transform(frame)
    assert list(scaled.columns) == ["a", "a", "b"]
    assert scaled.iloc[1, 2] is pd.NA


def test_scaled_frames_in_another_order_are_refused():
    frame = pd.DataFrame(columns())
    scaler = nc.StandardScaler().fit(frame).set_output(transform="pandas")
    scaled = scaler.transform(frame)
    with pytest.raises(ValueError, match="must be in the same order"):
        scaler.inverse_transform(scaled[["b", "a", "c"]])
    with pytest.raises(ValueError, match="yet now missing:\n- c"):
        scaler.inverse_transform(scaled.rename(columns={"c": "z"}))
    renamed = scaled.rename(columns=str.upper)  # names of their own say nothing
    assert list(scaler.inverse_transform(renamed).columns) == ["A", "B", "C"]


def test_frames_of_dates_and_text_are_refused():
    dates = pd.DataFrame({"a": [1.0, 2], "when": pd.to_datetime(["2020-01-01", "2021-01-01"])})
    with pytest.raises(ValueError, match="column 'when' of X holds no numbers"):
        nc.StandardScaler().fit(dates)
    with pytest.raises(ValueError, match="column 'when' of X holds no numbers"):
        nc.StandardScaler().fit(pl.from_pandas(dates))
    with pytest.raises(ValueError, match="column 'when' of X holds no numbers"):
        nc.StandardScaler().fit(pa.Table.from_pandas(dates))
