"""Arrays on the host, worked on in chunks: copies and kernels overlap, device memory stays small.

Chunks take turns on two streams, each with pinned buffers of its own. While one stream copies and
computes, the host fills the other's buffers and takes over what came back. Kernels are generators:
one that must know something on the host before it can go on yields it, and is resumed when its
stream's turn has come, so that it never waits itself. Statistics are merged on the host in
the order of the chunks, so a run gives the same bits as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np

from normcore.affine import Affine
from normcore.array_backend.abstract import InfiniteInput
from normcore.array_backend.reference import ReferenceBackend
from normcore.layout.namespace import Array
from normcore.layout.out_argument import result_dtype
from normcore.layout.tiling import Block, blocks
from normcore.statistics import Extrema, Moments
from normcore.statistics.brackets import Brackets

if TYPE_CHECKING:
    from normcore_cupy.host import DeviceBackend

__all__ = ["CHUNK_BYTES", "ChunkStream", "ChunkedKernels", "Kernel", "Steps"]

#: Bytes of input that a chunk holds: enough for a copy at full speed, little beside a device.
CHUNK_BYTES = 1 << 24
# Exact quantiles ask for brackets of a few MiB at a time; there have to be chunks in these.
_BRACKETS_SHARE = 8

#: Yields tuples of arrays of the device and of statistics, is sent each of these on the host, and
#: returns what the chunk results in.
Steps = Generator[tuple[Array, ...], tuple[Array, ...], Array]
#: ``kernel(*copies)``, of one chunk.
Kernel = Callable[..., Steps]


class ChunkStream(Protocol):
    """A stream with pinned buffers: one chunk at a time goes to the device and comes back."""

    def submit(self, kernel: Kernel, arrays: list[np.ndarray]) -> None:
        """Start to copy ``arrays`` to the device and run ``kernel(*copies)`` up to its first yield.

        Returns once the arrays have been read.
        """

    def collect(self) -> Array:
        """Wait for the kernel, step by step, and return its result.

        Arrays that it was sent are valid until the next :meth:`submit`.
        """

    def close(self) -> None:
        """Wait for whatever is under way; buffers may be used by others afterwards."""


class ChunkedKernels:
    """The required kernels for arrays on the host, by those of a backend on a device.

    Parameters
    ----------
    kernels : DeviceBackend
        Those that take arrays of the device.
    empty : callable
        ``empty(shape, dtype)`` returns an array of the device.
    streams : callable
        Returns the streams of one run, which it closes.
    chunk_bytes : int
    """

    def __init__(
        self,
        kernels: DeviceBackend,
        empty: Callable[..., Array],
        streams: Callable[[], Sequence[ChunkStream]],
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._kernels, self._empty = kernels, empty
        self._streams, self.chunk_bytes = streams, chunk_bytes

    def moments(self, x: np.ndarray, *, weights: Array = None, skipna: bool = False) -> Moments:
        """Observe and merge the moments of the chunks."""

        def kernel(chunk: Array, plane: Array = None) -> Steps:
            return (yield (self._kernels.moments(chunk, weights=plane, skipna=skipna),))

        total = Moments.empty(x.shape[1])
        with self._run(kernel, [x], weights) as results:
            for _, (part,) in results:
                total = total.merge(part)
        return total

    def extrema(self, x: np.ndarray, *, skipna: bool = False) -> Extrema:
        """Observe and merge the extrema of the chunks."""

        def kernel(chunk: Array) -> Steps:
            return (yield (self._kernels.extrema(chunk, skipna=skipna),))

        total = Extrema.empty(x.shape[1])
        with self._run(kernel, [x]) as results:
            for _, (part,) in results:
                total = total.merge(part)
        return total

    def brackets(
        self,
        x: np.ndarray,
        lower: Array,
        upper: Array,
        *,
        weights: Array = None,
        skipna: bool = False,
    ) -> Brackets:
        """Count in the chunks; what lies inside comes back to the host."""

        def kernel(chunk: Array, plane: Array = None) -> Steps:
            options = {"weights": plane, "skipna": skipna}
            return (yield from self._kernels.bracket_steps(chunk, lower, upper, **options))

        # Without elements there is no chunk, but the ends are to be told all the same.
        none = None if weights is None else weights[:0]
        parts = [ReferenceBackend().brackets(x[:0], lower, upper, weights=none, skipna=skipna)]
        with self._run(kernel, [x], weights, _BRACKETS_SHARE) as results:
            parts.extend(part for _, part in results)
        return Brackets.merge_all(parts[1:] or parts)

    def rescale(
        self,
        x: np.ndarray,
        affine: Affine,
        *,
        clip: tuple[float, float] | None = None,
        activation: str | None = None,
        mask: Array = None,
        out: Array = None,
        refuse_infinite: bool = False,
    ) -> np.ndarray:
        """Map the chunks; infinity is looked for on the device, where it costs no copy."""
        target = _result(x) if out is None else out
        center, scale, gamma, beta = np.stack(affine.vectors(x.shape[1]))  # may be views of out
        affine = Affine(center=center, scale=scale, gamma=gamma, beta=beta)

        def kernel(chunk: Array, plane: Array = None) -> Steps:
            y = self._empty(chunk.shape, target.dtype)
            self._kernels.rescale(
                chunk, affine, clip=clip, activation=activation, mask=plane, out=y
            )
            more = (self._kernels.extrema(chunk, skipna=True),) if refuse_infinite else ()
            return (yield y, *more)

        with self._run(kernel, [x], mask) as results:
            for block, (y, *extrema) in results:
                if any(np.isinf([each.min, each.max]).any() for each in extrema):
                    raise InfiniteInput("the input contains infinity")
                target[block[0], :, block[1]] = y
        return target

    def backward_reduce(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        mean: Array,
        *,
        relu_mask: Affine | None = None,
        mask: Array = None,
    ) -> tuple[Array, Array]:
        """Sum over the chunks."""

        def kernel(dy: Array, x: Array, plane: Array = None) -> Steps:
            return (
                yield self._kernels.backward_reduce(dy, x, mean, relu_mask=relu_mask, mask=plane)
            )

        sum_dy, sum_dy_xmu = np.zeros((2, x.shape[1]))
        with self._run(kernel, [dy, x], mask) as results:
            for _, (first, second) in results:
                sum_dy, sum_dy_xmu = sum_dy + first, sum_dy_xmu + second
        return sum_dy, sum_dy_xmu

    def backward_elemt(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        *vectors: Array,
        relu_mask: Affine | None = None,
        mask: Array = None,
        out: Array = None,
    ) -> np.ndarray:
        """Map the chunks of both arrays."""
        target = _result(dy) if out is None else out
        vectors = tuple(np.array(each) for each in vectors)  # may be views of out

        def kernel(dy: Array, x: Array, plane: Array = None) -> Steps:
            dx = self._empty(dy.shape, target.dtype)
            self._kernels.backward_elemt(dy, x, *vectors, relu_mask=relu_mask, mask=plane, out=dx)
            return (yield (dx,))

        with self._run(kernel, [dy, x], mask) as results:
            for block, (dx,) in results:
                target[block[0], :, block[1]] = dx
        return target

    @contextmanager
    def _run(
        self, kernel: Kernel, arrays: list[np.ndarray], plane: Array = None, share: int = 1
    ) -> Iterator[Iterator[tuple[Block, Array]]]:
        """Give blocks of the arrays, in order, with what the kernel makes of each."""
        num_bytes = self.chunk_bytes // share
        size = max(1, num_bytes // max(array.itemsize for array in arrays))
        pieces = blocks(arrays[0].shape, size)
        with ExitStack() as stack:  # closes every stream, also where another does not close
            streams = self._streams()
            for stream in reversed(streams):
                stack.callback(stream.close)
            yield _take_turns(streams, kernel, pieces, arrays, plane)


def _take_turns(
    streams: Sequence[ChunkStream],
    kernel: Kernel,
    pieces: Iterator[Block],
    arrays: list[np.ndarray],
    plane: Array,
) -> Iterator[tuple[Block, Array]]:
    under_way: list[tuple[ChunkStream, Block]] = []
    for number, block in enumerate(pieces):
        stream = streams[number % len(streams)]
        if len(under_way) == len(streams):
            oldest, its_block = under_way.pop(0)
            yield its_block, oldest.collect()
        chunks = [array[block[0], :, block[1]] for array in arrays]
        if plane is not None:
            chunks.append(plane[block[0], block[1]])
        stream.submit(kernel, chunks)
        under_way.append((stream, block))
    for stream, block in under_way:
        yield block, stream.collect()


def _result(x: np.ndarray) -> np.ndarray:
    return np.empty_like(x, dtype=result_dtype(x), subok=False)
