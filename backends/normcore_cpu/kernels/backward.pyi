import numpy as np
from typing_extensions import disjoint_base

from normcore_cpu.kernels.tasks import Task

__all__ = ["BackwardTask"]

@disjoint_base
class BackwardTask(Task):
    def __init__(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        vectors: np.ndarray,
        gated: bool,
        mask: np.ndarray | None,
    ) -> None: ...
