"""Files of every format, damaged in many ways, through the command line: a process to be run.

``python -m mutations FORMAT FIRST LAST`` prints a number as it begins with a mutation, and then a
line of JSON with what was wrong, which is empty if nothing was. A process that a signal ends has
printed which mutation it was.
"""

from __future__ import annotations

import csv
import faulthandler
import gzip
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 300
CHOSEN = ("x", "y")
# One mutation takes milliseconds.
SECONDS = 30


def columns() -> dict[str, Any]:
    """Return the columns of the table in all files but ``.npy``."""
    import pyarrow as pa

    rng = np.random.default_rng(3)
    words = np.array(["alpha", "beta, gamma", 'de"lta', "", "漢字"])
    return {
        "x": pa.array(rng.normal(1e3, 5.0, ROWS), mask=rng.random(ROWS) < 0.05),
        "label": pa.array(words[rng.integers(0, 5, ROWS)]),
        "y": pa.array(rng.integers(-50, 50, ROWS).astype(np.int32), mask=rng.random(ROWS) < 0.05),
        "kind": pa.array(words[rng.integers(0, 4, ROWS)]).dictionary_encode(),
        "flag": pa.array(rng.random(ROWS) < 0.5, mask=rng.random(ROWS) < 0.05),
        "when": pa.array(rng.integers(0, 1 << 40, ROWS), pa.timestamp("ms")),
        "number": pa.array(np.arange(ROWS) + (1 << 60)),
    }


# -- files -------------------------------------------------------------------------------------


def parquet(variant: int) -> bytes:
    """Return a Parquet file: with compression, checksums and version 2 of pages, or without."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(
        pa.table(columns()),
        sink,
        row_group_size=80,
        compression=("snappy", "none", "zstd")[variant % 3],
        write_page_checksum=variant % 2 == 1,
        data_page_version=("1.0", "2.0")[variant // 2 % 2],
    )
    return sink.getvalue()


def _ipc(opened: Callable[..., Any], variant: int) -> bytes:
    import pyarrow as pa

    table, sink = pa.table(columns()), io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=(None, "lz4", "zstd")[variant % 3])
    with opened(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=80)
    return sink.getvalue()


def arrow(variant: int) -> bytes:
    """Return an Arrow IPC file."""
    import pyarrow as pa

    return _ipc(pa.ipc.new_file, variant)


def arrow_stream(variant: int) -> bytes:
    """Return an Arrow IPC stream."""
    import pyarrow as pa

    return _ipc(pa.ipc.new_stream, variant)


def orc(variant: int) -> bytes:
    """Return an ORC file."""
    import pyarrow as pa
    from pyarrow import orc as pa_orc

    names = ["x", "label", "y", "flag", "number"]
    sink = io.BytesIO()
    table = pa.table({name: column for name, column in columns().items() if name in names})
    pa_orc.write_table(table, sink, compression=("uncompressed", "zlib", "zstd")[variant % 3])
    return sink.getvalue()


def csv_text(variant: int) -> bytes:
    """Return a CSV file; some have a byte order mark, or lines that end as on Windows."""
    sink = io.StringIO()
    table = {name: column.to_pylist() for name, column in columns().items()}
    writer = csv.writer(sink, lineterminator=("\n", "\r\n")[variant % 2])
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return sink.getvalue().encode(("utf-8", "utf-8-sig")[variant // 2 % 2])


def csv_gz(variant: int) -> bytes:
    """Return a compressed CSV file."""
    return gzip.compress(csv_text(variant), mtime=0)


def npy(variant: int) -> bytes:
    """Return a ``.npy`` file."""
    sink = io.BytesIO()
    array = np.random.default_rng(4).normal(size=(ROWS, 4))
    np.save(sink, np.asarray(array, ("<f8", ">f4", "<i2")[variant % 3], "CF"[variant % 2]))
    return sink.getvalue()


def json_scaler(variant: int) -> bytes:
    """Return a saved scaler, fitted to the table."""
    import normcore as nc

    table = columns()
    x = np.stack([table[name].to_numpy(zero_copy_only=False).astype(float) for name in CHOSEN], 1)
    scaler = (nc.MinMaxScaler(), nc.StandardScaler(), nc.RobustScaler())[variant % 3].fit(x)
    scaler.feature_names_in_ = np.array(CHOSEN, dtype=object)
    scaler.save("made.json")
    return Path("made.json").read_bytes()


# -- independent readings ----------------------------------------------------------------------


def read_parquet(path: str, names: list[str] | None) -> Any:
    """Read a Parquet file, all of it or some columns."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, page_checksum_verification=False).read(names)


def read_ipc(path: str, names: list[str] | None) -> Any:
    """Read an Arrow file or stream."""
    import pyarrow as pa

    data = pa.py_buffer(Path(path).read_bytes())
    opened = pa.ipc.open_file if data[:6].to_pybytes() == b"ARROW1" else pa.ipc.open_stream
    if names is None:
        return opened(data).read_all()
    schema = opened(data).schema
    wanted = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(n) for n in names])
    return opened(data, options=wanted).read_all()


def read_orc(path: str, names: list[str] | None) -> Any:
    """Read an ORC file."""
    from pyarrow import orc as pa_orc

    return pa_orc.ORCFile(path).read(names)


def read_csv(path: str, names: list[str] | None) -> Any:
    """Read CSV as text, and the columns that are normalized as numbers."""
    import pyarrow as pa

    data = Path(path).read_bytes()
    if path.endswith(".gz"):
        data = gzip.decompress(data)
    # What is not asked for is not looked at.
    text = data.decode("utf-8-sig", "strict" if names is None else "replace")
    rows = csv.reader(io.StringIO(text, newline=""))
    header, *rest = [row for row in rows if row]
    if any(len(row) != len(header) for row in rest):
        raise ValueError("rows of different length")
    cells = dict(zip(header, map(list, zip(*rest, strict=True)), strict=True))
    missing = {"", "NA", "NaN", "nan", "NULL", "null", "None", "N/A", "n/a", "#N/A", "<NA>"}
    for name in set(CHOSEN) & cells.keys():
        cells[name] = [None if cell in missing else float(cell) for cell in cells[name]]
    table = pa.table({name: pa.array(column) for name, column in cells.items()})
    return table if names is None else table.select(names)


def read_npy(path: str, names: list[str] | None) -> Any:
    """Read a ``.npy`` file."""
    import pyarrow as pa

    array = np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False)
    array = array.astype(array.dtype.newbyteorder("="))
    return pa.table({f"x{i}": np.ascontiguousarray(each) for i, each in enumerate(array.T)})


FORMATS: dict[str, tuple[str, str, Callable[[int], bytes], Callable[..., Any]]] = {
    "Parquet": ("bad.parquet", "out.parquet", parquet, read_parquet),
    "Arrow file": ("bad.arrow", "out.arrow", arrow, read_ipc),
    "Arrow stream": ("bad.arrow", "out.arrow", arrow_stream, read_ipc),
    "ORC": ("bad.orc", "out.parquet", orc, read_orc),
    "CSV": ("bad.csv", "out.csv", csv_text, read_csv),
    "CSV in gzip": ("bad.csv.gz", "out.csv", csv_gz, read_csv),
    "npy": ("bad.npy", "out.npy", npy, read_npy),
}
READERS = {".parquet": read_parquet, ".arrow": read_ipc, ".csv": read_csv, ".npy": read_npy}


# -- mutations ---------------------------------------------------------------------------------


def mutated(data: bytes, number: int) -> bytes:
    """Return a damaged copy, the same one for a number whenever it is asked for."""
    rng = np.random.default_rng([number, 16])
    size = len(data)
    kind = number % 6
    if kind == 0:  # cut off
        return data[: rng.integers(0, size)]
    if kind == 1:  # flipped bits
        array = np.frombuffer(bytearray(data), np.uint8)
        for place in rng.integers(0, size, rng.integers(1, 4)):
            array[place] ^= 1 << rng.integers(0, 8)
        return array.tobytes()
    if kind == 2:  # blocks that changed places
        length = int(rng.integers(1, max(size // 4, 2)))
        one, other = sorted(int(each) for each in rng.integers(0, size - length, 2))
        other = max(other, one + length)
        parts = (data[:one], data[other : other + length], data[one + length : other],
                 data[one : one + length], data[other + length :])  # fmt: skip
        return b"".join(parts)
    place = int(rng.integers(0, size))
    length = int(rng.integers(1, 64))
    if kind == 3:  # what does not belong there
        return data[:place] + rng.bytes(length) + data[place:]
    if kind == 4:  # a part is missing
        return data[:place] + data[place + length :]
    array = bytearray(data)  # a block that was never written
    array[place : place + length] = bytes(len(array[place : place + length]))
    return bytes(array)


# -- what must be ------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    """Run the command line in this process; return its status and what it says of errors."""
    from click import testing

    from normcore.cli.app import cli

    result = testing.CliRunner().invoke(cli, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


def complaint(status: int, said: str, *names: str) -> str:
    """Return what is wrong with how a command ended, if it did not succeed."""
    lines = said.splitlines()
    if status == 0:
        return "" if not lines else f"it succeeds and says {said!r}"
    if status not in (1, 2) or len(lines) != 1 or not lines[0].startswith("normcore: error: "):
        return f"status {status}, {said!r}"
    if not any(name in said for name in names):
        return f"no file is named: {said!r}"
    if "not expected" in said or not lines[0].isprintable() or len(said) > 1000:
        return f"this is not clear: {said!r}"
    return ""


def difference(before: Any, after: Any, chosen: tuple[str, ...]) -> str:
    """Return how an output differs from what an independent reading of the input gives."""
    import normcore as nc

    if after.num_rows != before.num_rows or after.schema.names != before.schema.names:
        return f"{after.num_rows} rows of {after.schema.names}, read {before.num_rows} rows"
    x = np.stack([before.column(name).to_pandas(integer_object_nulls=False).to_numpy(
        dtype=float, na_value=np.nan) for name in chosen], axis=1)  # fmt: skip
    expected = nc.MinMaxScaler().fit_transform(x)
    for index, name in enumerate(chosen):
        got = after.column(name).to_pandas().to_numpy(dtype=float, na_value=np.nan)
        if not np.allclose(got, expected[:, index], rtol=1e-6, atol=1e-12, equal_nan=True):
            return f"column {name!r} has other numbers"
    for name in before.schema.names:
        if name not in chosen and not _plain(before, name).equals(_plain(after, name)):
            return f"column {name!r} has changed"
    return ""


def _plain(table: Any, name: str) -> Any:
    """Return a column without a dictionary, since two may differ and say the same."""
    column = table.column(name).combine_chunks()
    return column.dictionary_decode() if hasattr(column, "dictionary_decode") else column


def check_table(format_: str, number: int) -> list[str]:
    """Return what is wrong with how one damaged table is treated."""
    name, output, make, read = FORMATS[format_]
    good = name.replace("bad", "good")
    data = make(number)
    Path(good).write_bytes(data)
    Path(name).write_bytes(mutated(data, number))
    # NumPy's files have no names; those of the others hold what could not be normalized.
    words = [] if format_ == "npy" else ["--columns", ",".join(CHOSEN)]
    if format_ == "CSV in gzip" or format_ == "CSV":
        words += ["--header"]
    found = []
    status, said = run("fit", name, "--scaler", "minmax", "--save", "s.json", *words)
    found.append(complaint(status, said, name))
    if status == 0:
        found.append(_wrong_fit(read, name))
    status, said = run("fit-transform", name, "--scaler", "minmax", "-o", output, "-q", *words)
    found.append(complaint(status, said, name))
    if status == 0:
        found.append(_wrong_output(read, name, output))
    elif os.path.exists(output):
        found.append("there is an output")
    status, said = run("fit-transform", good, "--scaler", "minmax", "-o", output, "-q", *words)
    found.append(status and f"the good file after it: {said}")
    left = set(os.listdir()) - {name, good, output, "s.json"}
    found.append(left and f"left behind: {left}")
    for path in os.listdir():
        os.unlink(path)
    return [each for each in found if each]


def _wrong_fit(read: Callable[..., Any], name: str) -> str:
    import normcore as nc

    scaler = nc.load("s.json")
    unnamed = [f"x{index}" for index in range(scaler.n_features_in_)]
    names = [str(each) for each in getattr(scaler, "feature_names_in_", unnamed)]
    try:
        table = read(name, names)
    except Exception as error:
        return f"fit succeeds, the independent reading fails: {type(error).__name__}: {error}"
    for index, each in enumerate(names):
        column = table.column(each).to_pandas().to_numpy(dtype=float, na_value=np.nan)
        ends = (scaler.data_min_[index], scaler.data_max_[index])
        with np.errstate(all="ignore"):
            read_ends = (np.nanmin(column), np.nanmax(column)) if len(column) else (0, 0)
        if not np.array_equal(ends, read_ends, equal_nan=True):
            return f"fit: column {each!r} reaches from {ends[0]} to {ends[1]}, read {read_ends}"
    return ""


def _wrong_output(read: Callable[..., Any], name: str, output: str) -> str:
    try:
        before = read(name, None)
        before.validate(full=True)
    except Exception as error:
        if "UTF8" in str(error):  # text passes through as it is
            return ""
        return f"it succeeds, the independent reading fails: {type(error).__name__}: {error}"
    after = READERS[Path(output).suffix](output, None)
    chosen = CHOSEN if set(CHOSEN) <= set(before.schema.names) else tuple(before.schema.names)
    return difference(before, after, chosen)


def check_scaler(number: int) -> list[str]:
    """Return what is wrong with how a damaged file of a scaler is treated."""
    data = json_scaler(number)
    Path("bad.json").write_bytes(mutated(data, number))
    Path("table.csv").write_bytes(csv_text(0))
    found = []
    status, said = run("inspect", "bad.json")
    found.append(complaint(status, said, "bad.json"))
    status, said = run("transform", "table.csv", "--load", "bad.json", "-o", "out.csv", "-q")
    found.append(complaint(status, said, "bad.json", "table.csv"))
    if status:
        found.append(os.path.exists("out.csv") and "there is an output")
    else:  # what could be read as a scaler is one, and says itself what it is
        import normcore as nc

        again = nc.load("bad.json")
        again.save("again.json")
        first, second = (json.loads(Path(each).read_bytes()) for each in ("bad.json", "again.json"))
        for name in ("params", "statistic", "feature_names_in"):
            if not _same_json(first.get(name), second.get(name)):
                found.append(f"{name} was {first.get(name)}, became {second.get(name)}")
    for path in os.listdir():
        os.unlink(path)
    return [each for each in found if each]


def _same_json(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or (
        isinstance(one, dict)
        and isinstance(other, dict)
        and all(_same_json(one.get(key, other[key]), other[key]) for key in other)
    )


def main() -> None:
    """Check some mutations of a format."""
    format_, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))  # sizes that headers announce
    os.fsync = lambda descriptor: None  # which takes longer than all else
    for number in range(first, last):
        print(number, flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        found = check_scaler(number) if format_ == "scaler" else check_table(format_, number)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
