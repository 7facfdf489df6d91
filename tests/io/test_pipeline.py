"""Fitting and transforming files: what is computed, what is remembered, how much is held."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import run_python

import normcore as nc
from normcore.io import (
    OutputOptions,
    fit_file,
    fit_transform_file,
    fit_transform_source,
    open_table,
    transform_file,
)

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

RNG = np.random.default_rng(0)
X = RNG.normal([1e7, 0, 1e-6], [1, 1e5, 1e-9], (700, 3))
X[RNG.random(X.shape) < 0.05] = np.nan
NAMES = ["a", "b", "c"]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(dict(zip(NAMES, X.T, strict=True))), path, row_group_size=100)
    return path


@pytest.mark.parametrize("make", [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler])
@pytest.mark.parametrize("batch_rows", [None, 1, 64])
def test_batches_learn_what_the_whole_table_teaches(make, batch_rows, data):
    scaler, whole = make(), make().fit(X)
    report = fit_file(data, scaler, batch_rows=batch_rows)
    np.testing.assert_allclose(scaler.scale_, whole.scale_, rtol=1e-15)
    np.testing.assert_allclose(scaler.transform(X_named()), whole.transform(X), rtol=1e-13)
    assert scaler.feature_names_in_.tolist() == NAMES
    assert np.array_equal(scaler.n_samples_seen_, whole.n_samples_seen_)
    assert report.before.num_rows == 700
    assert report.after is None


def X_named(values=X):
    return pytest.importorskip("pandas").DataFrame(values, columns=NAMES)


def test_the_report_counts_what_went_in_and_came_out(data, tmp_path):
    report = fit_transform_file(data, tmp_path / "out.csv", nc.StandardScaler(), batch_rows=50)
    before, after = report.before, report.after
    assert before.count.tolist() == (~np.isnan(X)).sum(0).tolist()
    assert before.num_missing.tolist() == np.isnan(X).sum(0).tolist()
    assert np.array_equal(before.extrema.min, np.nanmin(X, 0))
    assert np.array_equal(before.extrema.max, np.nanmax(X, 0))
    np.testing.assert_allclose(before.moments.mean, np.nanmean(X, 0), rtol=1e-12)
    np.testing.assert_allclose(after.moments.std(), 1, rtol=1e-13)
    np.testing.assert_allclose(after.moments.mean, 0, atol=1e-9)  # half an ulp of 1e7
    y = nc.StandardScaler().fit_transform(X)
    np.testing.assert_allclose(after.extrema.max, np.nanmax(y, 0), rtol=1e-12)


def test_fit_forgets_what_was_learned_before(data):
    scaler = nc.StandardScaler().fit([[1.0], [2.0]])
    fit_file(data, scaler)
    assert scaler.n_features_in_ == 3
    assert np.array_equal(scaler.n_samples_seen_, (~np.isnan(X)).sum(0))


def test_a_column_of_nothing_but_missing_values(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,\n3,\n")
    scaler = nc.StandardScaler()
    report = fit_transform_file(tmp_path / "x.csv", tmp_path / "y.csv", scaler)
    assert np.isnan(scaler.mean_[1])
    assert report.before.count.tolist() == [2, 0]
    assert (tmp_path / "y.csv").read_text() == "a,b\n-1,\n1,\n"


def test_columns_are_found_by_name_in_any_order(data, tmp_path):
    scaler = nc.StandardScaler()
    fit_file(data, scaler)
    pq.write_table(
        pa.table({"c": X[:, 2], "new": X[:, 0], "a": X[:, 0], "b": X[:, 1]}),
        tmp_path / "other.parquet",
    )
    report = transform_file(tmp_path / "other.parquet", tmp_path / "out.parquet", scaler)
    result = pq.read_table(tmp_path / "out.parquet")
    assert result.schema.names == ["c", "new", "a", "b"]
    expected = scaler.transform(X_named())
    assert np.array_equal(result["c"].to_numpy(), expected[:, 2], equal_nan=True)
    assert np.array_equal(result["new"].to_numpy(), X[:, 0], equal_nan=True)
    assert report.passed_through == ("new",)


def test_a_missing_column_is_named_with_its_neighbours(data, tmp_path):
    scaler = nc.StandardScaler().fit(X_named().rename(columns={"c": "cc"}))
    with pytest.raises(ValueError, match=r"no column 'cc'; did you mean 'c'\?"):
        transform_file(data, tmp_path / "out.csv", scaler)


def test_without_names_columns_are_taken_in_order(data, tmp_path):
    scaler = nc.StandardScaler().fit(X)
    transform_file(data, tmp_path / "out.npy", scaler)
    assert np.array_equal(np.load(tmp_path / "out.npy"), scaler.transform(X), equal_nan=True)
    with pytest.raises(ValueError, match="3 numeric columns, but the scaler was fitted to 2"):
        transform_file(data, tmp_path / "out.npy", nc.StandardScaler().fit(X[:, :2]))
    with pytest.raises(ValueError, match="not fitted"):
        transform_file(data, tmp_path / "out.npy", nc.StandardScaler())


@pytest.mark.parametrize(
    ("columns", "message"),
    [([], "no column is named"), (["a", "a"], "twice"), (["z"], "no column 'z'; it has 'a'")],
)
def test_columns_that_make_no_sense(columns, message, data):
    with pytest.raises(ValueError, match=message):
        fit_file(data, nc.StandardScaler(), columns=columns)


def test_batch_rows_must_be_positive(data):
    with pytest.raises(ValueError, match="batch_rows must be positive"):
        fit_file(data, nc.StandardScaler(), batch_rows=0)


def test_text_columns_cannot_be_chosen(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,x\n")
    with pytest.raises(ValueError, match="column 'b' holds text, not numbers"):
        fit_file(tmp_path / "x.csv", nc.StandardScaler(), columns=["b"])
    (tmp_path / "y.csv").write_text("b\nx\n")
    with pytest.raises(ValueError, match="no numeric column; it has 'b'"):
        fit_file(tmp_path / "y.csv", nc.StandardScaler())


def test_copy_false_and_output_containers_make_no_difference(data, tmp_path):
    pytest.importorskip("pandas")
    scaler = nc.StandardScaler(copy=False).set_output(transform="pandas")
    fit_transform_file(data, tmp_path / "out.npy", scaler)
    expected = nc.StandardScaler().fit_transform(X)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-13)


def test_a_failing_transform_leaves_an_existing_output(data, tmp_path):
    table = pq.read_table(data)
    late = np.array(X[:, 1])
    late[-1] = np.inf
    pq.write_table(table.set_column(1, "b", pa.array(late)), tmp_path / "late.parquet")
    scaler = nc.StandardScaler()
    fit_file(data, scaler)
    for name in ("out.csv", "out.parquet", "out.arrow", "out.npy"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(ValueError, match="column 'b' holds infinity, first in row 700"):
            transform_file(tmp_path / "late.parquet", tmp_path / name, scaler, batch_rows=100)
        assert (tmp_path / name).read_text() == "precious"
    left = {"data.parquet", "late.parquet", "out.csv", "out.parquet", "out.arrow", "out.npy"}
    assert set(os.listdir(tmp_path)) == left


def test_an_error_in_the_callback_stops_the_run(data, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transform_file(data, tmp_path / "o.csv", nc.StandardScaler().fit(X), progress=stop)
    assert os.listdir(tmp_path) == ["data.parquet"]


@pytest.mark.parametrize("step", ["fit", "transform", "rows", "save"])
@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("make", [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler])
def test_a_failure_in_any_step_leaves_the_scaler(make, fitted, step, data, tmp_path, monkeypatch):
    scaler = make().fit(X[:, :2]) if fitted else make()
    before = {name: np.copy(value) for name, value in vars(scaler).items() if name[-1] == "_"}
    public = set(vars(scaler))

    def fail(*_, **__):
        raise OSError("the disk is gone")

    def stop(progress):
        if progress.step == step and progress.rows > 300:
            fail()

    if step == "rows":
        monkeypatch.setattr(make, "transform", fail)
    if step == "save":
        monkeypatch.setattr(make, "save", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        fit_transform_file(
            data, tmp_path / "o.csv", scaler, save=tmp_path / "s.json", batch_rows=100,
            progress=stop,
        )  # fmt: skip
    assert set(vars(scaler)) == public
    for name, value in before.items():
        np.testing.assert_array_equal(vars(scaler)[name], value)
    assert not (tmp_path / "s.json").exists()


def test_fit_transform_file_teaches_the_scaler(data, tmp_path):
    scaler = nc.StandardScaler().fit(X[:, :2])
    saved = tmp_path / "s.json"
    fit_transform_file(data, tmp_path / "o.npy", scaler, columns=NAMES, save=saved)
    assert list(scaler.feature_names_in_) == NAMES
    expected = nc.StandardScaler().fit(X)
    for each in (scaler, nc.load(saved)):
        np.testing.assert_allclose(each.mean_, expected.mean_, rtol=1e-15)
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), expected.transform(X), atol=1e-12)


def test_input_and_output_are_one_file(data):
    with pytest.raises(ValueError, match="is the input too"):
        transform_file(data, data, nc.StandardScaler().fit(X))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_table(tmp_path / "none.csv")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(ValueError, match="not a regular file"):
            open_table(tmp_path / "pipe.csv")


MEASURE = """
import resource, sys
import normcore as nc
from normcore.io import fit_file, transform_file
small, large, output = sys.argv[1:]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 if sys.platform == "darwin" else 1024
def run(data):
    scaler = nc.StandardScaler()
    fit_file(data, scaler)
    transform_file(data, output, scaler)
run(small)
before = peak()
run(large)
print((peak() - before) * unit)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="measured with the resource module")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_memory_does_not_grow_with_the_file(suffix, tmp_path):
    """What is on its way at any time is a part of the file, and far below the limit of memory.

    Row groups of Parquet wait until they have 96 MiB.
    """
    columns = 20
    rows = 1_000_000 if suffix != ".parquet" else 2_000_000
    block = RNG.normal(size=(10_000, columns)).round(4)
    names = [f"x{i}" for i in range(columns)]
    paths = []
    for name, repeats in (("small", 5), ("large", rows // len(block))):
        path = tmp_path / f"{name}{suffix}"
        paths.append(path)
        write_repeated(path, names, block, repeats)
    output = tmp_path / f"out{suffix}"
    root = Path(nc.__file__).parents[1]
    result = run_python("-c", MEASURE, *paths, output, cwd=root)
    grown, size = int(result.stdout), rows * columns * 8
    assert grown < (100 << 20 if suffix != ".parquet" else 200 << 20) < 0.7 * size
    assert output.stat().st_size > 0.3 * size


def write_repeated(path, names, block, repeats):
    from normcore.io import ArrayBatch
    from normcore.io.opening import source_class

    if path.suffix == ".csv":
        part = path.with_name("part.csv")
        with source_class(path).writer(part) as writer:
            writer.write(ArrayBatch(0, names, block))
        header, _, lines = part.read_bytes().partition(b"\n")
        part.unlink()
        with open(path, "wb") as file:
            file.write(header + b"\n")
            for _ in range(repeats):
                file.write(lines)
        return
    with source_class(path).writer(path) as writer:
        for i in range(repeats):
            writer.write(ArrayBatch(i * len(block), names, block))


class _Untouched:
    """A table that fails where it is asked for anything."""

    def __arrow_c_stream__(self, requested_schema=None):
        raise AssertionError("the source is read")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.csv", {"row_group_rows": 5}, "CSV files have no row groups"),
        ("out.tsv", {"row_group_rows": 5}, "TSV files have no row groups"),
        ("out.csv", {"compression": "rar"}, "CSV has no compression 'rar'; it has none, gzip"),
        ("out.orc", {"row_group_rows": 5}, "ORC files have stripes"),
        ("out.orc", {"compression": "rar"}, "ORC has no compression 'rar'; it has none"),
        ("out.parquet", {"compression": "rar"}, "Parquet has no compression 'rar'; it has none"),
        ("out.arrow", {"compression": "gzip"}, "Arrow IPC has no compression 'gzip'; it has none"),
        ("out.npy", {"compression": "gzip"}, ".npy files have neither compression nor row"),
        ("out.h5", {"row_group_rows": 5}, "HDF5 files have chunks of so many bytes"),
        ("out.h5", {"compression": "rar"}, "HDF5 has no compression 'rar'; it has none"),
        ("out.zarr", {}, "Zarr stores are read only"),
        ("-", {"format": ".npy"}, ".npy cannot be written to a stream"),
        ("-", {"format": ".h5"}, "HDF5 cannot be written to a stream"),
    ],
)
@pytest.mark.parametrize("fits", [True, False])
def test_what_a_format_lacks_is_found_before_any_work(fits, name, options, message, tmp_path):
    scaler = nc.StandardScaler()
    before = dict(scaler.fit([[1.0], [3.0]]).__dict__)
    out = name if name == "-" else tmp_path / name
    work = fit_transform_source if fits else nc.transform_source
    with pytest.raises(ValueError, match=message):
        work(_Untouched(), out, scaler, output=OutputOptions(**options))
    assert scaler.__dict__ == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "scaler", [nc.MinMaxScaler((1, 0)), nc.RobustScaler(quantile_range=(9, 1))]
)
def test_parameters_are_checked_before_a_file_is_opened(scaler, tmp_path):
    missing = tmp_path / "missing.csv"
    with pytest.raises(ValueError, match="range"):
        nc.fit_source(missing, scaler)
    with pytest.raises(ValueError, match="range"):
        fit_transform_source(missing, tmp_path / "out.csv", scaler)
    with pytest.raises(FileNotFoundError):
        nc.fit_source(missing, nc.MinMaxScaler())
