from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["LEVELS", "exact_size", "merged", "observed", "values_at_ranks"]

LEVELS: int

def exact_size(capacity: int) -> int: ...
def observed(
    blocks: Iterable[np.ndarray], num_channels: int, most: int, capacity: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...
def merged(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], capacity: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...
def values_at_ranks(values: np.ndarray, sizes: np.ndarray, ranks: np.ndarray) -> np.ndarray: ...
