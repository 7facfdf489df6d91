"""What a scaler learns: fitting, streaming, merging."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from normcore import layout
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend, InfiniteInput
from normcore.array_backend.selection import in_order_with, select_backend
from normcore.layout.namespace import Array
from normcore.saving.parameter_values import kept
from normcore.scaling import contracts, element_mask, input_validation
from normcore.scaling.containers.frames import column_names, library_of
from normcore.scaling.containers.opening import opened, opened_along
from normcore.scaling.containers.table import PiecewiseTable
from normcore.scaling.feature_axes import (
    FeatureAxes,
    as_single_views,
    is_columns,
)
from normcore.scaling.fit_callbacks import learn_as_task
from normcore.scaling.fitted_attributes import is_public, locked
from normcore.scaling.input_validation import Names
from normcore.scaling.merging import EXECUTION, Merging, refuse_overflow, where_mergeable
from normcore.scaling.refused_value import name_refused_value
from normcore.statistics import Statistic, wide_integers

__all__ = ["Learning"]

# Instance attributes that a fit sets besides those whose names end with an underscore.
FITTED = frozenset(
    {"_statistic", "_num_rows", "_params", "_affine", "_narrow", "_features", "_shaped"}
    | {"_kept_affine", "_observed_affine", "_assigned", "_learned", "_watched", "_library"}
)


class Learning(Merging):
    """A scaler, as far as it observes data and sets what its map needs."""

    #: What a fit observes of each feature; None where nothing needs to be learned.
    statistic: ClassVar[type[Statistic] | None] = None
    copy: bool
    backend: str | Backend | None

    #: Parameters that take effect at once; the others wait for the next fit.
    immediate: ClassVar[frozenset[str]] = EXECUTION

    #: Rows seen; a subclass may count otherwise.
    n_samples_seen_: int | float | np.ndarray

    #: The parameters when it was fitted.
    _params: Mapping[str, object]

    def fit(self, X: Array, y: Array = None, *, where: Array = None) -> Self:
        """Learn from ``X``; what was learned before is forgotten.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
            Or an array of any shape that has the axes of ``axis``. NaN is skipped.
        y : None
            Ignored.
        where : array of bool, optional
            Of a shape that broadcasts to that of ``X``: elements where it is False are skipped,
            whatever they hold.

        Raises
        ------
        ValueError
            If ``X`` is not two-dimensional or lacks an axis of ``axis``, is empty, or holds
            infinity, text or complex numbers; if ``where`` has another shape or hides all of it.
            The scaler then stays as it was.
        TypeError
            If ``X`` holds objects that are not numbers, or is sparse and the scaler does not
            keep zero.
        """
        return self._fit(X, None, anew=True, where=where, y=y)

    @where_mergeable
    def partial_fit(self, X: Array, y: Array = None, *, where: Array = None) -> Self:
        """Learn from ``X`` too: as a fit to all that was seen so far, together with ``X``.

        Parameters and errors are those of :meth:`fit`; other features than before are a
        ValueError.
        """
        return self._fit(X, None, anew=False, where=where, y=y)

    def _fit(
        self,
        X: Array,
        sample_weight: Array,
        *,
        anew: bool,
        where: Array = None,
        y: Array = None,
    ) -> Self:
        if not anew:
            self._refuse_unobserved("partial_fit")
            anew = not self.__sklearn_is_fitted__()
        self._check_parameters()
        owner, features = type(self).__name__, None
        of_columns = is_columns(self.axis)
        pieces = opened(X, owner) if of_columns else opened_along(X, owner, self.axis)
        if pieces is not None:
            element_mask.refuse_where(where, X)
            return self._fit_pieces(pieces, sample_weight, anew=anew, X=X, y=y)
        if of_columns:
            names = column_names(X)
            values = input_validation.as_table(X, owner)
            num_rows, num_features = values.shape
        else:
            values = input_validation.any_array(X, owner)
            features = FeatureAxes.of(self.axis, values)
            names = features.names(X)
            num_rows, num_features = features.num_samples(values), features.size
        if not anew:
            self._check_same_axes(features, values)
            if features is None or features.are_columns(values):
                self._check_features(values, names)
            names = getattr(self, "feature_names_in_", None)
        weights = sample_weight
        if weights is not None:
            if hasattr(weights, "dtype"):
                layout.as_array(weights, what="sample_weight", beside=values)
            weights = input_validation.as_weights(weights, values.shape[0])

        def learn() -> None:
            with in_order_with(values, self.backend):
                statistic, rows = self._observed(values, weights, names, features, where), num_rows
                if not anew:
                    rows += self._num_rows or 0
                    statistic = self._merged(statistic)
                like = values if where is None else element_mask.shown_integers(values, where)
                self._learn(statistic, rows, num_features, names, features, like=like)

        learn_as_task(self, learn, values, y, {"sample_weight": sample_weight})
        return self

    def _fit_pieces(
        self, table: PiecewiseTable, sample_weight: Array, *, anew: bool, X: Array, y: Array
    ) -> Self:
        """Learn from a table that is observed in pieces."""
        names, features = table.names, table.features
        num_features = table.shape[1] if features is None else features.size
        if not anew:
            self._check_same_axes(features, X)
            if features is None:
                self._check_features(table, names)
            names = getattr(self, "feature_names_in_", None)

        def learn() -> None:
            statistic, num_rows = table.observed(self, sample_weight), table.num_rows
            if not anew:
                num_rows += self._num_rows or 0
                statistic = self._merged(statistic)
            self._learn(statistic, num_rows, num_features, names, features, like=table.like)

        learn_as_task(self, learn, X, y, {"sample_weight": sample_weight})
        return self

    def fit_statistic(
        self,
        statistic: Statistic | None,
        num_rows: int | None,
        num_features: int,
        names: Names | None,
    ) -> Self:
        """Learn from what was observed elsewhere; what was learned before is forgotten.

        Parameters
        ----------
        statistic : Statistic or None
            Of the class :attr:`statistic`, with a channel for each feature; None where that is.
        num_rows : int or None
            Rows it was observed of, those with NaN too. None where nobody knows: nothing can be
            added then.
        num_features : int
        names : sequence of str or None
            Of the features.

        Raises
        ------
        ValueError
            As :meth:`fit`, of the parameters and of what the map needs. The scaler then stays as
            it was.
        """
        self._check_parameters()
        if not is_columns(self.axis):
            raise ValueError(f"axis={self.axis!r} is for arrays; tables need axis='columns'")
        return self._learn(statistic, num_rows, num_features, names)

    def observe(self, backend: Backend, x: Array, *, weights: Array = None) -> Statistic:
        """Return the statistic of an ``(N, C, S)`` view, skipping NaN.

        A scaler whose statistic depends on its parameters overrides this.

        Parameters
        ----------
        backend : Backend
            Whose kernels observe.
        x : array of shape (N, C, S)
            Of the backend's own kind.
        weights : float64 array of shape (N, S), optional
            How much each position counts.
        """
        assert self.statistic is not None
        return self.statistic.observe(backend, x, weights=weights, skipna=True)

    def _observed(
        self,
        values: Array,
        weights: Array,
        names: Names | None,
        features: FeatureAxes | None = None,
        where: Array = None,
    ) -> Statistic | None:
        backend = select_backend(values, self.backend)
        x = backend.adopt(values)
        mask = None if where is None else element_mask.as_mask(where, values, backend)
        statistic = given = None
        if self.statistic is not None:
            if weights is not None:
                weights = _beside(values, weights, backend)
            table, shown, given = x, mask, weights
            if features is not None:
                table, shown, weights = features.laid_out(x, mask, weights)
                if not self.exact_streaming:  # statistics of several views might not merge
                    table, shown, weights = as_single_views(table, shown, weights)
            observe = wide_integers.exactly(contracts.observer(self, backend), x)
            try:
                if shown is None:
                    statistic = over_views.observe(observe, table, 1, weights=weights).to_host()
                else:
                    statistic = element_mask.observe_visible(
                        backend, observe, table, shown, weights
                    ).to_host()
            except InfiniteInput as error:
                self._refuse_infinity(x, names, features, mask, given)
                if weights is None and mask is None and features is None:
                    name_refused_value(
                        error, lambda rows: over_views.observe(observe, rows, 1), x, names
                    )
                raise
        if statistic is None or _may_hold_infinity(statistic):
            self._refuse_infinity(x, names, features, mask, given)
            if weights is not None and statistic is not None:
                refuse_overflow(statistic)
        return statistic

    def _learn(
        self,
        statistic: Statistic | None,
        num_rows: int | None,
        num_features: int,
        names: Names | None,
        features: FeatureAxes | None = None,
        like: Array = None,
    ) -> Self:
        """Replace all fitted attributes together; a failure leaves every one as it was.

        Without a number of rows, what was given was not observed, and nothing can be added to it.
        """
        learned = object.__new__(type(self))
        learned.__dict__.update(
            (name, value) for name, value in self.__dict__.items() if not _is_fitted_name(name)
        )
        learned.__dict__["_learning"] = True  # so that what is set is not taken for assigned
        learned._statistic, learned._num_rows = statistic, num_rows
        learned._params = kept(self.get_params(deep=False))
        learned.n_samples_seen_, learned.n_features_in_ = num_rows or 0, num_features
        if names is not None:
            learned.feature_names_in_ = np.asarray(names, dtype=object)
        learned._prepare(statistic)
        if num_rows is None:
            del learned.n_samples_seen_
        if like is not None:
            x = select_backend(like, self.backend).adopt(like)
            learned._check_digits(x if features is None else features.arrangement(x).lay_out(x))
        if features is not None:
            learned._features, learned._shaped = features, learned._shape_attributes(features)
        if like is not None and not isinstance(like, np.ndarray):
            learned._library = library_of(like)
            learned._publish_as(like)
        fitted = learned.__dict__
        found = {name: locked(value) for name, value in fitted.items() if is_public(name)}
        fitted.update(found)
        fitted["_learned"] = frozenset(found) - {"n_features_in_", "feature_names_in_"}
        del fitted["_learning"]
        self.__dict__ = fitted
        return self

    def _publish_as(self, like: Array) -> None:
        """Turn public fitted arrays into the kind of ``like``, the training data."""
        backend = select_backend(like, self.backend)
        for name, value in self._public_arrays().items():
            # A copy: a result in host memory may be a window into this one.
            self.__dict__[name] = backend.release(backend.adopt(value.copy()), like)

    def _check_parameters(self) -> None:
        """Check what all scalers share, then what :meth:`check_parameters` knows."""
        input_validation.check_flags(copy=self.copy)
        contracts.check_statistic(self)
        self.check_parameters()

    def check_parameters(self) -> None:
        """Raise ValueError for parameters that make no sense; by default all do.

        Called before every fit, before a file is opened, and when a saved scaler is loaded.
        """

    @abstractmethod
    def _prepare(self, statistic: Statistic | None) -> None:
        """Set what the map needs, from what was observed."""

    def _check_statistic(self, statistic: Statistic) -> None:
        """Refuse a saved statistic that a scaler of these parameters cannot have observed."""

    def _check_digits(self, x: Array) -> None:
        """Refuse training data of which the map would lose digits that matter."""

    @property
    def _observes_values(self) -> bool:
        """Whether the statistic is that of the values themselves, as :meth:`observe` has it."""
        return type(self).observe is Learning.observe


def _is_fitted_name(name: str) -> bool:
    return name in FITTED or is_public(name)


def _may_hold_infinity(statistic: Statistic) -> bool:
    """Whether the data may have held infinity, which leaves its trace in every statistic."""
    infinite = getattr(statistic, "infinite", None)
    if infinite is not None:
        return bool(np.any(infinite))
    return not all(np.isfinite(array).all() for array in statistic.to_state().values())


def _beside(x: Array, weights: Array, backend: Backend) -> Array:
    """Return weights, of any library, as the backend's own array on the device of ``x``."""
    if isinstance(weights, np.ndarray) and isinstance(x, np.ndarray):
        return backend.adopt(weights)
    return backend.adopt(backend.release(backend.adopt(weights), x))
