"""What CSV files look like: delimiters, numbers, headers, encodings, compression."""

import gzip
import io

import numpy as np
import pytest

import normcore as nc
from normcore.io import OutputOptions, fit_file, fit_transform_source, open_table, transform_file
from normcore.io.csv.options import CsvOptions

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FRAME = pd.DataFrame(
    {
        "x": [1.5, -2.25, 1234567.125, 0.0, 1e-5],
        "whole": [1, 2, 3, 4, 5],
        "text": ["a", "b;c", 'd"e', "ü,ö", ""],
        "gaps": [1.0, None, 3.5, None, 7.25],
    }
)


def numbers(path, csv=None, names=None):
    with open_table(path, csv=csv) as table:
        names = names or [f.name for f in table.fields if f.dtype is not None and f.by_default]
        return names, np.concatenate([batch.matrix(names) for batch in table.batches(names)])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_dialects_that_pandas_writes(delimiter, decimal, quote, encoding, tmp_path):
    path = tmp_path / "data.csv"
    FRAME.to_csv(
        path, sep=delimiter, decimal=decimal, quotechar=quote, encoding=encoding, index=False
    )
    expected = pd.read_csv(path, sep=delimiter, decimal=decimal, quotechar=quote, encoding=encoding)
    options = CsvOptions(delimiter=delimiter, decimal=decimal, quote=quote, encoding=encoding)
    names, matrix = numbers(path, options)
    assert names == ["x", "whole", "gaps"]
    assert np.array_equal(matrix, expected[names].to_numpy(float), equal_nan=True)

    out = tmp_path / "out.csv"
    scaler = nc.MinMaxScaler()
    fit_file(path, scaler, columns=["x"], header=None) if options == CsvOptions() else None
    with open_table(path, csv=options) as table, type(table).writer(out, table) as writer:
        for batch in table.batches(["x"]):
            writer.write(batch)
    back = pd.read_csv(out, sep=delimiter, decimal=decimal, quotechar=quote)
    pd.testing.assert_frame_equal(back, expected)


@pytest.mark.parametrize("seed", range(20))
def test_numbers_are_those_of_pandas(seed, write):
    rng = np.random.default_rng(seed)
    kinds = [
        lambda: repr(float(rng.normal() * 10.0 ** rng.integers(-300, 300))),
        lambda: f"{rng.normal():.3f}",
        lambda: f"{rng.integers(-(10**6), 10**6)}",
        lambda: f" {rng.normal():+.17e}\t",
        lambda: rng.choice(["", "NA", "nan", "NULL", "None", "n/a", "#N/A", "<NA>", "-nan"]),
        lambda: rng.choice([".5", "5.", "+7", "007", "1E5", "-0", "1e-400"]),
    ]
    rows = [[kinds[rng.integers(len(kinds))]() for _ in range(4)] for _ in range(50)]
    path = write("a,b,c,d\n" + "".join(",".join(row) + "\n" for row in rows))
    expected = pd.read_csv(path, skipinitialspace=True).apply(pd.to_numeric).to_numpy(float)
    _, matrix = numbers(path)
    assert np.array_equal(np.isnan(matrix), np.isnan(expected))
    np.testing.assert_allclose(matrix, expected, rtol=1e-13)
    # Unlike those of pandas, they are the nearest ones.
    exact = [[float(cell) for cell in row] for row in np.where(np.isnan(expected), "nan", rows)]
    assert np.array_equal(matrix, exact, equal_nan=True)


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("a;b\n1.234,5;2\n-7,25;3\n", {"delimiter": ";", "decimal": ",", "thousands": "."},
         [[1234.5, 2], [-7.25, 3]]),
        ('a,b\n"1,234,567",2\n"12",3\n', {"thousands": ","}, [[1234567, 2], [12, 3]]),
        ("a,b\n-,2\n3,.\n", {"na_values": ("-", ".")}, [[np.nan, 2], [3, np.nan]]),
        ("a,b\n-999,2\n3,-999.0\n -9.99e2,5\n", {"na_values": ("-999",)},
         [[np.nan, 2], [3, np.nan], [np.nan, 5]]),
        ("a;b\n-9,0;inf\n1.000;3\n0;1\n", {"na_values": ("-9,0", "1.000", "inf"), "decimal": ",",
         "delimiter": ";", "thousands": "."}, [[np.nan, np.nan], [np.nan, 3], [0, 1]]),
        ("note\n\nmore\na,b\n1,2\n", {"skip_rows": 3}, [[1, 2]]),
        ("# x\na,b\n#,\n1,2\n# y, z\n3,4\n", {"comment": "#"}, [[1, 2], [3, 4]]),
        ("1,2\n3,4\n", {"header": False}, [[1, 2], [3, 4]]),
        ("1,2\n3,4\n", {"header": True}, [[3, 4]]),
        ("a,b\n'1',2\n", {"quote": "'"}, [[1, 2]]),
        ('a,b"\n1,2\n', {"quote": ""}, [[1, 2]]),
        ("a;b\n1,5;2\n", {"delimiter": "auto", "decimal": ","}, [[1.5, 2]]),
    ],
)  # fmt: skip
def test_options(content, options, expected, write):
    _, matrix = numbers(write(content), CsvOptions(**options))
    assert np.array_equal(matrix, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("1.5", {"decimal": ",", "delimiter": ";"}),
        ("1,2345", {"thousands": ",", "delimiter": ";"}),
        ("12,34", {"thousands": ",", "delimiter": ";"}),
        ("NA", {"na_values": ("-",)}),
        ("1_000", {}), ("0x10", {}), ("1d5", {}), ("--1", {}), ("1 2", {}), ("", {"x": 1}),
    ],
)  # fmt: skip
def test_what_is_no_number_makes_a_column_text(cell, options, write):
    if "x" in options:
        return
    delimiter = options.get("delimiter", ",")
    path = write(f"a{delimiter}b\n{cell}{delimiter}1\n2{delimiter}2\n")
    assert numbers(path, CsvOptions(**options))[0] == ["b"]


def test_numbers_that_stand_for_missing_values_are_left_out_everywhere(write, tmp_path):
    path, out = write("a,b\n1,-999\n-999,7\n3,8\n"), tmp_path / "out.parquet"
    scaler = nc.MinMaxScaler()
    fit_transform_source(path, out, scaler, columns=["a"], csv=CsvOptions(na_values=("-999",)))
    assert scaler.data_min_ == 1
    assert pq.read_table(out).to_pydict() == {"a": [0, None, 1], "b": [None, 7, 8]}


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("a;b\n1;2\n", ";"), ("a\tb\n1\t2\n", "\t"), ("a|b\n1|2\n", "|"), ("a,b\n1,2\n", ","),
        ('a;b\n"x,y";2\n"z\n,;";3\n', ";"), ("a\n1\n2\n", ","),
        ("a;b\n1;x,y\n2;z\n" * 5000, ";"),
    ],
)  # fmt: skip
def test_the_delimiter_is_found_out(content, delimiter, write):
    with open_table(write(content), csv=CsvOptions(delimiter="auto")) as table:
        assert table.options.delimiter == delimiter


@pytest.mark.parametrize("content", ["a,b;c\n1,2;3\n", "a,b\n1;2\n3,4\n5;6;7\n"])
def test_a_delimiter_that_is_not_to_be_found_out(content, write):
    with pytest.raises(ValueError, match=r"data\.csv: the delimiter .*--delimiter"):
        open_table(write(content), csv=CsvOptions(delimiter="auto"))


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ",,"}, {"delimiter": "ü"}, {"delimiter": "\n"}, {"quote": "ab"},
        {"delimiter": '"'}, {"thousands": "."}, {"decimal": "5"}, {"encoding": "utf-99"},
        {"skip_rows": -1}, {"comment": ""}, {"comment": '"x'},
    ],
)  # fmt: skip
def test_options_that_contradict(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CsvOptions(**options)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("5.1,3.5,Iris", "numbers stand where .* as '5.1'"),
        ("x,2024-01-31", "dates stand where"), ("x,12/31/1999", "dates stand"),
        ("x,12:30", "dates stand"), ("x,2024-01-31T10:00:00Z", "dates stand"),
        ("a,NA", "missing values stand"), ("null,x", "missing values"), ("a,true", "truth values"),
        ("a,1,5", "numbers"), ("a,,", "columns 2 and 3 are both named"),
        ("b,b", "columns 1 and 2 are both named 'b'"), ("a,nan", "numbers"),
    ],
)  # fmt: skip
def test_a_header_made_of_data(header, message, write, tmp_path):
    path = write(f"{header}\n{header}\n")
    with pytest.raises(ValueError, match=rf"line 1: {message}.*--no-header .*--header "):
        open_table(path)
    names = [f"f{i}" for i in range(len(header.split(",")))]
    with open_table(path, csv=CsvOptions(header=False)) as table:
        assert [field.name for field in table.fields] == names
        assert not table.has_names
        assert sum(batch.num_rows for batch in table.batches([])) == 2


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".lz4", ""])
@pytest.mark.parametrize("kind", [".csv", ".tsv"])
def test_compressed_files(suffix, kind, tmp_path):
    path, out = tmp_path / f"data{kind}{suffix}", tmp_path / f"out{kind}{suffix}"
    text = "a,b\n1,x\n3,y\n".replace(",", "\t" if kind == ".tsv" else ",").encode()
    codec = {".gz": "gzip", ".zst": "zstd", ".lz4": "lz4"}.get(suffix, suffix[1:])
    with pa.output_stream(str(path), compression=codec or None) as file:
        file.write(text)
    fit_file(path, scaler := nc.StandardScaler())
    transform_file(path, out, scaler)
    with pa.input_stream(str(out), compression=codec or None) as file:
        assert file.read() == text.replace(b"1", b"-1").replace(b"3", b"1")


@pytest.mark.parametrize("cut", [2, 12, 300])
def test_a_compressed_file_that_was_cut_off(cut, write):
    rows = "".join(f"{i},{i * i}\n" for i in range(1000))
    path = write(gzip.compress(f"a,b\n{rows}".encode())[:-cut], "data.csv.gz")
    with pytest.raises(ValueError, match=r"data\.csv\.gz is not a readable gzip file"):
        fit_file(path, nc.StandardScaler())


def test_text_of_another_encoding_is_named_with_its_line(write):
    path = write("a,b\n1,x\n2,".encode("utf-16") + b"\xd8\xd8\xd8\xd8")
    with pytest.raises(ValueError, match=r"line 3: the text is not utf-16"):
        fit_file(path, nc.StandardScaler())


@pytest.mark.parametrize("quoted", [True, False])
def test_a_stream_is_read_once(quoted, tmp_path):
    text = '"a",b\n' if quoted else "a,b\n"
    stream = io.BytesIO((text + "1,x\n" * 100_000 + "3,y\n").encode())
    from normcore.io.csv.source import Csv

    with Csv(stream) as table:
        assert table.name == "standard input"
        assert not table.reread
        rows = np.concatenate([batch.matrix(["a"]) for batch in table.batches(["a"])])
    assert rows.sum() == 100_003
    assert len(rows) == 100_001
    bad = Csv(io.BytesIO((text + "1,x\n" * 500_000 + "q,y\n").encode()))
    with pytest.raises(ValueError, match=r"standard input, line 500002: column 'a': 'q'"), bad:
        list(bad.batches(["a"]))


@pytest.mark.parametrize("names", [",a,b", "Unnamed: 0,a,b"])
def test_the_index_of_pandas_is_left_alone(names, write, tmp_path):
    path = write(f"{names}\n0,1,5\n1,3,6\n")
    fit_file(path, scaler := nc.StandardScaler())
    assert scaler.feature_names_in_.tolist() == ["a", "b"]
    transform_file(path, tmp_path / "out.csv", scaler)
    assert (tmp_path / "out.csv").read_text() == f"{names}\n0,-1,-1\n1,1,1\n"
    with open_table(path) as table:
        assert "index" in table.notes[0]


def test_text_that_begins_as_a_comment_is_no_comment_in_the_output(write, tmp_path):
    path, out = write('note,x\n"#1",1\n# left out\n"a",2\n'), tmp_path / "out.csv"
    options, scaler = CsvOptions(comment="#"), nc.MinMaxScaler()
    fit_transform_source(path, out, scaler, csv=options)
    assert out.read_text() == 'note,x\n"#1",0\na,1\n'
    _, matrix = numbers(out, options)
    assert np.array_equal(matrix, [[0], [1]])


def test_the_decimal_point_stays_where_the_delimiter_changes(write, tmp_path):
    path, out = write("a;b\n1,5;1\n2,5;2\n3,5;3\n"), tmp_path / "out.tsv"
    options = CsvOptions(delimiter=";", decimal=",")
    fit_transform_source(path, out, nc.MinMaxScaler(), columns=["b"], csv=options)
    assert out.read_text() == "a\tb\n1,5\t0\n2,5\t0,5\n3,5\t1\n"


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_a_name_that_says_another_compression_is_an_error(compression, write, tmp_path):
    output = OutputOptions(compression=compression)
    with pytest.raises(ValueError, match=f"says gzip, and the compression is to be {compression}"):
        fit_transform_source(
            write("a\n1\n2\n"), tmp_path / "out.csv.gz", nc.MinMaxScaler(), output=output
        )
    assert not (tmp_path / "out.csv.gz").exists()


def test_a_compression_that_the_name_does_not_say_is_an_error(write, tmp_path):
    path = write("a\n1\n2\n")
    with pytest.raises(ValueError, match="says none, and the compression is to be gzip"):
        fit_transform_source(
            path, tmp_path / "out.csv", nc.MinMaxScaler(), output=OutputOptions(compression="gzip")
        )
    fit_transform_source(
        path, tmp_path / "out.csv", nc.MinMaxScaler(), output=OutputOptions(compression="none")
    )
    assert (tmp_path / "out.csv").read_text() == "a\n0\n1\n"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("1e400", ["1e400", "2"]), ("inf", [np.inf, 2]), ("-Infinity", [-np.inf, 2])],
)
def test_a_number_beyond_all_floats_keeps_its_digits_where_it_passes(
    cell, expected, write, tmp_path
):
    path, out = write(f"a,b\n{cell},1\n2,3\n"), tmp_path / "out.parquet"
    fit_transform_source(path, out, nc.MinMaxScaler(), columns=["b"])
    assert pq.read_table(out)["a"].to_pylist() == expected
