"""Fits a scaler to batches: the columns are observed once, for the scaler and for the report."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from normcore.io.batch import TableBatch
from normcore.io.columns import are_named, check_axis
from normcore.io.quantile_passes import QuantilePasses, learns_quantiles
from normcore.io.streaming.memory import Budget
from normcore.io.streaming.spool import Spool
from normcore.io.table import TableSource
from normcore.io.tally import Tally

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler
    from normcore.statistics.statistic import Statistic

__all__ = ["Fitting", "Frame", "refuse_infinity", "shares_statistic", "values_of"]

# Rows from which on it pays to observe each column where it lies in memory.
_LONG = 1 << 14


class Fitting:
    """A fit that takes batch after batch.

    Parameters
    ----------
    scaler : Scaler
        Stays as it is.
    table : TableSource
    names : tuple of str
        The columns.
    budget : Budget
        Of memory, for the columns where they have to be held all at once.
    spool : Spool
        Makes room for these.

    Attributes
    ----------
    tally : Tally
        Of what was added.
    """

    def __init__(
        self,
        scaler: Scaler,
        table: TableSource,
        names: tuple[str, ...],
        budget: Budget,
        spool: Spool,
    ) -> None:
        check_axis(table, scaler)
        self._learner = copy.copy(scaler)
        self._named = are_named(table, names)
        self._table = table
        self._names = names
        self._budget = budget
        self._spool = spool
        self._shares = shares_statistic(scaler)
        self._streams = self._shares or (
            getattr(scaler, "exact_streaming", False) and hasattr(scaler, "partial_fit")
        )
        self._columns = _Columns()
        self._passes: QuantilePasses | None = None
        self.tally = Tally(len(names), getattr(scaler, "backend", None))
        if not self._streams and table.num_rows is not None:
            dtypes = [field.dtype for field in table.fields if field.name in set(names)]
            width = np.result_type(*(dtype or np.float64 for dtype in dtypes)).itemsize
            nbytes = table.num_rows * len(names) * width
            if nbytes > budget.whole and not self._begin_passes():
                raise self._no_room(nbytes)

    def add(self, batch: TableBatch) -> None:
        """Observe the columns of a batch.

        Raises
        ------
        ValueError
            If they hold infinity, or do not fit in memory and would have to.
        """
        x = values_of(batch, self._names, by_column=self._shares or self._passes is not None)
        place = self.tally.add(x)
        if place is not None:
            refuse_infinity(x, place, batch, self._table, self._names)
        if self._shares or not batch.num_rows:
            return
        if self._passes is not None:
            self._passes.sketch(x)
            return
        assert isinstance(x, np.ndarray)
        if self._streams:
            first = self.tally.num_rows == batch.num_rows
            learn = self._learner.fit if first else self._learner.partial_fit
            learn(self._framed(x))
            return
        while self._passes is None and not self._budget.take(x.nbytes):
            if not self._spool.make_room() and not self._begin_passes():
                raise self._no_room(self.tally.num_rows * len(self._names) * x.itemsize)
        if self._passes is None:
            self._columns.add(x)
        else:
            self._passes.sketch(x)

    def _begin_passes(self) -> bool:
        """Go on without columns in memory, if the table can be read again; else False."""
        if not self._table.reread or not learns_quantiles(self._learner):
            return False
        held = self._columns.taken()
        self._budget.give_back(sum(part.nbytes for part in held))
        self._passes = QuantilePasses(self._learner, self._table, len(self._names), self._budget)
        while held:
            self._passes.sketch(held.pop(0))
        return True

    def begin_pass(self) -> bool:
        """Begin another pass over the table; False if none is needed."""
        return self._passes is not None and self._passes.begin(self.tally.count)

    def add_again(self, batch: TableBatch) -> None:
        """Observe a batch in that pass."""
        assert self._passes is not None
        if batch.num_rows:
            self._passes.add(values_of(batch, self._names, by_column=True))

    def end_pass(self) -> None:
        """End that pass."""
        assert self._passes is not None
        self._passes.end()

    def finish(self) -> Scaler:
        """Return the fitted scaler.

        Raises
        ------
        ValueError
            If there were no rows.
        """
        if not self.tally.num_rows:
            raise ValueError(
                f"{self._table.name} has columns but no rows; there is nothing to fit to"
            )
        statistic: Statistic | None
        if self._shares:
            statistic = self.tally.statistic(self._learner.statistic)
        elif self._passes is not None:
            statistic = self._passes.statistic()
        else:
            if not self._streams:
                self._learner.fit(self._framed(self._columns.joined()))
            return self._learner
        names = np.array(self._names, dtype=object) if self._named else None
        self._learner.fit_statistic(statistic, self.tally.num_rows, len(self._names), names)
        return self._learner

    def _framed(self, x: np.ndarray) -> np.ndarray | Frame:
        return Frame(self._names, x) if self._named else x

    def _no_room(self, nbytes: int) -> ValueError:
        return ValueError(
            f"{self._table.name}: {type(self._learner).__name__} needs all values of its columns "
            f"at once, {nbytes / 2**20:,.0f} MiB or more, and memory_limit leaves "
            f"{self._budget.whole / 2**20:,.0f} MiB of {self._budget.limit / 2**20:,.0f}; allow "
            "more (--memory-limit, memory_limit=) or choose fewer columns (--columns, columns=)"
        )


def shares_statistic(scaler: Scaler) -> bool:
    """Whether the scaler learns nothing but what the tally holds.

    Only the methods of the bases observe what :attr:`Scaler.statistic` says; a subclass that has
    its own may see other values.
    """
    from normcore.scaling.learning import Learning  # slow to import
    from normcore.scaling.scaler import Scaler
    from normcore.scaling.standard import StandardScaler
    from normcore.scaling.weighted_scaler import WeightedScaler
    from normcore.statistics import Extrema, Moments

    kind = type(scaler)
    if not (isinstance(scaler, Scaler) and kind.statistic in (Moments, Extrema, None)):
        return False
    bases = {Learning, Scaler, WeightedScaler, StandardScaler}
    methods = ("fit", "partial_fit", "_fit", "_observed", "observe", "_learn")
    owners = {next(each for each in kind.__mro__ if name in each.__dict__) for name in methods}
    return kind.exact_streaming and owners <= bases


def values_of(
    batch: TableBatch, names: tuple[str, ...], *, by_column: bool
) -> np.ndarray | Sequence[np.ndarray]:
    """Return columns of a batch in one array, or each by itself where that is quicker."""
    if by_column and batch.num_rows >= _LONG:
        return batch.column_arrays(names)
    return batch.matrix(names)


def refuse_infinity(
    x: np.ndarray | Sequence[np.ndarray],
    place: tuple[int, int],
    batch: TableBatch,
    table: TableSource,
    names: tuple[str, ...],
) -> None:
    """Raise a ValueError that names the place of an infinite value."""
    row, column = place
    values = x.T if isinstance(x, np.ndarray) else x
    value = "infinity" if values[column][row] > 0 else "-infinity"
    raise ValueError(
        f"{table.name}: column {names[column]!r} holds {value}, first in row "
        f"{batch.first_row + row + 1} of the data; remove the row or leave the cell empty"
    )


class _Columns:
    """Rows that are gathered for one array, column after column in memory."""

    #: Arrays of more than this go back to the system as soon as they are freed.
    _PIECE_BYTES = 48 << 20

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []
        self._parts: list[np.ndarray] = []
        self._bytes = 0

    def add(self, x: np.ndarray) -> None:
        self._parts.append(x)
        self._bytes += x.nbytes
        if self._bytes > self._PIECE_BYTES:
            self._pieces.append(_joined(self._parts))
            self._bytes = 0

    def taken(self) -> list[np.ndarray]:
        """Return the rows in pieces, and let go of them."""
        pieces = self._pieces + self._parts
        self._pieces, self._parts = [], []
        return pieces

    def joined(self) -> np.ndarray:
        """Return all rows, and let go of them."""
        if self._parts:
            self._pieces.append(_joined(self._parts))
        return _joined(self._pieces)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Put rows together, letting go of each part that is copied."""
    if len(parts) == 1:
        return parts.pop()
    dtype = np.result_type(*{part.dtype for part in parts})
    whole = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype, order="F")
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


class Frame:
    """A matrix with column names, as far as scalers ask a data frame for them."""

    def __init__(self, columns: Sequence[str], values: np.ndarray) -> None:
        self.columns = columns
        self.shape = values.shape
        self.dtypes = [values.dtype] * len(columns)
        self._values = values

    def to_numpy(self) -> np.ndarray:
        """Return the matrix."""
        return self._values
