"""Use inside the workers of joblib and Dask: no more threads than were meant."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from fits import fit, in_child

from normcore import threads
from normcore.threads import settings

T = TypeVar("T")


class Census:
    """Who is at work on a function at once, in all of its calls."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at_work = 0
        self.most = 0

    def __call__(self, start: int, stop: int) -> None:
        with self.lock:
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        time.sleep(0.002)
        with self.lock:
            self.at_work -= 1


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_num_threads", 3)


def assert_few_at_work(census: Census, callers: int) -> None:
    # Workers stay with a job that they joined while fewer callers were there.
    assert census.most <= callers + 2


def test_joblib_threads(three_threads: None) -> None:
    joblib = pytest.importorskip("joblib")
    census = Census()
    with joblib.parallel_config("threading", n_jobs=4):
        joblib.Parallel()(joblib.delayed(threads.run)(census, 12) for _ in range(40))
        assert set(joblib.Parallel()(joblib.delayed(fit)() for _ in range(8))) == {fit()}
    assert_few_at_work(census, 4)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("inner", [1, 3])
def test_joblib_processes(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    joblib = pytest.importorskip("joblib")
    loky = pytest.importorskip("joblib.externals.loky")
    monkeypatch.delenv("NORMCORE_NUM_THREADS", raising=False)
    try:
        with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=inner):
            results = joblib.Parallel()(joblib.delayed(in_child)(i) for i in range(2))
    finally:
        loky.get_reusable_executor().shutdown(wait=True)
    assert results == 2 * [(inner, fit())]


def dask_compute(function: Callable[[int], T], number: int, **options: str | int) -> list[T]:
    dask = pytest.importorskip("dask")
    return list(dask.compute(*(dask.delayed(function)(i) for i in range(number)), **options))


def test_dask_threads(three_threads: None) -> None:
    census = Census()
    dask_compute(lambda i: threads.run(census, 12), 40, scheduler="threads", num_workers=4)
    assert set(dask_compute(fit, 8, scheduler="threads", num_workers=4)) == {fit()}
    assert_few_at_work(census, 4)
