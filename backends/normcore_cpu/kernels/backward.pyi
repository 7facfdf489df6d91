import numpy as np

__all__ = ["backward_elemt", "backward_reduce"]

def backward_reduce(
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    gate: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]: ...
def backward_elemt(
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    d: np.ndarray,
    out: np.ndarray,
    gate: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> None: ...
