import numpy as np

__all__ = ["forward", "inverse", "moments"]

def forward(x: np.ndarray, parameters: np.ndarray, plus_one: bool) -> np.ndarray: ...
def inverse(x: np.ndarray, parameters: np.ndarray, plus_one: bool) -> np.ndarray: ...
def moments(
    values: np.ndarray,
    parameters: np.ndarray,
    plus_one: bool,
    weights: np.ndarray | None = None,
) -> tuple[float, float]: ...
