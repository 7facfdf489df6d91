"""From CSV to formats with types: the type of a column is that of all its cells."""

import numpy as np
import pytest
from tables import as_frame

import normcore as nc
from normcore.io import fit_file, fit_transform_file, transform_file

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

INTEGER, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()


@pytest.mark.parametrize(
    ("cells", "type_", "values"),
    [
        (["0", "1", ""], INTEGER, [0, 1, None]),
        (["0", "NA", "12"], INTEGER, [0, None, 12]),
        (["1.50", "2", ""], FLOAT, [1.5, 2.0, None]),
        (["1e3", "+2", " 7 "], FLOAT, [1000.0, 2.0, 7.0]),
        (["007", "12", "5"], TEXT, ["007", "12", "5"]),
        (["-01", "12", "5"], TEXT, ["-01", "12", "5"]),
        (["9007199254740993", "1", ""], INTEGER, [2**53 + 1, 1, None]),
        (["9007199254740993", "1.5", "2"], TEXT, ["9007199254740993", "1.5", "2"]),
        (["9223372036854775807", "1", "2"], INTEGER, [2**63 - 1, 1, 2]),
        (["9223372036854775809", "1", "2"], TEXT, ["9223372036854775809", "1", "2"]),
        (["9223372036854775808", "1", "2"], FLOAT, [2.0**63, 1, 2]),
        (["", "NA", ""], FLOAT, [None, None, None]),
        (["x", "NA", ""], TEXT, ["x", "NA", None]),
        (["true", "false", "true"], TEXT, ["true", "false", "true"]),
        (["2024-01-01", "", "2024-01-02"], TEXT, ["2024-01-01", None, "2024-01-02"]),
        (['"a,b"', '""', ""], TEXT, ["a,b", "", None]),
        (["nan", "1", "2"], FLOAT, [np.nan, 1.0, 2.0]),
        (["0", "-0", "+0"], INTEGER, [0, 0, 0]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_types_of_columns_that_pass_through(cells, type_, values, late, suffix, write, tmp_path):
    before = ["0,5\n", "1,5\n"] * 150_000 if late else []
    path = write("x,c\n" + "".join(before) + "".join(f"{i},{c}\n" for i, c in enumerate(cells)))
    out = tmp_path / f"out{suffix}"
    scaler = nc.MinMaxScaler().fit(as_frame({"x": [0.0, 2.0]}))
    transform_file(path, out, scaler)
    if suffix == ".parquet":
        column = pq.read_table(out).column("c")
    else:
        column = pa.ipc.open_file(str(out)).read_all().column("c")
    if late and all(cell in ("", "NA") for cell in cells):
        type_ = INTEGER
    if late and type_ is TEXT:
        assert column[:2].to_pylist() == ["5", "5"]
    assert column.type == type_
    np.testing.assert_equal(column[-3:].to_pylist(), values)


def test_text_that_comes_late_in_a_chosen_column_is_an_error(write, tmp_path):
    path = write("a,b\n" + "1,2\n" * 600_000 + "1,abc\n")
    message = r"data\.csv, line 600002: column 'b': 'abc' is not a number; .*--exclude"
    for columns in (None, ["b"]):
        with pytest.raises(ValueError, match=message):
            fit_file(path, nc.StandardScaler(), columns=columns)
    report = fit_transform_file(path, tmp_path / "o.csv", nc.MinMaxScaler(), columns=["a"])
    assert report.passed_through == ("b",)


def test_text_in_a_column_that_a_scaler_knows_names_its_cell(write, tmp_path):
    scaler = nc.StandardScaler().fit(as_frame({"b": [1.0, 2.0]}))
    path = write("a,b\n" + '"x\ny",2\n' * 10 + "1,?\n")
    with pytest.raises(ValueError, match=r"column 'b' holds text, not .*as '\?' in line 22"):
        transform_file(path, tmp_path / "out.csv", scaler)


def test_truth_values_are_numbers_where_they_are_named(write, tmp_path):
    path = write("a,flag\n1,True\n2,False\n3,\n4,True\n")
    fit_file(path, scaler := nc.StandardScaler())
    assert scaler.feature_names_in_.tolist() == ["a"]
    fit_file(path, scaler := nc.MinMaxScaler(), columns=["flag", "a"])
    assert scaler.data_max_.tolist() == [1, 4]
    transform_file(path, tmp_path / "out.csv", scaler)
    assert (tmp_path / "out.csv").read_text() == (
        "a,flag\n0,1\n0.3333333333333333,0\n0.6666666666666666,\n1,1\n"
    )
    bad = write("a,flag\n" + "1,True\n" * 400_000 + "2,maybe\n")
    with pytest.raises(ValueError, match=r"line 400002: column 'flag': 'maybe' is not"):
        fit_file(bad, nc.MinMaxScaler(), columns=["flag"])


def test_numbers_beyond_float64_are_refused_where_they_are_chosen(write, tmp_path):
    path = write("a,id\n1,5\n" + "2,9007199254740993\n")
    with pytest.raises(ValueError, match=r"column 'id' holds 9007199254740993, first in row 2 "):
        fit_file(path, nc.StandardScaler())
    fit_transform_file(path, tmp_path / "o.csv", nc.StandardScaler(), columns=["a"])
    assert (tmp_path / "o.csv").read_text() == "a,id\n-1,5\n1,9007199254740993\n"


def test_a_table_that_was_kept_as_arrow_is_the_same(write):
    """What standard input held, which is read once, is restored from Arrow."""
    import io

    from normcore.io.csv.source import Csv

    text = 'a,n,t,z\n1,5,x,007\n2,NA,"",1.50\n,7,"a,b",\n'
    with Csv(io.BytesIO(text.encode())) as table:
        assert not table.settle(["a"])
        kept = [(batch.first_row, batch.to_arrow()) for batch in table.batches(["a"])]
        assert table.settled
        (batch,) = (table.restore(*each) for each in kept)
        batch = batch.with_matrix(["a"], batch.matrix(["a"]))
        data = batch.to_arrow()
        assert data.schema.types == [FLOAT, INTEGER, TEXT, TEXT]
        out = io.BytesIO()
        from normcore.io import output_options

        writer = Csv.sink_like(out, table, output_options.OutputOptions())
        writer.write(batch)
        writer.close()
        assert out.getvalue().decode() == text
