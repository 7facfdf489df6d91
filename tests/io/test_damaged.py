"""Files that are not what they claim to be, or change while they are read: an error each."""

import os
import struct

import numpy as np
import pytest

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq
from arrow_tables import dictionary, store

import normcore as nc
from normcore.io import fit_file, fit_transform_file, open_table

# -- .npy --------------------------------------------------------------------------------------


def npy(path, header, version=(1, 0), data=bytes(64)):
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header) + 1)
    path.write_bytes(b"\x93NUMPY" + bytes(version) + size + header.encode() + b"\n" + data)
    return path


def header(shape, descr="'<f8'", order=False):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            header(shape)
            for shape in ("(10**30,)", f"({10**30}, 2)", "(True, 2)", "(2, (", "(-1, 2)")
        ),
        *(
            header(shape)
            for shape in ("(2**62, 2**62)", f"({2**62}, {2**62})", "4", "(2.0, 4)", "()")
        ),
        *(header(shape) for shape in ("('2', 4)", "(None, 4)", "(2, 4", f"({2**61}, 8)", "[2, 4]")),
        header("(2, 4)", "'O'"),
        header("(2, 4)", "'<q9'"),
        header("(2, 4)", "[('a', '<f8'), ('b', '<f8')]"),
        header("(2, 4)", "[('a', '<f8', 10**9)]"),
        header("(2, 4)", "{'x': 1}"),
        header("(2, 4)", "'<M8[ns]'"),
        header("(2, 4)", "'<U2'"),
        header("(2, 4)", "'<c8'"),
        header("(2, 4)", order="'no'"),
        header("(2, 4)", order=None),
        "{}",
        "",
        "{" * 5000,
        "[" * 400,
        "{'descr': '<f8'}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 4), 'more': 1}",
        "import os",
        "\x00" * 60,
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 4), }" + " " * 20_000,
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_of_npy(text, version, tmp_path):
    path = npy(tmp_path / "x.npy", text, version)
    with pytest.raises(ValueError, match=r"x\.npy ") as caught:
        fit_file(path, nc.StandardScaler())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", [True, False])
@pytest.mark.parametrize("descr", ["<f8", ">f8", "<i4", ">f4"])
def test_headers_that_are_good(version, order, descr, tmp_path):
    x = np.arange(8).reshape((2, 4), order="F" if order else "C")
    data = np.arange(8).astype(descr).tobytes()
    path = npy(tmp_path / "x.npy", header("(2, 4)", f"'{descr}'", order), version, data)
    with open_table(path) as table:
        (batch,) = table.batches(["x0", "x1", "x2", "x3"])
    assert np.array_equal(batch.matrix(["x0", "x1", "x2", "x3"]), x)


@pytest.mark.parametrize("version", [(0, 0), (4, 0), (1, 1), (255, 255)])
def test_versions_of_npy_that_do_not_exist(version, tmp_path):
    path = npy(tmp_path / "x.npy", header("(2, 4)"), version)
    with pytest.raises(ValueError, match=r"x\.npy is not a readable \.npy file: "):
        open_table(path)


@pytest.mark.parametrize("change", [-1, -8, -60, 1, 64])
def test_npy_of_another_length_than_it_says(change, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((4, 2)))
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    message = "is truncated: it has" if change < 0 else r"goes on after its array of shape \(4, 2\)"
    with pytest.raises(ValueError, match=rf"x\.npy {message}"):
        fit_file(path, nc.StandardScaler())


def test_an_archive_of_numpy(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones((2, 2)))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=r"x\.npy is an \.npz archive; save the one array"):
        open_table(tmp_path / "x.npy")


# -- Parquet -----------------------------------------------------------------------------------


def test_a_damaged_row_group_is_named_with_its_column(tmp_path):
    path = tmp_path / "x.parquet"
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=3000), "b": rng.normal(size=3000)})
    pq.write_table(table, path, row_group_size=1000, use_dictionary=False, compression="gzip")
    chunk = pq.read_metadata(path).row_group(1).column(1)
    content = bytearray(path.read_bytes())
    place = chunk.data_page_offset + chunk.total_compressed_size // 2
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    for run in (
        lambda: fit_file(path, nc.StandardScaler()),
        lambda: fit_transform_file(path, tmp_path / "y.csv", nc.StandardScaler()),
    ):
        with pytest.raises(ValueError, match=r"x\.parquet .*row group 2 of 3, column 'b': "):
            run()
    assert os.listdir(tmp_path) == ["x.parquet"]
    fit_file(path, nc.StandardScaler(), columns=["a"])  # what is damaged is not read


def test_checksums_of_pages_are_looked_at(tmp_path):
    path = tmp_path / "x.parquet"
    table = pa.table({"a": np.arange(1000.0)})
    pq.write_table(table, path, use_dictionary=False, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[content.find(np.float64(500.0).tobytes()) + 6] ^= 1  # another number, as readable
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet .*row group 1 of 1, column 'a': "):
        fit_file(path, nc.StandardScaler())


# -- Arrow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".arrow", ".arrows"])
@pytest.mark.parametrize("out", ["y.csv", "y.parquet", "y.arrow", "y.orc", None])
def test_an_index_beyond_its_dictionary(suffix, out, tmp_path):
    path = tmp_path / f"x{suffix}"
    store(pa.table({"x": [1.0, 2.0], "c": dictionary(["a", "b"], indices=[0, 1])}), path)
    content = bytearray(path.read_bytes())
    content[content.rfind(bytes([0, 1]) + bytes(6)) + 1] = 124
    path.write_bytes(content)
    if out is None:  # of columns that are read alone
        assert fit_file(path, nc.StandardScaler()).before.num_rows == 2
        return
    with pytest.raises(ValueError, match=rf"x\{suffix}: record batch 1.*column 'c', is damaged"):
        fit_transform_file(path, tmp_path / out, nc.StandardScaler())
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".arrow", ".arrows"])
def test_offsets_of_text_beyond_its_characters(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    store(pa.table({"x": [1.0, 2.0], "t": ["abcd", "efgh"]}), path)
    content = bytearray(path.read_bytes())
    offsets = struct.pack("<3i", 0, 4, 8)
    place = content.rfind(offsets)
    content[place : place + 12] = struct.pack("<3i", 0, 4, 2**30)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\{suffix}: record batch 1.* damaged"):
        fit_transform_file(path, tmp_path / "y.parquet", nc.StandardScaler())


@pytest.mark.parametrize("suffix", [".arrow", ".arrows", ".npy", ".parquet"])
def test_a_file_that_is_truncated_while_it_is_read(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    x = np.random.default_rng(0).normal(size=(200_000, 4))
    if suffix == ".npy":
        np.save(path, x)
    else:
        store(pa.table(dict(zip("abcd", x.T, strict=True))), path, rows=20_000)
    cut = []

    def truncate(state):
        if state.rows >= 40_000 and not cut:
            cut.append(os.truncate(path, 1000))

    with pytest.raises((ValueError, OSError), match=rf"x\{suffix}"):
        fit_file(path, nc.StandardScaler(), progress=truncate, batch_rows=10_000)
    assert cut


@pytest.mark.parametrize("suffix", [".arrow", ".arrows", ".parquet", ".orc", ".npy"])
@pytest.mark.parametrize("size", [1, 7, 8, 100, -1, -9, -100])
def test_files_cut_short(suffix, size, tmp_path):
    path = tmp_path / f"x{suffix}"
    x = np.arange(3000.0)
    if suffix == ".npy":
        np.save(path, x[:, None])
    else:
        store(pa.table({"x": x, "t": [f"t{i}" for i in range(3000)]}), path, rows=1000)
    path.write_bytes(path.read_bytes()[:size])
    if suffix == ".arrows" and size == -1:  # the mark of its end is not needed
        return
    with pytest.raises((ValueError, OSError), match=rf"x\{suffix}"):
        fit_file(path, nc.StandardScaler())


# -- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".orc"])
@pytest.mark.parametrize("same", [True, False])
def test_batches_are_bounded_in_bytes(suffix, same, tmp_path):
    path, rows = tmp_path / f"x{suffix}", 6000
    rng = np.random.default_rng(0)
    cells = [b"z" * 20_000] * rows if same else [rng.bytes(20_000) for _ in range(rows)]
    table = pa.table({"x": np.arange(float(rows)), "b": cells})
    if suffix == ".parquet":
        pq.write_table(table, path)
    else:
        store(table, path, rows)
    with open_table(path) as source:
        sizes = [batch.nbytes for batch in source.batches(["x"])]
        assert max(sizes) <= 2 * source.batch_bytes
        assert sum(sizes) > 20_000 * rows
        alone = list(source.batches(["x"], others=False))
    assert sum(batch.num_rows for batch in alone) == rows
    if suffix != ".orc":  # which has stripes of so many bytes
        assert len(alone) == 1


def test_ten_thousand_columns(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 10_000))
    names = [f"c{i}" for i in range(10_000)]
    for suffix in (".parquet", ".arrow"):
        path, out = tmp_path / f"x{suffix}", tmp_path / f"y{suffix}"
        store(pa.table(dict(zip(names, x.T, strict=True))), path, rows=30)
        report = fit_transform_file(path, out, nc.StandardScaler())
        assert len(report.columns) == 10_000
        with open_table(out) as table:
            (batch,) = table.batches(names)
        expected = nc.StandardScaler().fit_transform(x)
        np.testing.assert_allclose(batch.matrix(names), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("suffix", [".arrow", ".arrows", ".parquet"])
def test_names_of_columns_that_are_no_text(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    store(pa.table({"column_of_x": [1.0, 2.0]}), path)
    path.write_bytes(path.read_bytes().replace(b"column_of_x", b"column_\xff_x"))
    with pytest.raises(ValueError, match=rf"x\{suffix} is not a readable"):
        fit_file(path, nc.StandardScaler())


def large_batch(rows, seed=0):
    """Return a table of plain types, with nulls, in one piece."""
    rng = np.random.default_rng(seed)
    missing = rng.random(rows) < 0.1
    texts = [None if lost else "ü" * (i % 7) for i, lost in enumerate(missing)]
    return pa.table(
        {
            "x": pa.array(rng.normal(size=rows)),
            "f": pa.array(rng.normal(size=rows).astype(np.float32), mask=missing),
            "i": pa.array(rng.integers(0, 99, rows), pa.int16(), mask=missing[::-1]),
            "b": pa.array(rng.random(rows) < 0.5, mask=missing),
            "t": texts,
            "l": pa.array(texts, pa.large_string()),
            "when": pa.array(np.arange(rows), pa.timestamp("us")),
            "money": pa.array(np.arange(rows)).cast(pa.decimal128(22, 2)),
            "fixed": pa.array([b"ab"] * rows, pa.binary(2)),
        }
    )


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 1000])
@pytest.mark.parametrize("batch_rows", [None, 1, 8, 13, 100])
def test_large_record_batches_are_read_in_slices(rows, batch_rows, tmp_path, monkeypatch):
    from normcore.io.arrow import ipc

    monkeypatch.setattr(ipc, "_LARGE_BATCH", 1)
    monkeypatch.setattr(ipc, "damage_errors", None)  # nothing is read whole
    table = large_batch(rows)
    batches = [*table.to_batches(), *large_batch(5, 1).to_batches()]
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    with open_table(tmp_path / "x.arrow") as source:
        found = [batch.to_arrow() for batch in source.batches(["x"], batch_rows=batch_rows)]
        alone = [batch.matrix(["x"]) for batch in source.batches(["x"], others=False)]
    assert max(batch.num_rows for batch in found) <= (batch_rows or max(rows, 5))
    whole = pa.Table.from_batches(batches)
    assert pa.Table.from_batches(found).combine_chunks().equals(whole.combine_chunks())
    assert np.array_equal(np.concatenate(alone)[:, 0], whole["x"].to_numpy())


@pytest.mark.parametrize("seed", range(20))
def test_large_record_batches_that_are_damaged(seed, tmp_path, monkeypatch):
    from normcore.io.arrow import ipc

    monkeypatch.setattr(ipc, "_LARGE_BATCH", 1)
    path = tmp_path / "x.arrow"
    store(large_batch(50), path, rows=50)
    content = bytearray(path.read_bytes())
    offsets = np.array([0], np.int32).tobytes()
    places = [i for i in range(0, len(content) - 200, 8) if content[i : i + 4] == offsets]
    place = places[seed * len(places) // 20]
    content[place + 4 : place + 8] = np.array([2**30 * (-1) ** seed], np.int32).tobytes()
    path.write_bytes(content)
    out = tmp_path / "y.csv"
    try:
        report = fit_transform_file(path, out, nc.StandardScaler(), columns=["x"], batch_rows=16)
    except ValueError as error:
        assert "x.arrow" in str(error)  # noqa: PT017
    else:
        assert report.before.num_rows == 50
        assert len(out.read_text().splitlines()) == 51
