"""What whole calls of layer and RMS norm launch; as :mod:`normcore_cupy.whole_plans`."""

from __future__ import annotations

import math

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.device import GIVEN, WANTED
from normcore_cupy.launcher import FLOATING, dtype_name
from normcore_cupy.planning import STATE_ROWS, Planned, Planning, guarded, is_in_c_order
from normcore_cupy.program import Address, Argument, Placed, Program
from normcore_cupy.row_programs import RowPrograms, has_vectors, is_vectors

__all__ = ["RowPlans"]


class RowPlans(Planning):
    """Plans for arrays in C order, whose last axes make up a row."""

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        out: Array,
        parts: Array = None,
        *,
        num_axes: int,
        eps: float,
        centered: bool,
    ) -> Planned | None:
        program = Program(self._device, 5)
        at = list(map(Address, range(5)))
        drafted = self._in_rows(program, num_axes, eps, (x,), out, at[3])
        if drafted is None:
            return None
        (rows, target), at[3] = drafted
        num_rows = rows.shape[0]
        scale, shift = (
            self._along(vector, absent, rows, x.shape[-num_axes:], address)
            for vector, absent, address in ((gamma, 1.0, at[1]), (beta, 0.0, at[2]))
        )
        if scale is None or shift is None or not self._fits_state(parts, num_rows):
            return None
        if parts is None:
            at[4] = program.result((STATE_ROWS, num_rows), np.float64)
        RowPrograms(self._device).forward(
            program, rows, target, (at[0], at[3]), scale, shift, at[4], eps, centered
        )
        return guarded(program, int(out is None), 3, self._adopted([x, gamma, beta, out, parts]), 1)

    def backward(
        self,
        dy: Array,
        x: Array,
        parts: Array,
        gamma: Array,
        out: Array,
        dgamma: Array = None,
        dbeta: Array = None,
        *,
        num_axes: int,
        eps: float,
        centered: bool,
    ) -> Planned | None:
        """Of RMS norm there is no dbeta to write; where dgamma is not given, both are results."""
        program = Program(self._device, 7)
        at = list(map(Address, range(7)))
        drafted = self._in_rows(program, num_axes, eps, (dy, x), out, at[4])
        if drafted is None or parts is None:
            return None
        (upstream, rows, target), at[4] = drafted
        shape = tuple(x.shape[-num_axes:])
        scale = self._along(gamma, 1.0, rows, shape, at[3])
        if scale is None or not self._fits_state(parts, rows.shape[0]):
            return None
        wanted = np.zeros(2, WANTED)
        if dgamma is None:
            at[5:] = [program.result(shape, np.float64) for _ in range(2)]
            wanted["kind"] = 1
        for number, vector in enumerate((dgamma, dbeta)):
            if vector is not None:
                kind = self._vector_kind(vector, shape)
                if kind is None:
                    return None
                wanted["kind"][number] = kind
        gradients = Placed(wanted[0], {"data": at[5]}), Placed(wanted[1], {"data": at[6]})
        RowPrograms(self._device).backward(
            program, upstream, rows, target, (at[0], at[1], at[4]), scale, at[2], eps, centered,
            gradients,
        )  # fmt: skip
        given = [dy, x, parts, gamma, out, dgamma, dbeta]
        released = int(out is None) + (2 if dgamma is None else 0)
        return guarded(program, released, 4, self._adopted(given), 2)

    def _in_rows(
        self,
        program: Program,
        num_axes: int,
        eps: float,
        arrays: tuple[Array, ...],
        out: Array,
        at_out: Address,
    ) -> tuple[list[Array], Address] | None:
        """Return arrays and the result as aligned rows (N, D), and where the result is."""
        try:
            *natives, target = self._adopted([*arrays, out])
        except TypeError:
            return None
        x = natives[-1]
        if type(num_axes) is not int or not isinstance(eps, float) or not 0 < eps < math.inf:
            return None
        if dtype_name(x) not in FLOATING or not 1 <= num_axes <= x.ndim or not x.size:
            return None
        if target is None:
            fresh = self.result_like(program, x)
            if fresh is None:
                return None
            target, at_out = fresh
        natives.append(target)
        if any((each.dtype, each.shape) != (x.dtype, x.shape) for each in natives):
            return None
        if not all(is_in_c_order(each) for each in natives):
            return None
        shape = math.prod(x.shape[: x.ndim - num_axes]), math.prod(x.shape[x.ndim - num_axes :])
        rows = [each.reshape(shape) for each in natives]
        if is_vectors(rows[0]) and not all(
            has_vectors(each, self._device.pointer(each), 16) for each in rows
        ):
            return None
        return rows, at_out

    def _along(
        self, value: Array, absent: float, rows: Array, shape: tuple[int, ...], address: Address
    ) -> Argument:
        """Return gamma or beta as kernels take it, or None where they do not."""
        if value is None:
            return np.array((0, 0, absent), GIVEN)
        kind = self._vector_kind(value, tuple(shape))
        native = self._backend.adopt(value)
        if kind is None or (is_vectors(rows) and self._device.pointer(native) % 16):
            return None
        return Placed(np.array((0, kind, 0.0), GIVEN), {"data": address})

    def _vector_kind(self, value: Array, shape: tuple[int, ...]) -> int | None:
        """Return the kind of a vector of floats, of the shape of a sample and in C order."""
        native = self._backend.adopt(value)
        if tuple(native.shape) != shape or not is_in_c_order(native):
            return None
        return self._kind_of(native)
