"""The host logic of every kernel, once, against the device protocol.

Nothing here waits for the device but :meth:`DeviceBackend.brackets`, which has to know how much
it keeps; :meth:`DeviceBackend.bracket_steps` leaves the waiting to its caller. Vectors of length C
that go into kernels are rows of one float64 array; states come out as the rows of one.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from normcore.affine import Affine
from normcore.array_backend.abstract import Backend, is_relu
from normcore.layout.namespace import Array
from normcore.statistics import Extrema, Moments
from normcore.statistics.brackets import Brackets
from normcore.statistics.statistic import StatisticT
from normcore_cupy.counting import Counting
from normcore_cupy.device import Device
from normcore_cupy.launcher import Launcher, dtype_name
from normcore_cupy.plan import ELEMENTWISE, REDUCTION, of_columns, of_merge, plan

__all__ = ["DeviceBackend"]

_STATE_ROWS = 7  # of moments


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

    # -- statistics ------------------------------------------------------------------------

    def moments(self, x: Array, *, weights: Array = None, skipna: bool = False) -> Moments:
        return Moments(self._moments(x, weights, skipna))

    def _moments(self, x: Array, weights: Array, skipna: bool) -> Array:
        """Return the (7, C) state."""
        dtypes = dtype_name(x), "float64"
        num_channels = x.shape[1]
        if 0 in x.shape:
            return self.device.zeros((_STATE_ROWS, num_channels), np.float64)
        over = plan(x, REDUCTION)
        parts = self.device.empty((over.ranges, _STATE_ROWS, num_channels), np.float64)
        plane = self._launcher.plane(weights, "float64", x)
        planes = () if plane is None else (plane,)
        kernel = "moments" if plane is None else "moments_weighted"
        self._launcher.launch(
            kernel, dtypes, over, (x, *planes), np.int32(skipna), over.per_range, parts
        )
        return self._merged_moments(dtypes, None, parts)

    def _merged_moments(self, dtypes: tuple[str, str], first: Array, parts: Array) -> Array:
        """Merge (ranges, 7, C) states, in order, after the state ``first``."""
        ranges, _, num_channels = parts.shape
        out = self.device.empty((_STATE_ROWS, num_channels), np.float64)
        self._launcher.run(
            "merge_moments", dtypes, *of_merge(num_channels, ranges),
            first, parts, np.int64(ranges), np.int64(num_channels), out,
        )  # fmt: skip
        return out

    def extrema(self, x: Array, *, skipna: bool = False) -> Extrema:
        dtypes = dtype_name(x), "float64"
        num_samples, num_channels, num_inner = x.shape
        if 0 in x.shape:
            return Extrema.empty(num_channels, self.xp)
        over = plan(x, REDUCTION)
        parts = self.device.empty((over.ranges, 3, num_channels), np.float64)
        out = self.device.empty((3, num_channels), np.float64)
        self._launcher.launch("extrema", dtypes, over, (x,), over.per_range, parts)
        required = 0.0 if skipna else float(num_samples * num_inner)
        self._launcher.run(
            "merge_extrema", dtypes, *of_merge(num_channels, over.ranges),
            parts, np.int64(over.ranges), np.int64(num_channels), np.float64(required), out,
        )  # fmt: skip
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
                inside[: len(there)] = map(np.array, there)
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

    def merge(self, statistic: StatisticT, other: StatisticT) -> StatisticT:
        if not (isinstance(statistic, Moments) and isinstance(other, Moments)):
            return statistic.merge(other)
        if type(other) is not type(statistic) or statistic.parts.shape != other.parts.shape:
            return statistic.merge(other)
        if isinstance(statistic.parts, np.ndarray):
            return statistic.merge(other)
        if 0 in statistic.parts.shape:
            return statistic
        first, second = (self._launcher.state(each) for each in (statistic, other))
        second = second.reshape(1, *second.shape)
        return type(statistic)(self._merged_moments(("float64", "float64"), first, second))

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
        vectors = self._launcher.vectors(x.shape[1], _coefficients(affine))
        return self._rescale(x, vectors, clip, relu, mask, out)

    def _rescale(
        self,
        x: Array,
        vectors: Array,
        clip: tuple[float, float] | None,
        relu: bool,
        mask: Array,
        out: Array,
    ) -> Array:
        out, dtypes = self._launcher.result(x, out)
        if 0 not in x.shape:
            low, high = (-math.inf, math.inf) if clip is None else clip
            over = plan(x, ELEMENTWISE)
            self._launcher.launch(
                "rescale", dtypes, over, (x, out, self._launcher.plane(mask, "bool", x)), vectors,
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
        sums = self._backward_reduce(dy, x, vectors, self._relu_rows(relu_mask, num_channels), mask)
        return sums[0], sums[1]

    def _backward_reduce(
        self, dy: Array, x: Array, vectors: Array, relu_rows: Array, mask: Array
    ) -> Array:
        """Return the sums (2, C); the first row of ``vectors`` is the mean."""
        dy, x = self._launcher.of_one_dtype(dy, x)
        dtypes, num_channels = (dtype_name(x), "float64"), x.shape[1]
        if 0 in x.shape:
            return self.device.zeros((2, num_channels), np.float64)
        over = plan(x, REDUCTION)
        parts = self.device.empty((over.ranges, 4, num_channels), np.float64)
        self._launcher.launch(
            "backward_reduce", dtypes, over, (dy, x, self._launcher.plane(mask, "bool", x)),
            vectors, relu_rows, over.per_range, parts,
        )  # fmt: skip
        sums = self.device.empty((2, num_channels), np.float64)
        self._launcher.run(
            "merge_backward", dtypes, *of_merge(num_channels, over.ranges),
            parts, np.int64(over.ranges), np.int64(num_channels), sums,
        )  # fmt: skip
        return sums

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
            over = plan(x, ELEMENTWISE)
            planes = dy, x, out, self._launcher.plane(mask, "bool", x)
            dtypes = dtype_name(x), dtype_name(out)
            self._launcher.launch(
                "backward_elemt", dtypes, over, planes, vectors, relu_rows, over.per_range
            )
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
        """Four launches, and no wait: a channel without values is NaN."""
        relu = is_relu(activation)
        scaling = self._launcher.vectors(x.shape[1], {"gamma": gamma, "beta": beta})
        state = self._moments(x, mask, False)
        affine = self._batch_affine(x, state, scaling, eps)
        return self._rescale(x, affine, None, relu, mask, out), Moments(state)

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
        """Five launches, and no wait."""
        num_channels = x.shape[1]
        scaling = self._launcher.vectors(num_channels, {"gamma": gamma, "beta": beta})
        state = self._launcher.state(moments)
        affine = self._batch_affine(x, state, scaling, eps)
        relu_rows = affine if is_relu(activation) else None
        sums = self._backward_reduce(dy, x, affine, relu_rows, mask)
        vectors = self.device.empty((5, num_channels), np.float64)
        if num_channels:
            self._launcher.run(
                "gradient_vectors", (dtype_name(x), "float64"), *of_columns(num_channels), state,
                affine, sums, np.int32(training), np.int64(num_channels), vectors,
            )  # fmt: skip
        dx = self._backward_elemt(dy, x, vectors, relu_rows, mask, out)
        return dx, vectors[4], sums[0]

    def _batch_affine(self, x: Array, state: Array, scaling: Array, eps: float) -> Array:
        """Return center, scale, gamma and beta (4, C) of a batch with these moments."""
        num_channels = x.shape[1]
        affine = self.device.empty((4, num_channels), np.float64)
        if num_channels:
            self._launcher.run(
                "batch_affine", (dtype_name(x), "float64"), *of_columns(num_channels), state,
                scaling, np.float64(eps), np.int64(num_channels), affine,
            )  # fmt: skip
        return affine

    # -- vectors ---------------------------------------------------------------------------

    def _relu_rows(self, relu_mask: Affine | None, num_channels: int) -> Array:
        return (
            None
            if relu_mask is None
            else self._launcher.vectors(num_channels, _coefficients(relu_mask))
        )

    def _host_vector(self, value: Array) -> np.ndarray:
        if not isinstance(value, np.ndarray) and hasattr(value, "dtype"):
            value = self.device.to_host(value)
        return np.ascontiguousarray(value, dtype=np.float64)


def _coefficients(affine: Affine) -> dict[str, Array]:
    return {name: getattr(affine, name) for name in ("center", "scale", "gamma", "beta")}


def _split(values: np.ndarray, sizes: np.ndarray) -> list[list[np.ndarray]]:
    """Cut the values of all ranks and channels (R, C), which lie in this order, into lists."""
    pieces = np.split(values, np.cumsum(sizes.reshape(-1))[:-1]) if sizes.size else []
    num_ranks, num_channels = sizes.shape
    return [pieces[rank * num_channels : (rank + 1) * num_channels] for rank in range(num_ranks)]
