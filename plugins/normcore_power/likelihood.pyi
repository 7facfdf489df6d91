import numpy as np

__all__ = ["most_likely"]

def most_likely(
    values: np.ndarray, plus_one: bool, least: float, largest: float
) -> tuple[float, float, float]: ...
