"""Columns by name and by pattern, and those that are left alone."""

import numpy as np
import pytest

pytest.importorskip("pyarrow")
import pyarrow as pa
from arrow_tables import store

import normcore as nc
from normcore.io import fit_source, fit_transform_source, open_table
from normcore.io.columns import UnknownColumn, chosen_columns

NAMES = ["age", "flag", "height", "name", "weight_kg", "weight_lb", "a*b", "[x]"]


@pytest.fixture
def path(tmp_path):
    numbers = [1.0, 2.0, 4.0]
    columns = {name: pa.array(numbers) for name in NAMES}
    columns |= {"flag": pa.array([True, False, True]), "name": pa.array(["u", "v", "w"])}
    store(pa.table(columns), tmp_path / "x.arrow")
    return tmp_path / "x.arrow"


@pytest.mark.parametrize(
    ("columns", "exclude", "expected"),
    [
        (None, None, "age height weight_kg weight_lb a*b [x]"),
        (["weight_lb", "age"], None, "weight_lb age"),
        (["weight_*", "age"], None, "weight_kg weight_lb age"),
        (["weight_lb", "weight_*"], None, "weight_lb weight_kg"),
        (["*"], None, "age height weight_kg weight_lb a*b [x]"),
        (["*", "flag"], None, "age height weight_kg weight_lb a*b [x] flag"),
        (["a*b"], None, "a*b"),  # what is a name is no pattern
        (["[x]"], None, "[x]"),
        (["[hw]eight*"], None, "height weight_kg weight_lb"),
        (["?ge"], None, "age"),
        (["flag"], None, "flag"),
        (None, ["weight_*", "age", "name"], "height a*b [x]"),
        (["weight_*"], ["*_kg"], "weight_lb"),
        (None, [], "age height weight_kg weight_lb a*b [x]"),
    ],
)
def test_names_and_patterns(columns, exclude, expected, path):
    with open_table(path) as table:
        assert chosen_columns(table, columns, exclude) == tuple(expected.split())


@pytest.mark.parametrize(
    ("columns", "exclude", "message"),
    [
        (["wieght_kg"], None, r"x\.arrow has no column 'wieght_kg'; did you mean 'weight_kg'"),
        (["Age"], None, "no column 'Age'; did you mean 'age'"),
        (["zzz"], None, "no column 'zzz'; it has 'age', 'flag', "),
        (None, ["wieght_kg"], "no column 'wieght_kg'; did you mean 'weight_kg'"),
        (["nothing*"], None, "no column is named as 'nothing\\*' says"),
        (["f*"], None, r"no numeric column is named as 'f\*' says; 'flag' holds bool; name it"),
        (["n*"], None, r"no numeric column is named as 'n\*' says; 'name' holds string$"),
        (None, ["nothing*"], "no column is named as 'nothing\\*' says"),
        (["name"], None, "column 'name' holds string, not numbers"),
        ([], None, "no column is named"),
        (["age", "age"], None, "named twice"),
        ("age", None, "a list of names is expected"),
        (None, "age", "a list of names is expected"),
        (["age"], ["a*"], "no numeric column is left"),
    ],
)
def test_columns_that_cannot_be_chosen(columns, exclude, message, path):
    scaler = nc.MinMaxScaler()
    with pytest.raises(UnknownColumn, match=message):
        fit_source(path, scaler, columns=columns, exclude=exclude)
    assert not hasattr(scaler, "scale_")


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_the_index_of_pandas_is_left_alone_and_told_of(suffix, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2, 4]}, index=pd.Index([10, 20, 40], name="key"))
    if suffix == ".parquet":
        frame.to_parquet(tmp_path / f"x{suffix}")
    else:  # to_feather takes no index
        table = pa.Table.from_pandas(frame)
        store(table, tmp_path / f"x{suffix}")
    out = tmp_path / "y.parquet"
    report = fit_transform_source(tmp_path / f"x{suffix}", out, nc.MinMaxScaler())
    assert report.columns == ("a",)
    assert report.notes == ("column 'key' is the index of pandas and is left alone",)
    result = pd.read_parquet(out)
    assert result.index.equals(frame.index)
    assert result["a"].tolist() == [0, 1 / 3, 1]
    named = fit_source(tmp_path / f"x{suffix}", nc.MinMaxScaler(), columns=["key"])
    assert named.columns == ("key",)


def test_a_scaler_of_names_takes_an_array_by_position(tmp_path):
    pd = pytest.importorskip("pandas")
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(3, 2))
    scaler = nc.MinMaxScaler().fit(pd.DataFrame({"a": [0.0, 2.0], "b": [0.0, 4.0]}))
    with pytest.warns(UserWarning, match=r"x\.npy does not have column names.*in their order"):
        nc.transform_source(tmp_path / "x.npy", tmp_path / "y.npy", scaler)
    assert np.load(tmp_path / "y.npy").tolist() == [[0, 0.25], [1, 0.75], [2, 1.25]]
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"x\.npy has 3 numeric columns, but .* fitted to 2$"):
        nc.transform_source(tmp_path / "x.npy", tmp_path / "y.npy", scaler)


def test_some_columns_of_an_array_have_names(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(4, 3))
    scaler = nc.MinMaxScaler()
    fit_transform_source(tmp_path / "x.npy", tmp_path / "y.npy", scaler, columns=["x2", "x0"])
    assert scaler.feature_names_in_.tolist() == ["x2", "x0"]
    assert np.load(tmp_path / "y.npy")[:, 1].tolist() == [1, 4, 7, 10]
