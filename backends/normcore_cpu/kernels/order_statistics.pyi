import numpy as np

__all__ = ["among", "at", "brackets", "columns", "numbers"]

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
def columns(x: np.ndarray, taken: np.ndarray | None = None) -> np.ndarray: ...
def numbers(values: np.ndarray) -> np.ndarray: ...
def at(
    values: np.ndarray, counts: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray: ...
def among(lists: list[list[np.ndarray]], first: np.ndarray, second: np.ndarray) -> np.ndarray: ...
