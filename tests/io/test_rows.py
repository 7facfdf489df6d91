"""No row is lost between a file, a scaler and another file, and no digit on the way."""

import csv
import os
import random

import numpy as np
import pytest
from tables import as_frame, read

import normcore as nc
from normcore.io import (
    ArrayBatch,
    Field,
    TableSource,
    fit_file,
    fit_transform_file,
    open_table,
    opening,
    transform_file,
)
from normcore.io.opening import source_class

pytest.importorskip("pyarrow")


MIB = 1 << 20


@pytest.mark.parametrize("around", [-30, -2, -1, 0, 1, 2, 2 * MIB])
@pytest.mark.parametrize("rows", ["", "1,2\n", "1,2\n3,4", "1,2\n" * 1000])
def test_a_header_about_as_long_as_a_block_or_longer(around, rows, write, tmp_path):
    path = write(f"a,{'b' * (MIB + around - 3)}\n{rows}")
    scaler = nc.MinMaxScaler().fit(as_frame({"a": [0.0, 1.0]}))
    report = transform_file(path, tmp_path / "out.csv", scaler)
    assert report.before.num_rows == rows.count(",")
    whole = path.read_text()
    assert (tmp_path / "out.csv").read_text() == whole + "\n" * (not whole.endswith("\n"))


@pytest.mark.parametrize(
    "content", ["\n" * 2 * MIB + "a,b\n1,2\n", "a,b\n" + "\n" * 2 * MIB + "1,2\n"]
)
def test_more_blank_lines_than_a_block_holds(content, write):
    assert read(write(content), ["a", "b"])[0].tolist() == [[1, 2]]


@pytest.mark.parametrize("seed", range(40))
def test_rows_cut_by_blocks_are_the_rows_of_the_csv_module(seed, tmp_path, monkeypatch):
    from normcore.io.csv import source as module
    from normcore.io.csv import stream as csv_stream

    monkeypatch.setattr(module.Csv, "_block_bytes", lambda self: [8, 16, 32, 64][seed % 4])
    monkeypatch.setattr(csv_stream, "_FIRST_BYTES", [8, 16, 32, 64][seed % 4])
    rng = random.Random(seed)
    texts = ["", "x", "1.5", "two\nlines", 'say "q"', "a,b", "ü", "\n\n\n", "cr\r\nlf", "\r"]
    for end in ("\n", "\r\n", "\r"):
        path = tmp_path / "data.csv"
        header = [f"c{i}" + rng.choice(["", "n" * rng.randint(1, 99), "a,\nb"]) for i in range(4)]
        rows = [
            [f"{i}.5", *(rng.choice([*texts, "y" * rng.randint(1, 200)]) for _ in range(3))]
            for i in range(rng.randint(1, 9))
        ]
        with open(path, "w", newline="", encoding=rng.choice(["utf-8", "utf-8-sig"])) as file:
            csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([header, *rows])
        if seed % 3 == 0:  # no line feed at the end
            path.write_bytes(path.read_bytes()[: -len(end)])
        matrix, text = read(path, header[:1])
        assert list(text) == header[1:]
        columns = [[repr(value) for value in matrix[:, 0].tolist()], *text.values()]
        assert [list(row) for row in zip(*columns, strict=True)] == rows


def test_lines_longer_than_what_is_read_at_once(write, monkeypatch):
    from normcore.io.csv import rows as csv_rows

    monkeypatch.setattr(csv_rows, "LARGEST_ROW", MIB)
    with pytest.raises(
        ValueError, match=r"data\.csv, line 1: the first line is longer than 64 MiB"
    ):
        open_table(write("a" * 2 * MIB + "\n1\n"))
    with pytest.raises(ValueError, match=r"data\.csv, line 3: a row is longer than 64 MiB"):
        read(write("a,b\n1,x\n2," + "x" * 6 * MIB + "\n"), ["a"])


# -- files without a header line ---------------------------------------------------------------

FIRST_ROWS = [
    "5.1,3.5,Iris-setosa",
    "842302,M,17.99",
    "1,2,3",
    "x,-1",
    "x,+.5e3",
    "x, 7 ",
    '"1","x"',
    "NaN,x",
]


@pytest.mark.parametrize("first", FIRST_ROWS)
@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("end", ["", "\n"])
def test_numbers_for_names_need_a_word_from_the_user(first, rows, end, write, tmp_path):
    path, out = write("\n".join([first] * (rows + 1)) + end), tmp_path / "out.csv"
    (cells,) = csv.reader([first])
    number = next(i for i, cell in enumerate(cells) if cell.strip("+- ")[:1] in set("0123456789.N"))
    with pytest.raises(ValueError, match=r"data\.csv, line 1: numbers .* --no-header .*--header "):
        fit_file(path, nc.StandardScaler())
    assert os.listdir(tmp_path) == ["data.csv"]

    scaler = nc.MinMaxScaler()
    options = {"columns": [f"f{number}"], "header": False}
    report = fit_transform_file(path, out, scaler, **options)
    assert report.before.num_rows == rows + 1
    assert report.columns + report.passed_through == tuple(
        sorted((f"f{i}" for i in range(len(cells))), key=lambda name: name != f"f{number}")
    )
    with open(out, newline="") as file:
        names, *written = csv.reader(file)
    assert names == [f"f{i}" for i in range(len(cells))]
    assert len(written) == rows + 1
    others = [i for i in range(len(cells)) if i != number]
    assert all([row[i] for i in others] == [cells[i] for i in others] for row in written)

    if rows:  # the same cells are names, if the user says so
        transform = nc.MinMaxScaler()
        report = fit_transform_file(path, out, transform, columns=[cells[number]], header=True)
        assert report.before.num_rows == rows
        with open(out, newline="") as file:
            assert next(csv.reader(file)) == cells


@pytest.mark.parametrize("names", ["NAN2,EU", "x1,x2", "inf,nano", "1st,2nd", "a b,c:d"])
def test_names_that_are_no_numbers_need_no_word(names, write):
    scaler = nc.MinMaxScaler()
    fit_file(write(f"{names}\n1,2\n3,4\n"), scaler)
    assert scaler.feature_names_in_.tolist() == names.split(",")
    assert scaler.data_min_.tolist() == [1, 2]


def test_errors_in_a_file_without_a_header_line(write):
    path = write("1,2\n3,4,5\n")
    with pytest.raises(ValueError, match=r"line 2: 3 fields where the first row has 2"):
        fit_file(path, nc.StandardScaler(), header=False)
    path = write("1,2\n" * 300_000 + "x,2\n")
    with pytest.raises(ValueError, match=r"line 300001: column 'f0': 'x' is not a number"):
        fit_file(path, nc.StandardScaler(), header=False)
    for blank in ("\n\n", "\ufeff\n"):
        with pytest.raises(ValueError, match=r"data\.csv is empty"):
            fit_file(write(blank), nc.StandardScaler(), header=False)


@pytest.mark.parametrize("header", [True, False])
def test_other_formats_have_no_header_line(header, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"x\.npy: --header, --no-header and header= are for CSV"):
        fit_transform_file(tmp_path / "x.npy", tmp_path / "y.npy", nc.MinMaxScaler(), header=header)


# -- counts ------------------------------------------------------------------------------------


class Counted(TableSource):
    """Announces five rows, and has as many as the name of the file says."""

    format = "counted"

    def __init__(self, path):
        super().__init__(path)
        self.num_rows = 5
        self._set_fields([Field("x", np.dtype("f8"))])

    def batches(self, numeric, *, others=True, batch_rows=None):
        for row in range(int(self.path.stem)):
            yield ArrayBatch(row, ["x"], np.array([[float(row)]]))

    @classmethod
    def sink(cls, path):
        raise NotImplementedError


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 9])
@pytest.mark.parametrize("make", [nc.StandardScaler, nc.RobustScaler])
def test_rows_read_are_the_rows_announced(rows, make, tmp_path, monkeypatch):
    data, out = tmp_path / f"{rows}.npy", tmp_path / "out.csv"
    data.write_text("?")
    monkeypatch.setattr(opening, "source_class", lambda path: Counted)
    if rows == 5:
        fit_file(data, make())
        assert transform_file(data, out, make().fit([[0.0], [1.0]])).before.num_rows == 5
        return
    message = rf"{rows}\.npy: {rows} rows were read, but it says that it has 5"
    scaler = make()
    for action in (
        lambda: fit_file(data, scaler),
        lambda: transform_file(data, out, make().fit([[0.0], [1.0]])),
    ):
        with pytest.raises(ValueError, match=message):
            action()
    assert not hasattr(scaler, "scale_")
    assert os.listdir(tmp_path) == [data.name]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".npy"])
@pytest.mark.parametrize("rows", [2, 4])
def test_a_file_that_changes_between_the_passes(suffix, rows, tmp_path):
    data, out = tmp_path / f"data{suffix}", tmp_path / "out.csv"

    def write(rows):
        with source_class(data).writer(data) as writer:
            writer.write(ArrayBatch(0, ["x0"], np.arange(float(rows))[:, None]))

    write(3)
    out.write_text("precious")
    with pytest.raises(ValueError, match=rf"data\{suffix} was changed while it was read"):
        fit_transform_file(
            data,
            out,
            nc.MinMaxScaler(),
            progress=lambda state: write(rows) if state.step == "fit" else None,
        )
    assert out.read_text() == "precious"


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 2)])
def test_a_scaler_that_returns_another_shape(shape, write, tmp_path):
    class Odd(nc.MinMaxScaler):
        def transform(self, X):
            return np.ones(shape)

    with pytest.raises(ValueError, match="the scaler made an array of shape"):
        fit_transform_file(write("a\n1\n2\n3\n"), tmp_path / "out.csv", Odd())
    assert os.listdir(tmp_path) == ["data.csv"]
