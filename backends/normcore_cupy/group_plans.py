"""What whole calls of group and instance norm launch; as :mod:`normcore_cupy.whole_plans`."""

from __future__ import annotations

import math

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.device import ABSENT, DERIVED, MAP, MOST_CHANNELS
from normcore_cupy.launcher import dtype_name
from normcore_cupy.plan import ELEMENTWISE, REDUCTION
from normcore_cupy.planning import STATE_ROWS, Planned, Planning, guarded, is_in_c_order
from normcore_cupy.program import Address, Placed, Program

__all__ = ["GroupPlans"]

_DERIVED_ROWS = 10


class GroupPlans(Planning):
    """Plans for arrays in C order, whose first axis counts samples and the second channels."""

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        out: Array,
        parts: Array = None,
        *,
        num_groups: int | None,
        axis: int,
        eps: float,
    ) -> Planned | None:
        """Observe the groups as channels, and map the channels of all samples."""
        program = Program(self._device, 5)
        at = list(map(Address, range(5)))
        drafted = self._with_result(program, axis, eps, (x,), out, at[3])
        if drafted is None or axis != 1:
            return None
        at[3], is_fresh = drafted.at_out, drafted.is_fresh
        native, target, *vectors = self._adopted([x, out, gamma, beta])
        if target is None:
            target = self._device.empty(native.shape, native.dtype)
        if not (is_in_c_order(native) and is_in_c_order(target)):
            return None
        num_samples, num_channels = native.shape[:2]
        groups = num_channels if num_groups is None else num_groups
        if type(groups) is not int or groups < 1 or num_channels % groups:
            return None
        kinds = [self._kind(each, num_channels) for each in vectors]
        total = num_samples * groups
        if (
            None in kinds
            or not self._fits_state(parts, total)
            or num_samples * num_channels > MOST_CHANNELS
        ):
            return None
        if parts is None:
            at[4] = program.result((STATE_ROWS, total), np.float64)
            rows = program.result((_DERIVED_ROWS, total), np.float64)
        else:
            rows = program.scratch((_DERIVED_ROWS, total))
        in_groups = native.reshape((1, total, math.prod(native.shape) // total))
        derived = np.zeros((), DERIVED)
        derived["eps"], derived["gamma"]["value"] = eps, 1.0
        over = self._backend._plan(in_groups, REDUCTION)
        self._launch(
            program, "moments", (dtype_name(native), "float64"), over,
            self._placed(in_groups, over, at[0]), np.int32(0), over.per_range,
            self._finish(program, over, STATE_ROWS, total), at[4], Placed(derived, {"rows": rows}),
        )  # fmt: skip
        given = np.zeros((), MAP)
        given["center"]["kind"] = given["scale"]["kind"] = 1
        given["gamma"]["kind"], given["beta"]["kind"] = kinds
        given["gamma"]["value"], given["group"] = 1.0, num_channels // groups
        given["number"] = num_channels
        shape = 1, num_samples * num_channels, math.prod(native.shape[2:])
        view, target = native.reshape(shape), target.reshape(shape)
        over = self._backend._plan(view, ELEMENTWISE, target)
        places = {"gamma.data": at[1], "beta.data": at[2]}
        self._launch(
            program, "rescale_given", (dtype_name(view), dtype_name(target)), over,
            self._placed(view, over, at[0]), self._placed(target, over, at[3]), ABSENT,
            Placed(given, {"center.data": rows, "scale.data": rows, **places},
                   {"scale.data": 8 * total}),
            np.float64(-math.inf), np.float64(math.inf), np.int32(0), over.per_range,
        )  # fmt: skip
        arrays = self._adopted([x, gamma, beta, out, parts])
        return guarded(program, int(is_fresh), 3, arrays, 1)
