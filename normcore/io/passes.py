"""One pass over a table: batch by batch, counted, and watched for changes of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from normcore.io.batch import TableBatch
from normcore.io.digits import LostDigits
from normcore.io.fitting import Fitting, Frame, refuse_infinity
from normcore.io.report import Progress, ProgressCallback
from normcore.io.sink import Sink
from normcore.io.streaming.memory import Budget
from normcore.io.streaming.prefetch import Read, prefetched
from normcore.io.streaming.spool import Spool
from normcore.io.table import TableSource
from normcore.io.tally import Tally

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler

__all__ = ["Passes"]


class Passes:
    """The passes of one run over one table.

    Parameters
    ----------
    table : TableSource
    memory_limit : int
        Bytes.
    batch_rows : int, optional
        Rows of a batch at most.
    progress : callable, optional
        Called with a :class:`Progress` after each batch.

    Attributes
    ----------
    budget : Budget
    """

    def __init__(
        self,
        table: TableSource,
        memory_limit: int,
        batch_rows: int | None,
        progress: ProgressCallback | None,
    ) -> None:
        self.budget = Budget(memory_limit)
        table.batch_bytes = self.budget.batch_bytes
        self._table = table
        self._batch_rows = batch_rows
        self._progress = progress
        self._fingerprint = table.fingerprint()
        self._num_rows = table.num_rows

    def kept_in(self, numeric: tuple[str, ...]) -> Literal["nothing", "memory", "file"]:
        """Return where a first pass should keep its batches for the second one."""
        table = self._table
        if not table.reread:
            return "file"
        if table.kept_in == "memory" and table.kept_bytes(numeric) > self.budget.whole:
            return "nothing"  # it will not fit, and a first pass of fewer columns is quicker
        return table.kept_in

    def read(self, numeric: tuple[str, ...], spool: Spool) -> None:
        """Put all batches into the spool."""
        with self._batches("read", self._table_batches(numeric, others=True)) as batches:
            for batch in batches:
                spool.add(batch)
                del batch

    def fit(
        self, numeric: tuple[str, ...], names: tuple[str, ...], scaler: Scaler, spool: Spool
    ) -> tuple[Scaler, Tally]:
        """Return a copy of the scaler that is fitted to columns, and what these hold.

        Where memory does not hold what the scaler needs at once, the table may be read again.

        Parameters
        ----------
        numeric : tuple of str
            The columns that the next pass will need as numbers.
        names : tuple of str
            Those to fit to.
        scaler : Scaler
        spool : Spool
            Keeps the batches for the next pass, if it does.
        """
        fitting = Fitting(scaler, self._table, names, self.budget, spool)
        source = self._table_batches(numeric if spool.keeps else names, others=spool.keeps)
        with self._name_in_errors():
            with self._batches("fit", source) as batches:
                for batch in batches:
                    fitting.add(batch)
                    spool.add(batch)
                    del batch
            source = self._table_batches(names, others=False)
            while fitting.begin_pass():
                with self._batches("fit", source) as batches:
                    for batch in batches:
                        fitting.add_again(batch)
                        del batch
                fitting.end_pass()
        return fitting.finish(), fitting.tally

    @contextmanager
    def looking(
        self, step: str, names: tuple[str, ...], spool: Spool, *, again: bool = False
    ) -> Iterator[Iterator[TableBatch]]:
        """Yield the batches of a pass that only looks at columns.

        Parameters
        ----------
        step : str
            What :class:`Progress` calls the pass.
        names : tuple of str
        spool : Spool
            Is given the batches, if it keeps them.
        again : bool
            Whether this is the second pass, which reads what the spool has kept.
        """
        kept = again and spool.keeps
        source = spool.batches if kept else self._table_batches(names, others=False)
        with self._name_in_errors(), self._batches(step, source, again=kept) as batches:
            yield batches if again else self._keeping(batches, spool)

    def _keeping(self, batches: Iterator[TableBatch], spool: Spool) -> Iterator[TableBatch]:
        for batch in batches:
            spool.add(batch)
            yield batch
            del batch

    def transform(
        self,
        numeric: tuple[str, ...],
        names: tuple[str, ...],
        scaler: Scaler,
        sink: Sink,
        spool: Spool,
        *,
        inverse: bool,
        before: Tally | None = None,
    ) -> tuple[Tally, Tally]:
        """Write the table with columns transformed; return what they held, and hold now.

        Parameters
        ----------
        numeric : tuple of str
            The columns that are needed as numbers.
        names : tuple of str
            Those to transform.
        scaler : Scaler
        sink : Sink
        spool : Spool
            Where the batches are, if it keeps them.
        inverse : bool
            Whether to undo the transform instead.
        before : Tally, optional
            What the columns hold, if the scaler was fitted to them.
        """
        known = before is not None
        held, after = before or Tally(len(names)), Tally(len(names))
        source = spool.batches if spool.keeps else self._table_batches(numeric, others=True)
        max_bytes = 2 * self.budget.batch_bytes
        with self._name_in_errors(), sink.open(self._table, max_bytes) as output:
            with self._batches("transform", source, again=spool.keeps) as batches:
                for batch in batches:
                    x = batch.matrix(names)
                    place = None if known else held.add(x)
                    if place is not None:
                        refuse_infinity(x, place, batch, self._table, names)
                    y = _transformed(x, scaler, inverse)
                    after.add(y)
                    output.write(batch.with_matrix(names, y))
                    del batch, x, y  # nothing is held while the next one is awaited
            output.finish(after.num_rows)
        return held, after

    def _table_batches(
        self, numeric: tuple[str, ...], *, others: bool
    ) -> Callable[[], Iterator[TableBatch]]:
        return lambda: self._table.batches(numeric, others=others, batch_rows=self._batch_rows)

    @contextmanager
    def _batches(
        self, step: str, source: Callable[[], Iterator[TableBatch]], *, again: bool = False
    ) -> Iterator[Iterator[TableBatch]]:
        """Yield the batches of one pass, while the next ones are read.

        ``again`` says that they do not come from the table itself.
        """
        with prefetched(self._table, source, 2 * self.budget.batch_bytes) as reads:
            yield self._counted(step, reads, again)

    def _counted(self, step: str, reads: Iterator[Read], again: bool) -> Iterator[TableBatch]:
        table, rows = self._table, 0
        for batch, bytes_read in reads:
            rows += batch.num_rows
            yield batch
            del batch
            if self._progress is None:
                continue
            total = table.num_bytes
            if again and total is not None:
                bytes_read = total * rows // max(self._num_rows or rows, 1)
            done = bytes_read if total is None else min(bytes_read, total)
            self._progress(Progress(step, rows, self._num_rows, done, total))
        self._check_unchanged()
        if self._num_rows is not None and rows != self._num_rows:
            whose = "it says that it has" if table.num_rows is not None else "the pass before had"
            raise ValueError(
                f"{table.name}: {rows:,} rows were read, but {whose} {self._num_rows:,}; the file "
                "is damaged or was changed meanwhile"
            )
        self._num_rows = rows

    def _check_unchanged(self) -> None:
        try:
            now = self._table.fingerprint()
        except OSError as error:
            raise OSError(
                error.errno,
                "the file vanished while it was read",
                str(error.filename or self._table.name),
            ) from error
        if now != self._fingerprint:
            raise ValueError(f"{self._table.name} was changed while it was read; run this again")

    @contextmanager
    def _name_in_errors(self) -> Iterator[None]:
        try:
            yield
        except LostDigits as error:
            raise ValueError(f"{self._table.name}: {error}") from error


def _transformed(x: np.ndarray, scaler: Scaler, inverse: bool) -> np.ndarray:
    if not len(x):
        return x
    if inverse:
        y = scaler.inverse_transform(x)
    else:
        names = getattr(scaler, "feature_names_in_", None)
        y = scaler.transform(x if names is None else Frame(list(names), x))
    y = np.asarray(y)
    if y.shape != x.shape:
        raise ValueError(f"the scaler made an array of shape {y.shape} of one of {x.shape}")
    return y
