"""CSV files: what is numeric, what passes through, and what is malformed."""

import csv
import os

import numpy as np
import pytest
from tables import as_frame, numeric, read

import normcore as nc
from normcore.io import ArrayBatch, fit_file, fit_transform_file, open_table, transform_file
from normcore.io.opening import source_class

pytest.importorskip("pyarrow")


def test_plain(write):
    matrix, text = read(write("a,b,c\n1,x,2.5\n-3,y,1e-3\n"))
    assert matrix.tolist() == [[1, 2.5], [-3, 1e-3]]
    assert matrix.dtype == np.float64
    assert text == {"b": ["x", "y"]}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
        b"a,b\r\n1,x\r\n2,y\r\n",
        b"a,b\n1,x\n2,y",
        b"a,b\n\n1,x\n\n2,y\n\n",
        b'"a","b"\n"1","x"\n"2","y"\n',
        b"a,b\n 1 ,x\n2\t,y\n",
    ],
    ids=["BOM", "CRLF", "no end of line", "blank lines", "quoted", "spaces"],
)
def test_dialects(content, write):
    matrix, text = read(write(content))
    assert matrix.tolist() == [[1], [2]]
    assert text == {"b": ["x", "y"]}


def test_missing_and_not_a_number(write):
    matrix, _ = read(write("a,b,c\n1,,nan\n,NA,NaN\n3,2,-1\n"), ["a", "b", "c"])
    expected = [[1, np.nan, np.nan], [np.nan, np.nan, np.nan], [3, 2, -1]]
    assert np.array_equal(matrix, expected, equal_nan=True)


def test_which_columns_are_numeric(write):
    path = write(
        "int,float,word,date,flag,zip,hex,empty,mixed\n"
        "1,1.5,x,2024-01-02,true,007,0x1F,,1\n"
        "2,-2e3,,2024-01-03,false,123,0x20,,x\n"
    )
    assert numeric(path) == ["int", "float", "zip", "empty"]


def late(value, rows=300_000):
    return "a,b\n" + "1,2\n" * rows + value


def test_a_late_fraction_is_no_error(write, tmp_path):
    path = write(late("1.5,2\n"))
    matrix, _ = read(path)
    assert matrix[-1].tolist() == [1.5, 2]
    assert len(matrix) == 300_001
    scaler = nc.MinMaxScaler()
    fit_file(path, scaler)
    assert scaler.data_max_.tolist() == [1.5, 2]


def test_late_text_names_line_and_column(write, tmp_path):
    path = write(late("1,2\nx1,3\n"))
    scaler = nc.StandardScaler().fit([[1.0], [2.0]])
    with pytest.raises(ValueError, match=r"data\.csv, line 300003: column 'a'.*'x1'.*--columns"):
        fit_file(path, scaler)
    assert scaler.mean_.tolist() == [1.5]  # as it was
    fit_file(path, scaler, columns=["b"])
    transform_file(path, tmp_path / "out.csv", scaler)
    expected = float(scaler.transform(as_frame({"b": [3.0]}))[0, 0])
    last = (tmp_path / "out.csv").read_text().splitlines()[-1].split(",")
    assert last[0] == "x1"
    assert float(last[1]) == expected


def test_lines_are_counted_past_embedded_line_breaks(write):
    path = write('a,b\n1,"x\n\ny"\n2,"z\r\n"\n3\n')
    with pytest.raises(ValueError, match=r"data\.csv, line 7: 1 field where the header has 2"):
        read(path, ["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3\n", r"line 3: 1 field where the header has 2"),
        ("a,b\n1,2\n3,4,5\n6,7\n", r"line 3: 3 fields where the header has 2"),
        ('a,b\n1,x\n2,"y\n3,z\n', r"line 3: a quoted cell .* does not end"),
        ('a,b\n1,2\n3,"4\n5,6\n', r"line 3"),
        (b"a,b\n1,x\n2,\xff\n", r"line 3: the text is not UTF-8"),
        ("a,b,a\n1,2,3\n", r"columns 1 and 3 are both named 'a'"),
        ("1.5,2.5\n1,2\n", r"line 1: numbers stand where the names"),
        ("a,b, 1e3 \n1,2,3\n", r"line 1: numbers stand where .* as ' 1e3 '; say --no-header"),
        ("", r"data\.csv is empty"),
        ("\n\n", r"data\.csv is empty"),
    ],
)
def test_malformed(content, message, write, tmp_path):
    path = write(content)
    with pytest.raises(ValueError, match=message) as caught:
        fit_transform_file(path, tmp_path / "out.csv", nc.StandardScaler(), columns=["a"])
    assert "data.csv" in str(caught.value)
    assert os.listdir(tmp_path) == ["data.csv"]


def test_a_quote_in_the_middle_of_a_cell_is_a_character(write, tmp_path):
    path = write('a,b\n1,5" disk\n2,3" disk\n3,8" disk\n')
    _, text = read(path)
    assert text == {"b": ['5" disk', '3" disk', '8" disk']}


@pytest.mark.parametrize("content", ["a,b\n", "a,b", "\ufeffa,b\r\n"])
def test_header_only(content, write, tmp_path):
    path = write(content)
    with pytest.raises(ValueError, match=r"data\.csv has columns but no rows"):
        fit_file(path, nc.StandardScaler())
    scaler = nc.StandardScaler().fit(as_frame({"b": [1.0, 2.0]}))
    report = transform_file(path, tmp_path / "out.csv", scaler)
    assert (tmp_path / "out.csv").read_text() == "a,b\n"
    assert report.before.num_rows == 0


def test_one_column_with_missing_values(write, tmp_path):
    path = write('a\n1\n""\n3\n')
    fit_transform_file(path, tmp_path / "out.csv", nc.StandardScaler())
    assert (tmp_path / "out.csv").read_text() == 'a\n-1\n""\n1\n'
    assert np.isnan(read(tmp_path / "out.csv")[0][1, 0])


def test_another_delimiter_is_a_subclass(write):
    Csv = type(open_table(write("a\n1\n")))

    class Tsv(Csv):
        delimiter = "\t"

    path = write('a\tb\n1\t"x\ty"\n2\tz,z\n', "data.tsv")
    with Tsv(path) as table, Tsv.writer(path.with_name("out.tsv")) as writer:
        for batch in table.batches(["a"]):
            writer.write(batch)
    assert path.with_name("out.tsv").read_bytes() == path.read_bytes()
    path.write_text("a\tb\n1\t2\t3\n")
    with pytest.raises(ValueError, match=r"line 2: 3 fields where the header has 2"):
        list(Tsv(path).batches(["a"]))


AWKWARD = [
    "",
    "007",
    "plain",
    "a,b",
    'say "x"',
    '"',
    "two\nlines",
    "cr\r\nlf",
    " space ",
    "ü € 漢",
    "NA",
    "1,5",
    "true",
    "2024-02-30",
    "\t",
    "x" * 1000,
    "#",
    "\\",
]


def test_text_passes_through_untouched(tmp_path):
    data, output = tmp_path / "data.csv", tmp_path / "out.csv"
    with open(data, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "x", "odd, name"])
        writer.writerows([text, i, text[::-1]] for i, text in enumerate(AWKWARD))
    fit_transform_file(data, output, nc.MinMaxScaler(feature_range=(0, len(AWKWARD) - 1)))
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["text", "x", "odd, name"]
    assert [row[0] for row in rows[1:]] == AWKWARD
    assert [row[2] for row in rows[1:]] == [text[::-1] for text in AWKWARD]
    assert [float(row[1]) for row in rows[1:]] == list(range(len(AWKWARD)))


def test_columns_that_are_not_chosen_stay_as_text(write, tmp_path):
    path = write("id,x,y\n007,1,1.50\n9007199254740993,3,0.10\n")
    output = tmp_path / "out.csv"
    report = fit_transform_file(path, output, nc.StandardScaler(), columns=["x"])
    assert output.read_text() == "id,x,y\n007,-1,1.50\n9007199254740993,1,0.10\n"
    assert report.passed_through == ("id", "y")


def test_every_float_is_written_so_that_it_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**64, 30_000, np.uint64).view(np.float64)
    values = values[np.isfinite(values)]
    values[:4] = [-0.0, 5e-324, 1.7976931348623157e308, 0.1]
    values = values[: values.size // 2 * 2].reshape(-1, 2)
    output = tmp_path / "out.csv"
    with source_class(output).writer(output) as writer:
        writer.write(ArrayBatch(0, ["a", "b"], values))
    with open(output) as file:
        next(file)
        back = np.array([[float(cell) for cell in line.split(",")] for line in file])
    assert np.array_equal(back, values)
    assert np.array_equal(np.signbit(back), np.signbit(values))
    assert np.array_equal(read(output)[0], values)


def test_nan_stays_nan_and_missing_stays_missing(write, tmp_path):
    path = write("a,b\n1,x\n,y\nnan,z\n3,w\n")
    fit_transform_file(path, tmp_path / "out.csv", nc.StandardScaler())
    assert (tmp_path / "out.csv").read_text() == "a,b\n-1,x\n,y\nnan,z\n1,w\n"


@pytest.mark.parametrize("value", ["inf", "-inf", "Infinity", "1e999"])
def test_infinity_names_column_and_row_of_the_file(value, write, tmp_path):
    path = write("a,b\n" + "1,2\n" * 250 + f"1,{value}\n1,inf\n")
    for batch_rows in (100, None):
        with pytest.raises(ValueError, match=r"data\.csv: column 'b' .*infinity.* row 251 of"):
            fit_file(path, nc.StandardScaler(), batch_rows=batch_rows)
    scaler = nc.StandardScaler().fit(as_frame({"b": [1.0, 2.0]}))
    with pytest.raises(ValueError, match=r"column 'b' .*infinity.* row 251 of the data"):
        transform_file(path, tmp_path / "out.csv", scaler, batch_rows=100)
    assert os.listdir(tmp_path) == ["data.csv"]


def test_rows_longer_than_a_block(write, tmp_path):
    long = "x" * (3 << 20)
    path = write(f"a,b\n1,short\n2,{long}\n3,short\n")
    matrix, text = read(path)
    assert matrix[:, 0].tolist() == [1, 2, 3]
    assert text["b"] == ["short", long, "short"]


def test_many_columns(write, tmp_path):
    width = 3000
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, width))
    header = ",".join(f"column{i}" for i in range(width))
    path = write(header + "\n" + "\n".join(",".join(map(repr, row)) for row in x.tolist()) + "\n")
    fit_transform_file(path, tmp_path / "out.csv", nc.StandardScaler())
    expected = nc.StandardScaler().fit_transform(x)
    np.testing.assert_allclose(read(tmp_path / "out.csv")[0], expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_batches_and_progress(batch_rows, write):
    path = write("a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(500)))
    seen = []
    scaler = nc.StandardScaler()
    fit_file(path, scaler, batch_rows=batch_rows, progress=seen.append)
    assert seen[-1].rows == 500
    assert seen[-1].bytes <= seen[-1].total_bytes == path.stat().st_size
    assert [state.bytes for state in seen] == sorted(state.bytes for state in seen)
    assert len(seen) == -(-500 // batch_rows)
    assert scaler.n_samples_seen_ == 500
    assert scaler.mean_.tolist() == [249.5, 499 / 500]


@pytest.mark.parametrize(("late", "kind"), [("red", None), ("1.5", np.dtype(float))])
def test_a_column_that_is_empty_for_long_is_what_its_first_value_is(tmp_path, late, kind):
    path = tmp_path / "data.csv"
    filler = "x" * 100
    rows = [f"{filler},1,NA\n"] * 12_000 + [f"{filler},2,{late}\n", f"{filler},3,\n"]
    path.write_text("text,number,late\n" + "".join(rows))
    assert path.stat().st_size > 1 << 20
    with open_table(path) as table:
        assert [field.dtype for field in table.fields] == [None, np.dtype(float), kind]
