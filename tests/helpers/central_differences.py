"""Gradients of scalar functions, by two calls for each element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def central_differences(
    function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    """Return the gradient of a function of one array."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        values = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * step
            values.append(function(moved))
        gradient[index] = (values[0] - values[1]) / (2 * step)
    return gradient


def gradients_by_differences(
    function: Callable[..., float], *arrays: np.ndarray, step: float = 1e-5
) -> list[np.ndarray]:
    """Return the gradients of a function of several arrays, one for each."""

    def of_one(i: int) -> Callable[[np.ndarray], float]:
        return lambda moved: function(*arrays[:i], moved, *arrays[i + 1 :])

    return [central_differences(of_one(i), x, step) for i, x in enumerate(arrays)]
