import numpy as np

__all__ = ["AVAILABLE", "rows_to_lines"]

AVAILABLE: bool

def rows_to_lines(
    values: np.ndarray,
    missing: np.ndarray,
    offsets: np.ndarray,
    text: np.ndarray,
    layout: np.ndarray,
    delimiter: int,
) -> np.ndarray: ...
