"""The shared pool: coverage of items, errors, interrupts, nesting, many callers, fork and exit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from processes import printed

import normcore as nc
from normcore import threads


def in_threads(number: int, function: Callable[[], None]) -> None:
    started = [threading.Thread(target=function) for _ in range(number)]
    for each in started:
        each.start()
    for each in started:
        each.join()


@pytest.mark.parametrize("num_threads", [1, 2, 3, 16, 10**30])
@pytest.mark.parametrize("num_items", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("min_items", [0, 1, 3, 200])
def test_chunks_cover_every_item_once(num_threads: int, num_items: int, min_items: int) -> None:
    lock, chunks = threading.Lock(), []

    def work(start: int, stop: int) -> None:
        time.sleep(0.0001)  # lets others take some
        with lock:
            chunks.append((start, stop))

    with nc.use_num_threads(num_threads):
        threads.run(work, num_items, min_items=min_items)
    assert sorted(i for each in chunks for i in range(*each)) == list(range(num_items))
    assert all(stop - start >= min(min_items, num_items) for start, stop in chunks)
    assert len(chunks) <= num_threads


def test_threads_work_at_the_same_time() -> None:
    barrier = threading.Barrier(5)
    with nc.use_num_threads(5):
        threads.run(lambda start, stop: barrier.wait(30), 5)


def test_a_caller_waits_for_no_thread_that_has_not_come() -> None:
    calls = []
    with nc.use_num_threads(16):
        for _ in range(1000):
            threads.run(lambda start, stop: calls.append(stop - start), 16)
    assert sum(calls) == 16_000


def test_small_work_wakes_no_thread_that_sleeps_unless_it_follows_other_work() -> None:
    assert (
        printed(
            """
import threading, time
import normcore as nc
from normcore import threads

callers = set()

def work(start, stop):
    callers.add(threading.get_ident())
    time.sleep(0.001)

def number_of_callers(**options):
    callers.clear()
    threads.run(work, 2, **options)
    return len(callers)

nc.set_num_threads(2)
barrier = threading.Barrier(2)
threads.run(lambda start, stop: barrier.wait(30), 2)  # now there is a worker
time.sleep(0.5)  # which sleeps
print(number_of_callers(wake=False))
print(any(number_of_callers(wake=False) == 2 for _ in range(1000)))
time.sleep(0.5)
threads.run(lambda start, stop: barrier.wait(30), 2)  # is woken
print("woken")
"""
        )
        == "1\nTrue\nwoken"
    )


def test_small_work_stays_in_the_caller() -> None:
    callers = set()
    with nc.use_num_threads(8):
        threads.run(lambda start, stop: callers.add(threading.get_ident()), 10, min_items=6)
    assert callers == {threading.get_ident()}


@pytest.mark.parametrize("failing", [0, 3])
def test_an_error_reaches_the_caller_after_all_chunks_ended(failing: int) -> None:
    ended = []

    def work(start: int, stop: int) -> None:
        if start <= failing < stop:
            raise RuntimeError("here")
        ended.append(start)

    with nc.use_num_threads(4):
        with pytest.raises(RuntimeError, match="here"):
            threads.run(work, 4)
        assert len(ended) == 3
        threads.run(lambda start, stop: ended.append(start), 4)
    assert len(ended) == 7


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill")
def test_an_interrupt_waits_for_the_chunks_that_run() -> None:
    main, begun, ended = threading.get_ident(), threading.Event(), []

    def work(start: int, stop: int) -> None:
        if threading.get_ident() == main:
            assert begun.wait(30)
            return
        begun.set()
        time.sleep(0.1)  # the caller waits now
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.2)
        ended.append(start)

    with nc.use_num_threads(2):
        with pytest.raises(KeyboardInterrupt):
            threads.run(work, 2)
        assert len(ended) == 1
        threads.run(lambda start, stop: ended.append(start), 2)
    assert len(ended) == 3


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill")
def test_an_interrupt_of_the_caller_waits_for_the_chunks_that_run() -> None:
    main, begun, ended = threading.get_ident(), threading.Event(), []

    def work(start: int, stop: int) -> None:
        if threading.get_ident() == main:
            assert begun.wait(30)
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(30)
        begun.set()
        time.sleep(0.2)
        ended.append(start)

    with nc.use_num_threads(2), pytest.raises(KeyboardInterrupt):
        threads.run(work, 2)
    assert len(ended) == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
def test_workers_that_are_woken_again_and_again_do_not_become_more() -> None:
    assert (
        printed(
            """
import os, threading, time
import normcore as nc
from normcore import threads

def number():
    return len(os.listdir("/proc/self/task"))

nc.set_num_threads(2)  # which imports NumPy, and that has threads of its own
before = number()
barrier = threading.Barrier(2)
for _ in range(100):
    time.sleep(0.003)  # all sleep
    threads.run(lambda start, stop: barrier.wait(30), 2)
end = time.monotonic() + 10  # for threads in whose place others were started to end
while number() > before + 1 and time.monotonic() < end:
    time.sleep(0.01)
print(number() - before)
"""
        )
        == "1"
    )


def test_nested_use_stays_in_its_thread() -> None:
    done, strays = [], []

    def outer(start: int, stop: int) -> None:
        here = threading.get_ident()

        def inner(a: int, b: int) -> None:
            done.extend(range(a, b))
            strays.extend([] if threading.get_ident() == here else [here])

        threads.run(inner, 8)

    with nc.use_num_threads(2):
        threads.run(outer, 4)
    assert sorted(set(done)) == list(range(8))
    assert strays == []


def test_callers_share_the_threads() -> None:
    """Four callers at once, three threads each: at work are they and the pool's two, not twelve."""
    shown = printed(
        """if True:
        import os, threading, time
        import normcore as nc
        from normcore import threads
        nc.set_num_threads(3)
        lock, at_work, seen = threading.Lock(), set(), []
        def work(start, stop):
            with lock:
                at_work.add(threading.get_ident())
                seen.append(len(at_work))
            time.sleep(0.001)
            with lock:
                at_work.discard(threading.get_ident())
        def tasks():
            return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
        before = tasks()
        def call():
            for _ in range(20):
                threads.run(work, 6)
            barrier.wait()
            for _ in range(50):
                threads.run(work, 6)
            barrier.wait()
        barrier = threading.Barrier(4, action=seen.clear)
        callers = [threading.Thread(target=call) for _ in range(4)]
        [each.start() for each in callers]
        [each.join() for each in callers]
        together = list(seen)
        seen.clear()
        threads.run(work, 300)
        end = time.monotonic() + 10  # for threads in whose place others were started to end
        while tasks() - before > 2 and time.monotonic() < end:
            time.sleep(0.01)
        print(max(together, default=0), max(seen), tasks() - before)
        """
    )
    together, alone, workers = map(int, shown.split())
    assert together <= 4 + 2
    assert alone <= 3
    assert workers <= 2


def test_many_threads_may_share_an_input() -> None:
    x = np.random.default_rng(0).normal(size=(50_000, 8))
    expected = nc.functional.moments(x, channel_axis=1)
    results: list[nc.Moments] = []

    def work() -> None:
        with nc.use_num_threads(3):
            results.extend(nc.functional.moments(x, channel_axis=1) for _ in range(5))

    in_threads(6, work)
    assert len(results) == 30
    assert all(result == expected for result in results)


def test_a_call_leaves_nothing_behind() -> None:
    import weakref

    class Function:
        def __call__(self, start: int, stop: int) -> None:
            pass

    function = Function()
    alive = weakref.ref(function)
    with nc.use_num_threads(4):
        threads.run(function, 100)
    del function
    assert alive() is None


# A child that hangs is found by evaluate's time limit.
COMPUTE = """if True:
    import os, sys, threading, warnings
    import numpy as np
    import normcore as nc
    from normcore import threads
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
    nc.set_num_threads(3)
    x = np.random.default_rng(0).normal(size=(100_000, 8))
    moments = lambda: nc.functional.moments(x, channel_axis=1).parts.tobytes()
    expected = moments()
    def child():
        pid = os.fork()
        if pid == 0:
            os._exit(0 if moments() == expected == moments() else 1)
        return os.waitpid(pid, 0)[1]
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_a_forked_child_computes() -> None:
    assert printed(COMPUTE + "    print(child(), moments() == expected)") == "0 True"


@needs_fork
def test_a_child_forked_amid_the_kernels_of_others_computes() -> None:
    code = """
    stop = threading.Event()
    def hammer():
        while not stop.is_set():
            moments()
            threads.run(lambda start, stop: None, 64)
    others = [threading.Thread(target=hammer) for _ in range(2)]
    [each.start() for each in others]
    print({child() for _ in range(40)})
    stop.set()
    [each.join() for each in others]
    print(moments() == expected)
    """
    assert printed(COMPUTE + code) == "{0}\nTrue"


@needs_fork
def test_a_child_forked_inside_a_parallel_function_does_not_hang() -> None:
    code = """
    main, both, forked, pids = threading.get_ident(), threading.Barrier(2), threading.Event(), []
    def work(start, stop):
        both.wait(30)
        if threading.get_ident() == main:
            pids.append(os.fork())
            forked.set()
        else:
            forked.wait(30)
    nc.set_num_threads(2)
    try:
        threads.run(work, 2)
        outcome = "computed"
    except RuntimeError as error:
        outcome = str(error)
    if pids == [0]:
        os._exit(0 if "forked" in outcome and moments() == expected else 1)
    print(outcome, os.waitpid(pids[0], 0)[1])
    """
    assert printed(COMPUTE + code) == "computed 0"


EXIT = """if True:
    import atexit, numpy, threading
    import normcore as nc
    from normcore import threads
    nc.set_num_threads(2)
    x = numpy.ones((300_000, 8))
    mean = lambda: nc.functional.moments(x, channel_axis=1).mean[0]
    def at_exit():
        threads.run(lambda start, stop: None, 8)
        print(mean())
    atexit.register(at_exit)
"""


def test_kernels_work_while_the_interpreter_exits() -> None:
    code = """
    class AtTheEnd:
        def __del__(self, mean=mean, threads=threads, finalizing=sys.is_finalizing):
            threads.run(lambda start, stop: None, 8)
            print(mean(), finalizing())
    at_the_end = AtTheEnd()
    """
    assert printed(EXIT + code) == "1.0\n1.0 True"


def test_kernels_of_others_do_not_hinder_exit() -> None:
    code = """
    def work():
        while True:
            mean()
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    """
    assert printed(EXIT + code) == "1.0"
