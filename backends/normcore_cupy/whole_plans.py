"""What whole calls launch, worked out once from dtypes, shapes, strides and alignment.

A method returns None where the general way is to be taken. Arrays come as the caller's, in the
order of the addresses of calls.
"""

from __future__ import annotations

import math

import numpy as np

from normcore.array_backend.abstract import is_relu
from normcore.layout.namespace import Array
from normcore_cupy.device import ABSENT, DERIVED, FORWARD, MAP, MOST_CHANNELS, RUNNING
from normcore_cupy.launcher import dtype_name
from normcore_cupy.plan import BACKWARD, ELEMENTWISE, EXTREMA, REDUCTION, of_columns, plan
from normcore_cupy.planning import STATE_ROWS, Planned, Planning, guarded
from normcore_cupy.program import Address, Beyond, Placed, Program

__all__ = ["Plans"]

_DERIVED_ROWS, _GRADIENT_ROWS = 10, 11
_MAPS = 5  # of the rows of gradients, the first one of the forward map


class Plans(Planning):
    """Plans for arrays with channels."""

    # -- batch norm ------------------------------------------------------------------------

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        out: Array,
        parts: Array = None,
        mean: Array = None,
        var: Array = None,
        number: Array = None,
        mask: Array = None,
        *,
        axis: int,
        eps: float,
        weight: float = 0.0,
        activation: str | None = None,
        in_place: bool = True,
    ) -> Planned | None:
        """Normalize, and move running averages by the weight, where they are given.

        What they become are the last results, unless they move in place.
        """
        program = Program(self._device, 9)
        at = list(map(Address, range(9)))
        drafted = self._with_result(program, axis, eps, (x,), out, at[3], mask)
        if drafted is None:
            return None
        (view, target), plane, at[3], is_fresh = drafted
        num_channels = view.shape[1]
        if num_channels * 2 > view.size or not self._fits_state(parts, num_channels):
            return None
        if parts is None:
            state = program.result((STATE_ROWS, num_channels), np.float64)
            rows = program.result((_DERIVED_ROWS, num_channels), np.float64)
        else:
            state, rows = at[4], program.scratch((_DERIVED_ROWS, num_channels))
        kinds = [self._kind(each, num_channels) for each in (gamma, beta)]
        running = self._running(
            mean, var, number, num_channels, weight, at[5:], "running.",
            None if in_place else program,
        )  # fmt: skip
        if None in kinds or running is None:
            return None
        derived = np.zeros((), DERIVED)
        derived["eps"], derived["gamma"]["value"] = eps, gamma is None
        derived["gamma"]["kind"], derived["beta"]["kind"] = kinds
        derived["running"] = running[0]
        places = {"rows": rows, "gamma.data": at[1], "beta.data": at[2], **running[1]}
        self._normalize(
            program, (view, target, plane), (at[0], at[3], at[8]), state, Placed(derived, places),
            rows, is_relu(activation),
        )  # fmt: skip
        given = [x, gamma, beta, out, parts, mean, var, number, mask]
        return guarded(program, int(is_fresh), 3, self._adopted(given), 1)

    def _normalize(
        self,
        program: Program,
        arrays: tuple[Array, Array, Array],
        at: tuple[Address, Address, Address],
        state: Address,
        derived: Placed,
        rows: Address,
        relu: bool,
    ) -> None:
        """Add the launches over x, the result and a mask, in one where that may be."""
        view, target, plane = arrays
        num_channels = view.shape[1]
        name, result = dtype_name(view), dtype_name(target)
        over = self._backend._plan(view, REDUCTION) if plane is None else plan(view, REDUCTION)
        seen = self._placed(view, over, at[0])
        finish = over.per_range, self._finish(program, over, STATE_ROWS, num_channels)
        if plane is None and not relu and self._backend._plan(view, REDUCTION, target) == over:
            written = self._placed(target, over, at[1])
            if self._launch_at_once(
                program, "normalize", (name, result), over, (view,), seen, written, *finish, state,
                derived,
            ):  # fmt: skip
                return
        kernel, weights = "moments", []
        if plane is not None:
            weighing, at_weights = self._weights(program, plane, at[2])
            kernel, weights = "moments_weighted", [self._placed(weighing, over, at_weights)]
        self._launch(
            program, kernel, (name, "float64"), over, seen, *weights, np.int32(0), *finish, state,
            derived,
        )  # fmt: skip
        over = self._backend._plan(view, ELEMENTWISE, target, planes=(plane,))
        self._launch(
            program, "rescale", (name, result), over, self._placed(view, over, at[0]),
            self._placed(target, over, at[1]), self._plane(plane, over, at[2]), rows,
            np.float64(-math.inf), np.float64(math.inf), np.int32(relu), over.per_range,
        )  # fmt: skip

    def backward(
        self,
        dy: Array,
        x: Array,
        parts: Array,
        gamma: Array,
        out: Array,
        dgamma: Array = None,
        dbeta: Array = None,
        beta: Array = None,
        mask: Array = None,
        *,
        axis: int,
        eps: float,
        training: bool,
        activation: str | None = None,
    ) -> Planned | None:
        program = Program(self._device, 9)
        at = list(map(Address, range(9)))
        drafted = self._with_result(program, axis, eps, (dy, x), out, at[4], mask)
        if drafted is None or type(training) is not bool or parts is None:
            return None
        (upstream, view, target), plane, at[4], is_fresh = drafted
        num_channels = view.shape[1]
        if num_channels * 2 > view.size or not self._fits_state(parts, num_channels):
            return None
        relu = is_relu(activation)
        kinds = [self._kind(each, num_channels) for each in (gamma, dgamma, dbeta, beta)]
        if None in kinds:
            return None
        if dgamma is None:
            at[5:7] = [program.result((num_channels,), np.float64) for _ in range(2)]
            kinds[1:3] = [1, 1]
        forward = np.zeros((), FORWARD)
        forward["eps"], forward["training"], forward["relu"] = eps, training, relu
        forward["gamma"]["value"] = gamma is None
        places = {"state": at[2]}
        vectors = ("gamma", 3), ("dgamma", 5), ("dbeta", 6), ("beta", 7)
        for kind, (name, number) in zip(kinds, vectors, strict=True):
            forward[name]["kind"] = kind
            places[f"{name}.data"] = at[number]
        rows = program.scratch((_GRADIENT_ROWS, num_channels))
        name, result = dtype_name(view), dtype_name(target)
        over = self._backend._plan(view, REDUCTION, upstream, planes=(plane,))
        summed = (
            Placed(forward, places), over.per_range,
            self._finish(program, over, 4, num_channels), rows,
        )  # fmt: skip
        inputs = self._placed(upstream, over, at[0]), self._placed(view, over, at[1])
        may_be_one = plane is None and not relu
        lies_as_x = self._backend._plan(view, REDUCTION, upstream, target) == over
        if not (may_be_one and lies_as_x) or not self._launch_at_once(
            program, "normalize_backward", (name, result), over, (upstream, view),
            *inputs, self._placed(target, over, at[4]), *summed,
        ):  # fmt: skip
            self._launch(
                program, "backward_reduce", (name, "float64"), over, *inputs,
                self._plane(plane, over, at[8]), *summed,
            )  # fmt: skip
            maps = Beyond(rows, _MAPS * 8 * num_channels) if relu else None
            over = self._backend._plan(view, BACKWARD, upstream, target, planes=(plane,))
            arrays = (upstream, at[0]), (view, at[1]), (target, at[4])
            self._launch(
                program, "backward_elemt", (name, result), over,
                *(self._placed(each, over, address) for each, address in arrays),
                self._plane(plane, over, at[8]), rows, maps, over.per_range,
            )  # fmt: skip
        given = [dy, x, parts, gamma, out, dgamma, dbeta, beta, mask]
        released = int(is_fresh) + (2 if dgamma is None else 0)
        return guarded(program, released, 4, self._adopted(given), 2)

    def inference(
        self,
        x: Array,
        mean: Array,
        var: Array,
        gamma: Array,
        beta: Array,
        out: Array,
        mask: Array = None,
        *,
        axis: int,
        eps: float,
        activation: str | None = None,
    ) -> Planned | None:
        """Normalize with statistics that are given."""
        program = Program(self._device, 7)
        at = list(map(Address, range(7)))
        drafted = self._with_result(program, axis, eps, (x,), out, at[5], mask)
        if drafted is None or mean is None or var is None:
            return None
        (view, target), plane, at[5], is_fresh = drafted
        if view.shape[1] > MOST_CHANNELS:
            return None
        given = np.zeros((), MAP)
        names = "center", "scale", "gamma", "beta"
        places: dict[str, Address | None] = {
            f"{name}.data": each for name, each in zip(names, at[1:5], strict=True)
        }
        for name, vector in zip(names, (mean, var, gamma, beta), strict=True):
            kind = self._kind(vector, view.shape[1])
            if kind is None:
                return None
            given[name]["kind"] = kind
        given["gamma"]["value"], given["eps"], given["var"] = 1.0, eps, 1
        given["group"], given["number"] = 1, MOST_CHANNELS
        over = self._backend._plan(view, ELEMENTWISE, target, planes=(plane,))
        self._launch(
            program, "rescale_given", (dtype_name(view), dtype_name(target)), over,
            self._placed(view, over, at[0]), self._placed(target, over, at[5]),
            self._plane(plane, over, at[6]), Placed(given, places),
            np.float64(-math.inf), np.float64(math.inf), np.int32(is_relu(activation)),
            over.per_range,
        )  # fmt: skip
        arrays = self._adopted([x, mean, var, gamma, beta, out, mask])
        return guarded(program, int(is_fresh), 5, arrays, 1)

    def average(self, parts: Array, mean: Array, var: Array, number: Array) -> Planned | None:
        """Make running averages those of all batches, and count this one."""
        return None if number is None else self.running(parts, mean, var, number, weight=math.nan)

    def running(
        self, parts: Array, mean: Array, var: Array, number: Array, *, weight: float
    ) -> Planned | None:
        """Move running averages, and count the batch where there is a number of them."""
        program = Program(self._device, 4)
        at = list(map(Address, range(4)))
        if parts is None or mean is None:
            return None
        num_channels = parts.shape[-1]
        running = self._running(mean, var, number, num_channels, weight, at[1:])
        if running is None or not self._fits_state(parts, num_channels):
            return None
        grid, block = of_columns(num_channels)
        program.launch(
            "update_running", ("float64", "float64"), grid, block, at[0],
            Placed(*running), program.counters(1),
            np.int64(num_channels),
        )  # fmt: skip
        return Planned(program)

    # -- statistics and maps ---------------------------------------------------------------

    def moments(self, x: Array, *, axis: int | None, skipna: bool) -> Planned | None:
        program = Program(self._device, 1)
        view = self._view_of_one(axis, x)
        if view is None or type(skipna) is not bool:
            return None
        num_channels = view.shape[1]
        derived = np.zeros((), DERIVED)
        derived["gamma"]["value"] = 1.0
        state = program.result((STATE_ROWS, num_channels), np.float64)
        rows = program.result((_DERIVED_ROWS, num_channels), np.float64)
        over = self._backend._plan(view, REDUCTION)
        self._launch(
            program, "moments", (dtype_name(view), "float64"), over,
            self._placed(view, over, Address(0)), np.int32(skipna), over.per_range,
            self._finish(program, over, STATE_ROWS, num_channels), state,
            Placed(derived, {"rows": rows}),
        )  # fmt: skip
        return Planned(program)

    def extrema(self, x: Array, *, axis: int | None, skipna: bool) -> Planned | None:
        program = Program(self._device, 1)
        view = self._view_of_one(axis, x)
        if view is None or type(skipna) is not bool:
            return None
        num_samples, num_channels, num_inner = view.shape
        out = program.result((3, num_channels), np.float64)
        over = self._backend._plan(view, EXTREMA)
        self._launch(
            program, "extrema", (dtype_name(view), "float64"), over,
            self._placed(view, over, Address(0)), over.per_range,
            self._finish(program, over, 3, num_channels),
            np.float64(0.0 if skipna else num_samples * num_inner), out,
        )  # fmt: skip
        return Planned(program)

    def rescale(
        self, x: Array, rows: Array, out: Array, *, axis: int, low: float, high: float
    ) -> Planned | None:
        """Map by the rows (4, C) of coefficients."""
        program = Program(self._device, 3)
        drafted = self._with_result(program, axis, 1.0, (x,), out, Address(2))
        if drafted is None:
            return None
        (view, target), _, at_out, is_fresh = drafted
        if rows.shape[1] != view.shape[1]:
            return None
        over = self._backend._plan(view, ELEMENTWISE, target)
        self._launch(
            program, "rescale", (dtype_name(view), dtype_name(target)), over,
            self._placed(view, over, Address(0)), self._placed(target, over, at_out), ABSENT,
            Address(1), np.float64(low), np.float64(high), np.int32(0), over.per_range,
        )  # fmt: skip
        return guarded(program, int(is_fresh), 2, self._adopted([x, rows, out]), 1)

    # -- what kernels take -----------------------------------------------------------------

    def _running(
        self,
        mean: Array,
        var: Array,
        number: Array,
        num_channels: int,
        weight: float,
        at: list[Address],
        within: str = "",
        program: Program | None = None,
    ) -> tuple[np.ndarray, dict[str, Address | None]] | None:
        """Return running averages, which move in place, and where their addresses go.

        Parameters
        ----------
        at : list of Address
            Of the mean, the variance and the number.
        within : str
            What the names of fields begin with.
        program : Program, optional
            Which returns what they become, and leaves them as they are.
        """
        kinds = [self._kind(each, num_channels) for each in (mean, var)]
        if None in kinds or (0 in kinds and kinds != [0, 0]) or not isinstance(weight, float):
            return None
        if number is not None:
            count = self._backend.adopt(number)
            if (count.dtype, count.size) != (np.int64, 1):
                return None
        running = np.zeros((), RUNNING)
        running["ddof"], running["weight"], running["counts"] = 1.0, weight, number is not None
        places: dict[str, Address | None] = {}
        for name, kind, address in zip(("mean", "var"), kinds, at, strict=False):
            running[name]["kind"] = running[f"moved_{name}"]["kind"] = kind
            moved = address
            if program is not None and kind:
                moved = program.result((num_channels,), np.float64)
                running[f"moved_{name}"]["kind"] = 1
            places |= {f"{within}{name}.data": address, f"{within}moved_{name}.data": moved}
        return running, places | {f"{within}number": at[2]}
