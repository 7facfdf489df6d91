"""What an engine is: where what is observed and mapped piece by piece runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar

from normcore.layout.namespace import Array

if TYPE_CHECKING:
    from normcore.engines.mapping import ScaledPieces
    from normcore.engines.task import State, Task
    from normcore.scaling.containers.table import PiecewiseTable
    from normcore.scaling.input_validation import Names

__all__ = ["Description", "Engine"]

#: What an engine has of states that are still to be computed.
Pending = TypeVar("Pending")


class Description(NamedTuple):
    """What is known of a table before it is read.

    Attributes
    ----------
    names : sequence of str or None
        Of its columns, where these are all strings.
    num_columns : int
    num_rows : int or None
        None where it is not known.
    kind : str
        What errors call such tables.
    containers : tuple of str
        Of what ``set_output`` takes besides "default", what this table may become.

    Examples
    --------
    >>> from normcore.engines import Description
    >>> Description(names=("a", "b"), num_columns=2, num_rows=None, kind="my table").num_columns
    2
    """

    names: Names | None
    num_columns: int
    num_rows: int | None
    kind: str
    containers: tuple[str, ...] = ()


class Engine(ABC, Generic[Pending]):
    """Runs tasks on the pieces of tables, wherever these are; the pieces stay there.

    A subclass is registered under a name, with the libraries whose tables it takes::

        registry.engine("ray", "my_package:RayEngine", libraries=("ray",))

    Every scaler's ``fit``, ``partial_fit``, ``transform`` and ``inverse_transform`` then take these
    tables.

    Parameters
    ----------
    scheduler : str, optional
        Address of what distributes the work, where an engine has such; by default what the
        process is connected to.

    Attributes
    ----------
    watch : callable or None
        Where there is one, :meth:`finalize` may call it, in the thread that it was called by, with
        the number of pieces that have been observed so far.

    Examples
    --------
    >>> import dask.array as da
    >>> import normcore as nc
    >>> scaler = nc.StandardScaler().fit(da.ones((6, 2), chunks=(2, 2)))  # by Dask's engine
    >>> scaler.mean_
    array([1., 1.])
    """

    def __init__(self, scheduler: str | None = None) -> None:
        self.scheduler = scheduler
        self.watch: Callable[[int], object] | None = None

    @classmethod
    @abstractmethod
    def takes(cls, X: Array) -> bool:
        """Whether ``X``, of one of the registered libraries, is a table for this engine.

        Parameters
        ----------
        X : object
            Of a type that one of these libraries has.
        """

    @abstractmethod
    def describe(self, X: Array, owner: str) -> Description:
        """Return what is known of a table.

        Parameters
        ----------
        X : table
            One that :meth:`takes` is true of, here and in the methods below.
        owner : str
            Name of the class in whose name errors speak.
        """

    @abstractmethod
    def partial(self, task: Task, X: Array, weights: Array = None) -> Pending:
        """Have ``task.partial`` run on each piece of a table, with the weights of its rows.

        Parameters
        ----------
        task : Task
        X : table
        weights : array of shape (n_samples,), optional
            One for each row, as a vector of the library of `X` or of NumPy.
        """

    @abstractmethod
    def merge(self, task: Task, partials: Pending) -> Pending:
        """Have ``task.merge`` run on the states of pieces that have the same columns.

        Parameters
        ----------
        task : Task
        partials
            What :meth:`partial` returned.
        """

    @abstractmethod
    def finalize(self, task: Task, merged: Pending) -> list[State]:
        """Return what was merged: a state for each block of columns, in order.

        Parameters
        ----------
        task : Task
        merged
            What :meth:`merge` returned.

        Raises
        ------
        ValueError, TypeError, MemoryError, RuntimeError
            If a piece failed, naming it.
        """

    @abstractmethod
    def map(self, X: Array, scaled: ScaledPieces, container: str) -> Array:
        """Return a table of the same kind whose pieces are scaled when they are computed.

        Parameters
        ----------
        X : table
        scaled : ScaledPieces
            Makes a scaled piece of one.
        container : str
            "default", or one of the containers that :meth:`describe` allowed.
        """

    def distribute(self, items: Sequence[object]) -> Array:
        """Return a table of which each item is a piece, for tasks that open files themselves.

        Parameters
        ----------
        items : sequence of object
            What can be pickled, such as paths.

        Raises
        ------
        TypeError
            If the engine has no such tables.
        """
        raise TypeError(f"{type(self).__name__} reads no files; give it a table")

    def pieces(self, X: Array) -> Iterator[Array]:
        """Yield the pieces of a table in order, whole rows of it, one after the other here.

        Parameters
        ----------
        X : table

        Raises
        ------
        TypeError
            If the engine does not bring pieces here.
        """
        raise TypeError(
            f"{type(self).__name__} brings no rows here; give a part of the table, in memory"
        )

    def opened(self, X: Array, owner: str) -> PiecewiseTable:
        """Return a table as one that scalers observe and map piece by piece.

        Parameters
        ----------
        X, owner
            As for :meth:`describe`.
        """
        from normcore.engines.table import EngineTable

        return EngineTable(self, X, owner)

    def run(self, task: Task, X: Array, weights: Array = None) -> list[State]:
        """Return what a task finds in all of a table.

        Parameters
        ----------
        task, X, weights
            As for :meth:`partial`.
        """
        return self.finalize(task, self.merge(task, self.partial(task, X, weights)))

    def __enter__(self) -> Self:
        """Begin a run of the command line; an engine may connect or start something."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of what was started."""
