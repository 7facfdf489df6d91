import numpy as np

__all__ = ["brackets"]

def brackets(
    x: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    weights: np.ndarray | None = None,
    skipna: bool = False,
) -> tuple[
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    list[list[np.ndarray]],
    list[list[np.ndarray]] | None,
]: ...
