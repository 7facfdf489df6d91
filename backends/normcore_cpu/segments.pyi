import numpy as np

__all__ = ["extrema", "grouped", "moments"]

def extrema(values: np.ndarray, starts: np.ndarray) -> np.ndarray: ...
def grouped(
    values: np.ndarray, channels: np.ndarray, num_channels: int
) -> tuple[np.ndarray, np.ndarray]: ...
def moments(
    values: np.ndarray, starts: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray | None: ...
