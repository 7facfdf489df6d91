"""AffineScaler, the base of scalers with four coefficients a feature, made of a statistic."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from normcore.affine import Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend, InfiniteInput
from normcore.layout import out_argument
from normcore.layout.namespace import Array
from normcore.layout.numpy_views import is_floats
from normcore.scaling import array_map, element_mask, input_validation
from normcore.scaling.result_bounds import narrow_dtype, representable
from normcore.scaling.scaler import Scaler
from normcore.scaling.squashed_map import squashed_map
from normcore.statistics import Statistic, wide_integers

__all__ = ["AffineScaler"]


class AffineScaler(Scaler):
    """Base of scalers that map ``y = ((x - center) / scale) * gamma + beta``.

    A subclass names its :attr:`statistic` and gives the four coefficients in :meth:`affine`;
    streaming, merging, the inverse, saving and scikit-learn's protocol come with the base.
    """

    __module__ = "normcore"

    #: Whether :meth:`squash` follows the map.
    squashes: bool = False

    _affine: Affine

    @abstractmethod
    def affine(self, statistic: Any) -> Affine:
        """Set fitted attributes from the statistic, in NumPy, and return the map.

        The base then replaces a scale of 0 by 1, and sets ``scale_`` where this does not.
        """

    def bounds(self) -> tuple[float, float] | None:
        """Return what ``transform`` clips its results to; by default nothing.

        Where an end is no value of the dtype of the result, the next one inside takes its place.
        """
        return None

    def squash(self, xp: ModuleType, y: Array) -> Array:
        """Return what follows the affine map, where :attr:`squashes`: a function with an inverse.

        Parameters
        ----------
        xp : namespace
            NumPy, or the array-API namespace of ``y``.
        y : float64 array of shape (n, n_features)
            Some rows, mapped. Called in several threads at once.
        """
        raise NotImplementedError(f"{type(self).__name__} squashes, but does not say how")

    def unsquash(self, xp: ModuleType, y: Array) -> Array:
        """Return what :meth:`squash` maps to ``y``."""
        raise NotImplementedError(f"{type(self).__name__} squashes, but has no inverse")

    def _prepare(self, statistic: Statistic | None) -> None:
        affine = self.affine(statistic)
        num_features = self.n_features_in_
        center, scale, gamma, beta = affine.vectors(num_features)
        scale = np.where(scale == 0, 1.0, scale)
        overflow = np.flatnonzero(np.isinf(scale))
        if overflow.size:
            names = getattr(self, "feature_names_in_", None)
            raise ValueError(
                f"{input_validation.column_label(int(overflow[0]), names)} of X spans more than "
                "the largest float64; multiply it by a small constant first"
            )
        self._affine = Affine(
            center=center, scale=scale, gamma=gamma, beta=beta, center_low=affine.center_low
        )
        # Now, as the public attributes may be changed in place.
        self._affine.coefficients(num_features)
        if "scale_" not in self.__dict__:
            self.scale_ = scale

    def _check_digits(self, x: Array) -> None:
        self._refuse_rounded(x, self._affine.center)

    def _refuse_rounded(self, x: Array, center: Array) -> None:
        """Refuse integers of which this scale would lose digits, around a center not exact."""
        if self._affine.center_low is None:
            label = partial(
                input_validation.column_label, names=getattr(self, "feature_names_in_", None)
            )
            wide_integers.refuse_rounded(x, 1, center, self._affine.scale, label)

    def _map_of(self, x: Array) -> tuple[Affine, tuple[float, float] | None]:
        """Return the map of ``x``, and bounds of the result, if it has any."""
        return self._affine, self._bounds_of(x)

    def _bounds_of(self, x: Array) -> tuple[float, float] | None:
        """Return the bounds of the results of ``x``, as values of their dtype."""
        bounds = self.bounds()
        if bounds is None:
            return None
        dtype = narrow_dtype(x)
        return bounds if dtype is None else representable(*bounds, dtype)

    def _map_stored(self, x: np.ndarray, columns: np.ndarray, inverse: bool) -> np.ndarray:
        affine, clip = self._map_of(x)
        if inverse:
            affine, clip = affine.inverse(), None
        _, scale, gamma, _ = affine.coefficients(self.n_features_in_)
        # In the order of the kernels, so that the bits are those of a dense table. A center of 0
        # leaves x as it is, a beta of 0 turns -0.0 into 0.0.
        y = x.astype(np.float64) if x.dtype != np.float64 else x
        y /= scale.take(columns, mode="clip")
        if (gamma != 1.0).any():
            y *= gamma.take(columns, mode="clip")
        y += 0.0
        return y if clip is None else np.clip(y, *clip, out=y)

    def _map_positions(self, backend: Backend, x: Array, out: Array, inverse: bool) -> Array:
        return self._map(backend, x, out, inverse)

    def _map_where(
        self, backend: Backend, x: Array, where: Array, out: Array, inverse: bool
    ) -> Array:
        return self._map(backend, x, out, inverse, where)

    def _map_some(
        self, backend: Backend, x: Array, out: Array, inverse: bool, chosen: np.ndarray
    ) -> Array:
        return self._map(backend, x, out, inverse, None, chosen)

    def _map(
        self,
        backend: Backend,
        x: Array,
        out: Array,
        inverse: bool,
        where: Array = None,
        chosen: np.ndarray | None = None,
    ) -> Array:
        affine, clip = self._map_of(x)
        if chosen is not None:
            affine = affine.select(chosen)
        if inverse:
            affine, clip = affine.inverse(), None
        elif not is_floats(x):
            self._refuse_rounded(element_mask.zeroed(x, where), affine.center)
        if out is not None and out_argument.may_overlap(x, out):
            out_argument.check_out(out, x)
            extrema = over_views.observe(partial(backend.extrema, skipna=True), x, 1).to_host()
            infinite = np.isinf(extrema.min).any() or np.isinf(extrema.max).any()
            if infinite and (where is None or array_map.any_infinite(x, where)):
                raise InfiniteInput
        if self.squashes:
            return squashed_map(self, backend, x, affine, inverse, out, where)
        return over_views.rescale(
            backend, x, affine, 1, out=out, clip=clip, refuse_infinite=True, where=where
        )
