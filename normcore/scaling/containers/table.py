"""What a scaler asks of a table that no kernel takes as one array."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from normcore.layout.namespace import Array
from normcore.scaling.input_validation import Names
from normcore.statistics import Statistic

if TYPE_CHECKING:
    from normcore.scaling.feature_axes import FeatureAxes
    from normcore.scaling.learning import Learning
    from normcore.scaling.transforming import Transforming

__all__ = ["PiecewiseTable"]


class PiecewiseTable(ABC):
    """A table that is observed and mapped piece by piece.

    Attributes
    ----------
    names : sequence of str or None
        Of the columns.
    shape : (int, int)
        Rows, as far as they are known before they are read, and columns.
    num_rows : int
        The rows that were observed.
    like : array or None
        Fitted attributes become arrays of its kind, as those of a dense ``X`` do.
    features : FeatureAxes or None
        The axes of the features; None where these are the columns.
    is_whole : bool
        Whether there are no other rows, so that some have to weigh anything.
    """

    #: What errors call it.
    kind: ClassVar[str]

    names: Names | None
    shape: tuple[int, int]
    num_rows: int
    like: Array = None
    features: FeatureAxes | None = None
    is_whole: bool = True

    @abstractmethod
    def observed(self, scaler: Learning, weights: Array) -> Statistic | None:
        """Return the scaler's statistic of the table, and know the number of rows.

        Raises
        ------
        ValueError
            If there is an infinite value, or weights that are not finite and not negative.
        TypeError
            If the scaler takes no such table.
        """

    @abstractmethod
    def mapped(
        self,
        scaler: Transforming,
        inverse: bool,
        copy: bool,
        out: Array,
        chosen: np.ndarray | None,
    ) -> Array:
        """Return the table scaled, as the same kind of table.

        Parameters
        ----------
        copy : bool
            Whether to leave the table as it is; without, it is written into where it can be.
        out : array or None
            Where to write the result, if such tables can.
        chosen : array of int or None
            The features that its columns are; None where they are all.
        """

    def check_container(self, container: str) -> None:
        """Refuse a frame of pandas, say, that was chosen for results.

        Raises
        ------
        ValueError
            If one was: a table of pieces is scaled to one of its own kind.
        """
        if container != "default":
            raise ValueError(
                f"{container.capitalize()} output does not support {self.kind} data; use "
                "set_output(transform='default')"
            )
