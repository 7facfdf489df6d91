"""What finds exact quantiles of weighted tables, in passes over their pieces."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.engines.task import (
    ROWS,
    Piece,
    State,
    Task,
    counted_rows,
    merged_states,
    weights_of,
)
from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.input_validation import Names
from normcore.scaling.quantile_learner import fractions_error
from normcore.statistics import Extrema, MergeableQuantiles, QuantileSketch
from normcore.statistics.exact_weights import UNIT, as_floats, exact_sum, from_floats, rounded
from normcore.statistics.quantile_interpolation import as_quantiles
from normcore.statistics.reread_weighted import RereadWeighted
from normcore.statistics.weight_planes import WeightPlanes
from normcore.statistics.weighted_brackets import WeightedBrackets, WeightedPlan
from normcore.statistics.weighted_quantiles import InvertedCDF, RepeatedInterpolation
from normcore.statistics.weighted_sample import SampledColumn, WeightedSample

__all__ = ["WeightedBracketTask", "WeightedSampleTask", "sample_rows", "weighted_quantiles"]

_SAMPLE, _WEIGHTS, _KEPT, _BRACKETS = "sample", "weights", "kept", "brackets"
# Rows of a sample where nobody knows of how many, and of a sample of one row.
_USUAL_ROWS = 1 << 16
_SAMPLE_ROWS = 5.0
_NUMBERS_BESIDE = 2  # of a row of a sample: its weight and its priority
_LEAST_ROWS = 64


class _WeightedTask(Task):
    def observed(self, chunk: Array, piece: Piece, weights: Array) -> State:
        """See :meth:`Task.observed`."""
        values = self.dense_values(chunk, piece)
        given = weights_of(weights, values.shape[0])
        if not given.all():  # what weighs nothing may be anything
            values = np.where(given[:, None] > 0, values, np.array(np.nan, values.dtype))
        state = counted_rows(values.shape[0], given)
        with self.naming_infinity(values, piece):
            backend = select_backend(values, self.scaler.backend)
            x = backend.adopt(values)[:, :, None]
            try:
                state.update(self.observed_values(backend, x, given, piece))
            except OverflowError:
                raise input_validation.too_heavy_error() from None
        return state

    @abstractmethod
    def observed_values(self, backend: Any, x: Array, weights: np.ndarray, piece: Piece) -> State:
        """Return the state of an ``(N, C, 1)`` view, in which NaN is what weighs nothing."""

    def merge(self, states: Sequence[State]) -> State:
        """See :meth:`Task.merge`."""
        try:
            return super().merge(states)
        except OverflowError:
            raise input_validation.too_heavy_error() from None


class WeightedSampleTask(_WeightedTask):
    """The sample of a first pass, what all values weigh, and the sketch to keep, if one is.

    Parameters
    ----------
    capacity : int
        Rows of the sample at most.
    """

    def __init__(self, scaler: Any, names: Names | None, num_columns: int, capacity: int) -> None:
        super().__init__(scaler, names, num_columns)
        self.capacity = capacity

    def observed_values(self, backend: Any, x: Array, weights: np.ndarray, piece: Piece) -> State:
        """See :meth:`_WeightedTask.observed_values`."""
        extrema = Extrema.observe(backend, x, skipna=True)
        if np.isinf(extrema.min).any() or np.isinf(extrema.max).any():
            raise ValueError("Input X contains infinity")  # whose place is found then
        rows = np.asarray(backend.release(x, np.empty(0)))[weights > 0, :, 0].astype(np.float64)
        sample = WeightedSample.of(
            rows, weights[weights > 0], capacity=self.capacity, seed=_seed(piece)
        )
        are_whole = bool(np.all(weights == np.floor(weights)))
        state: State = {
            _SAMPLE: sample.to_state(),
            _WEIGHTS: {
                "sum": as_floats(np.array([exact_sum(weights)], dtype=object)),
                "are_whole": np.array(float(are_whole)),
                "heaviest": np.array(weights.max(initial=0.0)),
            },
        }
        if self.scaler.keep_sketch:
            if not are_whole:
                raise fractions_error(type(self.scaler).__name__)
            plane = backend.adopt(weights[:, None])
            error = self.scaler.quantile_error
            kept = QuantileSketch.observe(backend, x, weights=plane, skipna=True, error=error)
            state[_KEPT] = kept.to_state()
        return state

    def merged(self, name: str, states: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """See :meth:`Task.merged`."""
        if name == _KEPT:
            return merged_states(QuantileSketch, states)
        if name == _SAMPLE:
            samples = [WeightedSample.from_state(each, self.capacity) for each in states]
            return WeightedSample.merge_all(samples).to_state()
        return {
            "sum": as_floats(np.sum([from_floats(each["sum"]) for each in states], axis=0)),
            "are_whole": np.min([each["are_whole"] for each in states]),
            "heaviest": np.max([each["heaviest"] for each in states]),
        }

    def columns(self, states: Sequence[State]) -> list[SampledColumn]:
        """Return the samples of all columns from the states of blocks of them."""
        samples = [WeightedSample.from_state(each[_SAMPLE], self.capacity) for each in states]
        return [each.column(i) for each in samples for i in range(each.values.shape[1])]

    def kept(self, states: Sequence[State]) -> QuantileSketch | None:
        """Return the sketch of all columns that is to be kept, if one is."""
        found = [QuantileSketch.from_state(each[_KEPT]) for each in states if _KEPT in each]
        return QuantileSketch.side_by_side(found) if found else None


class WeightedBracketTask(_WeightedTask):
    """What lies around and inside brackets, in a later pass.

    Parameters
    ----------
    plan : WeightedPlan
    """

    def __init__(
        self, scaler: Any, names: Names | None, num_columns: int, plan: WeightedPlan
    ) -> None:
        super().__init__(scaler, names, num_columns)
        self.plan = plan

    def observed_values(self, backend: Any, x: Array, weights: np.ndarray, piece: Piece) -> State:
        """See :meth:`_WeightedTask.observed_values`."""
        plan = self.plan.select(piece.columns)
        planes = WeightPlanes(backend, backend.adopt(weights[:, None]))
        found = planes.brackets(x, plan.lower, plan.upper, skipna=True)
        seen = WeightedBrackets.of(plan, found, _seed(piece))
        return {_BRACKETS: {**seen.to_state(), "first_channel": np.array(piece.first_column)}}

    def merged(self, name: str, states: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """See :meth:`Task.merged`."""
        parts = [self._brackets(each) for each in states]
        merged = WeightedBrackets.merge_all(parts[0].plan, parts)
        return {**merged.to_state(), "first_channel": states[0]["first_channel"]}

    def _brackets(self, state: dict[str, np.ndarray]) -> WeightedBrackets:
        first, number = int(state["first_channel"]), state["total"].shape[1]
        return WeightedBrackets.from_state(self.plan.select(slice(first, first + number)), state)

    def brackets(self, states: Sequence[State]) -> WeightedBrackets:
        """Return what was seen of all columns from the states of blocks of them."""
        blocks = [self._brackets(each[_BRACKETS]) for each in states]
        return WeightedBrackets.side_by_side(self.plan, blocks)


def _seed(piece: Piece) -> int:
    """Return a number that other pieces do not have."""
    return zlib.crc32(piece.label.encode())


def weighted_quantiles(
    run: Callable[[Task], list[State]],
    scaler: Any,
    names: Names | None,
    num_columns: int,
    num_rows: int | None,
    state_bytes: int,
) -> tuple[MergeableQuantiles | None, dict[str, np.ndarray]]:
    """Return exact quantiles of a weighted table, and how many rows there are.

    Parameters are those of :func:`normcore.engines.table.exact_quantiles`; ``run`` gives tasks the
    weights.

    Raises
    ------
    ValuesChanged
        If the table holds other values in another pass.
    ValueError
        If it holds infinity, or weights are of no use.
    """
    first = WeightedSampleTask(
        scaler, names, num_columns, sample_rows(num_rows, num_columns, state_bytes)
    )
    states = run(first)
    rows = states[0][ROWS]
    if not rows["heaviest"]:
        return None, rows
    weights = states[0][_WEIGHTS]
    (total,) = from_floats(weights["sum"])
    (rounded_total,) = rounded(np.array([total], dtype=object))
    input_validation.check_sum_of_weights(rounded_total, float(weights["heaviest"]))
    repeat = bool(weights["are_whole"]) and total < UNIT << 53
    if scaler.keep_sketch and not repeat:
        raise fractions_error(type(scaler).__name__)
    passes = RereadWeighted(
        RepeatedInterpolation() if repeat else InvertedCDF(),
        scaler.ranks(),
        first.columns(states),
        state_bytes // 8,
    )
    while (plan := passes.plan()) is not None:
        task = WeightedBracketTask(scaler, names, num_columns, plan)
        passes.learn(task.brackets(run(task)))
    found = scaler.statistic(
        as_quantiles(scaler.ranks()),
        passes.values,
        passes.count,
        np.zeros(num_columns),
        first.kept(states),
    )
    return found, rows


def sample_rows(num_rows: int | None, num_columns: int, state_bytes: int) -> int:
    """Return of how many rows a sample is: what it and the next pass take is least together."""
    wanted = _USUAL_ROWS if num_rows is None else int(_SAMPLE_ROWS * num_rows ** (2 / 3))
    return max(_LEAST_ROWS, min(wanted, state_bytes // (8 * (num_columns + _NUMBERS_BESIDE))))
