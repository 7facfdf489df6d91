"""Calls of one row from two threads, each with objects of its own, against calls from one.

Without the GIL two threads take as long as one where nothing that both use is written to::

    python3.14t -m benchmarks.two_threads
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

import normcore as nc

CALLS, ROUNDS = 20_000, 9
Map = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Print microseconds a call by one thread and by each of two, and their ratio."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, {'with' if gil else 'without'} the GIL")
    nc.set_num_threads(1)
    makers: dict[str, Callable[[np.ndarray], Map]] = {
        "StandardScaler": lambda X: nc.StandardScaler().fit(X).transform,
        "MinMaxScaler": lambda X: nc.MinMaxScaler().fit(X).transform,
        "RobustScaler": lambda X: nc.RobustScaler().fit(X).transform,
        "NumPy's formula": numpy_formula,
    }
    for name, make in makers.items():
        rounds = [(seconds_a_call(make, 1), seconds_a_call(make, 2)) for _ in range(ROUNDS)]
        one, two = (1e6 * statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:16} {one:6.2f} us {two:6.2f} us  {two / one:.2f}")


def numpy_formula(X: np.ndarray) -> Map:
    """Return what NumPy's users write."""
    mean, std = X.mean(axis=0), X.std(axis=0)
    return lambda x: (x - mean) / std


def seconds_a_call(make: Callable[[np.ndarray], Map], num_threads: int) -> float:
    """Return what a call takes in the slowest of threads that begin at once."""
    begun = threading.Barrier(num_threads)
    seconds = []

    def work(seed: int) -> None:
        X = np.random.default_rng(seed).standard_normal((100, 30))
        transform, row = make(X), X[:1].copy()
        for _ in range(200):
            transform(row)
        begun.wait()
        start = time.perf_counter()
        for _ in range(CALLS):
            transform(row)
        seconds.append((time.perf_counter() - start) / CALLS)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(seconds)


if __name__ == "__main__":
    main()
