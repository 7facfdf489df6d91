"""Rows that reach every kernel of layer and RMS norm on a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore.testing.rows import check_row_gradients, check_rows

__all__ = ["EPS", "SHAPES", "check", "draw", "run"]

EPS = 1e-3

#: Less than a warp a row, a warp, some, a whole block; whole vectors and not; rows in parts.
SHAPES = [
    (261, 1), (70, 7), (67, 40), (41, 64), (37, 129), (19, 768), (9, 1030), (5, 2049), (4, 4096),
    (3, 4099), (2, 8192), (3, 9001), (2, 20480),
]  # fmt: skip


def draw(shape: tuple[int, int], dtype: str, seed: int = 0) -> np.ndarray:
    """Return values of a dtype, about a mean of their own in each row."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iub":
        return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    return (rng.standard_normal(shape) + rng.standard_normal((shape[0], 1))).astype(dtype)


def run(backend: Any, x: Any, dy: Any, centered: bool = True, eps: float = EPS) -> list[np.ndarray]:
    """Return y, the states, dx, dgamma and dbeta on the host."""
    rng = np.random.default_rng(5)
    gamma, beta = rng.standard_normal((2, x.shape[1]))
    native = backend.adopt(x)
    y, moments = backend.normalize_rows(native, gamma, beta, eps, centered=centered)
    gradients = backend.normalize_rows_backward(
        backend.adopt(dy), native, moments, gamma, eps, centered=centered
    )
    return [backend.device.to_host(each) for each in (y, moments.parts, *gradients)]


def check(results: list[np.ndarray], x: np.ndarray, dy: np.ndarray, centered: bool) -> None:
    """Assert that results of :func:`run` are right; narrow ones to a unit of their dtype."""
    from normcore.statistics import Moments
    from normcore.testing.checks import check_moments

    rng = np.random.default_rng(5)
    gamma, beta = rng.standard_normal((2, x.shape[1]))
    y, states, *gradients = results
    moments = Moments(states)
    check_moments(moments, x.astype(np.float64)[None])
    check_rows(y, x, moments, gamma, beta, centered)
    check_row_gradients(tuple(gradients), dy, x, moments, gamma, centered)
