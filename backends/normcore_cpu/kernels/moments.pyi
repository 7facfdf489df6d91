import numpy as np

__all__ = ["moments"]

def moments(
    x: np.ndarray, weights: np.ndarray | None = None, skipna: bool = False
) -> np.ndarray: ...
