"""Arrays that lie in memory in every way that strides allow."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

__all__ = ["copied", "placements", "targets"]


def values(rng, shape, dtype):
    """Return random values; integers are small."""
    return (rng.normal(size=shape) * (1 if np.dtype(dtype).kind == "f" else 20)).astype(dtype)


@st.composite
def placements(draw, shape, dtype):
    """Draw an array of random values: permuted, broadcast, reversed, spaced or overlapping."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["permuted", "broadcast", "sliced", "overlapping"]))
    if kind == "overlapping" and 0 not in shape:
        steps = [draw(st.integers(-2, 3)) for _ in shape]
        ends = [step * (size - 1) for step, size in zip(steps, shape, strict=True)]
        start = -sum(end for end in ends if end < 0)
        memory = values(rng, start + sum(end for end in ends if end > 0) + 1, dtype)
        return as_strided(memory[start:], shape, [step * memory.itemsize for step in steps])
    order = draw(st.permutations(range(len(shape))))
    own, picked = [], []
    for size in shape:
        step = draw(st.sampled_from([1, -1, 2, -3])) if kind == "sliced" else 1
        kept = not (kind == "broadcast" and draw(st.booleans()))
        own.append(size * abs(step) if kept else 1)
        picked.append(slice(None, None, step))
    memory = values(rng, [own[axis] for axis in order], dtype)
    return np.broadcast_to(memory.transpose(np.argsort(order))[tuple(picked)], shape)


@st.composite
def targets(draw, x, dtype):
    """Draw an array to write to, in the memory order of ``x``; or None.

    It is spaced, reversed or lies in a larger one.
    """
    if draw(st.booleans()):
        return None
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]) * (x.shape[axis] > 1))
    steps = [draw(st.sampled_from([1, 1, -1, 2])) for _ in order]
    memory = np.full([x.shape[axis] * abs(steps[axis]) + 1 for axis in order], -7, dtype)
    spaced = memory.transpose(np.argsort(order))
    return spaced[tuple(map(_picked, x.shape, steps))]


def _picked(size, step):
    """Return every step-th of as many elements, from the last one on if the step is negative."""
    if not size:
        return slice(0, 0)
    return slice(-step * size - 1, None, step) if step < 0 else slice(0, step * size, step)


def copied(*arrays):
    """Return copies in C order."""
    return [None if each is None else each.copy(order="C") for each in arrays]
