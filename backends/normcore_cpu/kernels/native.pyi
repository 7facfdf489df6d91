import numpy as np

__all__ = [
    "native_backward_elemt",
    "native_backward_reduce",
    "native_moments",
    "native_normalize",
    "native_normalize_backward",
    "native_normalize_rows",
    "native_normalize_rows_backward",
    "native_rescale",
]

def native_moments(x: np.ndarray) -> np.ndarray: ...
def native_rescale(x: np.ndarray, map: np.ndarray, out: np.ndarray | None = None) -> np.ndarray: ...
def native_normalize(
    x: np.ndarray,
    gamma: np.ndarray | float,
    beta: np.ndarray | float,
    eps: float,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]: ...
def native_backward_reduce(dy: np.ndarray, x: np.ndarray, mean: np.ndarray) -> np.ndarray: ...
def native_backward_elemt(
    dy: np.ndarray, x: np.ndarray, vectors: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray: ...
def native_normalize_backward(
    dy: np.ndarray,
    x: np.ndarray,
    parts: np.ndarray,
    gamma: np.ndarray | float,
    eps: float,
    training: bool = True,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
def native_normalize_rows(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    out: np.ndarray,
    eps: float,
    centered: bool = True,
) -> np.ndarray: ...
def native_normalize_rows_backward(
    dy: np.ndarray,
    x: np.ndarray,
    states: np.ndarray,
    gamma: np.ndarray,
    out: np.ndarray,
    eps: float,
    centered: bool = True,
) -> tuple[np.ndarray, np.ndarray]: ...
