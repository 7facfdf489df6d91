import numpy as np

__all__ = ["extrema", "moments"]

def moments(
    x: np.ndarray, weights: np.ndarray | None = None, skipna: bool = False, apart: bool = False
) -> np.ndarray: ...
def extrema(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
