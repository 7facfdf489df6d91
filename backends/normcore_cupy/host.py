"""The host logic of every kernel, once, against the device protocol.

Nothing here waits for the device but :meth:`DeviceBackend.brackets`, which has to know how much
it keeps; :meth:`DeviceBackend.bracket_steps` leaves the waiting to its caller. Vectors of length C
that go into kernels are rows of one float64 array; states come out as the rows of one.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import cast

import numpy as np

from normcore.affine import Affine
from normcore.array_backend.abstract import Backend, is_relu
from normcore.layout.namespace import Array
from normcore.statistics import Extrema, Moments
from normcore.statistics.brackets import Brackets, Quantiles
from normcore.statistics.quantile_interpolation import as_quantiles, interpolated
from normcore.statistics.statistic import StatisticT
from normcore_cupy.counting import Counting
from normcore_cupy.device import DERIVED, FORWARD, MOST_CHANNELS, Device
from normcore_cupy.device_moments import DeviceMoments, update_running
from normcore_cupy.launcher import Launcher, dtype_name
from normcore_cupy.plan import (
    BACKWARD,
    ELEMENTWISE,
    EXTREMA,
    REDUCTION,
    Granularity,
    Plan,
    plan,
)
from normcore_cupy.rows import RowKernels
from normcore_cupy.selection import Selection

__all__ = ["DeviceBackend"]

_STATE_ROWS, _DERIVED_ROWS = 7, 10  # of moments
_GRADIENT_ROWS = 11


class DeviceBackend(Backend):
    """Kernels on a :class:`~normcore_cupy.device.Device`; a subclass adopts and releases arrays.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.xp = device.xp
        self._launcher = Launcher(device)
        self._rows = RowKernels(self._launcher)
        self._selection = Selection(self._launcher)

    def _plan(
        self, x: Array, granularity: Granularity, *others: Array, planes: tuple[Array, ...] = ()
    ) -> Plan:
        return plan(x, granularity, *others, planes=planes, pointer=self.device.pointer)

    # -- statistics ------------------------------------------------------------------------

    def moments(self, x: Array, *, weights: Array = None, skipna: bool = False) -> Moments:
        return self._observed(x, weights, skipna, 1.0, 0.0, 0.0)[0]

    def _observed(
        self, x: Array, weights: Array, skipna: bool, gamma: Array, beta: Array, eps: float
    ) -> tuple[Moments, Array]:
        """Return the moments, and the map of batch norm by them as the first rows of an array."""
        dtypes = dtype_name(x), "float64"
        num_channels = x.shape[1]
        if 0 in x.shape:
            return self.moments_of(self.device.zeros((_STATE_ROWS, num_channels), np.float64)), None
        plane = self._launcher.plane(weights, "float64", x)
        planes = () if plane is None else (plane,)
        kernel = "moments_weighted" if planes else "moments"
        over = plan(x, REDUCTION) if planes else self._plan(x, REDUCTION)
        finish, _parts = self._launcher.finish(over, _STATE_ROWS, num_channels)
        state = self.device.empty((_STATE_ROWS, num_channels), np.float64)
        rows = self.device.empty((_DERIVED_ROWS, num_channels), np.float64)
        derived = np.zeros((), DERIVED)
        derived["rows"], derived["eps"] = self.device.pointer(rows), eps
        derived["gamma"], _gamma = self._launcher.given(num_channels, "gamma", gamma)
        derived["beta"], _beta = self._launcher.given(num_channels, "beta", beta)
        self._launcher.launch(
            kernel, dtypes, over, (x, *planes), np.int32(skipna), over.per_range, finish, state,
            derived,
        )  # fmt: skip
        return DeviceMoments(state, self._launcher, {0.0: (rows, 4), 1.0: (rows, 7)}), rows

    def moments_of(self, parts: Array) -> Moments:
        return DeviceMoments(parts, self._launcher)

    def extrema(self, x: Array, *, skipna: bool = False) -> Extrema:
        dtypes = dtype_name(x), "float64"
        num_samples, num_channels, num_inner = x.shape
        if 0 in x.shape:
            return Extrema.empty(num_channels, self.xp)
        over = self._plan(x, EXTREMA)
        finish, _parts = self._launcher.finish(over, 3, num_channels)
        out = self.device.empty((3, num_channels), np.float64)
        required = 0.0 if skipna else float(num_samples * num_inner)
        self._launcher.launch(
            "extrema", dtypes, over, (x,), over.per_range, finish, np.float64(required), out
        )
        return Extrema(out[0], out[1], out[2])

    def brackets(
        self, x: Array, lower: Array, upper: Array, *, weights: Array = None, skipna: bool = False
    ) -> Brackets:
        """Return the brackets, on the host: whoever asks for them decides there what to read next.

        Raises
        ------
        ValueError
            If the shape of ``lower`` or ``upper`` is not (R, C).
        """
        steps = self.bracket_steps(x, lower, upper, weights=weights, skipna=skipna)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(tuple(self.device.to_host(each) for each in wanted))
        except StopIteration as end:
            brackets: Brackets = end.value
            return brackets

    def bracket_steps(
        self, x: Array, lower: Array, upper: Array, *, weights: Array = None, skipna: bool = False
    ) -> Generator[tuple[Array, ...], tuple[np.ndarray, ...], Brackets]:
        """Yield arrays of the device, to be sent back on the host, and return the brackets.

        What is sent back is copied. Raises as :meth:`brackets`.
        """
        lower, upper = (self._host_vector(each) for each in (lower, upper))
        num_ranks, num_channels = expected = lower.shape[0], x.shape[1]
        if lower.shape != expected or upper.shape != expected:
            raise ValueError(
                f"brackets have shapes {lower.shape} and {upper.shape}, expected {expected}"
            )
        sums = np.zeros((4 * num_ranks + 3, num_channels))
        sizes = np.zeros(expected, np.int64)
        inside = [np.empty(0), np.empty(0)]
        if 0 not in x.shape:
            keeps = bool(np.any(lower < upper))
            counting = Counting(self._launcher, x, lower, upper, weights)
            sums, kept = counting.count(keeps)
            if kept is None:
                sums = np.array((yield (sums,))[0])
            else:
                sums, sizes = map(np.array, (yield sums, self.xp.sum(kept, axis=2)))
            if sizes.any():
                there = yield counting.keep(kept, int(sizes.sum()))
                values = np.float32 if x.dtype == np.float32 else np.float64
                inside[: len(there)] = map(np.array, there, (values, np.float64))
        below, equal_lower, inside_count, equal_upper = np.moveaxis(
            sums[:-3].reshape(num_ranks, 4, num_channels), 1, 0
        )
        count, infinite, nans = sums[-3:]
        if not skipna:
            count = np.where(nans > 0, np.nan, count)
        return Brackets(
            lower, upper, below, equal_lower, inside_count, equal_upper, count, infinite,
            _split(inside[0], sizes), None if weights is None else _split(inside[1], sizes),
        )  # fmt: skip

    def quantiles(
        self, x: Array, q: Array, *, weights: Array = None, skipna: bool = False
    ) -> Quantiles:
        """Return the exact quantiles: by digits of values, or where they weigh, by brackets."""
        if weights is not None or 0 in x.shape:
            return super().quantiles(x, q, weights=weights, skipna=skipna)
        q = as_quantiles(q)
        around, count, infinite = self._selection.around(x, q)
        values = interpolated(around[:, 0], around[:, 1], q[:, None], count)
        if not skipna:
            absent = count < x.shape[0] * x.shape[2]
            values[:, absent] = count[absent] = np.nan
        return Quantiles(q, values + 0.0, count, infinite)  # -0.0 reads as 0.0

    def merge(self, statistic: StatisticT, other: StatisticT) -> StatisticT:
        if not (isinstance(statistic, Moments) and isinstance(other, Moments)):
            return statistic.merge(other)
        if isinstance(statistic.parts, np.ndarray):
            return statistic.merge(other)
        if isinstance(statistic, DeviceMoments):
            return statistic.merge(other)
        moments = self.moments_of(statistic.parts)
        moments.wide = statistic.wide
        return cast(StatisticT, moments.merge(other))

    # -- the affine map --------------------------------------------------------------------

    def rescale(
        self,
        x: Array,
        affine: Affine,
        *,
        clip: tuple[float, float] | None = None,
        activation: str | None = None,
        mask: Array = None,
        out: Array = None,
        refuse_infinite: bool = False,
    ) -> Array:
        """Return the rescaled array; infinity propagates, as finding it would mean waiting."""
        relu = is_relu(activation)
        if self._launcher.is_on_host(affine) or x.shape[1] > MOST_CHANNELS:
            rows = self._launcher.coefficients(affine, x.shape[1])
            return self._rescale("rescale", x, rows, clip, relu, mask, out)
        given, _held = self._launcher.given_map(affine, x.shape[1])
        return self._rescale("rescale_given", x, given, clip, relu, mask, out)

    def _rescale(
        self,
        kernel: str,
        x: Array,
        coefficients: Array,
        clip: tuple[float, float] | None,
        relu: bool,
        mask: Array,
        out: Array,
    ) -> Array:
        out, dtypes = self._launcher.result(x, out)
        if 0 not in x.shape:
            low, high = (-math.inf, math.inf) if clip is None else clip
            plane = self._launcher.plane(mask, "bool", x)
            over = self._plan(x, ELEMENTWISE, out, planes=(plane,))
            self._launcher.launch(
                kernel, dtypes, over, (x, out, plane), coefficients,
                np.float64(low), np.float64(high), np.int32(relu), over.per_range,
            )  # fmt: skip
        return out

    # -- backward --------------------------------------------------------------------------

    def backward_reduce(
        self,
        dy: Array,
        x: Array,
        mean: Array,
        *,
        relu_mask: Affine | None = None,
        mask: Array = None,
    ) -> tuple[Array, Array]:
        num_channels = x.shape[1]
        vectors = self._launcher.vectors(num_channels, {"mean": mean})
        rows = self._relu_rows(relu_mask, num_channels)
        forward = np.zeros((), FORWARD)
        forward["mean"] = self.device.pointer(vectors)
        forward["maps"] = 0 if rows is None else self.device.pointer(rows)
        sums = self.device.empty((2, num_channels), np.float64)
        self._backward_reduce(dy, x, forward, mask, sums)
        return sums[0], sums[1]

    def _backward_reduce(
        self, dy: Array, x: Array, forward: np.ndarray, mask: Array, out: Array
    ) -> None:
        dy, x = self._launcher.of_one_dtype(dy, x)
        if 0 in x.shape:
            out[...] = 0.0
            return
        plane = self._launcher.plane(mask, "bool", x)
        over = self._plan(x, REDUCTION, dy, planes=(plane,))
        finish, _parts = self._launcher.finish(over, 4, x.shape[1])
        self._launcher.launch(
            "backward_reduce", (dtype_name(x), "float64"), over, (dy, x, plane), forward,
            over.per_range, finish, out,
        )  # fmt: skip

    def backward_elemt(
        self,
        dy: Array,
        x: Array,
        mean: Array,
        a: Array,
        b: Array,
        d: Array,
        *,
        relu_mask: Affine | None = None,
        mask: Array = None,
        out: Array = None,
    ) -> Array:
        num_channels = x.shape[1]
        vectors = self._launcher.vectors(num_channels, {"mean": mean, "a": a, "b": b, "d": d})
        return self._backward_elemt(
            dy, x, vectors, self._relu_rows(relu_mask, num_channels), mask, out
        )

    def _backward_elemt(
        self, dy: Array, x: Array, vectors: Array, relu_rows: Array, mask: Array, out: Array
    ) -> Array:
        out, _ = self._launcher.result(x, out)
        dy, x = self._launcher.of_one_dtype(dy, x)
        if 0 not in x.shape:
            plane = self._launcher.plane(mask, "bool", x)
            over = self._plan(x, BACKWARD, dy, out, planes=(plane,))
            dtypes = dtype_name(x), dtype_name(out)
            self._launcher.launch(
                "backward_elemt", dtypes, over, (dy, x, out, plane), vectors, relu_rows,
                over.per_range,
            )  # fmt: skip
        return out

    # -- batch norm in one go --------------------------------------------------------------

    def normalize(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        *,
        activation: str | None = None,
        mask: Array = None,
        out: Array = None,
    ) -> tuple[Array, Moments]:
        """Two launches, and no wait: a channel without values is NaN."""
        relu = is_relu(activation)
        moments, rows = self._observed(x, mask, False, gamma, beta, eps)
        return self._rescale("rescale", x, rows, None, relu, mask, out), moments

    def normalize_backward(
        self,
        dy: Array,
        x: Array,
        moments: Moments,
        gamma: Array,
        beta: Array,
        eps: float,
        *,
        training: bool = True,
        activation: str | None = None,
        mask: Array = None,
        out: Array = None,
    ) -> tuple[Array, Array, Array]:
        """Two launches, and no wait."""
        num_channels = x.shape[1]
        relu, state = is_relu(activation), self._launcher.state(moments)
        forward = np.zeros((), FORWARD)
        forward["state"], forward["eps"] = self.device.pointer(state), eps
        forward["gamma"], _gamma = self._launcher.given(num_channels, "gamma", gamma)
        forward["beta"], _beta = self._launcher.given(num_channels, "beta", beta)
        forward["relu"], forward["training"] = relu, training
        rows = self.device.empty((_GRADIENT_ROWS, num_channels), np.float64)
        self._backward_reduce(dy, x, forward, mask, rows)
        dx = self._backward_elemt(dy, x, rows, rows[5:9, ...] if relu else None, mask, out)
        return dx, rows[4, ...], rows[9, ...]

    def update_running(
        self,
        moments: Moments,
        mean: Array,
        var: Array,
        weight: float | None,
        *,
        ddof: float = 1,
        number: Array = None,
    ) -> None:
        """As :meth:`normcore.Backend.update_running`, in one launch; nothing waits for it."""
        both = mean, var
        update_running(self._launcher, moments, both, both, weight, ddof=ddof, number=number)

    # -- rows ------------------------------------------------------------------------------

    def normalize_rows(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        *,
        centered: bool = True,
        out: Array = None,
    ) -> tuple[Array, Moments]:
        y, states = self._rows.forward(x, gamma, beta, eps, centered, out)
        return y, self.moments_of(states)

    def normalize_rows_backward(
        self,
        dy: Array,
        x: Array,
        moments: Moments,
        gamma: Array,
        eps: float,
        *,
        centered: bool = True,
        out: Array = None,
    ) -> tuple[Array, Array, Array]:
        states = self._launcher.state(moments)
        return self._rows.backward(dy, x, states, gamma, eps, centered, out)

    # -- vectors ---------------------------------------------------------------------------

    def _relu_rows(self, relu_mask: Affine | None, num_channels: int) -> Array:
        return None if relu_mask is None else self._launcher.coefficients(relu_mask, num_channels)

    def _host_vector(self, value: Array) -> np.ndarray:
        if not isinstance(value, np.ndarray) and hasattr(value, "dtype"):
            value = self.device.to_host(value)
        return np.ascontiguousarray(value, dtype=np.float64)


def _split(values: np.ndarray, sizes: np.ndarray) -> list[list[np.ndarray]]:
    """Cut the values of all ranks and channels (R, C), which lie in this order, into lists."""
    pieces = np.split(values, np.cumsum(sizes.reshape(-1))[:-1]) if sizes.size else []
    num_ranks, num_channels = sizes.shape
    return [pieces[rank * num_channels : (rank + 1) * num_channels] for rank in range(num_ranks)]
