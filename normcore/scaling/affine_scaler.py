"""AffineScaler, the base of scalers with four coefficients a feature, made of a statistic."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np

from normcore.affine import COEFFICIENTS, Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend, InfiniteInput
from normcore.array_backend.whole_calls import WholeCalls
from normcore.layout import out_argument
from normcore.layout.namespace import Array
from normcore.layout.numpy_views import is_floats
from normcore.saving.parameter_values import kept
from normcore.scaling import array_map, contracts, element_mask, input_validation
from normcore.scaling.estimator import not_fitted_error, parameters_of
from normcore.scaling.finite_maps import FiniteAffine, finite, plain, rescale_quarters
from normcore.scaling.known_statistics import KnownStatistics
from normcore.scaling.real_numbers import on_host
from normcore.scaling.result_bounds import narrow_dtype, representable
from normcore.scaling.scaler import Scaler
from normcore.scaling.squashed_map import squashed_map
from normcore.statistics import Statistic, wide_integers

__all__ = ["AffineScaler"]


class _CurrentMap:
    """The map of the fitted attributes, for a scaler that has none at hand.

    Having no ``__set__``, it gives way to the map that lies in the instance's dictionary.
    """

    def __get__(self, instance: AffineScaler | None, owner: type) -> Affine:
        if instance is None:
            raise AttributeError(f"{owner.__name__} has a map in its instances alone")
        return instance._current_map()


class AffineScaler(Scaler):
    """Base of scalers that map ``y = ((x - center) / scale) * gamma + beta``.

    A subclass names its :attr:`statistic` and gives the four coefficients in :meth:`affine`;
    streaming, merging, the inverse, saving and scikit-learn's protocol come with the base.

    Parameters
    ----------
    copy, backend, axis
        As for :class:`normcore.StandardScaler`.

    Examples
    --------
    >>> import normcore as nc
    >>> class HalfRangeScaler(nc.AffineScaler):
    ...     statistic = nc.Extrema
    ...
    ...     def affine(self, extrema):
    ...         self.half_range_ = (extrema.max - extrema.min) / 2
    ...         return nc.Affine(center=extrema.min + self.half_range_, scale=self.half_range_)
    >>> HalfRangeScaler().fit_transform([[0.0], [1.0], [4.0]])
    array([[-1. ],
           [-0.5],
           [ 1. ]])
    """

    __module__ = "normcore"

    #: Fitted attributes that are coefficients of the map, and which one each is. When one of them
    #: is assigned, it takes effect.
    coefficients: ClassVar[Mapping[str, str]] = {"scale_": "scale"}
    #: Parameters by which such attributes are used or not.
    switches: ClassVar[Mapping[str, str]] = {}

    #: Whether results are clipped to :meth:`bounds`. A parameter of this name decides it at once,
    #: without another fit.
    clip: bool | str | None = True
    immediate: ClassVar[frozenset[str]] = Scaler.immediate | {"clip"}

    #: Whether :meth:`squash` follows the map.
    squashes: bool = False

    _affine = _CurrentMap()

    @abstractmethod
    def affine(self, statistic: Any) -> Affine:
        """Set fitted attributes from the statistic, in NumPy, and return the map.

        The base then replaces a scale of 0 by 1, and sets ``scale_`` where this does not.

        Parameters
        ----------
        statistic : Statistic
            Of the kind :attr:`statistic`: what was observed of each feature, in NumPy.
        """

    def bounds(self) -> tuple[float, float] | None:
        """Return what ``transform`` clips its results to where :attr:`clip`; by default nothing.

        Where an end is no value of the dtype of the result, the next one inside takes its place.
        """
        return None

    def _check_parameters(self) -> None:
        parameters = parameters_of(type(self))
        if isinstance(parameters.get("clip"), bool):  # others know of more ways
            input_validation.check_flags(clip=self.clip)
        uses = (type(self).bounds, type(self).squash)
        if "clip" in parameters and uses == (AffineScaler.bounds, AffineScaler.squash):
            raise TypeError(
                f"{type(self).__name__} takes clip, but does not say what to clip to: define "
                "bounds(), or take no such parameter"
            )
        super()._check_parameters()

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
        """Return what :meth:`squash` maps to ``y``.

        Parameters
        ----------
        xp, y
            As for :meth:`squash`.
        """
        raise NotImplementedError(f"{type(self).__name__} squashes, but has no inverse")

    def _prepare(self, statistic: Statistic | None) -> None:
        scale = self._set_map(contracts.affine_of(self, statistic))
        if "scale_" not in self.__dict__:
            self.scale_ = scale

    def _set_map(self, affine: Affine) -> np.ndarray:
        """Keep the map that transforms, and return its scale, in which 0 was replaced by 1."""
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
        affine = Affine(
            center=center, scale=scale, gamma=gamma, beta=beta, center_low=affine.center_low
        )
        affine = finite(affine, num_features)
        affine.coefficients(num_features)  # laid out for kernels
        self.__dict__["_kept_affine" if self._watched else "_affine"] = affine
        return scale

    # -- fitted attributes as the state ----------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        fitted = self.__dict__
        return "n_features_in_" in fitted and (
            "_affine" in fitted
            or "_kept_affine" in fitted
            or all(name in fitted for name in self.coefficients if self._is_used(name))
        )

    def _is_used(self, name: str) -> bool:
        """Whether the map depends on an attribute, under the parameters of now."""
        switch = self.switches.get(name)
        return switch is None or bool(getattr(self, switch))

    def _current_map(self) -> Affine:
        """Return the map of the fitted attributes as they are now."""
        self._notice()
        known = self.__dict__
        affine: Affine | None = known.get("_kept_affine") or known.get("_affine")
        if affine is None:
            if not any(name in known for name in self.coefficients):
                raise not_fitted_error(self)
            given = self._affine_of_attributes()
            self._set_map(given)
            known["_params"] = kept(self.get_params(deep=False))
            affine = known["_kept_affine" if self._watched else "_affine"]
        return affine

    def _set_known(self, known: KnownStatistics, given: Mapping[str, Array]) -> Self:
        """Set fitted attributes that are known, those that are not None."""
        self.n_features_in_ = known.num_features
        if known.features is not None:
            self._features, self._shaped = known.features, frozenset(given)
        if known.names is not None:
            self.feature_names_in_ = np.asarray(known.names, dtype=object)
        for name, value in given.items():
            if value is not None:
                setattr(self, name, known.shaped(value))
        if known.num_rows is not None:
            self._num_rows = self.n_samples_seen_ = known.num_rows
        return self

    def _settle(self) -> None:
        self._current_map()

    def _affine_of_attributes(self) -> Affine:
        """Return the map that the fitted attributes describe, some of which were assigned.

        The others, and coefficients that no attribute shows, are as the fit left them, where its
        parameters still hold.
        """
        fitted: Affine | None = None
        params: Mapping[str, object] = {}
        if "_observed_affine" in self.__dict__:
            fitted, params = self.__dict__["_observed_affine"]
        numbers: dict[str, Array] = {}
        if fitted is not None:
            fitted = plain(fitted)
            numbers = {name: getattr(fitted, name) for name in (*COEFFICIENTS, "center_low")}
        for name, coefficient in self.coefficients.items():
            switch = self.switches.get(name)
            kept = fitted is not None and name not in self._assigned
            if kept and (switch is None or params[switch] == getattr(self, switch)):
                continue
            used = self._is_used(name)
            identity = 1.0 if coefficient in ("scale", "gamma") else 0.0
            numbers[coefficient] = self._numbers(name) if used else identity
            if coefficient == "center":
                large = used and bool(np.any(np.abs(numbers["center"]) >= wide_integers.LARGE))
                numbers["center_low"] = np.zeros(self.n_features_in_) if large else None
        return Affine(**numbers)

    def _numbers(self, name: str) -> np.ndarray:
        """Return a fitted attribute as the map needs it, or say what it lacks."""
        if name not in self.__dict__:
            error = type(not_fitted_error(self))
            raise error(f"This {type(self).__name__} has no {name}; assign it too, or call fit")
        value = self.__dict__[name]
        if value is None:
            switch = self.switches.get(name)
            off = f", or set {switch}=False" if switch else ""
            raise ValueError(
                f"{type(self).__name__}.{name} is None, but the map needs it: assign numbers{off}"
            )
        return self._checked_numbers(name, on_host(value)).reshape(-1)

    # -- the map ---------------------------------------------------------------------------

    def _check_digits(self, x: Array) -> None:
        self._refuse_rounded(x, self._affine.center)

    def _refuse_rounded(self, x: Array, center: Array, chosen: np.ndarray | None = None) -> None:
        """Refuse integers of which this scale would lose digits, around a center not exact."""
        affine = self._affine if chosen is None else self._affine.select(chosen)
        if affine.center_low is None:
            names = getattr(self, "feature_names_in_", None)

            def label(place: int) -> str:
                column = place if chosen is None else int(chosen[place])
                return input_validation.column_label(column, names)

            wide_integers.refuse_rounded(x, 1, center, plain(affine).scale, label)

    def _map_of(self, x: Array) -> tuple[Affine, tuple[float, float] | None]:
        """Return the map of ``x``, and bounds of the result, if it has any."""
        return self._affine, self._bounds_of(x)

    def _bounds_of(self, x: Array) -> tuple[float, float] | None:
        """Return the bounds of the results of ``x``, as values of their dtype."""
        bounds = self.bounds() if self.clip else None
        if bounds is None:
            return None
        dtype = narrow_dtype(x)
        return bounds if dtype is None else representable(*bounds, dtype)

    def _map_stored(self, x: np.ndarray, columns: np.ndarray, inverse: bool) -> np.ndarray:
        affine, clip = self._map_of(x)
        if inverse:
            affine, clip = affine.inverse(), None
        center, scale, gamma, beta = affine.coefficients(self.n_features_in_)
        if center.any() or beta.any() or self.squashes:
            raise ValueError(
                f"this {type(self).__name__} does not keep zeros, as it claims (keeps_zero)"
            )
        # In the order of the kernels, so that the bits are those of a dense table. A center of 0
        # leaves x as it is, a beta of 0 turns -0.0 into 0.0.
        y = x.astype(np.float64) if x.dtype != np.float64 else x
        y /= scale.take(columns, mode="clip")
        if (gamma != 1.0).any():
            y *= gamma.take(columns, mode="clip")
        y += 0.0
        return y if clip is None else np.clip(y, *clip, out=y)

    def _map_whole(self, calls: WholeCalls, X: Array, out: Array, inverse: bool) -> Array:
        affine, clip = self._map_of(X)
        if self.squashes or type(affine) is not Affine:
            return None
        if inverse:
            affine, clip = affine.inverse(), None
        return calls.rescale(X, affine, 1, clip, out)

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
            self._refuse_rounded(element_mask.zeroed(x, where), affine.center, chosen)
        if out is not None and out_argument.may_overlap(x, out):
            out_argument.check_out(out, x)
            extrema = over_views.observe(partial(backend.extrema, skipna=True), x, 1).to_host()
            infinite = np.isinf(extrema.min).any() or np.isinf(extrema.max).any()
            if infinite and (where is None or array_map.any_infinite(x, where)):
                raise InfiniteInput
        if self.squashes:
            return squashed_map(self, backend, x, affine, inverse, out, where)
        if type(affine) is FiniteAffine and affine.unit is not None:
            shown = x if where is None else element_mask.zeroed(x, where)
            y = rescale_quarters(
                backend, shown, affine, out=out if where is None else None, clip=clip
            )
            if where is not None:
                y = over_views.restored(y, x, where)
                if out is not None:
                    out[...] = y
                    return out
            return y
        return over_views.rescale(
            backend, x, affine, 1, out=out, clip=clip, refuse_infinite=True, where=where
        )
