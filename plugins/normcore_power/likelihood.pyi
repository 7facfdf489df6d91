import numpy as np

__all__ = ["most_likely"]

def most_likely(
    values: np.ndarray,
    plus_one: bool,
    least: float,
    largest: float,
    weights: np.ndarray | None = None,
) -> tuple[float, float, float]: ...
