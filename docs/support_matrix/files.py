"""Tables in files and in streams: every registered format, and objects of other libraries."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import dataset

import normcore as nc
from normcore import registration
from normcore.io import fit_transform_file, open_table
from support_matrix.inputs import VALUES
from support_matrix.scalers import NO, REFUSALS, YES, check

__all__ = ["FILE_FEATURES", "STREAMS", "STREAM_FEATURES", "file_rows", "stream_rows"]

#: Of one array, without names and text.
ARRAYS = (".npy", ".h5", ".hdf5", ".zarr")
TABLE = pa.table({name: VALUES[:, i] for i, name in enumerate("abc")})
UNSCALED = {"mean": np.zeros(3), "std": np.ones(3)}


def suffixes() -> list[str]:
    """Return those of all formats there are, plugins' too."""
    return sorted(each.name for each in registration.registrations() if each.kind == "source")


def written(path: Path, table: pa.Table = TABLE) -> Path:
    """Write a table, by normcore where it writes from any table, else by the format's library."""
    columns = np.column_stack([table.column(name).to_numpy() for name in "abc"])
    if path.suffix == ".npy":
        np.save(path, columns)
    elif path.suffix in (".h5", ".hdf5"):
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=columns)
    elif path.suffix == ".zarr":
        import zarr

        zarr.open_group(path, mode="w").create_array("x", data=columns)
    else:
        names = list("abc")
        same = nc.StandardScaler.from_statistics(**UNSCALED, feature_names=names)
        nc.transform_source(table, path, same)
    return path


def numbers(path: Path) -> np.ndarray:
    """Return the three columns of numbers of a file."""
    with open_table(path) as table:
        names = [field.name for field in table.fields if field.by_default]
        return np.concatenate([batch.matrix(names) for batch in table.batches(names)])


def fitted(path: Path, scaler: nc.AffineScaler) -> np.ndarray:
    """Return what a scaler that was fitted to a file makes of the table."""
    nc.fit_source(path, scaler)
    return scaler.transform(VALUES)


def read(folder: Path, suffix: str) -> None:
    found = fitted(written(folder / f"x{suffix}"), nc.StandardScaler())
    check(found, nc.StandardScaler().fit_transform(VALUES), f"{suffix}, read")


def quantiles(folder: Path, suffix: str) -> None:
    found = fitted(written(folder / f"x{suffix}"), nc.RobustScaler())
    check(found, nc.RobustScaler().fit_transform(VALUES), f"{suffix}, quantiles")


def transformed(folder: Path, suffix: str) -> None:
    path = written(folder / f"x{suffix}")
    fit_transform_file(path, folder / f"y{suffix}", nc.StandardScaler())
    right = nc.StandardScaler().fit_transform(VALUES)
    check(numbers(folder / f"y{suffix}"), right, f"{suffix}, written")


def from_csv(folder: Path, suffix: str) -> None:
    path = written(folder / "x.csv")
    fit_transform_file(path, folder / f"y{suffix}", nc.StandardScaler())
    right = nc.StandardScaler().fit_transform(VALUES)
    check(numbers(folder / f"y{suffix}"), right, f"{suffix}, of CSV")


def text(folder: Path, suffix: str) -> None:
    labels = pa.array([f"007, {i}" for i in range(len(VALUES))])
    path = written(folder / f"x{suffix}", TABLE.append_column("label", labels))
    fit_transform_file(path, folder / f"y{suffix}", nc.StandardScaler())
    with open_table(folder / f"y{suffix}") as table:
        names = [field.name for field in table.fields]
        if "label" not in names:
            raise ValueError("this format has numbers alone")
        found = [each for batch in table.batches([]) for each in batch.to_arrow().column("label")]
    if [each.as_py() for each in found] != labels.to_pylist():
        raise AssertionError(f"other text: {suffix}")


def missing(folder: Path, suffix: str) -> None:
    holed = np.where(VALUES == 9, np.nan, VALUES)
    path = written(folder / f"x{suffix}", pa.table({n: holed[:, i] for i, n in enumerate("abc")}))
    scaler = nc.StandardScaler()
    nc.fit_source(path, scaler)
    check(scaler.mean_, np.nanmean(holed, axis=0), f"{suffix}, missing values")


def narrow(folder: Path, suffix: str) -> str:
    table = TABLE.cast(pa.schema([(name, pa.float32()) for name in "abc"]))
    path = written(folder / f"x{suffix}", table)
    fit_transform_file(path, folder / f"y{suffix}", nc.StandardScaler())
    found = numbers(folder / f"y{suffix}")
    check(found, nc.StandardScaler().fit_transform(VALUES), f"{suffix}, float32")
    return found.dtype.name


def directory(folder: Path, suffix: str) -> None:
    parts = folder / "parts"
    parts.mkdir()
    for number in range(2):
        written(parts / f"{number}{suffix}", TABLE.slice(4 * number, 4))
    found = fitted(parts, nc.StandardScaler())
    check(found, nc.StandardScaler().fit_transform(VALUES), f"{suffix}, a directory")


#: What is tried with each format.
FILE_FEATURES: dict[str, Callable[[Path, str], str | None]] = {
    "fit": read,
    "exact quantiles": quantiles,
    "missing values": missing,
    "a directory of them": directory,
    "written": transformed,
    "written from CSV": from_csv,
    "text beside numbers": text,
    "float32 becomes": narrow,
}


def file_feature(suffix: str, feature: str) -> str:
    """Return whether a format can do something, having compared results."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return FILE_FEATURES[feature](Path(folder), suffix) or YES
        except REFUSALS:
            return NO


def file_rows() -> dict[str, list[str]]:
    """Return the rows of a table: what each format can do."""
    return {
        f"`{suffix}`": [file_feature(suffix, each) for each in FILE_FEATURES]
        for suffix in suffixes()
    }


def duckdb_relation() -> object:
    import duckdb

    return duckdb.connect().from_arrow(TABLE)


def polars_frame() -> object:
    import polars as pl

    return pl.from_arrow(TABLE)


#: What speaks Arrow, and what does not.
STREAMS: dict[str, Callable[[], object]] = {
    "Arrow table": lambda: TABLE,
    "Arrow record batch": lambda: TABLE.to_batches()[0],
    "Arrow reader, read once": lambda: pa.RecordBatchReader.from_batches(
        TABLE.schema, TABLE.to_batches(max_chunksize=3)
    ),
    "Arrow dataset": lambda: dataset.dataset(TABLE),
    "pandas frame": lambda: TABLE.to_pandas(),
    "polars frame": polars_frame,
    "polars lazy frame": lambda: polars_frame().lazy(),
    "DuckDB relation": duckdb_relation,
    "NumPy array": lambda: VALUES,
    "list of batches": lambda: TABLE.to_batches(),
}


def source_fitted(source: Callable[[], object], name: str) -> None:
    scaler = nc.StandardScaler()
    nc.fit_source(source(), scaler)
    check(scaler.mean_, VALUES.mean(axis=0), f"{name}, fit")


def source_quantiles(source: Callable[[], object], name: str) -> None:
    scaler = nc.RobustScaler()
    nc.fit_source(source(), scaler)
    check(scaler.center_, np.median(VALUES, axis=0), f"{name}, quantiles")


def source_transformed(source: Callable[[], object], name: str) -> None:
    scaler, batches = nc.StandardScaler().fit(VALUES), []
    nc.transform_source(source(), batches.append, scaler)
    found = pa.Table.from_batches(batches)
    found = np.column_stack([found.column(each).to_numpy() for each in "abc"])
    check(found, scaler.transform(VALUES), f"{name}, transform")


def source_to_file(source: Callable[[], object], name: str) -> None:
    scaler = nc.StandardScaler().fit(VALUES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "y.parquet"
        nc.transform_source(source(), path, scaler)
        check(numbers(path), scaler.transform(VALUES), f"{name}, to a file")


STREAM_FEATURES: dict[str, Callable[[Callable[[], object], str], None]] = {
    "`fit_source`": source_fitted,
    "exact quantiles": source_quantiles,
    "`transform_source` to a function": source_transformed,
    "`transform_source` to a file": source_to_file,
}


def stream_feature(name: str, feature: str) -> str:
    """Return whether an object is taken as a table, having compared results."""
    try:
        STREAM_FEATURES[feature](STREAMS[name], name)
    except REFUSALS:
        return NO
    return YES


def stream_rows() -> dict[str, list[str]]:
    """Return the rows of a table: what is done with each kind of object."""
    return {name: [stream_feature(name, each) for each in STREAM_FEATURES] for name in STREAMS}
