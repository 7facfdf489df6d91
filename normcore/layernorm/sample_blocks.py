"""Samples with channels, walked a block at a time as ``(channels, ...)`` arrays.

Which way an array is walked depends on the size of a sample and on how one lies in memory, never
on how many there are: each way has bits of its own, and a sample's must not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from normcore.layout import out_argument
from normcore.layout.namespace import Array, array_namespace, is_on_host, is_strided

__all__ = ["Block", "mapped"]

#: Elements of a sample from which on a call of the kernels for each costs less than a copy.
_MIN_SAMPLE = 1 << 14
#: Channels of a block, of samples times channels: each has coefficients while it is in work.
_MAX_CHANNELS = 1 << 14
#: Elements of a block that is copied.
_MAX_COPY = 1 << 16


class Block(NamedTuple):
    """Some samples, or some channels of one."""

    samples: slice
    channels: slice

    @property
    def num_samples(self) -> int:
        """How many samples."""
        return self.samples.stop - self.samples.start


def mapped(
    kernel: Callable[..., Array],
    arrays: tuple[Array, ...],
    target: Array,
    axes: tuple[int, int],
    per_group: int,
) -> Array:
    """Map ``kernel(block, *views, out)`` over arrays, into the target or a fresh array.

    Parameters
    ----------
    kernel : callable
        It gets views, or copies, of shape (samples * channels, ...), and an `out` of that shape
        or None, and returns the result.
    arrays : tuple of arrays of one shape
    target : array or None
        Of their shape and the dtype of the result; may be one of them.
    axes : pair of int
        Those of samples and of channels.
    per_group : int
        Neighbouring channels that stay together.
    """
    first = arrays[0]
    num_samples, num_channels = (first.shape[axis] for axis in axes)
    whole = Block(slice(0, num_samples), slice(0, num_channels))
    if num_samples * num_channels == 0:
        return _fresh(first) if target is None else target
    if not all(is_strided(each) for each in (*arrays, target) if each is not None):
        result = kernel(whole, *(_merged(_moved(each, axes)) for each in arrays), None)
        xp = array_namespace(result)
        result = xp.reshape(result, (num_samples, num_channels, *result.shape[1:]))
        result = xp.moveaxis(result, (0, 1), axes)
        if target is None:
            return result
        target[...] = result
        return target
    target = _fresh(first) if target is None else target
    moved = [_moved(each, axes) for each in (*arrays, target)]
    sample_size = math.prod(moved[0].shape[1:])
    if all(each.flags.c_contiguous for each in moved):
        samples, copies = num_samples, False
    elif sample_size >= _MIN_SAMPLE:
        samples, copies = 1, False
    else:
        samples, copies = _MAX_COPY // sample_size, True
    if is_on_host(first):
        blocks = _blocks(whole, samples, per_group)
    else:  # there each call costs, and not its memory
        blocks = (
            Block(slice(i, min(i + samples, num_samples)), whole.channels)
            for i in range(0, num_samples, samples)
        )
    for block in blocks:
        *views, out = (each[block] for each in moved)
        if copies:
            # Copies of one sample too, of which a view would do: it would have other bits.
            result = kernel(block, *(_merged(each.copy()) for each in views), None)
            out[...] = result.reshape(out.shape)
        else:
            kernel(block, *map(_merged, views), _merged(out))
    return target


def _blocks(whole: Block, samples: int, per_group: int) -> Iterator[Block]:
    """Split samples and channels such that a block has few channels in all."""
    num_samples, num_channels = whole.samples.stop, whole.channels.stop
    groups = max(_MAX_CHANNELS // per_group, 1) * per_group
    step = min(samples, max(_MAX_CHANNELS // num_channels, 1))
    for i in range(0, num_samples, step):
        for j in range(0, num_channels, groups):
            yield Block(
                slice(i, min(i + step, num_samples)), slice(j, min(j + groups, num_channels))
            )


def _fresh(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.empty_like(x, dtype=out_argument.result_dtype(x))


def _moved(array: Array, axes: tuple[int, int]) -> Array:
    """Return an array with its axes of samples and of channels first."""
    return array if axes == (0, 1) else array_namespace(array).moveaxis(array, axes, (0, 1))


def _merged(moved: Array) -> Array:
    """Return samples and channels as one axis, a copy where strides do not allow a view."""
    shape = (moved.shape[0] * moved.shape[1], *moved.shape[2:])
    return array_namespace(moved).reshape(moved, shape)
