"""What a scaler does for arrays of any axes, and under a mask, besides what it does for tables."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array
from normcore.layout.out_argument import may_overlap
from normcore.scaling import array_map, element_mask, input_validation
from normcore.scaling.estimator import Estimator
from normcore.scaling.feature_axes import COLUMNS, Axis, FeatureAxes
from normcore.scaling.input_validation import Names

__all__ = ["AnyAxes"]


class AnyAxes(Estimator):
    """A scaler of arrays whose features lie along any of their axes.

    To the statistic and the map they are tables, as :class:`FeatureAxes` lays them out. Fitted
    arrays have the shape of the features.
    """

    #: Default of the parameter, for scalers that do not list it.
    axis: Axis = COLUMNS
    #: Fitted arrays that all features share, whatever their length.
    unshaped: ClassVar[frozenset[str]] = frozenset()

    #: Where it was fitted to arrays of other axes than those of a table.
    _features: FeatureAxes
    #: Then, names of the fitted arrays that have the shape of the features.
    _shaped: frozenset[str] = frozenset()

    @abstractmethod
    def _map(self, backend: Backend, x: Array, out: Array, inverse: bool) -> Array:
        """Return the map of a native table."""

    def _refuse_infinity(
        self,
        x: Array,
        names: Names | None,
        features: FeatureAxes | None,
        mask: Array,
        weights: Array = None,
    ) -> None:
        if features is not None:
            array_map.refuse_infinity(x, element_mask.weighing(x, mask, weights))
            return
        input_validation.refuse_infinity(element_mask.zeroed(x, mask), names, weights)

    def _check_same_axes(self, given: FeatureAxes | None, X: Array = None) -> None:
        """Refuse data, or statistics where these are none, of other axes than those of fit."""
        known = self.__dict__.get("_features")
        mine, its = (COLUMNS if each is None else each.axes for each in (known, given))
        if mine != its:
            raise ValueError(
                f"axis was {mine!r} when this {type(self).__name__} was fitted and is {its!r} now; "
                "fit it again"
            )
        if X is not None and known is not None:
            known.check(X, type(self).__name__)
        elif known is not None and given is not None and known.shape != given.shape:
            raise ValueError(
                f"this {type(self).__name__} was fitted to features of shape {known.shape}, not "
                f"{given.shape}"
            )

    def _shape_attributes(self, features: FeatureAxes) -> frozenset[str]:
        """Give public fitted arrays the shape of the features, and return their names."""
        shaped = {
            name: features.shaped(value)
            for name, value in self._public_arrays().items()
            if value.ndim and value.shape[-1] == features.size and name not in self.unshaped
        }
        self.__dict__.update(shaped)
        return frozenset(shaped)

    def _public_arrays(self) -> dict[str, np.ndarray]:
        return {
            name: value
            for name, value in self.__dict__.items()
            if name.endswith("_")
            and not name.startswith("_")
            and isinstance(value, np.ndarray)
            and value.dtype.kind in "biuf"
        }

    def _map_positions(self, backend: Backend, x: Array, out: Array, inverse: bool) -> Array:
        """Return :meth:`_map` of an array of two dimensions or more, its features on axis 1."""
        if x.ndim == 2:
            return self._map(backend, x, out, inverse)

        def of_table(table: Array) -> Array:
            return self._map(backend, table, None, inverse)

        if out is None or not may_overlap(x, out):
            return array_map.by_tables(of_table, x, out)
        out[...] = array_map.by_tables(of_table, x, None)  # all of it, or nothing
        return out

    def _map_where(
        self, backend: Backend, x: Array, where: Array, out: Array, inverse: bool
    ) -> Array:
        """Return :meth:`_map_positions` where a mask is True, the elements of ``x`` elsewhere."""
        shown = element_mask.hidden_as_nan(backend, x, where)
        result = over_views.restored(self._map_positions(backend, shown, None, inverse), x, where)
        if out is None:
            return result
        out[...] = result
        return out
