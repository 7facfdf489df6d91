import numpy as np

__all__ = ["extrema"]

def extrema(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
