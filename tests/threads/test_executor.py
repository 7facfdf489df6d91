"""A host's own executor."""

from __future__ import annotations

import concurrent.futures
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import normcore as nc
from normcore import threads


class Recording(Executor):
    """Keeps tasks for later."""

    def __init__(self) -> None:
        self.tasks: list[tuple[Future[None], Callable[[], None]]] = []

    def submit(
        self, function: Callable[..., None], /, *args: object, **kwargs: object
    ) -> Future[None]:
        future: Future[None] = Future()
        self.tasks.append((future, lambda: function(*args, **kwargs)))
        return future


def moments(x: np.ndarray) -> bytes:
    return nc.functional.moments(x, channel_axis=1).parts.tobytes()


X = np.random.default_rng(0).normal(size=(60_000, 16))


def test_its_threads_work() -> None:
    names, barrier = [], threading.Barrier(3)

    def work(start: int, stop: int) -> None:
        barrier.wait(30)
        names.append(threading.current_thread().name.rstrip("_01"))

    with ThreadPoolExecutor(2, "host") as executor, nc.use_num_threads(3):
        with nc.use_executor(executor):
            threads.run(work, 3)
        assert sorted(names) == sorted(["host", "host", threading.current_thread().name])
        names.clear()
        threads.run(work, 3)
        assert "host" not in names


def test_the_bits_are_the_same() -> None:
    expected = moments(X)
    with ThreadPoolExecutor(3) as executor, nc.use_executor(executor), nc.use_num_threads(4):
        assert [moments(X) for _ in range(5)] == 5 * [expected]


def test_it_holds_for_the_process_or_for_the_block() -> None:
    everywhere, here = Recording(), Recording()
    nc.set_executor(everywhere)
    try:
        with nc.use_num_threads(2):
            with nc.use_executor(here):
                threads.run(lambda start, stop: None, 2)
            assert (len(everywhere.tasks), len(here.tasks)) == (0, 1)
            threads.run(lambda start, stop: None, 2)
            assert (len(everywhere.tasks), len(here.tasks)) == (1, 1)
    finally:
        nc.set_executor(None)
    threads.run(lambda start, stop: None, 2)
    assert len(everywhere.tasks) == 1


def test_tasks_that_begin_late_do_nothing() -> None:
    executor, seen = Recording(), []
    with nc.use_executor(executor), nc.use_num_threads(4):
        threads.run(lambda start, stop: seen.append(stop - start), 8)
    assert sum(seen) == 8
    assert len(executor.tasks) == 3
    for future, task in executor.tasks:
        assert future.cancelled()
        task()
    assert sum(seen) == 8


def test_kernels_in_its_own_tasks_do_not_wait_for_each_other() -> None:
    expected = moments(X)
    with ThreadPoolExecutor(2) as executor:
        nc.set_executor(executor)
        try:
            with nc.use_num_threads(4):
                futures = [executor.submit(moments, X) for _ in range(20)]
                results = {future.result(timeout=60) for future in futures}
        finally:
            nc.set_executor(None)
    assert results == {expected}


@pytest.mark.parametrize("accepted", [0, 1, 2])
def test_one_that_was_shut_down_is_done_without(accepted: int) -> None:
    """Also if that happens between two of its tasks."""

    class Closing(ThreadPoolExecutor):
        asked = 0

        def submit(
            self, function: Callable[..., object], /, *args: object, **kwargs: object
        ) -> Future[object]:
            if self.asked == accepted:
                self.shutdown(wait=False)
            self.asked += 1
            return super().submit(function, *args, **kwargs)

    done: list[int] = []
    executor = Closing(1)
    with nc.use_executor(executor), nc.use_num_threads(4):
        threads.run(lambda start, stop: done.extend(range(start, stop)), 8)
    assert sorted(done) == list(range(8))
    assert executor.asked == accepted + 1  # and not again
    expected = moments(X)
    executor = Closing(1)
    with nc.use_executor(executor), nc.use_num_threads(4):
        assert moments(X) == expected
    assert executor.asked > accepted


def test_other_failures_of_submit_are_raised_and_leave_no_work_undone() -> None:
    class Failing(Recording):
        def submit(
            self, function: Callable[..., None], /, *args: object, **kwargs: object
        ) -> Future[None]:
            raise KeyError("mine")

    done = []
    with nc.use_executor(Failing()), nc.use_num_threads(2), pytest.raises(KeyError, match="mine"):
        threads.run(lambda start, stop: done.append(stop - start), 4)
    assert sum(done) == 4


def test_errors_of_its_tasks_are_raised() -> None:
    def work(start: int, stop: int) -> None:
        raise ValueError("here")

    with (
        ThreadPoolExecutor(1) as executor,
        nc.use_executor(executor),
        nc.use_num_threads(2),
        pytest.raises(ValueError, match="here"),
    ):
        threads.run(work, 2)


@pytest.mark.parametrize("kind", ["ProcessPoolExecutor", "InterpreterPoolExecutor"])
def test_what_does_not_share_memory_is_refused(kind: str) -> None:
    if not hasattr(concurrent.futures, kind):
        pytest.skip(f"this Python has no {kind}")
    with getattr(concurrent.futures, kind)(1) as executor:
        with pytest.raises(TypeError, match=kind):
            nc.set_executor(executor)
        with pytest.raises(TypeError, match="ThreadPoolExecutor"), nc.use_executor(executor):
            pass


def test_loky_is_refused() -> None:
    loky = pytest.importorskip("joblib.externals.loky")
    with (
        loky.ProcessPoolExecutor(1) as executor,
        pytest.raises(TypeError, match="process's arrays"),
    ):
        nc.set_executor(executor)


def test_tasks_do_not_travel_to_other_processes() -> None:
    executor = Recording()

    class Pickling(Recording):
        def submit(
            self, function: Callable[..., None], /, *args: object, **kwargs: object
        ) -> Future[None]:
            pickle.dumps(function)
            raise AssertionError

    assert not isinstance(executor, ProcessPoolExecutor)
    with (
        nc.use_executor(Pickling()),
        nc.use_num_threads(2),
        pytest.raises(TypeError, match="threads of this process"),
    ):
        threads.run(lambda start, stop: None, 2)


@pytest.mark.parametrize("bad", [3, "threads", object()])
def test_what_is_no_executor_is_refused(bad: object) -> None:
    with pytest.raises(TypeError, match=r"concurrent\.futures\.Executor"):
        nc.set_executor(bad)
