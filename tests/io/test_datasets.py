"""Directories, patterns of names, partitions, datasets of pyarrow: many files as one table."""

import os

import numpy as np
import pytest

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq
from arrow_tables import dictionary, store, stored

import normcore as nc
from normcore.io import fit_source, fit_transform_source, open_table, transform_source


def part(start, rows=3, **more):
    return pa.table({"x": np.arange(start, start + rows, dtype=float), **more})


def write_parts(folder, suffix=".parquet", numbers=(0, 1, 2)):
    """Write files whose rows count on from each other; names sort in another order than written."""
    folder.mkdir(exist_ok=True, parents=True)
    for number in reversed(numbers):
        path = folder / f"part-{number}{suffix}"
        if suffix == ".csv":
            rows = "".join(f"{value}.0,t{value}\n" for value in range(3 * number, 3 * number + 3))
            path.write_text("x,t\n" + rows)
        elif suffix == ".npy":
            np.save(path, np.arange(3 * number, 3 * number + 3.0)[:, None])
        else:
            store(part(3 * number, t=[f"t{i}" for i in range(3 * number, 3 * number + 3)]), path)
    return folder


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".arrows", ".orc", ".csv", ".npy"])
@pytest.mark.parametrize("pattern", [None, "*", "part-?{}", "**/*{}"])
def test_files_are_read_in_the_order_of_their_names(suffix, pattern, tmp_path):
    folder = write_parts(tmp_path / "d", suffix)
    source = folder if pattern is None else folder / pattern.format(suffix)
    scaler, out = nc.MinMaxScaler((0, 8)), tmp_path / "y.arrow"
    report = fit_transform_source(source, out, scaler, batch_rows=2)
    assert report.before.num_rows == 9
    result = stored(out)
    assert result.column(0).to_pylist() == list(range(9))
    if suffix != ".npy":
        assert result["t"].to_pylist() == [f"t{i}" for i in range(9)]
    alone = nc.MinMaxScaler((0, 8)).fit(np.arange(9.0)[:, None])
    assert scaler.scale_.tolist() == alone.scale_.tolist()


def test_names_sort_as_text_and_hidden_files_are_left_out(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    for number, name in enumerate(["1", "10", "2"]):
        store(part(number, 1), folder / f"{name}.parquet")
    for name in ("_SUCCESS", ".hidden.parquet", "_metadata"):
        (folder / name).write_text("?")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "0.parquet").write_text("?")
    fit_transform_source(folder, tmp_path / "y.parquet", nc.MinMaxScaler((0, 2)))
    assert stored(tmp_path / "y.parquet")["x"].to_pylist() == [0, 1, 2]


def test_partitions_become_columns_that_are_left_alone(tmp_path):
    folder = tmp_path / "d"
    for number, (year, key) in enumerate([(2023, "b%20c"), (2024, "a"), (2024, "d")]):
        path = folder / f"year={year}" / f"key={key}"
        path.mkdir(parents=True)
        store(part(3 * number), path / "p.parquet")
    expected = pq.read_table(folder, partitioning="hive")
    out = tmp_path / "y.parquet"
    report = fit_transform_source(folder, out, nc.MinMaxScaler((0, 8)))
    assert report.columns == ("x",)
    assert report.passed_through == ("year", "key")
    assert report.notes[0] == "column 'year' is a part of the files' paths and is left alone"
    result = stored(out)
    for name in expected.schema.names:
        assert result[name].to_pylist() == expected[name].to_pylist()
    assert result["year"].to_pylist() == [2023] * 3 + [2024] * 6
    assert result["key"].to_pylist()[:4] == ["b c"] * 3 + ["a"]
    named = fit_transform_source(folder, out, nc.MinMaxScaler(), columns=["year", "x"])
    assert named.columns == ("year", "x")
    assert stored(out)["year"].to_pylist() == [0] * 3 + [1] * 6
    below = fit_source(folder / "year=2024" / "*" / "*.parquet", nc.MinMaxScaler())
    assert below.before.num_rows == 6
    assert below.passed_through == ("key",)


def test_what_looks_like_a_number_keeps_its_characters(tmp_path):
    for key in ("007", "1"):
        (tmp_path / "d" / f"k={key}").mkdir(parents=True)
        store(part(0), tmp_path / "d" / f"k={key}" / "p.parquet")
    (tmp_path / "d" / "k=__HIVE_DEFAULT_PARTITION__").mkdir()
    store(part(0), tmp_path / "d" / "k=__HIVE_DEFAULT_PARTITION__" / "p.parquet")
    fit_transform_source(tmp_path / "d", tmp_path / "y.arrow", nc.MinMaxScaler())
    assert stored(tmp_path / "y.arrow")["k"].to_pylist() == ["007"] * 3 + ["1"] * 3 + [None] * 3


def test_columns_in_another_order_are_the_same(tmp_path):
    (tmp_path / "d").mkdir()
    store(part(0, t=list("abc"), z=[1, 2, 3]), tmp_path / "d" / "0.parquet")
    store(part(3, t=list("def"), z=[4, 5, 6]).select(["z", "t", "x"]), tmp_path / "d" / "1.parquet")
    fit_transform_source(tmp_path / "d", tmp_path / "y.csv", nc.MinMaxScaler((0, 5)))
    lines = (tmp_path / "y.csv").read_text().splitlines()
    assert lines[0] == "x,t,z"
    assert [line.split(",")[1] for line in lines[1:]] == list("abcdef")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"t": [1, 2, 3]}, r"1\.parquet: column 't' holds int64, and in .*0\.parquet string"),
        ({}, r"1\.parquet has no column 't', which .*0\.parquet has"),
        (
            {"t": ["a"] * 3, "u": [1] * 3},
            r"1\.parquet has a column 'u', which .*0\.parquet has not",
        ),
    ],
)
def test_files_with_other_columns_are_refused(second, message, tmp_path):
    (tmp_path / "d").mkdir()
    store(part(0, t=list("abc")), tmp_path / "d" / "0.parquet")
    store(part(0, **second), tmp_path / "d" / "1.parquet")
    scaler = nc.MinMaxScaler()
    with pytest.raises(ValueError, match=message):
        fit_transform_source(tmp_path / "d", tmp_path / "y.parquet", scaler)
    assert sorted(os.listdir(tmp_path)) == ["d"]
    assert not hasattr(scaler, "scale_")


def test_text_and_numbers_in_csv_are_other_columns(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "0.csv").write_text("x,k\n1,2\n")
    (tmp_path / "d" / "1.csv").write_text("x,k\n1,two\n")
    with pytest.raises(ValueError, match=r"1\.csv: column 'k' holds text, and in .*0\.csv number"):
        fit_source(tmp_path / "d", nc.MinMaxScaler())


def test_directories_that_are_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="No files of tables there"):
        open_table(tmp_path)
    with pytest.raises(FileNotFoundError, match="No files of tables there"):
        open_table(tmp_path / "*.parquet")
    store(part(0), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(ValueError, match=r"several formats, as a\.parquet and b\.csv; choose"):
        open_table(tmp_path)
    with open_table(tmp_path / "*.parquet") as table:
        assert table.num_rows == 3
    (tmp_path / "b.csv").rename(tmp_path / "README.md")
    with pytest.raises(ValueError, match=r"README\.md.*must be one of"):
        open_table(tmp_path)


def test_a_name_with_brackets_is_a_name(tmp_path):
    store(part(0), tmp_path / "x[1].parquet")
    assert fit_source(tmp_path / "x[1].parquet", nc.MinMaxScaler()).before.num_rows == 3


def test_dictionaries_of_files_become_one(tmp_path):
    (tmp_path / "d").mkdir()
    for number, words in enumerate((["a", "b"], ["c", "a"])):
        table = pa.table({"x": [1.0, 2, 3, 4], "c": dictionary(words)})
        store(table, tmp_path / "d" / f"{number}.parquet", rows=4)
    for suffix in (".arrow", ".parquet", ".csv"):
        out = tmp_path / f"y{suffix}"
        fit_transform_source(tmp_path / "d", out, nc.MinMaxScaler())
        if suffix == ".csv":
            found = [line.split(",")[1] or None for line in out.read_text().splitlines()[1:]]
        else:
            assert stored(out)["c"].type == pa.dictionary(pa.int8(), pa.string())
            found = stored(out)["c"].to_pylist()
        assert found == ["a", "b", None, "a", "c", "a", None, "c"]


def test_row_numbers_of_pandas_run_on(tmp_path):
    pd = pytest.importorskip("pandas")
    (tmp_path / "d").mkdir()
    for number in range(3):
        frame = pd.DataFrame({"x": [1.0, 2, 3], "c": pd.Categorical(list("aba"))})
        frame.to_parquet(tmp_path / "d" / f"{number}.parquet")
    fit_transform_source(tmp_path / "d", tmp_path / "y.parquet", nc.MinMaxScaler())
    result = pd.read_parquet(tmp_path / "y.parquet")
    assert result.index.tolist() == list(range(9))
    assert isinstance(result["c"].dtype, pd.CategoricalDtype)


def test_a_damaged_file_is_named(tmp_path):
    folder = write_parts(tmp_path / "d")
    damaged = folder / "part-1.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"part-1\.parquet"):
        fit_source(folder, nc.MinMaxScaler())


def test_a_file_that_changes_while_the_table_is_read(tmp_path):
    folder = write_parts(tmp_path / "d")

    def change(state):
        if state.rows == 3:
            store(part(0, 5, t=["u"] * 5), folder / "part-2.parquet")

    with pytest.raises(ValueError, match=r"part-2\.parquet|/d( was changed|: )"):
        fit_source(folder, nc.MinMaxScaler(), progress=change, batch_rows=3)


def test_infinity_is_found_by_row(tmp_path):
    (tmp_path / "d").mkdir()
    store(part(0), tmp_path / "d" / "0.parquet")
    store(pa.table({"x": [1.0, np.inf]}), tmp_path / "d" / "1.parquet")
    with pytest.raises(ValueError, match=r"column 'x' holds infinity, first in row 5 of the data"):
        fit_source(tmp_path / "d", nc.MinMaxScaler())


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_datasets_of_pyarrow(suffix, tmp_path):
    folder = write_parts(tmp_path / "d", suffix)
    dataset = pa_dataset.dataset(folder, format=suffix[1:])
    out = tmp_path / "y.parquet"
    report = fit_transform_source(dataset, out, nc.MinMaxScaler((0, 8)), batch_rows=2)
    assert report.before.num_rows == 9
    assert stored(out)["x"].to_pylist() == list(range(9))
    assert stored(out)["t"].to_pylist() == dataset.to_table()["t"].to_pylist()


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("3", [1, 2, 3]),
        ("1.5", [1.0, 2.0, 1.5]),
        ("", [1, 2, None]),
        ("007", ["1", "2", "007"]),
        ("9007199254740993.0", ["1", "2", "9007199254740993.0"]),
    ],
)
def test_all_csv_files_decide_the_type_of_what_passes_through(last, expected, tmp_path):
    folder, out = tmp_path / "data", tmp_path / "out.parquet"
    folder.mkdir()
    (folder / "a.csv").write_text("id,v\n1,2\n2,3\n")
    (folder / "b.csv").write_text(f"v,id\n4,{last}\n")
    scaler = nc.MinMaxScaler()
    fit_transform_source(folder, out, scaler, columns=["v"])
    found = pq.read_table(out).to_pydict()
    assert found == {"id": expected, "v": [0, 0.5, 1]}
    assert [type(value) for value in found["id"]] == [type(value) for value in expected]
    transform_source(folder, out, scaler)
    assert pq.read_table(out).to_pydict() == found
