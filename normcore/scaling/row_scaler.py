"""RowScaler, the base of scalers that map each row by itself and learn nothing from others."""

from __future__ import annotations

import copy as copying
from abc import abstractmethod
from functools import partial
from types import ModuleType
from typing import Any, NoReturn, Self

import numpy as np

from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend
from normcore.array_backend.selection import select_backend
from normcore.layout import out_argument
from normcore.layout.namespace import Array, array_namespace
from normcore.scaling import element_mask, input_validation
from normcore.scaling.containers.frames import column_names
from normcore.scaling.containers.opening import opened
from normcore.scaling.feature_axes import FeatureAxes, is_columns
from normcore.scaling.input_validation import Names
from normcore.scaling.scaler import Scaler
from normcore.statistics import Statistic
from normcore.threads import run

__all__ = ["RowScaler"]

# Elements converted and rows looked at together, which a cache holds; elements worth a thread.
BLOCK_ELEMENTS = 1 << 14
BLOCK_ROWS = 4096
MIN_ELEMENTS = 1 << 15
# What map_rows takes as it is; the rest is converted to float64.
NATIVE = (np.dtype(np.float64), np.dtype(np.float32))


class RowScaler(Scaler):
    """Base of scalers that map each row by itself.

    A subclass gives :meth:`map_rows`, and may give :meth:`map_sparse_rows`. There is nothing to
    learn: ``transform`` works without ``fit``, which only validates. NaN and infinity are refused,
    as they would spread over their row.

    Parameters
    ----------
    copy, backend, axis
        As for :class:`normcore.StandardScaler`.

    Examples
    --------
    >>> import normcore as nc
    >>> class Shares(nc.RowScaler):
    ...     def map_rows(self, xp, x, out=None):
    ...         shares = x / xp.sum(x, axis=1, keepdims=True)
    ...         if out is None:
    ...             return shares
    ...         out[...] = shares
    ...         return out
    >>> Shares().transform([[1.0, 3.0], [2.0, 2.0]])
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """

    __module__ = "normcore"

    _by_feature = False

    @abstractmethod
    def map_rows(self, xp: ModuleType, x: Array, out: Array = None) -> Array:
        """Return some rows mapped.

        Parameters
        ----------
        xp : namespace
            NumPy, or the array-API namespace of ``x``.
        x : float64 array of shape (n_rows, n_features)
            With NumPy it may be float32 too, and the values of a row are side by side. Called in
            several threads at once.
        out : array like x, optional
            Where to write, with NumPy; may be ``x`` itself.

        Raises
        ------
        ValueError
            If a row cannot be mapped. Where the cause is NaN or infinity, the caller finds its
            place, and says so instead.
        """

    def map_sparse_rows(self, data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        """Map the stored values of a matrix in CSR format, of a map that keeps zeros.

        Parameters
        ----------
        data, out : float64 or float32 arrays of shape (n_stored,)
            ``out`` may be ``data`` itself.
        starts : int64 array of shape (n_rows + 1,)
            Where each of some rows begins in ``data``, and where the last one ends.

        Raises
        ------
        ValueError
            As :meth:`map_rows`.
        """
        raise TypeError(
            f"{type(self).__name__} takes no sparse input: its map does not keep zeros. Use "
            "'.toarray()' to convert it to a dense NumPy array."
        )

    @property
    def inverse_transform(self) -> NoReturn:
        """Absent: what a row was divided by is not kept."""
        raise AttributeError(
            f"{type(self).__name__} has no inverse_transform: it maps each row by what is in it, "
            "and keeps nothing of that"
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.allow_nan = False
        tags.input_tags.sparse = type(self).map_sparse_rows is not RowScaler.map_sparse_rows
        return tags

    def _prepare(self, statistic: Statistic | None) -> None:
        pass

    def _observed(
        self,
        values: Array,
        weights: Array,
        names: Names | None,
        features: FeatureAxes | None = None,
        where: Array = None,
    ) -> None:
        if where is not None:
            backend = select_backend(values, self.backend)
            mask = element_mask.as_mask(where, values, backend)
            values = element_mask.zeroed(backend.adopt(values), mask)
        self._refuse_not_finite(values, names)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not is_columns(self.axis):
            raise ValueError(f"{type(self).__name__} maps the rows of tables: axis='columns'")

    def _refuse_not_finite(self, x: Array, names: Names | None) -> None:
        """Refuse a table with NaN or infinity, naming the place of the first."""
        xp = array_namespace(x)
        if x.dtype.kind in "biu" if xp is np else xp.isdtype(x.dtype, ("bool", "integral")):
            return
        for start in range(0, x.shape[0], BLOCK_ROWS):
            finite = xp.isfinite(x[start : min(start + BLOCK_ROWS, x.shape[0]), :])
            if not bool(xp.all(finite)):
                rows, columns = xp.nonzero(~finite)[:2]
                row, column = start + int(rows[0]), int(columns[0])
                raise self._not_finite_error(float(x[row, column]), row, column, names)

    def _not_finite_error(
        self, value: float, row: int, column: int, names: Names | None
    ) -> ValueError:
        what, owner = "NaN" if value != value else "infinity", type(self).__name__
        return ValueError(
            f"Input X contains {what}: {input_validation.column_label(column, names)}, first at "
            f"row {row}. {owner} takes finite numbers only: remove the row, or replace the value "
            "first."
        )

    # -- dense -----------------------------------------------------------------------------

    def fit(self, X: Array, y: Array = None, *, where: Array = None) -> Self:
        """Check the parameters and ``X``; there is nothing to learn.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
        y : None
            Ignored.
        where : array of bool, optional
            As :meth:`transform` takes it.

        Raises
        ------
        ValueError
            If a parameter is invalid, or ``X`` is not two-dimensional, is empty, or holds NaN,
            infinity, text or complex numbers.
        TypeError
            If ``X`` holds objects that are not numbers.
        """
        if not _is_sparse(X):
            return super().fit(X, where=where)
        element_mask.refuse_where(where, X)
        self._check_parameters()
        X = _as_csr(X, type(self).__name__)
        self._refuse_sparse_not_finite(X)
        rows, columns = X.shape
        return self._learn(None, rows, columns, None)

    def partial_fit(self, X: Array, y: Array = None, *, where: Array = None) -> Self:
        """Check ``X`` as :meth:`fit` does; it must have the features that were there before.

        Parameters
        ----------
        X, y, where
            As for :meth:`fit`.
        """
        if not _is_sparse(X):
            return super().partial_fit(X, where=where)
        more = type(self)(**self.get_params()).fit(X, where=where)
        return self.merge(more) if self.__sklearn_is_fitted__() else self.fit(X, where=where)

    def transform(
        self, X: Array, copy: bool | None = None, *, out: Array = None, where: Array = None
    ) -> Array:
        """Return ``X`` with each row mapped.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
            Modified only where ``copy=False`` or ``out`` is ``X``. Sparse input comes back in CSR
            format.
        copy : bool, optional
            Overrides the parameter of the same name.
        out : array of shape (n_samples, n_features), optional
            Written to and returned: in the memory order of ``X``, of the result's dtype, which is
            that of ``X`` for floats and float64 for others. May be ``X`` itself.
        where : array of bool, optional
            Of a shape that broadcasts to that of ``X``: elements where it is False count as 0 in
            their row, whatever they hold, and stay as they are. Not with sparse input.

        Raises
        ------
        ValueError
            If ``X`` has other features than in fit, where that was called, or holds NaN or
            infinity.
        """
        self._check_parameters()
        copy = self.copy if copy is None else copy
        fitted = self if self.__sklearn_is_fitted__() else self._as_if_fitted(X)
        if _is_sparse(X):
            element_mask.refuse_where(where, X)
            return fitted._sparse_transformed(X, copy, out)
        return fitted._transformed(X, False, copy, out, where)

    def _as_if_fitted(self, X: Array) -> Self:
        """Return what a fit to ``X`` would make of this scaler, without a look at the values."""
        pieces = opened(X, type(self).__name__)
        names: Names | None
        if pieces is None:
            names = column_names(X)
            rows, columns = input_validation.as_table(X, type(self).__name__).shape
        else:
            names, (rows, columns) = pieces.names, pieces.shape
        return copying.copy(self)._learn(None, rows, columns, names)

    def _map(self, backend: Backend, x: Array, out: Array, inverse: bool) -> Array:
        if out is not None:
            out_argument.check_out(out, x)
            out_argument.refuse_partial_overlap(out, x)
            if out_argument.may_overlap(x, out):  # nothing is written of what will be refused
                self._refuse_not_finite(x, self.__dict__.get("feature_names_in_"))
        try:
            return self._mapped_rows(x, out)
        except ValueError:
            self._refuse_not_finite(x, self.__dict__.get("feature_names_in_"))
            raise

    def _map_where(
        self, backend: Backend, x: Array, where: Array, out: Array, inverse: bool
    ) -> Array:
        result = self._map(backend, element_mask.zeroed(x, where), None, inverse)
        result = over_views.restored(result, x, where)
        if out is None:
            return result
        out[...] = result
        return out

    def _mapped_rows(self, x: Array, out: Array) -> Array:
        if not isinstance(x, np.ndarray):
            xp = array_namespace(x)
            wide = xp.astype(x, xp.float64)
            result = xp.astype(self.map_rows(xp, wide), out_argument.result_dtype(x))
            if out is None:
                return result
            out[...] = result
            return out
        if out is None:
            out = out_argument.result_like(x)
        rows, columns = x.shape
        direct = x.dtype in NATIVE and all(
            each.flags.aligned and (each.strides[1] == each.itemsize or columns == 1)
            for each in (x, out)
        )
        part = partial(self._map_part if direct else self._map_converted, x, out)
        run(part, rows, min_items=max(1, MIN_ELEMENTS // columns))
        return out

    def _map_part(self, x: np.ndarray, out: np.ndarray, start: int, stop: int) -> None:
        self.map_rows(np, x[start:stop], out[start:stop])

    def _map_converted(self, x: np.ndarray, out: np.ndarray, start: int, stop: int) -> None:
        """Map rows by way of float64 copies of some at a time."""
        step = max(1, BLOCK_ELEMENTS // x.shape[1])
        for first in range(start, stop, step):
            rows = slice(first, min(first + step, stop))
            block = np.array(x[rows], dtype=np.float64, order="C")
            with np.errstate(over="ignore", under="ignore"):
                out[rows] = self.map_rows(np, block, block)

    # -- sparse ----------------------------------------------------------------------------

    def _sparse_transformed(self, X: Array, copy: bool, out: Array) -> Array:
        if out is not None:
            raise TypeError("out is for dense input; sparse input takes copy=False to be modified")
        matrix = _as_csr(X, type(self).__name__)
        self._check_width(matrix.shape[1])
        data = np.asarray(matrix.data)
        dtype = out_argument.result_dtype(data)
        values = np.ascontiguousarray(data, dtype=dtype if dtype in NATIVE else np.float64)
        in_place = not copy and matrix is X and values is data and values.flags.writeable
        if in_place:  # nothing is written of what will be refused
            self._refuse_sparse_not_finite(matrix)
        elif matrix is X:
            matrix = matrix.copy()
        result = values if in_place else np.empty_like(values)
        starts = np.asarray(matrix.indptr, dtype=np.int64)

        def part(start: int, stop: int) -> None:
            self.map_sparse_rows(values, starts[start : stop + 1], result)

        try:
            stored = max(1, values.size // max(1, starts.size - 1))
            run(part, starts.size - 1, min_items=max(1, MIN_ELEMENTS // stored))
        except ValueError:
            self._refuse_sparse_not_finite(matrix)
            raise
        matrix.data = result.astype(dtype, copy=False)
        return matrix

    def _refuse_sparse_not_finite(self, matrix: Array) -> None:
        finite = np.isfinite(np.asarray(matrix.data))
        if not finite.all():
            place = int(np.argmin(finite))
            row = int(np.searchsorted(matrix.indptr, place, side="right")) - 1
            column = int(matrix.indices[place])
            raise self._not_finite_error(float(matrix.data[place]), row, column, None)


def _is_sparse(X: Array) -> bool:
    return hasattr(X, "tocsr")


def _as_csr(X: Array, owner: str) -> Array:
    """Return a sparse matrix of real numbers in CSR format, each place stored at most once."""
    input_validation.as_table(np.broadcast_to(0.0, X.shape), owner)  # is its shape a table's?
    kind = np.asarray(X.data).dtype.kind if X.format in ("csr", "csc") else X.dtype.kind
    if kind == "c":
        raise ValueError(f"Complex data not supported: X has dtype {X.dtype}.")
    if kind not in "biuf":
        raise TypeError(f"X holds no numbers (dtype {X.dtype})")
    matrix = X.tocsr()
    if not matrix.has_canonical_format:
        matrix = matrix.copy() if matrix is X else matrix
        matrix.sum_duplicates()
    return matrix
