"""What runs on the pieces of a table, and how their states merge: written once for all engines.

A task is small and can be pickled. The states that it makes are those of statistics, dicts of
arrays; a piece itself goes nowhere.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.layout.namespace import Array, to_numpy
from normcore.scaling import input_validation
from normcore.scaling.containers.frames import check_same_columns, column_names
from normcore.scaling.containers.opening import opened
from normcore.scaling.input_validation import Names
from normcore.statistics import Extrema, QuantileSketch, Statistic
from normcore.statistics.kept_brackets import BracketPlan, KeptBrackets
from normcore.statistics.reread_quantiles import sampled_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcore.scaling.quantile_learner import QuantileLearner
    from normcore.scaling.scaler import Scaler

__all__ = [
    "BracketTask",
    "ObserveTask",
    "Piece",
    "SketchTask",
    "State",
    "Task",
    "counted_rows",
    "failures_named",
    "merged_states",
    "raise_failed",
    "release_memory_of_arrow",
    "weights_of",
]

#: What is known of some pieces: the states of statistics, by what they are for.
State: TypeAlias = dict[str, dict[str, np.ndarray]]

ROWS, STATISTIC, SKETCH, KEPT, BRACKETS = "rows", "statistic", "sketch", "kept", "brackets"
EXTREMA = "extrema"
_SUMS = "seen", "weight"  # what is known of rows and adds up


class Piece(NamedTuple):
    """Which piece of a table something is.

    Attributes
    ----------
    label : str
        What errors call it.
    first_column, last_column : int
        Its columns are those from the first up to the last, which is not among them; None where
        they are all.

    Examples
    --------
    >>> from normcore.engines import Piece
    >>> Piece("chunk (0, 1) of X", first_column=5).label
    'chunk (0, 1) of X'
    """

    label: str = "a partition"
    first_column: int = 0
    last_column: int | None = None

    @property
    def columns(self) -> slice:
        """Its columns."""
        return slice(self.first_column, self.last_column)


#: Some piece, of all columns.
SOME = Piece()


class Task(ABC):
    """What is to be found in a table.

    Parameters
    ----------
    scaler : Scaler
        Whose statistic it is about.
    names : sequence of str or None
        Of the columns.
    num_columns : int

    Examples
    --------
    >>> from normcore.engines import Task
    >>> sorted(Task.__abstractmethods__)  # beside partial and merge, which engines call
    ['merged', 'observed']
    """

    def __init__(self, scaler: Scaler, names: Names | None, num_columns: int) -> None:
        self.scaler: Any = type(scaler)(**scaler.get_params(deep=False))  # without what it learned
        self.names, self.num_columns = names, num_columns

    def partial(self, chunk: Array, piece: Piece = SOME, weights: Array = None) -> State:
        """Return the state of a piece; one without rows is neutral.

        Parameters
        ----------
        chunk : array, data frame, sparse matrix or what else a scaler takes
        piece : Piece
            Which it is of the table.
        weights : array of shape (n,), optional
            One for each row.

        Raises
        ------
        ValueError, TypeError, MemoryError, RuntimeError
            Whatever went wrong, naming the piece.
        """
        release_memory_of_arrow()
        with failures_named(piece.label):
            num_rows = chunk.shape[0] if hasattr(chunk, "shape") else len(chunk)
            if not num_rows:
                return counted_rows(0)
            return self.observed(chunk, piece, weights)

    @abstractmethod
    def observed(self, chunk: Array, piece: Piece, weights: Array) -> State:
        """Return the state of a piece with rows; as for :meth:`partial`."""

    def merge(self, states: Sequence[State]) -> State:
        """Return the state of several pieces of the same columns.

        Parameters
        ----------
        states : sequence of State
        """
        rows = [each[ROWS] for each in states]
        with np.errstate(over="ignore"):
            total = {name: np.sum([each[name] for each in rows]) for name in _SUMS}
        merged: State = {ROWS: total | {"heaviest": np.max([each["heaviest"] for each in rows])}}
        for name in {name for each in states for name in each} - {ROWS}:
            found = [each[name] for each in states if name in each]
            merged[name] = found[0] if len(found) == 1 else self.merged(name, found)
        return merged

    @abstractmethod
    def merged(self, name: str, states: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return what two states or more of the same name are together.

        Parameters
        ----------
        name : str
        states : list of dict
            What pieces have under that name.
        """

    def values(self, chunk: Array, piece: Piece) -> Array:
        """Return a piece as an array of numbers, of the right columns; as for :meth:`partial`."""
        self.check_columns(column_names(chunk), None, piece)
        values = input_validation.as_table(chunk, type(self.scaler).__name__)
        self.check_columns(None, values.shape[1], piece)
        return values

    def dense_values(self, chunk: Array, piece: Piece) -> np.ndarray:
        """Return a piece as floats on the host, for exact quantiles; as for :meth:`partial`."""
        if opened(chunk, type(self.scaler).__name__) is not None:
            raise TypeError(
                "exact quantiles are found of dense pieces; quantiles='sketch' takes others"
            )
        values = to_numpy(self.values(chunk, piece))
        return values if values.dtype.kind == "f" else values.astype(np.float64)

    def check_columns(self, names: Names | None, number: int | None, piece: Piece) -> None:
        """Refuse a piece of other columns than the table has; the piece as for :meth:`partial`.

        Parameters
        ----------
        names : sequence of str or None
        number : int or None
            Of its columns, as far as they are known.
        """
        expected = None if self.names is None else self.names[piece.columns]
        check_same_columns(names, expected)
        width = len(range(self.num_columns)[piece.columns])
        if number is not None and number != width:
            raise ValueError(f"it has {number} columns, and the table has {width}")

    @contextmanager
    def naming_infinity(self, values: Array, piece: Piece, weights: Array = None) -> Iterator[None]:
        """Name the column of an infinite value by its place in the table; as for :meth:`partial`.

        Parameters
        ----------
        values : array of shape (n, number of columns)
            What is looked through where the block raises ValueError.
        """
        try:
            yield
        except ValueError:
            place = input_validation.first_infinity(to_numpy(values), np, weights)
            if place is None:
                raise
            row, column = place
            raise input_validation.infinity_error(
                row, piece.first_column + column, self.names
            ) from None


class ObserveTask(Task):
    """The statistic of a scaler that merges."""

    def observed(self, chunk: Array, piece: Piece, weights: Array) -> State:
        """See :meth:`Task.observed`."""
        names = None if self.names is None else self.names[piece.columns]
        table = opened(chunk, type(self.scaler).__name__)
        if table is not None:
            self.check_columns(table.names, table.shape[1], piece)
            table.is_whole = False
            weights = weights_of(weights, table.shape[0])
            statistic = table.observed(self.scaler, weights)
            num_rows = table.num_rows
        else:
            values = self.values(chunk, piece)
            num_rows = values.shape[0]
            weights = weights_of(weights, num_rows)
            with self.naming_infinity(values, piece, weights):
                statistic = self.scaler._observed(values, weights, names)
        state = counted_rows(num_rows, weights)
        if statistic is not None:
            state[STATISTIC] = statistic.to_state()
        return state

    def merged(self, name: str, states: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """See :meth:`Task.merged`."""
        return merged_states(self.scaler.statistic, states)

    def statistic(self, states: Sequence[State]) -> Statistic | None:
        """Return the statistic of all columns from the states of blocks of them."""
        kind: type[Statistic] | None = self.scaler.statistic
        if kind is None or STATISTIC not in states[0]:
            return None
        return kind.side_by_side([kind.from_state(each[STATISTIC]) for each in states])


class _QuantileTask(Task):
    """What finds exact quantiles, in passes."""

    def observed(self, chunk: Array, piece: Piece, weights: Array) -> State:
        """See :meth:`Task.observed`."""
        values = self.dense_values(chunk, piece)
        backend = select_backend(values, self.scaler.backend)
        state = counted_rows(values.shape[0])
        with self.naming_infinity(values, piece):
            state.update(self.observed_values(backend, backend.adopt(values)[:, :, None], piece))
        return state

    @abstractmethod
    def observed_values(self, backend: Any, x: Array, piece: Piece) -> State:
        """Return the state of an ``(N, C, 1)`` view."""


class SketchTask(_QuantileTask):
    """The sketch of a first pass, and the one to keep, if one is.

    Parameters
    ----------
    error : float
        Rank error of the first.
    stride : int
        It is of one row in so many; what is counted is all.

    Attributes
    ----------
    finds_extrema : bool
        Whether it also finds the extrema, which count the values and tell of infinity.
    """

    scaler: QuantileLearner

    def __init__(
        self,
        scaler: Scaler,
        names: Names | None,
        num_columns: int,
        error: float,
        stride: int = 1,
    ) -> None:
        super().__init__(scaler, names, num_columns)
        self.error, self.stride = error, stride
        self.finds_extrema = True

    def observed_values(self, backend: Any, x: Array, piece: Piece) -> State:
        """See :meth:`_QuantileTask.observed_values`."""
        state: State = {}
        if self.finds_extrema:
            extrema = Extrema.observe(backend, x, skipna=True)
            if np.isinf(extrema.min).any() or np.isinf(extrema.max).any():
                raise ValueError("Input X contains infinity")  # whose place is found then
            state[EXTREMA] = extrema.to_state()
        some = sampled_rows(x, self.stride)
        sketch = QuantileSketch.observe(backend, some, skipna=True, error=self.error)
        state[SKETCH] = sketch.to_state()
        if self.scaler.keep_sketch:
            error = self.scaler.quantile_error
            kept = QuantileSketch.observe(backend, x, skipna=True, error=error)
            state[KEPT] = kept.to_state()
        return state

    def merged(self, name: str, states: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """See :meth:`Task.merged`."""
        return merged_states(Extrema if name == EXTREMA else QuantileSketch, states)

    def sketch(self, states: Sequence[State], name: str = SKETCH) -> QuantileSketch | None:
        """Return the sketch of all columns from the states of blocks of them."""
        found = [QuantileSketch.from_state(each[name]) for each in states if name in each]
        return QuantileSketch.side_by_side(found) if found else None

    def count(self, states: Sequence[State]) -> np.ndarray:
        """Return the number of values of all columns."""
        return np.concatenate([each[EXTREMA]["count"] for each in states])


class BracketTask(_QuantileTask):
    """What lies around and inside brackets, in a later pass.

    Parameters
    ----------
    plan : BracketPlan
    """

    def __init__(
        self, scaler: Scaler, names: Names | None, num_columns: int, plan: BracketPlan
    ) -> None:
        super().__init__(scaler, names, num_columns)
        self.plan = plan

    def observed_values(self, backend: Any, x: Array, piece: Piece) -> State:
        """See :meth:`_QuantileTask.observed_values`."""
        seen = KeptBrackets(self.plan.select(piece.columns))
        seen.observe(backend, x)
        return {BRACKETS: seen.to_state(piece.first_column)}

    def merged(self, name: str, states: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """See :meth:`Task.merged`."""
        # Pieces of a block of columns know of no others.
        first = int(states[0]["first_channel"])
        block = slice(first, first + len(states[0]["count"]))
        own = [{**state, "first_channel": np.array(0)} for state in states]
        return _joined(self.plan.select(block), own).to_state(first)

    def brackets(self, states: Sequence[State]) -> KeptBrackets:
        """Return what was seen of all columns from the states of blocks of them."""
        return _joined(self.plan, [each[BRACKETS] for each in states if BRACKETS in each])


def _joined(plan: BracketPlan, states: list[dict[str, np.ndarray]]) -> KeptBrackets:
    total = KeptBrackets(plan)
    for state in states:
        total.merge(KeptBrackets.from_state(plan, state))
    return total


@contextmanager
def failures_named(label: str) -> Iterator[None]:
    """Name the piece of a table in whatever goes wrong there."""
    try:
        yield
    except Exception as error:
        raise_failed(label, error)


def raise_failed(label: str, error: Exception) -> NoReturn:
    """Raise the error of a piece, which names it."""
    said = str(error) or type(error).__name__
    if said.startswith(f"{label}: "):
        raise error
    for kind in (TypeError, ValueError, MemoryError):
        if isinstance(error, kind):
            raise kind(f"{label}: {said}") from error
    raise RuntimeError(f"{label}: {type(error).__name__}: {said}") from error


def counted_rows(number: int, weights: np.ndarray | None = None) -> State:
    """Return the state of some rows: how many they are, and what they weigh."""
    given = np.broadcast_to(1.0, number) if weights is None else weights
    with np.errstate(over="ignore"):
        found = number, given.sum(), given.max(initial=0.0)
    return {ROWS: dict(zip((*_SUMS, "heaviest"), np.array(found, dtype=float), strict=True))}


def weights_of(weights: Array, num_rows: int) -> Array:
    """Return the weights of the rows of a piece, if there are any; they may all be zero."""
    if weights is None:
        return None
    given = weights.to_numpy() if hasattr(weights, "to_numpy") else weights
    return input_validation.host_weights(given, num_rows, of_all=False)


def release_memory_of_arrow() -> None:
    """Give back what Arrow's pool has kept of reading the piece.

    A worker that counts its memory might else pause for it, and would never go on again.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()


def merged_states(
    kind: type[Statistic], states: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the state that those of statistics of a kind are together."""
    total = kind.from_state(states[0])
    for state in states[1:]:
        total = total.merge(kind.from_state(state))
    return total.to_state()
