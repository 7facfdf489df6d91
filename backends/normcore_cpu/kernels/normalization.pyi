import numpy as np

__all__ = [
    "backward_elemt",
    "backward_reduce",
    "normalize",
    "normalize_backward",
    "normalize_rows",
    "normalize_rows_backward",
    "rescale",
    "rescale_where",
]

def rescale(
    x: np.ndarray,
    affine: np.ndarray,
    out: np.ndarray | None = None,
    clip: tuple[float, float] | None = None,
    relu: bool = False,
    mask: np.ndarray | None = None,
    refuse_infinite: bool = False,
    laid_out: object = None,
) -> tuple[np.ndarray, bool, object]: ...
def rescale_where(
    x: np.ndarray,
    affine: np.ndarray,
    where: np.ndarray,
    out: np.ndarray | None = None,
    clip: tuple[float, float] | None = None,
    refuse_infinite: bool = False,
    laid_out: object = None,
) -> tuple[np.ndarray | None, bool, object]: ...
def backward_reduce(
    dy: np.ndarray,
    x: np.ndarray,
    vectors: np.ndarray,
    relu_mask: bool = False,
    mask: np.ndarray | None = None,
) -> np.ndarray: ...
def backward_elemt(
    dy: np.ndarray,
    x: np.ndarray,
    vectors: np.ndarray,
    relu_mask: bool = False,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray: ...
def normalize(
    x: np.ndarray,
    gamma: np.ndarray | float,
    beta: np.ndarray | float,
    eps: float,
    relu: bool = False,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]: ...
def normalize_backward(
    dy: np.ndarray,
    x: np.ndarray,
    parts: np.ndarray,
    gamma: np.ndarray | float,
    beta: np.ndarray | float,
    eps: float,
    training: bool = True,
    relu: bool = False,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
def normalize_rows(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    out: np.ndarray,
    eps: float,
    centered: bool = True,
) -> np.ndarray: ...
def normalize_rows_backward(
    dy: np.ndarray,
    x: np.ndarray,
    states: np.ndarray,
    gamma: np.ndarray,
    out: np.ndarray,
    eps: float,
    centered: bool = True,
) -> tuple[np.ndarray, np.ndarray]: ...
