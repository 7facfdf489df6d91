"""The shared pool: coverage of ranges, errors, nesting, fork, and bits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import normcore as nc
from normcore import threads


@pytest.fixture(autouse=True)
def restore_threads():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 16])
@pytest.mark.parametrize("num_items", [0, 1, 2, 7, 100])
def test_ranges_cover_every_item_once(num_threads: int, num_items: int) -> None:
    threads.set_num_threads(num_threads)
    lock, seen = threading.Lock(), []

    def work(start: int, stop: int) -> None:
        with lock:
            seen.extend(range(start, stop))

    threads.run(work, num_items)
    assert sorted(seen) == list(range(num_items))


def test_small_work_stays_in_the_caller() -> None:
    threads.set_num_threads(8)
    callers = set()
    threads.run(lambda start, stop: callers.add(threading.get_ident()), 10, min_items=6)
    assert callers == {threading.get_ident()}


@pytest.mark.parametrize("failing", [0, 3])
def test_an_error_reaches_the_caller_after_all_ranges_ended(failing: int) -> None:
    threads.set_num_threads(4)
    ended = []

    def work(start: int, stop: int) -> None:
        if start <= failing < stop:
            raise RuntimeError("here")
        ended.append(start)

    with pytest.raises(RuntimeError, match="here"):
        threads.run(work, 4)
    assert len(ended) == 3


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill")
def test_an_interrupt_waits_for_the_ranges_that_run() -> None:
    threads.set_num_threads(2)
    main, ended = threading.get_ident(), []

    def work(start: int, stop: int) -> None:
        if start:  # in a worker, while the caller waits
            time.sleep(0.2)
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.3)
            ended.append(start)

    with pytest.raises(KeyboardInterrupt):
        threads.run(work, 2)
    assert ended == [1]


def test_kernels_work_while_the_interpreter_exits() -> None:
    code = (
        "import atexit, numpy, normcore as nc\n"
        "nc.set_num_threads(2)\n"
        "x = numpy.ones((300_000, 8))\n"
        "atexit.register(lambda: print(nc.functional.moments(x, channel_axis=1).mean[0]))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("1.0", "")


def test_nested_use_does_not_wait_for_itself() -> None:
    threads.set_num_threads(2)
    done = []

    def outer(start: int, stop: int) -> None:
        threads.run(lambda a, b: done.extend(range(a, b)), 8)

    threads.run(outer, 4)
    assert sorted(done) == sorted(2 * list(range(8)))


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2", None, float("nan"), float("inf")])
def test_number_of_threads_is_checked(bad: object) -> None:
    before = threads.get_num_threads()
    with pytest.raises(ValueError, match="at least 1"):
        nc.set_num_threads(bad)
    assert threads.get_num_threads() == before


@pytest.mark.parametrize(
    "shape", [(40_000, 5), (700, 3, 50), (3000, 70), (100_000, 1), (100, 2000)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads(shape: tuple[int, ...], dtype: type) -> None:
    x = np.random.default_rng(0).normal(1.0, 3.0, size=shape).astype(dtype)
    dy = np.random.default_rng(1).normal(size=shape).astype(dtype)
    x_nan = np.where(np.random.default_rng(2).random(shape) < 0.01, np.nan, x).astype(dtype)
    results = []
    for num_threads in (1, 2, 3, 7, 16):
        threads.set_num_threads(num_threads)
        y, moments = nc.functional.batch_norm(x)
        dx, dgamma, dbeta = nc.functional.batch_norm_backward(dy, x, moments)
        skipped = nc.functional.moments(x_nan, channel_axis=1, skipna=True)
        extrema = nc.functional.extrema(x_nan, channel_axis=1, skipna=True)
        median = nc.functional.quantiles(x_nan, [0.5], channel_axis=1, skipna=True)
        results.append(
            b"".join(
                np.ascontiguousarray(each).tobytes()
                for each in (
                    y, moments.parts, dx, dgamma, dbeta, skipped.parts,
                    extrema.min, extrema.max, median.values,
                )
            )
        )  # fmt: skip
    assert len(set(results)) == 1


def test_many_threads_may_share_an_input() -> None:
    x = np.random.default_rng(0).normal(size=(50_000, 8))
    expected = nc.functional.moments(x, channel_axis=1)
    results: list[nc.Moments] = []

    def work() -> None:
        for _ in range(5):
            results.append(nc.functional.moments(x, channel_axis=1))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 30
    assert all(result == expected for result in results)


def _child(x: np.ndarray, queue: multiprocessing.SimpleQueue) -> None:
    queue.put(nc.functional.moments(x, channel_axis=1).parts)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_computes() -> None:
    threads.set_num_threads(2)
    x = np.random.default_rng(0).normal(size=(100_000, 8))
    expected = nc.functional.moments(x, channel_axis=1).parts  # the parent's pool is running
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_child, args=(x, queue))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_array_equal(queue.get(), expected)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.get_num_threads() == 3
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv("NORMCORE_NUM_THREADS", "5")
    assert threads.get_num_threads() == 5
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv("NORMCORE_NUM_THREADS", "many")
    assert threads.get_num_threads() == 3
