import numpy as np

from normcore.layout.namespace import Array

__all__ = ["normalize", "normalize_backward"]

def normalize(
    x: np.ndarray,
    gamma: Array,
    beta: Array,
    eps: float,
    relu: bool = False,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]: ...
def normalize_backward(
    dy: np.ndarray,
    x: np.ndarray,
    parts: np.ndarray,
    gamma: Array,
    beta: Array,
    eps: float,
    training: bool = True,
    relu: bool = False,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
