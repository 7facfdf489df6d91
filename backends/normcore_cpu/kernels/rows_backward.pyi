import numpy as np

__all__ = ["normalize_rows_backward"]

def normalize_rows_backward(
    dy: np.ndarray,
    x: np.ndarray,
    states: np.ndarray,
    gamma: np.ndarray,
    out: np.ndarray,
    eps: float,
    centered: bool = True,
) -> tuple[np.ndarray, np.ndarray]: ...
