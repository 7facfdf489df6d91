"""Parquet, Arrow and .npy files, and everything that one becomes of another."""

import datetime
import os

import numpy as np
import pytest
from discovery import fresh_discovery

import normcore as nc
from normcore.io import (
    ArrayBatch,
    Field,
    TableSource,
    TableWriter,
    fit_file,
    fit_transform_file,
    open_table,
    transform_file,
)
from normcore.io.opening import source_class

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 1000
RNG = np.random.default_rng(0)


def a_table(rows=ROWS):
    day = datetime.date(2024, 1, 1)
    return pa.table(
        {
            "f8": RNG.normal(5, 2, rows),
            "f4": RNG.normal(-3, 1, rows).astype(np.float32),
            "f2": pa.array(RNG.normal(size=rows).astype(np.float16)),
            "i8": pa.array([None if i % 7 == 0 else i for i in range(rows)], pa.int64()),
            "u1": (np.arange(rows) % 250).astype(np.uint8),
            "money": pa.array(np.arange(rows)).cast(pa.decimal128(22, 2)),
            "text": [f"a,{i}\n" for i in range(rows)],
            "day": [day + datetime.timedelta(i) for i in range(rows)],
            "flag": [i % 2 == 0 for i in range(rows)],
            "kind": pa.array([f"k{i % 3}" for i in range(rows)]).dictionary_encode(),
            "list": [[i] for i in range(rows)],
        }
    ).replace_schema_metadata({"origin": "test"})


NUMERIC = ("f8", "f4", "f2", "i8", "u1", "money")


def write_parquet(table, path):
    pq.write_table(table, path, row_group_size=300)


def write_file(table, path):
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


def write_stream(table, path):
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("data.parquet", write_parquet),
        ("data.arrow", write_file),
        ("data.feather", write_file),
        ("data.ipc", write_stream),
    ],
)
@pytest.mark.parametrize("output", ["out.parquet", "out.arrow"])
@pytest.mark.parametrize("batch_rows", [None, 64])
def test_arrow_formats(name, write, output, batch_rows, tmp_path):
    table = a_table()
    write(table, tmp_path / name)
    scaler = nc.StandardScaler()
    report = fit_transform_file(tmp_path / name, tmp_path / output, scaler, batch_rows=batch_rows)
    assert report.columns == NUMERIC
    assert report.passed_through == ("text", "day", "flag", "kind", "list")
    result = read(tmp_path / output)
    assert result.schema.names == table.schema.names
    assert result.schema.metadata[b"origin"] == b"test"
    assert str(result["f8"].type) == str(result["i8"].type) == str(result["money"].type) == "double"
    assert str(result["f4"].type) == "float"
    assert str(result["f2"].type) == "halffloat"
    for column in ("text", "day", "flag", "list"):
        assert result[column].to_pylist() == table[column].to_pylist()
        assert result[column].type == table[column].type
    assert result["kind"].to_pylist() == table["kind"].to_pylist()
    assert result["i8"].is_null().to_pylist() == table["i8"].is_null().to_pylist()
    for column in NUMERIC:
        values = table[column].cast(pa.float64()).to_numpy()
        expected = (values - np.nanmean(values)) / np.nanstd(values)
        eps = {"f4": 1e-6, "f2": 2e-3}.get(column, 1e-12)
        np.testing.assert_allclose(
            result[column].to_numpy().astype(float), expected, rtol=eps, atol=eps
        )


def test_float32_is_rounded_once_beside_float64(tmp_path):
    x = (RNG.normal(size=500) + 1e7).astype(np.float32)
    write_parquet(pa.table({"a": x, "b": x.astype(float)}), tmp_path / "x.parquet")
    scaler = nc.StandardScaler()
    fit_transform_file(tmp_path / "x.parquet", tmp_path / "y.parquet", scaler)
    result = read(tmp_path / "y.parquet")
    alone = nc.StandardScaler().fit(x[:, None]).transform(x[:, None])[:, 0]
    assert np.array_equal(result["a"].to_numpy(), alone)


def test_columns_that_are_not_chosen_keep_their_type(tmp_path):
    table = a_table()
    write_parquet(table, tmp_path / "x.parquet")
    fit_transform_file(
        tmp_path / "x.parquet", tmp_path / "y.parquet", nc.StandardScaler(), columns=["f4"]
    )
    result = read(tmp_path / "y.parquet")
    assert result.schema.field("i8").type == pa.int64()
    assert result["i8"].equals(table["i8"])
    assert result["kind"].type == table["kind"].type


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_pandas_reads_back_columns_that_were_of_its_own_dtypes(suffix, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None, 4], dtype="Int64"),
            "a": pd.array([1, 2, 4], dtype="int32[pyarrow]"),
            "f": pd.array([1, None, 4], dtype="Float32"),
            "c": pd.Categorical(["u", "v", "u"]),
        }
    )
    paths = [tmp_path / f"{name}{suffix}" for name in ("data", "out")]
    getattr(frame, {".parquet": "to_parquet", ".feather": "to_feather"}[suffix])(paths[0])
    fit_transform_file(*paths, nc.MinMaxScaler())
    result = {".parquet": pd.read_parquet, ".feather": pd.read_feather}[suffix](paths[1])
    assert result.dtypes.astype(str).tolist() == ["float64", "float64", "Float32", "category"]
    assert result["a"].tolist() == [0, 1 / 3, 1]
    assert result["i"].isna().tolist() == result["f"].isna().tolist() == [False, True, False]


def test_the_index_of_pandas_is_no_feature(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[10, 20, 40])
    frame.to_parquet(tmp_path / "x.parquet")
    report = fit_transform_file(tmp_path / "x.parquet", tmp_path / "y.parquet", nc.MinMaxScaler())
    assert report.columns == ("a",)
    result = pd.read_parquet(tmp_path / "y.parquet")
    assert result.index.tolist() == [10, 20, 40]
    assert result["a"].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".npy"])
def test_a_table_without_rows(suffix, tmp_path):
    write_parquet(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "x.parquet")
    scaler = nc.StandardScaler().fit([[1.0], [2.0]])
    output = tmp_path / f"out{suffix}"
    transform_file(tmp_path / "x.parquet", output, scaler)
    with open_table(output) as table:
        assert len(table.fields) == 1
        assert sum(batch.num_rows for batch in table.batches(["a"])) == 0
    with pytest.raises(ValueError, match="columns but no rows"):
        fit_file(tmp_path / "x.parquet", nc.RobustScaler())


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.npy"])
@pytest.mark.parametrize("content", [b"not what it claims to be", b"PAR1", b"ARROW1", b"\x93NUMPY"])
def test_not_what_it_claims_to_be(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is not a readable"):
        open_table(tmp_path / name)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.npy"])
def test_truncated(name, tmp_path):
    path = tmp_path / name
    if name == "x.npy":
        np.save(path, np.ones((100, 3)))
    else:
        (write_parquet if name == "x.parquet" else write_file)(a_table(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=name):
        fit_file(path, nc.StandardScaler())


# -- .npy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f8", "i4", "u1", "?"])
@pytest.mark.parametrize("batch_rows", [None, 7])
def test_npy(order, dtype, batch_rows, tmp_path):
    x = np.asarray(RNG.normal(50, 20, (100, 4)).astype(dtype), order=order)
    x[0] = 0
    np.save(tmp_path / "x.npy", x)
    scaler = nc.MinMaxScaler()
    fit_transform_file(tmp_path / "x.npy", tmp_path / "y.npy", scaler, batch_rows=batch_rows)
    result = np.load(tmp_path / "y.npy")
    assert result.dtype == (np.dtype(dtype).newbyteorder("=") if "f" in dtype else np.float64)
    assert np.array_equal(result, nc.MinMaxScaler().fit_transform(x))
    assert not hasattr(scaler, "feature_names_in_")


def test_npy_columns(tmp_path):
    x = RNG.integers(0, 9, (20, 3))
    np.save(tmp_path / "x.npy", x)
    fit_transform_file(
        tmp_path / "x.npy", tmp_path / "y.npy", nc.StandardScaler(), columns=["x2", "x0"]
    )
    result = np.load(tmp_path / "y.npy")
    assert np.array_equal(result[:, 1], x[:, 1])
    expected = nc.StandardScaler().fit_transform(x)
    np.testing.assert_allclose(result[:, [0, 2]], expected[:, [0, 2]], rtol=1e-14)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(5), r"shape \(5,\).*two dimensions.*reshape\(-1, 1\)"),
        (np.ones((2, 2, 2)), r"shape \(2, 2, 2\).*two dimensions"),
        (np.ones((2, 2), complex), "complex128 values; expected real numbers"),
        (np.array([["a", "b"]]), "expected real numbers"),
        (np.ones((2, 0)), "no numeric column"),
    ],
)
def test_npy_that_is_no_table(array, message, tmp_path):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=message):
        fit_file(tmp_path / "x.npy", nc.StandardScaler())


def test_npy_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"x\.npy holds Python objects"):
        open_table(tmp_path / "x.npy")


def test_npy_cannot_hold_text(tmp_path):
    write_parquet(a_table(), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"numbers only.*'text'.*write \.csv"):
        fit_transform_file(tmp_path / "x.parquet", tmp_path / "y.npy", nc.StandardScaler())
    assert os.listdir(tmp_path) == ["x.parquet"]


def test_npy_from_csv_with_columns_that_are_not_chosen(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,5\n3,6\n")
    fit_transform_file(tmp_path / "x.csv", tmp_path / "y.npy", nc.StandardScaler(), columns=["a"])
    assert np.load(tmp_path / "y.npy").tolist() == [[-1, 5], [1, 6]]


# -- from any format to any other --------------------------------------------------------------


@pytest.mark.parametrize("source", [".csv", ".parquet", ".arrow", ".npy"])
@pytest.mark.parametrize("target", [".csv", ".parquet", ".arrow", ".npy"])
@pytest.mark.parametrize("scaler", [nc.StandardScaler(), nc.RobustScaler()], ids=["std", "robust"])
def test_any_to_any_and_back(source, target, scaler, tmp_path):
    x = RNG.normal(10, 3, (200, 3))
    names = ["x0", "x1", "x2"]
    data, out, back = (tmp_path / f"{name}" for name in (f"d{source}", f"o{target}", f"b{source}"))
    with source_class(data).writer(data) as writer:
        writer.write(ArrayBatch(0, names, x))
    fit_transform_file(data, out, scaler, batch_rows=33)
    transform_file(out, back, scaler, inverse=True, batch_rows=50)
    with open_table(out) as table:
        result = np.concatenate([batch.matrix(names) for batch in table.batches(names)])
    np.testing.assert_allclose(result, type(scaler)().fit_transform(x), rtol=1e-13, atol=1e-15)
    with open_table(back) as table:
        restored = np.concatenate([batch.matrix(names) for batch in table.batches(names)])
    np.testing.assert_allclose(restored, x, rtol=1e-13)


def test_unknown_suffix(tmp_path):
    (tmp_path / "x.xls").write_text("?")
    with pytest.raises(ValueError, match=r"x\.xls.*must be one of .*\.csv.*\.npy.*\.parquet"):
        open_table(tmp_path / "x.xls")


def test_suffixes_in_capitals(tmp_path):
    (tmp_path / "X.CSV").write_text("a\n1\n")
    with open_table(tmp_path / "X.CSV") as table:
        assert table.fields[0].name == "a"


# -- a format of one's own ---------------------------------------------------------------------


class Lines(TableSource):
    """One number a line."""

    format = "Lines"
    numbers_only = True

    def __init__(self, path):
        super().__init__(path)
        self._set_fields([Field("value", np.dtype("f8"))])

    def batches(self, numeric, *, others=True, batch_rows=None):
        values = np.array([float(line) for line in self.path.read_text().split()])
        for start in range(0, max(len(values), 1), batch_rows or 10):
            part = values[start : start + (batch_rows or 10), None]
            yield ArrayBatch(start, ["value"], part)

    @classmethod
    def sink(cls, path):
        return LinesWriter(path)


class LinesWriter(TableWriter):
    def __init__(self, path):
        self.file = open(path, "w")  # noqa: SIM115

    def write(self, batch):
        self.file.writelines(f"{value!r}\n" for value in batch.matrix(["value"])[:, 0].tolist())

    def close(self):
        self.file.close()


class LinesPlugin:
    @staticmethod
    @nc.hookimpl
    def normcore_register(registry):
        registry.source(".lines", f"{__name__}:Lines")


def test_a_registered_format(tmp_path, monkeypatch):
    fresh_discovery(monkeypatch)
    nc.register(LinesPlugin)
    (tmp_path / "x.lines").write_text("1\n2\n3\n" * 10)
    fit_transform_file(tmp_path / "x.lines", tmp_path / "y.lines", nc.MinMaxScaler())
    assert (tmp_path / "y.lines").read_text() == "0.0\n0.5\n1.0\n" * 10
    fit_transform_file(tmp_path / "x.lines", tmp_path / "y.parquet", nc.MinMaxScaler())
    assert read(tmp_path / "y.parquet")["value"].to_pylist() == [0.0, 0.5, 1.0] * 10


def test_more_than_64_bits_become_64(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.longdouble).reshape(3, 2))
    for name in ("y.npy", "y.parquet"):
        fit_transform_file(tmp_path / "x.npy", tmp_path / name, nc.MinMaxScaler())
    assert np.load(tmp_path / "y.npy").dtype == np.float64
    assert read(tmp_path / "y.parquet")["x1"].to_pylist() == [0, 0.5, 1]


def test_a_table_without_columns(tmp_path):
    np.save(tmp_path / "x.npy", np.empty((3, 0)))
    with pytest.raises(ValueError, match=r"x\.npy has no numeric column; it has no column at all"):
        fit_file(tmp_path / "x.npy", nc.StandardScaler())
