"""Host arrays in chunks: the same results as in one piece, and streams that overlap."""

from __future__ import annotations

import numpy as np
import pytest
from normcore_cupy.chunks import ChunkedKernels

from normcore.affine import Affine
from normcore.array_backend import selection
from normcore.array_backend.abstract import InfiniteInput
from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import Statistic
from normcore.testing import BackendConformance
from normcore.testing.checks import check_brackets, check_moments

CHUNK = 4096  # bytes, so that small arrays have many chunks


class LateStream:
    """A stream on which nothing runs before it is waited for, as on the slowest of devices.

    Its buffers are filled with other values as soon as they may be used again.
    """

    def __init__(self, name, log):
        self.name, self.log = name, log
        self.work = None
        self.results = ()
        self.closed = False

    def submit(self, kernel, arrays):
        assert self.work is None, "a stream was given work before its results were taken"
        assert not self.closed
        for each in self.results:
            if isinstance(each, np.ndarray):
                each.fill(-725.0)
        staged = [np.array(array) for array in arrays]
        self.work = kernel, staged
        self.log.append(f"submit {self.name}")

    def collect(self):
        kernel, staged = self.work
        self.work = None
        self.log.append(f"collect {self.name}")
        self.results = ()
        steps = kernel(*staged)
        try:
            wanted = next(steps)
            while True:
                there = tuple(
                    each.to_host() if isinstance(each, Statistic) else np.array(each)
                    for each in wanted
                )
                self.results += there
                wanted = steps.send(there)
        except StopIteration as end:
            return end.value

    def close(self):
        self.closed = True
        self.log.append(f"close {self.name}")


def poisoned(shape, dtype):
    return np.full(shape, -725.0, dtype)


class Stepping:
    """The kernels of the CPU, with brackets that ask for what they count on the way."""

    def __getattr__(self, name):
        return getattr(selection.get_backend("cpu"), name)

    def bracket_steps(self, *arguments, **options):
        brackets = self.brackets(*arguments, **options)
        sums = [getattr(brackets, name) for name in ("below", "count")]
        brackets.below, brackets.count = map(np.array, (yield sums))
        for row in brackets.inside:
            row[:] = map(np.array, (yield row))
        return brackets


class Chunked(ReferenceBackend):
    """A backend whose required kernels all go through streams, to the kernels of the CPU."""

    name = "chunked"

    def __init__(self, chunk_bytes=CHUNK):
        self.log = []
        self._chunked = ChunkedKernels(
            Stepping(),
            poisoned,
            lambda: [LateStream(name, self.log) for name in "ab"],
            chunk_bytes,
        )
        for name in (
            "moments", "extrema", "brackets", "rescale", "backward_reduce", "backward_elemt",
        ):  # fmt: skip
            setattr(self, name, getattr(self._chunked, name))

    def adopt(self, array):
        return selection.get_backend("cpu").adopt(array)  # chunks are of NumPy's arrays

    def release(self, array, like):
        return selection.get_backend("cpu").release(array, like)


class TestChunked(BackendConformance):
    backend = Chunked(2048)
    dtypes = ("float64", "float32", "float16")

    test_any_number_of_threads_gives_the_same_bits = None  # chunks go through one thread


@pytest.fixture
def x():
    rng = np.random.default_rng(3)
    return rng.standard_normal((2000, 3, 1)) * 10.0 + 1e6


def test_chunks_take_turns_on_two_streams(x):
    backend = Chunked(CHUNK)
    backend.moments(x[:800])
    number = -(-800 * 3 * 8 // (CHUNK // 24 * 24))
    streams = "ab" * number
    expected = [f"submit {streams[0]}", f"submit {streams[1]}"]
    for index in range(2, number):  # one stream is always at work while the other is served
        expected += [f"collect {streams[index]}", f"submit {streams[index]}"]
    expected += [f"collect {streams[index]}" for index in range(number - 2, number)]
    assert backend.log == [*expected, "close a", "close b"]
    assert number > 4


def test_a_chunk_holds_a_bounded_number_of_bytes(x):
    sizes = []

    class Watching(LateStream):
        def submit(self, kernel, arrays):
            sizes.append(max(array.nbytes for array in arrays))
            super().submit(kernel, arrays)

    chunked = ChunkedKernels(
        selection.get_backend("cpu"), poisoned, lambda: [Watching("a", [])], CHUNK
    )
    chunked.extrema(x)
    chunked.extrema(x.transpose(1, 0, 2))  # 2000 channels: a position is more than a chunk
    chunked.extrema(np.ascontiguousarray(x.transpose(2, 1, 0)))
    assert max(sizes) == 2000 * 8
    assert sorted(sizes)[-4] <= CHUNK


def test_results_are_those_of_one_piece(x):
    cpu, chunked = selection.get_backend("cpu"), Chunked()
    x[7, 1, 0] = np.nan
    weights = np.random.default_rng(0).random((2000, 1))
    mask = weights > 0.3
    affine = Affine(center=x[0, :, 0], scale=2.0, gamma=3.0, beta=np.arange(3.0))
    check_moments(chunked.moments(x, weights=weights, skipna=True), x, weights)
    check_moments(chunked.moments(x, weights=mask, skipna=True), x, mask)
    assert chunked.extrema(x, skipna=True) == cpu.extrema(x, skipna=True)
    ends = np.full((1, 3), 1e6), np.full((1, 3), 1e6 + 5)
    check_brackets(chunked.brackets(x, *ends, skipna=True), cpu.brackets(x, *ends, skipna=True))
    options = {"clip": (-1.0, 8.0), "activation": "relu", "mask": mask}
    np.testing.assert_array_equal(
        chunked.rescale(x, affine, **options), cpu.rescale(x, affine, **options)
    )
    vectors = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(
        chunked.backward_elemt(x, x, *vectors, relu_mask=affine, mask=mask),
        cpu.backward_elemt(x, x, *vectors, relu_mask=affine, mask=mask),
    )


def test_out_decides_the_rounding(x):
    affine = Affine(center=x[0, :, 0], scale=3.0)
    for dtype, out_dtype in (("float32", "float64"), ("float64", "float16"), ("int32", "float32")):
        values = x.astype(dtype)
        out = np.full(x.shape, -1.0, out_dtype)
        expected = ReferenceBackend().rescale(values, affine, out=out.copy())
        assert Chunked().rescale(values, affine, out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_in_place(x):
    affine = Affine(center=x[0, :, 0], scale=3.0)
    expected = selection.get_backend("cpu").rescale(x, affine)
    chunked = Chunked()
    assert chunked.rescale(x, affine, out=x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("row", [0, 999, 1999])
def test_infinity_is_refused_where_the_caller_refuses_it(x, row):
    affine = Affine()
    backend = Chunked()
    x[5] = np.nan
    backend.rescale(x, affine, refuse_infinite=True)
    x[row, 2, 0] = -np.inf
    backend.log.clear()
    with pytest.raises(InfiniteInput):
        backend.rescale(x, affine, refuse_infinite=True)
    assert backend.log[-2:] == ["close a", "close b"]
    assert np.isneginf(backend.rescale(x, affine)[row, 2, 0])


def test_streams_are_closed_after_an_error(x):
    class Broken:
        def __getattr__(self, name):
            raise MemoryError("out of memory")

    log = []
    streams = [LateStream("a", log), LateStream("b", log)]
    chunked = ChunkedKernels(Broken(), poisoned, lambda: streams, CHUNK)
    for call in (chunked.moments, chunked.extrema):
        log.clear()
        for stream in streams:
            stream.closed, stream.work = False, None
        with pytest.raises(MemoryError):
            call(x)
        assert log[-2:] == ["close a", "close b"]


def test_a_stream_that_does_not_close_keeps_no_other_from_it(x):
    class Sticking(LateStream):
        def close(self):
            super().close()
            if self.name == "a":
                raise RuntimeError("the device is lost")

    log = []
    streams = [Sticking("a", log), Sticking("b", log)]
    chunked = ChunkedKernels(Stepping(), poisoned, lambda: streams, CHUNK)
    with pytest.raises(RuntimeError, match="lost"):
        chunked.extrema(x)
    assert log[-2:] == ["close a", "close b"]


@pytest.mark.parametrize("shape", [(0, 3, 1), (4, 3, 0)])
def test_nothing_to_observe(shape):
    x = np.empty(shape)
    backend = Chunked()
    assert not backend.moments(x).count.any()
    assert not backend.extrema(x).count.any()
    ends = np.zeros((2, 3)), np.ones((2, 3))
    brackets = backend.brackets(x, *ends)
    assert brackets.num_ranks == 2
    assert not brackets.count.any()
    assert brackets.inside_weights is None
    plane = np.empty((shape[0], shape[2]))
    check_brackets(
        backend.brackets(x, *ends, weights=plane),
        ReferenceBackend().brackets(x, *ends, weights=plane),
    )
    assert backend.rescale(x, Affine()).shape == shape
    assert not np.any(backend.backward_reduce(x, x, np.zeros(3)))
