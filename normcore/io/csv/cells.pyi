import numpy as np

__all__ = ["end_of_rows", "split_cells", "split_quoted_cells"]

def end_of_rows(
    data: bytes, delimiter: int, quote: int, comment: bytes, first: bool = False
) -> int: ...
def split_cells(
    data: bytes, delimiter: int, width: int
) -> tuple[np.ndarray, np.ndarray] | None: ...
def split_quoted_cells(
    data: bytes, delimiter: int, quote: int, comment: bytes, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int] | None: ...
