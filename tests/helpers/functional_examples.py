"""Data for the tests of functions of arrays, and what they should compute."""

from __future__ import annotations

import numpy as np

SHAPES = [(7, 3), (6, 3, 4), (4, 3, 2, 3), (3, 2, 2, 3, 2)]


def example(shape, seed=0, dtype=np.float64):
    """Channels of different location and spread, on the last axis."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * np.linspace(0.5, 8.0, shape[-1]) + np.arange(shape[-1]) * 3
    return x.astype(dtype)


def plain_batch_norm(x, axis, gamma, beta, eps):
    """The paper's Algorithm 1, word for word."""
    x = np.moveaxis(np.asarray(x, dtype=np.float64), axis, -1)
    positions = tuple(range(x.ndim - 1))
    y = (x - x.mean(positions)) / np.sqrt(x.var(positions) + eps) * gamma + beta
    return np.moveaxis(y, -1, axis)
