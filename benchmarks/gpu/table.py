"""The bandwidth table: what each job takes, against a copy of the same array on the same device.

    python -m benchmarks.gpu.table DIRECTORY [--quick] [--seconds S]

Appends each row to gpu.jsonl (or quick.jsonl) in the directory as it is measured, and leaves out
what that file has already, so that a run which was ended goes on where it was. Jobs run in a
process of their own: one that takes the device down, or hangs, has an error for a row, and the rest
goes on in the next process. ``--quick`` takes small arrays: whether all of it runs, not how fast.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Collection, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import cupy

from benchmarks.gpu import common, report
from benchmarks.gpu.cases import Buffers, Case, cases
from benchmarks.gpu.jobs import Job
from benchmarks.gpu.launches import counted_launches
from benchmarks.gpu.rows import Key, Row, append, read
from benchmarks.gpu.timing import Lane

#: Seconds without a new row after which a job hangs; the first call of a compiled module is slow.
STALL = 45.0


def main(directory: Path, quick: bool, seconds: float) -> int:
    """Measure everything in the time there is; the exit status says whether normcore's ran."""
    path = directory / ("quick.jsonl" if quick else "gpu.jsonl")
    deadline = time.monotonic() + seconds
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a daemon has no children
    common.optional("torch")  # imported once; it takes seconds
    lost: set[Key] = set()
    while (key := _until_lost(path, quick, deadline, lost)) is not None:
        lost.add(key)
    rows, rest = read(path)
    report.show_targets(report.targets(rows), rest.get("launches", {}))
    failed = [row for row in rows if row.error and row.library.startswith("normcore")]
    if failed or not rows:
        print(f"{len(failed)} of normcore's jobs failed, of {len(rows)} rows")
    return 1 if failed or not rows else 0


def _until_lost(path: Path, quick: bool, deadline: float, lost: Collection[Key]) -> Key | None:
    """Measure in a process of its own; return the job that it was lost in, None where it ended."""
    context = multiprocessing.get_context("fork")  # CUDA is not in use yet
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(path, quick, deadline, lost, theirs), daemon=True)
    worker.start()
    theirs.close()
    key: Key | None = None
    reason = "the process ended"
    try:
        while True:
            if not ours.poll(STALL):
                reason = f"nothing for {STALL:.0f} s"
                break
            key = ours.recv()
            if key is None:  # all is measured, or the time is over
                worker.join()
                return None
    except EOFError:
        pass
    if worker.is_alive():
        worker.kill()
    worker.join()
    if key is None:
        raise SystemExit(f"no job could be started: {reason}, exit status {worker.exitcode}")
    rows, _ = read(path)
    if not any(row.key == key and row.error for row in rows):
        row = Row(*key, error=f"{reason}, exit status {worker.exitcode}")
        append(path, row._asdict())
        report.show([row])
    return key


def _work(
    path: Path, quick: bool, deadline: float, lost: Collection[Key], parent: Connection
) -> None:
    """Measure what the file has not; runs in a process of its own."""
    common.backend()
    gc.freeze()  # a capture collects garbage
    rows, rest = read(path)
    if "machine" not in rest:
        append(path, {"machine": common.describe()})
    done = {row.key for row in rows if row.error is None} | set(lost)
    lane = Lane(1.0) if quick else Lane()
    left = 0
    with lane.current():
        for case in cases(quick):
            pending = [job for job in case.jobs[1:] if _key(case, job) not in done]
            if pending and time.monotonic() < deadline:
                for row in measured(lane, case, pending, deadline, parent):
                    append(path, row._asdict())
                    report.show([row])
                    done.add(row.key)
                    if row.error is not None and not _healthy():
                        os._exit(3)  # nothing can be freed on a device that is lost
            left += sum(_key(case, job) not in done for job in case.jobs[1:])
        if left:
            print(f"out of time: {left} jobs were not measured")
        elif "launches" not in rest:
            append(path, {"launches": dict(counted_launches())})
    sys.stdout.flush()
    parent.send(None)


def measured(
    lane: Lane, case: Case, jobs: list[Job], deadline: float, parent: Connection
) -> Iterator[Row]:
    """Yield a row for the copy, and for each job there is time for."""
    buffers = Buffers(case)
    floor = 0.0
    for job in (case.jobs[0], *jobs):
        if time.monotonic() > deadline:
            break
        key = _key(case, job)
        parent.send(key)
        try:
            timing = lane.measure(job.prepare(buffers), buffers.number)
        except Exception as error:  # one job that fails does not end the table
            yield Row(*key, error=f"{type(error).__name__}: {error}"[:600])
            continue
        row = Row(*key, *timing[:4], no_graph=timing.no_graph)
        speed = job.passes * buffers.num_bytes / row.best / 1e6
        floor = floor or speed
        yield row._replace(gigabytes_per_second=speed, share_of_copy=speed / floor)
    del buffers
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    if lane.torch is not None:
        lane.torch.cuda.empty_cache()


def _key(case: Case, job: Job) -> Key:
    return job.job, case.shape, case.name, job.library


def _healthy() -> bool:
    """Whether the device still answers after an error."""
    try:
        cupy.cuda.Device().synchronize()
        return float(cupy.ones(1).get()[0]) == 1.0
    except Exception:
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=600.0)
    sys.exit(main(**vars(parser.parse_args())))
