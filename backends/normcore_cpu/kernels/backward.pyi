import numpy as np

__all__ = ["backward_elemt", "backward_reduce"]

def backward_reduce(
    dy: np.ndarray,
    x: np.ndarray,
    vectors: np.ndarray,
    gated: bool = False,
    mask: np.ndarray | None = None,
) -> np.ndarray: ...
def backward_elemt(
    dy: np.ndarray,
    x: np.ndarray,
    vectors: np.ndarray,
    gated: bool = False,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray: ...
