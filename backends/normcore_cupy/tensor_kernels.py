"""Normalizations of CUDA tensors into tensors; see :mod:`normcore_cupy.caller`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from normcore.layout.namespace import Array
from normcore_cupy.caller import Caller
from normcore_cupy.group_plans import GroupPlans
from normcore_cupy.row_plans import RowPlans
from normcore_cupy.whole_plans import Plans

if TYPE_CHECKING:
    from normcore_cupy.host import DeviceBackend

__all__ = ["TensorKernels"]


class TensorKernels:
    """What :class:`normcore.array_backend.memory_kernels.MemoryKernels` promises.

    Parameters
    ----------
    backend : DeviceBackend
    caller : Caller
    """

    def __init__(self, backend: DeviceBackend, caller: Caller) -> None:
        self._run = caller.run
        self._plans, self._rows = Plans(backend), RowPlans(backend)
        self._groups = GroupPlans(backend)

    def batch_norm(
        self, x: Array, gamma: Array, beta: Array, eps: float, out: Array, parts: Array
    ) -> bool:
        given = x, gamma, beta, out, parts
        return self._run(self._plans.forward, given, axis=1, eps=eps) is not None

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
    ) -> bool:
        given = dy, x, statistics, gamma, dx, dgamma, dbeta
        made = self._run(self._plans.backward, given, axis=1, eps=eps, training=True)
        return made is not None

    def batch_norm_inference(
        self, x: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float, out: Array
    ) -> bool:
        given = x, mean, var, gamma, beta, out
        return self._run(self._plans.inference, given, axis=1, eps=eps) is not None

    def update_running(
        self, parts: Array, mean: Array, var: Array, number: Array, weight: float
    ) -> bool:
        given = parts, mean, var, number
        if math.isnan(weight):  # as a key of what is known, NaN would be another one each time
            return self._run(self._plans.average, given) is not None
        return self._run(self._plans.running, given, weight=weight) is not None

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
    ) -> bool:
        options = {"num_axes": num_axes, "eps": eps, "centered": centered}
        return self._run(self._rows.forward, (x, gamma, beta, out, parts), **options) is not None

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
    ) -> bool:
        given = dy, x, parts, gamma, dx, dgamma, dbeta
        options = {"num_axes": num_axes, "eps": eps, "centered": centered}
        return self._run(self._rows.backward, given, **options) is not None

    def group_norm(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float, out: Array, parts: Array
    ) -> bool:
        options = {"num_groups": groups, "axis": 1, "eps": eps}
        given = x, gamma, beta, out, parts
        return self._run(self._groups.forward, given, **options) is not None

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
    ) -> bool:
        return False
