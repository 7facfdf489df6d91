"""What scales a piece of a table: written once for all engines."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.engines.task import SOME, Piece, failures_named
from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.containers.frame_output import framed
from normcore.scaling.containers.frames import (
    check_same_columns,
    column_names,
    frame_values,
    library_of,
)
from normcore.scaling.containers.opening import opened

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from normcore.scaling.transforming import Transforming

__all__ = ["ScaledPieces"]


class ScaledPieces:
    """Scales pieces of a table by what a scaler has learned when this is made; can be pickled.

    Parameters
    ----------
    scaler : Scaler
    inverse : bool
    chosen : array of int or None
        The features that the columns are; None where they are all.
    names : sequence of str, optional
        Of the columns of the table, where these are all strings; pieces are held to them.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> from normcore.engines import ScaledPieces
    >>> scaler = nc.StandardScaler().fit([[0.0], [2.0]])
    >>> ScaledPieces(scaler, False, None).array(np.array([[3.0]]))
    array([[2.]])
    """

    def __init__(
        self,
        scaler: Transforming,
        inverse: bool,
        chosen: np.ndarray | None,
        names: input_validation.Names | None = None,
    ) -> None:
        self._scaler = copy.copy(scaler)
        self._inverse, self._chosen, self._names = inverse, chosen, names
        #: Whether a scaled value depends on nothing but its feature.
        self.by_feature = scaler._by_feature

    def array(self, chunk: Array, piece: Piece = SOME) -> Array:
        """Return some columns, as an array of the kind that a piece is.

        Parameters
        ----------
        chunk : array or sparse matrix of shape (n, number of columns)
            The values of the piece.
        piece : Piece
            Which it is of the table.
        """
        chosen = self._chosen
        if piece.last_column is not None:
            among = np.arange(self._scaler.n_features_in_) if chosen is None else chosen
            chosen = among[piece.columns]
        with failures_named(piece.label):
            table = opened(chunk, type(self._scaler).__name__)
            if table is not None:
                return table.mapped(self._scaler, self._inverse, True, None, chosen)
            if not chunk.shape[0]:
                return chunk.astype(self.result_dtype(chunk.dtype))
            values = input_validation.as_table(chunk, type(self._scaler).__name__)
            return self._mapped(values, chosen)

    def frame(self, chunk: Array, piece: Piece = SOME) -> Array:
        """Return the columns of a frame, as a frame of the same library.

        Parameters
        ----------
        chunk : data frame
            Of all columns.
        piece : Piece
            Which it is of the table.
        """
        with failures_named(piece.label):
            check_same_columns(column_names(chunk), self._names)
            values = frame_values(chunk)
            if len(values):
                result = self._mapped(values, self._chosen)
            else:
                result = values.astype(self.result_dtype(values.dtype))
            return framed(
                self._scaler,
                result,
                values,
                chunk,
                library_of(chunk),
                self._inverse,
                self._chosen,
                None,
            )

    def any(self, chunk: Array, piece: Piece = SOME) -> Array:
        """Return what the scaler itself makes of a piece.

        Parameters
        ----------
        chunk : array, data frame or sparse matrix
            Of all columns.
        piece : Piece
            Which it is of the table.
        """
        with failures_named(piece.label):
            check_same_columns(column_names(chunk), self._names)
            return self._scaler._transformed(chunk, self._inverse, True, None, columns=self._chosen)

    def names(self) -> list[str]:
        """Return the names of the scaled columns."""
        return list(self._scaler.get_feature_names_out())

    @staticmethod
    def result_dtype(dtype: DTypeLike) -> np.dtype:
        """Return the dtype of scaled numbers.

        Parameters
        ----------
        dtype : dtype
            Of what is scaled.
        """
        dtype = np.dtype(dtype)
        return dtype if dtype.kind == "f" and dtype.itemsize <= 8 else np.dtype(np.float64)

    def _mapped(self, values: Array, chosen: np.ndarray | None) -> Array:
        backend = select_backend(values, self._scaler.backend)
        return self._scaler._mapped(backend, values, self._inverse, True, None, None, chosen)
