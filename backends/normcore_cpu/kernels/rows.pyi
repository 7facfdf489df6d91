import numpy as np

__all__ = ["normalize_rows"]

def normalize_rows(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    out: np.ndarray,
    eps: float,
    centered: bool = True,
) -> np.ndarray: ...
