from typing import Any

import numpy as np

from normcore.layout.namespace import Array

__all__ = ["rescale"]

def rescale(
    x: np.ndarray,
    affine: np.ndarray,
    out: np.ndarray | None = None,
    clip: tuple[float, float] | None = None,
    relu: bool = False,
    mask: np.ndarray | None = None,
    refuse_infinite: bool = False,
    laid_out: Any = None,
) -> tuple[np.ndarray, bool, Array]: ...
