import numpy as np

from normcore.layout.namespace import Array

__all__ = [
    "DISTINCT",
    "SAME",
    "fits",
    "is_floats",
    "is_table",
    "normalizing",
    "shaped_as",
    "still_normalizing",
    "views",
]

DISTINCT: int
SAME: int

def is_floats(array: Array) -> bool: ...
def is_table(array: Array, num_columns: int) -> bool: ...
def views(
    axis: int | None, arrays: tuple[Array, ...], out: Array = None
) -> tuple[np.ndarray, ...] | None: ...
def shaped_as(result: Array, array: Array) -> np.ndarray: ...
def fits(out: Array, arrays: tuple[Array, ...]) -> int: ...
def normalizing(
    mean: Array, var: Array, gamma: Array, beta: Array, eps: float
) -> np.ndarray | None: ...
def still_normalizing(
    rows: np.ndarray, kept_var: np.ndarray, mean: Array, var: Array, gamma: Array, beta: Array
) -> bool: ...
