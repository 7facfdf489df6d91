"""Measure what scaling out costs: bytes and times of states, and two workers of Dask beside one.

python -m benchmarks.engines
python -m benchmarks.engines --rows 4000000 --repeat 3

Chunks are drawn when they are observed, so nothing is read from a disk. The cost of drawing is
measured by itself, by a sum over the same chunks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["main", "state_bytes"]


def state_bytes(state: dict[str, dict[str, np.ndarray]]) -> int:
    """Return how many bytes of arrays a state has, but for those of two counts."""
    return sum(
        array.nbytes for name, each in state.items() if name != "rows" for array in each.values()
    )


def states(rows: int, columns: int) -> Iterator[tuple[str, int, float, float]]:
    """Yield scalers, the bytes of their states, the seconds to observe a chunk and to merge 8."""
    import normcore as nc
    from normcore.engines.task import BracketTask, ObserveTask, SketchTask
    from normcore.io.quantile_passes import sketch_error
    from normcore.statistics.reread_quantiles import RereadQuantiles

    X = np.random.default_rng(0).normal(size=(rows, columns))
    robust = nc.RobustScaler()
    tasks: list[tuple[str, Any]] = [
        (name, ObserveTask(scaler, None, columns))
        for name, scaler in (
            ("StandardScaler", nc.StandardScaler()),
            ("MinMaxScaler", nc.MinMaxScaler()),
            ("MaxAbsScaler", nc.MaxAbsScaler()),
            ("RobustScaler, sketch of 0.01", nc.RobustScaler(quantiles="sketch")),
            (
                "RobustScaler, sketch of 0.001",
                nc.RobustScaler(quantiles="sketch", quantile_error=0.001),
            ),
        )
    ]
    error = sketch_error(rows, columns, 1 << 30)
    first = SketchTask(robust, None, columns, error)
    tasks.append((f"RobustScaler, exact: first pass, error {error:.1e}", first))
    sketch = first.sketch([first.partial(X)])
    assert sketch is not None
    passes = RereadQuantiles(nc.get_backend("cpu"), robust.ranks(), sketch, 1 << 22)
    plan = passes.plan()
    assert plan is not None
    tasks.append(("RobustScaler, exact: second pass", BracketTask(robust, None, columns, plan)))
    for name, task in tasks:
        start = time.perf_counter()
        state = task.partial(X)
        observed = time.perf_counter() - start
        start = time.perf_counter()
        task.merge([state] * 8)
        yield name, state_bytes(state), observed, time.perf_counter() - start


def workers(rows: int, columns: int, chunk: int, repeat: int) -> Iterator[tuple[str, int, float]]:
    """Yield jobs, numbers of workers and seconds."""
    import dask.array as da
    from distributed import Client, LocalCluster

    import normcore as nc

    X = da.random.default_rng(0).normal(size=(rows, columns), chunks=(chunk, columns))
    jobs: dict[str, Callable[[], object]] = {
        "drawing": lambda: X.sum().compute(),
        "StandardScaler.fit": lambda: nc.StandardScaler().fit(X),
        "MinMaxScaler.fit": lambda: nc.MinMaxScaler().fit(X),
        "RobustScaler.fit": lambda: nc.RobustScaler().fit(X),
        "1,000 chunks of a row": lambda: nc.StandardScaler().fit(few),
    }
    few = da.ones((1000, 1), chunks=(1, 1))
    for number in (1, 2):
        with (
            LocalCluster(
                n_workers=number,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
            ) as cluster,
            Client(cluster),
        ):
            for name, job in jobs.items():
                job()
                seconds = []
                for _ in range(repeat):
                    start = time.perf_counter()
                    job()
                    seconds.append(time.perf_counter() - start)
                yield name, number, statistics.median(seconds)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rows", type=int, default=8_000_000, metavar="N", help="of the array (8,000,000)")
    add("--columns", type=int, default=10, metavar="N", help="of the array (10)")
    add("--chunk", type=int, default=500_000, metavar="N", help="rows of a chunk (500,000)")
    add("--repeat", type=int, default=3, metavar="N", help="rounds (3)")
    options = parser.parse_args()
    print(f"a chunk of {options.chunk:,} x {options.columns}: bytes a feature, seconds")
    for name, size, observed, merged in states(options.chunk, options.columns):
        print(
            f"  {name:<48} {size / options.columns:10,.0f} B  observed {observed:.4f}, "
            f"8 merged {merged:.4f}",
            flush=True,
        )
    print(f"{options.rows:,} x {options.columns} by worker processes of one thread: seconds")
    for name, number, seconds in workers(
        options.rows, options.columns, options.chunk, options.repeat
    ):
        print(f"  {name:<24} {number} workers {seconds:8.3f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
