"""No row is lost between a file, a scaler and another file, and no digit on the way."""

import csv
import random

import numpy as np
import pytest

import normcore as nc
from normcore.io import open_table, transform_file

pytest.importorskip("pyarrow")


@pytest.fixture
def write(tmp_path):
    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode())
        return path

    return write


def as_frame(data):
    return pytest.importorskip("pandas").DataFrame(data)


def read(path, names):
    """Return numeric columns of all batches as rows, and all others as text."""
    with open_table(path) as table:
        batches = list(table.batches(names))
        matrix = np.concatenate([batch.matrix(names) for batch in batches])
        others = [field.name for field in table.fields if field.name not in names]
        text = {n: [v for b in batches for v in b.to_arrow().column(n).to_pylist()] for n in others}
    return matrix, text


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
    from normcore.io import csv as module

    monkeypatch.setattr(module, "_BLOCK_BYTES", [8, 16, 32, 64][seed % 4])
    rng = random.Random(seed)
    texts = ["", "x", "1.5", "two\nlines", 'say "q"', "a,b", "ü", "\n\n\n"]
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
    from normcore.io import csv as module

    monkeypatch.setattr(module, "_LARGEST_BLOCK_BYTES", MIB)
    with pytest.raises(ValueError, match=r"data\.csv: the header line is longer than 64 MiB"):
        open_table(write("a" * 2 * MIB + "\n1\n"))
    with pytest.raises(ValueError, match=r"data\.csv: a row is longer than 64 MiB"):
        read(write("a,b\n1,x\n2," + "x" * 2 * MIB + "\n"), ["a"])
