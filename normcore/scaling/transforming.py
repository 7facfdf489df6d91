"""What a scaler does with data once it has learned: transform, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from normcore.array_backend.abstract import Backend, InfiniteInput
from normcore.array_backend.selection import of_plain_call, select_backend
from normcore.array_backend.whole_calls import WholeCalls
from normcore.layout import out_argument
from normcore.layout.bfloat16 import holds_bfloat16, rounded, widened
from normcore.layout.namespace import Array
from normcore.layout.numpy_views import is_table
from normcore.scaling import array_map, element_mask, input_validation
from normcore.scaling.any_axes import AnyAxes
from normcore.scaling.containers.frame_output import framed
from normcore.scaling.containers.frames import column_names, is_frame
from normcore.scaling.containers.opening import opened, opened_along
from normcore.scaling.containers.table import PiecewiseTable
from normcore.scaling.estimator import not_fitted_error, sklearn_config
from normcore.scaling.feature_subset import mapped_among_all, mapped_some
from normcore.scaling.features import Features
from normcore.scaling.fitted_attributes import FittedAttributes
from normcore.scaling.input_validation import Names
from normcore.scaling.refused_value import name_refused_value

__all__ = ["Transforming"]


class Transforming(FittedAttributes, AnyAxes, ABC):
    """A scaler, as far as it maps data."""

    #: Whether what becomes of a value depends on its feature alone, not on the rest of its row.
    _by_feature: ClassVar[bool] = True

    copy: bool
    backend: str | Backend | None

    @abstractmethod
    def _map(self, backend: Backend, x: Array, out: Array, inverse: bool) -> Array:
        """Return the map of a native 2-D array, written into ``out`` where given.

        Raises InfiniteInput, before anything is written where ``out`` overlaps ``x``.
        """

    def _map_some(
        self, backend: Backend, x: Array, out: Array, inverse: bool, chosen: np.ndarray
    ) -> Array:
        """Return :meth:`_map` of a table of some of the features."""
        return mapped_among_all(self, backend, x, out, inverse, chosen)

    def transform(self, X: Array, *, out: Array = None, where: Array = None) -> Array:
        """Return ``X`` scaled.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
            Or an array of any shape that has the axes of ``axis``, of the same sizes as in fit.
            NaN stays NaN. Modified only where ``copy=False`` or ``out`` is ``X``.
        out : array of the shape of X, optional
            Written to and returned: in the memory order of ``X``, of the result's dtype, which is
            that of ``X`` for floats and float64 for others. May be ``X`` itself.
        where : array of bool, optional
            Of a shape that broadcasts to that of ``X``: elements where it is False stay as they
            are, whatever they hold.

        Raises
        ------
        ValueError
            If ``X`` has other features than in fit, or holds infinity.
        NotFittedError
            If the scaler is not fitted.
        """
        return self._transformed(X, False, self.copy, out, where)

    def inverse_transform(
        self,
        X: Array,
        *,
        columns: Features | None = None,
        out: Array = None,
        where: Array = None,
    ) -> Array:
        """Return scaled data as it was; errors are those of :meth:`transform`.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
            Scaled data; otherwise as for :meth:`transform`.
        columns : list of names or positions, mask or slice, optional
            The features that ``X`` holds, in its order; by default all.
        out, where
            As for :meth:`transform`.
        """
        return self._transformed(X, True, self.copy, out, where, columns)

    def _transformed(
        self,
        X: Array,
        inverse: bool,
        copy: bool,
        out: Array,
        where: Array = None,
        columns: Features | None = None,
    ) -> Array:
        fitted = self.__dict__
        if "n_features_in_" not in fitted:
            raise not_fitted_error(self)
        features, width = fitted.get("_features"), fitted["n_features_in_"]
        chosen = None
        if columns is not None:
            chosen = self._feature_indices(columns)
            width = chosen.size
        if features is not None:
            if columns is not None:
                raise ValueError("columns= is for tables: axis='columns'")
            if holds_bfloat16(X):
                if out is not None:
                    out_argument.check_out(out, X)
                wide = self._transformed(widened(X), inverse, True, None, where)
                return _rounded_as(wide, X, out)
            sparse = opened_along(X, type(self).__name__, self.axis)
            if sparse is not None:
                features.check(sparse, type(self).__name__)
                return self._mapped_pieces(sparse, X, inverse, copy, out, where, None)
            values = input_validation.any_array(X, type(self).__name__)
            features.check(values, type(self).__name__)
            if features.are_columns(values):
                self._check_given(values, column_names(X), inverse, None)
        elif is_table(X, width) and (inverse or "feature_names_in_" not in fitted):
            values = X
        else:
            whole = self._transformed_whole(X, inverse, out, where, columns, width)
            if whole is not None:
                return whole
            pieces = opened(X, type(self).__name__)
            if pieces is not None:
                self._check_given(pieces, pieces.names, inverse, chosen)
                return self._mapped_pieces(pieces, X, inverse, copy, out, where, chosen)
            values = input_validation.as_table(X, type(self).__name__)
            self._check_given(values, column_names(X), inverse, chosen)
        config = sklearn_config()
        if config.get("array_api_dispatch"):
            self._check_same_namespace(values, "inverse_transform" if inverse else "transform")
        container = "default" if out is not None else self._output_container(config)
        if container != "default" and values.ndim != 2:
            raise ValueError(
                f"set_output({container!r}) is for tables, and X has {values.ndim} dimensions"
            )
        backend = select_backend(values, self.backend)
        copy = copy or not (values is X or isinstance(X, np.ndarray))
        try:
            if type(values) is np.ndarray:
                result = self._mapped(backend, values, inverse, copy, out, where, chosen)
            else:
                with backend.in_order_with(values):
                    result = self._mapped(backend, values, inverse, copy, out, where, chosen)
        except InfiniteInput as error:  # nothing is infinite
            if copy and out is None and where is None and features is None:

                def again(rows: Array) -> Array:
                    return self._mapped(backend, rows, inverse, True, None, None, chosen)

                name_refused_value(error, again, values, self._names_of(chosen))
            raise
        if container == "default" or (inverse and not is_frame(X)):
            return result
        return framed(self, result, values, X, container, inverse, chosen, where)

    def _transformed_whole(
        self,
        X: Array,
        inverse: bool,
        out: Array,
        where: Array,
        columns: Features | None,
        width: int,
    ) -> Array:
        """Return the map of a table by the whole calls of its backend; None where it has none."""
        plain = of_plain_call(X, self.backend, where, columns)
        if plain is None or plain.whole_calls is None:
            return None
        shape: tuple[int, ...] = getattr(X, "shape", ())
        if len(shape) != 2 or shape[1] != width:
            return None
        if not inverse and "feature_names_in_" in self.__dict__:
            return None
        config = sklearn_config()
        if config.get("array_api_dispatch") or self._output_container(config) != "default":
            return None
        return self._map_whole(plain.whole_calls, X, out, inverse)

    def _map_whole(self, calls: WholeCalls, X: Array, out: Array, inverse: bool) -> Array:
        """Return the map of a caller's table, or None where the general way is to be taken."""
        return None

    def _mapped_pieces(
        self,
        table: PiecewiseTable,
        X: Array,
        inverse: bool,
        copy: bool,
        out: Array,
        where: Array,
        chosen: np.ndarray | None,
    ) -> Array:
        """Return the map of a table that is mapped piece by piece."""
        element_mask.refuse_where(where, X)
        if not inverse:
            table.check_container(self._output_container(sklearn_config()))
        return table.mapped(self, inverse, copy, out, chosen)

    def _mapped(
        self,
        backend: Backend,
        values: Array,
        inverse: bool,
        copy: bool,
        out: Array,
        where: Array = None,
        chosen: np.ndarray | None = None,
    ) -> Array:
        """Return the map of an array as the caller's kind of array; ``out`` if that was given."""
        x = backend.adopt(values)
        target = None if out is None else _native_out(out, x, backend)
        if out is None and not copy and isinstance(x, np.ndarray):
            target = x if x.dtype.kind == "f" and x.flags.writeable else None
        features = mask = None
        try:
            if where is None and chosen is None and "_features" not in self.__dict__:
                result = self._map(backend, x, target, inverse)
            else:
                features = self.__dict__.get("_features")
                if where is not None:
                    mask = element_mask.as_mask(where, values, backend)
                if chosen is not None:
                    result = mapped_some(self, backend, x, target, inverse, chosen, mask)
                else:
                    result = array_map.mapped(self, backend, x, target, inverse, features, mask)
        except InfiniteInput as error:
            self._refuse_infinity(x, self._names_of(chosen), features, mask)
            if not error.args:
                error.args = (f"X holds a value that is too large for {type(self).__name__}",)
            raise
        if out is not None:
            if target is None:
                out[...] = backend.release(result, out)
            return out
        return backend.release(result, values)

    def _names_of(self, chosen: np.ndarray | None) -> Names | None:
        """Return the names of some of the features, if they have any."""
        names: np.ndarray | None = self.__dict__.get("feature_names_in_")
        return names if names is None or chosen is None else names[chosen]

    def _map_stored(self, x: np.ndarray, columns: np.ndarray, inverse: bool) -> np.ndarray:
        """Return the map of some values of a table, of these columns; x may be written into."""
        raise NotImplementedError(f"{type(self).__name__} maps no sparse values")


def _rounded_as(wide: Array, X: Array, out: Array) -> Array:
    """Return a result in float64 as bfloat16, in ``out`` if given; a frame of it as it is."""
    if out is None and not hasattr(wide, "__dlpack__"):
        return wide
    result = rounded(wide, X)
    if out is None:
        return result
    out[...] = result
    return out


def _native_out(out: Array, x: Array, backend: Backend) -> Array:
    """Return ``out`` as an array that kernels can write, or None where a copy must follow."""
    if isinstance(x, np.ndarray):
        return out if isinstance(out, np.ndarray) else backend.adopt(out)
    if isinstance(out, np.ndarray):  # host batches on a device backend
        if tuple(out.shape) != tuple(x.shape):
            raise ValueError(f"out has shape {out.shape}, but the input has {tuple(x.shape)}")
        return None
    return backend.adopt(out)
