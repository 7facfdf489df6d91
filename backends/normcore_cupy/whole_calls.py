"""Functions of a caller's arrays of the device, done whole; see :mod:`normcore_cupy.caller`."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from normcore.affine import Affine
from normcore.layout.namespace import Array
from normcore.statistics import Extrema, Moments
from normcore_cupy.caller import Caller
from normcore_cupy.cupy_device import capture_error, is_capturing
from normcore_cupy.device_moments import DeviceMoments
from normcore_cupy.group_plans import GroupPlans
from normcore_cupy.row_plans import RowPlans
from normcore_cupy.whole_plans import Plans

if TYPE_CHECKING:
    from normcore_cupy.host import DeviceBackend

__all__ = ["WholeCalls"]


class WholeCalls:
    """What :class:`normcore.array_backend.whole_calls.WholeCalls` promises.

    Parameters
    ----------
    backend : DeviceBackend
    caller : Caller
    """

    def __init__(self, backend: DeviceBackend, caller: Caller) -> None:
        self.caller, self._run = caller, caller.run
        self._launcher, self._device = backend._launcher, backend.device
        self._plans, self._rows = Plans(backend), RowPlans(backend)
        self._groups = GroupPlans(backend)
        self.refuse_learning = caller.ordering.refuse_learning

    def batch_norm(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        axis: int,
        eps: float,
        out: Array,
        activation: str | None = None,
        mask: Array = None,
    ) -> tuple[Array, Moments] | None:
        given = x, gamma, beta, out, None, None, None, None, mask
        made = self._run(self._plans.forward, given, axis=axis, eps=eps, activation=activation)
        return None if made is None else self._normalized(made, out)

    def batch_norm_updating(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        weight: float,
        axis: int,
        eps: float,
        out: Array,
        activation: str | None = None,
        mask: Array = None,
    ) -> tuple[Array, Moments, Array, Array] | None:
        given = x, gamma, beta, out, None, mean, var, None, mask
        made = self._run(
            self._plans.forward, given, axis=axis, eps=eps, weight=weight,
            activation=activation, in_place=False,
        )  # fmt: skip
        return None if made is None else (*self._normalized(made[:-2], out), made[-2], made[-1])

    def batch_norm_in_training(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        number: Array,
        weight: float,
        axis: int,
        eps: float,
        out: Array,
        parts: Array,
    ) -> bool:
        given = x, gamma, beta, out, parts, mean, var, number
        made = self._run(self._plans.forward, given, axis=axis, eps=eps, weight=weight)
        return made is not None

    def batch_norm_backward(
        self,
        dy: Array,
        x: Array,
        moments: Moments,
        gamma: Array,
        beta: Array,
        axis: int,
        eps: float,
        training: bool,
        out: Array,
        activation: str | None = None,
        mask: Array = None,
    ) -> tuple[Array, Array, Array] | None:
        given = dy, x, moments.parts, gamma, out, None, None, beta, mask
        made = self._run(
            self._plans.backward, given, axis=axis, eps=eps, training=training,
            activation=activation,
        )  # fmt: skip
        return None if made is None else _gradients(made, out)

    def batch_norm_inference(
        self,
        x: Array,
        mean: Array,
        var: Array,
        gamma: Array,
        beta: Array,
        axis: int,
        eps: float,
        out: Array,
        activation: str | None = None,
        mask: Array = None,
    ) -> Array:
        given = x, mean, var, gamma, beta, out, mask
        made = self._run(self._plans.inference, given, axis=axis, eps=eps, activation=activation)
        return None if made is None else made[0] if out is None else out

    def beside(
        self, x: Array, vectors: tuple[np.ndarray, ...], kept: dict[Hashable, tuple[Array, ...]]
    ) -> tuple[Array, ...] | None:
        if not self.caller.takes(x):
            return None
        try:
            with self.caller.ordering.of(x):
                if is_capturing(self._device.xp.cuda.get_current_stream()):
                    raise capture_error(
                        "a layer's vectors are in host memory, and what becomes of its running "
                        "statistics is in new memory each time; nc.functional and normcore.torch "
                        "have both on the device"
                    )
                found = self._device.kept(kept)
                if found is None:
                    rows = self._device.asarray(np.stack(vectors)) if vectors else ()
                    found = kept[self._device.place()] = tuple(rows)
                return found
        except Exception:
            with self.caller.errors():
                raise

    def row_norm(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        num_axes: int,
        eps: float,
        centered: bool,
        out: Array,
    ) -> tuple[Array, Moments] | None:
        made = self._run(
            self._rows.forward, (x, gamma, beta, out), num_axes=num_axes, eps=eps,
            centered=centered,
        )  # fmt: skip
        if made is None:
            return None
        *fresh, states = made
        return fresh[0] if out is None else out, DeviceMoments(states, self._launcher)

    def row_norm_backward(
        self,
        dy: Array,
        x: Array,
        moments: Moments,
        gamma: Array,
        num_axes: int,
        eps: float,
        centered: bool,
        out: Array,
    ) -> tuple[Array, Array, Array] | None:
        made = self._run(
            self._rows.backward, (dy, x, moments.parts, gamma, out), num_axes=num_axes, eps=eps,
            centered=centered,
        )  # fmt: skip
        return None if made is None else _gradients(made, out)

    def group_norm(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        num_groups: int | None,
        axis: int,
        eps: float,
        out: Array,
    ) -> tuple[Array, Moments] | None:
        made = self._run(
            self._groups.forward, (x, gamma, beta, out), num_groups=num_groups, axis=axis, eps=eps
        )
        return None if made is None else self._normalized(made, out)

    def moments(self, x: Array, axis: int | None, skipna: bool) -> Moments | None:
        made = self._run(self._plans.moments, (x,), axis=axis, skipna=skipna)
        if made is None:
            return None
        return self._moments(*made)

    def extrema(self, x: Array, axis: int | None, skipna: bool) -> Extrema | None:
        made = self._run(self._plans.extrema, (x,), axis=axis, skipna=skipna)
        return None if made is None else Extrema(made[0][0], made[0][1], made[0][2])

    def rescale(
        self, x: Array, affine: Affine, axis: int, clip: tuple[float, float] | None, out: Array
    ) -> Array:
        if not self.caller.takes(x):
            return None
        low, high = (-math.inf, math.inf) if clip is None else map(float, clip)
        try:
            with self.caller.ordering.of(x):  # the coefficients may have to be brought there
                rows = self._launcher.coefficients(affine, x.shape[axis])
                made = self._run(self._plans.rescale, (x, rows, out), axis=axis, low=low, high=high)
        except Exception:
            with self.caller.errors():
                raise
        return None if made is None else made[0] if out is None else out

    def _normalized(self, made: list[Array], out: Array) -> tuple[Array, Moments]:
        *fresh, state, rows = made
        return fresh[0] if out is None else out, self._moments(state, rows)

    def _moments(self, state: Array, rows: Array) -> Moments:
        return DeviceMoments(state, self._launcher, {0.0: (rows, 4), 1.0: (rows, 7)})


def _gradients(made: list[Array], out: Array) -> tuple[Array, Array, Array]:
    """Return dx, dgamma and dbeta of the results of a program."""
    dx, dgamma, dbeta = made if out is None else (out, *made)
    return dx, dgamma, dbeta
