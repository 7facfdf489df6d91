"""Calls of normcore.jax's functions, each beside the core's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["EXAMPLES", "FEW", "Example", "draw", "result"]


class Example(NamedTuple):
    """A call: its name, the shapes of its arrays, by name, and its other arguments."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    options: dict[str, object]

    def __str__(self) -> str:
        """Say what it is in the name of a test."""
        return f"{self.name} {list(self.shapes.values())} {self.options}"

    def of(self, module: object) -> Callable[..., object]:
        """Return the function of a module, with these arguments."""
        function = getattr(module, self.name)
        return lambda **arrays: function(**arrays, **self.options)

    def arrays(self, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
        """Return its arrays; variances are positive."""
        drawn = {}
        for number, (name, shape) in enumerate(self.shapes.items()):
            values = draw(shape, dtype, 10 * seed + number)
            if name in ("mask", "var"):
                values = values > 0 if name == "mask" else abs(values) + values.dtype.type(0.5)
            drawn[name] = values
        return drawn


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Return normal values of a mean that is not 0."""
    values = np.random.default_rng(seed).normal(0.5, 1.0, shape)
    return values.astype(dtype)


def result(example: Example, arrays: dict[str, object]) -> object:
    """Return the y of a call of normcore.jax's function."""
    import normcore.jax as nj

    made = example.of(nj)(**arrays)
    return made[0] if example.name == "batch_norm" else made


def _given(x: tuple[int, ...], axis: int, *names: str) -> dict[str, tuple[int, ...]]:
    return {"x": x, **dict.fromkeys(names, (x[axis],))}


EXAMPLES = [
    Example("batch_norm", _given((7, 3), 1), {}),
    Example("batch_norm", _given((4, 3, 5), 1, "gamma", "beta"), {"eps": 0.1}),
    Example("batch_norm", _given((4, 2, 5, 3), -1, "gamma"), {"axis": -1}),
    Example("batch_norm", {**_given((6, 3, 2), 1, "gamma", "beta"), "mask": (6, 2)}, {}),
    Example("batch_norm", {**_given((9, 3, 2), 1), "mask": (9,)}, {"axis": 1}),
    Example("batch_norm_inference", _given((4, 3, 5), 1, "mean", "var"), {}),
    Example(
        "batch_norm_inference",
        {**_given((4, 5, 3), 2, "mean", "var", "gamma", "beta"), "mask": (4, 5)},
        {"axis": 2, "eps": 0.1},
    ),
    Example("layer_norm", _given((7, 5), 1), {}),
    Example("layer_norm", _given((4, 3, 5), 2, "gamma", "beta"), {"eps": 0.1}),
    Example(
        "layer_norm",
        {"x": (4, 3, 5), "gamma": (3, 5)},
        {"num_axes": 2, "gamma_offset": 1.0},
    ),
    Example("rms_norm", _given((4, 3, 5), 2, "gamma"), {"gamma_offset": 1.0}),
    Example("group_norm", _given((4, 6, 5), 1, "gamma", "beta"), {"num_groups": 2}),
    Example("group_norm", _given((4, 5, 6), 2, "gamma"), {"num_groups": 3, "axis": -1}),
    Example("instance_norm", _given((4, 3, 5), 1, "gamma", "beta"), {}),
    Example("instance_norm", _given((3, 4, 5), 0, "beta"), {"axis": 0}),
]

#: One of each formula, where many take long: programs are compiled for each.
FEW = [EXAMPLES[each] for each in (3, 6, 9, 10, 12)]
