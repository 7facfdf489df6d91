import numpy as np

__all__ = ["forward", "inverse"]

def forward(
    x: np.ndarray, landmarks: np.ndarray, references: np.ndarray, normal: bool
) -> np.ndarray: ...
def inverse(
    x: np.ndarray, landmarks: np.ndarray, references: np.ndarray, normal: bool
) -> np.ndarray: ...
