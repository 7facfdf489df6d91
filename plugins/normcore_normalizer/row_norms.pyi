import numpy as np

__all__ = ["divide_rows", "divide_sparse_rows"]

def divide_rows(
    x: np.ndarray, out: np.ndarray, norm: str, norms: np.ndarray | None = None
) -> int: ...
def divide_sparse_rows(
    data: np.ndarray,
    starts: np.ndarray,
    out: np.ndarray,
    norm: str,
    norms: np.ndarray | None = None,
) -> int: ...
