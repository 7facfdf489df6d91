"""What each library does with a table in a file, in a process of its own.

python -m benchmarks.table_contestants CONTESTANT DATA [OUTPUT]

Prints the seconds and the peak of resident memory as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CONTESTANTS", "available"]

_MODULES = {
    "normcore": "normcore",
    "pyarrow": "pyarrow",
    "polars": "polars",
    "DuckDB": "duckdb",
    "dask-ml": "dask_ml",
}
_BUFFER_BYTES = 16 << 20


def _normcore_fit(scaler: str, data: Path, output: Path | None) -> None:
    import normcore as nc

    nc.fit_source(data, getattr(nc, scaler)())


def _normcore_fit_transform(data: Path, output: Path | None) -> None:
    import normcore as nc
    from normcore.io import fit_transform_source

    assert output is not None
    fit_transform_source(data, output, nc.StandardScaler())


def _normcore_report(data: Path, output: Path | None) -> None:
    import normcore as nc

    _ = nc.report(data).html


def _pyarrow_batches(data: Path) -> Any:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(data, pre_buffer=False, buffer_size=1 << 18)
    return file.schema_arrow, file.iter_batches(1 << 17)


def _pyarrow_decode(data: Path, output: Path | None) -> None:
    for _ in _pyarrow_batches(data)[1]:
        pass


def _pyarrow_decode_and_encode(data: Path, output: Path | None) -> None:
    import pyarrow.parquet as pq

    schema, batches = _pyarrow_batches(data)
    with pq.ParquetWriter(output, schema, use_dictionary=False) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _pyarrow_read_csv(data: Path, output: Path | None) -> None:
    import pyarrow.csv as pc

    pc.read_csv(data)


def _polars_scan(data: Path) -> tuple[Any, Any, Any]:
    """Return the table, its columns of floats, and their means and deviations."""
    import polars as pl

    frame = (pl.scan_csv if data.suffix == ".csv" else pl.scan_parquet)(data)
    names = [name for name, type_ in frame.collect_schema().items() if type_.is_float()]
    found = frame.select(
        *(pl.col(name).mean().alias(f"{name} mean") for name in names),
        *(pl.col(name).std(ddof=0).alias(f"{name} std") for name in names),
    ).collect(engine="streaming")
    return frame, names, found


def _polars_fit(data: Path, output: Path | None) -> None:
    _polars_scan(data)


def _polars_fit_transform(data: Path, output: Path | None) -> None:
    import polars as pl

    assert output is not None
    frame, names, found = _polars_scan(data)
    scaled = frame.with_columns(
        (pl.col(name) - found[f"{name} mean"][0]) / found[f"{name} std"][0] for name in names
    )
    (scaled.sink_csv if output.suffix == ".csv" else scaled.sink_parquet)(output)


def _polars_quantiles(data: Path, output: Path | None) -> None:
    import polars as pl

    ranks = (0.25, 0.5, 0.75)
    column = pl.all()
    pl.scan_parquet(data).select(
        column.quantile(rank, "linear").name.suffix(f" {rank}") for rank in ranks
    ).collect(engine="streaming")


def _duckdb_quantiles(data: Path, output: Path | None) -> None:
    import duckdb

    columns = duckdb.sql(f"DESCRIBE SELECT * FROM '{data}'").fetchall()
    each = ", ".join(f'quantile_cont("{name}", [0.25, 0.5, 0.75])' for name, *_ in columns)
    duckdb.sql(f"SELECT {each} FROM '{data}'").fetchall()


def _dask_ml_quantiles(data: Path, output: Path | None) -> None:
    import dask.dataframe as dd
    from dask_ml.preprocessing import RobustScaler

    # Its frames need a function that NumPy 2 removed. The quantiles are approximate.
    RobustScaler().fit(dd.read_parquet(data).to_dask_array(lengths=True))


def _duckdb_fit_transform(data: Path, output: Path | None) -> None:
    import duckdb

    assert output is not None
    columns = duckdb.sql(f"DESCRIBE SELECT * FROM '{data}'").fetchall()
    names = [name for name, type_, *_ in columns if type_ == "DOUBLE"]
    of_each = ", ".join(f'avg("{name}"), stddev_pop("{name}")' for name in names)
    (found,) = duckdb.sql(f"SELECT {of_each} FROM '{data}'").fetchall()
    scaled = ", ".join(
        f'("{name}" - {found[2 * i]!r}) / {found[2 * i + 1]!r} AS "{name}"'
        for i, name in enumerate(names)
    )
    duckdb.sql(f"COPY (SELECT * REPLACE ({scaled}) FROM '{data}') TO '{output}'")


def _read(data: Path, output: Path | None) -> None:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with open(data, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


CONTESTANTS: dict[str, Callable[[Path, Path | None], None]] = {
    "normcore fit": lambda data, output: _normcore_fit("StandardScaler", data, output),
    "normcore fit min-max": lambda data, output: _normcore_fit("MinMaxScaler", data, output),
    "normcore fit robust": lambda data, output: _normcore_fit("RobustScaler", data, output),
    "normcore report": _normcore_report,
    "normcore fit-transform": _normcore_fit_transform,
    "pyarrow decode": _pyarrow_decode,
    "pyarrow decode and encode": _pyarrow_decode_and_encode,
    "pyarrow read_csv": _pyarrow_read_csv,
    "polars fit": _polars_fit,
    "polars quantiles": _polars_quantiles,
    "polars fit-transform": _polars_fit_transform,
    "DuckDB quantiles": _duckdb_quantiles,
    "dask-ml quantiles": _dask_ml_quantiles,
    "DuckDB fit-transform": _duckdb_fit_transform,
    "read": _read,
}


def available(name: str) -> bool:
    """Whether the library of a contestant is installed."""
    module = _MODULES.get(name.split()[0])
    return module is None or importlib.util.find_spec(module) is not None


def main(name: str, data: Path, output: Path | None) -> None:
    """Do a job on a few rows, and then on the file."""
    run = CONTESTANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder, f"few{data.suffix}")
        if data.suffix == ".npy":
            np.save(few, np.arange(6.0).reshape(3, 2))
        else:
            import pyarrow as pa
            import pyarrow.csv as pc
            import pyarrow.parquet as pq

            write = pc.write_csv if data.suffix == ".csv" else pq.write_table
            write(pa.table({"x": [1.0, 2.0, 4.0]}), few)
        run(few, None if output is None else Path(folder, output.name))
    started = time.perf_counter()
    run(data, output)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_bytes": _peak_bytes()}))


def _peak_bytes() -> int:
    """Return the most memory that was resident."""
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # getrusage would tell of the process that started this one, if that had more
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
