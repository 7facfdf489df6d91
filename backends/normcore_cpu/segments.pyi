import numpy as np

__all__ = ["extrema", "moments"]

def extrema(values: np.ndarray, starts: np.ndarray) -> np.ndarray: ...
def moments(
    values: np.ndarray, starts: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray | None: ...
