from typing import Any

import numpy as np

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

def is_floats(array: Any) -> bool: ...
def is_table(array: Any, num_columns: int) -> bool: ...
def views(
    axis: int | None, arrays: tuple[Any, ...], out: Any = None
) -> tuple[np.ndarray, ...] | None: ...
def shaped_as(result: Any, array: Any) -> Any: ...
def fits(out: Any, arrays: tuple[Any, ...]) -> int: ...
def normalizing(mean: Any, var: Any, gamma: Any, beta: Any, eps: float) -> np.ndarray | None: ...
def still_normalizing(
    rows: np.ndarray, kept_var: np.ndarray, mean: Any, var: Any, gamma: Any, beta: Any
) -> bool: ...
