"""Cells of CSV files: what is cut into blocks and read in threads is what the csv module reads."""

import csv
import gzip
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import as_frame

import normcore as nc
from normcore.io import open_table, transform_file
from normcore.io.csv.options import CsvOptions

pytest.importorskip("pyarrow")
from normcore.io.csv import rows as csv_rows
from normcore.io.csv import stream as csv_stream
from normcore.io.csv import writer as csv_writer
from normcore.io.csv.rows import BadRows, Block, Dialect, RowBlocks, read_cells

CELLS = st.text(st.sampled_from('ab,;"\n\r \tü漢#0.\x1f\0'), max_size=6)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=8)
)


def cells_of(data, width, dialect, size):
    """Read text as the source does, a few bytes at a time."""
    blocks = RowBlocks(io.BytesIO(data), dialect, size)
    parts = [read_cells(block, width, dialect) for block in blocks]
    return [cell.as_py() or "" for cells, _ in parts for cell in cells], sum(n for _, n in parts)


@settings(deadline=None, max_examples=300)
@given(
    table=TABLES,
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    delimiter=st.sampled_from(",;\t"),
    size=st.integers(1, 40),
    last=st.booleans(),
)
def test_what_the_csv_module_writes_is_read(table, end, quoting, delimiter, size, last):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows(table)
    # A carriage return without quotes is the end of a line here, and a line of nothing no row.
    data = text.getvalue().encode()
    expected = list(csv.reader(io.StringIO(text.getvalue(), newline=""), delimiter=delimiter))
    if expected != table:
        return
    if not last and not data.endswith(b'"' + end.encode()):
        data = data.removesuffix(end.encode())
    cells, _ = cells_of(data, len(table[0]), Dialect(delimiter.encode()), size)
    assert cells == [cell for row in table for cell in row]


@settings(deadline=None, max_examples=500)
@given(
    text=st.text(st.sampled_from('ab,"\n\r#'), max_size=40),
    size=st.integers(1, 50),
    comment=st.sampled_from(["", "#"]),
)
def test_any_text_is_what_the_csv_module_makes_of_it(text, size, comment):
    """Stray quotes, blank lines, rows of other lengths: the same rows, or an error."""
    dialect = Dialect(b",", b'"', comment.encode())
    rows = [cells for _, cells in csv_errors_rows(text.encode(), dialect)]
    widths = {len(row) for row in rows}
    unclosed = ends_in_quotes(rows_text(text, comment))
    for width in (1, 2, 3):
        try:
            cells, _ = cells_of(text.encode(), width, dialect, size)
        except BadRows:
            assert unclosed or widths != {width}
        else:
            assert not unclosed
            assert cells == [cell for row in rows for cell in row]
            assert widths <= {width}


def csv_errors_rows(data, dialect):
    from normcore.io.csv.errors import slow_rows

    return list(slow_rows(data, dialect))


def rows_text(text, comment):
    """Return the text without comments, which csv.reader does not know."""
    if not comment:
        return text
    kept, reader_lines = [], io.StringIO(text, newline="")
    open_row = ""
    for line in reader_lines:
        if not open_row and line.startswith(comment):
            continue
        open_row += line
        if not ends_in_quotes(open_row):
            kept.append(open_row)
            open_row = ""
    return "".join(kept) + open_row


def ends_in_quotes(text):
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=False))
        quoted, begins = False, True
        for char in _without_doubled(text):
            if quoted:
                quoted = char != '"'
                begins = False
            else:
                quoted = begins and char == '"'
                begins = char in ",\r\n"
        return quoted
    except csv.Error:
        return True


def _without_doubled(text):
    """Yield characters; a doubled quote in quotes is yielded as a letter."""
    index, quoted, begins = 0, False, True
    while index < len(text):
        char = text[index]
        if quoted and text[index : index + 2] == '""':
            yield "x"
            index += 2
            continue
        yield char
        if quoted:
            quoted = char != '"'
            begins = False
        else:
            quoted = begins and char == '"'
            begins = char in ",\r\n"
        index += 1


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_parallel_blocks_are_the_whole(size, write, monkeypatch):
    from normcore.io.csv.source import Csv

    rng = np.random.default_rng(0)
    lines = [
        f'{x!r},"t{i}\n{"," * (i % 3)}",{i}\n' for i, x in enumerate(rng.normal(size=999).tolist())
    ]
    path = write('a,b,"c"\n' + "".join(lines))
    monkeypatch.setattr(Csv, "_block_bytes", lambda self: size)
    monkeypatch.setattr(csv_stream, "_FIRST_BYTES", size)
    with open_table(path) as table:
        batches = list(table.batches(["c", "a"]))
    rows = np.concatenate([batch.matrix(["c", "a"]) for batch in batches])
    assert np.array_equal(rows[:, 0], np.arange(999))
    assert np.array_equal(rows[:, 1], np.random.default_rng(0).normal(size=999))
    text = [cell for batch in batches for cell in batch.to_arrow().column("b").to_pylist()]
    assert text == [f"t{i}\n{',' * (i % 3)}" for i in range(999)]
    assert [batch.first_row for batch in batches] == np.cumsum(
        [0, *(batch.num_rows for batch in batches[:-1])]
    ).tolist()


@pytest.mark.parametrize("wide", [3, 1000])
def test_cells_that_are_not_chosen_keep_their_characters(wide, write, tmp_path):
    texts = ["007", "1.50", "NA", "null", '""', '"a,b"', "", " x ", "1e5", '"q""q"', "+1", "'"]
    names = ",".join(f"c{i}" for i in range(wide))
    rows = [",".join([texts[(i + j) % len(texts)] for j in range(wide)]) for i in range(12)]
    path = write("x," + names + "\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows)))
    scaler = nc.MinMaxScaler().fit(as_frame({"x": [0.0, 11.0]}))
    transform_file(path, tmp_path / "out.csv", scaler)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "x," + names
    assert [line.partition(",")[2] for line in lines[1:]] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n\xff,3\n", "line 3: the text is not UTF-8 (byte 1 of the line is 0xff"),
        (b"a,b\n1,2\n\n1,\xe4\n", "line 4: the text is not UTF-8 (byte 3 of the line is 0xe4"),
        (b'a,b\n1,"x\ny"\n2\n', "line 4: 1 field where the header has 2"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "line 3: a quoted cell in the row that begins here does not"),
        (b"a,b\n1,2,\n3,4,\n", "line 2: 3 fields where the header has 2"),
        (b"a\tb\n1,2\n", "line 2: 2 fields where the header has 1"),
        (b"a\0,b\n1,2\n", "line 1: the text holds NUL bytes"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_what_is_malformed_is_named_with_its_line(content, message, suffix, write):
    path = write(gzip.compress(content) if suffix == ".csv.gz" else content, "data" + suffix)
    message = re.escape(f"data{suffix}, {message}")
    with pytest.raises(ValueError, match=message), open_table(path) as table:
        list(table.batches(["a"], others=False))


def test_lines_count_through_blocks_comments_and_quotes(write, monkeypatch):
    from normcore.io.csv.source import Csv

    for size in (8, 64, 1 << 20):
        monkeypatch.setattr(Csv, "_block_bytes", lambda self, size=size: size)
        monkeypatch.setattr(csv_stream, "_FIRST_BYTES", size)
        filler = '# a "comment\n\n1,"x\ny"\r\n2,z\n'
        path = write("skipped\n# first\na,b\n" + filler * 20 + "abc,1\n")
        options = CsvOptions(comment="#", skip_rows=1)
        with (
            pytest.raises(ValueError, match=r"line 104: column 'a': 'abc' is not a number"),
            open_table(path, csv=options) as table,
        ):
            list(table.batches(["a"]))


def test_a_block_that_is_no_utf8_names_no_row():
    with pytest.raises(BadRows):
        read_cells(Block(b"\xc3,1\n", True), 2, Dialect(b","))
    assert csv_rows.LARGEST_ROW == 1 << 26


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_lines_made_at_once_are_those_made_of_cells(delimiter, tmp_path, monkeypatch):
    """Two ways to write numbers and text agree to the byte, for floats of any bits."""
    from normcore.io.csv import lines as csv_lines
    from normcore.io.csv.source import Csv

    if not csv_lines.AVAILABLE:
        pytest.skip("the C++ library writes no floats")
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 60_000, np.uint64).view(np.float64)
    powers = 10.0 ** np.arange(-30, 30)
    near = [np.nextafter(powers, 0), powers, np.nextafter(powers, np.inf), -powers, [0.0, -0.0]]
    plain = rng.normal(size=20_000) * 10.0 ** rng.integers(-9, 20, 20_000)
    values = np.concatenate([bits, *near, plain, plain.round(3), np.arange(-500.0, 500)])
    values = values[np.isfinite(values)]
    rows = [f"{i},{'' if i % 7 else 'NA'},t{i % 11}\n" for i in range(len(values))]
    (tmp_path / "data.csv").write_text("x,gap,text\n" + "".join(rows))
    outputs = []
    for available in (True, False):
        monkeypatch.setattr(csv_lines, "AVAILABLE", available)
        out = tmp_path / f"{available}.csv"
        options = CsvOptions(delimiter=delimiter)
        done = 0
        with open_table(tmp_path / "data.csv") as table:
            writer = csv_writer.CsvWriter(out, options)
            for batch in table.batches(["x", "gap"]):
                part = np.full((batch.num_rows, 2), np.nan)
                part[:, 0] = values[done : done + batch.num_rows]
                done += batch.num_rows
                writer.write(batch.with_matrix(["x", "gap"], part))
            writer.close()
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]
    cells = [line.split(delimiter.encode())[0] for line in outputs[0].splitlines()[1:]]
    assert np.array_equal(np.array(cells, dtype=float), values)
    assert Csv.delimiter == ","


@pytest.mark.parametrize("cells", [1, 300])
def test_wide_rows_cost_no_more_than_narrow_ones(cells):
    """Nothing is done for each column of a block: 20,000 columns are a handful of arrays."""
    from normcore.io.csv import work as csv_work
    from normcore.io.csv.numbers import Numbers

    names = tuple(f"c{i}" for i in range(20_000))
    data = (",".join(["1.5"] * 20_000) + "\n").encode() * cells
    read, _ = read_cells(Block(data, True), 20_000, Dialect(b","))
    work = csv_work.CsvWork(names, names, True, set(), Numbers(CsvOptions(delimiter=",")), None)
    rows = work(read, False)
    assert rows.values.shape == (cells, 20_000)
    assert (rows.values == 1.5).all()


@pytest.mark.parametrize(
    "columns", [["a", "t", "b", "n", "i", "d"], ["a", "b"], ["t", "a"], ["a"], ["i", "n", "d"]]
)
def test_arrow_rows_are_the_same_bytes_with_and_without_compiled_lines(
    columns, tmp_path, monkeypatch
):
    import pyarrow as pa

    from normcore.io.arrow.batch import ArrowBatch
    from normcore.io.csv import lines as csv_lines
    from normcore.io.csv.source import Csv

    if not csv_lines.AVAILABLE:
        pytest.skip("no compiled lines here")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3000)) * 10.0 ** rng.integers(-300, 300, (2, 3000))
    a[:6] = [-np.nan, np.inf, -0.0, 1e16, 5e-324, 123456789.0]
    table = pa.table(
        {
            "a": a,
            "t": [None if i % 7 == 0 else f'x,"{i}\n' for i in range(3000)],
            "b": pa.array(b, mask=rng.random(3000) < 0.1),
            "n": rng.standard_normal(3000).astype(np.float32),
            "i": np.arange(3000),
            "d": pa.array(["p", "q"] * 1500).dictionary_encode(),
        }
    ).select(columns)
    written = []
    for available in (True, False):
        monkeypatch.setattr(csv_lines, "AVAILABLE", available)
        with Csv.writer(tmp_path / "x.csv") as writer:
            for row, batch in ((0, table[:1000]), (1000, table[1000:])):
                writer.write(ArrowBatch(row, batch.to_batches()[0]))
        written.append((tmp_path / "x.csv").read_bytes())
    assert written[0] == written[1]
    assert len(written[0].splitlines()) >= 3001
