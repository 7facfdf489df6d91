"""Measure tables in files: how long a run takes, and how much memory, beside other libraries.

python -m benchmarks.tables              files of 300 MB to 1.6 GB, half an hour
python -m benchmarks.tables --quick      files of a twentieth, a minute
python -m benchmarks.tables --only csv --repeat 3
python -m benchmarks.tables --append docs/benchmarks.jsonl

Each sample is a process of its own, which imports its library, does the job once on a few rows, and
then on the file, in the page cache. Contestants take turns, round after round. The ratio of a job
is that of the medians, against what its mark names.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import table_files
from .table_contestants import available

__all__ = ["JOBS", "Job", "Measured", "main"]


@dataclass(frozen=True)
class Job:
    """Something to do with a file.

    Attributes
    ----------
    file : str
        Of :data:`~benchmarks.table_files.FILES`.
    suffix : str
        Of the output; empty if there is none.
    contestants : tuple of str
        normcore's first.
    mark : tuple of (str, float), optional
        The contestant to compare with, and how many times as long normcore may take.
    most_megabytes : int
        Of resident memory that normcore may take.
    """

    file: str
    suffix: str
    contestants: tuple[str, ...]
    mark: tuple[str, float] | None = None
    most_megabytes: int = 512

    @property
    def label(self) -> str:
        """The job and its files."""
        return f"{self.contestants[0].removeprefix('normcore ')} {self.file}" + (
            f" to {self.suffix}" if self.suffix else ""
        )


_PEERS = ("polars fit-transform", "DuckDB fit-transform")
_DECODE = "pyarrow decode"
_ENCODE = "pyarrow decode and encode"
_READ_CSV = "pyarrow read_csv"
JOBS = (
    Job("long.parquet", "", ("normcore fit", _DECODE, "polars fit"), (_DECODE, 1.3), 300),
    Job("long.parquet", "", ("normcore fit min-max", _DECODE), (_DECODE, 1.3), 300),
    Job(
        "long.parquet",
        "",
        (
            "normcore fit robust",
            _DECODE,
            "polars quantiles",
            "DuckDB quantiles",
            "dask-ml quantiles",
        ),
        (_DECODE, 2.6),
        350,
    ),
    Job("long.parquet", ".parquet", ("normcore fit-transform", _ENCODE, *_PEERS), (_ENCODE, 1.3)),
    Job("columns.parquet", "", ("normcore report", _DECODE), (_DECODE, 3.0), 400),
    Job("rows.csv", "", ("normcore fit", _READ_CSV, "polars fit"), (_READ_CSV, 1.2)),
    *(
        Job(file, to, ("normcore fit-transform", *_PEERS), ("polars fit-transform", 1.3))
        for file in ("rows.csv", "rows.parquet")
        for to in (".csv", ".parquet")
    ),
    Job("rows.npy", "", ("normcore fit", "read"), ("read", 1.3)),
    Job("wide.csv", "", ("normcore fit", _READ_CSV)),
    Job("wide.csv", ".csv", ("normcore fit-transform",)),
)


@dataclass
class Measured:
    """What became of a job, by contestant: seconds of each round, peak memory in bytes."""

    job: str
    file_bytes: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    ratio: float | None = None
    mark: tuple[str, float] | None = None
    most_megabytes: int = 512

    def median(self, name: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[name])


def measure(job: Job, folder: Path, scale: int, repeat: int) -> Measured:
    """Let the contestants of a job take turns."""
    data = table_files.make(job.file, folder, scale)
    measured = Measured(
        job.label, data.stat().st_size, mark=job.mark, most_megabytes=job.most_megabytes
    )
    names = [name for name in job.contestants if available(name)]
    for turn in range(repeat):
        for name in random.Random(turn).sample(names, len(names)):
            if name in measured.failed:
                continue
            output = folder / f"output{job.suffix}" if job.suffix else None
            try:
                seconds, peak = _sample(name, data, output)
            except subprocess.CalledProcessError as error:
                measured.failed[name] = error.stderr.strip().splitlines()[-1]
            else:
                measured.seconds.setdefault(name, []).append(seconds)
                measured.peak_bytes[name] = max(peak, measured.peak_bytes.get(name, 0))
            finally:
                if output is not None:
                    output.unlink(missing_ok=True)
    ours = job.contestants[0]
    if job.mark is not None and {ours, job.mark[0]} <= measured.seconds.keys():
        measured.ratio = measured.median(ours) / measured.median(job.mark[0])
    return measured


_ROOT = Path(__file__).resolve().parents[1]
# The tree comes last on the path, so that the normcore that is installed is the one measured.
_CONTESTANT = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
runpy.run_module("benchmarks.table_contestants", run_name="__main__", alter_sys=True)
"""


def _sample(name: str, data: Path, output: Path | None) -> tuple[float, int]:
    """Return the seconds of one run in a process of its own, and its peak memory in bytes."""
    with open(data, "rb", buffering=0) as file:  # into the page cache
        while file.read(1 << 24):
            pass
    command = [sys.executable, "-c", _CONTESTANT, str(_ROOT), name, str(data)]
    command += [] if output is None else [str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["peak_bytes"]


def lines(measured: Measured) -> Iterator[str]:
    """Yield a report of one job."""
    yield f"{measured.job}, {measured.file_bytes / 1e6:,.0f} MB"
    for name, seconds in measured.seconds.items():
        spread = f"{min(seconds):.2f} to {max(seconds):.2f} s"
        peak = measured.peak_bytes[name] / 1e6
        yield f"  {name:<28} {measured.median(name):7.2f} s ({spread}), {peak:,.0f} MB"
    for name, why in measured.failed.items():
        yield f"  {name:<28} failed: {why}"
    if measured.ratio is not None and measured.mark is not None:
        against, most = measured.mark
        yield f"  {measured.ratio:.2f} times {against}, at most {most} are promised"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="files of a twentieth")
    add("--only", default="", metavar="TEXT", help="jobs whose label has the text")
    add("--repeat", type=int, default=5, metavar="N", help="rounds (5)")
    add("--folder", type=Path, default=Path("build/benchmarks/tables"), help="for the files")
    add("--append", type=Path, metavar="JSONL", help="add what was measured to a report")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for job in JOBS:
        if options.only in job.label:
            found.append(measure(job, options.folder, 20 if options.quick else 1, options.repeat))
            print(*lines(found[-1]), sep="\n", flush=True)
    if options.append is not None and found:
        with options.append.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"tables": [asdict(each) for each in found]}) + "\n")
    return int(any(each.failed for each in found))


if __name__ == "__main__":
    sys.exit(main())
