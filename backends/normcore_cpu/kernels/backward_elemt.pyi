import numpy as np

__all__ = ["backward_elemt"]

def backward_elemt(
    dy: np.ndarray,
    x: np.ndarray,
    vectors: np.ndarray,
    gated: bool = False,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray: ...
