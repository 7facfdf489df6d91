from typing_extensions import disjoint_base

from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array

__all__ = ["TensorKernels", "c_functions"]

c_functions: object

@disjoint_base
class TensorKernels:
    def __init__(self, backend: Backend) -> None: ...
    def batch_norm(
        self, x: Array, gamma: Array, beta: Array, eps: float, out: Array, parts: Array
    ) -> bool: ...
    def batch_norm_backward(
        self,
        dy: Array,
        x: Array,
        statistics: Array,
        gamma: Array,
        eps: float,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> bool: ...
    def batch_norm_inference(
        self, x: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float, out: Array
    ) -> bool: ...
    def update_running(
        self, parts: Array, mean: Array, var: Array, number: Array, weight: float
    ) -> bool: ...
    def row_norm(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        num_axes: int,
        eps: float,
        centered: bool,
        out: Array,
        parts: Array,
    ) -> bool: ...
    def row_norm_backward(
        self,
        dy: Array,
        x: Array,
        parts: Array,
        gamma: Array,
        num_axes: int,
        eps: float,
        centered: bool,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> bool: ...
    def group_norm(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float, out: Array, parts: Array
    ) -> bool: ...
    def group_norm_backward(
        self,
        dy: Array,
        x: Array,
        parts: Array,
        gamma: Array,
        groups: int,
        eps: float,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> bool: ...
