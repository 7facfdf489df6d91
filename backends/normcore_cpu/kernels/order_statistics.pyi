import numpy as np

__all__ = [
    "brackets",
    "channel_values",
    "count_numbers",
    "values_at_ranks",
    "values_at_ranks_of_lists",
]

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
def channel_values(x: np.ndarray, taken: np.ndarray | None = None) -> np.ndarray: ...
def count_numbers(values: np.ndarray) -> np.ndarray: ...
def values_at_ranks(
    values: np.ndarray, counts: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray: ...
def values_at_ranks_of_lists(
    lists: list[list[np.ndarray]], first: np.ndarray, second: np.ndarray
) -> np.ndarray: ...
