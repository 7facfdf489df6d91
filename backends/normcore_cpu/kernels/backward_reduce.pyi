import numpy as np

__all__ = ["backward_reduce"]

def backward_reduce(
    dy: np.ndarray,
    x: np.ndarray,
    vectors: np.ndarray,
    gated: bool = False,
    mask: np.ndarray | None = None,
) -> np.ndarray: ...
