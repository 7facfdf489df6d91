"""Move a gigabyte through batch norm in C while Python counts.

Run ``python build.py FOLDER standardize`` first, then ``PYTHONPATH=FOLDER python one_gigabyte.py``.
"""

from __future__ import annotations

import threading
import time

import numpy as np
import standardize

PASSES = 4  # of 256 MB


def main() -> None:
    """Normalize in one thread, count in another."""
    x = np.random.default_rng(0).standard_normal((64, 64, 128 * 128), dtype=np.float32)
    counted, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    before, start = counted[0], time.perf_counter()
    standardize.batch_norm(x, PASSES)
    seconds, meanwhile = time.perf_counter() - start, counted[0] - before
    stop.set()
    counter.join()
    print(f"{PASSES * x.nbytes / 2**30:.0f} GiB in {seconds:.2f} s; Python counted {meanwhile}")


if __name__ == "__main__":
    main()
